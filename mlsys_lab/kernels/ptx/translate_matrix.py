"""How instructions on matrices and asynchronous copies are written into a block's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlsys_lab.kernels.ptx.code import BYTES, Access, Immediate, Instruction, Register, parts, space_of
from mlsys_lab.kernels.ptx.table import refused


def bits_of(writer: Any, operand: Any) -> str:
    """The registers of a fragment, as a tuple."""
    return f"({', '.join(writer.read(r, 'b32') for r in parts(operand))},)"


def mma(writer: Any, index: int, one: Instruction) -> None:
    """`mma.sync.aligned.m16n8kK.row.col.D.A.B.C d, a, b, c`."""
    op = one.op
    if op[1:3] != ("sync", "aligned") or op[3] not in ("m16n8k16", "m16n8k8") or op[4:6] != ("row", "col"):
        raise refused(one)
    kinds = op[6:]
    if kinds[1] not in ("f16", "bf16") or kinds[0] not in ("f32", "f16") or len(kinds) != 4:
        raise refused(one)
    given = ", ".join(bits_of(writer, o) for o in one.operands[1:4])
    writer.results(one.operands[0], f"M.mma({op[3]!r}, {kinds!r}, {given})", ["b32"])


def wmma(writer: Any, index: int, one: Instruction) -> None:
    """`wmma.load.{a,b,c}`, `wmma.mma` and `wmma.store.d` of m16n16k16."""
    op = one.op
    if "m16n16k16" not in op:
        raise refused(one)
    if op[1] == "mma":
        at = op.index("m16n16k16")
        kinds = op[at + 1 :]  # of d and c, or of all four: d, a, b, c
        kind = "bf16" if "bf16" in kinds else "f16"
        if kinds[0] != kinds[-1] or set(kinds) - {"f32", kind} or (kind == "bf16" and kinds[0] != "f32"):
            raise refused(one)
        given = ", ".join(bits_of(writer, o) for o in one.operands[1:])
        call = f"M.fragment_mma({op[at - 2 : at]!r}, {kind!r}, {kinds[0]!r}, {given})"
        writer.results(one.operands[0], call, ["b32"])
        return
    space = space_of(op)
    store, kind, is_sum = op[1] == "store", op[-1], op[2] in ("c", "d")
    place, values = (one.operands[0], one.operands[1]) if store else (one.operands[1], one.operands[0])
    if kind not in ("f16", "bf16", *(["f32"] if is_sum else [])) or (is_sum and "col" in op):
        raise refused(one)
    stride = writer.read(one.operands[2], "u32") if len(one.operands) > 2 else "16"
    lanes = 2 if is_sum and kind == "f16" else 4
    writer.accesses[index] = Access(index, space, "b32", lanes, one.line, store)
    access = writer.bind(writer.accesses[index], "a")
    where = f"{writer.address(place)}, {place.offset}, {stride}, {BYTES[kind]}"
    if store:
        stored = ", ".join(writer.read(r, "b32") for r in parts(values))
        writer.lines.append(f"M.fragment_store({access}, {where}, {stored})")
        return
    var = writer.new()
    writer.lines.append(f"{var} = M.fragment_load({access}, {where}, {is_sum})")
    for i, part in enumerate(parts(values)):  # of operands the second half repeats the first
        writer.write(part, f"{var}[{i if is_sum else i % 4}]", "b32")


def ldmatrix(writer: Any, index: int, one: Instruction) -> None:
    """`ldmatrix.sync.aligned.m8n8.xN{.trans}.shared.b16`."""
    if "m8n8" not in one.op or one.op[-1] != "b16":
        raise refused(one)
    count = next(int(p[1:]) for p in one.op if p in ("x1", "x2", "x4"))
    writer.accesses[index] = Access(index, "shared", "b32", 4, one.line)
    access, place = writer.bind(writer.accesses[index], "a"), one.operands[1]
    where = f"{writer.address(place)}, {place.offset}"
    call = f"M.load_matrix({access}, {where}, {count}, {'trans' in one.op})"
    writer.results(one.operands[0], call, ["b32"])


def copy(writer: Any, index: int, one: Instruction) -> None:
    """`cp.async` of 4, 8 or 16 bytes, and what groups and waits for them."""
    if one.op[1] != "async" or {"bulk", "mbarrier"} & set(one.op):
        raise refused(one)
    guard = writer.guard(one) or None
    if one.op[2] in ("commit_group", "wait_group", "wait_all"):
        count = one.operands[0].value if one.operands else 0
        writer.lines.append(f"M.{one.op[2]}({count}, {guard})")
        return
    target, source, size, *rest = one.operands
    if not isinstance(size, Immediate) or len(rest) > 1 or "L2::cache_hint" in one.op:
        raise refused(one)
    lanes, given = size.value // 4, "None"
    if rest and isinstance(rest[0], Register) and writer.width(rest[0].name) == "pred":  # ignore the source?
        given = f"where({writer.read(rest[0], 'pred')}, 0, {size.value})"
    elif rest:
        given = writer.read(rest[0], "u32")
    writer.accesses[index] = Access(index, "global", "b32", lanes, one.line)
    stored = Access(index, "shared", "b32", lanes, one.line, store=True)
    names = [writer.bind(a, "a") for a in (writer.accesses[index], stored)]
    places = [f"({writer.address(o)}, {o.offset})" for o in (target, source)]
    writer.lines.append(f"M.copy_async({', '.join([*names, *places])}, {guard}, {given})")


WRITERS: dict[str, Callable[..., None]] = {"mma": mma, "wmma": wmma, "ldmatrix": ldmatrix, "cp": copy}
