"""SGD, Adam and AdamW over flat arenas, with torch.optim's names, defaults and state.

An optimiser's step is one fused call per stretch of parameters, not one per parameter and operation. A
parameter needs `.data`, an array, and `.grad`, None or something with `.data`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from mlsys_lab._core.allocator import keep_freed_memory
from mlsys_lab.autograd import fused
from mlsys_lab.optim.arena import Arena, Parameter

Array = Any


class Optimizer:
    """What the optimisers share: parameter groups, arenas, state.

    Args:
        params: parameters, or dictionaries {"params": [...], "lr": ...} with a group's own options.
        defaults: the options of groups that do not set them.

    Attributes:
        param_groups: one dictionary per group: "params" and its options, read at every step.

    Raises:
        ValueError: no parameters, a parameter twice, an unknown option or one out of its range.
        TypeError: a parameter that is not of a floating-point type.
    """

    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        given = list(params) if isinstance(params, Iterable) else [params]
        if not given:
            raise ValueError(
                f"{type(self).__name__} needs at least one parameter, got none: pass model.parameters()"
            )
        keep_freed_memory()  # who makes an optimiser is about to run the same step many times
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._arenas: list[list[Arena]] = []
        self._moments: dict[int, tuple[Array, ...]] = {}  # by the arena's id
        self._steps: dict[int, int] = {}  # by the parameter's id
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters with options of their own; their data moves into an arena."""
        parameters = group["params"]
        parameters = list(parameters) if isinstance(parameters, Iterable) else [parameters]
        if not parameters:
            raise ValueError(f"a parameter group of {type(self).__name__} has no parameters")
        unknown = sorted(set(group) - {"params"} - set(self.defaults))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no option {unknown[0]!r}: it has {', '.join(self.defaults)}"
            )
        ids = [id(p) for g in self.param_groups for p in g["params"]] + [id(p) for p in parameters]
        if len(set(ids)) < len(ids):
            raise ValueError("a parameter was given twice: each belongs to one group, once")
        options = {**self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        _check(options)
        by_type: dict[Any, list[Parameter]] = {}
        for p in parameters:
            if not hasattr(p, "grad"):
                raise TypeError(f"expected parameters, got {type(p).__name__}: pass model.parameters()")
            if not getattr(p, "is_leaf", True) or not getattr(p, "requires_grad", True):
                raise ValueError("an optimiser takes leaves with requires_grad=True: pass model.parameters()")
            if np.dtype(p.data.dtype).kind in "iub":
                raise TypeError(f"a parameter is of a floating-point type, got {p.data.dtype}")
            by_type.setdefault(p.data.dtype, []).append(p)
        self.param_groups.append({"params": parameters, **options})
        self._arenas.append([Arena(same) for same in by_type.values()])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad.data[...] = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients first, where given.

        Returns:
            What the closure returned, or None.
        """
        loss = closure() if closure is not None else None
        for group, arenas in zip(self.param_groups, self._arenas, strict=True):
            for arena in arenas:
                arena.adopt()
                moments = self._moments_of(arena, group)
                for first, last, gradient in arena.stretches():
                    self._update_stretch(arena, first, last, gradient, moments, group)
        return loss

    def _update_stretch(
        self, arena: Arena, first: int, last: int, gradient: Array, moments: tuple[Array, ...], group: Any
    ) -> None:
        """One call for the stretch, or one per part whose parameters have taken equally many steps."""
        start = arena.spans[first].start
        ids = [id(p) for p in arena.parameters[first:last]]
        while first < last:
            taken = self._steps.get(ids[0], 0)
            alike = next((i for i, key in enumerate(ids) if self._steps.get(key, 0) != taken), len(ids))
            span = slice(arena.spans[first].start, arena.spans[first + alike - 1].stop)
            part = gradient[span.start - start : span.stop - start]
            self._update(arena.data[span], part, tuple(m[span] for m in moments), taken + 1, group)
            self._steps.update(dict.fromkeys(ids[:alike], taken + 1))
            first, ids = first + alike, ids[alike:]

    def _update(self, p: Array, g: Array, moments: tuple[Array, ...], step: int, group: Any) -> None:
        raise NotImplementedError

    def _moments_of(self, arena: Arena, group: dict[str, Any]) -> tuple[Array, ...]:
        kept, names = self._moments.get(id(arena), ()), self._moment_names(group)
        if len(kept) != len(names):
            kept = self._moments[id(arena)] = tuple(arena.buffer() for _ in names)
        return kept

    def _moment_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return self.moments

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state in torch's layout: {"state": {number: {...}}, "param_groups": [...]}."""
        state: dict[int, dict[str, Any]] = {}
        groups, number = [], 0
        for group, arenas in zip(self.param_groups, self._arenas, strict=True):
            numbers = {id(p): number + i for i, p in enumerate(group["params"])}
            number += len(numbers)
            groups.append({**group, "params": [*numbers.values()]})
            for arena in arenas:
                split = [arena.split(m) for m in self._moments_of(arena, group)]
                for i, p in enumerate(arena.parameters):
                    if id(p) in self._steps:
                        moments = zip(self._moment_names(group), split, strict=True)
                        copies = {name: part[i].copy() for name, part in moments}
                        state[numbers[id(p)]] = {"step": self._steps[id(p)], **copies}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state: ours, or one that torch's optimiser of the same name made.

        Raises:
            ValueError: groups, parameters or shapes that do not fit.
        """
        groups, state = state_dict["param_groups"], state_dict["state"]
        ours, theirs = ([len(g["params"]) for g in gs] for gs in (self.param_groups, groups))
        if ours != theirs:
            raise ValueError(f"the optimiser's groups have {ours} parameters, the state's have {theirs}")
        self._steps.clear()
        for group, arenas, loaded in zip(self.param_groups, self._arenas, groups, strict=True):
            group.update({k: loaded[k] for k in self.defaults if k in loaded})
            numbers = {id(p): n for p, n in zip(group["params"], loaded["params"], strict=True)}
            for arena in arenas:
                self._moments.pop(id(arena), None)
                names, split = self._moment_names(group), map(arena.split, self._moments_of(arena, group))
                columns = list(zip(*split, strict=True)) or [()] * len(arena.parameters)
                for p, views in zip(arena.parameters, columns, strict=True):
                    entry = state.get(numbers[id(p)])
                    if entry:
                        self._steps[id(p)] = int(entry.get("step", 1))
                        _fill(names, views, entry)


def _fill(names: tuple[str, ...], views: Iterable[Array], entry: dict[str, Any]) -> None:
    for name, view in zip(names, views, strict=True):
        value = entry.get(name)
        if value is None:
            continue
        value = np.asarray(value)
        if value.shape != view.shape:
            raise ValueError(f"{name} of a parameter of shape {view.shape} has shape {value.shape}")
        view[...] = value


def _check(options: dict[str, Any]) -> None:
    for name, value in options.items():
        numbers = value if isinstance(value, tuple | list) else (value,)
        count, below = (2, 1.0) if name == "betas" else (1, math.inf)
        if len(numbers) != count or not all(0 <= v < below for v in numbers):
            limits = "in [0, 1), two of them" if name == "betas" else "at least 0"
            raise ValueError(f"{name} is {limits}, got {value}")


class SGD(Optimizer):
    """Stochastic gradient descent; `momentum` and `nesterov` as in Sutskever et al. 2013, in torch's form.

    Args:
        params: parameters or groups.
        lr: learning rate.
        momentum: share of the velocity that is kept per step.
        dampening: share of the gradient that the velocity does not take.
        weight_decay: added to the gradient times the parameter (L2).
        nesterov: look ahead along the velocity.

    Example:
        >>> optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)  # doctest: +SKIP
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False,
    ) -> None:  # fmt: skip
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and no dampening")
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov})

    def _moment_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _update(self, p: Array, g: Array, moments: tuple[Array, ...], step: int, group: Any) -> None:
        options = {k: group[k] for k in self.defaults}
        fused.sgd_step(p, g, moments[0] if moments else None, first=step == 1, **options)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); weight decay is L2, added to the gradient.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: how much of the mean and of the mean square is kept per step.
        eps: added to the root of the mean square.
        weight_decay: L2 penalty; AdamW decays the parameters themselves.

    Example:
        >>> optimizer = Adam(model.parameters(), lr=1e-3)  # doctest: +SKIP
    """

    moments = ("exp_avg", "exp_avg_sq")
    decoupled: ClassVar[bool] = False

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, p: Array, g: Array, moments: tuple[Array, ...], step: int, group: Any) -> None:
        options = {k: group[k] for k in self.defaults}
        fused.adam_step(p, g, *moments, step=step, decoupled=self.decoupled, **options)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters by lr * weight_decay (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)
