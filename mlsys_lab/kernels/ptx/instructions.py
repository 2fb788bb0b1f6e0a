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


def rounded_up_or_down(op: tuple[str, ...], exact: Callable[..., Any]) -> Callable[..., Any] | None:
    """For `.rm`, `.rp` and `.rz` of float32: the exact value in float64, then rounded that way."""
    way = next((p for p in op[1:-1] if p in ("rm", "rp", "rz")), None)
    if way is None or op[-1] != "f32":
        return None

    def function(*values: Any) -> Any:
        value = exact(*(np.asarray(v, np.float64) for v in values))
        near = value.astype(np.float32)
        over = near > value if way == "rm" else near < value if way == "rp" else np.abs(near) > np.abs(value)
        toward = {"rm": -np.inf, "rp": np.inf, "rz": 0.0}[way]
        return np.where(over, np.nextafter(near, np.float32(toward)), near)

    return function


def arithmetic(function: Callable[..., Any], operands: int = 2) -> Callable[[tuple[str, ...]], Made]:
    """Addition and its kind: `.sat` clamps, directed rounding goes through float64."""

    def make(op: tuple[str, ...]) -> Made:
        kind = op[-1]
        run = rounded_up_or_down(op, function) or function
        if "cc" in op:
            raise KeyError("carry")
        if "sat" in op and kind == "s32":
            wide = lambda *v: np.clip(function(*(np.asarray(x, np.int64) for x in v)), -(2**31), 2**31 - 1)  # noqa: E731
            return (lambda *v: wide(*v).astype(np.int32)), [kind], [kind] * operands
        if "sat" in op:
            plain = run
            run = lambda *v: np.fmin(np.fmax(plain(*v), v[0].dtype.type(0)), v[0].dtype.type(1))  # noqa: E731
        return (paired(run, kind) if kind.endswith("x2") else run), [kind], [kind] * operands

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


@row("mul")
def mul(op: tuple[str, ...]) -> Made:
    kind = op[-1]
    if "wide" in op:
        wide = kind[0] + str(2 * int(kind[1:]))
        return widened(np.multiply, DTYPES[wide]), [wide], [kind] * 2
    if "hi" in op:
        return high(DTYPES[kind]), [kind], [kind] * 2
    return arithmetic(np.multiply)(op)


@row("mad")
def mad(op: tuple[str, ...]) -> Made:
    kind = op[-1]
    if "wide" in op:
        wide = kind[0] + str(2 * int(kind[1:]))
        times = widened(np.multiply, DTYPES[wide])
        return (lambda a, b, c: times(a, b) + c), [wide], [kind, kind, wide]
    if "hi" in op:
        top = high(DTYPES[kind])
        return (lambda a, b, c: top(a, b) + c), [kind], [kind] * 3
    if kind.startswith("f"):
        return fma(op)
    return (lambda a, b, c: a * b + c), [kind], [kind] * 3


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
    exact = lambda a, b, c: a * b + c  # noqa: E731
    directed = rounded_up_or_down(op, exact)
    if directed is not None:
        return directed, [kind], [kind] * 3
    if kind == "f64":
        return fma_double, [kind], [kind] * 3
    if kind.endswith("x2"):
        wide = lambda a, b, c: exact(*(v.astype(np.float64) for v in (a, b, c)))  # noqa: E731
        return paired(wide, kind), [kind], [kind] * 3
    dtype = DTYPES[kind]

    def once(a: Any, b: Any, c: Any) -> Any:
        value = a.astype(np.float64)
        value = value * b
        value += c
        return value.astype(dtype)

    if "sat" in op:
        return (lambda a, b, c: np.fmin(np.fmax(once(a, b, c), dtype(0)), dtype(1))), [kind], [kind] * 3
    if "relu" in op:
        return (lambda a, b, c: np.fmax(once(a, b, c), dtype(0))), [kind], [kind] * 3
    return once, [kind], [kind] * 3


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
    operands = 3 if "3" in op else 2
    return elementwise(function, operands)(op)


COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


def compared(name: str, kind: str) -> Callable[..., Any]:
    """A comparison; those that end in `u` are true of NaN, `num` and `nan` ask for it."""
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name in COMPARE:
        if name == "ne" and kind[0] == "f":
            return lambda a, b: (a != b) & ~(np.isnan(a) | np.isnan(b))
        return COMPARE[name]
    inner = COMPARE[name.removesuffix("u")]
    return lambda a, b: inner(a, b) | np.isnan(a) | np.isnan(b)


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
    return (
        (lambda a, b, p: (combine(c := compare(a, b), p), combine(~c, p))),
        ["pred", "pred"],
        [kind, kind, "pred"],
    )


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
        narrow = DTYPES[to.removesuffix("x2")]

        def both(a: Any, b: Any) -> Any:
            pair = np.stack(np.broadcast_arrays(b, a), axis=-1).astype(narrow)
            if "relu" in op:
                pair = np.maximum(pair, narrow(0))
            out = np.ascontiguousarray(pair).view(np.uint32)[..., 0]
            return out if out.ndim else out[()]

        return both, [to], [source, source]
    rounding = next((p for p in op[1:-2] if p in ROUND), "")
    target, from_float, to_float = DTYPES[to], is_real(source), is_real(to)

    def function(a: Any) -> Any:
        if from_float and not to_float:
            value = ROUND[rounding or "rzi"](np.asarray(a, np.float64))
            info = np.iinfo(target)
            inside = np.where(np.isnan(value), 0.0, value)
            high_ = inside >= float(info.max)
            low = inside <= float(info.min)
            cut = np.where(high_ | low, 0.0, inside).astype(target)
            return np.where(high_, info.max, np.where(low, info.min, cut)).astype(target)
        if to_float:
            if rounding in ("rni", "rzi", "rmi", "rpi"):
                a = ROUND[rounding](a)
            value = a.astype(target)
            if rounding in ("rz", "rm", "rp") and not rounding.endswith("i"):
                value = toward(value, a, rounding, target)
            if "relu" in op:
                value = np.maximum(value, target(0))
            return np.fmin(np.fmax(value, target(0)), target(1)) if "sat" in op else value
        if "sat" in op:
            info = np.iinfo(target)
            return np.clip(a.astype(np.int64), info.min, info.max).astype(target)
        return a.astype(target)

    return function, [to], [source]


def toward(near: Any, exact: Any, way: str, dtype: Any) -> Any:
    """The neighbour of a rounded value on the side that the mode asks for."""
    exact = np.asarray(exact, np.float64)
    value = np.asarray(near, np.float64)
    over = value > exact if way == "rm" else value < exact if way == "rp" else np.abs(value) > np.abs(exact)
    aim = {"rm": -np.inf, "rp": np.inf, "rz": 0.0}[way]
    return np.where(over, np.nextafter(near, dtype(aim)), near)


def is_real(kind: str) -> bool:
    return kind in ("f16", "bf16", "f32", "f64", "tf32")


ROUND: dict[str, Callable[..., Any]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
    "rn": lambda a: a,
    "rz": lambda a: a,
    "rm": lambda a: a,
    "rp": lambda a: a,
    "rna": lambda a: a,
}
row("cvta")(lambda op: (lambda a: a, [op[-1]], [op[-1]]))
row("nop")(lambda op: (lambda: None, [], []))
