"""What one request of a warp costs: 32-byte sectors of global memory, wavefronts of shared memory.

Addresses come as a matrix, one row per warp of 32 lanes, -1 where a lane is off; a row with no lane on is no
request. Where all warps have the same pattern it is analysed once. Rules: CUDA Programming Guide, "Device
Memory Accesses"; Nsight Compute's documentation of wavefronts.
"""

from __future__ import annotations

import numpy as np

WARP = 32
SECTOR, BANKS, WORD = 32, 32, 4


def alike(rows: np.ndarray, period: int) -> bool:
    """Whether each row is the first one, moved by a multiple of `period` bytes."""
    if len(rows) < 2:
        return True
    moved = rows[:, :1] - rows[0, 0]
    return not (moved & (period - 1)).any() and bool((rows - moved == rows[0]).all())


def sectors(rows: np.ndarray) -> tuple[int, int]:
    """Requests and sectors of accesses to global memory; each lane's bytes lie in one sector.

    Args:
        rows: (warps, 32) byte addresses.
    """
    rows = rows[(rows >= 0).any(axis=1)]
    if len(rows) and rows.min() >= 0 and alike(rows, SECTOR):
        return len(rows), len(rows) * len(np.unique(rows[0] // SECTOR))
    found = np.sort(rows // SECTOR, axis=1)  # -1 stays below all
    new = found[:, 1:] != found[:, :-1]
    return len(rows), int((new & (found[:, 1:] >= 0)).sum() + (found[:, 0] >= 0).sum())


def wavefronts(rows: np.ndarray, size: int, atomic: bool = False) -> tuple[int, int, int]:
    """Requests, wavefronts and the fewest wavefronts possible, of accesses to shared memory.

    64-bit accesses go by half warp, 128-bit by quarter warp. Lanes that ask for the same word share it; two
    words of one bank take turns; of atomic operations all lanes of a bank do, also those at the same word.

    Args:
        rows: (warps, 32) byte addresses within the block's shared memory.
        size: bytes of an access.
        atomic: whether each lane changes its word.
    """
    rows = rows[(rows >= 0).any(axis=1)]
    count = len(rows)
    same = count > 1 and rows.min() >= 0 and alike(rows, WORD)
    groups = max(size // WORD, 1)
    parts = (rows[:1] if same else rows).reshape(-1, WARP // groups)
    parts = parts[(parts >= 0).any(axis=1)]
    words = parts[:, :, None] // WORD + np.arange(groups)
    words = np.where(parts[:, :, None] >= 0, words, -1).reshape(len(parts), -1)
    words = np.sort(words, axis=1)
    first = np.ones(words.shape, bool)
    first[:, 1:] = atomic | (words[:, 1:] != words[:, :-1])
    first &= words >= 0
    row, _ = np.nonzero(first)
    turns = np.bincount(row * BANKS + words[first] % BANKS, minlength=len(words) * BANKS)
    total = int(turns.reshape(-1, BANKS).max(axis=1, initial=0).sum())
    times = count if same else 1
    return count, total * times, len(parts) * times
