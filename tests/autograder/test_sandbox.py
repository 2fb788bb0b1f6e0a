"""The sandbox: levels, children that end whatever they do, a fork server that outlives nobody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder import enclosure, sandbox, seccomp
from autograder.assignment import Limits, UsageError
from autograder.errors import StudentError, WorkerDied
from autograder.fork_server import Sandbox, SandboxError
from autograder.sandbox import View

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(call_s=0.4, question_s=5.0, memory_mb=128)
HEADERS = [
    (0, Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")),
    (1, Path("/usr/include/asm-generic/unistd.h")),
]  # fmt: skip


@pytest.fixture(scope="module")
def box(sandboxed: str) -> Iterator[Sandbox]:
    with Sandbox(sandboxed, View(), LIMITS) as made:
        yield made


def below(pid: int) -> set[int]:
    """Every process that descends from this one, zombies included."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")")[1].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def settle(expected: set[int], timeout_s: float = 5.0) -> set[int]:
    """The processes below this one, once they are those expected or time is up."""
    ends = time.monotonic() + timeout_s
    while (now := below(os.getpid())) != expected and time.monotonic() < ends:
        time.sleep(0.02)
    return now


STUBBORN = {
    "loops": "def f():\n    while True: pass",
    "swallows every exception": (
        "import time\ndef f():\n    while True:\n"
        "        try: time.sleep(9)\n        except BaseException: pass"
    ),
    "ignores signals": (
        "import signal, time\ndef f():\n    for n in {*range(1, 65)} - {9, 19, 32, 33}:\n"
        "        signal.signal(n, signal.SIG_IGN)\n    time.sleep(99)"
    ),
    "stops itself": "import os, signal, time\ndef f(): os.kill(os.getpid(), signal.SIGSTOP); time.sleep(99)",
    "sleeps in C": "import ctypes\ndef f(): ctypes.CDLL(None).sleep(99)",
    "holds the interpreter in C": "import re\ndef f(): re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "leaves a thread": (
        "import threading, time\ndef f():\n"
        "    [threading.Thread(target=time.sleep, args=(99,)).start() for _ in range(9)]; time.sleep(99)"
    ),
    "never exits": "import atexit, time\natexit.register(time.sleep, 99)\ndef f(): raise SystemExit",
    "closes its socket": "import os, time\ndef f(): os.closerange(3, 64); time.sleep(99)",
}


@pytest.mark.parametrize("code", STUBBORN.values(), ids=STUBBORN.keys())
def test_a_child_is_gone_after_its_limit_whatever_it_does(box: Sandbox, code: str) -> None:
    before = below(os.getpid())
    with box.worker() as worker:
        worker.load([code], ["f"])
        began = time.monotonic()
        with pytest.raises(StudentError):
            worker.student.f()
        assert time.monotonic() - began < 20.0  # it would be 99 s
    assert settle(before) == before


def test_a_hundred_children_leave_no_process_and_no_descriptor(box: Sandbox) -> None:
    with box.worker() as worker:
        worker.load(["def f(): return 1"], ["f"])
    before, fds = below(os.getpid()), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        with box.worker():
            pass
    assert settle(before) == before
    assert len(os.listdir("/proc/self/fd")) == fds


def test_children_live_side_by_side_and_apart(box: Sandbox) -> None:
    cell = "import os\nseen = []\ndef add(x): seen.append(x); return list(seen)\n"
    cell += "def who(): return os.getuid(), os.getpid()"
    with box.worker() as one, box.worker() as other:
        for worker in (one, other):
            worker.load([cell], ["add", "who"])
        assert one.student.add(1) == [1]
        assert other.student.add(2) == [2]
        uids = {worker.student.who()[0] for worker in (one, other)}
        assert len(uids) == (2 if os.geteuid() == 0 else 1)
        assert one.student.who()[1] == other.student.who()[1] == 1  # each the first of its own pid namespace


def test_every_child_draws_other_random_numbers(box: Sandbox) -> None:
    drawn = set()
    for _ in range(2):
        with box.worker() as worker:
            worker.load(["import numpy as np, random\nx = np.random.rand(), random.random()"], ["x"])
            drawn |= set(worker.student.x)
    assert len(drawn) == 4


