"""What every test may need: tools that may be missing, and a small homework of its own.

With MLSYS_LAB_REQUIRE=sandbox,browser a missing tool is a failure; without, the test is skipped and the run
ends with what would enable it.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

import autograder.notebook_tools  # noqa: F401  before a test imports nbformat, which is slow otherwise
from autograder.machine import is_installed

# Several workers share the cores: threads of NumPy and scikit-learn in each would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `--hypothesis-profile=deep` looks longer.
settings.register_profile("ci", max_examples=25, deadline=None)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile("ci")

ROOT = Path(__file__).resolve().parents[1]
REMEDIES = {
    "sandbox": "bubblewrap (Debian: apt-get install bubblewrap); `mlsys-lab doctor` says more",
    "browser": "Chromium (Debian: apt-get install chromium fonts-dejavu-core) and `pip install playwright`",
    "index": "a package index that pip can reach",
    "packages": "`python3 lab.py test` installs what labs need (torch, tensorflow, NVIDIA's compiler)",
}
#: What a lab's header names, where it is imported under another name.
MODULES = {"scikit-learn": "sklearn", "nvidia-cuda-nvrtc": "nvrtc"}
_missing: set[str] = set()


def need(tool: str, present: bool) -> None:
    """Skip the test where a tool is missing, or fail it where MLSYS_LAB_REQUIRE asks for the tool."""
    if present:
        return
    if tool in os.environ.get("MLSYS_LAB_REQUIRE", "").split(","):
        pytest.fail(f"{tool} is required and missing: {REMEDIES[tool]}")
    _missing.add(tool)
    pytest.skip(f"no {tool}: {REMEDIES[tool]}")


def need_front_end() -> None:
    """Skip the test, as `need` does, where no compiler of CUDA C++ is installed, NVIDIA's or clang."""
    from mlsys_lab.kernels.frontend import nvrtc

    need("packages", nvrtc() is not None or is_installed("ziglang"))


@pytest.fixture(scope="session")
def sandboxed() -> str:
    """The level `namespaces`, where it works."""
    from autograder.sandbox import available

    usable = {s.level for s in available() if s.usable}
    need("sandbox", "namespaces" in usable)
    return "namespaces"


@pytest.fixture(scope="session")
def browser() -> str:
    """The path of a Chromium that Playwright can drive."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        import playwright  # noqa: F401
    except ImportError:
        found = None
    need("browser", found is not None)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def packages() -> Callable[..., None]:
    """Call it with the names in a lab's `needs`: the test needs them all."""

    def ask(*names: str) -> None:
        need("packages", all(is_installed(MODULES.get(name, name)) for name in names))

    return ask


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests first, so that no worker starts on a long one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({str(r.longrepr[2]) for r in skipped if isinstance(r.longrepr, tuple)})
    if reasons:
        terminalreporter.section("skipped, and what would enable it")
        for reason in reasons:
            terminalreporter.line(reason.removeprefix("Skipped: "))


TOML = """
name = "toy"
title = "A toy homework"
points = 20
clean_start = 2
preload = ["numpy"]
[limits]
call_s = 1
question_s = 6
submission_s = 20
memory_mb = 512
[questions.q1]
title = "Double"
names = ["double"]
[questions.q2]
title = "Mean"
names = ["mean"]
"""

PUBLIC = '''
import numpy as np
import pytest
from hypothesis import settings
from autograder.compare import close

@pytest.mark.question("q1")
@pytest.mark.points(6)
def test_doubles_an_array(student, rng):
    """An array is doubled"""
    x = rng.normal(size=(3, 4))
    close(student.double(x), x + x, rtol=1e-12, input=x)

@pytest.mark.question("q2")
@pytest.mark.points(5)
def test_mean_of_a_row(student):
    """The mean of three numbers"""
    close(student.mean(np.array([1.0, 2.0, 6.0])), 3.0, rtol=1e-12)
'''

HIDDEN = '''
import numpy as np
import pytest
from hypothesis import settings
from autograder.compare import close

@pytest.mark.question("q1")
@pytest.mark.points(3)
@pytest.mark.hidden
def test_keeps_float32(student):
    """The dtype is kept"""
    out = student.double(np.float32([1.5, 2.5]))
    close(out, np.float32([3.0, 5.0]))
    close(str(out.dtype), "float32")

@pytest.mark.question("q2")
@pytest.mark.points(4)
@pytest.mark.hidden
def test_mean_of_many(student, rng):
    """The mean of random numbers"""
    x = rng.normal(size=1000) + 12345.0
    close(student.mean(x), float(x.sum() / 1000), rtol=1e-9, input=x)
'''

SOURCE = """\
# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   mlsys_lab: {title: Toy, week: 1, prerequisites: [], minutes: 5, needs: [], parts: [], points: 20}
# ---

# %%
import numpy as np

# %%
def double(x):
    ### BEGIN SOLUTION
    return x + x
    ### END SOLUTION

# %%
def mean(x):
    ### BEGIN SOLUTION
    return x.sum() / x.size
    ### END SOLUTION

# %%
print("the end")
"""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A homework of two questions and twenty points, small enough to be graded a hundred times."""
    root = tmp_path_factory.mktemp("course")
    folder = root / "assignments" / "toy"
    for name, text in {
        "assignment.toml": TOML,
        "tests/public/test_toy.py": PUBLIC,
        "tests/hidden/test_toy_hidden.py": HIDDEN,
        "toy.py": SOURCE,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder
