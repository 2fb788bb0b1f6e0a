"""A compiler of CUDA C++ is needed by every test here, NVIDIA's or clang; none needs a GPU."""

from __future__ import annotations

import importlib.util

import pytest

from mlsys_lab.kernels.frontend import nvrtc
from tests.conftest import need


@pytest.fixture(autouse=True)
def front_end() -> None:
    need("packages", nvrtc() is not None or importlib.util.find_spec("ziglang") is not None)
