"""Which arguments an address may come from: what is only read cannot race, and need not be watched."""

from __future__ import annotations

from mlsys_lab.kernels.ptx.code import Address, Kernel, Register, Symbol
from mlsys_lab.kernels.ptx.flow import destinations, touched

ANY = "?"  # an address that was read from memory may lead anywhere


def origins(kernel: Kernel) -> dict[str, frozenset[str]]:
    """For each register, the parameters and variables that its value may be an address in."""
    found: dict[str, frozenset[str]] = {}
    changed = True
    while changed:
        changed = False
        for one in kernel.code:
            for name in destinations(one):
                if one.op[0] in ("ld", "ldu", "atom"):
                    place = one.operands[1]
                    wide = one.op[-1] in ("u64", "b64", "s64")
                    from_parameter = "param" in one.op and isinstance(place.base, Symbol)
                    new = set() if not wide else {place.base.name} if from_parameter else {ANY}
                else:
                    reads, _ = touched(one)
                    new = set().union(*(found.get(r, own(r, kernel)) for r in reads))
                now = found.get(name, frozenset()) | new
                if now != found.get(name):
                    found[name], changed = frozenset(now), True
    return found


def own(name: str, kernel: Kernel) -> frozenset[str]:
    """A variable is an address in itself; so is what the driver hands over in a special register."""
    known = name in kernel.registers or (name[0] == "%" and not name.startswith("%envreg"))
    return frozenset() if known else frozenset({name})


def watched(kernel: Kernel) -> set[int]:
    """Places in the code of the accesses to global memory that may meet a write."""
    known = origins(kernel)
    bases: dict[int, frozenset[str]] = {}
    written: set[str] = set()
    for place, one in enumerate(kernel.code):
        if one.op[0] not in ("ld", "ldu", "st", "atom", "red", "cp") or {"param", "shared"} & set(one.op):
            continue
        for address in (o for o in one.operands if isinstance(o, Address)):
            base = address.base
            name = base.name if isinstance(base, Register | Symbol) else ANY
            found = known.get(name, own(name, kernel) or frozenset({ANY}))
            bases[place] = bases.get(place, frozenset()) | found
        if one.op[0] in ("st", "atom", "red"):
            written |= bases[place]
    anything = ANY in written
    return {p for p, b in bases.items() if (anything and b) or b & written or ANY in b}
