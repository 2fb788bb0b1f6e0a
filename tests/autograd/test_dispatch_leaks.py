"""The hot paths in C leave no reference behind, and are missed by nobody where they cannot be built."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab._core import native
from mlsys_lab.autograd.tape import Node, table
from mlsys_lab.autograd.tensor import collect

ROOT = Path(__file__).resolve().parents[2]
C = native.extension("mlsys_lab.autograd", "_dispatch.c")
needs_c = pytest.mark.skipif(C is None, reason="no C compiler, or no Python.h")


def broken(kind: str) -> None:
    x = ag.Tensor(np.ones(3, np.float32), requires_grad=True)
    if kind == "shape":
        x * ag.Tensor(np.ones(4, np.float32))
    elif kind == "dtype":
        x * ag.Tensor(np.ones(3))
    elif kind == "number":
        x * 10**400
    elif kind == "floating point":
        with np.errstate(all="raise"):
            ag.log(x - 1.0)
    elif kind == "rule":
        double = ag.primitive("double", lambda x: 2 * x, lambda g: 1 / 0)
        double(x * x * 2.0).backward(np.ones(3, np.float32))
    elif kind == "hook":
        y = x * x
        y.register_hook(lambda g: 1 / 0)
        (y + y).backward(np.ones(3, np.float32))
    elif kind == "arrive":
        x.register_post_accumulate_grad_hook(lambda p: 1 / 0)
        (x * x).backward(np.ones(3, np.float32))
    elif kind == "edge":
        y = x * x
        y.node.edges = [(x.node, table["exp"].rules[0], [x.data])]
        C.walk([y.node], {y.node: x.data}, collect, wanted=(), tracked=False, free=True)
    elif kind == "positions":
        rule = table["exp"].rules[0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rule, "positions", (7,))
            y = ag.exp(x)
            assert y.node.edges[0][2][0] is y.data
            raise KeyError
    else:
        C.walk([x.node], {x.node: x.data}, collect)


ERRORS = {
    "shape": ag.ShapeError,
    "dtype": ag.DtypeError,
    "number": OverflowError,
    "floating point": FloatingPointError,
    "rule": ZeroDivisionError,
    "hook": ZeroDivisionError,
    "arrive": ZeroDivisionError,
    "edge": TypeError,
    "positions": KeyError,
    "keywords": TypeError,
}


@needs_c
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_leaves_no_reference_behind(kind):
    def once() -> None:
        with pytest.raises(ERRORS[kind]):
            broken(kind)

    once()
    objects = [
        np.dtype(np.float32),
        table["exp"].rules[0],
        table["multiply"],
        np.multiply,
        Node,
        ag.Tensor,
        (),
    ]
    gc.collect()
    before, nodes = [sys.getrefcount(o) for o in objects], live(Node)
    for _ in range(100):
        once()
    gc.collect()
    assert all(abs(sys.getrefcount(o) - b) < 50 for o, b in zip(objects, before, strict=True))
    assert live(Node) == nodes


def live(kind: type) -> int:
    gc.collect()
    return sum(type(o) is kind for o in gc.get_objects())


@needs_c
def test_ten_thousand_operations_leave_every_count_as_it_was():
    x = ag.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    c = ag.Tensor(np.ones(3, np.float32))

    def work() -> None:
        for _ in range(1000):
            h = x * c + 0.5
            h.register_hook(lambda g: None)
            y = 2 - ag.tanh(h * h) / h
            with ag.no_grad():
                _ = y * c
            y.backward(np.ones((2, 3), np.float32))
        x.grad = None

    shared = [
        *(
            x.data,
            c.data,
            x.node,
            x.node.shape,
            x.data.dtype,
            np.multiply,
            np.tanh,
            Node,
            ag.Tensor,
            None,
            True,
        ),
        *(rule for name in ("multiply", "add", "tanh", "divide") for rule in table[name].rules),
        *(table["multiply"], table["multiply"].rules, (), table["tanh"].rules[0].positions, collect),
    ]
    work()
    gc.collect()
    before = [sys.getrefcount(o) for o in shared]
    work()
    gc.collect()
    after = [sys.getrefcount(o) for o in shared]
    assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True)), (before, after)


@needs_c
def test_step_10_and_step_1000_hold_the_same_memory_tensors_and_nodes():
    x = ag.Tensor(np.ones(5, np.float64), requires_grad=True)

    def step() -> None:
        x.grad = None
        y = ag.exp(x * 0.5) * x - 1
        (y * y + y).backward(np.ones(5))

    tracemalloc.start()
    try:
        for _ in range(10):
            step()
        counts, held = (live(ag.Tensor), live(Node)), tracemalloc.get_traced_memory()[0]
        for _ in range(990):
            step()
        assert (live(ag.Tensor), live(Node)) == counts
        assert tracemalloc.get_traced_memory()[0] - held < 60 * 1024
    finally:
        tracemalloc.stop()


@needs_c
def test_a_graph_that_refers_to_itself_is_collected():
    x = ag.Tensor(np.ones(3, np.float32), requires_grad=True)
    before = live(Node)
    for _ in range(20):
        y = x * x
        y.node.hooks = [y.node]
    del y
    assert live(Node) == before


SCRIPT = """
import sys
{before}
import numpy as np
import mlsys_lab.autograd as ag
from mlsys_lab._core import native
assert not any("_dispatch" in name for name in sys.modules)
for _ in range(2):
    x = ag.Tensor(np.float32([1, 2]), requires_grad=True)
    (x * x + 0.5).backward(np.float32([1, 10]))
    print(x.grad.tolist())
print(native.extension("mlsys_lab.autograd", "_dispatch.c") is not None)
"""


def spoken(cache: Path, before: str = "", **variables: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), **variables}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.poor
@pytest.mark.parametrize("lack", ["compiler", "Python.h", "working compiler"])
def test_without_a_compiler_or_a_header_the_twins_run_silently(lack, tmp_path):
    before = "import sysconfig; sysconfig.get_path = lambda *_: '/nowhere'" if lack == "Python.h" else ""
    variables = {"compiler": {"MLSYS_LAB_NO_COMPILER": "1"}, "working compiler": {"CFLAGS": ""}}.get(lack, {})
    if lack == "working compiler":
        fake = tmp_path / "cc"
        fake.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo cc 9 && exit 0\necho "error: no" >&2\nexit 1\n'
        )
        fake.chmod(0o755)
        variables = {"CC": str(fake)}
    assert spoken(tmp_path / "cache", before, **variables) == ["[2.0, 40.0]"] * 2 + ["False"]


@needs_c
@pytest.mark.poor
def test_a_damaged_library_is_built_again(tmp_path):
    said = ["[2.0, 40.0]"] * 2 + ["True"]
    assert spoken(tmp_path) == said
    (library,) = (tmp_path / "mlsys-lab" / "native").glob("_dispatch-*")
    library.chmod(0o700)
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    assert spoken(tmp_path) == said
    assert library.read_bytes() == whole


@needs_c
def test_another_binary_interface_of_python_is_another_library(monkeypatch):
    asked = []
    monkeypatch.setattr(native, "build", lambda source, name, flags: asked.append(flags) or "/nowhere")
    for suffix in (".cpython-311-x86_64-linux-gnu.so", ".cpython-312-x86_64-linux-gnu.so"):
        monkeypatch.setattr(
            native.sysconfig, "get_config_var", lambda name, s=suffix: s if "EXT" in name else 0
        )
        native.extension.__wrapped__("mlsys_lab.autograd", "_dispatch.c")
    assert len(set(asked)) == 2
