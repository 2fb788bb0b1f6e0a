"""A compiler of CUDA C++ is needed by every test here, NVIDIA's or clang; none needs a GPU."""

from __future__ import annotations

import pytest

from tests.conftest import need_front_end


@pytest.fixture(autouse=True)
def front_end() -> None:
    need_front_end()
