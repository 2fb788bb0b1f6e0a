"""Rows of the table for arithmetic, comparisons and conversions; `integers` has those on bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.table import DTYPES, Made, row


def paired(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """The function on the two narrow floats within each 32-bit register."""
    narrow = DTYPES[kind.removesuffix("x2")]

    def on_pairs(*values: Any) -> Any:
        halves = [np.ascontiguousarray(np.asarray(v)[..., None]).view(narrow) for v in values]
        out = np.ascontiguousarray(function(*halves).astype(narrow)).view(np.uint32)[..., 0]
        return out if out.ndim else out[()]

    return on_pairs


def elementwise(function: Callable[..., Any], operands: int) -> Callable[[tuple[str, ...]], Made]:
    """A row whose operands and result have the opcode's last type."""

    def make(op: tuple[str, ...]) -> Made:
        kind = op[-1]
        if kind.endswith("x2"):
            return paired(function, kind), [kind], [kind] * operands
        return function, [kind], [kind] * operands

    return make


AIMS = {"rm": -np.inf, "rp": np.inf, "rz": 0.0}


def toward(near: Any, exact: Any, way: str) -> Any:
    """The neighbour of a rounded value on the side that the mode asks for."""
    exact, value = np.asarray(exact, np.float64), np.asarray(near, np.float64)
    over = value > exact if way == "rm" else value < exact if way == "rp" else np.abs(value) > np.abs(exact)
    return np.where(over, np.nextafter(near, near.dtype.type(AIMS[way])), near)


def directed(op: tuple[str, ...], exact: Callable[..., Any]) -> Callable[..., Any] | None:
    """For `.rm`, `.rp` and `.rz` of float32: the exact value in float64, then rounded that way."""
    way = next((p for p in op[1:-1] if p in AIMS), None)
    if way is None or op[-1] != "f32":
        return None

    def function(*values: Any) -> Any:
        value = exact(*(np.asarray(v, np.float64) for v in values))
        return toward(value.astype(np.float32), value, way)

    return function


