"""What benchmarks/gpu.py measures: the ceilings of a GPU, and our kernels beside the fastest of others.

Times are of CUDA events around the launches alone. Before each, the inputs are drawn anew, the L2 cache is
overwritten, and the GPU is kept busy while the host enqueues, so that no launch waits for Python.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from measure import Row, row

from mlsys_lab.kernels import CudaKernel, references
from mlsys_lab.kernels.gpu import bound
from mlsys_lab.kernels.launch import triple
from mlsys_lab.kernels.launcher import KERNELS, Launcher, file_of, kernel_of
from mlsys_lab.kernels.library import LADDER, Rung

Step = Callable[[], Any]

#: Sizes at which every rung is held to its definition: no multiples of blocks and tiles.
CHECKED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("add", "saxpy", "copy", "sum", "adam"), (100_003,)), "scan": (5003,),
    "transpose": (517, 901), "histogram": (100_003, 61), "softmax": (37, 1501), "layernorm": (37, 1501),
    "matmul": (301, 517, 203), "matmul bf16": (301, 517, 203), "attention": (3, 333, 64),
    "attention backward": (3, 333, 64), "decode": (5, 8, 2, 128, 16, 300),
}  # fmt: skip
#: Of the goals: elements, rows of 4096, the side of a matrix, tokens of 32 heads; without and with --quick.
SIZES = {False: (1 << 28, 32_768, 8192, 4096), True: (1 << 20, 512, 512, 256)}
TOLERANCE = 1e-4  # of the largest value: sums of 1e5 numbers in float32


def checked(rung: Rung, device: str = "gpu") -> dict[str, Any]:
    """Run a rung and hold it to its definition in float64.

    Returns:
        `error`: the largest, of the largest value; NaN where an element was not written.
    """
    sizes = CHECKED[rung.family]
    arrays = references.inputs(rung.family, sizes, seed=int(np.random.default_rng().integers(2**31)))
    result, _ = rung.run(*arrays, device=device)
    exact = references.expected(rung.family, arrays)
    if rung.name == "copy_strided":
        exact = exact[::32]
    pairs = zip(result, exact, strict=True) if isinstance(result, tuple) else [(result, exact)]
    # A sum of normal numbers may be near zero by chance, while its roundings are those of what was added.
    least = float(np.linalg.norm(arrays[0])) if rung.family == "sum" else 1.0
    error = max(float(np.abs(got - want).max() / max(least, np.abs(want).max())) for got, want in pairs)
    return {"kernel": rung.name, "sizes": list(sizes), "error": error, "pass": error <= TOLERANCE}


class Recorder(Launcher):
    """A launcher that keeps its launches, to be repeated without the host's part."""

    def __init__(self, cupy: Any) -> None:
        super().__init__("gpu")
        self.cupy, self.steps = cupy, list[Step]()

    def __call__(self, kernel: str, grid: Any, *arguments: Any, shared: int = 0) -> None:
        one, block = kernel_of(kernel), KERNELS[file_of(kernel)][kernel]
        shape = triple(grid), triple(block), shared
        launch, _ = bound(self.cupy, one.source, one.name, one.arch, *shape, arguments)
        launch()
        self.steps.append(launch)

    def again(self) -> None:
        for step in self.steps:
            step()


class Gpu:
    """torch and CuPy on one GPU, and a clock of events."""

    def __init__(self, torch: Any, cupy: Any) -> None:
        self.torch, self.cupy = torch, cupy
        torch.backends.cuda.matmul.allow_tf32 = False
        self.cache = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")  # several times the L2

    @property
    def name(self) -> str:
        return str(self.torch.cuda.get_device_name())

    def normal(self, *shape: int, bf16: bool = False) -> Any:
        kind = self.torch.bfloat16 if bf16 else self.torch.float32
        return self.torch.randn(shape, dtype=kind, device="cuda")

    def ours(self, tensor: Any) -> Any:
        """A tensor as CuPy's array over the same memory; bfloat16 as its bits."""
        bits = tensor.view(self.torch.int16) if tensor.dtype == self.torch.bfloat16 else tensor
        return self.cupy.asarray(bits)

    def theirs(self, array: Any) -> Any:
        return self.torch.as_tensor(array, device="cuda")

    def seconds(self, step: Step) -> float:
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.cache.zero_()
        self.torch.cuda._sleep(1_000_000)  # about half a millisecond
        start.record()
        step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def recorder(self) -> Recorder:
        return Recorder(self.cupy)

    def renew(self, tensors: list[Any]) -> None:
        for tensor in tensors:
            tensor.normal_()


