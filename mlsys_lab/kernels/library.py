"""The ladder of kernels by name: each rung one idea, and the counter that the idea is predicted to lower.

`LADDER["transpose_tiled"].run(x)` gives the result and the reports of its launches. The kernels are in
`cuda/`, what launches them in `hosts.py`, what they compute in `references.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlsys_lab.kernels import hosts
from mlsys_lab.kernels.launcher import ARCHITECTURES, Launcher


@dataclass(frozen=True)
class Gain:
    """What an idea is predicted to gain.

    Attributes:
        counter: one of COUNTERS.
        over: the rung that it is compared with.
        factor: that rung's count over this one's; below 1 where the rung shows a loss.
        sizes: of the problem, as `references.inputs` takes them.
        why: the arithmetic behind the factor.
    """

    counter: str
    over: str
    factor: float
    sizes: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Rung:
    """A step of the ladder.

    Attributes:
        name: of the kernel, where there is one.
        family: what it computes, as in `references`.
        idea: one sentence.
        host: launches it.
        gain: over the rung before; None at the foot of a ladder.
        arch: the one architecture whose instructions it uses; such a rung is not simulated. "" for all.
    """

    name: str
    family: str
    idea: str
    host: Callable[..., Any]
    gain: Gain | None = None
    arch: str = ""

    def run(self, *arrays: Any, device: str = "simulator", **options: Any) -> tuple[Any, Launcher]:
        """The result (an array or several), and the launches with their reports."""
        go = Launcher(device)
        return self.host(go, *arrays, **options), go


def by(host: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    """A host function with what comes between the launcher and the arrays."""
    return lambda go, *arrays, **options: host(go, *first, *arrays, **options)


RUNGS = (
    Rung("vector_add", "add", "One thread per element.", by(hosts.vector_add, "vector_add")),
    Rung(
        "vector_add_float4", "add", "Four elements per thread, by one 128-bit access.",
        by(hosts.vector_add, "vector_add_float4"),
        Gain("global load requests", "vector_add", 4, (8192,), "a request asks for 512 bytes instead of 128"),
    ),
    Rung(
        "saxpy", "saxpy", "A fixed grid walks over data of any size, and a multiply-add is one instruction.",
        hosts.saxpy,
        Gain("bytes per flop", "vector_add", 2, (8192,), "12 bytes for two operations instead of one"),
    ),
    Rung("copy", "copy", "Neighbouring lanes, neighbouring elements.", by(hosts.copy, 1)),
    Rung(
        "copy_strided", "copy", "A loss: every lane of a request asks for a sector of its own.",
        by(hosts.copy, 32),
        Gain("sectors per load", "copy", 4 / 32, (32768,),
             "128 neighbouring bytes are 4 sectors, 32 lanes apart are 32"),
    ),
    Rung(
        "transpose_naive", "transpose", "Read along rows, write down columns.",
        by(hosts.transpose, "transpose_naive"),
    ),
    Rung(
        "transpose_tiled", "transpose", "A tile turns in shared memory, so that writes go along rows too.",
        by(hosts.transpose, "transpose_tiled"),
        Gain("global store sectors", "transpose_naive", 8, (64, 96), "4 sectors per store instead of 32"),
    ),
    Rung(
        "transpose_padded", "transpose", "A tile 33 words wide: its columns lie in 32 banks.",
        by(hosts.transpose, "transpose_padded"),
        Gain("shared wavefronts", "transpose_tiled", 16.5, (64, 96), "a store 1 and a load 32; now 1 and 1"),
    ),
    Rung("sum_one_thread", "sum", "One thread adds everything.", by(hosts.total, "sum_one_thread")),
    Rung(
        "sum_atomic", "sum", "One thread per element; the additions queue at one address.",
        by(hosts.total, "sum_atomic"),
        Gain("instructions per warp", "sum_one_thread", 1665, (8192,),
             "8192 turns of a loop, 13 instructions for 4; now 16"),
    ),
    Rung(
        "sum_tree_divergent", "sum", "A tree in shared memory; one atomic per block.",
        by(hosts.total, "sum_tree_divergent"),
        Gain("global store bytes", "sum_atomic", 256, (8192,),
             "one atomic addition per block of 256 threads"),
    ),
    Rung(
        "sum_tree", "sum", "The lanes that add are neighbours, so whole warps fall idle.",
        by(hosts.total, "sum_tree"),
        Gain("instructions", "sum_tree_divergent", 1.54, (8192,),
             "8 warps add in each of 8 steps; now 4, 2, 1, 1, 1, 1, 1, 1"),
    ),
    Rung(
        "sum_shuffle", "sum", "Lanes of a warp hand over registers instead of shared memory.",
        by(hosts.total, "sum_shuffle"),
        Gain("shared wavefronts", "sum_tree", 5, (8192,), "per block 8 + 3 (4 + 2 + 6) + 1 = 45; now 8 + 1"),
    ),
    Rung(
        "sum_two_pass", "sum",
        "Each thread adds 16 elements before the tree; a second launch replaces the atomics.",
        by(hosts.total, "sum_two_pass"),
        Gain("instructions", "sum_shuffle", 5.4, (65536,),
             "the tree once for 16 elements; what remains is the walk"),
    ),
    Rung(
        "histogram_global", "histogram", "An atomic addition per element.",
        by(hosts.histogram, "histogram_global"),
    ),
    Rung(
        "histogram_shared", "histogram", "Count per block in shared memory, add them to the others' once.",
        by(hosts.histogram, "histogram_shared"),
        Gain("global store bytes", "histogram_global", 62, (65536, 64),
             "64 in 66 of 65536 elements; now 16 blocks x 64 bins"),
    ),
    Rung(
        "scan_hillis_steele", "scan", "log2(n) steps; each adds what lies 2^s before.",
        by(hosts.scan, "scan_hillis_steele"),
    ),
    Rung(
        "scan_blelloch", "scan", "Up a tree and down again: 2n additions instead of n log n.",
        by(hosts.scan, "scan_blelloch"),
        Gain("flops", "scan_hillis_steele", 2, (8192,), "per 512 elements 4610 additions; now 2302"),
    ),
    Rung(
        "scan_blocks", "scan",
        "Every block scans a tile by shuffles; the tiles' sums are scanned, and added.", hosts.scan_blocks,
        Gain("instructions per warp", "scan_blelloch", 28, (8192,),
             "16 tiles one after another; now all at once"),
    ),
    Rung(
        "softmax_three_pass", "softmax", "By the definition: maximum, sum, result.",
        by(hosts.softmax, "softmax_three_pass"),
    ),
    Rung(
        "softmax_online", "softmax",
        "Maximum and sum in one pass: the sum is rescaled when the maximum grows.",
        by(hosts.softmax, "softmax_online"),
        Gain("global load sectors", "softmax_three_pass", 1.5, (16, 512),
             "a row is read twice instead of three times"),
    ),
    Rung(
        "layernorm_three_pass", "layernorm", "By the definition: mean, variance, result.",
        by(hosts.layernorm, "layernorm_three_pass"),
    ),
    Rung(
        "layernorm_welford", "layernorm", "Mean and variance in one pass, without cancellation.",
        by(hosts.layernorm, "layernorm_welford"),
        Gain("global load sectors", "layernorm_three_pass", 1.25, (16, 512),
             "x twice instead of three times, gain and bias once"),
    ),
    Rung(
        "matmul_naive", "matmul", "One thread per result; neighbouring lanes take neighbouring rows.",
        by(hosts.matmul, "matmul_naive", 32),
    ),
    Rung(
        "matmul_coalesced", "matmul", "Neighbouring lanes take neighbouring columns.",
        by(hosts.matmul, "matmul_coalesced", 32),
        Gain("global load sectors", "matmul_naive", 33 / 5, (64, 64, 64),
             "A 32 and B 1 sectors per step; now 1 and 4"),
    ),
    Rung(
        "matmul_shared", "matmul", "Tiles of 32 x 32 in shared memory: what is loaded serves 32 threads.",
        by(hosts.matmul, "matmul_shared", 32),
        Gain("global load sectors", "matmul_coalesced", 20, (64, 64, 64),
             "8 sectors per warp and 32 steps instead of 5 per step"),
    ),
    Rung(
        "matmul_1d_tile", "matmul",
        "Eight results of a column per thread: B stays in a register for all eight.",
        by(hosts.matmul, "matmul_1d_tile", 64),
        Gain("shared wavefronts", "matmul_shared", 1.784, (128, 128, 64),
             "per 32 results and step 66 / 32; now 1184 / 8 / 128"),
    ),
    Rung(
        "matmul_2d_tile", "matmul", "Eight by eight results per thread: 16 loads serve 64 multiply-adds.",
        by(hosts.matmul, "matmul_2d_tile", 128),
        Gain("shared wavefronts", "matmul_1d_tile", 1.51, (128, 128, 64),
             "2-way conflicts on A and 4-way on B spoil a gain of 4.5"),
    ),
    Rung(
        "matmul_vectorised", "matmul", "128-bit accesses to both memories; the tile of A lies turned.",
        by(hosts.matmul, "matmul_vectorised", 128),
        Gain("global load requests", "matmul_2d_tile", 4, (128, 128, 64), "four floats per request"),
    ),
    Rung(
        "matmul_warp_tile", "matmul", "A warp's lanes read neighbouring float4s: no conflicts.",
        by(hosts.matmul, "matmul_warp_tile", 128),
        Gain("shared wavefronts", "matmul_vectorised", 1.5, (128, 128, 64),
             "24 per warp and step, 8 of them conflicts; now 16"),
    ),
    Rung(
        "matmul_wmma", "matmul bf16", "Tensor cores: a warp multiplies 16 x 16 x 16 by one instruction.",
        by(hosts.matmul_bf16, "matmul_wmma"),
        Gain("instructions", "matmul_warp_tile", 4, (128, 128, 128),
             "4096 multiply-adds of a warp in 1 instruction, not 128; to fetch takes the rest"),
    ),
    Rung(
        "matmul_wgmma", "matmul bf16",
        "Four warps multiply 64 x 256 x 16 from shared memory, which a copy engine fills meanwhile.",
        hosts.matmul_wgmma,
        Gain("global load sectors", "matmul_wmma", 8 / 3, (256, 256, 64),
             "per step 128 + 256 numbers for 128 x 256 results; 64 + 64 for 64 x 64 before"),
        arch=ARCHITECTURES["matmul_wgmma"],
    ),
    Rung(
        "attention_naive", "attention", "The matrix of scores goes to memory and comes back twice.",
        hosts.attention_naive,
    ),
    Rung(
        "attention_flash", "attention", "Scores live in registers, a tile at a time; the softmax is online.",
        hosts.attention_flash,
        Gain("global store sectors", "attention_naive", 4.44, (2, 128, 64),
             "2 n^2 + 64 n floats; now 64 n and a sector per query: it grows with n"),
    ),
    Rung(
        "attention_backward", "attention backward", "Probabilities are computed again instead of stored.",
        hosts.attention_backward,
    ),
    Rung(
        "decode_paged", "decode", "A block per query head; a page table says where a token lies.",
        by(hosts.decode, "decode_paged"),
    ),
    Rung(
        "decode_grouped", "decode", "A block per K/V head: a key that is read serves its whole group.",
        by(hosts.decode, "decode_grouped"),
        Gain("global load sectors", "decode_paged", 3.66, (2, 8, 2, 128, 16, 64),
             "keys and values once for 4 heads; q as often as before"),
    ),
    Rung("adam_steps", "adam", "Three launches: m, v, weight.", by(hosts.adam, False)),
    Rung(
        "adam_fused", "adam", "One launch reads each array once.", by(hosts.adam, True),
        Gain("global load sectors", "adam_steps", 7 / 4, (4096,), "m, g; v, g; w, m, v; now w, g, m, v"),
    ),
)  # fmt: skip

LADDER = {rung.name: rung for rung in RUNGS}
