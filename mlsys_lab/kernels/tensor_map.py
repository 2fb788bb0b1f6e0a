"""Matrices as Hopper's copy engine takes them: a description of 128 bytes, made by the driver of a GPU.

A kernel takes one as a `const __grid_constant__` parameter of 128 bytes; see `cuda/matmul_wgmma.cu`. Limits
and constants: `cuTensorMapEncodeTiled` in CUDA's driver API, and `cuda.h`.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

BYTES = ALIGNMENT = 128  # of CUtensorMap
BFLOAT16 = 9  # CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
SWIZZLE_128B, L2_PROMOTION_128B = 3, 2  # CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B
NO_INTERLEAVE = ZEROS_OUTSIDE = 0  # CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE
ITEM, ROW_UNIT, SWIZZLE_BYTES, MOST = 2, 16, 128, 256


@dataclass(frozen=True)
class Tiles:
    """The argument for a tensor map: a matrix that a kernel fetches in boxes, swizzled by 128 bytes.

    Attributes:
        matrix: (rows, columns), bfloat16 as its bits (uint16), contiguous; rows of a multiple of 16 bytes.
        box: rows and columns that one copy fetches; zeros beyond the edges of the matrix.

    Raises:
        ValueError: the copy engine cannot fetch it.
    """

    matrix: Any
    box: tuple[int, int]

    def __post_init__(self) -> None:
        rows, columns = self.matrix.shape
        one = self.matrix
        if one.dtype.itemsize != ITEM or not one.flags.c_contiguous or min(rows, columns) < 1:
            raise ValueError(
                "expected a contiguous matrix of bfloat16 with elements, got "
                f"{one.dtype} of shape {one.shape}: pass np.ascontiguousarray(x).view(np.uint16)"
            )
        if columns * ITEM % ROW_UNIT:
            raise ValueError(
                f"expected rows of a multiple of {ROW_UNIT} bytes, got {columns * ITEM}: "
                f"pad to a multiple of {ROW_UNIT // ITEM} columns"
            )
        high, wide = self.box
        if not (0 < high <= MOST and 0 < wide * ITEM <= SWIZZLE_BYTES and wide * ITEM % ROW_UNIT == 0):
            raise ValueError(
                f"expected a box of at most {MOST} rows and {SWIZZLE_BYTES} bytes a row, "
                f"got {self.box} elements"
            )


@cache
def driver() -> Any:
    """The GPU's driver.

    Raises:
        RuntimeError: there is none.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise RuntimeError(f"no GPU: there is no driver ({name})") from None


def fields(tiles: Tiles) -> dict[str, list[int]]:
    """What the driver is told of a matrix; its innermost axis comes first.

    The stride of the innermost axis is that of its elements and is left out.
    """
    rows, columns = tiles.matrix.shape
    return {
        "sizes": [columns, rows],
        "strides": [columns * ITEM],
        "box": [tiles.box[1], tiles.box[0]],
        "steps": [1, 1],
    }


def encoded(tiles: Tiles, address: int, library: Any = None) -> bytes:
    """The description of a matrix that lies at an address of the GPU.

    Args:
        tiles: the matrix and its boxes.
        address: where it lies.
        library: the driver, or what stands for it in a test.

    Raises:
        RuntimeError: there is no driver, or it refuses.
    """
    library, told = library or driver(), fields(tiles)
    room = ctypes.create_string_buffer(BYTES + ALIGNMENT)
    at = -(-ctypes.addressof(room) // ALIGNMENT) * ALIGNMENT
    status = library.cuTensorMapEncodeTiled(
        ctypes.c_void_p(at),
        ctypes.c_int(BFLOAT16),
        ctypes.c_uint32(2),
        ctypes.c_void_p(address),
        (ctypes.c_uint64 * 2)(*told["sizes"]),
        (ctypes.c_uint64 * 1)(*told["strides"]),
        (ctypes.c_uint32 * 2)(*told["box"]),
        (ctypes.c_uint32 * 2)(*told["steps"]),
        ctypes.c_int(NO_INTERLEAVE),
        ctypes.c_int(SWIZZLE_128B),
        ctypes.c_int(L2_PROMOTION_128B),
        ctypes.c_int(ZEROS_OUTSIDE),
    )
    if status:
        raise RuntimeError(f"the driver refuses a tensor map of {told}: error {status}")
    return ctypes.string_at(at, BYTES)
