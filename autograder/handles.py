"""What a test holds of a student's objects: names that forward work to the other side, never a comparison.

To compare is to hand the other side the expected value and the verdict, so equality, truth, length and
iteration raise here; a test fetches plain values and compares those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from autograder.wire import Remote


class Conversation(Protocol):
    """What a handle needs of `proxy.Worker`."""

    def get(self, name: str) -> Any: ...
    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
    def attribute(self, handle: Any, name: str) -> Any: ...
    def operate(self, operation: str, *operands: Any) -> Any: ...
    def drop(self, number: int) -> None: ...


class Student:
    """The fixture `student`: each attribute is a top-level name of the submission."""

    def __init__(self, worker: Conversation) -> None:
        object.__setattr__(self, "_worker", worker)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return object.__getattribute__(self, "_worker").get(name)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(f"a test cannot set student.{name}: pass the value to a function of the student's")

    def __repr__(self) -> str:
        return "<the student's names>"


def _operator(operation: str) -> Callable[..., Any]:
    def forward(self: Handle, other: Any) -> Any:
        return self._worker.operate(operation, self, other)

    return forward


def _reflected(operation: str) -> Callable[..., Any]:
    def forward(self: Handle, other: Any) -> Any:
        return self._worker.operate(operation, other, self)

    return forward


def _refused(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Handle, *_: Any) -> NoReturn:
        raise TypeError(
            f"the student's {self._name} object has no {what} here: it is no number, text or container; "
            "fetch a plain value of it (an attribute, a method's result) and use that"
        )

    return refuse


class Handle:
    """An object in the student's process: operators, calls and attributes are forwarded."""

    __slots__ = ("__weakref__", "_id", "_name", "_worker")
    __array_ufunc__ = None  # NumPy leaves `array @ handle` to __rmatmul__

    def __init__(self, worker: Conversation, reference: Remote) -> None:
        object.__setattr__(self, "_worker", worker)
        object.__setattr__(self, "_id", reference.id)
        name = "".join(c for c in reference.name if c.isalnum() or c in "_.")
        object.__setattr__(self, "_name", name[:80] or "unnamed")

    def _reference(self, worker: Conversation) -> Remote:
        if worker is not self._worker:
            raise TypeError("an object of another submission's cannot be sent to this one")
        return Remote(self._id, self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._worker.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"the student's {self._name} object shows no {name}")
        return self._worker.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(f"a test cannot set {name} of the student's {self._name} object: call a method of it")

    def __getitem__(self, key: Any) -> Any:
        return self._worker.operate("[]", self, key)

    def __neg__(self) -> Any:
        return self._worker.operate("neg", self)

    def __repr__(self) -> str:
        return f"<the student's {self._name} object>"

    def __del__(self) -> None:
        self._worker.drop(self._id)

    __add__, __radd__ = _operator("+"), _reflected("+")
    __sub__, __rsub__ = _operator("-"), _reflected("-")
    __mul__, __rmul__ = _operator("*"), _reflected("*")
    __truediv__, __rtruediv__ = _operator("/"), _reflected("/")
    __floordiv__, __rfloordiv__ = _operator("//"), _reflected("//")
    __mod__, __rmod__ = _operator("%"), _reflected("%")
    __pow__, __rpow__ = _operator("**"), _reflected("**")
    __matmul__, __rmatmul__ = _operator("@"), _reflected("@")
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refused("comparison")
    __hash__ = object.__hash__
    __bool__ = _refused("truth")
    __len__ = _refused("length")
    __iter__ = _refused("iteration")
    __contains__ = _refused("membership")
    __array__ = _refused("array form")
    __float__ = __int__ = __index__ = __complex__ = _refused("number")
