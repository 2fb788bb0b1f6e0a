"""What can go wrong in a student's code, as the trusted side sees it: each with one clear line.

A message may hold anything that the student wrote; whoever shows it escapes it. Nothing here holds an
expected value.
"""

from __future__ import annotations


class StudentError(Exception):
    """The student's code raised, or could not be run.

    Attributes:
        kind: the exception's type name, `ValueError`.
        message: its text, capped.
        cell: number of the code cell, from 1, where it is known.
        line: the line within that cell, from 1.
        call: `f([3, 1])`, the call that raised, where it may be shown.
    """

    call = ""

    def __init__(self, kind: str, message: str, cell: int | None = None, line: int | None = None) -> None:
        super().__init__(kind, message, cell, line)
        self.kind, self.message, self.cell, self.line = kind, message, cell, line

    @property
    def place(self) -> str:
        """`cell 4, line 2`, or what is known of it, or nothing."""
        parts = [f"cell {self.cell}" if self.cell else "", f"line {self.line}" if self.line else ""]
        return ", ".join(p for p in parts if p)

    def public(self) -> str:
        """One line for the student: kind, text and place."""
        text = " ".join(f"{self.kind}: {self.message}".split()) if self.message else self.kind
        return text + (f" ({self.place})" if self.place else "") + (f" in {self.call}" if self.call else "")

    def withheld(self) -> str:
        """What of it may be said of a hidden test: nothing that the code could choose to carry inputs out."""
        return "your code raised an exception"

    def __str__(self) -> str:
        return self.public()


class CallTimeout(StudentError):
    """A call, or the whole question or submission, used up its time."""

    def withheld(self) -> str:
        return f"{self.kind}: {self.message}"  # the grader's own words


NOT_RUN = "not run again"


def not_run_again(first: StudentError) -> StudentError:
    """What the further tests of a question are told whose code was given up in an earlier one."""
    return type(first)(first.kind, f"{first.message} earlier in this question; {NOT_RUN}")


class WorkerDied(StudentError):
    """The student's process ended: by itself, by a crash, or by a limit."""

    def withheld(self) -> str:
        return f"{self.kind}: the process that ran your code ended"


class MemoryExceeded(StudentError):
    """The student's process asked for more memory than it may have."""

    def withheld(self) -> str:
        return "MemoryError: more memory than allowed"


class ProtocolError(StudentError):
    """The student's process answered with something that is not an answer."""