def test_a_dead_fork_server_is_replaced(sandboxed: str) -> None:
    with Sandbox(sandboxed, View(), LIMITS) as box:
        with box.worker():
            pass
        signal.pidfd_send_signal(box._pidfd, signal.SIGKILL)
        with box.worker() as worker:
            worker.load(["x = 1"], ["x"])
            assert worker.student.x == 1


def test_a_worker_whose_fork_server_dies_says_so(sandboxed: str) -> None:
    with Sandbox(sandboxed, View(), LIMITS) as box, box.worker() as worker:
        worker.load(["def f(): return 1"], ["f"])
        signal.pidfd_send_signal(box._pidfd, signal.SIGKILL)
        time.sleep(0.1)
        with pytest.raises(WorkerDied):
            worker.student.f()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_a_grader_that_is_killed(sandboxed: str, how: int) -> None:
    code = f"""
from autograder.sandbox import Sandbox, View
from autograder.assignment import Limits
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with Sandbox({sandboxed!r}, View(), Limits(call_s=60)) as box, box.worker() as worker:
    worker.load(["import time\\ndef f(): time.sleep(99)"], ["f"])
    print("ready", flush=True)
    worker.student.f()
"""
    before = below(os.getpid())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as grader:
        assert grader.stdout is not None
        assert grader.stdout.readline() == b"ready\n"
        left = below(grader.pid)
        assert len(left) >= 3
        grader.send_signal(how)
        grader.wait(10)
    ends = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < ends:
        time.sleep(0.02)
    assert [pid for pid in left if Path(f"/proc/{pid}").exists()] == []
    assert below(os.getpid()) == before


def test_a_module_that_cannot_be_preloaded_is_named(sandboxed: str) -> None:
    with (
        pytest.raises(SandboxError, match="no_such_module"),
        Sandbox(sandboxed, View(preload=("no_such_module",)), LIMITS),
    ):
        pass


def test_a_view_shows_the_modules_that_it_names_and_no_other(sandboxed: str) -> None:
    cell = "import importlib\ndef get(name):\n    return importlib.import_module(name).__name__"
    view = View(packages=(ROOT / "mlsys_lab" / "_core",))
    with Sandbox(sandboxed, view, LIMITS) as box, box.worker() as worker:
        worker.load([cell], ["get"])
        assert worker.student.get("mlsys_lab._core") == "mlsys_lab._core"
        for hidden in ("mlsys_lab.viz", "mlsys_lab.cli", "autograder.compare", "autograder.grade"):
            with pytest.raises(StudentError, match="ModuleNotFoundError"):
                worker.student.get(hidden)


def test_a_module_of_a_package_belongs_below_its_root() -> None:
    assert str(enclosure.importable(ROOT / "mlsys_lab" / "_core" / "style.py")) == "mlsys_lab/_core/style.py"
    placed = enclosure.files(View(packages=(ROOT / "mlsys_lab" / "_core",)))
    assert {"mlsys_lab/_core", "mlsys_lab/__init__.py"} <= {str(place) for place in placed}
    assert str(ROOT / "mlsys_lab") not in map(str, placed.values())


def test_an_installed_copy_of_the_library_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlsys_lab", "numpy"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(enclosure, "site_folders", lambda: [tmp_path])
    assert enclosure.masked(View()) == [tmp_path / "mlsys_lab"]
    parts = dict(enclosure._around(tmp_path, enclosure.masked(View())))
    assert parts == {tmp_path: False, tmp_path / "numpy": True}


def test_auto_is_the_best_level_that_works() -> None:
    usable = [status.level for status in sandbox.available() if status.usable]
    assert sandbox.choose("auto") == usable[0]
    assert usable[-1] == "none"


def test_a_level_that_does_not_work_or_exist_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no sandbox level 'docker'"):
        sandbox.choose("docker")
    monkeypatch.setattr("shutil.which", lambda name: None)
    sandbox._status.cache_clear()
    with pytest.raises(UsageError, match="apt-get install bubblewrap") as caught:
        sandbox.choose("namespaces")
    assert "\n" not in str(caught.value)
    sandbox._status.cache_clear()


