"""Ours, for benchmarks/autograd.py: arguments are the GEMM provider, "bf16" for mixed precision, "alone" for
nothing but the matrix products of a step.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _autograd_work as work_of
import numpy as np
from _autograd_work import Work

import mlsys_lab.autograd as ag
from mlsys_lab import nn, optim
from mlsys_lab._core.gemm import chosen

F = nn.functional
PARTS = {
    "ln1": "ln_1", "ln2": "ln_2", "qkv": "attn.c_attn", "proj": "attn.c_proj", "fc": "mlp.c_fc",
    "out": "mlp.c_proj",
}  # fmt: skip


def prepare(arguments: list[str]) -> tuple[str, Callable[[Work], Callable[[], float]]]:
    provider, low = arguments[0], "bf16" in arguments
    ag.gemm_provider(provider)
    if provider == "torch":
        import torch

        torch.set_num_threads(int(arguments[-1]))
    makers = {"mlp": mlp, "gpt": lambda work: gpt(work, low), "chain": chain}
    if "alone" in arguments:
        return blas(), lambda work: products_of(makers[work.kind](work))
    return blas(), lambda work: makers[work.kind](work)


def products_of(step: Callable[[], float]) -> Callable[[], float]:
    """Three real steps, then only the products that the third asked of the provider, on its operands."""
    multiply = chosen[-1]
    asked: list[tuple[np.ndarray, np.ndarray]] = []
    taken = 0

    def note(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        asked.append((a, b))
        return multiply(a, b)

    def alone() -> float:
        nonlocal taken
        taken += 1
        if taken > 3:
            for a, b in asked:
                multiply(a, b)
            return 0.0
        chosen[-1] = note if taken == 3 else multiply
        loss = step()
        chosen[-1] = multiply
        return loss

    return alone


def blas() -> str:
    """The BLAS of NumPy's wheel and which processor's kernels it chose."""
    for file in (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"):
        library = ctypes.CDLL(str(file))
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename"):
            if hasattr(library, name):
                function = getattr(library, name)
                function.restype = ctypes.c_char_p
                return f"NumPy {np.__version__}, OpenBLAS with {function().decode()} kernels"
    return f"NumPy {np.__version__}, another BLAS"


def mlp(work: Work) -> Callable[[], float]:
    weights, (x, y) = work_of.mlp(work)
    n = work.width
    model = nn.Sequential(nn.Linear(784, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 10))
    model.load_state_dict(
        {
            f"{2 * i}.{ours}": weights[f"{its}{i}"].T
            for i in range(3)
            for ours, its in (("weight", "w"), ("bias", "b"))
        }
    )
    optimizer, inputs = optim.SGD(model.parameters(), lr=work_of.MLP_RATE), ag.Tensor(x)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gpt(work: Work, low: bool = False) -> Callable[[], float]:
    weights, (x, y) = work_of.gpt(work)
    config = nn.GPTConfig(
        work.vocabulary, work.positions, work.depth, work.heads, work.width, tie_weights=False
    )
    state = {
        "transformer.wte.weight": weights["tok"],
        "transformer.wpe.weight": weights["pos"],
        "transformer.ln_f.weight": weights["lnf_w"],
        "transformer.ln_f.bias": weights["lnf_b"],
        "lm_head.weight": weights["head"].T,
    }
    for i in range(work.depth):
        for its, ours in PARTS.items():
            state[f"transformer.h.{i}.{ours}.weight"] = weights[f"{i}.{its}_w"].T
            state[f"transformer.h.{i}.{ours}.bias"] = weights[f"{i}.{its}_b"]
    model = nn.GPT(config)
    model.load_state_dict(state)
    optimizer, target = optim.Adam(model.parameters(), lr=work_of.GPT_RATE), y.reshape(-1)

    def step() -> float:
        optimizer.zero_grad()
        with nn.autocast(enabled=low):
            loss = F.cross_entropy(model(x).reshape(-1, work.vocabulary), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def chain(work: Work) -> Callable[[], float]:
    start, constant = work_of.chain()
    c = ag.Tensor(constant)

    def step() -> float:
        x = ag.Tensor(start, requires_grad=True)
        work_of.chained(x, c, ag.tanh, work.length).sum().backward()
        return float(x.grad.data.sum())

    return step
