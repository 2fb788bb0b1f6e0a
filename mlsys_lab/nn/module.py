"""Module: parameters and modules, found among an object's attributes, in the order in which they were set.

Names and state_dict keys are those of torch.nn.Module. Nothing is registered: what is an attribute counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array
from mlsys_lab.autograd import Tensor, note_change


class Parameter(Tensor):
    """A tensor that a module learns."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Module:
    """What can be called, trained and saved; a subclass has `forward`."""

    training: bool = True
    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the attributes."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, by dotted name; one that has two names comes twice."""
        yield prefix, self
        for name, module in self.named_children():
            yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return iter({id(m): m for _, m in self.named_modules()}.values())

    def _entries(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter under each of its names."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield f"{prefix}.{name}" if prefix else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Each parameter once, under its first name."""
        first: dict[int, tuple[str, Parameter]] = {}
        for name, parameter in self._entries():
            first.setdefault(id(parameter), (name, parameter))
        return iter(first.values())

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call fn on each module; returns self."""
        for module in list(self.modules()):
            fn(module)
        return self

    def train(self, mode: bool = True) -> Module:
        return self.apply(lambda module: setattr(module, "training", mode))

    def eval(self) -> Module:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, dtype: Any) -> Module:
        """Parameters in another floating-point dtype; make the optimiser afterwards."""
        for parameter in self.parameters():
            wanted, parameter.requires_grad = parameter.requires_grad, False
            parameter.data, parameter.requires_grad = parameter.data.astype(dtype), wanted
        return self

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters' arrays by name."""
        return {name: parameter.data.copy() for name, parameter in self._entries()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values in: ours, arrays, or torch's tensors. Nothing changes where an error is raised.

        Raises:
            RuntimeError: keys that are missing, extra (both only with `strict`), or of the wrong shape.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"expected arrays by name, got {type(state_dict).__name__}: pass model.state_dict()"
            )
        entries = dict(self._entries())
        given = {name: plain(value) for name, value in state_dict.items()}
        wrong = [
            f"{name} expects shape {entries[name].shape}, got {given[name].shape}"
            for name in entries.keys() & given.keys()
            if entries[name].shape != given[name].shape
        ]
        missing, extra = entries.keys() - given.keys(), given.keys() - entries.keys()
        if strict:
            wrong += [f"missing {name}" for name in missing] + [f"extra {name}" for name in extra]
        if wrong:
            raise RuntimeError(
                f"state_dict does not fit {type(self).__name__}: {'; '.join(sorted(wrong))}: build the model "
                "with the sizes that it was saved with, or rename keys; strict=False skips missing and extra"
            )
        for name in entries.keys() & given.keys():
            entries[name].data[...] = given[name]
            note_change(entries[name].data)

    def extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        lines = [f"({n}): {m!r}".replace("\n", "\n  ") for n, m in self.named_children()]
        inside = "\n  ".join(["", *lines]) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"


def plain(value: Any) -> Array:
    """The array of a tensor, ours or torch's."""
    if isinstance(value, Tensor):
        return value.data
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    return np.asarray(value)


class ModuleList(Module):
    """Modules in a row, named 0, 1, 2; what is done with them says the owner."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, i: int) -> Module:
        return list(self.children())[i]

    def append(self, module: Module) -> ModuleList:
        if not isinstance(module, Module):
            several = isinstance(module, (list, tuple))
            remedy = "write Sequential(*layers)" if several else "for a function use a module, as nn.ReLU()"
            raise TypeError(f"expects modules, got {type(module).__name__} at {len(self)}: {remedy}")
        setattr(self, str(len(self)), module)
        return self
