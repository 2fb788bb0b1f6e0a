"""`mlsys-lab kernel`: a kernel in a file, run on the simulator with made-up arguments."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

TYPES = {
    "f16": np.float16, "f32": np.float32, "f64": np.float64, "i8": np.int8, "u8": np.uint8, "i16": np.int16,
    "u16": np.uint16, "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64,
}  # fmt: skip
MOST_BYTES = 1 << 30  # of an argument: what a small machine can hold a few of
FILLS = ("zeros", "ones", "arange", "random")


def argument(text: str, seed: int = 0) -> Any:
    """An argument from its description.

    Args:
        text: `f32[1024]:random`, `f32[64,64]:zeros`, or a number `i32:1024`.
        seed: of random values, uniform in [0, 1), or whole numbers in [0, 100).

    Raises:
        ValueError: it is none; says how one looks.
    """
    found = re.fullmatch(r"(\w+)(?:\[(\d+(?:,\d+)*)\])?(?::(.+))?", text.strip())
    if found is None or found[1] not in TYPES:
        raise ValueError(f"--arg {text!r}: write f32[1024]:random or i32:1024; types are {', '.join(TYPES)}")
    dtype, shape, value = TYPES[found[1]], found[2], found[3] or "zeros"
    if shape is None:
        try:
            return float(value) if found[1].startswith("f") else int(value, 0)
        except ValueError:
            raise ValueError(f"--arg {text!r}: a number is written like i32:1024 or f32:0.5") from None
    size = tuple(int(n) for n in shape.split(","))
    if value not in FILLS:
        raise ValueError(f"--arg {text!r}: an array is filled with one of {', '.join(FILLS)}")
    if math.prod(size) * np.dtype(dtype).itemsize > MOST_BYTES:
        raise ValueError(
            f"--arg {text!r}: an array here has at most {MOST_BYTES:,} bytes: take a smaller one"
        )
    if value == "arange":
        return np.arange(np.prod(size)).reshape(size).astype(dtype)
    if value == "random":
        rng = np.random.default_rng(seed)
        whole = np.issubdtype(dtype, np.integer)
        return rng.integers(0, 100, size).astype(dtype) if whole else rng.random(size).astype(dtype)
    return np.full(size, value == "ones", dtype)


def sizes(text: str, what: str) -> tuple[int, ...]:
    """`128,2` as (128, 2).

    Raises:
        ValueError: these are no whole numbers.
    """
    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise ValueError(f"--{what} takes whole numbers like 128,2, got {text!r}") from None
