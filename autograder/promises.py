"""What grading promises about student code, and whether each promise holds here: every one is tried.

A promise is a claim and a probe: student code (`probes.py`) in a child of the sandbox that reports what it
got hold of, set against a host that offers it something to get: a secret file, a marked environment, a
listening socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from autograder.assignment import Limits
from autograder.enclosure import View, site_folders
from autograder.errors import CallTimeout, StudentError
from autograder.fork_server import Sandbox
from autograder.proxy import Worker

_LIMITS = Limits(call_s=20.0, question_s=30.0, memory_mb=256, output_mb=0.5)
_FOLDERS = (sys.prefix, "/", "/usr", "/dev", "/var/tmp", "/sandbox", "/sandbox/packages", "/sandbox/scratch")
_PROBES = Path(__file__).with_name("probes.py")
_LEFT = ".mlsys-lab-left-by-a-neighbour"


@dataclass(frozen=True)
class Row:
    """A promise at a level: held or not, and what was seen."""

    id: str
    claim: str
    held: bool
    why: str


@dataclass(frozen=True)
class Bait:
    """What the host offers to a probe.

    Attributes:
        folder: may be entered and written by every user; holds `secret.txt`, which every user may read.
        marker: a variable's value in the environment of a process of this user.
        port, abstract, path: addresses at which this process listens.
        neighbour: another submission's process, alive.
    """

    folder: Path
    marker: str
    port: int
    abstract: str
    path: str
    neighbour: Worker


@dataclass(frozen=True)
class Promise:
    """A claim, and how it is tried: with one worker of its own; the result is what the code got hold of."""

    id: str
    claim: str
    probe: Callable[[Worker, Bait], list[str]]


def _limit_of_time(worker: Worker, bait: Bait) -> list[str]:
    worker.call_s = 0.3
    try:
        worker.student.never_end()
    except CallTimeout:
        return [] if worker.gone(5.0) else ["its process outlived the limit"]
    return ["no limit"]


def _limit_of_output(worker: Worker, bait: Bait) -> list[str]:
    worker.student.print_much(8)
    kept = len(worker.output)
    return [] if kept < 0.6 * (1 << 20) else [f"{kept >> 10} KiB kept"]


def _limit_of_memory(worker: Worker, bait: Bait) -> list[str]:
    try:
        return list(worker.student.take_memory(1024))
    except StudentError:
        return []


def _secrets(bait: Bait) -> list[str]:
    package = Path(__file__).resolve().parent
    return [
        str(bait.folder / "secret.txt"),
        str(package / "promises.py"),
        str(package.parent / "pyproject.toml"),
    ]


def _other_pids(bait: Bait) -> list[int]:
    return [os.getpid(), -os.getpgrp(), os.getppid()]


PROMISES = (
    Promise("files", "cannot read hidden tests, solutions, results, other submissions on disk",
            lambda w, b: w.student.read_files(_secrets(b))),
    Promise("library", "sees no module of the course's library that the assignment does not list",
            lambda w, b: w.student.read_files(_library_files())),
    Promise("environment", "cannot read the grader's environment",
            lambda w, b: w.student.read_environments(b.marker)),
    Promise("memory-of-others", "cannot read the grader's memory and descriptors",
            lambda w, b: w.student.read_processes(os.getpid())),
    Promise("descriptors", "inherits no descriptor but its own socket and output",
            lambda w, b: w.student.own_descriptors()),
    Promise("network", "reaches no network, not the host's loopback, not its unix sockets",
            lambda w, b: w.student.connect(b.port, b.abstract, b.path)),
    Promise("signals", "cannot signal the grader",
            lambda w, b: w.student.send_signals(_other_pids(b))),
    Promise("writes", "cannot write outside its own temporary folders",
            lambda w, b: w.student.write_files([str(b.folder), *_FOLDERS])),
    Promise("capabilities", "has no capability and no way to get one",
            lambda w, b: w.student.capabilities()),
    Promise("uid", "runs as a user of its own",
            lambda w, b: w.student.become(os.getuid())),
    Promise("namespaces", "cannot make namespaces",
            lambda w, b: w.student.make_namespaces()),
    Promise("processes", "starts no process, no program, and not two hundred threads",
            lambda w, b: w.student.start_processes()),
    Promise("neighbours", "sees no other submission's process",
            lambda w, b: w.student.neighbours()),
    Promise("neighbours-files", "sees nothing that another submission left",
            lambda w, b: w.student.find(_LEFT, b.marker)),
    Promise("limit-memory", "gets no more memory than its limit", _limit_of_memory),
    Promise("limit-disk", "fills no more than 64 MiB of temporary space",
            lambda w, b: w.student.fill_disk(128)),
    Promise("limit-output", "prints no more than its limit and answers all the same", _limit_of_output),
    Promise("limit-time", "ends at its time limit, whatever it ignores", _limit_of_time),
)  # fmt: skip


#: Without a sandbox only these are tried: the other probes would act on this very machine.
_HARMLESS = {"descriptors", "limit-memory", "limit-disk", "limit-output", "limit-time"}


def table(level: str) -> list[Row]:
    """Try every promise at a level, each in a fresh child.

    Raises:
        SandboxError: the level does not work here.
    """
    with Sandbox(level, View(), _LIMITS) as sandbox, _baited(sandbox) as bait:
        return [_tried(sandbox, promise, bait) for promise in PROMISES]


def _tried(sandbox: Sandbox, promise: Promise, bait: Bait) -> Row:
    if sandbox.level == "none" and promise.id not in _HARMLESS:
        return Row(promise.id, promise.claim, False, "not tried: nothing confines code at this level")
    with _probing(sandbox) as worker:
        try:
            got = promise.probe(worker, bait)
        except StudentError as error:
            return Row(promise.id, promise.claim, False, f"the probe did not end: {error.public()}")
    seen = "".join(c if c.isprintable() else "?" for c in ", ".join(map(str, got[:3])))
    why = f"got {seen}" if got else "tried, and got nothing"
    return Row(promise.id, promise.claim, not got, why)


@contextlib.contextmanager
def _probing(sandbox: Sandbox) -> Iterator[Worker]:
    source = _PROBES.read_text(encoding="utf-8")
    names = [
        line.split("(")[0].removeprefix("def ") for line in source.splitlines() if line.startswith("def ")
    ]
    with sandbox.worker() as worker:
        worker.load([source], names)
        yield worker


def _library_files() -> list[str]:
    """Where a copy of the library may lie: beside this package, and installed."""
    roots = [Path(__file__).resolve().parents[1], *site_folders()]
    return [str(root / "mlsys_lab" / "__init__.py") for root in [*roots, Path("/sandbox/packages")]]


@contextlib.contextmanager
def _baited(sandbox: Sandbox) -> Iterator[Bait]:
    marker = f"marker-{os.urandom(8).hex()}"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlsys-lab-bait-")))
        (folder / "secret.txt").write_text("the answers")
        (folder / "secret.txt").chmod(0o666)
        folder.chmod(0o777)
        stack.enter_context(_process_with(marker))
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        addresses = ["\0" + marker, str(folder / "socket")]
        for address in addresses:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            if sys.platform == "linux" or not address.startswith("\0"):
                listener.bind(address)
                listener.listen()
        os.chmod(addresses[1], 0o777)
        neighbour = stack.enter_context(_probing(sandbox))
        neighbour.student.leave(_LEFT, marker)
        yield Bait(folder, marker, tcp.getsockname()[1], marker, addresses[1], neighbour)
        neighbour.student.leave(_LEFT, "")


@contextlib.contextmanager
def _process_with(variable: str) -> Iterator[None]:
    """A process of the grader's that was started with this in its environment."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"MLSYS_LAB_BAIT": variable}) as process:
        yield
        assert process.stdin is not None
        process.stdin.close()


def unheld(rows: list[Row]) -> Mapping[str, str]:
    """The promises that do not hold, with what was got."""
    return {row.id: row.why for row in rows if not row.held}
