"""What a launch on a GPU hands to CuPy and to the driver: stand-ins keep what they are given."""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CudaKernel, frontend, gpu, hosts, references, tensor_map
from mlsys_lab.kernels.launcher import DYNAMIC_SHARED
from mlsys_lab.kernels.library import LADDER
from mlsys_lab.kernels.tensor_map import Tiles, encoded
from tests.kernels.conftest import needs_nvrtc


class Driver:
    """Stands for libcuda: keeps what it is asked for and writes a pattern."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.asked = status, list[tuple[Any, ...]]()

    def cuTensorMapEncodeTiled(self, *given: Any) -> int:
        self.asked.append(given)
        assert given[0].value % 64 == 0
        ctypes.memset(given[0].value, 7, 128)
        return self.status


class Lying:
    """Stands for an array on the GPU."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.data = array, SimpleNamespace(ptr=0x1000)
        self.__cuda_array_interface__: dict[str, int] = {}


class CuPy:
    """Stands for CuPy on a GPU of a compute capability: a launch writes 5 into the last array."""

    def __init__(self, capability: str) -> None:
        self.capability, self.launches, self.modules = capability, list[Any](), list[tuple[str, bytes]]()
        self.cuda = SimpleNamespace(
            is_available=lambda: True, Device=lambda: SimpleNamespace(compute_capability=self.capability)
        )
        self.asarray, self.asnumpy = Lying, lambda lying: lying.array

    def RawModule(
        self,
        path: str = "",
        code: str = "",
        options: tuple[str, ...] = (),
        enable_cooperative_groups: bool = False,
    ) -> Any:
        self.cooperative = enable_cooperative_groups
        self.modules.append((Path(path).suffix or "code", Path(path).read_bytes() if path else code.encode()))

        def call(grid: Any, block: Any, arguments: tuple[Any, ...], shared_mem: int) -> None:
            self.launches.append((grid, block, arguments, shared_mem))
            [a for a in arguments if isinstance(a, Lying)][-1].array[...] = 5

        class Kernel:
            max_dynamic_shared_size_bytes = 0
            __call__ = staticmethod(call)

            def compile(self) -> None:
                assert Path(path).is_file()

        self.kernel = Kernel()
        return SimpleNamespace(get_function=lambda name: self.kernel)


@pytest.fixture
def hopper(monkeypatch) -> CuPy:
    cupy = CuPy("90")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(tensor_map, "driver", Driver)
    return cupy


@needs_nvrtc
def test_the_wgmma_rung_hands_over_two_maps_a_pointer_and_the_sizes(hopper):
    arrays = references.inputs("matmul bf16", (130, 300, 72))
    result, _ = LADDER["matmul_wgmma"].run(*arrays, device="gpu")
    assert (result == 5).all()
    assert result.shape == (130, 300)
    ((grid, block, given, shared),) = hopper.launches
    assert (grid, block, shared) == ((4, 1, 1), (288, 1, 1), DYNAMIC_SHARED["matmul_wgmma"])
    for struct in given[:2]:  # CuPy passes an array of one element by value
        assert (struct.size, struct.nbytes, struct.tobytes()) == (1, 128, b"\7" * 128)
    assert [int(n) for n in given[3:]] == [130, 300, 72]
    assert all(type(n) is np.int32 for n in given[3:])
    assert hopper.kernel.max_dynamic_shared_size_bytes == shared
    ((kind, data),) = hopper.modules
    assert kind == ".cubin"
    assert data.startswith(b"\x7fELF")


def test_without_our_compiler_the_rungs_own_ptx_goes_to_the_driver(hopper, monkeypatch):
    for place in (frontend, gpu):
        monkeypatch.setattr(place, "nvrtc", lambda: None)
    LADDER["matmul_wgmma"].run(*references.inputs("matmul bf16", (8, 8, 8)), device="gpu")
    ((kind, data),) = hopper.modules
    assert kind == ".ptx"
    assert b".target sm_90a" in data


