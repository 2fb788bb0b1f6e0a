"""One Python function per basic block, over arrays of lanes.

A register is bits; within a block the translator knows under which types it has been seen and reads it as the
type that the instruction asks for. Arrays hold one value per running lane; a single number is a value that
all lanes share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx import instructions, integers, translate_matrix
from mlsys_lab.kernels.ptx.code import (
    BYTES,
    Access,
    Address,
    Immediate,
    Instruction,
    Kernel,
    Register,
    Symbol,
    Vector,
    parts,
    space_of,
)
from mlsys_lab.kernels.ptx.flow import Block, destinations
from mlsys_lab.kernels.ptx.table import DTYPES, NotSimulated, made, refused

ROWS_OF = (instructions, integers)  # importing them enters their rows


@dataclass
class Translated:
    """A block as a function of its live registers; `run(machine, *reads)` gives writes, then the guard."""

    run: Callable[..., Any]
    text: str


@dataclass
class Writer:
    """Writes the function of one block."""

    kernel: Kernel
    accesses: dict[int, Access]
    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, dict[str, str]] = field(default_factory=dict)
    count: int = 0
    passed: dict[str, str] = field(default_factory=dict)

    def new(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def bind(self, value: Any, prefix: str = "k") -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def width(self, register: str) -> str:
        """The type that a register is declared with; of special registers 32 bits, of symbols 64."""
        kind = self.kernel.registers.get(register)
        if kind is None:
            wide = register in ("%clock64", "%globaltimer") or not register.startswith("%")
            return "b64" if wide else "b32"
        return kind

    def read(self, operand: Any, kind: str) -> str:
        """An expression for an operand, as this type."""
        if isinstance(operand, Immediate):
            return self.constant(operand, kind)
        if isinstance(operand, Symbol):
            operand = Register(operand.name)
        name, dtype = operand.name, np.dtype(DTYPES[kind])
        known = self.seen[name]
        if dtype.name not in known:
            any_of = next(iter(known.values()))
            declared = np.dtype(DTYPES[self.width(name)])
            var = self.new()
            if declared.itemsize == dtype.itemsize and kind != "pred":
                self.lines.append(f"{var} = {any_of}.view({self.bind(dtype, 't')})")
            else:
                bits = f"u{declared.itemsize}"
                self.lines.append(f"{var} = {any_of}.view('{bits}').astype({self.bind(dtype, 't')})")
            known[dtype.name] = var
        found = known[dtype.name]
        return f"(~{found})" if operand.negated else found

    def constant(self, value: Immediate, kind: str) -> str:
        dtype = np.dtype(DTYPES[kind])
        if value.real:
            number = np.array(value.value, f"u{BYTES[value.real]}").view(DTYPES[value.real])
            if dtype.kind not in "fV" and kind not in ("bf16",):
                number = number.view(dtype)
            return self.bind(number.astype(dtype)[()])
        if kind == "pred":
            return self.bind(np.bool_(value.value))
        if dtype.kind in "iu":
            bits = value.value & ((1 << 8 * dtype.itemsize) - 1)
            return self.bind(np.array(bits, f"u{dtype.itemsize}").view(dtype)[()])
        return self.bind(dtype.type(value.value))

    def write(self, operand: Any, value: str, kind: str, guard: str = "") -> None:
        """Put a value of this type into a register; under a guard only where it holds."""
        if not isinstance(operand, Register):
            raise NotSimulated(f"a result in {operand} is not simulated")
        name = operand.name
        if name == "_":
            return
        declared = self.width(name)
        var, dtype = self.new(), np.dtype(DTYPES[kind])
        if kind != "pred" and BYTES[kind] < BYTES[declared]:
            wide = f"{dtype.kind if dtype.kind in 'iu' else 'u'}{BYTES[declared]}"
            bits = value if dtype.kind in "iu" else f"{value}.view('u{dtype.itemsize}')"
            value, dtype = f"{bits}.astype('{wide}')", np.dtype(wide)
            kind = declared if dtype.kind == "u" else f"s{8 * dtype.itemsize}"
        if guard:
            value = f"where({guard}, {value}, {self.read(Register(name), kind)})"
        self.lines.append(f"{var} = {value}")
        self.seen[name] = {dtype.name: var}

    def guard(self, instruction: Instruction) -> str:
        return self.read(instruction.guard, "pred") if instruction.guard is not None else ""

    def instruction(self, index: int, one: Instruction) -> None:
        head = one.op[0]
        for name in destinations(one) if one.guard is not None else ():
            self.seen.setdefault(name, {DTYPES[self.width(name)]().dtype.name: "zero"})
        if head in ("ld", "ldu", "st", "atom", "red"):
            self.memory(index, one)
        elif head == "mov":
            self.move(one)
        elif head == "call":
            self.call(index, one)
        elif head in ("shfl", "vote", "match", "activemask", "redux", "bar", "barrier", "_tell", "_hear"):
            self.warp(one)
        elif head in ("membar", "fence"):
            if "proxy" not in one.op:
                self.lines.append(f"M.fence({self.guard(one) or None}, {'cta' not in one.op})")
        elif head in ("prefetch", "prefetchu", "nanosleep", "discard", "applypriority", "createpolicy"):
            pass
        elif head in MATRIX:
            MATRIX[head](self, index, one)
        elif head == "cvta":
            self.window(one)
        elif head == "isspacep":
            base = self.read(one.operands[1], "u64")
            self.write(one.operands[0], f"M.is_in({one.op[1]!r}, {base})", "pred", self.guard(one))
        else:
            function, results, sources = made(one)
            if len(sources) != len(one.operands) - bool(results):
                raise refused(one, f"{one.name} with {len(one.operands)} operands")
            values = [self.read(o, k) for o, k in zip(one.operands[1:], sources, strict=True)]
            call = f"{self.bind(function, 'f')}({', '.join(values)})"
            if len(results) == 2:
                self.results(one.operands[0], call, results, self.guard(one))
            elif results:
                self.write(one.operands[0], call, results[0], self.guard(one))

    def results(self, operand: Any, call: str, kinds: list[str], guard: str = "") -> None:
        """Put what a call gives into registers, part by part."""
        var = self.new()
        self.lines.append(f"{var} = {call}")
        for i, part in enumerate(parts(operand)):
            self.write(part, f"{var}[{i}]", kinds[i % len(kinds)], guard)

    def window(self, one: Instruction) -> None:
        """Between a state space's own addresses and generic ones; global ones are both."""
        space = space_of(one.op)
        value = self.read(one.operands[1], one.op[-1])
        if space in ("shared", "local"):
            value = f"M.generic({space!r}, {value}, {'to' in one.op})"
        self.write(one.operands[0], value, one.op[-1], self.guard(one))

    def move(self, one: Instruction) -> None:
        kind, (to, source) = one.op[-1], one.operands
        guard = self.guard(one)
        base = source.base if isinstance(source, Address) else source
        if isinstance(base, Symbol) and any(base.name == p.name for p in self.kernel.parameters):
            raise refused(one, f"{one.name} of the address of a parameter")
        if isinstance(source, Vector):
            part = f"b{8 * BYTES[kind] // len(source.parts)}"
            values = [self.read(p, part) for p in source.parts]
            self.write(to, f"M.packed('u{BYTES[kind]}', {', '.join(values)})", kind, guard)
        elif isinstance(to, Vector):
            part = f"b{8 * BYTES[kind] // len(to.parts)}"
            whole = self.read(source, kind)
            for i, place in enumerate(to.parts):
                shift = self.bind(DTYPES[kind](i * 8 * BYTES[part]))
                self.write(place, f"({whole} >> {shift}).astype('u{BYTES[part]}')", part, guard)
        elif isinstance(source, Address):  # symbol + offset
            base = self.read(source.base, kind)
            self.write(to, f"({base} + {self.bind(DTYPES[kind](source.offset))})", kind, guard)
        elif not guard and isinstance(source, Register) and self.width(source.name) == self.width(to.name):
            self.seen[to.name] = dict(self.seen[source.name])
        else:
            self.write(to, self.read(source, kind), kind, guard)

    def address(self, operand: Address) -> str:
        """The address without its offset, as the machine wants it."""
        if isinstance(operand.base, Immediate):
            return self.bind(np.uint64(operand.base.value))
        kind = "u32" if self.width(operand.base.name) in ("b32", "u32", "s32") else "u64"
        return self.read(operand.base, kind)

    def memory(self, index: int, one: Instruction) -> None:
        """Loads, stores and atomic operations."""
        space = space_of(one.op)
        lanes = next((int(p[1:]) for p in one.op if p in ("v2", "v4")), 1)
        kind, store = one.op[-1], one.op[0] in ("st", "red")
        if space == "param":
            self.parameter(one, kind)
            return
        atomic = ""
        if one.op[0] in ("atom", "red"):
            atomic = next((p for p in one.op[1:] if p in ATOMIC), "")
            if not atomic or lanes > 1 or kind.endswith("x2"):
                raise refused(one)
        words, strong = set(one.op), 0
        if atomic or words & {"volatile", "relaxed", "acquire", "release", "mmio"}:
            strong = 2 if "cta" in words else 1 if space == "shared" and "volatile" in words else 3
        orders = bool(words & {"acquire", "acq_rel"}), bool(words & {"release", "acq_rel"})
        stores = store and not atomic
        self.accesses[index] = Access(index, space, kind, lanes, one.line, stores, atomic, strong, *orders)
        access, guard = self.bind(self.accesses[index], "a"), self.guard(one)
        place = one.operands[0 if store else 1]
        where = f"{self.address(place)}, {place.offset}"
        where += f", {guard or None}"
        real = f"u{kind[1:]}" if kind in ("b8", "b16", "b32", "b64") else kind
        if atomic:
            values = ", ".join(self.read(o, real) for o in one.operands[1 if store else 2 :])
            call = f"M.atomic({access}, {where}, {values})"
            if store:
                self.lines.append(call)
            else:
                self.write(one.operands[0], call, real, guard)
        elif store:
            values = ", ".join(self.read(p, real) for p in parts(one.operands[1]))
            self.lines.append(f"M.store({access}, {where}, {values})")
        else:
            self.results(one.operands[0], f"M.load({access}, {where})", [real], guard)

    def parameter(self, one: Instruction, kind: str) -> None:
        """The kernel's parameters; and those of a call to printf, which stand beside it."""
        if one.op[0] == "st":
            place, source = one.operands
            self.passed[place.base.name] = self.read(source, kind)
            return
        place = one.operands[1]
        for i, part in enumerate(parts(one.operands[0])):
            if place.base.name.startswith("retval"):
                value = self.bind(DTYPES[kind](0))
            else:
                dtype, at = self.bind(np.dtype(DTYPES[kind]), "t"), place.offset + i * BYTES[kind]
                value = f"M.parameter({place.base.name!r}, {at}, {dtype})"
            self.write(part, value, kind, self.guard(one))

    def call(self, index: int, one: Instruction) -> None:
        called = [o.name for o in one.operands if isinstance(o, Symbol)]
        if called[:1] != ["vprintf"]:
            raise refused(one, f"a call of {called[0] if called else '?'}")
        given = [self.passed[p.name] for p in one.operands[-1].parts]
        self.lines.append(f"M.printf({', '.join(given)}, {self.guard(one) or None})")

    def warp(self, one: Instruction) -> None:
        """What lanes of a warp do together."""
        op, operands, guard = one.op, one.operands, self.guard(one)
        if op[0] in ("bar", "barrier"):
            if op[1] != "warp":
                raise refused(one)
            self.lines.append(f"M.sync_warp({guard or None}, {self.read(operands[0], 'u32')})")
        elif op[0] == "_tell":
            self.lines.append(f"M.tell({operands[0].value}, {self.read(operands[1], 'pred')})")
        elif op[0] == "_hear":
            self.write(operands[0], f"M.hear({op[1]!r}, {operands[1].value})", op[2])
        elif op[0] == "shfl":
            values = ", ".join(self.read(o, "u32") for o in [*operands[1:], Immediate(-1)][:4])
            call = f"M.shuffle({op[2]!r}, {one.line}, {guard or None}, {values})"
            self.results(operands[0], call, ["b32", "pred"], guard)
        elif op[0] == "match":
            value = self.read(operands[1], op[-1].replace("b", "u"))
            self.results(operands[0], f"M.match({op[1]!r}, {value})", ["b32", "pred"], guard)
        elif op[0] == "activemask":
            self.write(operands[0], "M.active_mask()", "b32", guard)
        elif op[0] == "vote":
            value = f"M.vote({op[2]!r}, {self.read(operands[1], 'pred')})"
            self.write(operands[0], value, "b32" if op[-1] == "b32" else "pred", guard)
        else:
            value = f"M.reduce({op[2]!r}, {self.read(operands[1], op[-1])})"
            self.write(operands[0], value, op[-1], guard)


