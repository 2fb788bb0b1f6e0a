"""A class: every submission in a process of its own, several at a time, resumable.

The grading process imports pytest and the numeric libraries once and starts the sandboxes' fork servers once;
each submission is then a forked child of it, so that nothing one submission does to the trusted side's memory
reaches the next. A child that hangs is killed; its row says so. What is already graded under the same tests
and options is not graded again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment, UsageError
from autograder.course_plan import Rule
from autograder.grade import Graded, failed, from_json, grade
from autograder.marks import read_marks
from autograder.policy import settled
from autograder.report import keep_earlier, write_class, write_submission
from autograder.sandbox import Sandbox, View
from autograder.submission import Submission

PACKAGE = Path(__file__).resolve().parent
#: Bytes that grading one submission may take on the trusted side, above what is there before.
TRUSTED_MEMORY = 1536 << 20


@dataclass(frozen=True)
class Plan:
    """How a class is graded.

    Attributes:
        level: the sandbox's level, already chosen.
        library: the folder of `mlsys_lab`.
        nbval: also run each notebook from a clean start.
        jobs: submissions at a time.
        rule: which of several attempts counts, and what being late costs.
    """

    level: str
    library: Path
    nbval: bool = True
    jobs: int = 1
    rule: Rule = Rule()  # noqa: RUF009  frozen

    def stamp(self, submission: Submission, assignment: Assignment) -> dict[str, Any]:
        """What decides a result: equal stamps need no second grading."""
        return {
            "submission": submission.fingerprint(),
            "version": assignment.version(),
            "grader": _own_version(),
            "nbval": self.nbval,
            "sandbox": self.level,
        }


def grade_class(
    submissions: Sequence[Submission],
    assignment: Assignment,
    plan: Plan,
    out: Path,
    *,
    on_start: Callable[[Submission], None] = lambda s: None,
    on_done: Callable[[Graded, bool], None] = lambda g, again: None,
) -> list[Graded]:
    """Grade a class into a folder; the same folder resumes.

    Args:
        on_start, on_done: called in this process as submissions begin and end; `again` tells a resumed row.

    Returns:
        The rows, in the order of the submissions.

    Raises:
        UsageError: the folder cannot be written (full, not writable): one line that says what to do.
        KeyboardInterrupt: Ctrl-C; finished rows are on disk, and the class files name them.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder for the reports with --out")
    facts = {"version": assignment.version(), "sandbox": plan.level}
    rows: dict[str, Graded] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        keep_earlier(out, {s.name for s in submissions})
        todo = []
        for submission in submissions:
            known = _known(out, submission, plan.stamp(submission, assignment))
            if known is None:
                todo.append(submission)
                continue
            row = replace(known, student=submission.student, counted=submission.counted)
            row = replace(row, sender=submission.sender, modified=submission.modified)
            rows[submission.name] = row
            if row != known:
                write_submission(row, assignment, out, facts)
            on_done(rows[submission.name], True)
        try:
            with _scratch():
                for graded in _graded(todo, assignment, plan, on_start):
                    rows[graded.name] = graded
                    write_submission(graded, assignment, out, facts)
                    on_done(graded, False)
        finally:
            for graded in settled(rows.values(), plan.rule, read_marks(out)):
                if graded != rows[graded.name]:
                    rows[graded.name] = graded
                    write_submission(graded, assignment, out, facts)
            ordered = [rows[s.name] for s in submissions if s.name in rows]
            write_class(ordered, assignment, out, facts)
    except OSError as error:
        raise UsageError(
            f"cannot write to {out}: {error.strerror or error}. Free some space or name another folder with "
            "--out; the same command goes on where it stopped"
        ) from None
    return ordered


