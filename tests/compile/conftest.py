"""What the tests of compiled functions share: both backends."""

from __future__ import annotations

import pytest

from mlsys_lab._core import native


@pytest.fixture(params=["C", "NumPy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a compiler."""
    if request.param == "NumPy":
        monkeypatch.setenv(native.OFF, "1")
    elif native.compiler() is None:
        pytest.skip("no C compiler: install gcc or clang")
    return str(request.param)
