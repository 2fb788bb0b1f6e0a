"""What the report shows of a launch: shares of bytes, the head of the page, heat, writes of one value."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel
from mlsys_lab.kernels.listing import totals

HEAD = 'extern "C" __global__ void k(const float* x, float* y) {\n    int t = threadIdx.x;\n'


def launched(body: str, threads: int = 32):
    x = np.arange(4096, dtype=np.float32)
    return CudaKernel(HEAD + body + "\n}")[1, threads](x, np.zeros(4096, np.float32))


@pytest.mark.parametrize(
    ("body", "share", "fewest"),
    [
        ("y[t] = x[0];", 4 / 32, 1),  # one word of a sector, for all lanes
        ("y[t] = x[t / 2];", 1, 2),  # 16 words in two sectors
        ("y[t] = x[t * 8];", 4 / 32, 4),  # 32 words in 32 sectors, where 4 would do
        ("if (t < 3) y[t] = x[t + 7];", 12 / 64, 1),  # a word of one sector and two of the next
        ("y[t] = ((float4*)x)[t / 4].x + x[0];", (32 + 4) / (128 + 32), 2),
        ("y[t] = x[(t * 5) % 32];", 1, 4),
    ],
)
def test_the_share_of_bytes_counts_each_word_of_a_request_once(body, share, fewest):
    loads = launched(body).global_loads
    assert loads.efficiency == pytest.approx(share)
    assert loads.fewest == fewest


def test_the_shares_of_many_warps_are_the_sums_of_each():
    alone = launched("y[t] = x[(t / 2) * 3 + t / 32];", 32).global_loads
    many = launched("y[t] = x[(t % 32 / 2) * 3 + t / 32 * 8];", 256).global_loads
    parted = launched("if (t != 40) y[t] = x[(t % 32 / 2) * 3 + t / 32 * 8];", 256).global_loads
    for what in ("distinct", "fewest", "sectors"):
        assert getattr(many, what) == 8 * getattr(alone, what)
    assert (parted.distinct, parted.fewest) == (many.distinct, many.fewest)  # its neighbour asks
    assert (many.bytes, parted.bytes) == (1024, 1020)


def test_where_nothing_was_asked_for_there_is_no_share():
    shown = dict(totals(launched("y[t] = 1;")))
    assert shown["global loads"] == "-"
    assert shown["global stores"] == "1 requests, 4 sectors, 100% of their bytes used"


def test_the_page_begins_with_the_launch_and_names_writes_of_one_value():
    report = launched("y[0] = 1;")
    page = report._repr_html_().split("</style>")[1]
    assert page.startswith('<p class="kernel-launch">k, grid (1, 1, 1), block (32, 1, 1)</p>')
    assert str(report).startswith("k, grid (1, 1, 1), block (32, 1, 1)\n")
    assert not report.races
    (same,) = report.same_value_writes
    assert same.message in page
    found = json.loads(json.dumps(report.to_json()))
    assert found["launch"] == "k, grid (1, 1, 1), block (32, 1, 1)"
    assert found["same_value_writes"][0]["lines"] == [3, 3]


def test_heat_is_of_sectors_beyond_the_fewest_possible():
    report = launched("float a = 0;\nfor (int i = 0; i < 9; ++i) a += x[32 * i + t];\ny[t] = a + x[32 * t];")
    rows = re.findall(r'<tr><td class="number">(\d+)</td>(.*?)</tr>', report._repr_html_())
    cells = {int(n): re.findall(r'<td style="(.*?)">(.*?)</td>', row) for n, row in rows}
    assert cells[4][2] == ("", "4")  # 36 sectors, and none too many
    assert cells[5][2][0].startswith("background")  # 32 + 4 sectors, where 8 would do


def test_no_end_within_the_steps_is_told_with_its_line():
    kernel = CudaKernel(HEAD + "while (true)\n  ((volatile float*)y)[t] += 1;\n}")
    report = kernel[1, 32](np.zeros(32, np.float32), np.zeros(32, np.float32), steps=300)
    told = "line 4: no end within 300 steps: an infinite loop? (steps=... allows more)"
    assert report.errors[0].message == told


def test_each_line_has_its_operations_bytes_classes_and_intensity_and_they_add_up_to_the_totals():
    report = launched("float a = x[t];\n    float b = a * a + 1;\n    y[t] = b * x[t + 32];")
    found = report.to_json()
    lines = found["lines"]
    assert {n: x["flops"] for n, x in lines.items() if x["flops"]} == {4: 64, 5: 32}
    assert {n: x["bytes"] for n, x in lines.items() if x["bytes"]} == {3: 128, 5: 256}
    assert lines[5]["intensity"] == 32 / 256
    assert (lines[3]["intensity"], lines[4]["intensity"]) == (0, None)
    assert found["intensity"] == 96 / 384
    assert lines[3]["classes"]["load global"] == lines[5]["classes"]["store global"] == 1
    for kind, count in found["classes"].items():
        assert sum(x["classes"].get(kind, 0) for x in lines.values()) == count
    head, *rows = str(report).split("\n\n")[2].splitlines()
    assert head.split() == ["instr.", "active", "sectors/req.", "conflicts", "FLOPs"]
    assert [row[: len(head)].split()[-1] for row in rows[3:5]] == ["64", "32"]


def test_the_heat_of_idle_lanes_is_their_share_whatever_the_other_lines_do():
    half = "if (t < 16)\n        y[t] = x[t] * 2;"
    page = launched(half + "\n    if (t == 0)\n        y[99] = x[99] + 1;")._repr_html_()
    shown = re.findall(r'rgb\(255, (\d+), \d+\)">(\d+)%</td>', page)
    assert {int(share) for _, share in shown} >= {50, 3}
    for green, share in shown:
        assert int(green) == pytest.approx(255 - 95 * (1 - int(share) / 100), abs=1)