#: Instructions of whole warps on matrices, and copies, by their first word.
MATRIX: dict[str, Callable[..., None]] = translate_matrix.WRITERS
ATOMIC = ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")


def translate(kernel: Kernel, block: Block, accesses: dict[int, Access]) -> Translated:
    """Translate a block.

    Raises:
        NotSimulated: an instruction has no row; names it and the line.
    """
    writer = Writer(kernel, accesses)
    for i, name in enumerate(block.reads):
        declared = np.dtype(DTYPES[writer.width(name)])
        writer.seen[name] = {declared.name: f"r{i}"}
        if declared.kind != "b":  # whatever type it was left with
            writer.lines.append(f"r{i} = r{i}.view({writer.bind(declared, 't')})")
    for index in range(block.first, block.last):
        writer.lines.append(f"# {index}")  # so that an error can be told of its instruction
        writer.instruction(index, kernel.code[index])
    results = [next(iter(writer.seen[name].values())) for name in block.writes]
    if block.guard is not None:
        results.append(writer.read(block.guard, "pred"))
    arguments = ", ".join(["M", *(f"r{i}" for i in range(len(block.reads)))])
    lines = [f"def block({arguments}):", *writer.lines, f"return ({''.join(r + ', ' for r in results)})"]
    text = "\n ".join(lines)
    names = {"where": np.where, "zero": np.uint64(0), **writer.names}
    exec(compile(text, f"<{kernel.name}>", "exec"), names)
    return Translated(names["block"], text)
