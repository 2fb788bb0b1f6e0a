"""The rung on Hopper's own instructions, as far as it can be shown without such a GPU.

It compiles offline; and its code, with the barriers, the copy engine and the tensor cores replaced by the
software below, runs on the simulator. What stands there is written from the PTX ISA's description of each,
not from the kernel: swizzled copies with zeros beyond the edges, the decoding of descriptors, the fragment's
layout, phases that end with their arrivals and bytes.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CudaKernel, NotSimulated, frontend, hosts, references
from mlsys_lab.kernels.launcher import COUNTERS, DYNAMIC_SHARED, FOLDER, KERNELS, kernel_of
from mlsys_lab.kernels.library import LADDER
from mlsys_lab.kernels.residency import REGISTERS, resources
from tests.kernels.conftest import needs_nvrtc

SOURCE = (FOLDER / "matmul_wgmma.cu").read_text(encoding="utf-8")
THREADS = KERNELS["matmul_wgmma"]["matmul_wgmma"]

SOFTWARE = """
struct TensorMap { const unsigned short* at; int rows, columns, high, wide; };

__device__ unsigned shared_address(const void* place) {
    return static_cast<unsigned>(__cvta_generic_to_shared(place));
}
__device__ unsigned char* at_shared(unsigned address) {
    return reinterpret_cast<unsigned char*>(__cvta_shared_to_generic(address));
}
// The swizzle of 128 bytes: bits 7-9 of an address are added to bits 4-6 without carry.
__device__ unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

// A barrier: bits 0-19 bytes to come, 20-29 arrivals to come, 30-39 arrivals of a phase, from 40 the phase.
typedef unsigned long long Barrier;
__device__ void start(Barrier* barrier, int arrivals) {
    *barrier = (Barrier)arrivals << 20 | (Barrier)arrivals << 30;
}
__device__ void change(Barrier* barrier, int arrivals, int bytes) {
    Barrier old = *(volatile Barrier*)barrier, seen = 0, now = 0;
    do {
        seen = old;
        Barrier open = (seen & 0xfffff) + bytes, due = (seen >> 20 & 0x3ff) - arrivals;
        Barrier all = seen >> 30 & 0x3ff, phase = seen >> 40;
        if (open == 0 && due == 0) due = all, ++phase;
        now = (open & 0xfffff) | due << 20 | all << 30 | phase << 40;
        old = atomicCAS(barrier, seen, now);
    } while (old != seen);
}
__device__ void arrive(Barrier* barrier) { __threadfence_block(); change(barrier, 1, 0); }
__device__ void arrive_and_expect(Barrier* barrier, int bytes) {
    if (threadIdx.x % 32 == 0) {
        change(barrier, 0, bytes);
        change(barrier, 1, 0);
    }
}
__device__ void wait(Barrier* barrier, int parity) {
    while ((*(volatile Barrier*)barrier >> 40) % 2 == parity);
    __threadfence_block();
}

// By a whole warp, which takes a thirty-second of the time of one thread here.
__device__ void fetch(void* to, const TensorMap* map, int column, int row, Barrier* barrier) {
    unsigned base = shared_address(to);
    for (int i = threadIdx.x % 32; i < map->high * map->wide / 8; i += 32) {
        int r = i / (map->wide / 8), s = i % (map->wide / 8) * 8;
        uint4 part = make_uint4(0, 0, 0, 0);  // rows are multiples of 16 bytes: eight are in or out
        if (row + r < map->rows && column + s < map->columns)
            part = *(const uint4*)(map->at + (row + r) * map->columns + column + s);
        if (base % 1024) part = make_uint4(~0u, ~0u, ~0u, ~0u);  // NaN: a swizzle wants this alignment
        *(uint4*)at_shared(swizzled(base + r * map->wide * 2 + s * 2)) = part;
    }
    __threadfence_block();
    __syncwarp();
    if (threadIdx.x % 32 == 0) change(barrier, 0, -map->high * map->wide * 2);
}

__device__ unsigned field(unsigned long long descriptor, int bit) {
    return (unsigned)(descriptor >> bit & 0x3fff) << 4;
}
__device__ float number(unsigned bits) { return __int_as_float(bits << 16); }

