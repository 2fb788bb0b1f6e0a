"""What was measured of a machine is kept, and measured again on another processor only."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mlsys_lab.capacity import calibrate as module  # noqa: E402
from mlsys_lab.capacity.machine import Machine, kept_at, processor  # noqa: E402


def test_a_machine_is_measured_once_and_again_on_another_processor(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = []

    def calibrate(say):
        measured.append(say)
        return Machine(processor(), "2026-01-01")

    monkeypatch.setattr(module, "calibrate", calibrate)
    first, again = module.this_machine(), module.this_machine()
    assert (len(measured), first, kept_at().is_relative_to(tmp_path)) == (1, again, True)
    Machine("another processor", "2026-01-01").save(kept_at())
    assert module.this_machine().name == processor()
    assert len(measured) == 2
