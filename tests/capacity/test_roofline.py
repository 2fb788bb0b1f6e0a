"""The roof of a device and of this machine; operations under it, against sums by hand; wrong input."""

from __future__ import annotations

import json
import re
import sys
from xml.etree import ElementTree

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import forward_flops, language_model
from mlsys_lab.capacity.inference import Serving
from mlsys_lab.capacity.machine import Machine, kept_at, processor
from mlsys_lab.capacity.roofline import Roof, roofline

A100, LLAMA = device("A100"), language_model("llama-2-7b")


def points(m, **options):
    return {p.name: p for p in roofline(A100, m, **options).points}


def test_the_ridge_is_the_peak_over_the_bandwidth():
    found = roofline(A100)
    assert found.values["ridge_flop_per_byte"] == pytest.approx(312e12 / 2039e9)
    assert found.to_json()["ridges"]["int8"] == pytest.approx(624e12 / 2039e9)


@pytest.mark.parametrize("name", ["llama-2-7b", "gpt2", "mixtral-8x7b", "deepseek-v2", "bert-base-uncased"])
def test_the_forward_operations_are_all_of_a_pass(name):
    m = language_model(name)
    found = [p for p in roofline(A100, m, batch=3, context=512).points if p.name.startswith("forward")]
    assert sum(p.flops for p in found) == forward_flops(m, 3, 512)


@pytest.mark.parametrize("name", ["llama-2-7b", "gpt2", "mixtral-8x7b", "deepseek-v2"])
def test_the_decode_operations_are_those_of_a_served_step(name):
    """FLOPs as in `Serving`; of the bytes the activations come on top, which are few, and the table of
    embeddings is not read."""
    m = language_model(name)
    s = Serving(m, device("B200"), 1)
    found = [p for p in roofline(A100, m, batch=8, context=700).points if p.name.startswith("decode")]
    assert sum(p.flops for p in found) == pytest.approx(s.decode_flops(8, 700))
    embedding = 0 if m.tied else 2 * m.vocab * m.hidden
    expected = s.read_bytes(8) - embedding + 8 * s.kv_bytes(700)
    assert sum(p.bytes for p in found) == pytest.approx(expected, rel=0.03)


def test_an_mlp_by_hand():
    """Three of 4096 x 11008 in 32 layers, for 16 x 4096 tokens and for 16."""
    found = points(LLAMA, batch=16, context=4096)
    for phase, rows in (("forward", 16 * 4096), ("decode", 16)):
        weights = 32 * 3 * 4096 * 11008
        moved = 2 * (weights + 32 * 3 * (4096 + 11008) * rows)
        mlp = found[f"{phase}: mlp"]
        assert (mlp.flops, mlp.bytes) == (2 * weights * rows, moved)


def test_decoding_is_bound_by_memory_and_a_long_prompt_by_arithmetic():
    found = roofline(A100, LLAMA, batch=4, context=2048)
    bound = {o["name"]: o["bound"] for o in found.to_json()["operations"]}
    assert {b for name, b in bound.items() if name.startswith("decode")} == {"memory"}
    assert {b for name, b in bound.items() if name.startswith("forward")} == {"arithmetic"}
    scores = points(LLAMA, batch=4, context=2048)["decode: scores and values"]
    assert scores.intensity == pytest.approx(1, rel=0.01), "two FLOPs a number of two bytes"


def measured():
    samples = {
        "product NN": [((n, n, n), 2 * n**3, 2 * n**3 / speed) for n, speed in ((8, 1e9), (512, 90e9))]
    }
    peaks, bandwidths = {"float32": 80e9, "float64": 20e9}, {"L2": 50e9, "memory": 10e9}
    return Machine(processor(), "2026-01-01", peaks, bandwidths, samples=samples)


def test_nothing_that_was_measured_lies_above_the_roof():
    found = roofline(measured())
    assert found.roof.peak("fp32") == 90e9
    assert [p.reached for p in found.points] == pytest.approx([1e9, 90e9])
    assert all(p.reached <= found.roof.most(p.intensity, "float32") for p in found.points)
    assert "90 GFLOP/s, 100%" in "\n".join(found.lines())


def test_the_picture_has_the_roof_and_every_operation_in_its_place():
    found = roofline(A100, LLAMA, batch=16, context=4096)
    axes = found.figure().axes[0]
    lines = {line.get_label(): line.get_data() for line in axes.get_lines()}
    x, y = lines["bfloat16, memory 2,039 GB/s"]
    assert (x[1], y[1], y[2]) == pytest.approx((312e12 / 2039e9, 312e12, 312e12))
    drawn = [(x[0], y[0]) for name, (x, y) in lines.items() if re.match(r"\d+ ", name)]
    assert drawn == [(p.intensity, found.roof.most(p.intensity, "bfloat16")) for p in found.points]
    said = {t.get_text() for t in axes.texts}
    assert {"5, 6, 7", "float32, float64"} <= said, "what lies on each other has one label"


