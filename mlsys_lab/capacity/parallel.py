"""How a training run is laid out: over which axes the GPUs are split, and what one step works on.

Each split has its divisibility; a layout that does not divide is refused with the numbers and a remedy.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsys_lab.capacity.models import ModelSpec

RECOMPUTE = ("none", "selective", "full")

#: Bytes of state per parameter beside the weight and its gradient; "master" is added in mixed precision.
OPTIMIZERS = {"sgd": 0, "momentum": 4, "adam": 8, "adamw": 8, "lion": 4, "adamw8bit": 2}
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Parallel:
    """The degrees of parallelism.

    Attributes:
        dp: data-parallel replicas; zero: how much of them is sharded (0 nothing, 1 optimiser, 2 gradients, 3
            weights; arXiv 1910.02054). Shards are over the replicas (times cp), never over all GPUs.
        tp: tensor parallelism; sp: with it, sequence parallelism of norms and dropouts (arXiv 2205.05198).
        pp: pipeline stages; interleave: chunks of layers per stage (arXiv 2104.04473, section 2.2).
        cp: context parallelism, a part of each sequence per rank.
        ep: expert parallelism inside the dp replicas.
        recompute: "none", "selective" (attention's core) or "full" (whole layers).
    """

    dp: int = 1
    zero: int = 0
    tp: int = 1
    sp: bool = False
    pp: int = 1
    interleave: int = 1
    cp: int = 1
    ep: int = 1
    recompute: str = "none"

    def __post_init__(self) -> None:
        for name in ("dp", "tp", "pp", "interleave", "cp", "ep"):
            _at_least_one(name, getattr(self, name))
        if self.zero not in (0, 1, 2, 3):
            raise ValueError(f"zero is 0, 1, 2 or 3, got {self.zero}")
        if self.recompute not in RECOMPUTE:
            raise ValueError(f"recompute is one of {', '.join(RECOMPUTE)}, got {self.recompute!r}")
        if self.sp and self.tp == 1:
            raise ValueError(
                "sequence parallelism splits over the tensor-parallel ranks: set tp above 1, or sp off"
            )
        if self.interleave > 1 and self.pp == 1:
            raise ValueError(
                f"interleave {self.interleave} wants a pipeline: set pp above 1, or interleave to 1"
            )
        if self.dp % self.ep:
            raise ValueError(
                f"dp {self.dp} is not divisible by ep {self.ep}: experts are spread over the replicas"
            )

    @property
    def gpus(self) -> int:
        return self.dp * self.tp * self.pp * self.cp


@dataclass(frozen=True)
class Workload:
    """What one step trains on, and in which numbers.

    Attributes:
        context: tokens per sequence.
        micro_batch: sequences of one replica at a time; batch: of one step over all replicas, 0 for dp *
            micro_batch.
        dtype: of weights and activations; with a 16-bit one the optimiser keeps float32 masters (`master`).
        grad_bytes: of a gradient, 0 for the dtype's own; Megatron accumulates in 4.
        optimizer: one of OPTIMIZERS.
        attention: "flash", or "materialised", which keeps the scores.
        dropout: masks are kept in blocks (GPT-2 and -3 had it, later models do not).
        step: how the optimiser runs: "fused" in place, "single" one tensor after the other (torch on a CPU),
            "foreach" all at once, with a temporary of everything (torch's default on a GPU).
        loss: "plain", whose backward holds three arrays as large as the logits, or "fused", which makes their
            gradient along with the loss and holds two, as this course's engine does.
        tokens: of the whole run, 0 when only a step is asked for.
    """

    context: int
    micro_batch: int = 1
    batch: int = 0
    dtype: str = "bfloat16"
    grad_bytes: int = 0
    optimizer: str = "adamw"
    master: bool = True
    attention: str = "flash"
    dropout: bool = False
    step: str = "fused"
    loss: str = "plain"
    tokens: float = 0.0

    def __post_init__(self) -> None:
        for name in ("context", "micro_batch"):
            _at_least_one(name, getattr(self, name))
        if self.batch < 0 or self.tokens < 0:
            raise ValueError(f"batch and tokens are not negative, got {self.batch} and {self.tokens}")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"dtype is one of {', '.join(DTYPE_BYTES)}, got {self.dtype!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        for name, allowed in (
            ("attention", ("flash", "materialised")),
            ("step", ("fused", "single", "foreach")),
            ("loss", ("plain", "fused")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def gradient_bytes(self) -> int:
        return self.grad_bytes or self.dtype_bytes

    @property
    def state_bytes(self) -> int:
        """Of the optimiser, per parameter: moments and, in mixed precision, the float32 master weight."""
        return OPTIMIZERS[self.optimizer] + (4 if self.master and self.dtype_bytes == 2 else 0)

    def micro_batches(self, parallel: Parallel) -> int:
        """That each pipeline works through in one step."""
        return self.global_batch(parallel) // (parallel.dp * self.micro_batch)

    def global_batch(self, parallel: Parallel) -> int:
        return self.batch or parallel.dp * self.micro_batch


def check(model: ModelSpec, workload: Workload, parallel: Parallel) -> None:
    """That the layout divides.

    Raises:
        ValueError: it does not; the message says which numbers, and what would.
    """
    p, w = parallel, workload
    if p.tp > model.heads:
        raise ValueError(
            f"tp {p.tp} is larger than the {model.heads} heads: a head is not split, use tp <= {model.heads}"
        )
    if model.heads % p.tp:
        raise ValueError(
            f"{model.heads} heads are not divisible by tp {p.tp}: use {_divisors(model.heads, p.tp)}"
        )
    if max(model.kv_heads, p.tp) % min(model.kv_heads, p.tp):
        usable = _divisors(model.kv_heads, p.tp)
        raise ValueError(f"{model.kv_heads} key-value heads and tp {p.tp} do not divide: use {usable}")
    if model.layers % (p.pp * p.interleave):
        chunks = f"pp {p.pp}" + (f" x interleave {p.interleave}" if p.interleave > 1 else "")
        usable = _divisors(model.layers, p.pp * p.interleave)
        raise ValueError(f"{model.layers} layers are not divisible by {chunks}: use {usable}")
    whole = p.dp * w.micro_batch
    if w.global_batch(p) % whole:
        raise ValueError(
            f"batch {w.batch} is not divisible by dp {p.dp} x micro-batch {w.micro_batch} = {whole}: "
            f"use {max(whole, w.batch // whole * whole)} or {(w.batch // whole + 1) * whole}"
        )
    if w.context % (p.cp * (p.tp if p.sp else 1)):
        raise ValueError(
            f"context {w.context} is not divisible by cp {p.cp}{f' x tp {p.tp}' if p.sp else ''}"
        )
    if p.ep > 1 and (model.moe is None or model.moe.experts % p.ep):
        experts = (
            "no experts" if model.moe is None else f"{model.moe.experts} experts, not divisible by ep {p.ep}"
        )
        raise ValueError(f"ep {p.ep}: {model.name} has {experts}")
    if model.positions and model.kind != "vision" and w.context > model.positions:
        raise ValueError(
            f"context {w.context} is beyond the {model.positions} learned positions of {model.name}"
        )


def _divisors(number: int, near: int) -> str:
    found = [d for d in range(1, number + 1) if number % d == 0]
    below = max((d for d in found if d < near), default=1)
    above = min((d for d in found if d > near), default=None)
    return f"{below}" if above is None else f"{below} or {above}"


def _at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} has to be a whole number of at least 1, got {value!r}")
