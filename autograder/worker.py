"""The student's side of the wire: runs their code, answers one request at a time, is trusted with nothing.

Everything in this process may be read and changed by the student's code, so it holds no test and no expected
value; the other side believes of it only that bytes arrived.
"""

from __future__ import annotations

import operator
import os
import socket
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from autograder.errors import StudentError
from autograder.extract import describe, run_slice
from autograder.wire import Callback, Frames, Remote, WireError, decode, encode_parts, send

OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "@": operator.matmul,
    "[]": operator.getitem,
    "neg": operator.neg,
}
_BUILTIN_ERRORS = {
    e.__name__: e
    for e in (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        RuntimeError,
        TimeoutError,
        ConnectionError,
        OSError,
    )
}


class Worker:
    """One student's namespace and the objects that the tests hold handles to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.frames = Frames()
        self.objects: dict[int, Any] = {}
        self.functions: dict[int, Callable[..., Any]] = {}  # the tests' own, by the number of the callback
        self.given = 0
        self.module = types.ModuleType("__main__")
        self.turn = threading.RLock()  # a thread of the student's may call a test's function
        self.busy = 0

    def serve(self) -> None:
        """Answer requests until the other side hangs up."""
        while (request := self._receive()) is not None:
            self._answer(request)

    def _receive(self) -> Any:
        while (message := self.frames.next()) is None:
            if not self.frames.receive(self.sock):
                return None
        return decode(message, self._resolve)

    def _send(self, reply: tuple[Any, ...]) -> None:
        send(self.sock, encode_parts(reply, self._keep))

    def _keep(self, value: Any) -> Remote:
        self.given += 1
        self.objects[self.given] = value
        return Remote(self.given, str.__str__(type(value).__qualname__))

    def _resolve(self, reference: Remote | Callback) -> Any:
        if isinstance(reference, Remote):
            return self.objects[reference.id]
        if reference.id not in self.functions:
            self.functions[reference.id] = self._function(reference)
        return self.functions[reference.id]

    def _function(self, reference: Callback) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            with self.turn:
                return self._call_back(reference.id, args, kwargs)

        function.__name__ = function.__qualname__ = reference.name
        return function

    def _call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.busy:
            raise RuntimeError("a function of the test can be called only while the test waits")
        self._send(("callback", number, args, kwargs))
        while (message := self._receive()) is not None:
            if message[0] == "return":
                return message[1]
            if message[0] == "raise":
                raise _BUILTIN_ERRORS.get(message[1], RuntimeError)(
                    f"the test's function raised {message[1]}"
                )
            self._answer(message)  # the test's function uses a handle in turn
        raise SystemExit

    def _answer(self, request: Any) -> None:
        self.busy += 1
        try:
            operation, dropped, *arguments = request
            for number in dropped:
                self.objects.pop(number, None)
            reply = ("ok", self._do(operation, arguments))
        except BaseException as error:
            reply = _failure(describe(error))
        self.busy -= 1
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):
                stream.flush()
        try:
            self._send(reply)
        except WireError as error:
            self._send(_failure(StudentError("WireError", f"the result cannot be sent: {error}")))

    def _do(self, operation: str, arguments: list[Any]) -> Any:
        if operation == "call":
            function, args, kwargs = arguments
            return function(*args, **kwargs)
        if operation == "attribute":
            return getattr(arguments[0], arguments[1])
        if operation == "operate":
            return OPERATIONS[arguments[0]](*arguments[1:])
        if operation == "get":
            return vars(self.module)[arguments[0]]
        if operation == "load":
            return self._load(*arguments)
        raise ValueError("an unknown request")

    def _load(self, cells: list[str], wanted: list[str]) -> dict[str, Any]:
        # As in a notebook; a dataclass, a pickle and a type hint look their module up by name.
        sys.modules["__main__"] = self.module
        namespace = vars(self.module)
        _, errors = run_slice(cells, wanted, namespace, lambda cell, line: self._send(("at", cell, line)))
        return {
            "errors": [(e.kind, e.message, e.cell, e.line) for e in errors],
            "missing": [name for name in wanted if name not in namespace],
            "functions": {name: namespace[name] for name in wanted if callable(namespace.get(name))},
        }


def _failure(error: StudentError) -> tuple[Any, ...]:
    return ("error", error.kind, error.message, error.cell, error.line)


def serve(fd: int) -> None:
    """Be a worker on this descriptor until it closes."""
    sys.argv = ["submission"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if number else "r"
        setattr(
            sys, name, os.fdopen(number, mode, 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        )
    np.random.seed()  # or every submission would draw the fork server's numbers
    Worker(socket.socket(fileno=fd)).serve()
