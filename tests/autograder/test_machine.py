"""A lab's own cell installs the framework it compares with: once, the build that fits, and says its size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autograder import machine

ROOT = Path(__file__).resolve().parents[2]
TORCH = machine.FRAMEWORKS["torch"][0]


@pytest.fixture
def pip(monkeypatch):
    """What would be installed: pip is not called, and nothing is found."""
    calls: list[list[str]] = []

    def run(command, check):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(machine.subprocess, "run", run)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return calls


def on(monkeypatch, system: str, processor: str) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: system)
    monkeypatch.setattr(machine.platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "has_nvidia_driver", lambda: False)


def test_what_is_there_is_not_installed_again(pip, monkeypatch, capsys):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: object())
    machine.need("torch")
    assert pip == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("framework", "system", "processor", "ends"),
    [
        ("torch", "Linux", "x86_64", [machine.TORCH_CPU_INDEX, "--timeout", "15", TORCH]),
        ("torch", "Darwin", "arm64", ["--disable-pip-version-check", TORCH]),
    ],
)
def test_the_build_that_fits_is_installed_and_its_size_said(
    pip, monkeypatch, capsys, framework, system, processor, ends
):
    on(monkeypatch, system, processor)
    machine.need(framework)
    (command,) = pip
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert command[-len(ends) :] == ends
    assert f"about {machine.FRAMEWORKS[framework][1]} MB" in capsys.readouterr().out


def test_what_cannot_be_installed_is_one_line(pip, monkeypatch):
    monkeypatch.setattr(machine.subprocess, "run", lambda c, check: subprocess.CompletedProcess(c, 1))
    with pytest.raises(RuntimeError, match="torch could not be installed"):
        machine.need("torch")


def test_the_versions_are_the_tested_ones():
    tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert {requirement for requirement, _ in machine.FRAMEWORKS.values()} <= set(tested)


@pytest.mark.parametrize(
    "module", ["autograder.check", "autograder.pair", "autograder.own_work", "autograder.run_notebook"]
)
def test_reading_notebooks_builds_no_grammar_of_addresses(module):
    code = f"import sys, {module}, nbformat, jsonschema; print('rfc3987_syntax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
