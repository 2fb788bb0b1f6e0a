"""Commands of `mlsys-lab` run in the test's own process: a second of interpreter start saved for each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, tmp_path, capsys) -> Callable[..., Outcome]:
    """Run `mlsys-lab` in this process, in an empty folder."""
    from mlsys_lab.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mlsys-lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), said.out, said.err)

    return run
