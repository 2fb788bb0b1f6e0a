"""The ladder's kernels as fused operations of the engine, for arrays on a GPU.

A kernel takes what it was written for: float32, contiguous, the sizes that it has room for. Everything else
goes to the engine's own definition (`autograd._fused_numpy`), which CuPy runs too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.kernels import hosts
from mlsys_lab.kernels.launcher import Launcher

MOST = 2**31  # elements that an int of a kernel counts


def install() -> list[str]:
    """Register the ladder's kernels with the engine for "cuda".

    `autograd.fused.register(name, "cuda", None)` takes one back. Held against the engine's definitions on the
    simulator; untested on a GPU. Without, CuPy's product is cuBLAS's, which is faster than the ladder's.

    Returns:
        The operations that now run on kernels of the ladder.
    """
    from mlsys_lab.autograd import fused

    made = operations("gpu")
    for name, function in made.items():
        fused.register(name, "cuda", function)
    return list(made)


def operations(device: str) -> dict[str, Callable[..., Any]]:
    """Functions that take and return what the fused operations of these names do.

    Args:
        device: where they launch, as for `CudaKernel`.
    """
    from mlsys_lab.autograd import fused  # here: kernels run where a sandbox hides the engine

    def matmul(a: Any, b: Any, out: Any = None) -> Any:
        if not fits(a, b) or a.ndim < 2 or b.ndim != 2 or a.size // a.shape[-1] * b.shape[1] >= MOST:
            return fused.matmul.twin(a, b, out)
        rows = np.ascontiguousarray(a).reshape(-1, a.shape[-1])
        c = hosts.matmul(Launcher(device), "matmul_warp_tile", 128, rows, np.ascontiguousarray(b))
        c = c.reshape(*a.shape[:-1], b.shape[1])
        if out is None:
            return c
        out[...] = c
        return out

    def attention(
        q: Any, k: Any, v: Any, causal: bool = True, scale: float | None = None, offset: int = 0
    ) -> tuple[Any, Any]:
        if not attends(q, k, v, scale, offset):
            both: tuple[Any, Any] = fused.attention.twin(q, k, v, causal, scale, offset)
            return both
        out, log_sum = hosts.flash(Launcher(device), by_head(q), by_head(k), by_head(v), causal)
        return out.reshape(q.shape), log_sum.reshape(q.shape[:3])

    def attention_backward(
        g: Any, q: Any, k: Any, v: Any, out: Any, log_sum: Any, causal: bool = True,
        scale: float | None = None, offset: int = 0, out_gradients: Any = None,
    ) -> Any:  # fmt: skip
        if not attends(q, k, v, scale, offset) or not fits(g, out, log_sum):
            twin = fused.attention_backward.twin
            return twin(g, q, k, v, out, log_sum, causal, scale, offset, out_gradients)
        q_, k_, v_, g_, out_ = (by_head(x) for x in (q, k, v, g, out))
        sums = np.ascontiguousarray(log_sum)
        made = hosts.attention_gradients(Launcher(device), q_, k_, v_, g_, out_, sums, causal)
        gradients = tuple(x.reshape(q.shape) for x in made)
        if out_gradients is None:
            return gradients
        for target, gradient in zip(out_gradients, gradients, strict=True):
            target[...] = gradient
        return out_gradients

    def adam_step(
        p: Any, g: Any, m: Any, v: Any, *, step: int, lr: float, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
    ) -> None:  # fmt: skip
        one_piece = all(x.flags.c_contiguous for x in (p, g, m, v))
        if not fits(p, g, m, v) or not one_piece or (weight_decay and not decoupled):
            options = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "decoupled": decoupled}
            fused.adam_step.twin(p, g, m, v, step=step, lr=lr, **options)
            return
        (beta1, beta2), n = betas, p.size
        rest = (lr, beta1, beta2, eps, weight_decay, 1 - beta1**step, 1 - beta2**step, n)
        Launcher(device)("adam_fused", hosts.blocks_for(n), p, g, m, v, *rest)

    made = (matmul, attention, attention_backward, adam_step)
    return {function.__name__: function for function in made}


def fits(*arrays: Any) -> bool:
    """Whether a kernel can take them: float32, not empty, countable."""
    return all(a.dtype == np.float32 and 0 < a.size < MOST for a in arrays)


def attends(q: Any, k: Any, v: Any, scale: float | None, offset: int) -> bool:
    """Whether the flash kernels can take them: as many keys as queries, one head of each for each other."""
    plain = offset == 0 and scale in (None, q.shape[-1] ** -0.5)
    return plain and q.shape == k.shape == v.shape and q.shape[-1] <= hosts.HEAD and fits(q, k, v)


def by_head(x: Any) -> Any:
    """(batch, heads, n, d) as (batch * heads, n, d)."""
    return np.ascontiguousarray(x).reshape(-1, *x.shape[2:])
