"""The trusted end of one student's process: ask, wait no longer than allowed, believe nothing but bytes.

A test sees `worker.student`: `student.f(x)` sends x by value and gets a value or a `Handle` back. The clock,
the limits and the verdict are on this side.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from autograder.assignment import Limits
from autograder.errors import CallTimeout, MemoryExceeded, ProtocolError, StudentError, WorkerDied
from autograder.handles import Handle, Student
from autograder.printed import Printed
from autograder.wire import Callback, Frames, Remote, WireError, decode, encode_parts, send

MAX_CALLBACKS = 100_000
MAX_NESTED = 50
#: Kinds of errors that the grader itself finds.
_OURS = ("Timeout", "WorkerDied", "ProtocolError")
_SENT_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError),
    *(RuntimeError, TimeoutError, ConnectionError, OSError),
)


@dataclass(frozen=True)
class LoadReport:
    """What came of a submission's cells.

    Attributes:
        errors: what was raised, cell by cell; the other cells count all the same.
        missing: wanted names that nothing bound.
    """

    errors: list[StudentError] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class ChildLife(Protocol):
    """What a worker needs of the process at the other end."""

    def kill(self) -> None: ...
    def queued_s(self) -> float: ...
    def ended(self, timeout_s: float) -> int | None: ...
    def close(self) -> None: ...


class Worker:
    """A conversation with one child.

    Attributes:
        student: the fixture that tests use.
        call_s, load_s: limits of one call, and of loading.
        deadline: `time.monotonic()` beyond which no call may last, whatever its own limit; or None.
    """

    def __init__(self, sock: socket.socket, output: int, life: ChildLife, limits: Limits) -> None:
        self.student = Student(self)
        self.call_s, self.load_s = limits.call_s, limits.question_s
        self.deadline: float | None = None
        self._sock, self._life = sock, life
        self._printed = Printed(output, int(limits.output_mb * (1 << 20)))
        self._frames = Frames()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(output, select.POLLIN)
        self._closed = False
        self._callbacks: dict[int, Callable[..., Any]] = {}
        self._calls_back = self._nested = 0
        self._outermost_ends = self._queued_s = 0.0
        self._dropped: list[int] = []
        self._functions: dict[str, Any] = {}
        self._at: tuple[int | None, int | None] = (None, None)
        self._failed: StudentError | None = None
        self._verdict: BaseException | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, cells: list[str], wanted: Sequence[str]) -> LoadReport:
        """Run the statements that the wanted names need.

        Raises:
            StudentError: no answer: the code loops, ends its process, or answers nonsense.
        """
        answer = self._ask("load", [list(cells), list(wanted)], self.load_s)
        try:
            errors = [_student_error(*problem) for problem in answer["errors"]]
            missing = [name for name in wanted if name in answer["missing"]]
            self._functions = {n: h for n, h in answer["functions"].items() if isinstance(h, Handle)}
        except Exception:
            raise self._give_up(ProtocolError("ProtocolError", "the process answered nonsense")) from None
        return LoadReport(errors, missing)

    def get(self, name: str) -> Any:
        """A top-level name of the submission: a function as a handle, a plain variable as its value."""
        if name in self._functions:
            return self._functions[name]
        try:
            return self._ask("get", [name], self.call_s)
        except StudentError as error:
            if error.kind != "KeyError":
                raise
            raise StudentError("NameError", f"{name} is not defined in the submission") from None

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a handle."""
        return self._ask("call", [function, args, kwargs], self.call_s)

    def attribute(self, handle: Any, name: str) -> Any:
        """An attribute of a handle."""
        return self._ask("attribute", [handle, name], self.call_s)

    def operate(self, operation: str, *operands: Any) -> Any:
        """An operator with a handle among its operands."""
        return self._ask("operate", [operation, *operands], self.call_s)

    def drop(self, number: int) -> None:
        """Tell the other side, with the next request, that a handle is no longer held."""
        self._dropped.append(number)

    @property
    def failed(self) -> StudentError | None:
        """Why this worker answers no more, or None while it does."""
        return self._failed

    @property
    def output(self) -> str:
        """What the code printed, up to the limit."""
        return self._printed.text()

    def gone(self, timeout_s: float) -> bool:
        """Has its process ended, within this time?"""
        return self._life.ended(timeout_s) is not None

    def kill(self) -> None:
        """End the process now."""
        self._life.kill()
        if self._failed is None:
            self._failed = WorkerDied("WorkerDied", "the process was ended by the grader")

    def close(self) -> None:
        """End the process and forget it."""
        if self._closed:
            return
        self._closed = True
        self.kill()
        self._life.close()
        self._sock.close()
        self._printed.close()

    def _ask(self, operation: str, arguments: list[Any], limit_s: float) -> Any:
        if self._failed is not None:
            raise self._failed
        if self._nested >= MAX_NESTED:
            circle = "the test's and the student's functions call each other in a circle"
            raise self._give_up(ProtocolError("RecursionError", circle))
        dropped, self._dropped = self._dropped, []
        message = encode_parts((operation, dropped, *arguments), self._refer)
        outermost = self._nested == 0
        if outermost:
            self._verdict = None
            self._outermost_ends = time.monotonic() + limit_s + self.call_s
            self._queued_s = self._life.queued_s()
        self._nested += 1
        try:
            return self._converse(message, limit_s)
        finally:
            self._nested -= 1
            if outermost and self._verdict is not None:
                # An assertion inside a function of the test is the test's verdict; the student may not
                # swallow it.
                verdict, self._verdict = self._verdict, None
                raise verdict

    def _converse(self, message: list[bytes | memoryview], limit_s: float) -> Any:
        deadline = min(time.monotonic() + limit_s, self._outermost_ends)
        free_s = self.call_s  # the test's own time is not the student's, unless they make it last
        self._send(message, deadline, limit_s)
        while True:
            reply = self._receive(deadline, limit_s)
            kind = reply[0]
            if kind == "ok" and len(reply) == 2:
                self._at = (None, None)
                return reply[1]
            if kind == "error" and len(reply) == 5:
                try:
                    raise _student_error(*reply[1:])
                except (TypeError, ValueError):
                    kind = None
            if kind == "at" and len(reply) == 3 and all(type(n) is int for n in reply[1:]):
                self._at = (reply[1], reply[2])
            elif kind == "callback" and len(reply) == 4:
                began = time.monotonic()
                answer = self._called_back(*reply[1:])
                not_charged_s = min(time.monotonic() - began, free_s)
                free_s -= not_charged_s
                deadline = min(deadline + not_charged_s, self._outermost_ends)
                self._send(answer, deadline, limit_s)
            else:
                raise self._give_up(ProtocolError("ProtocolError", "the process answered nonsense"))

    def _called_back(self, number: Any, args: Any, kwargs: Any) -> list[bytes | memoryview]:
        self._calls_back += 1
        if self._calls_back > MAX_CALLBACKS:
            raise self._give_up(
                ProtocolError("ProtocolError", f"more than {MAX_CALLBACKS:,} calls of the test's functions")
            )
        try:
            function = self._callbacks[number]
            if type(args) is not tuple or type(kwargs) is not dict or not all(type(k) is str for k in kwargs):
                raise TypeError("malformed call")
            return encode_parts(("return", function(*args, **kwargs)), self._refer)
        except StudentError:
            if self._failed is not None:
                raise
            name = "RuntimeError"
        except AssertionError as error:
            self._verdict = self._verdict or error
            name = "AssertionError"
        except Exception as error:
            name = next((t.__name__ for t in _SENT_ERRORS if type(error) is t), "RuntimeError")
        return encode_parts(("raise", name))

    def _refer(self, value: Any) -> Remote | Callback:
        if isinstance(value, Handle):
            return value._reference(self)
        if callable(value):
            number = id(value)
            self._callbacks[number] = value  # kept: the number stays its own
            return Callback(number, str(getattr(value, "__name__", "function"))[:80])
        raise TypeError(
            f"a test sent a {type(value).__name__}: send numbers, text, arrays, containers of these, "
            "functions or the student's own objects"
        )

    def _resolve(self, reference: Remote | Callback) -> Any:
        if isinstance(reference, Callback):
            raise WireError("a function of the test's came back")
        return Handle(self, reference)

    def _send(self, message: list[bytes | memoryview], deadline: float, limit_s: float) -> None:
        self._sock.settimeout(max(self._until(deadline), 0.001))
        try:
            send(self._sock, message)
        except TimeoutError:
            raise self._timed_out(limit_s, deadline) from None
        except OSError:
            raise self._died() from None

    def _receive(self, deadline: float, limit_s: float) -> tuple[Any, ...]:
        try:
            while (message := self._frames.next()) is None:
                left = self._left(deadline, limit_s)
                if left <= 0:
                    raise self._timed_out(limit_s, deadline)
                ready = dict(self._poll.poll(left * 1000))
                if self._printed.fd in ready and not self._printed.drain():
                    self._poll.unregister(self._printed.fd)  # the code closed its output
                if self._sock.fileno() in ready:
                    try:
                        alive = self._frames.receive(self._sock)
                    except OSError:
                        alive = False
                    if not alive:
                        raise self._died()
            reply = decode(message, self._resolve)
        except WireError as error:
            raise self._give_up(
                ProtocolError("ProtocolError", f"the process answered nonsense: {error}")
            ) from None
        if type(reply) is not tuple or not reply or type(reply[0]) is not str:
            raise self._give_up(ProtocolError("ProtocolError", "the process answered nonsense"))
        return reply

    def _left(self, deadline: float, limit_s: float) -> float:
        """Seconds left. What the child spent in the queue for a processor that others held is given back."""
        if (left := self._until(deadline)) > 0:
            return left
        return self._until(deadline + min(self._life.queued_s() - self._queued_s, limit_s))

    def _until(self, deadline: float) -> float:
        bound = deadline if self.deadline is None else min(deadline, self.deadline)
        return bound - time.monotonic()

    def _give_up(self, error: StudentError) -> StudentError:
        """Kill the process; every later request gives this error."""
        self._failed = error
        self._life.kill()
        return error

    def _timed_out(self, limit_s: float, deadline: float) -> StudentError:
        message = f"no answer within {limit_s:g} s"
        if self.deadline is not None and self.deadline < deadline:
            message = "the time for the whole question or submission is used up"
        return self._give_up(CallTimeout("Timeout", message, *self._at))

    def _died(self) -> StudentError:
        status = self._life.ended(0.5)
        if status is None:
            what = "the code closed its connection"
        elif os.WIFSIGNALED(status):
            what = _SIGNALS.get(os.WTERMSIG(status), f"the process was ended by signal {os.WTERMSIG(status)}")
        else:
            what = f"the code ended its own process (exit {os.WEXITSTATUS(status)})"
        return self._give_up(WorkerDied("WorkerDied", what, *self._at))


_SIGNALS: dict[int, str] = {
    signal.SIGSEGV: "the code crashed (segmentation fault)",
    signal.SIGBUS: "the code crashed (bus error)",
    signal.SIGABRT: "the code crashed (abort)",
    signal.SIGFPE: "the code crashed (arithmetic fault)",
    signal.SIGILL: "the code crashed (illegal instruction)",
    signal.SIGKILL: "the process was killed (out of memory, or by itself)",
    signal.SIGXCPU: "the code used up its processor time",
    signal.SIGSYS: "the code made a forbidden system call",
}


def _writable(text: str) -> str:
    """Lone surrogates would break the file that the message is written to."""
    return text.encode("utf-8", "backslashreplace").decode()


def _student_error(kind: Any, message: Any, cell: Any, line: Any) -> StudentError:
    if type(kind) is not str or type(message) is not str:
        raise TypeError("malformed error")
    if kind in _OURS:  # a class of the student's with that name speaks for the student
        kind = f"the code's own {kind}"
    number = [n if type(n) is int and 0 <= n < 10**6 else None for n in (cell, line)]
    made = MemoryExceeded if kind == "MemoryError" else StudentError
    return made(_writable(kind[:100]), _writable(message[:2_000]), *number)
