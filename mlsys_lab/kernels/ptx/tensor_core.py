"""Matrix products of a whole warp: mma, wmma and ldmatrix.

Where PTX fixes which lane holds which element (mma, ldmatrix), this is that layout: PTX ISA 9.7.14. Where it
does not (wmma), a lane holds elements that lie side by side in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.access import Memory
from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.lanes import WARP
from mlsys_lab.kernels.ptx.table import DTYPES

LANE = np.arange(WARP)
GROUP, IN_GROUP = LANE // 4, LANE % 4


def halves(register: int, rows_first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the two 16-bit elements of an operand's register, per lane: (32, 2) each."""
    outer = np.repeat(GROUP[:, None], 2, axis=1) + (8 * (register % 2) if rows_first else 0)
    inner = IN_GROUP[:, None] * 2 + np.arange(2) + 8 * (register // 2 if rows_first else register)
    return (outer, inner) if rows_first else (inner, outer)


class TensorCore(Memory):
    """See the module; every lane of a warp has to take part."""

    def warps(self, values: list[Any], dtype: Any) -> np.ndarray:
        """Registers of the running lanes as (warps, 32, registers)."""
        place, _ = self.current()
        if len(place) % WARP or (place.reshape(-1, WARP) & (WARP - 1) != LANE).any():
            self.counts.error("divergent_warp", 0, "a matrix instruction of a warp that is not whole")
            raise ValueError("a matrix instruction needs all 32 lanes of its warp")
        whole = [np.broadcast_to(v, place.shape) for v in values]
        return np.stack(whole, axis=1).reshape(-1, WARP, len(values)).view(dtype)

    def mma(self, shape: str, kinds: tuple[str, ...], *registers: tuple[Any, ...]) -> list[np.ndarray]:
        """d = a @ b + c for `m16n8k16` and `m16n8k8` of 16-bit floats, c and d float32 or float16."""
        a_regs, b_regs, c_regs = registers
        depth = int(shape.rpartition("k")[2])
        narrow, wide = DTYPES[kinds[1]], DTYPES[kinds[3]]
        operands = []
        for given, size, rows_first in ((a_regs, (16, depth), True), (b_regs, (depth, 8), False)):
            bits = self.warps(list(given), np.uint32)
            count = len(bits)
            matrix = np.zeros((count, *size), narrow)
            for i in range(len(given)):
                rows, columns = halves(i, rows_first)
                matrix[:, rows, columns] = np.ascontiguousarray(bits[:, :, i : i + 1]).view(narrow)
            operands.append(matrix.astype(np.float32))
        index = np.arange(4)  # of a lane's results
        row, column = GROUP[:, None] + 8 * (index // 2), IN_GROUP[:, None] * 2 + index % 2
        c_values = self.warps(list(c_regs), np.uint32)
        c = np.ascontiguousarray(c_values).view(wide).reshape(count, WARP, -1)
        full = np.zeros((count, 16, 8), np.float32)
        full[:, row, column] = c
        full += operands[0] @ operands[1]
        out = np.ascontiguousarray(full[:, row, column].astype(wide)).view(np.uint32)
        return [out.reshape(-1, len(c_regs))[:, i] for i in range(len(c_regs))]

    def load_matrix(
        self, access: Access, address: Any, offset: int, count: int, transposed: bool
    ) -> list[np.ndarray]:
        """ldmatrix: lane 8i + r gives the address of row r of matrix i; a lane gets two elements of each."""
        place, _ = self.current()
        address = np.broadcast_to(address, place.shape)
        whole = self.load(access, address, offset, (place & (WARP - 1)) < 8 * count)
        rows = np.ascontiguousarray(np.stack(whole, axis=1)).view(np.uint16).reshape(-1, WARP, 8)
        out = []
        for i in range(count):
            matrix = rows[:, 8 * i : 8 * i + 8]
            if transposed:
                matrix = matrix.transpose(0, 2, 1)
            pair = matrix[:, GROUP[:, None], IN_GROUP[:, None] * 2 + np.arange(2)]
            out.append(np.ascontiguousarray(pair).view(np.uint32).reshape(-1))
        return out

    def fragment_places(self, address: Any, stride: Any, width: int, sum_: bool) -> list[np.ndarray]:
        """Where a lane's elements lie, request by request.

        Of an operand lane l has row l / 2, elements 8 (l % 2) to 8 (l % 2) + 7. Of a sum it has rows l / 4
        and 8 + l / 4, elements 4 (l % 4) to 4 (l % 4) + 3, so that a request fills whole sectors.
        """
        lane, at = self.current()[0] & (WARP - 1), np.asarray(address).astype(np.int64)
        rows = (
            [(lane // 4, lane % 4 * 4), (8 + lane // 4, lane % 4 * 4)]
            if sum_
            else [(lane // 2, lane % 2 * 8)]
        )
        return [at + (r * np.asarray(stride).astype(np.int64) + c) * width for r, c in rows]

    def fragment_load(self, access: Access, address: Any, offset: int, *shape: Any) -> list[Any]:
        """wmma.load; `shape` is the stride in elements, their bytes, and whether it is a sum."""
        places = self.fragment_places(address, *shape)
        return [value for at in places for value in self.load(access, at, offset, None)]

    def fragment_store(
        self, access: Access, address: Any, offset: int, stride: Any, width: int, *values: Any
    ) -> None:
        """wmma.store, in the same places."""
        for i, at in enumerate(self.fragment_places(address, stride, width, True)):
            self.store(access, at, offset, None, *values[access.lanes * i : access.lanes * (i + 1)])

    def fragment_mma(
        self, layouts: tuple[str, str], kind: str, wide: str, a_regs: Any, b_regs: Any, c_regs: Any
    ) -> list[np.ndarray]:
        """wmma.mma m16n16k16; results of type `wide`, computed in float32."""
        operands = []
        for registers, layout in zip((a_regs, b_regs), layouts, strict=True):
            bits = self.warps(list(registers[:4]), np.uint32)
            matrix = np.ascontiguousarray(bits).view(DTYPES[kind]).reshape(-1, 16, 16).astype(np.float32)
            operands.append(matrix if layout == "row" else matrix.transpose(0, 2, 1))
        held = np.ascontiguousarray(self.warps(list(c_regs), np.uint32)).view(DTYPES[wide])
        halves_ = (operands[0] @ operands[1]).reshape(-1, 2, 8, 4, 4).transpose(0, 2, 3, 1, 4)
        out = (
            (halves_.reshape(-1, WARP, 8) + held)
            .astype(DTYPES[wide])
            .view(np.uint32)
            .reshape(-1, len(c_regs))
        )
        return [np.ascontiguousarray(out[:, i]) for i in range(len(c_regs))]
