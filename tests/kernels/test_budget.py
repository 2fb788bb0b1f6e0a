"""A launch that has no end is given up after seconds of computing, whatever it does meanwhile."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel, examined
from mlsys_lab.kernels.budget import Budget
from mlsys_lab.kernels.launcher import Launcher
from mlsys_lab.kernels.simulate import Watched

HEAD = 'extern "C" __global__ void k(volatile int* y) {\n'
ENDLESS = {
    "a counter that memory shows": "int i = 0;\n while (1) { i++; y[0] = i; }",
    "a counter in local memory": "volatile int i = 0;\n while (1) i++;",
    "an unsigned that is never below 0": "\nfor (unsigned i = 10; i >= 0; i--) y[i % 64] += 1;",
    "additions with a fence": "\nwhile (1) { atomicAdd((int*)y, 1); __threadfence(); }",
    "a search in shared memory": "__shared__ volatile int s[64]; s[threadIdx.x] = 1; __syncthreads();\n"
    "for (int a = 0; s[a % 32] != 5; ++a); y[0] = 1;",
}


@pytest.mark.parametrize("case", ENDLESS)
@pytest.mark.parametrize("shape", [(1, 32), (16, 64)])
def test_an_endless_loop_that_changes_memory_ends_after_the_seconds_that_it_may_take(case, shape):
    report = CudaKernel(HEAD + ENDLESS[case] + "\n}")[shape](np.zeros(64, np.int32), seconds=0.2)
    (error,) = report.errors
    assert (error.kind, error.line) == ("step_limit", 3)
    assert error.message == (
        "line 3: no end within 0.2 s of computing: an infinite loop? (seconds=... allows more)"
    )


@pytest.mark.parametrize("limit", [{"steps": 0}, {"steps": -1}, {"seconds": 0}, {"seconds": -2.5}])
def test_a_budget_of_nothing_is_refused(limit):
    kernel = CudaKernel(HEAD + "y[0] = 1;\n}")
    with pytest.raises(ValueError, match=rf"^{next(iter(limit))} is .* more than 0, got "):
        kernel[1, 32](np.zeros(64, np.int32), **limit)


def test_labs_give_up_after_5_seconds_a_launch_after_20_and_the_ladders_kernels_never(monkeypatch):
    made = []
    monkeypatch.setattr(
        "mlsys_lab.kernels.launch.Budget", lambda *given: made.append(Budget(*given)) or made[-1]
    )
    source = HEAD + "y[0] = threadIdx.x == 0;\n}"
    CudaKernel(source)[1, 1](np.zeros(64, np.int32))
    examined(source, "k", 1, 1, np.zeros(64, np.int32))
    Launcher()("vector_add", 1, *np.ones((3, 32), np.float32), 32)
    assert [b.seconds for b in made] == [20, 5, np.inf]


def test_the_seconds_are_those_of_the_clock_that_it_is_given(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(
        "mlsys_lab.kernels.launch.Budget", lambda steps, seconds: Budget(steps, seconds, lambda: next(ticks))
    )
    report = CudaKernel(HEAD + ENDLESS["a counter in local memory"] + "\n}")[1, 1](
        np.zeros(64, np.int32), seconds=100
    )
    assert [e.kind for e in report.errors] == ["step_limit"]
    assert 100 < next(ticks) < 110


def test_what_is_kept_for_races_is_bounded_also_where_no_barrier_ever_comes(monkeypatch):
    monkeypatch.setattr("mlsys_lab.kernels.ptx.access.MOST_LOGGED", 1000)
    monkeypatch.setattr("mlsys_lab.kernels.ptx.order.MOST", 10_000)
    kept, step = [], Watched.step

    def stepped(machine: Watched) -> bool:
        marks = (
            sum(len(c.marks) for at in machine.order.at.values() for c in at.values()) if machine.order else 0
        )
        kept.append(max(sum(len(r[0]) for r in machine.reads), marks))
        return step(machine)

    monkeypatch.setattr(Watched, "step", stepped)
    for case in ("additions with a fence", "a search in shared memory"):
        CudaKernel(HEAD + ENDLESS[case] + "\n}")[2, 64](np.zeros(64, np.int32), steps=400)
        assert 100 < max(kept) <= 2000, case
        kept.clear()
