"""Registers, shared memory, spills and occupancy of the library's kernels, from machine code made offline.

`python -m mlsys_lab.kernels.resources --gpu H100` prints the table.
"""

from __future__ import annotations

import argparse
import sys

from mlsys_lab.kernels.frontend import CompileError, NoFrontEnd
from mlsys_lab.kernels.launcher import ARCHITECTURES, DYNAMIC_SHARED, FOLDER, KERNELS
from mlsys_lab.kernels.residency import GPUS, blocks_resident, occupancy, resources


def table(gpu: str) -> str:
    """The kernels of the library on a GPU, a line each.

    Raises:
        NoFrontEnd: no compiler is installed.
    """
    one = GPUS[gpu]
    head = ("kernel", "threads", "registers", "shared", "spills", "blocks/SM", "occupancy", "limited by")
    lines = [f"{gpu} ({one.arch})", "{:<22}{:>8}{:>10}{:>8}{:>8}{:>10}{:>10}  {}".format(*head)]
    for file, kernels in KERNELS.items():
        arch = ARCHITECTURES.get(file, one.arch)
        if arch not in (one.arch, f"{one.arch}a"):
            lines += [f"{name:<22} is for {arch} alone" for name in kernels]
            continue
        found = resources((FOLDER / f"{file}.cu").read_text(encoding="utf-8"), arch)
        for name, block in kernels.items():
            threads, has = block if isinstance(block, int) else block[0] * block[1], found[name]
            shared = has.shared_bytes + DYNAMIC_SHARED.get(name, 0)
            limits = blocks_resident(one, threads, has.registers, shared)
            least = min(limits.values())
            share = occupancy(one, threads, has.registers, shared)
            reason = "-" if share == 1 else " ".join(w for w, n in limits.items() if n == least)
            lines.append(
                f"{name:<22}{threads:>8}{has.registers:>10}{shared:>8}{has.spill_bytes:>8}"
                f"{least:>10}{share:>10.0%}  {reason}"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where a compiler is missing or refuses."""
    parser = argparse.ArgumentParser(prog="python -m mlsys_lab.kernels.resources", description=__doc__)
    parser.add_argument("--gpu", choices=GPUS, default="H100")
    try:
        print(table(parser.parse_args(arguments).gpu))
    except (CompileError, NoFrontEnd) as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
