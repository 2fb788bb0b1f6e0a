"""What the engine raises: each names the invariant, what came, and the remedy."""

from __future__ import annotations


class ShapeError(ValueError):
    """Shapes that an operation cannot combine."""


class DtypeError(TypeError):
    """Dtypes that an operation does not mix, or that carry no gradient."""


class GraphError(RuntimeError):
    """A backward that the tape cannot do: freed, never recorded, or started without a gradient."""


class InplaceError(RuntimeError):
    """An in-place change of what backward still needs, or of a leaf."""


class NonFiniteError(FloatingPointError):
    """Anomaly mode found NaN or infinity."""
