"""Calls of device functions, put into the kernel before it runs, as a linker would.

A function that cannot come back to itself is copied to where it is called, with names of its own. One that
can is there once, and keeps what its callers need on a stack in the thread's local memory, with the number of
the place to return to. Parameters and results become registers. PTX ISA 9.0, 7, "Abstracting the ABI".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mlsys_lab.kernels.ptx.code import (
    BYTES,
    Address,
    Immediate,
    Instruction,
    Kernel,
    Module,
    Register,
    Symbol,
    Variable,
    Vector,
    parts,
)
from mlsys_lab.kernels.ptx.flow import LEAVES, touched
from mlsys_lab.kernels.ptx.table import refused

STACK_BYTES = 1024  # of a thread: what cudaDeviceGetLimit gives for cudaLimitStackSize unless it is set
STACK, TOP, NEXT, END, WORD, HIT = (
    "__stack",
    "%stack:top",
    "%stack:next",
    "%stack:end",
    "%stack:word",
    "%stack:hit",
)
KINDS = {TOP: "b64", NEXT: "b64", END: "b64", WORD: "b32", HIT: "pred"}


def called(one: Instruction) -> str:
    """The function that an instruction calls; "" where it calls none by name."""
    symbols = [o.name for o in one.operands if isinstance(o, Symbol)] if one.op[0] == "call" else []
    return symbols[0] if symbols else ""


def reached(module: Module, name: str) -> set[str]:
    """The functions that a function may come to by calls."""
    found: set[str] = set()
    open_ = [name]
    while open_:
        code = module.functions[open_.pop()].code
        new = {called(one) for one in code} & module.functions.keys() - found
        found |= new
        open_ += new
    return found


def with_functions(module: Module, kernel: Kernel) -> Kernel:
    """A kernel without calls of the module's functions.

    Raises:
        NotSimulated: a parameter is taken apart in another way than it was put together.
    """
    if not any(called(one) in module.functions for one in kernel.code):
        return kernel
    return Linker(module, kernel).linked()


def without_parameters(
    module: Module, old: Kernel, entry: bool, recursive: bool, slots: dict[str, str]
) -> Kernel:
    """Code whose parameters of functions, its own and those of its calls, are registers.

    Args:
        module: with the functions.
        old: the code.
        entry: a kernel, whose own parameters stay.
        recursive: it takes its parameters over at once, since a call of itself puts its own in their place.
        slots: takes the registers and their types.

    Raises:
        NotSimulated: a parameter is taken apart in another way than it was put together.
    """
    made = Kernel(old.name, old.parameters, dict(old.registers), dict(old.variables), results=old.results)
    own = {} if entry else {v.name: f"%{old.name}:{i}" for i, v in enumerate(old.parameters)}
    own |= {v.name: f"%{old.name}:result" for v in old.results}
    taken: list[Instruction] = []
    at = []
    for index, one in enumerate(old.code):
        at.append(len(made.code))
        place = one.operands[one.op[0] == "ld"] if one.op[:2] in (("ld", "param"), ("st", "param")) else None
        known = own | around(module, old, index) if place is not None else {}
        if place is None or place.base.name not in known:
            made.code.append(one)
            continue
        kind, size, load = one.op[-1], BYTES[one.op[-1]], one.op[0] == "ld"
        for i, value in enumerate(parts(one.operands[0 if load else 1])):
            name = f"{known[place.base.name]}+{place.offset + i * size}"
            if slots.setdefault(name, f"b{8 * size}") != f"b{8 * size}":
                raise refused(one, "a parameter that is taken apart in another way than it was put together")
            if recursive and load and place.base.name in own:
                mine = f"{name}:own"
                if mine not in made.registers:
                    made.registers[mine] = slots[name]
                    move = ("mov", slots[name])
                    taken.append(Instruction(move, [Register(mine), Register(name)], None, one.line))
                name = mine
            pair = [value, Register(name)] if load else [Register(name), value]
            made.code.append(Instruction(("mov", kind), pair, one.guard, one.line))
    at.append(len(made.code))
    made.code[:0] = taken
    made.labels = {name: at[place] + len(taken) for name, place in old.labels.items()}
    return made


def around(module: Module, kernel: Kernel, index: int) -> dict[str, str]:
    """What parameters and result of the call that a load or store of them belongs to are called."""
    store = kernel.code[index].op[0] == "st"
    later = kernel.code[index:] if store else kernel.code[index::-1]
    call = next((one for one in later if one.op[0] == "call"), None)
    if call is None or called(call) not in module.functions:
        return {}
    vectors = [o.parts for o in call.operands if isinstance(o, Vector)]
    if not store:
        return {p.name: f"%{called(call)}:result" for p in vectors[0]} if call.operands[1:] else {}
    return {p.name: f"%{called(call)}:{i}" for i, p in enumerate(vectors[-1])} if vectors else {}


@dataclass
class Linker:
    """Writes the kernel anew, and behind it the functions that call themselves."""

    module: Module
    kernel: Kernel
    copies: int = 0
    returns: dict[str, list[str]] = field(default_factory=dict)  # recursive function -> places to return to

    def linked(self) -> Kernel:
        """The kernel without calls."""
        functions, slots = self.module.functions, dict[str, str]()
        self.recursive = {f for f in functions if f in reached(self.module, f)}
        self.functions = {
            name: without_parameters(self.module, f, False, name in self.recursive, slots)
            for name, f in functions.items()
        }
        main = without_parameters(self.module, self.kernel, True, False, slots)
        self.made = made = Kernel(main.name, main.parameters, main.registers | slots, dict(main.variables))
        made.code.append(Instruction(("mov", "u64"), [Register(TOP), Symbol(STACK)]))
        made.code.append(Instruction(("mov", "u64"), [Register(END), Address(Symbol(STACK), STACK_BYTES)]))
        begun = len(made.code)
        self.write(main, str, "")
        done: list[str] = []
        while rest := [f for f in self.returns if f not in done]:
            name, function = rest[0], self.functions[rest[0]]
            done.append(name)
            self.label(f"{name}@entry")
            if any(v.space == "local" for v in function.variables.values()):
                raise refused(function.code[0], f"{name}, which calls itself and has local memory,")
            self.write(function, self.renaming(function, "@"), f"{name}@exit", living(function))
        for name in done:
            self.dispatch(name)
        if done:
            made.registers |= KINDS
            made.variables[STACK] = Variable(STACK, "local", STACK_BYTES, 16)
        else:
            del made.code[:begun]
            made.labels = {name: at - begun for name, at in made.labels.items()}
        return made

    def add(self, line: int, text: str, *operands: Any, guard: Register | None = None) -> None:
        self.made.code.append(Instruction(tuple(text.split(".")), list(operands), guard, line))

    def label(self, name: str) -> None:
        self.made.labels[name] = len(self.made.code)

    def renaming(self, function: Kernel, mark: str) -> Callable[[str], str]:
        """New names for what a function has for itself; enters its registers and variables under them."""
        mark = f"@{function.name}{mark}"
        own = {n: v for n, v in function.variables.items() if v.space in ("local", "shared")}
        self.made.registers |= {n + mark: kind for n, kind in function.registers.items()}
        self.made.variables |= {n + mark: replace(v, name=n + mark) for n, v in own.items()}
        mine = own.keys() | function.registers.keys() | function.labels.keys()
        return lambda name: name + mark if name in mine else name

    def write(
        self, function: Kernel, renamed: Callable[[str], str], leave: str, alive: list[set[str]] | None = None
    ) -> None:
        """Write code with new names, and what it calls.

        Args:
            function: whose code it is.
            renamed: gives the new names.
            leave: the label that it returns to; "" for a kernel.
            alive: of a function that calls itself, what it still needs behind each instruction.
        """
        at: dict[int, list[str]] = {}
        for name, place in function.labels.items():
            at.setdefault(place, []).append(renamed(name))
        for index, one in enumerate(function.code):
            for name in at.get(index, ()):
                self.label(name)
            guard = moved(one.guard, renamed)
            if called(one) in self.functions:
                if guard is not None:
                    raise refused(one, f"a call of {called(one)} under a predicate")
                saved = sorted(alive[index] & function.registers.keys()) if alive is not None else []
                self.call(called(one), one.line, {renamed(n): function.registers[n] for n in saved})
            elif one.op[0] == "ret" and leave:
                self.add(one.line, "bra", Symbol(leave), guard=guard)
            else:
                operands = [moved(o, renamed) for o in one.operands]
                self.made.code.append(Instruction(one.op, operands, guard, one.line))
        for name in at.get(len(function.code), ()):
            self.label(name)
        if leave and at.get(len(function.code)):  # it ends without a word
            self.add(0, "bra", Symbol(leave))

    def call(self, name: str, line: int, saved: dict[str, str]) -> None:
        """A call: the function itself, or the way to it with what the caller still needs on the stack."""
        if name not in self.recursive:
            self.copies += 1
            function, leave = self.functions[name], f"{name}@after{self.copies}"
            self.write(function, self.renaming(function, str(self.copies)), leave)
            self.label(leave)
            return
        back = self.returns.setdefault(name, [])
        back.append(f"{name}@back{len(back)}")
        at, places = 0, []
        for name_of in sorted(saved, key=lambda r: -BYTES[saved[r]]):
            size = 4 if saved[name_of] == "pred" else BYTES[saved[name_of]]
            places.append((Register(name_of), saved[name_of] == "pred", at, f"b{8 * size}"))
            at = -(-(at + size) // 4) * 4
        frame, top, word = -(-(at + 4) // 8) * 8, Register(TOP), Register(WORD)
        self.add(line, "add.u64", Register(NEXT), top, Immediate(frame))
        self.add(line, "setp.gt.u64", Register(HIT), Register(NEXT), Register(END))
        self.add(line, "trap.stack", guard=Register(HIT))
        for register, predicate, offset, kind in places:
            if predicate:
                self.add(line, "selp.u32", word, Immediate(1), Immediate(0), register)
            self.add(line, f"st.local.{kind}", Address(top, offset), word if predicate else register)
        self.add(line, "st.local.u32", Address(top, frame - 4), Immediate(len(back) - 1))
        self.add(line, "mov.u64", top, Register(NEXT))
        self.add(line, "bra", Symbol(f"{name}@entry"))
        self.label(back[-1])
        self.add(line, "sub.u64", top, top, Immediate(frame))
        for register, predicate, offset, kind in places:
            self.add(line, f"ld.local.{kind}", word if predicate else register, Address(top, offset))
            if predicate:
                self.add(line, "setp.ne.u32", register, word, Immediate(0))

    def dispatch(self, name: str) -> None:
        """Return to where the stack says."""
        line = self.functions[name].code[-1].line
        self.label(f"{name}@exit")
        self.add(line, "ld.local.u32", Register(WORD), Address(Register(TOP), -4))
        *others, last = self.returns[name]
        for number, place in enumerate(others):
            self.add(line, "setp.eq.u32", Register(HIT), Register(WORD), Immediate(number))
            self.add(line, "bra", Symbol(place), guard=Register(HIT))
        self.add(line, "bra", Symbol(last))


def moved(operand: Any, renamed: Callable[[str], str]) -> Any:
    """An operand under new names."""
    if isinstance(operand, Register | Symbol):
        return replace(operand, name=renamed(operand.name))
    if isinstance(operand, Address):
        return Address(moved(operand.base, renamed), operand.offset)
    return Vector(tuple(moved(p, renamed) for p in operand.parts)) if isinstance(operand, Vector) else operand


def living(function: Kernel) -> list[set[str]]:
    """For each instruction, the registers that some way from behind it reads before it writes them."""
    code, size = function.code, len(function.code)
    both = [touched(one) for one in code]
    after: list[set[str]] = [set() for _ in range(size)]
    before: list[set[str]] = [set() for _ in range(size + 1)]
    changed = True
    while changed:
        changed = False
        for i in reversed(range(size)):
            after[i] = set().union(*(before[s] for s in ways(function, i)))
            now = both[i][0] | (after[i] - both[i][1])
            if now != before[i]:
                before[i], changed = now, True
    return after


def ways(function: Kernel, index: int) -> Iterable[int]:
    """Where control may go from an instruction."""
    one = function.code[index]
    jump = function.labels.get(one.operands[0].name, index + 1) if one.op[0] == "bra" else index + 1
    if one.guard is not None:
        return (index + 1, jump)
    return () if one.op[0] in LEAVES else (jump,)
