"""What each level promises about student code, tried; the table of what holds is printed (`pytest -s`)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from autograder import enclosure, promises
from autograder.promises import PROMISES, Row

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("readable_python.sh")
ASK = """
import dataclasses, json, sys
from autograder import promises
print(json.dumps([dataclasses.asdict(row) for row in promises.table(sys.argv[1])]))
"""


def elsewhere(level: str, *, uid: int) -> list[Row]:
    """The table of another user or level, on a machine whose Python all may read. Needs root."""
    private = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0 or subprocess.run([*private, "true"], capture_output=True).returncode != 0:
        pytest.skip("to show another user's machine needs root and the right to mount")
    closed = [
        folder
        for path in enclosure.interpreter()
        for folder in reversed(path.parents)
        if not folder.stat().st_mode & stat.S_IXOTH
    ]
    assert len(closed) <= 1
    inside = [path for path in enclosure.interpreter() if closed and path.is_relative_to(closed[0])]
    command = [*private, "sh", str(SCRIPT)]
    command += [str(closed[0]) if closed else "", str(inside[0]) if inside else ""]
    command += ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid else []
    command += [sys.executable, "-c", ASK, level]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    return [Row(**row) for row in json.loads(done.stdout)]


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title}")
    for row in rows:
        print(f"  {'held    ' if row.held else 'not held'}  {row.claim}: {row.why}")


def test_every_promise_holds_in_namespaces(sandboxed: str) -> None:
    rows = promises.table(sandboxed)
    show("namespaces, as root" if os.geteuid() == 0 else "namespaces, as a user", rows)
    assert [row.id for row in rows] == [promise.id for promise in PROMISES]
    assert promises.unheld(rows) == ({} if os.geteuid() == 0 else {"uid": promises.unheld(rows).get("uid")})


def test_in_namespaces_of_a_grader_who_is_not_root_all_hold_but_the_uid(sandboxed: str) -> None:
    rows = elsewhere(sandboxed, uid=1500)
    show("namespaces, as a user", rows)
    assert set(promises.unheld(rows)) == {"uid"}


def test_at_the_level_uid_all_hold_but_the_sum_of_the_disk() -> None:
    rows = elsewhere("uid", uid=0)
    show("uid", rows)
    assert set(promises.unheld(rows)) == {"limit-disk"}


def test_at_the_level_none_only_limits_are_promised_and_nothing_else_is_tried() -> None:
    rows = promises.table("none")
    show("none", rows)
    assert {"limit-memory", "limit-output", "limit-time"} <= {row.id for row in rows if row.held}
    assert all(
        row.why.startswith("not tried") for row in rows if not row.held and not row.id.startswith("limit")
    )


def test_a_probe_finds_what_is_not_hidden(tmp_path: Path) -> None:
    """The probes themselves can fail: in this very process they get what is offered."""
    from autograder import probes

    (tmp_path / "secret").write_text("x")
    assert probes.read_files([str(tmp_path / "secret")])
    assert probes.write_files([str(tmp_path)]) == [str(tmp_path)]
    assert probes.send_signals([os.getpid()])
    assert probes.become(os.getuid())
    assert probes.take_memory(1)
    assert probes.neighbours()
    cat = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"MARK": "marker-in-test"}
    )
    with cat as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()  # an environment is there a moment after the program has been called
        assert f"/proc/{process.pid}/environ" in probes.read_environments("marker-in-test")
        process.stdin.close()