@dataclass
class Case:
    """Our launches beside others' on the same tensors.

    Attributes:
        ours: repeats our launches; `result` gives their tensor.
        peers: by name what runs, and what our time may be of its time; None where it is only reported.
        renewed: tensors that are drawn anew for every run.
        moved: bytes that have to be read and written, for the ceiling of the copy.
        copy_bar: what our time may be of a copy's that moves as much.
        flops: floating-point operations, for the rate.
        tolerance: of the first peer's result, relative in the 2-norm.
    """

    name: str
    ours: Step
    result: Step
    peers: dict[str, tuple[Step, float | None]]
    renewed: list[Any]
    moved: int = 0
    copy_bar: float | None = None
    flops: int = 0
    tolerance: float = 1e-4


@dataclass
class Measured:
    """What came of the cases."""

    rows: list[Row] = field(default_factory=list)
    rates: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def measured(
    gpu: Any, case: Case, copy_bytes_per_s: float, rounds: int, judged: bool, into: Measured
) -> None:
    """Measure a case: in every round fresh data, then ours and each of the peers."""
    peers = dict(case.peers)
    for name, (step, _) in case.peers.items():
        try:
            step()  # compiles
        except Exception as reason:  # whatever a library raises where it cannot: the others are measured
            into.left_out.append(f"{case.name}, {name}: {' '.join(str(reason).split())[:160]}")
            del peers[name]
    for _ in range(3):
        case.ours()
    mine, theirs, wanted = list[float](), {name: list[float]() for name in peers}, None
    for _ in range(rounds):
        gpu.renew(case.renewed)
        mine.append(1e6 * gpu.seconds(case.ours))
        for name, (step, _) in peers.items():
            theirs[name].append(1e6 * gpu.seconds(step))
    for step, _ in list(peers.values())[:1]:
        wanted = step()
    if wanted is not None:
        off = apart(case.result(), wanted)
        if not off <= case.tolerance:
            raise ArithmeticError(f"{case.name}: {off:.2g} away from {next(iter(peers))}")
    bars = {name: bar if judged else None for name, (_, bar) in peers.items()}
    into.rows += [row(case.name, name, mine, theirs[name], "us", bars[name]) for name in peers]
    if case.moved:
        copy = [1e6 * case.moved / copy_bytes_per_s] * rounds
        into.rows.append(row(case.name, "copy", mine, copy, "us", case.copy_bar if judged else None))
    amount, unit = (case.flops, "TFLOP/s") if case.flops else (case.moved, "TB/s")
    for name, times in {"ours": mine, **theirs}.items():
        rate = amount / statistics.median(times) / 1e6
        into.rates.append({"case": case.name, "who": name, "rate": rate, "unit": unit})


def apart(got: Any, wanted: Any) -> float:
    """How far two tensors are apart, relative to the second."""
    got, wanted = got.double().reshape(-1), wanted.double().reshape(-1)
    return float((got - wanted).norm() / wanted.norm())


FMA = """extern "C" __global__ void chains(float* y, float b, float c, int turns) {
    float a[8];
    for (int i = 0; i < 8; ++i) a[i] = threadIdx.x + i;
    for (int t = 0; t < turns; ++t)
#pragma unroll
        for (int u = 0; u < 64; ++u) a[u % 8] = a[u % 8] * b + c;
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += a[i];
    y[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}"""


def ceilings(gpu: Gpu, quick: bool) -> dict[str, float]:
    """The most that this GPU does: bytes copied, float32 multiply-adds, and cuBLAS's bfloat16 products."""
    n, side, rounds = (1 << 24, 1024, 3) if quick else (1 << 30, 8192, 10)
    x, y = gpu.normal(n), gpu.normal(n)
    blocks, turns = 16 * 132, 100 if quick else 2000
    out = gpu.ours(gpu.normal(blocks * 256))
    one = CudaKernel(FMA)
    shape = (blocks, 1, 1), (256, 1, 1), 0
    fma, _ = bound(gpu.cupy, one.source, one.name, one.arch, *shape, (out, 0.999, 0.001, turns))
    a, b = gpu.normal(side, side, bf16=True), gpu.normal(side, side, bf16=True)
    steps: dict[str, tuple[Step, float]] = {
        "copy_bytes_per_s": (lambda: y.copy_(x), 8.0 * n),
        "float32_flops_per_s": (fma, 2.0 * 64 * turns * 256 * blocks),
        "bf16_flops_per_s": (lambda: gpu.torch.mm(a, b), 2.0 * side**3),
    }
    found = {}
    for name, (step, amount) in steps.items():
        for _ in range(3):
            step()
        found[name] = amount / statistics.median(gpu.seconds(step) for _ in range(rounds))
    return found


def recorded(gpu: Gpu, rung: str, *tensors: Any, **options: Any) -> tuple[Step, Step]:
    """A rung's launches on tensors, to be repeated; and its result as a tensor."""
    go = gpu.recorder()
    result = LADDER[rung].host(go, *(gpu.ours(t) for t in tensors), **options)
    return go.again, lambda: gpu.theirs(result)


