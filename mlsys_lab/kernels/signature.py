"""A kernel's parameters as its source declares them: PTX keeps neither names nor what pointers point at."""

from __future__ import annotations

import re
from dataclasses import dataclass

import ml_dtypes
import numpy as np

#: NumPy's types of builtin scalars; pointers to anything else take any array.
SCALARS = {
    "float": np.float32, "double": np.float64, "int": np.int32, "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "char": np.int8, "signed char": np.int8, "unsigned char": np.uint8, "short": np.int16,
    "unsigned short": np.uint16, "long long": np.int64,
    "unsigned long long": np.uint64, "size_t": np.uint64,
    "bool": np.bool_, "__half": np.float16, "half": np.float16, "__nv_bfloat16": ml_dtypes.bfloat16,
    "int8_t": np.int8, "uint8_t": np.uint8, "int32_t": np.int32, "uint32_t": np.uint32, "int64_t": np.int64,
    "uint64_t": np.uint64,
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, what it points at ("" for a value), is it read only, its type."""

    name: str
    pointed: str = ""
    constant: bool = False
    kind: str = ""


def parameters(source: str, kernel: str) -> list[Parameter]:
    """The parameters of a kernel, or an empty list where the declaration is not plain.

    Args:
        source: CUDA C++.
        kernel: its name.
    """
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", " ", source, flags=re.DOTALL)
    found = re.search(rf"__global__[^;{{}}]*?\b{re.escape(kernel)}\s*\(([^)]*)\)", plain)
    if found is None or "<" in found[1] or not found[1].strip():
        return []
    out = []
    for text in found[1].split(","):
        words = re.sub(r"\b(__restrict__|__restrict|volatile|const|__grid_constant__|struct)\b", " ", text)
        name = re.search(r"(\w+)\s*(\[\s*\])?\s*$", words)
        if name is None:
            return []
        kind = " ".join(words[: name.start()].replace("*", " ").split())
        pointer = "*" in words or bool(name[2])
        constant = bool(re.match(r"\s*const\b", text))
        out.append(Parameter(name[1], kind if pointer else "", constant, kind))
    return out