def test_on_another_gpu_the_rung_says_which_one_it_is_for(hopper):
    hopper.capability = "80"
    with pytest.raises(RuntimeError, match="matmul_wgmma is for sm_90a alone, and this GPU is sm_80"):
        LADDER["matmul_wgmma"].run(*references.inputs("matmul bf16", (8, 8, 8)), device="gpu")


def test_numbers_arrays_and_structs_are_handed_over_as_cuda_takes_them(hopper):
    source = """struct Pair { int a, b; };
    extern "C" __global__ void k(const float* x, Pair p, int n, float f, float* y) {
        y[0] = x[0] + n + f + p.a;
    }"""
    x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
    CudaKernel(source)[2, 32](x, b"12345678", 3, 0.5, y, device="gpu")
    given = hopper.launches[0][2]
    assert given[0].array is x
    assert (given[1].size, given[1].tobytes()) == (1, b"12345678")
    assert (type(given[2]), type(given[3])) == (np.int32, np.float32)
    assert (y == 5).all()


def test_a_matrix_is_told_to_the_driver_innermost_axis_first():
    matrix, library = np.zeros((30, 72), np.uint16), Driver()
    assert encoded(Tiles(matrix, (128, 64)), 0xABC000, library) == b"\7" * 128
    ((_, kind, rank, address, sizes, strides, box, steps, interleave, swizzle, promotion, fill),) = (
        library.asked
    )
    assert (kind.value, rank.value, address.value) == (9, 2, 0xABC000)
    assert (list(sizes), list(strides), list(box), list(steps)) == ([72, 30], [144], [64, 128], [1, 1])
    assert [x.value for x in (interleave, swizzle, promotion, fill)] == [0, 3, 2, 0]
    with pytest.raises(RuntimeError, match="error 1"):
        encoded(Tiles(matrix, (128, 64)), 0, Driver(1))


def test_the_constants_are_those_of_cuda_h():
    found = (h for f in frontend.wheels() if (h := f / "include" / "cuda.h").is_file())
    header = next(found, None)
    if header is None:
        pytest.skip("needs cuda.h of nvidia-cuda-runtime")
    text = header.read_text(encoding="utf-8")
    for kind, name, ours in (
        ("CUtensorMapDataType", "CU_TENSOR_MAP_DATA_TYPE_BFLOAT16", tensor_map.BFLOAT16),
        ("CUtensorMapSwizzle", "CU_TENSOR_MAP_SWIZZLE_128B", tensor_map.SWIZZLE_128B),
        ("CUtensorMapL2promotion", "CU_TENSOR_MAP_L2_PROMOTION_L2_128B", tensor_map.L2_PROMOTION_128B),
        ("CUtensorMapInterleave", "CU_TENSOR_MAP_INTERLEAVE_NONE", tensor_map.NO_INTERLEAVE),
        ("CUtensorMapFloatOOBfill", "CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE", tensor_map.ZEROS_OUTSIDE),
    ):
        body = re.search(rf"^typedef enum {kind}_enum {{(.*?)}}", text, re.DOTALL | re.MULTILINE)
        assert body is not None
        names = re.findall(r"^\s*(CU_\w+)", body[1], re.MULTILINE)
        assert names.index(name) == ours
    assert re.search(rf"alignas\({tensor_map.ALIGNMENT}\)\s+#", text)
    assert "define CU_TENSOR_MAP_NUM_QWORDS 16" in text