def cases(gpu: Gpu, quick: bool) -> list[Callable[[], Case]]:
    """The table of goals; each makes its tensors when it is called, so that only one case's lie there."""
    torch = gpu.torch
    n, rows, side, tokens = SIZES[quick]

    def add() -> Case:
        x, y, z = gpu.normal(n), gpu.normal(n), gpu.normal(n)
        peers: dict[str, tuple[Step, float | None]] = {"torch.add": (lambda: torch.add(x, y, out=z), None)}
        mine = recorded(gpu, "vector_add_float4", x, y)
        return Case("vector add", *mine, peers, [x, y], moved=12 * n, copy_bar=1 / 0.95)

    def copy() -> Case:
        x, y = gpu.normal(n), gpu.normal(n)
        mine = recorded(gpu, "copy", x)
        return Case("copy", *mine, {"torch copy": (lambda: y.copy_(x), 1 / 0.95)}, [x], moved=8 * n)

    def reduction() -> Case:
        x = gpu.normal(n)
        array = gpu.ours(x)
        peers: dict[str, tuple[Step, float | None]] = {
            "torch.sum": (lambda: x.sum(), 1.0),
            "CUB (cupy.sum)": (lambda: gpu.theirs(array.sum()), 1.0),
        }
        shifted = [Shifted(x)]  # a sum near zero would say nothing about its relative error
        mine = recorded(gpu, "sum_two_pass", x)
        return Case("reduction", *mine, peers, shifted, moved=4 * n, copy_bar=1 / 0.9)

    def softmax() -> Case:
        x = gpu.normal(rows, 4096)
        theirs = torch.compile(lambda t: torch.softmax(t, 1))
        mine = recorded(gpu, "softmax_online", x)
        peers: dict[str, tuple[Step, float | None]] = {"torch.compile": (lambda: theirs(x), 1.0)}
        return Case("softmax", *mine, peers, [x], moved=8 * x.numel(), copy_bar=1 / 0.85)

    def layernorm() -> Case:
        x, gain, bias = gpu.normal(rows, 4096), gpu.normal(4096), gpu.normal(4096)
        theirs = torch.compile(lambda t, g, b: torch.nn.functional.layer_norm(t, (4096,), g, b))
        mine = recorded(gpu, "layernorm_welford", x, gain, bias)
        peers: dict[str, tuple[Step, float | None]] = {"torch.compile": (lambda: theirs(x, gain, bias), 1.0)}
        return Case("layernorm", *mine, peers, [x, gain, bias], moved=8 * x.numel(), copy_bar=1 / 0.85)

    def product(rung: str, name: str, bf16: bool, bar: float | None) -> Callable[[], Case]:
        def made() -> Case:
            a, b = gpu.normal(side, side, bf16=bf16), gpu.normal(side, side, bf16=bf16)
            peers: dict[str, tuple[Step, float | None]] = {"cuBLAS": (lambda: torch.mm(a, b), bar)}
            mine = recorded(gpu, rung, a, b)
            # cuBLAS rounds its results to bfloat16, ours stay float32.
            return Case(name, *mine, peers, [a, b], flops=2 * side**3, tolerance=1e-2 if bf16 else 1e-4)

        return made

    def attention() -> Case:
        q, k, v = (gpu.normal(32, tokens, 64) for _ in range(3))
        flops = 4 * 32 * tokens * tokens * 64 // 2  # half of the scores are masked

        def sdpa(narrow: bool) -> Any:
            backend = torch.nn.attention.SDPBackend
            only = backend.FLASH_ATTENTION if narrow else backend.EFFICIENT_ATTENTION
            given = [t[None].to(torch.bfloat16 if narrow else torch.float32) for t in (q, k, v)]

            def step() -> Any:
                with torch.nn.attention.sdpa_kernel(only):
                    return torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True)

            return step

        mine = recorded(gpu, "attention_flash", q, k, v, causal=True)
        peers: dict[str, tuple[Step, float | None]] = {
            "SDPA, float32": (sdpa(False), None), "SDPA flash, bf16": (sdpa(True), 1 / 0.5),
        }  # fmt: skip
        # Not drawn anew: the bfloat16 copies that flash wants would have to be made between.
        return Case("attention, causal", *mine, peers, [], flops=flops, tolerance=1e-2)

    return [
        add, copy, reduction, softmax, layernorm,
        product("matmul_warp_tile", "matmul float32", False, 1 / 0.8),
        product("matmul_wmma", "matmul bf16, WMMA", True, None),
        product("matmul_wgmma", "matmul bf16, wgmma", True, 1 / 0.7),
        attention,
    ]  # fmt: skip


@dataclass
class Shifted:
    """A tensor that is drawn around 1."""

    tensor: Any

    def normal_(self) -> None:
        self.tensor.normal_(mean=1.0)
