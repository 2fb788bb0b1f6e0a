"""A compiler of CUDA C++, NVIDIA's or clang, is needed by nearly every test here; none needs a GPU."""

from __future__ import annotations

import pytest

from mlsys_lab.kernels.frontend import REMEDY, nvrtc
from tests.conftest import need_front_end

#: For tests of what clang with our header does not have: machine code, NVIDIA's headers and double functions.
needs_nvrtc = pytest.mark.skipif(nvrtc() is None, reason=f"needs NVIDIA's compiler and headers: {REMEDY}")


@pytest.fixture(autouse=True)
def front_end(request: pytest.FixtureRequest) -> None:
    if "without_nvrtc" not in request.fixturenames:  # those show what works where there is none
        need_front_end()
