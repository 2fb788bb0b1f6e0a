"""Rows of the table for integers and bits: shifts, fields, permutations, division."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.instructions import arithmetic
from mlsys_lab.kernels.ptx.table import DTYPES, Made, row


@row("mul24", "mad24")
def mul24(op: tuple[str, ...]) -> Made:
    kind, add = op[-1], op[0] == "mad24"

    def product(a: Any, b: Any) -> Any:
        if kind == "u32":
            return (a & np.uint32(0xFFFFFF)) * (b & np.uint32(0xFFFFFF))
        return ((a << 8) >> 8) * ((b << 8) >> 8)

    return ((lambda a, b, c: product(a, b) + c) if add else product), [kind], [kind] * (3 if add else 2)


@row("div", "rem")
def divide(op: tuple[str, ...]) -> Made:
    """Quotient (toward zero) or remainder; of integers by zero all bits of the quotient are set."""
    kind, quotient_asked = op[-1], op[0] == "div"
    if kind.startswith("f"):
        return arithmetic(np.divide)(op)

    def function(a: Any, b: Any) -> Any:
        zero, dtype = b == 0, a.dtype
        safe = np.where(zero, dtype.type(1), b)
        quotient = a // safe
        if dtype.kind == "i":
            quotient = quotient + ((quotient < 0) & (quotient * safe != a)).astype(dtype)
        return np.where(
            zero, ~dtype.type(0) if quotient_asked else a, quotient if quotient_asked else a - quotient * safe
        )

    return function, [kind], [kind] * 2


@row("shl", "shr")
def shift(op: tuple[str, ...]) -> Made:
    """A shift by the width or more leaves zeros, or the sign."""
    kind = op[-1]
    dtype, bits, left = DTYPES[kind], np.dtype(DTYPES[kind]).itemsize * 8, op[0] == "shl"
    signed = kind[0] == "s"

    def function(a: Any, by: Any) -> Any:
        if by.ndim == 0 and by < bits:
            return a << dtype(by) if left else a >> dtype(by)
        inside = np.minimum(by, np.uint32(bits - 1)).astype(dtype)
        value = a << inside if left else a >> inside
        return value if signed and not left else np.where(by < bits, value, dtype(0))

    return function, [kind], [kind, "u32"]


@row("shf")
def funnel(op: tuple[str, ...]) -> Made:
    left, wraps = op[1] == "l", op[2] == "wrap"

    def function(low: Any, high_: Any, by: Any) -> Any:
        by = by & np.uint32(31) if wraps else np.minimum(by, np.uint32(32))
        both = (np.asarray(high_, np.uint64) << np.uint64(32)) | np.asarray(low, np.uint64)
        by = np.asarray(by, np.uint64)
        found = (both << by) >> np.uint64(32) if left else both >> by
        return found.astype(np.uint32)

    return function, ["b32"], ["b32", "b32", "u32"]


@row("prmt")
def permute(op: tuple[str, ...]) -> Made:
    if len(op) > 2:
        raise KeyError("mode")

    def function(a: Any, b: Any, picks: Any) -> Any:
        both = np.asarray(a, np.uint64) | (np.asarray(b, np.uint64) << np.uint64(32))
        out: Any = np.uint32(0)
        for i in range(4):
            pick = np.asarray(picks, np.uint64) >> np.uint64(4 * i)
            byte = (both >> (np.uint64(8) * (pick & np.uint64(7)))) & np.uint64(255)
            sign = (byte >> np.uint64(7)) * np.uint64(255)
            byte = np.where(pick & np.uint64(8), sign, byte)
            out = out | (byte.astype(np.uint32) << np.uint32(8 * i))
        return out

    return function, ["b32"], ["b32", "b32", "b32"]


@row("bfe")
def extract(op: tuple[str, ...]) -> Made:
    kind = op[-1]
    signed = kind[0] == "s"
    if kind.endswith("64"):
        raise KeyError("64 bits")

    def function(a: Any, start: Any, length: Any) -> Any:
        wide = np.asarray(a, np.int64 if signed else np.uint64)
        start, length = (np.asarray(v, np.uint32) & np.uint32(255) for v in (start, length))
        mask = (np.int64(1) << np.minimum(length, 32).astype(np.int64)) - 1
        low = (wide >> np.minimum(start, 63).astype(wide.dtype)).astype(np.int64) & mask
        if signed:
            top = np.where(length > 0, (np.int64(1) << np.maximum(length.astype(np.int64) - 1, 0)), 0)
            low = np.where(low & top, low - mask - 1, low)
        return low.astype(DTYPES[kind])

    return function, [kind], [kind, "u32", "u32"]


@row("bfi")
def insert(op: tuple[str, ...]) -> Made:
    kind = op[-1]
    dtype, bits = DTYPES[kind], int(kind[1:])

    def function(a: Any, b: Any, start: Any, length: Any) -> Any:
        start, length = (np.minimum(np.asarray(v, np.uint32) & np.uint32(255), bits) for v in (start, length))
        ones = np.where(length >= bits, ~dtype(0), (dtype(1) << (length % bits).astype(dtype)) - dtype(1))
        mask = np.where(start >= bits, dtype(0), ones << (start % bits).astype(dtype))
        return (b & ~mask) | (np.where(start >= bits, dtype(0), a << (start % bits).astype(dtype)) & mask)

    return function, [kind], [kind, kind, "u32", "u32"]


@row("popc", "clz", "bfind", "brev")
def bits(op: tuple[str, ...]) -> Made:
    kind = op[-1]
    width, name = np.uint32(kind[1:]), op[0]

    def length(a: Any) -> Any:
        """Bits up to the highest that is set."""
        wide, found = np.asarray(a).astype(np.uint64), np.asarray(np.zeros(np.shape(a), np.uint32))
        for step in (32, 16, 8, 4, 2, 1):
            far = (wide >> np.uint64(step)) != 0
            found = found + np.where(far, np.uint32(step), np.uint32(0))
            wide = np.where(far, wide >> np.uint64(step), wide)
        return (found + (wide != 0)).astype(np.uint32)

    if name == "popc":
        return (lambda a: np.bitwise_count(a).astype(np.uint32)), ["u32"], [f"u{width}"]
    if name == "clz":
        return (lambda a: width - length(a)), ["u32"], [f"u{width}"]
    if name == "bfind":

        def top(a: Any) -> Any:
            a = np.where(a < 0, ~a, a) if kind[0] == "s" else a
            found = length(a)
            place = width - found if "shiftamt" in op else found - np.uint32(1)
            return np.where(found == 0, np.uint32(0xFFFFFFFF), place).astype(np.uint32)

        return top, ["u32"], [kind]

    def reverse(a: Any) -> Any:
        bytes_ = np.ascontiguousarray(np.asarray(a)[..., None]).view(np.uint8)
        flipped = np.packbits(np.unpackbits(bytes_[..., ::-1], axis=-1), axis=-1, bitorder="little")
        return np.ascontiguousarray(flipped).view(DTYPES[kind])[..., 0]

    return reverse, [kind], [kind]


@row("lop3")
def logic(op: tuple[str, ...]) -> Made:
    def function(a: Any, b: Any, c: Any, table: Any) -> Any:
        out: Any = np.uint32(0)
        for i in range(8):
            if int(table) >> i & 1:
                out = out | ((a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c))
        return out

    return function, ["b32"], ["b32", "b32", "b32", "u32"]
