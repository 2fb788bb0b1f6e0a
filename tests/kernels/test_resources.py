"""Registers, spills and occupancy from machine code that is made without a GPU."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CompileError
from mlsys_lab.kernels.frontend import wheels
from mlsys_lab.kernels.launcher import ARCHITECTURES, FOLDER, KERNELS
from mlsys_lab.kernels.residency import GPUS, blocks_resident, occupancy, resources
from mlsys_lab.kernels.resources import main
from tests.kernels.conftest import needs_nvrtc


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("file", [file for file in KERNELS if file not in ARCHITECTURES])
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


CALCULATOR = """
#include <stdio.h>
#include "cuda_occupancy.h"
int main(void) {
    int major, minor, warps, shared_sm, threads, registers, shared;
    while (scanf("%d %d %d %d %d %d %d", &major, &minor, &warps, &shared_sm,
                 &threads, &registers, &shared) == 7) {
        cudaOccDeviceProp gpu = {0};
        gpu.computeMajor = major, gpu.computeMinor = minor, gpu.warpSize = 32, gpu.numSms = 100;
        gpu.maxThreadsPerBlock = 1024, gpu.maxThreadsPerMultiprocessor = 32 * warps;
        gpu.regsPerBlock = gpu.regsPerMultiprocessor = 65536;
        gpu.sharedMemPerBlock = 48 << 10, gpu.sharedMemPerMultiprocessor = shared_sm;
        gpu.sharedMemPerBlockOptin = shared_sm - 1024, gpu.reservedSharedMemPerBlock = 1024;
        cudaOccFuncAttributes kernel = {0};
        kernel.maxThreadsPerBlock = 1024, kernel.numRegs = registers;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN, kernel.maxDynamicSharedSizeBytes = shared_sm - 1024;
        cudaOccDeviceState state = {0};
        state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccResult result;
        int status = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &gpu, &kernel, &state, threads, shared);
        printf("%d\\n", status ? -status : result.activeBlocksPerMultiprocessor);
    }
    return 0;
}
"""


@pytest.mark.parametrize("gpu", GPUS)
def test_resident_blocks_are_those_of_nvidias_own_calculator(gpu, tmp_path):
    header = next((f for h in wheels() if (f := h / "include" / "cuda_occupancy.h").is_file()), None)
    compiler = shutil.which("cc")
    if header is None or compiler is None:
        pytest.skip("needs cuda_occupancy.h of nvidia-cuda-runtime, and a C compiler")
    (tmp_path / "calculator.c").write_text(CALCULATOR, encoding="utf-8")
    program = tmp_path / "calculator"
    build = [compiler, "-w", f"-I{header.parent}", str(tmp_path / "calculator.c"), "-o", str(program), "-lm"]
    subprocess.run(build, check=True, capture_output=True)
    one, rng = GPUS[gpu], np.random.default_rng(0)
    version = one.arch.removeprefix("sm_")
    most = one.shared_bytes - 1024
    cases = [
        (
            int(rng.integers(1, 1025)),
            int(rng.integers(1, 256)),
            int(rng.integers(0, most) * rng.random() ** 3),
        )
        for _ in range(3000)
    ]
    # More registers than a block may have are refused at the launch.
    cases = [c for c in cases if -(-c[0] // 32) * 32 * -(-c[1] // 8) * 8 <= 65_536]
    asked = "\n".join(
        f"{version[:-1]} {version[-1]} {one.warps} {one.shared_bytes} {t} {r} {s}" for t, r, s in cases
    )
    said = subprocess.run([program], input=asked, capture_output=True, text=True, check=True).stdout.split()
    assert len(said) == len(cases) > 1000
    assert [int(n) for n in said] == [min(blocks_resident(one, *c).values()) for c in cases]


@needs_nvrtc
def test_the_table_has_a_line_for_each_kernel(capsys):
    assert main(["--gpu", "A100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [k for kernels in KERNELS.values() for k in kernels]
    assert next(line for line in lines if "wgmma" in line).endswith("is for sm_90a alone")
    padded = next(line for line in lines if line.startswith("transpose_padded"))
    assert padded.split()[3] == str(32 * 33 * 4)


@needs_nvrtc
def test_a_source_that_does_not_compile_is_the_compilers_line():
    with pytest.raises(CompileError, match="line 1"):
        resources('extern "C" __global__ void k() { nothing(); }', "sm_80")
