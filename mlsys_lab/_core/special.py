"""Special functions that NumPy lacks: the error function."""

from __future__ import annotations

import numpy as np

from mlsys_lab._core.backend import Array, wide

# W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969), with the
# coefficients of his CALERF: erf on |x| <= 0.46875 as x P(x2)/Q(x2), beyond as 1 - exp(-x2) R(|x|)/S(|x|).
P = (
    *(1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2),
    3.20937758913846947e3,
)
Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
R = (
    *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1),
    *(2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3),
    1.23033935479799725e3,
)
S = (
    *(1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3),
    *(3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's scheme, highest power first."""
    total = coefficients[0] * x + coefficients[1]
    for c in coefficients[2:]:
        total = total * x + c
    return total


def error_function(x: Array) -> Array:
    """erf, to a few units in the last place of float64 (of float32 for the narrow floats)."""
    x = x.astype(wide(x.dtype), copy=False)
    size = np.minimum(np.abs(x), 6.0)
    near = np.minimum(size, 0.46875) ** 2
    small = x * polynomial(P, near) / polynomial(Q, near)
    large = 1.0 - np.exp(-size * size) * polynomial(R, size) / polynomial(S, size)
    return np.where(size <= 0.46875, small, np.copysign(large, x))
