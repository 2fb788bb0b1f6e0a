"""One policy for the threads of all libraries, and for the memory that a step frees."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mlsys_lab._core.threads import set_threads, thread_counts, threads

has_openblas = "openblas" in str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])  # type: ignore[index]


@pytest.fixture(autouse=True)
def _as_before():
    before = thread_counts()
    yield
    assert before.items() <= thread_counts().items()


def test_a_block_has_its_threads_and_then_each_library_its_own_again():
    torch = pytest.importorskip("torch", reason="torch has a pool of its own: pip install torch")
    kept = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        before = thread_counts()
        assert before["torch"] == 3
        with threads(2):
            assert torch.get_num_threads() == 2
            assert set(thread_counts().values()) == {2}
        assert thread_counts() == before
    finally:
        torch.set_num_threads(kept)


@pytest.mark.skipif(not has_openblas, reason="NumPy uses another BLAS")
def test_numpys_own_blas_is_told():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="the oracle: pip install threadpoolctl")

    def blas():
        pools = threadpoolctl.threadpool_info()
        return {p["num_threads"] for p in pools if p["user_api"] == "blas" and "numpy" in p["filepath"]}

    before = thread_counts()["numpy"]
    set_threads(2)
    assert blas() == {2}
    with threads(1):
        assert blas() == {1}
    assert blas() == {2}
    set_threads(before)


def test_no_thread_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one thread, got 0"):
        set_threads(0)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_a_step_under_an_optimiser_takes_no_fresh_pages():
    code = (
        "import resource, sys, numpy as np\n"
        "from mlsys_lab._core.allocator import keep_freed_memory\n"
        "from mlsys_lab import optim\n"
        "class Value: data = np.ones(1, np.float32); grad = None\n"
        "if sys.argv[1] == 'yes': optim.SGD([Value()])\n"
        "if sys.argv[1] == 'yes' and not keep_freed_memory(): print('no glibc'); sys.exit()\n"
        "def step(): return sum(float(a[0]) for a in [np.ones(300_000) for _ in range(8)])\n"
        "for _ in range(3): step()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults()\n"
        "for _ in range(10): step()\n"
        "print(faults() - before)\n"
    )
    faults = {}
    for kept in ("yes", "no"):
        command = [sys.executable, "-c", code, kept]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if said == "no glibc":
            pytest.skip(said)
        faults[kept] = int(said)
    assert faults["yes"] < 100 < faults["no"]
