"""Which implementation of a fused operation runs is visible, can be chosen, and never needs a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlsys_lab.autograd import fused

ROOT = Path(__file__).resolve().parents[2]


def test_a_registered_function_takes_over_and_is_named():
    def mine(g):
        return "mine"

    before = fused.implementation("column_sum")
    fused.register("column_sum", "cpu", mine)
    try:
        assert fused.implementation("column_sum").endswith("mine")
        assert fused.column_sum(np.ones((2, 2), np.float32)) == "mine"
        with fused.use("numpy"):
            assert fused.column_sum(np.ones((2, 2), np.float32)).tolist() == [2, 2]
    finally:
        fused.register("column_sum", "cpu", None)
    assert fused.implementation("column_sum") == before
    assert fused.available()["layer_norm"]["cuda"] == "numpy"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fused.register("layernorm", "cpu", len), "no fused operation 'layernorm'"),
        (lambda: fused.register("layer_norm", "gpu", len), "got 'gpu'"),
        (lambda: fused.implementation("gelu"), "no fused operation 'gelu'"),
        (lambda: fused.use("torch").__enter__(), "got 'torch'"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.poor
def test_without_a_compiler_the_twins_run(tmp_path):
    code = (
        "import numpy as np\n"
        "from mlsys_lab.autograd import fused\n"
        "print(fused.implementation('layer_norm'), fused.bias_relu(np.float32([[-1, 2]]), np.ones(2)))\n"
        "try:\n"
        "    fused.use('c').__enter__()\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    environment = {
        **os.environ,
        "MLSYS_LAB_NO_COMPILER": "1",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("numpy [[0. 3.]]\nno C compiler")
    assert not any(tmp_path.iterdir())
