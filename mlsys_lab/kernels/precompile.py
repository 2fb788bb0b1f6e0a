"""Keep the PTX of the library's own kernels: `python -m mlsys_lab.kernels.precompile`.

It needs NVIDIA's compiler; afterwards they run where there is no compiler at all. `frontend` takes a text
from the file only while the kernel's source has the digest that it was compiled from.
"""

from __future__ import annotations

import gzip
import json
import re
import sys

from mlsys_lab.kernels.frontend import FOLDER, PRECOMPILED, PRECOMPILED_FOR, REMEDY, digest, nvrtc, to_ptx
from mlsys_lab.kernels.launcher import ARCHITECTURES


def sources() -> dict[str, str]:
    """The text of each file of kernels, by its name."""
    return {place.stem: place.read_text(encoding="utf-8") for place in sorted(FOLDER.glob("*.cu"))}


def portable(ptx: str) -> str:
    """PTX without the folders of this machine's headers."""
    return re.sub(r'(\.file\s+\d+\s+")[^"]*[/\\]', r"\1", ptx)


def main() -> int:
    """Write the file; 1 where NVIDIA's compiler is missing."""
    if nvrtc() is None:
        print(f"NVIDIA's compiler is not installed: {REMEDY}", file=sys.stderr)
        return 1
    texts = {
        digest(source): portable(to_ptx(source, ARCHITECTURES.get(name, PRECOMPILED_FOR)))
        for name, source in sources().items()
    }
    data = gzip.compress(json.dumps(texts, sort_keys=True).encode(), mtime=0)
    PRECOMPILED.write_bytes(data)
    print(f"{len(texts)} files of kernels, {len(data):,} bytes: {PRECOMPILED.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
