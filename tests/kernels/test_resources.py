"""Registers, spills and occupancy from machine code that is made without a GPU."""

from __future__ import annotations

import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CompileError
from mlsys_lab.kernels.frontend import nvrtc
from mlsys_lab.kernels.launcher import FOLDER, KERNELS
from mlsys_lab.kernels.resources import GPUS, blocks_resident, main, occupancy, resources

needs_nvrtc = pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not installed")


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("file", KERNELS)
def test_every_kernel_of_the_ladder_compiles_to_machine_code_without_spills(file, arch):
    found = resources((FOLDER / f"{file}.cu").read_text(encoding="utf-8"), arch)
    assert set(found) == set(KERNELS[file])
    for name, has in found.items():
        assert (has.spill_bytes, has.stack_bytes) == (0, 0), name
        assert 0 < has.registers <= 128, name  # two blocks of 256 threads fit


@needs_nvrtc
def test_shared_memory_and_spills_are_read_from_the_assemblers_notes():
    source = """
    extern "C" __global__ void tile(float* y) {
        __shared__ float a[40];
        a[threadIdx.x] = y[threadIdx.x];
        __syncthreads();
        y[threadIdx.x] = a[31 - threadIdx.x];
    }
    extern "C" __global__ __launch_bounds__(1024) void many(float* y) {
        float v[200];
        for (int i = 0; i < 200; ++i) v[i] = y[i * 1024 + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < 200; ++i) y[(i + 200) * 1024 + threadIdx.x] = v[i] + v[199 - i];
    }"""
    found = resources(source, "sm_80")
    assert (found["tile"].shared_bytes, found["tile"].spill_bytes) == (160, 0)
    # 64 registers for each of 1024 threads: most of the 200 values cannot stay.
    assert found["many"].registers <= 64
    assert found["many"].spill_bytes + found["many"].stack_bytes > 0


@pytest.mark.parametrize(
    ("gpu", "threads", "registers", "shared", "blocks", "limit"),
    [
        # The arithmetic of NVIDIA's occupancy calculator by hand: a warp's registers come in 256s, a block's
        # shared memory in 128s and with 1 KiB more.
        ("A100", 256, 32, 0, 8, "warps"),
        (
            "A100",
            1024,
            33,
            0,
            1,
            "registers",
        ),  # 33 x 32 -> 1280 a warp: 51 warps, 48 in fours, one block of 32
        ("A100", 256, 128, 8 << 10, 2, "registers"),
        ("A100", 128, 16, 48 << 10, 3, "shared"),  # 164 / 49
        ("H100", 128, 16, 48 << 10, 4, "shared"),  # 228 / 49
        ("A100", 32, 16, 0, 32, "blocks"),
        ("L4", 1024, 32, 0, 1, "warps"),  # 48 warps hold one block of 32
    ],
)
def test_resident_blocks_are_as_the_occupancy_calculator_has_them(
    gpu, threads, registers, shared, blocks, limit
):
    limits = blocks_resident(GPUS[gpu], threads, registers, shared)
    assert min(limits.values()) == blocks == limits[limit]
    assert occupancy(GPUS[gpu], threads, registers, shared) == blocks * threads / 32 / GPUS[gpu].warps


@needs_nvrtc
def test_the_table_has_a_line_for_each_kernel(capsys):
    assert main(["--gpu", "A100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [k for kernels in KERNELS.values() for k in kernels]
    padded = next(line for line in lines if line.startswith("transpose_padded"))
    assert padded.split()[3] == str(32 * 33 * 4)


@needs_nvrtc
def test_a_source_that_does_not_compile_is_the_compilers_line():
    with pytest.raises(CompileError, match="line 1"):
        resources('extern "C" __global__ void k() { nothing(); }', "sm_80")
