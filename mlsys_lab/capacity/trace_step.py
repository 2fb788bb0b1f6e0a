"""`trace`: the memory of a training step, of a torch module without running it, of the course's engine by
counting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlsys_lab.capacity.liveness import Trace


def trace(
    module: Any, inputs: Any, optimizer: Any = None, *, step: Callable[[Any, Any, Any], None] | None = None,
    steps: int = 2, recompute: Sequence[str] = (),
) -> Trace:  # fmt: skip
    """Follow the memory of training steps.

    Args:
        module: torch's, whose step does not run; or one of `mlsys_lab.nn`, whose step does, and is undone.
        inputs: a tensor, or what the step takes: tensors in lists, tuples, dicts.
        optimizer: of the module's parameters; None stops after backward.
        step: `step(module, inputs, optimizer)`, where a step is not forward, backward of the output's sum (of
            the output itself where that is a scalar), optimiser and zero_grad.
        steps: how many: from the second on, the optimiser's state is there.
        recompute: modules by path (`layers.*`) whose activations are computed again; torch's only.

    Raises:
        TypeError: `module` is neither.
        ValueError: a pattern of `recompute` that names no module.
        ImportError: a torch module, and no torch that works.
    """
    from mlsys_lab.capacity import engine_trace
    from mlsys_lab.nn import Module

    options: dict[str, Any] = {"step": step, "steps": steps, "recompute": recompute}
    if isinstance(module, Module):
        return engine_trace.trace(module, inputs, optimizer, **options)
    try:
        from mlsys_lab.capacity import tracing
    except ModuleNotFoundError as error:
        raise ImportError("capacity.trace of a torch module needs torch: pip install torch") from error
    return tracing.trace(module, inputs, optimizer, **options)