def saturated(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Cut to what an int32 holds, or to 0 to 1; NaN is 0."""
    if kind == "s32":
        low, high = -(2**31), 2**31 - 1
        wide = lambda *v: function(*(np.asarray(x, np.int64) for x in v))  # noqa: E731
        return lambda *v: np.clip(wide(*v), low, high).astype(np.int32)
    zero, one = (DTYPES[kind](n) for n in (0, 1))
    return lambda *v: np.fmin(np.fmax(function(*v), zero), one)


def arithmetic(function: Callable[..., Any]) -> Callable[[tuple[str, ...]], Made]:
    """Addition and its kind: `.sat` clamps, directed rounding goes through float64."""

    def make(op: tuple[str, ...]) -> Made:
        if "cc" in op:
            raise KeyError("carry")
        run = directed(op, function) or function
        return elementwise(saturated(run, op[-1]) if "sat" in op else run, 2)(op)

    return make


row("add")(arithmetic(np.add))
row("sub")(arithmetic(np.subtract))
row("neg")(elementwise(np.negative, 1))
row("abs")(elementwise(np.abs, 1))
row("and")(lambda op: (np.bitwise_and, [op[-1]], [op[-1]] * 2))
row("or")(lambda op: (np.bitwise_or, [op[-1]], [op[-1]] * 2))
row("xor")(lambda op: (np.bitwise_xor, [op[-1]], [op[-1]] * 2))
row("not")(lambda op: (np.logical_not if op[-1] == "pred" else np.invert, [op[-1]], [op[-1]]))
row("cnot")(lambda op: (lambda a: (a == 0).astype(a.dtype), [op[-1]], [op[-1]]))


@row("mul", "mad")
def product(op: tuple[str, ...]) -> Made:
    """Of two numbers, plus a third for `mad`; the lower half, the upper half or the whole."""
    kind, adds = op[-1], op[0] == "mad"
    result: str = kind
    times: Callable[..., Any] = np.multiply
    if "wide" in op:
        result = kind[0] + str(2 * int(kind[1:]))
        times = widened(np.multiply, DTYPES[result])
    elif "hi" in op:
        times = high(DTYPES[kind])
    elif not adds:
        return arithmetic(np.multiply)(op)
    elif kind.startswith("f"):
        return fma(op)
    if adds:
        return (lambda a, b, c: times(a, b) + c), [result], [kind, kind, result]
    return times, [result], [kind, kind]


def widened(function: Callable[..., Any], wide: Any) -> Callable[..., Any]:
    return lambda a, b: function(a.astype(wide), b.astype(wide))


def high(dtype: Any) -> Callable[..., Any]:
    """The upper half of a product of integers."""
    bits = np.dtype(dtype).itemsize * 8
    if bits < 64:
        wide = np.int64 if np.issubdtype(dtype, np.signedinteger) else np.uint64
        return lambda a, b: ((a.astype(wide) * b.astype(wide)) >> wide(bits)).astype(dtype)

    def unsigned(a: Any, b: Any) -> Any:
        low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
        a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
        middle = (a0 * b0 >> half) + (a1 * b0 & low) + (a0 * b1 & low)
        return a1 * b1 + (a1 * b0 >> half) + (a0 * b1 >> half) + (middle >> half)

    if np.issubdtype(dtype, np.unsignedinteger):
        return unsigned

    def signed(a: Any, b: Any) -> Any:
        top = unsigned(a.view(np.uint64), b.view(np.uint64)).view(np.int64)
        return top - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)

    return signed


@row("fma")
def fma(op: tuple[str, ...]) -> Made:
    """One rounding: a product of float32 is exact in float64; of float64, by an error-free sum."""
    kind = op[-1]
    types = [kind], [kind] * 3
    rounded = directed(op, lambda a, b, c: a * b + c)
    if rounded is not None:
        return rounded, *types
    if kind == "f64":
        return fma_double, *types
    dtype = DTYPES[kind.removesuffix("x2")]

    def once(a: Any, b: Any, c: Any) -> Any:
        value = a.astype(np.float64)
        value = value * b
        value += c
        return value.astype(dtype)

    if "relu" in op:
        return elementwise(lambda *v: np.fmax(once(*v), dtype(0)), 3)(op)
    return elementwise(saturated(once, kind) if "sat" in op else once, 3)(op)


def fma_double(a: Any, b: Any, c: Any) -> Any:
    """a*b + c: product and sum with their errors (Dekker 1971, Knuth's TwoSum), added last."""
    product = a * b
    split = np.float64(134217729.0)
    a1 = split * a - (split * a - a)
    b1 = split * b - (split * b - b)
    a2, b2 = a - a1, b - b1
    error = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    total = product + c
    shadow = total - product
    rest = (product - (total - shadow)) + (c - shadow) + error
    fine = np.isfinite(rest) & (np.abs(product) < 1e290)
    return np.where(fine, total + np.where(fine, rest, 0.0), total)


@row("min", "max")
def extreme(op: tuple[str, ...]) -> Made:
    """A NaN loses, unless `.NaN` says otherwise."""
    least, kind = op[0] == "min", op[-1]
    function: Callable[..., Any]
    if kind[0] not in "fb" or "NaN" in op:
        function = np.minimum if least else np.maximum
    else:
        function = np.fmin if least else np.fmax
    if "relu" in op:
        inner = function
        function = lambda a, b: np.maximum(inner(a, b), a.dtype.type(0))  # noqa: E731
    return elementwise(function, 2)(op)


COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def compared(name: str, kind: str) -> Callable[..., Any]:
    """A comparison; those that end in `u` are true of NaN, `num` and `nan` ask for it."""
    unordered = lambda a, b: np.isnan(a) | np.isnan(b)  # noqa: E731
    if name in ("num", "nan"):
        return (lambda a, b: ~unordered(a, b)) if name == "num" else unordered
    if name == "ne" and kind[0] == "f":
        return lambda a, b: (a != b) & ~unordered(a, b)
    if name in COMPARE:
        return COMPARE[name]
    inner = COMPARE[name.removesuffix("u")]
    return lambda a, b: inner(a, b) | unordered(a, b)


@row("setp", "set")
def set_predicate(op: tuple[str, ...]) -> Made:
    """Types and, for `.and`, `.or`, `.xor`, one more operand; the second result is of the negation."""
    kind = op[-1]
    compare = compared(op[1], kind)
    if kind.endswith("x2"):
        raise KeyError("pairs")
    join = next((p for p in op[2:-1] if p in ("and", "or", "xor")), "")
    combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(join)
    if op[0] == "set":
        dtype = DTYPES[op[-2]]
        yes = dtype(1.0) if op[-2].startswith("f") else dtype(-1 if op[-2] == "s32" else 0xFFFFFFFF)
        return (lambda a, b: np.where(compare(a, b), yes, dtype(0))), [op[-2]], [kind, kind]
    if combine is None:
        return (lambda a, b: (c := compare(a, b), ~c)), ["pred", "pred"], [kind, kind]
    both = lambda a, b, p: (combine(c := compare(a, b), p), combine(~c, p))  # noqa: E731
    return both, ["pred", "pred"], [kind, kind, "pred"]


@row("selp")
def select(op: tuple[str, ...]) -> Made:
    return (lambda a, b, p: np.where(p, a, b)), [op[-1]], [op[-1], op[-1], "pred"]


@row("slct")
def select_by_sign(op: tuple[str, ...]) -> Made:
    return (lambda a, b, c: np.where(c >= 0, a, b)), [op[-2]], [op[-2], op[-2], op[-1]]


@row("copysign")
def copysign(op: tuple[str, ...]) -> Made:
    return (lambda a, b: np.copysign(b, a)), [op[-1]], [op[-1]] * 2


@row("testp")
def test_property(op: tuple[str, ...]) -> Made:
    asked: dict[str, Any] = {
        "finite": np.isfinite, "infinite": np.isinf, "number": lambda a: ~np.isnan(a), "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
        "subnormal": lambda a: (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny),
    }  # fmt: skip
    return asked[op[1]], ["pred"], [op[-1]]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
    "rcp": lambda a: a.dtype.type(1) / a, "rsqrt": lambda a: a.dtype.type(1) / np.sqrt(a),
}  # fmt: skip
for name, function in FUNCTIONS.items():
    row(name)(elementwise(function, 1))


@row("cvt")
def convert(op: tuple[str, ...]) -> Made:
    """Between types: integers are cut or extended, floats rounded; what does not fit saturates, NaN is 0."""
    to, source = op[-2], op[-1]
    if to.endswith("x2"):
        return pair_of(DTYPES[to.removesuffix("x2")], "relu" in op), [to], [source, source]
    rounding = next((p for p in op[1:-2] if p in ROUND or p in AIMS), "")
    target, from_float, to_float = DTYPES[to], is_real(source), is_real(to)
    whole = ROUND.get(rounding, lambda a: a)

    def to_integer(a: Any) -> Any:
        info = np.iinfo(target)
        if not from_float:
            return np.clip(a.astype(np.int64), info.min, info.max).astype(target)
        value = ROUND.get(rounding, np.trunc)(np.asarray(a, np.float64))
        value = np.where(np.isnan(value), 0.0, value)
        high, low = value >= float(info.max), value <= float(info.min)
        cut = np.where(high | low, 0.0, value).astype(target)
        return np.where(high, info.max, np.where(low, info.min, cut)).astype(target)

    def to_real(a: Any) -> Any:
        a = whole(a)
        value = a.astype(target)
        if rounding in AIMS:
            value = toward(value, a, rounding)
        return np.maximum(value, target(0)) if "relu" in op else value

    if to_float:
        return saturated(to_real, to) if "sat" in op else to_real, [to], [source]
    plain = not from_float and "sat" not in op
    return (lambda a: a.astype(target)) if plain else to_integer, [to], [source]


def pair_of(narrow: Any, relu: bool) -> Callable[..., Any]:
    """Two floats, rounded, in one register; the first is the upper one."""

    def function(a: Any, b: Any) -> Any:
        pair = np.stack(np.broadcast_arrays(b, a), axis=-1).astype(narrow)
        out = np.ascontiguousarray(np.maximum(pair, narrow(0)) if relu else pair).view(np.uint32)[..., 0]
        return out if out.ndim else out[()]

    return function


def is_real(kind: str) -> bool:
    return kind in ("f16", "bf16", "f32", "f64", "tf32")


ROUND: dict[str, Any] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
row("cvta")(lambda op: (lambda a: a, [op[-1]], [op[-1]]))
row("nop")(lambda op: (lambda: None, [], []))
