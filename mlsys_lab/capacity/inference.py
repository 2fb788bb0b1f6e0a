"""Time and memory of text generation on GPUs: prefill, a decode step, and how many sequences fit.

A roofline of two phases (Pope et al. 2022, arXiv 2211.05102): prefill multiplies all tokens of a prompt with
the weights and is bound by arithmetic; a decode step reads all weights and the cache of the batch for one
token per sequence and is bound by memory. Left out: starting kernels, sampling, the network to the user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.flops import operations
from mlsys_lab.capacity.held import on_rank
from mlsys_lab.capacity.interval import BASES, Interval
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.op_time import STREAMING, all_reduce_s, gemm_efficiency, link_efficiency
from mlsys_lab.capacity.parallel import Parallel, Workload, check
from mlsys_lab.capacity.weights import Weight

#: Bytes of a weight by dtype.
WEIGHT_BYTES = {
    "float32": Fraction(4), "bfloat16": Fraction(2), "float16": Fraction(2), "float8": Fraction(1),
    "int8": Fraction(1), "int4": Fraction(1, 2),
}  # fmt: skip

#: Kept free of weights and cache, for activations, the framework and fragments: one part in this many of the
#: memory. vLLM's gpu_memory_utilization is 0.92 (its docs, vllm.config.cache, stable of 2026), TensorRT-LLM's
#: free_gpu_memory_fraction 0.9 (its docs, kvcacheconfig).
RESERVE = 10

#: Seconds of a small all-reduce in a node, whatever its bytes: medians of 16 to 42 us over 10 to 100 kB.
LATENCY = Interval(
    16e-6, 20e-6, 42e-6, "calibrated",
    ("microsoft/vidur: data/profiling/network/a100_dgx/all_reduce.csv, four A100 of a node",),
)  # fmt: skip

#: GPUs of a node, which share the fast link: eight in DGX and HGX (NVIDIA).
NODE = 8


@dataclass(frozen=True)
class Serving:
    """A model in a dtype on `tp` GPUs, one replica.

    Attributes:
        model: a decoder.
        on: the GPU.
        tp: GPUs that share every layer (Megatron-LM, arXiv 1909.08053), of one node.
        dtype: of the matrices; below 16 bits embeddings, head and norms stay in 16, and so does the cache,
            as vLLM keeps it unless told otherwise (kv_cache_dtype "auto").
        reserve: bytes of each GPU that stay free; a tenth of its memory by default.
    """

    model: ModelSpec
    on: Device
    tp: int = 1
    dtype: str = "bfloat16"
    reserve: int = -1

    def __post_init__(self) -> None:
        if self.dtype not in WEIGHT_BYTES:
            raise ValueError(f"dtype is one of {', '.join(WEIGHT_BYTES)}, got {self.dtype!r}")
        if self.model.kind != "decoder":
            raise ValueError(f"{self.model.name} does not generate: choose a decoder such as llama-2-7b")
        if not self.on.memory_bytes or not self.on.memory_bytes_per_s:
            raise ValueError(f"no memory is written down for {self.on.name}")
        if self.tp > NODE:
            raise ValueError(f"tp {self.tp} is beyond the {NODE} GPUs of a node: use at most {NODE}")
        if self.tp > 1 and not self.on.link_bytes_per_s:
            raise ValueError(f"no link is written down for {self.on.name}: use tp 1")
        check(self.model, Workload(context=1), Parallel(tp=self.tp))
        if self.reserve < 0:
            object.__setattr__(self, "reserve", int(self.on.memory_bytes) // RESERVE)

    # Memory: whole numbers.

    @property
    def weight_bytes(self) -> int:
        """Of one GPU."""
        p = Parallel(tp=self.tp)
        return math.ceil(sum(on_rank(w, self.model, p) * self._bytes(w) for w in self.model.weights))

    def kv_bytes(self, tokens: int) -> int:
        """Of one sequence of so many tokens, on one GPU: the key-value heads are split as far as there are
        any, the latent cache of MLA is on every GPU."""
        m, each = self.model, int(max(WEIGHT_BYTES[self.dtype], Fraction(2)))
        if m.mla is not None:
            return m.kv_bytes_per_token(each) * tokens
        return 2 * m.layers * math.ceil(m.kv_heads / self.tp) * m.head_dim * each * tokens

    def largest_batch(self, tokens: int) -> int:
        """Sequences of so many tokens whose cache fits beside the weights; 0 where none does."""
        return max(self.room_bytes, 0) // self.kv_bytes(tokens)

    @property
    def room_bytes(self) -> int:
        """What is left for the cache; below zero where the weights alone do not fit."""
        return int(self.on.memory_bytes) - self.reserve - self.weight_bytes

    # Time: intervals.

    def prefill_s(self, prompt: int) -> Interval:
        """Seconds until the first token of one prompt is there, on idle GPUs.

        Args:
            prompt: tokens.

        Returns:
            The larger of the products, of which attention skips what lies in the future and the output layer
            takes the last position alone, and of one reading of the weights; then the all-reduces.
        """
        return self._larger(
            self._compute_s(self.prefill_flops(prompt)), self._read_s(self.read_bytes(prompt))
        ) + self._all_reduces_s(prompt)

    def prefill_flops(self, prompt: int) -> int:
        """Of one prompt, on all GPUs of the replica together."""
        found = operations(self.model, 1, prompt, causal=True)
        return sum(o.forward // prompt if o.part == "head" else o.forward for o in found)

    def decode_s(self, batch: int, context: int) -> Interval:
        """Seconds of one step, which makes one token for each sequence of the batch.

        Args:
            batch: sequences.
            context: tokens that each has in the cache, on average.
        """
        _at_least_one(batch=batch, context=context)
        read = self.read_bytes(batch) + batch * self.kv_bytes(context)
        return self._larger(
            self._compute_s(self.decode_flops(batch, context)), self._read_s(read)
        ) + self._all_reduces_s(batch)

    def decode_flops(self, batch: int, context: int) -> int:
        """Of one step, on all GPUs of the replica together. MLA attends in the latent space, where a head's
        keys are as wide as the cache (arXiv 2405.04434, section 2.1.2)."""
        m = self.model
        weights = sum(2 * w.multiplied for w in m.weights)
        width = 2 * m.mla.kv_rank + m.mla.rope if m.mla else 2 * m.head_dim
        return batch * (weights + 2 * m.layers * m.heads * width * context)

    def read_bytes(self, tokens: int) -> float:
        """Bytes of weights that one GPU reads in a pass over so many tokens: each weight once, and of the
        experts those that are expected to be asked when each token asks at random. An untied table of
        embeddings counts in full, though only a row per token is read: 0.4 % of Llama-2-70B, 6.5 % of
        Llama-3-8B."""
        _at_least_one(tokens=tokens)
        p, found = Parallel(tp=self.tp), 0.0
        for w in self.model.weights:
            share = 1.0
            if w.shard == "expert" and w.used is not None and w.copies:
                share = 1 - (1 - w.used / w.copies) ** tokens
            found += share * on_rank(w, self.model, p) * float(self._bytes(w))
        return found

    def floor_s(self) -> Interval:
        """Seconds to read the weights of a single token once: no step of any batch is faster."""
        return self._read_s(self.read_bytes(1))

    def _bytes(self, w: Weight) -> Fraction:
        each = WEIGHT_BYTES[self.dtype]
        return each if w.multiplies and w.part != "head" else max(each, Fraction(2))

    @property
    def peak(self) -> float:
        """Dense operations per second of one GPU; without a peak of its own a dtype is widened to 16 bits."""
        if self.dtype == "float32":
            return self.on.peak("float32")
        own = self.on.peaks.get(self.dtype, 0.0) if self.dtype in ("float8", "int8") else 0.0
        return own or self.on.half_peak()

    @property
    def efficiency(self) -> Interval:
        """Share of the peak that products reach: that of 16-bit ones."""
        found = gemm_efficiency(self.on)
        if WEIGHT_BYTES[self.dtype] == 2:
            return found
        return found * Interval(1, 1, 1, "assumed", ("other dtypes as 16-bit products",))

    def _compute_s(self, flops: float) -> Interval:
        return flops / self.tp / self.peak / self.efficiency

    def _read_s(self, size: float) -> Interval:
        return size / self.on.memory_bytes_per_s / STREAMING

    def _all_reduces_s(self, tokens: int) -> Interval:
        """Two per layer, of all tokens' activations (arXiv 1909.08053, section 3)."""
        if self.tp == 1:
            return Interval.exact(0.0)
        size = tokens * self.model.hidden * float(max(WEIGHT_BYTES[self.dtype], Fraction(2)))
        way = self.on.link_bytes_per_s / 2 * link_efficiency()
        return (all_reduce_s(size, self.tp, way) + LATENCY) * (2 * self.model.layers)

    @staticmethod
    def _larger(a: Interval, b: Interval) -> Interval:
        """End by end; the weaker basis."""
        basis = max(a.basis, b.basis, key=BASES.index)
        rows = tuple(dict.fromkeys(a.rows + b.rows))
        return Interval(max(a.low, b.low), max(a.mid, b.mid), max(a.high, b.high), basis, rows)


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} has to be a whole number of at least 1, got {number!r}")