@pytest.mark.parametrize(
    ("matrix", "box", "says"),
    [
        (
            np.zeros((4, 12), np.uint16),
            (64, 64),
            "rows of a multiple of 16 bytes, got 24: pad to a multiple of 8",
        ),
        (np.zeros((4, 8), np.float32), (64, 64), "matrix of bfloat16 with elements, got float32"),
        (np.zeros((8, 4), np.uint16).T, (64, 64), "expected a contiguous matrix"),
        (np.zeros((0, 8), np.uint16), (64, 64), r"got uint16 of shape \(0, 8\)"),
        (np.zeros((4, 8), np.uint16), (64, 128), r"128 bytes a row, got \(64, 128\)"),
        (np.zeros((4, 8), np.uint16), (512, 64), "at most 256 rows"),
    ],
)
def test_what_the_copy_engine_cannot_fetch_is_refused_with_the_remedy(matrix, box, says):
    with pytest.raises(ValueError, match=says):
        Tiles(matrix, box)


def test_padding_adds_zeros_up_to_a_multiple_of_16_bytes_and_no_copy_where_there_is_one():
    x = np.arange(15, dtype=np.float32).reshape(3, 5).astype(ml_dtypes.bfloat16).view(np.uint16)
    wide = hosts.padded(x)
    assert wide.shape == (3, 8)
    np.testing.assert_array_equal(wide[:, :5], x)
    assert not wide[:, 5:].any()
    assert hosts.padded(wide) is wide


def test_a_machine_without_a_driver_says_so(monkeypatch):
    tensor_map.driver.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")  # whose driver's name no other system has
    if os.name == "nt":
        pytest.skip("there may be a driver")
    with pytest.raises(RuntimeError, match=r"no GPU: there is no driver \(nvcuda\.dll\)"):
        tensor_map.driver()


@pytest.fixture
def goals(monkeypatch) -> Any:
    """The benchmark's modules lie beside each other, not in a package."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("_gpu_goals")


@needs_nvrtc
def test_the_benchmark_repeats_a_rungs_launches_and_nothing_else(hopper, goals):
    go = goals.Recorder(hopper)
    LADDER["sum_two_pass"].host(go, np.ones(100_000, np.float32))
    LADDER["matmul_wgmma"].host(go, *references.inputs("matmul bf16", (300, 520, 64)))
    first = list(hopper.launches)
    assert [(grid[0], block[0], shared) for grid, block, _, shared in first] == [
        (25, 256, 0), (1, 256, 0), (9, 288, DYNAMIC_SHARED["matmul_wgmma"]),
    ]  # fmt: skip
    go.again()
    assert [id(launch[2]) for launch in hopper.launches[3:]] == [id(launch[2]) for launch in first]


@needs_nvrtc
def test_the_benchmarks_ceilings_are_what_was_done_over_the_time_it_took(hopper, goals):
    class Clocked:
        """A GPU on which everything takes 2 microseconds."""

        cupy, torch = hopper, SimpleNamespace(mm=lambda a, b: None)
        normal = staticmethod(lambda *shape, bf16=False: SimpleNamespace(copy_=lambda other: None))
        ours = staticmethod(lambda tensor: np.zeros(1, np.float32))

        def seconds(self, step: Any) -> float:
            step()
            return 2e-6

    found = goals.ceilings(Clocked(), True)
    assert found["copy_bytes_per_s"] == pytest.approx(8 * 2**24 / 2e-6)
    assert found["bf16_flops_per_s"] == pytest.approx(2 * 1024**3 / 2e-6)
    ((grid, block, given, _), *_) = hopper.launches
    multiply_adds = grid[0] * block[0] * int(given[3]) * 64
    assert found["float32_flops_per_s"] == pytest.approx(2 * multiply_adds / 2e-6)


@needs_nvrtc
@pytest.mark.parametrize(
    ("sync", "cooperative"), [("cooperative_groups::this_grid().sync();", True), ("", False)]
)
def test_a_kernel_that_waits_for_its_grid_is_launched_cooperatively(hopper, sync, cooperative):
    source = f'#include <cooperative_groups.h>\nextern "C" __global__ void k(float* y) {{ {sync} y[0] = 1; }}'
    CudaKernel(source, arch="sm_90")[2, 32](np.zeros(4, np.float32), device="gpu")
    assert hopper.cooperative is cooperative