def test_in_a_notebook_the_table_says_what_the_picture_shows():
    found = roofline(A100, LLAMA, batch=16, context=4096)
    tree = ElementTree.fromstring(found._repr_html_())
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]
    assert [row[1:] for row in rows] == found.rows()
    picture = next(tree.iter("img"))
    assert picture.get("src").startswith("data:image/png;base64,")
    assert "4 of 8 operations are bound by memory" in picture.get("alt")
    assert not re.search(r"https?://", found._repr_html_())


def test_the_command_prints_it_and_writes_the_picture(estimate, tmp_path):
    asked = ("roofline", "llama-2-7b", "--gpu", "A100", "--batch", 16, "--context", 4096)
    code, out, err = estimate(*asked, "--out", "roof.png", "--explain")
    assert code == 0, err
    assert "bfloat16        312 TFLOP/s      153 FLOP/byte" in out
    assert "312,000,000,000,000 FLOP/s / 2,039,000,000,000 B/s" in out
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    assert estimate(*asked, "--out", "roof.html")[0] == 0
    assert "color-scheme" in (tmp_path / "roof.html").read_text()
    found = json.loads(estimate(*asked, "--json")[1])
    assert found == json.loads(json.dumps(roofline(A100, LLAMA, batch=16, context=4096).to_json()))
    assert estimate(*asked, "--fail-if", "ridge_flop_per_byte > 100")[0] == 1


def test_this_machine_is_measured_once_and_says_so(estimate, monkeypatch, tmp_path):
    module = pytest.importorskip("mlsys_lab.capacity.calibrate")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def calibrate(say):
        say("product NN")
        return measured()

    monkeypatch.setattr(module, "calibrate", calibrate)
    code, out, err = estimate("roofline", "--measure")
    assert code == 0, err
    assert "measuring single operations in one thread, about half a minute" in err
    assert f"kept in {kept_at()}" in err
    assert "90 GFLOP/s" in out
    again = estimate("roofline", "gpt2", "--measure", "--context", 64)
    assert again[2].strip() == f"as measured before: {kept_at()}"
    assert "in float32:" in again[1]


def test_without_torch_measuring_is_refused_in_one_line(estimate, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mlsys_lab.capacity.calibrate", raising=False)
    code, _, err = estimate("roofline", "--measure")
    assert code == 2
    assert err.strip().endswith("--measure runs torch's operations and there is no torch: pip install torch")


def test_a_device_without_bandwidth_has_no_roof():
    from dataclasses import replace

    with pytest.raises(ValueError, match="no memory bandwidth is written down for A100"):
        Roof.of(replace(A100, memory_bytes_per_s=0.0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), r"give one of --gpu and --measure: --gpu A100 for a device, --measure for this machine"),
        (("--gpu", "A100", "--measure"), r"give one of --gpu and --measure"),
        (("--gpu", "A1000"), r"unknown device 'A1000'; the nearest are A100"),
        (("lama", "--gpu", "A100"), r"unknown model 'lama'"),
        (("resnet50", "--gpu", "A100"), r"resnet50 is not a transformer"),
        (("gpt2", "--gpu", "A100", "--batch", "0"), r"--batch has to be at least 1, got 0"),
        (("gpt2", "--gpu", "A100", "--context", "-1"), r"--context has to be at least 1, got -1"),
        (
            ("gpt2", "--gpu", "A100", "--context", "4096"),
            r"context 4096 is beyond the 1024 learned positions",
        ),
        (("--gpu", "V100", "--dtype", "bf16"), r"V100 has no peak for bfloat16; it has float32, float16"),
        (("--gpu", "A100", "--out", "roof.pdf"), r"--out roof.pdf: give a name that ends in .png or .html"),
        (("--gpu", "A100", "--out", "no/where.png"), r"--out no/where.png cannot be written: No such file"),
        (("--gpu", "A100", "--fail-if", "speed > 1"), r"here KEY is one of peak_flops_per_s, memory_bytes"),
    ],
)
def test_what_is_wrong_is_one_line(estimate, arguments, said):
    code, out, err = estimate("roofline", *arguments)
    assert code == 2, out + err
    assert len(err.strip().splitlines()) == 1, err
    assert re.search(said, err), err


def test_scores_of_grouped_heads_move_the_keys_and_values_of_their_heads_alone():
    """Llama 3 8B: 32 heads of queries and outputs, 8 of keys and values, each 128 wide, in 32 layers."""
    scores = points(language_model("llama-3-8b"), batch=2, context=1024)["forward: scores and values"]
    assert scores.bytes == 2 * 2 * 1024 * 32 * 128 * (2 * 32 + 2 * 8)
    assert scores.flops == 4 * 2 * 1024**2 * 32 * 32 * 128