// Warp w of a group has rows 16 w to 16 w + 15; of each 8 columns lane l has columns 2 (l % 4) and the next,
// in rows l / 4 and l / 4 + 8.
__device__ void product(float (&sum)[128], unsigned long long a, unsigned long long b) {
    if (a >> 62 != 1 || b >> 62 != 1) sum[0] = __int_as_float(-1);  // another swizzle: NaN
    int lane = threadIdx.x % 32, low = threadIdx.x / 32 % 4 * 16 + lane / 4;
    for (int k = 0; k < 16; ++k) {
        float x[2];
        for (int h = 0; h < 2; ++h) {  // contiguous along k: 8 rows of 128 bytes, then the second stride
            int row = low + 8 * h;
            unsigned at = field(a, 0) + row % 8 * 128 + row / 8 * field(a, 32) + 2 * k;
            x[h] = number(*(const unsigned short*)at_shared(swizzled(at)));
        }
#pragma unroll
        for (int i = 0; i < 128; i += 4) {  // contiguous along n: 64 columns, then the first stride
            int column = i / 4 * 8 + lane % 4 * 2;
            unsigned at = field(b, 0) + column % 64 * 2 + column / 64 * field(b, 16);
            at += k % 8 * 128 + k / 8 * field(b, 32);
            unsigned pair = *(const unsigned*)at_shared(swizzled(at));
            sum[i] += x[0] * number(pair & 0xffff), sum[i + 1] += x[0] * number(pair >> 16);
            sum[i + 2] += x[1] * number(pair & 0xffff), sum[i + 3] += x[1] * number(pair >> 16);
        }
    }
}

// What was ordered is done as late as it may be: when its group is waited for.
struct Ordered { unsigned long long a[16], b[16]; int made, closed[4], groups; };
__device__ void open_group() {}
__device__ void multiply(Ordered& ordered, unsigned long long a, unsigned long long b) {
    ordered.a[ordered.made] = a, ordered.b[ordered.made++] = b;
}
__device__ void close_group(Ordered& ordered) { ordered.closed[ordered.groups++] = ordered.made; }
template <int PENDING> __device__ void wait_for_groups(Ordered& ordered, float (&sum)[128]) {
    if (ordered.groups <= PENDING) return;
    int done = ordered.closed[ordered.groups - PENDING - 1];
    for (int i = 0; i < done; ++i) product(sum, ordered.a[i], ordered.b[i]);
    for (int i = done; i < ordered.made; ++i)
        ordered.a[i - done] = ordered.a[i], ordered.b[i - done] = ordered.b[i];
    for (int i = 0; i < PENDING; ++i) ordered.closed[i] = ordered.closed[i + ordered.groups - PENDING] - done;
    ordered.made -= done, ordered.groups = PENDING;
}
"""


def emulated(stages: int) -> str:
    """The rung's source with software for what only Hopper has, and a ring of so many stages."""
    head, rest = SOURCE.split("// What `cuTensorMapEncodeTiled` makes", 1)
    helpers, kernel = rest.split("// ---- The kernel. ----", 1)
    described = re.search(r"__device__ unsigned long long described\(.*?\n}\n", helpers, re.DOTALL)
    assert described is not None
    maps = "const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,"
    pointers = "const unsigned short* a_at, const unsigned short* b_at, int a_columns, int b_columns,"
    local = (
        "    TensorMap a_map = {a_at, m, a_columns, HIGH, BOX}, b_map = {b_at, k, b_columns, DEEP, BOX};\n"
        "    extern __shared__"
    )
    fence = 'asm volatile("fence.proxy.async.shared::cta;" ::: "memory");'
    changes = {
        maps: pointers,
        "    extern __shared__": local,
        fence: "__threadfence_block();",
        "if (lane > 0) return;": "",
        "float sum[128] = {};": "float sum[128] = {}; Ordered ordered = {};",
        "sum, described(a ": "ordered, described(a ",
        "close_group()": "close_group(ordered)",
        "wait_for_groups<1>()": "wait_for_groups<1>(ordered, sum)",
        "wait_for_groups<0>()": "wait_for_groups<0>(ordered, sum)",
    }
    for old, new in changes.items():
        assert kernel.count(old) == 1, old
        kernel = kernel.replace(old, new)
    ring = "constexpr int STAGES = 4; "
    assert head.count(ring) == 1
    return head.replace(ring, f"constexpr int STAGES = {stages};") + SOFTWARE + described[0] + kernel


@needs_nvrtc
@pytest.mark.parametrize(
    ("sizes", "grid", "stages"),
    [
        # Four tiles by one block, two steps each: the ring goes around twice; no edge is a tile's.
        ((130, 264, 72), 1, 4),
        # One tile, six steps and the shortest ring, in which a stage that is freed too early is overwritten
        # at once; an odd width, where numbers are stored one by one.
        ((65, 131, 330), 1, 2),
        ((1, 1, 1), 3, 4),  # two blocks have nothing to do
    ],
)
def test_its_ring_layouts_and_edges_are_right_with_software_in_the_place_of_hopper(sizes, grid, stages):
    a, b = references.inputs("matmul bf16", sizes)
    m, n, k = sizes
    x, y = (hosts.padded(given.view(np.uint16)) for given in (a, b))
    c = np.full((m, n), np.nan, np.float32)
    kernel = CudaKernel(emulated(stages), "matmul_wgmma", arch="sm_90")
    launch = kernel[grid, THREADS, DYNAMIC_SHARED["matmul_wgmma"]]
    report = launch(x, y, x.shape[1], y.shape[1], c, m, n, k, seconds=120)
    assert report.errors == []
    exact = references.expected("matmul bf16", (a, b))
    np.testing.assert_allclose(c, exact, rtol=2e-5, atol=2e-6 * np.abs(exact).max())


