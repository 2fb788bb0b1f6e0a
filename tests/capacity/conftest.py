"""The command in this process, which costs less than a process for each wrong input."""

from __future__ import annotations

import pytest


@pytest.fixture
def estimate(monkeypatch, capsys, tmp_path):
    """The command in this process: exit code, output, complaint."""
    from mlsys_lab import cli

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(cli.app, "registered_commands", list(cli.app.registered_commands))
        monkeypatch.setattr("sys.argv", ["mlsys-lab", "estimate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run