@contextmanager
def _scratch() -> Iterator[None]:
    """One folder for all that is temporary here and in the children: nothing stays of one that is killed."""
    before, place = tempfile.tempdir, tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="mlsys-", dir=place if len(place) <= 20 else "/tmp") as folder:
        Path(folder).chmod(0o755)  # sandboxed children have other uids
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _known(out: Path, submission: Submission, stamp: dict[str, Any]) -> Graded | None:
    """The row of an earlier grading into the same folder, if nothing that decides it has changed."""
    path = out / submission.name / "results.json"
    try:
        row = from_json(json.loads(path.read_text(encoding="utf-8"))["extra_data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (
        row
        if row.name == submission.name
        and dict(row.stamp) == stamp
        and (path.parent / "report.html").is_file()
        else None
    )


def _graded(
    todo: Sequence[Submission], assignment: Assignment, plan: Plan, on_start: Callable[[Submission], None]
) -> Iterator[Graded]:
    if not todo:
        return
    with ExitStack() as stack:
        sandboxes = _sandboxes(stack, assignment, plan) if _can_fork() else None
        # Once here instead of once in each child: what the tests import, and nbval.
        for module in [*assignment.preload, *(["autograder.run_notebook"] if plan.nbval else [])]:
            importlib.import_module(module)
        running: dict[Connection, _Child] = {}
        stack.callback(_stop_all, running)
        waiting = list(todo)
        while waiting or running:
            while waiting and len(running) < plan.jobs:
                submission = waiting.pop(0)
                on_start(submission)
                child = _Child(submission, assignment, plan, sandboxes)
                running[child.answer] = child
            soonest = min(child.ends for child in running.values())
            ready = wait(list(running), timeout=max(0.05, min(1.0, soonest - time.monotonic())))
            late = [c.answer for c in running.values() if time.monotonic() > c.ends and c.answer not in ready]
            for child in [c for c in running.values() if c.answer in ready or c.answer in late]:
                yield running.pop(child.answer).result()


def _stop_all(running: Mapping[Connection, _Child]) -> None:
    for child in running.values():
        child.stop()


def _can_fork() -> bool:
    return _context().get_start_method() == "fork"


def _context() -> Any:
    """fork where there is one; MLSYS_LAB_START_METHOD=spawn shows how it goes elsewhere."""
    methods = multiprocessing.get_all_start_methods()
    default = "fork" if "fork" in methods and os.uname().sysname == "Linux" else "spawn"
    return multiprocessing.get_context(os.environ.get("MLSYS_LAB_START_METHOD", default))


@contextmanager
def opened_sandboxes(assignment: Assignment, level: str, library: Path) -> Iterator[tuple[Sandbox, Sandbox]]:
    """Both views of one assignment: for workers that run graded functions, for kernels that run notebooks."""
    with ExitStack() as stack:
        workers, kernels = _sandboxes(stack, assignment, Plan(level, library))
        assert kernels is not None
        yield workers, kernels


def _sandboxes(stack: ExitStack, assignment: Assignment, plan: Plan) -> tuple[Sandbox, Sandbox | None]:
    tree = stack.enter_context(staged(assignment)) if plan.nbval else None
    hide = (assignment.folder, *{path.parent for path in assignment.hidden})
    workers = View(
        packages=worker_packages(assignment, plan.library), tree=None, preload=assignment.preload, hide=hide
    )
    kernels = View(
        packages=(plan.library, PACKAGE),
        tree=tree,
        preload=("ipykernel.kernelapp", "matplotlib.pyplot", "autograder.check", *assignment.preload),
        hide=hide,
    )
    made = stack.enter_context(Sandbox(plan.level, workers, assignment.limits))
    with_nbval = stack.enter_context(Sandbox(plan.level, kernels, assignment.limits)) if plan.nbval else None
    return made, with_nbval


def worker_packages(assignment: Assignment, library: Path) -> tuple[Path, ...]:
    """The library's modules that graded code may import: those that the assignment lists, `*` for all."""
    if "*" in assignment.modules:
        return (library,)
    return tuple(library / module for module in assignment.modules)


class _Child:
    """One submission's grading process and what it answers."""

    def __init__(self, submission: Submission, assignment: Assignment, plan: Plan, sandboxes: Any) -> None:
        self.submission, self.assignment, self.plan = submission, assignment, plan
        self.answer, theirs = multiprocessing.Pipe(duplex=False)
        limits = assignment.limits
        self.ends = time.monotonic() + limits.submission_s * (2 if plan.nbval else 1) + 30.0
        context = _context()
        task = (
            theirs,
            submission,
            assignment,
            plan,
            sandboxes if context.get_start_method() == "fork" else None,
            tempfile.gettempdir(),
        )
        self.process = context.Process(target=_grade_in_child, args=task, daemon=False)
        # Ctrl-C during the fork would reach a hook of the interpreter, which discards it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()

    def result(self) -> Graded:
        """The row; one that says so where the process hung or died."""
        stamp = self.plan.stamp(self.submission, self.assignment)
        try:
            if not self.answer.poll(0):
                message = "grading took longer than its limits allow and was stopped"
            else:
                return from_json(json.loads(self.answer.recv_bytes(1 << 26)))
        except (EOFError, OSError, ValueError):
            message = "the grading process ended before it answered"
        finally:
            self.stop()
        return failed(self.submission, self.assignment, message, self.plan.nbval, stamp)

    def stop(self) -> None:
        with suppress(OSError):
            self.process.kill()
        self.process.join()
        self.answer.close()


def _grade_in_child(
    answer: Connection,
    submission: Submission,
    assignment: Assignment,
    plan: Plan,
    sandboxes: Any,
    scratch: str,
) -> None:
    """Grade one submission and answer with its row as JSON; ending early is the parent's business."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    tempfile.tempdir = scratch
    from autograder.grade import to_json

    stamp = plan.stamp(submission, assignment)
    _limit_own_memory()
    with ExitStack() as stack:
        try:
            workers, kernels = sandboxes or _sandboxes(stack, assignment, plan)
            seed = assignment.seed()
            row = grade(submission, assignment, workers=workers, kernels=kernels, seed=seed, stamp=stamp)
        except Exception as error:  # the grader's own fault: said as such, and this row's alone
            said = f"the grader failed on it ({type(error).__name__}); grade it by hand and report this"
            row = failed(submission, assignment, said, plan.nbval, stamp)
        answer.send_bytes(json.dumps(to_json(row)).encode("ascii"))
    answer.close()


def _limit_own_memory() -> None:
    """Tests and the functions they hand out run here; what a submission makes them allocate has an end."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as stream:
        now = int(stream.read().split()[0]) * resource.getpagesize()
    limit = now + TRUSTED_MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))


@contextmanager
def staged(assignment: Assignment) -> Iterator[Path]:
    """The student version of one assignment in a folder that the kernels' sandbox may see."""
    from autograder.workspace import student_files, write_tree

    with tempfile.TemporaryDirectory(prefix="mlsys-lab-tree-") as folder:
        write_tree(student_files({assignment.name: assignment}), Path(folder), kind="release")
        Path(folder).chmod(0o755)  # a sandboxed kernel has another uid
        yield Path(folder)


def _own_version() -> str:
    """A hash of the autograder's code: another grader may judge otherwise."""
    global _VERSION
    if not _VERSION:
        digest = hashlib.sha256()
        for path in sorted(PACKAGE.glob("*.py")):
            digest.update(path.read_bytes())
        _VERSION = digest.hexdigest()[:12]
    return _VERSION


_VERSION = ""
