"""The safetensors format: a length, a JSON header with dtype, shape and place of arrays, then their bytes.

https://github.com/huggingface/safetensors (README, "Format"); read without copying through a memory map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16,
    "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def save_safetensors(
    state_dict: Mapping[str, np.ndarray], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name; metadata is text by name.

    Raises:
        ValueError: a dtype that the format has not.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    arrays = {name: np.asarray(array, order="C") for name, array in state_dict.items()}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in NAMES:
            raise ValueError(
                f"safetensors holds {', '.join(DTYPES)}, got {array.dtype} for {name}: convert it"
            )
        start, end = end, end + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.tobytes())


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read-only arrays by name.

    Raises:
        ValueError: the file is cut off, or is none of this format.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        length = int.from_bytes(data[:8].tobytes(), "little")
        header, body = json.loads(data[8 : 8 + length].tobytes()), data[8 + length :]
        header.pop("__metadata__", None)
        if len(body) != max((entry["data_offsets"][1] for entry in header.values()), default=0):
            raise ValueError("cut off")
        return {
            name: body[slice(*e["data_offsets"])].view(DTYPES[e["dtype"]]).reshape(e["shape"])
            for name, e in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}): fetch or write it again") from error