def test_the_strips_of_tiles_cover_every_tile_once():
    head, rest = SOURCE.split("// What `cuTensorMapEncodeTiled` makes", 1)
    place_of = re.search(r"__device__ void place_of\(.*?\n}\n", rest, re.DOTALL)
    assert place_of is not None
    kernel = """extern "C" __global__ void k(int* top, int* left, int m, int n) {
        place_of(threadIdx.x, m, n, top + threadIdx.x, left + threadIdx.x);
    }"""
    for rows, columns in ((20, 3), (8, 1), (1, 5), (9, 9)):
        top, left = np.full((2, rows * columns), -1, np.int32)
        m, n = 128 * rows - 100, 256 * columns - 255
        CudaKernel(head + place_of[0] + kernel)[1, rows * columns](top, left, m, n)
        tiles = set(zip((top // 128).tolist(), (left // 256).tolist(), strict=True))
        assert tiles == {(i, j) for i in range(rows) for j in range(columns)}
        assert not (top % 128).any()
        assert not (left % 256).any()
        assert (np.diff(top[: min(rows, 8)]) == 128).all()  # down a strip first


@needs_nvrtc
def test_it_compiles_to_machine_code_of_sm_90a_without_spills_or_waits_between_products():
    log = frontend.to_cubin(SOURCE, "sm_90a")[1]
    assert "serialized" not in log  # what the assembler says when it makes the products wait for each other
    has = resources(SOURCE, "sm_90a")["matmul_wgmma"]
    assert (has.spill_bytes, has.stack_bytes) == (0, 0)
    assert 128 < has.registers <= REGISTERS // THREADS  # the sums alone take 128
    assert has.shared_bytes + DYNAMIC_SHARED["matmul_wgmma"] <= 227 << 10


def test_its_ptx_holds_a_product_per_16_steps_and_a_copy_per_box():
    ptx = frontend.to_ptx(SOURCE, "sm_90a")
    assert ".target sm_90a" in ptx
    assert ptx.count("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16") == 4
    assert (
        ptx.count("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes") == 1 + 4
    )


def test_the_copy_engine_reads_what_its_gain_predicts():
    gain = LADDER["matmul_wgmma"].gain
    m, n, k = gain.sizes
    stage = int(re.search(r"constexpr int DEEP|DEEP = (\d+)", SOURCE)[1])
    tiles = hosts.blocks_for(m, 128) * hosts.blocks_for(n, 256)
    sectors = tiles * hosts.blocks_for(k, stage) * (128 + 256) * stage * 2 // 32
    before = LADDER[gain.over].run(*references.inputs("matmul bf16", gain.sizes))[1]
    assert COUNTERS[gain.counter](before) / sectors == pytest.approx(gain.factor, rel=0.02)


def test_on_the_simulator_it_names_the_instruction_and_its_line():
    line = next(i for i, text in enumerate(SOURCE.splitlines(), 1) if "wgmma.fence" in text)
    said = rf"^line {line}: the instruction wgmma\.fence\S+ is not simulated; a GPU of sm_90a runs it$"
    with pytest.raises(NotSimulated, match=said):
        LADDER["matmul_wgmma"].run(*references.inputs("matmul bf16", (8, 8, 8)))


@pytest.fixture
def without_nvrtc(monkeypatch):
    monkeypatch.setattr(frontend, "nvrtc", lambda: None)
    monkeypatch.setattr(frontend.importlib.util, "find_spec", lambda name: None)
    kernel_of.cache_clear()
    yield
    kernel_of.cache_clear()


def test_a_machine_without_any_compiler_names_them_too(without_nvrtc):
    with pytest.raises(NotSimulated, match=r"wgmma\.fence"):
        LADDER["matmul_wgmma"].run(*references.inputs("matmul bf16", (8, 8, 8)))


@needs_nvrtc
def test_the_address_of_a_parameter_is_refused_with_its_line():
    source = """struct S { int v[20]; };
    extern "C" __global__ void k(const __grid_constant__ S s, int* y) {
        asm volatile("prefetch.global.L2 [%0];" :: "l"(&s));
        y[0] = 1;
    }"""
    with pytest.raises(NotSimulated, match=r"^line \d: mov\.[bu]64 of the address of a parameter"):
        CudaKernel(source)
