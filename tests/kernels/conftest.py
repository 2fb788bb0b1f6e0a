"""A compiler of CUDA C++, NVIDIA's or clang, is needed by nearly every test here; none needs a GPU."""

from __future__ import annotations

import pytest

from tests.conftest import need_front_end


@pytest.fixture(autouse=True)
def front_end(request: pytest.FixtureRequest) -> None:
    if "without_nvrtc" not in request.fixturenames:  # those show what works where there is none
        need_front_end()