@pytest.mark.parametrize(("column", "header"), HEADERS, ids=["x86-64", "aarch64"])
def test_the_numbers_of_the_system_calls_are_the_kernels(column: int, header: Path) -> None:
    if not header.is_file():
        pytest.skip("no kernel headers here (Debian: apt-get install linux-libc-dev)")
    known = dict(re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    for name, numbers in (seccomp.DENIED | seccomp.DENIED_TO_WORKERS | seccomp.SPECIAL).items():
        if name in known:
            assert numbers[column] == int(known[name]), name
        else:
            assert numbers[column] in (-1, *range(424, 470)), name  # newer than the header, or not there


def run_filter(program: bytes, number: int, argument: int = 0, architecture: int = 0xC000003E) -> int:
    """The verdict of a BPF program, interpreted as the kernel would."""
    import struct

    lines = list(struct.iter_unpack("<HBBI", program))
    data = struct.pack("<IIQ6Q", number, architecture, 0, argument, *[0] * 5)
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = lines[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x06:
            return value
        else:
            test = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[
                operation
            ]
            at += if_true if test else if_false


ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


@pytest.mark.parametrize(
    ("worker", "number", "argument", "verdict"),
    [
        (True, 0, 0, ALLOW), (True, 57, 0, EPERM), (False, 57, 0, ALLOW), (True, 59, 0, EPERM),
        (False, 59, 0, ALLOW),
        (True, 56, 17, EPERM), (False, 56, 17, ALLOW), (True, 56, 0x3D0F00, ALLOW),
        (False, 56, 0x10000011, EPERM),
        (True, 56, 0x10010000, EPERM), (False, 435, 0, ENOSYS), (True, 41, 1, EPERM), (False, 41, 1, ALLOW),
        (False, 41, 2, ALLOW), (False, 41, 40, EPERM), (False, 41, 38, EPERM), (False, 101, 0, EPERM),
        (False, 272, 0, EPERM), (False, 463, 0, ENOSYS), (False, 0x40000000, 0, ENOSYS), (True, 3, 0, ALLOW),
    ],
)  # fmt: skip
def test_the_filter_says_what_it_should(worker: bool, number: int, argument: int, verdict: int) -> None:
    program = seccomp.program(worker=worker, families=() if worker else (1, 2, 10, 16), machine="x86_64")
    assert run_filter(program, number, argument) == verdict


def test_a_32_bit_call_is_death() -> None:
    program = seccomp.program(worker=True, families=(), machine="x86_64")
    assert run_filter(program, 2, architecture=0x40000003) == KILL


def test_a_child_has_what_was_imported_before_it_was_forked(sandboxed: str) -> None:
    """By this it starts in 0.01 s: what is imported once is not imported per submission."""
    cell = "import sys\nknown = sorted(sys.modules)\ndef f(): return known"
    with Sandbox(sandboxed, View(preload=("colorsys",)), LIMITS) as box, box.worker() as worker:
        worker.load([cell], ["f"])
        assert "colorsys" in worker.student.f()


def test_a_sandbox_of_level_none_still_limits(tmp_path: Path) -> None:
    with Sandbox("none", View(), LIMITS) as box, box.worker() as worker:
        worker.load(
            ["import numpy as np\ndef f():\n    while True: pass\ndef m(): return np.ones(1 << 28).sum()"],
            ["f", "m"],
        )
        with pytest.raises(StudentError, match="MemoryError"):
            worker.student.m()
        with pytest.raises(StudentError, match="Timeout"):
            worker.student.f()


def test_a_worker_can_be_asked_for_by_a_fork_of_the_grader(box: Sandbox) -> None:
    with box.worker():
        pass
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with box.worker() as worker:
                worker.load(["x = 7"], ["x"])
                code = 0 if worker.student.x == 7 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    with box.worker() as worker:
        assert worker.failed is None


def test_a_repository_inside_the_interpreters_folder_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosure, "interpreter", lambda: [ROOT.parent])
    assert ROOT in enclosure.masked(View())
    assert ROOT.parent / "other" in enclosure.masked(View(hide=(ROOT.parent / "other",)))
    monkeypatch.setattr(enclosure, "interpreter", lambda: [ROOT / ".venv"])
    assert ROOT not in enclosure.masked(View())
