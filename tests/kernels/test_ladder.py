"""The ladder of kernels on the simulator: right, clean, and each rung gains what it predicts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import frontend, references
from mlsys_lab.kernels.launcher import COUNTERS, FOLDER, KERNELS, Launcher, kernel_of
from mlsys_lab.kernels.library import LADDER, RUNGS, Rung

#: Odd sizes, no multiple of a block or tile; and the smallest.
SIZES = {
    "add": [(1001,), (1,)],
    "saxpy": [(1001,), (1,)],
    "copy": [(1003,), (1,)],
    "transpose": [(37, 70), (1, 33)],
    "sum": [(1001,), (1,)],
    "histogram": [(1001, 37), (1, 1)],
    "scan": [(1301,), (1,)],
    "softmax": [(3, 301), (2, 1)],
    "layernorm": [(3, 301), (2, 1)],
    "matmul": [(37, 45, 41), (65, 132, 12), (1, 1, 1)],
    "matmul bf16": [(37, 45, 41), (65, 132, 12), (1, 1, 1)],
    "attention": [(2, 45, 24), (1, 1, 64)],
    "attention backward": [(2, 45, 24), (1, 1, 64)],
    "decode": [(3, 6, 2, 40, 5, 33), (1, 1, 1, 128, 4, 1)],
    "adam": [(1001,), (1,)],
}
SIMULATED = [rung for rung in RUNGS if not rung.arch]
CASES, GPU_CASES = (
    [
        pytest.param(rung, sizes, id=f"{rung.name}-{'x'.join(map(str, sizes))}")
        for rung in rungs
        for sizes in SIZES[rung.family]
    ]
    for rungs in (SIMULATED, RUNGS)
)


def compared(rung: Rung, sizes: tuple[int, ...], device: str = "simulator", **options: object) -> Launcher:
    """Run a rung and hold each of its results against the definition."""
    arrays = references.inputs(rung.family, sizes)
    before = [np.copy(a) for a in arrays]
    result, launches = rung.run(*arrays, device=device, **options)
    exact = references.expected(rung.family, arrays, **options)
    if rung.name == "copy_strided":
        exact = exact[::32]
    pairs = zip(result, exact, strict=True) if isinstance(result, tuple) else [(result, exact)]
    for got, want in pairs:
        assert got.shape == want.shape
        assert got.dtype == (np.int32 if rung.family == "histogram" else np.float32)
        scale = np.abs(want).max(initial=1)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * scale)
    for given, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(given, was)
    return launches


@pytest.mark.parametrize(("rung", "sizes"), CASES)
def test_every_rung_is_right_at_odd_sizes_without_errors_or_races(rung, sizes):
    launches = compared(rung, sizes)
    for report in launches.reports:
        assert report.errors == []
        assert report.races == []
        assert report.same_value_writes == []


@pytest.mark.parametrize("name", [rung.name for rung in SIMULATED if rung.gain])
def test_each_rung_gains_on_its_counter_what_it_predicts(name):
    rung = LADDER[name]
    gain, before = rung.gain, LADDER[rung.gain.over]
    count = COUNTERS[gain.counter]
    was, now = (count(one.run(*references.inputs(one.family, gain.sizes))[1]) for one in (before, rung))
    # Sectors and wavefronts follow from the source; how many instructions, the compiler decides.
    tolerance = 0.25 if "instructions" in gain.counter else 0.02
    assert was / now == pytest.approx(gain.factor, rel=tolerance)


@pytest.mark.parametrize("name", ["attention_naive", "attention_flash", "attention_backward"])
def test_attention_without_a_mask_is_right(name):
    compared(LADDER[name], (1, 35, 16), causal=False)


def test_a_causal_tile_above_the_diagonal_is_not_computed():
    arrays = references.inputs("attention", (1, 128, 64))
    flops = [
        sum(r.flops for r in LADDER["attention_flash"].run(*arrays, causal=causal)[1].reports)
        for causal in (True, False)
    ]
    assert flops[0] / flops[1] == pytest.approx(10 / 16, rel=0.02)  # 4 x 4 tiles


@pytest.mark.parametrize(
    ("name", "conflicts"),
    [("transpose_tiled", True), ("transpose_padded", False), ("matmul_warp_tile", False)],
)
def test_these_rungs_have_conflicts_in_shared_memory_and_these_none(name, conflicts):
    rung = LADDER[name]
    sizes = (64, 96) if rung.family == "transpose" else (128, 128, 16)
    launches = rung.run(*references.inputs(rung.family, sizes))[1]
    assert (COUNTERS["shared conflicts"](launches) > 0) == conflicts


def test_a_coalesced_product_loads_a_row_of_b_in_four_sectors():
    launches = LADDER["matmul_coalesced"].run(*references.inputs("matmul", (32, 32, 32)))[1]
    assert COUNTERS["sectors per load"](launches) == (1 + 4) / 2  # of A one number for all lanes


@pytest.mark.parametrize("name", ["matmul_naive", "matmul_shared", "matmul_warp_tile", "matmul_wmma"])
def test_a_product_counts_two_operations_per_multiply_add(name):
    launches = LADDER[name].run(*references.inputs(LADDER[name].family, (128, 128, 32)))[1]
    assert COUNTERS["flops"](launches) == 2 * 128 * 128 * 32


@pytest.mark.parametrize("name", ["softmax_three_pass", "softmax_online"])
def test_softmax_stands_large_values_and_masked_ones(name):
    x = np.array([[1e4, 1e4 - 1, -1e4, -np.inf] * 70, [-np.inf] * 279 + [3.0]], np.float32)
    got, _ = LADDER[name].run(x)
    np.testing.assert_allclose(got, references.expected("softmax", (x,)), rtol=1e-5, atol=1e-7)


def test_welford_does_not_cancel_where_the_mean_is_large():
    x, gain, bias = references.inputs("layernorm", (2, 500))
    x += 1000
    got, _ = LADDER["layernorm_welford"].run(x, gain, bias)
    want = references.expected("layernorm", (x, gain, bias))
    np.testing.assert_allclose(got, want, atol=2e-3)  # 1000 in float32 is known to 6e-5


def test_a_sequence_without_tokens_decodes_to_zeros():
    arrays = references.inputs("decode", (2, 2, 1, 16, 4, 9))
    arrays[-1][:] = (0, 9)
    for name in ("decode_paged", "decode_grouped"):
        got, _ = LADDER[name].run(*arrays)
        assert not got[0].any()
        np.testing.assert_allclose(got, references.expected("decode", arrays), atol=1e-6)


def test_what_the_kernels_have_no_room_for_is_refused_before_the_launch():
    with pytest.raises(ValueError, match="at most 64 dimensions, got 65"):
        LADDER["attention_flash"].run(*references.inputs("attention", (1, 4, 65)))
    with pytest.raises(ValueError, match="at most 8 query heads"):
        LADDER["decode_grouped"].run(*references.inputs("decode", (1, 9, 1, 16, 4, 4)))
    with pytest.raises(ValueError, match="there is no kernel 'nothing'; there are: vector_add"):
        Launcher()("nothing", 1)


def test_the_definitions_agree_with_torch():
    torch = pytest.importorskip("torch")
    arrays = references.inputs("attention backward", (2, 9, 8))
    q, k, v, grad = (torch.tensor(a, dtype=torch.float64) for a in arrays)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out.backward(grad)
    np.testing.assert_allclose(references.expected("attention", arrays[:3]), out.detach(), atol=1e-12)
    for ours, leaf in zip(references.expected("attention backward", arrays), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad, atol=1e-12)
    arrays = references.inputs("adam", (50,))
    weight = torch.nn.Parameter(torch.tensor(arrays[0], dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.01)
    weight.grad = torch.tensor(arrays[1], dtype=torch.float64)
    optimizer.step()
    zeros = np.zeros(50, np.float32)
    ours = references.expected("adam", (*arrays[:2], zeros, zeros))[0]
    np.testing.assert_allclose(ours, weight.detach(), atol=1e-12)
    x, gain, bias = references.inputs("layernorm", (3, 20))
    want = torch.nn.functional.layer_norm(
        *(torch.tensor(x, dtype=torch.float64), (20,)),
        *map(torch.tensor, (gain.astype(float), bias.astype(float))),
    )
    np.testing.assert_allclose(references.expected("layernorm", (x, gain, bias)), want, atol=1e-12)


def test_files_and_tables_name_the_same_kernels_and_each_rung_stands_on_an_earlier_one():
    files = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.cu")}
    written = {
        name: set(re.findall(r"__global__(?: __launch_bounds__\(\w+\))?\s+void (\w+)\(", text))
        for name, text in files.items()
    }
    assert written == {name: set(kernels) for name, kernels in KERNELS.items()}
    seen: list[str] = []
    for rung in RUNGS:
        assert rung.name not in seen
        assert rung.gain is None or (
            rung.gain.over in seen and rung.gain.counter in COUNTERS and rung.gain.why
        )
        seen.append(rung.name)
    assert max(len(text.splitlines()) for text in files.values()) <= 350


@pytest.fixture
def without_nvrtc(monkeypatch) -> Iterator[None]:
    """NVIDIA's compiler hidden, and nothing that it compiled kept."""
    monkeypatch.setattr(frontend, "nvrtc", lambda: None)
    kernel_of.cache_clear()
    yield
    kernel_of.cache_clear()


