"""One submission's worker over the tests of an assignment: budgets, restarts, and no second try for a loop.

A worker that dies takes only its question's remaining tests with it: the next question starts a fresh one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from autograder.assignment import Assignment
from autograder.errors import CallTimeout, StudentError, not_run_again
from autograder.proxy import LoadReport, Worker
from autograder.sandbox import Sandbox


class SandboxSession:
    """A `run_tests.Session` whose student code lives in sandboxed workers.

    Args:
        sandbox: starts a fresh worker for each life of the submission.
        cells: the submission's code cells.
        assignment: says which names the tests want, and the limits.
    """

    def __init__(self, sandbox: Sandbox, cells: Sequence[str], assignment: Assignment) -> None:
        self._sandbox, self._cells, self._assignment = sandbox, list(cells), assignment
        self._limits = assignment.limits
        self._ends = time.monotonic() + self._limits.submission_s
        self._worker: Worker | None = None
        self._question, self._question_ends = "", 0.0
        self._loaded: tuple[str, ...] = ()
        self._lost: dict[str, StudentError] = {}
        self._whole_load_failed = False
        self._hidden = False
        self._output: list[str] = []
        #: What went wrong while the submission's own top-level code ran, in order, once each.
        self.load_errors: list[StudentError] = []
        self.missing: list[str] = []

    def student(self, question: str, hidden: bool) -> Any:
        """The student's namespace for a question, in a live worker; another one for the hidden tests.

        Raises:
            StudentError: the question used up its time or its worker died before; it is not run again.
        """
        if self._worker is not None and self._worker.failed is not None:
            self._lost.setdefault(self._question, self._worker.failed)
        if hidden and not self._hidden:
            self._retire()
            self._hidden = True
        if question != self._question:
            self._question = question
            self._question_ends = min(time.monotonic() + self._limits.question_s, self._ends)
        if question in self._lost:
            raise not_run_again(self._lost[question])
        if time.monotonic() >= self._ends:
            limit = self._limits.submission_s
            raise CallTimeout("Timeout", f"the submission used up its {limit:g} s before this question")
        worker = self._live(question)
        worker.deadline = self._question_ends
        return worker.student

    def _live(self, question: str) -> Worker:
        names = self._names(question)
        if self._worker is not None and self._worker.failed is None and set(names) <= set(self._loaded):
            return self._worker
        self._retire()
        self._worker = self._sandbox.worker()
        # Half of the question's time at most, so that a loop at the top leaves time to ask for less.
        self._worker.deadline = min(time.monotonic() + self._limits.question_s / 2, self._question_ends)
        try:
            report = self._worker.load(self._cells, names)
        except StudentError as error:
            self._note([error])
            self._retire()
            if self._whole_load_failed:
                self._lost[question] = error
                raise
            self._whole_load_failed = True
            return self._live(question)  # once more, with only what this question needs
        self._loaded = tuple(names)
        self._note_report(report)
        return self._worker

    def _names(self, question: str) -> tuple[str, ...]:
        """What to define: all at once, until that has hung or crashed; then what the question needs."""
        if not self._whole_load_failed:
            return self._assignment.wanted
        found = self._assignment.questions.get(question)
        return found.names if found else self._assignment.wanted

    def _note_report(self, report: LoadReport) -> None:
        self._note(report.errors)
        self.missing = list(dict.fromkeys([*self.missing, *report.missing]))

    def _note(self, errors: Sequence[StudentError]) -> None:
        known = {e.public() for e in self.load_errors}
        self.load_errors += [e for e in errors if e.public() not in known]

    def _retire(self) -> None:
        if self._worker is not None:
            self._worker.close()
            if not self._hidden:  # what is printed in a hidden test could carry its inputs out
                self._output.append(self._worker.output)
            self._worker = None

    def close(self) -> str:
        """End the worker; give back what the code printed, but in hidden tests."""
        self._retire()
        return "".join(self._output)
