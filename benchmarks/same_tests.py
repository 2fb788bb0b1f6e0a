"""Runs one of our test functions inside a peer, against the names of the student's notebook.

The peers run tests in the student's own process; this gives them the very tests that we run from outside, so
that all sides do the same checking. A plain module: the peers' environment does not have this project.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@lru_cache
def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_test(path: str, name: str, names: dict[str, Any]) -> None:
    """Call a test function with `student` bound to the notebook's names.

    Raises:
        AssertionError: the test does not pass.
    """
    import inspect

    import numpy as np

    function = getattr(_module(path), name)
    function = getattr(function, "__wrapped__", function)
    fixtures = {"student": SimpleNamespace(**names), "rng": np.random.default_rng(0)}
    function(**{p: fixtures[p] for p in inspect.signature(function).parameters})