@pytest.mark.parametrize("rung", SIMULATED, ids=lambda rung: rung.name)
def test_every_rung_is_right_on_a_machine_without_any_compiler(rung, without_nvrtc, monkeypatch):
    monkeypatch.setattr(frontend.importlib.util, "find_spec", lambda name: None)
    for report in compared(rung, SIZES[rung.family][0]).reports:
        assert report.errors == report.races == []


THROUGH_CLANG = [
    *("vector_add_float4", "transpose_padded", "sum_shuffle", "histogram_shared", "scan_blocks"),
    *("softmax_online", "layernorm_welford", "matmul_warp_tile", "attention_flash", "decode_grouped"),
    "adam_fused",
]


@pytest.mark.parametrize("name", THROUGH_CLANG)
def test_these_rungs_are_right_and_gain_what_they_predict_through_clang(name, without_nvrtc, monkeypatch):
    pytest.importorskip("ziglang", reason="clang: pip install ziglang")
    monkeypatch.setattr(frontend, "precompiled", dict)
    for sizes in SIZES[LADDER[name].family]:
        for report in compared(LADDER[name], sizes).reports:
            assert report.errors == report.races == []
    test_each_rung_gains_on_its_counter_what_it_predicts(name)


@pytest.mark.gpu
@pytest.mark.parametrize(("rung", "sizes"), GPU_CASES)
def test_every_rung_is_right_on_a_gpu(rung, sizes):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    if rung.arch and rung.arch != f"sm_{cupy.cuda.Device().compute_capability}a":
        pytest.skip(f"needs a GPU of {rung.arch}")
    compared(rung, sizes, device="gpu")
