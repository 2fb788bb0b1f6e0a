"""The front ends beside NVIDIA's compiler: clang with our header, and PTX that comes with the library."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CompileError, CudaKernel, frontend, precompile


@pytest.fixture
def clang(monkeypatch) -> None:
    pytest.importorskip("ziglang", reason="clang: pip install ziglang")
    monkeypatch.setattr(frontend, "nvrtc", lambda: None)


#: By clang these are the hardware's approximations, where NVIDIA's compiler calls a library: absolute error.
FUNCTIONS = {
    "expf(x)": (np.exp, 1e-5),
    "logf(x + 5)": (lambda x: np.log(x + 5), 1e-6),
    "sqrtf(x + 5)": (lambda x: np.sqrt(x + 5), 1e-6),
    "sinf(x)": (np.sin, 1e-6),
    "tanhf(x)": (np.tanh, 1e-6),
    "erff(x)": (np.vectorize(math.erf), 1e-6),
    "powf(x + 5, 1.5f)": (lambda x: (x + 5) ** 1.5, 1e-5),
    "floorf(x) + ceilf(x)": (lambda x: np.floor(x) + np.ceil(x), 0),
    "fmaxf(x, 0.5f) + fminf(x, 0.5f)": (lambda x: x + 0.5, 1e-6),
    "__int_as_float(__float_as_int(x) & 0x7fffffff)": (np.abs, 0),
    "isinf(x / 0.0f) + isnan(0.0f * (x / 0.0f))": (lambda x: 2 + 0 * x, 0),
}


@pytest.mark.parametrize("expression", FUNCTIONS)
def test_functions_of_our_header_agree_with_numpy(expression, clang):
    source = f"""extern "C" __global__ void k(const float* in, float* out) {{
        float x = in[threadIdx.x];
        out[threadIdx.x] = {expression};
    }}"""
    x, y = np.linspace(-4, 3.9, 64).astype(np.float32), np.zeros(64, np.float32)
    CudaKernel(source)[1, 64](x, y)
    function, tolerance = FUNCTIONS[expression]
    np.testing.assert_allclose(y, function(x.astype(np.float64)), rtol=1e-6, atol=tolerance)


def test_a_float4_is_one_request_of_16_sectors_through_clang(clang):
    source = """extern "C" __global__ void k(const float4* x, float4* y) {
        __shared__ float4 s[32];
        s[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        float4 v = s[31 - threadIdx.x];
        y[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
    }"""
    x, y = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
    report = CudaKernel(source)[1, 32](x, y)
    np.testing.assert_array_equal(y, x[::-1])
    for access in (report.global_loads, report.global_stores):
        assert (access.requests, access.sectors) == (1, 16)
    assert (report.shared.requests, report.shared.wavefronts, report.shared.ideal) == (2, 8, 8)


def test_clangs_message_names_the_line_of_the_learners_file(clang):
    with pytest.raises(CompileError, match=r"^line 2: use of undeclared identifier 'z'$"):
        CudaKernel('extern "C" __global__ void k(float* y) {\n    y[0] = z;\n}')


def test_what_clang_made_with_another_header_is_not_taken_from_the_cache(clang, monkeypatch, tmp_path):
    source = 'extern "C" __global__ void k(float* y) { y[threadIdx.x] = mine(); }'
    for value in (1, 2):
        header = tmp_path / f"{value}.h"
        text = frontend.FOLDER.joinpath("simulator.h").read_text(encoding="utf-8")
        header.write_text(f"{text}\nINLINE float mine() {{ return {value}; }}\n", encoding="utf-8")
        monkeypatch.setattr(frontend, "HEADER", header)
        y = np.zeros(32, np.float32)
        CudaKernel(source)[1, 32](y)
        assert (y == value).all()


def test_the_precompiled_kernels_are_those_of_the_sources():
    now = {frontend.digest(text): name for name, text in precompile.sources().items()}
    stale = sorted(name for key, name in now.items() if key not in frontend.precompiled())
    assert stale == [], f"run python -m mlsys_lab.kernels.precompile: {stale} changed"
    assert set(frontend.precompiled()) == set(now), "run python -m mlsys_lab.kernels.precompile"


def test_the_precompiled_kernels_are_small_and_name_no_folder_of_a_machine():
    assert frontend.PRECOMPILED.stat().st_size <= 400 << 10
    for text in frontend.precompiled().values():
        files = [line for line in text.splitlines() if line.strip().startswith(".file")]
        assert files
        assert not any("/" in line or "\\" in line for line in files)


def test_a_precompiled_text_is_not_taken_for_a_source_that_was_changed(monkeypatch):
    monkeypatch.setattr(frontend, "nvrtc", lambda: None)
    monkeypatch.setattr(frontend.importlib.util, "find_spec", lambda name: None)
    text = precompile.sources()["reduce"]
    assert ".entry sum_tree" in frontend.to_ptx(text)
    with pytest.raises(frontend.NoFrontEnd):
        frontend.to_ptx(text + "\n")
    with pytest.raises(frontend.NoFrontEnd):
        frontend.to_ptx(text, "sm_90")
    hopper = precompile.sources()["matmul_wgmma"]
    assert "wgmma.mma_async" in frontend.to_ptx(hopper, "sm_90a")
    with pytest.raises(frontend.NoFrontEnd):
        frontend.to_ptx(hopper, "sm_90")


def test_a_toolkits_headers_stand_behind_those_of_the_wheels(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_PATH", raising=False)
    wheels = frontend.headers()
    (tmp_path / "include" / "cccl").mkdir(parents=True)
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    both = frontend.headers()
    assert [one for one in both if one not in wheels] == [
        f"-I{tmp_path / 'include'}",
        f"-I{tmp_path / 'include' / 'cccl'}",
    ]
    if wheels:
        assert both.index(wheels[0]) == 0
