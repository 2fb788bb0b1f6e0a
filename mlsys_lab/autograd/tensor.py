"""Tensor: an array and its place on the tape.

A tensor knows no rule: its operators call the table of primitives by name. In-place operators change the
array and note it, so that a backward which needs the old values says so.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlsys_lab._core import native
from mlsys_lab._core.backend import Array, asarray, is_float
from mlsys_lab.autograd.errors import DtypeError, GraphError, InplaceError, ShapeError
from mlsys_lab.autograd.inplace import check_unchanged, note_change, refuse_shared, refuse_truncation
from mlsys_lab.autograd.operators import Operators
from mlsys_lab.autograd.tape import Node, alike, described, leaf, mode, table, tape_of, walk

new = object.__new__


class Tensor(Operators):
    """An array that remembers how it was made.

    Args:
        data: an array (used as it is, not copied), a number, or nested lists; Python floats become float32.
        requires_grad: collect a gradient in `.grad`; only for a floating-point dtype.
    """

    __slots__ = ("__weakref__", "data", "node", "origin")
    __array_priority__ = 1000  # numpy_array * tensor asks the tensor
    __array_ufunc__ = None

    data: Array
    node: Node | None
    origin: tuple[Tensor, Any]  # of what indexing gave: the tensor it may be a view of, and the index

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data = asarray(data.data if isinstance(data, Tensor) else data)
        if self.data.dtype.kind in "OSU":
            raise DtypeError(f"a tensor holds numbers, got {type(data).__name__}: give an array or a list")
        self.node = None
        self.requires_grad = requires_grad

    @staticmethod
    def made(data: Array, node: Node | None) -> Tensor:
        """A tensor of an array, at a place on the tape."""
        tensor: Tensor = new(Tensor)
        tensor.data = data
        tensor.node = node
        return tensor

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and not is_float(self.data.dtype):
            raise DtypeError(
                f"only a floating-point tensor has a gradient, got {self.dtype}: .astype('float32') first"
            )
        if self.node is not None and self.node.op is not None:
            raise GraphError(
                "requires_grad is a leaf's to set, got the result of an operation: use .detach()"
            )
        if wanted != self.requires_grad:
            self.node = leaf(self.data) if wanted else None

    @property
    def is_leaf(self) -> bool:
        return self.node is None or self.node.op is None

    @property
    def grad(self) -> Tensor | None:
        """The collected gradient of a leaf, or None."""
        return self.node.grad if self.node is not None and self.node.op is None else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (self.node is None or self.node.op is not None):
            raise GraphError("only a leaf with requires_grad=True holds a gradient")
        if value is not None and not (isinstance(value, Tensor) and alike(value, self.data)):
            raise GraphError(f"grad expects a Tensor of {self.dtype} {self.shape}, got {described(value)}")
        if self.node is not None and self.node.op is None:
            self.node.grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def numpy(self) -> np.ndarray:
        """The values on the host, read-only: a change goes through the engine."""
        view = (self.data if isinstance(self.data, np.ndarray) else self.data.get()).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def detach(self) -> Tensor:
        """The same array off the tape."""
        return Tensor.made(self.data, None)

    def __repr__(self) -> str:
        note = ", requires_grad=True" if self.is_leaf and self.requires_grad else ""
        note = f", from {self.node.op.name}" if self.node is not None and self.node.op is not None else note
        return (
            f"Tensor({np.array2string(self.numpy(), separator=', ', prefix='Tensor(')}, {self.dtype}{note})"
        )

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __index__(self) -> int:
        return self.data.__index__()

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Tensor:
        part = table["getitem"](self, index)
        if part.data.base is not None:
            part.origin = self, index
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        given = asarray(value.data if isinstance(value, Tensor) else value)
        refuse_truncation(self.dtype, given.dtype)
        # Python's x[i] += y ends here, with x[i] itself as the value.
        mine = self.data.base is not None and given.base is self.data.base
        self._become(table["setitem"](self, value, index), views=int(mine))

    def _become(self, result: Tensor, views: int = 0) -> Tensor:
        """Take over a result's values, in this tensor's own memory, and its place on the tape.

        Args:
            result: of an operation on this tensor.
            views: how many views of this tensor have a part in the change.
        """
        if mode.recording and self.is_leaf and self.requires_grad:
            raise InplaceError(
                "a leaf that requires grad was changed in place: do it under ag.no_grad(), or on a copy"
            )
        if result.shape != self.shape:
            raise InplaceError(
                f"in place, {self.shape} cannot become {result.shape}: write x = x + y in place of x += y"
            )
        refuse_truncation(self.dtype, result.dtype)
        if mode.recording and self.data.base is not None:
            self._tell_owner(result, views)
        self.data[...] = result.data
        if mode.recording:
            self.node = result.node
        note_change(self.data)
        return self

    def _tell_owner(self, result: Tensor, views: int) -> None:
        """A change of a view is a change of what it is a view of: z = y[:2]; z *= 3 is y[:2] = y[:2] * 3."""
        whole, index = getattr(self, "origin", (None, None))
        if whole is not None:
            if np.may_share_memory(whole.data, self.data):
                whole._become(table["setitem"](whole, result, index), views + 1)
        elif self.node is not None:
            refuse_shared(self.node, self.data, views)

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Call `hook(gradient)` when this tensor's gradient is complete; what it returns replaces it.

        Returns:
            A function that takes the hook off again.
        """
        node = self._node()
        node.hooks = hooks = node.hooks or []
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Callable[[], None]:
        """Call `hook(self)` once `.grad` of this leaf is complete, while backward runs (for buckets)."""
        node, me = self._node(), weakref.ref(self)
        if node.op is not None:
            raise GraphError("only a leaf accumulates into .grad: use register_hook")
        ready = lambda: hook(me()) if me() is not None else None  # type: ignore[arg-type]  # noqa: E731
        node.ready = readies = node.ready or []
        readies.append(ready)
        return lambda: readies.remove(ready)

    def _node(self) -> Node:
        if self.node is None:
            if not is_float(self.dtype):
                raise GraphError(f"{self.dtype} carries no gradient: only floating-point results do")
            raise GraphError(
                "this tensor is on no tape: make it with requires_grad=True, outside ag.no_grad()"
            )
        return self.node

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the derivative of this tensor to `.grad` of each leaf that it was made of.

        Args:
            gradient: derivative of the final result by this tensor, of its shape; optional for one number.
            retain_graph: keep the saved values, so that backward can run again.
            create_graph: record the backward, so that gradients can be differentiated.
        """
        pull([self], [gradient], collect, retain_graph=retain_graph, create_graph=create_graph)


def pull(
    outputs: Sequence[Tensor], gradients: Sequence[Any], arrive: Callable[[Node, Any, bool], None], *,
    wanted: Sequence[Node] = (), retain_graph: bool = False, create_graph: bool = False,
) -> None:  # fmt: skip
    """Start `walk` at some outputs; see `backward` and `ag.grad`."""
    grads: dict[Node, Any] = {}
    for output, gradient in zip(outputs, gradients, strict=True):
        node = output._node()
        given = start(output, gradient, create_graph)
        grads[node] = grads[node] + given if node in grads else given
    tape = tape_of(list(grads))
    check_unchanged(tape)
    if mode.before_walk is not None:
        mode.before_walk(tape)
    in_c = native.extension(__package__, "_dispatch.c")  # from here on operations take its short ways too
    with Recording(create_graph):
        (walk if in_c is None else in_c.walk)(
            tape,
            grads,
            arrive,
            wanted=set(wanted),
            tracked=create_graph,
            free=not (retain_graph or create_graph),
        )


def start(output: Tensor, gradient: Any, tracked: bool) -> Any:
    """The gradient with which a backward starts, checked."""
    if gradient is None:
        if output.size != 1:
            raise GraphError(
                f"backward starts at one number, got shape {output.shape}: pass gradient=, or sum first"
            )
        gradient = np.ones_like(output.data)
    elif not isinstance(gradient, Tensor):
        gradient = asarray(gradient)
    if gradient.shape != output.shape:
        raise ShapeError(
            f"gradient expects shape {output.shape} of the output, got {gradient.shape}: reshape it"
        )
    gradient = gradient if gradient.dtype == output.dtype else gradient.astype(output.dtype)
    if tracked:
        return gradient if isinstance(gradient, Tensor) else Tensor.made(gradient, None)
    return gradient.data if isinstance(gradient, Tensor) else gradient


def collect(node: Node, g: Any, owned: bool) -> None:
    """Add a complete gradient to a leaf's `.grad`, and tell its hooks."""
    if node.op is not None:
        return
    if isinstance(g, Tensor):
        node.grad = g if node.grad is None else node.grad + g
    elif node.grad is not None:
        node.grad.data += g
    else:
        node.grad = Tensor.made(g if owned else np.array(g), None)
    for ready in node.ready or ():
        ready()


class Recording:
    """With this, operations are recorded or not, in this thread: `ag.no_grad()` is Recording(False)."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __enter__(self) -> None:
        self.before = mode.recording
        mode.recording = self.on

    def __exit__(self, *error: Any) -> None:
        mode.recording = self.before
