"""Basic blocks of a kernel, and the order in which lanes that parted run, so that they meet again.

A warp runs its lanes of lowest rank. Rank is reverse post-order over the blocks, visiting first the successor
with the fewest post-dominators: what comes after a branch is visited before its arms, so it ranks behind
them. The place in the text would not do: compilers put unlikely blocks after the return.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from mlsys_lab.kernels.ptx.code import Address, Instruction, Kernel, Register, Symbol, Vector
from mlsys_lab.kernels.ptx.parser import PtxError

LEAVES = ("ret", "exit", "trap")
MATRIX = ("mma", "wmma", "ldmatrix")


@dataclass
class Block:
    """Instructions without a branch between them.

    Attributes:
        first, last: its instructions are `kernel.code[first:last]`, an ending branch or barrier not included.
        ends: "next", "branch", "exit" or "barrier".
        guard: predicate of an ending branch or exit; None where it is always taken.
        target: where a taken branch goes: an index of a block; the number of blocks stands for the exit.
        after: the block behind it.
        closing: the ending instruction, if it has one.
        meeting: an instruction of a whole warp that it begins with: the lanes that it names wait for all.
        rank: see the module.
        reads, writes: registers that it reads before it writes them, and that it writes and others read.
    """

    first: int
    last: int
    ends: str = "next"
    guard: Register | None = None
    target: int = -1
    after: int = -1
    closing: Instruction | None = None
    meeting: Instruction | None = None
    rank: int = 0
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)

    @property
    def successors(self) -> list[int]:
        if self.ends in ("branch", "exit"):
            return [self.target] if self.guard is None else [self.target, self.after]
        return [self.after]


def blocks_of(kernel: Kernel, single: bool = False) -> list[Block]:
    """Cut a kernel's code into blocks, ranked and with their live registers.

    Args:
        kernel: its code and labels.
        single: one instruction per block, to step through.
    """
    code = kernel.code
    starts = {0, *kernel.labels.values()}
    for i, instruction in enumerate(code):
        if single or instruction.op[0] in ("bra", "bar", "barrier", *LEAVES):
            starts.add(i + 1)
        if instruction.op[0] in ("bar", "barrier") or meets(instruction):
            starts.add(i)
    edges = [*sorted(s for s in starts if s < len(code)), len(code)]
    index = {start: i for i, start in enumerate(edges)}
    blocks = []
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        block = Block(first, last, after=i + 1)
        block.meeting = code[first] if meets(code[first]) else None
        closing = code[last - 1]
        if closing.op[0] == "bra":
            block.ends, block.target = "branch", index[label(kernel, closing)]
        elif closing.op[0] in LEAVES:
            block.ends, block.target = "exit", len(edges) - 1
        elif closing.op[0] in ("bar", "barrier") and closing.op[1] != "warp":
            block.ends = "barrier"
        if block.ends != "next":
            block.closing, block.last = closing, last - 1
            block.guard = closing.guard if block.ends != "barrier" else None
        blocks.append(block)
    rank(blocks)
    live(kernel, blocks)
    return blocks


def meets(instruction: Instruction) -> bool:
    """Whether lanes of a warp do this together, and wait for each other before."""
    op = instruction.op
    if op[0] in ("bar", "barrier"):
        return op[1] == "warp" and "sync" in op
    return op[0] in MATRIX or (op[0] in ("shfl", "vote", "match", "redux") and "sync" in op)


def is_value(name: str, kernel: Kernel) -> bool:
    """Whether the machine holds a value by this name: a register, or the address of a variable."""
    if name in kernel.labels or name.startswith(("func_retval", "retval", "param", "vprintf")):
        return False
    return all(name != p.name for p in kernel.parameters)


def label(kernel: Kernel, branch: Instruction) -> int:
    target = branch.operands[0]
    if not isinstance(target, Symbol) or target.name not in kernel.labels:
        raise PtxError(f"line {branch.line}: {branch.name} to {target} is not simulated")
    return kernel.labels[target.name]


def post_dominators(blocks: list[Block]) -> list[set[int]]:
    """For each block, the blocks that every way from it to the exit passes, itself among them."""
    everything = set(range(len(blocks) + 1))
    found = [set(everything) for _ in blocks] + [{len(blocks)}]
    changed = True
    while changed:
        changed = False
        for i in reversed(range(len(blocks))):
            ways = [found[s] for s in blocks[i].successors]
            now = set.intersection(*ways) | {i}
            if now != found[i]:
                found[i], changed = now, True
    return found


def rank(blocks: list[Block]) -> None:
    """Set the rank of each block, and leave those that nothing reaches behind all."""
    after = [len(found) for found in post_dominators(blocks)]
    order: list[int] = []
    seen = {0, len(blocks)}
    stack = [(0, iter(sorted(blocks[0].successors, key=after.__getitem__)))]
    while stack:
        block, ways = stack[-1]
        for way in ways:
            if way not in seen:
                seen.add(way)
                stack.append((way, iter(sorted(blocks[way].successors, key=after.__getitem__))))
                break
        else:
            order.append(block)
            stack.pop()
    for one in blocks:
        one.rank = len(blocks)
    for place, block in enumerate(reversed(order)):
        blocks[block].rank = place


def live(kernel: Kernel, blocks: list[Block]) -> None:
    """Which registers each block needs from before, and hands on."""
    uses, kills = [], []
    for block in blocks:
        used: set[str] = set()
        killed: set[str] = set()
        for instruction in kernel.code[block.first : block.last]:
            reads, writes = touched(instruction)
            used |= reads - killed
            killed |= writes
        if block.guard is not None:
            used |= {block.guard.name} - killed
        uses.append(used)
        kills.append(killed)
    needed: list[set[str]] = [set() for _ in range(len(blocks) + 1)]
    changed = True
    while changed:
        changed = False
        for i in reversed(range(len(blocks))):
            handed = set().union(*(needed[s] for s in blocks[i].successors))
            now = uses[i] | (handed - kills[i])
            if now != needed[i]:
                needed[i], changed = now, True
    for i, block in enumerate(blocks):
        handed = set().union(*(needed[s] for s in block.successors))
        written = set(kills[i])
        for instruction in kernel.code[block.first : block.last]:
            if instruction.guard is not None:
                written |= destinations(instruction)
        block.reads = sorted(n for n in uses[i] if is_value(n, kernel))
        block.writes = sorted(written & handed)


#: Instructions that write no register, though their first operand is one, or that have no destination.
NO_RESULT = ("st", "red", "bar", "barrier", "bra", "membar", "fence", "call", "nanosleep", "_tell", *LEAVES)


def destinations(instruction: Instruction) -> set[str]:
    """The registers that an instruction writes."""
    return names(instruction.operands[0]) if has_result(instruction) else set()


def touched(instruction: Instruction) -> tuple[set[str], set[str]]:
    """The registers that an instruction reads, and those that it writes whatever its guard says."""
    written = destinations(instruction)
    rest = instruction.operands[1:] if has_result(instruction) else instruction.operands
    reads = set().union(*map(names, rest))
    if instruction.guard is not None:
        return reads | {instruction.guard.name} | written, set()
    return reads, written


def has_result(instruction: Instruction) -> bool:
    """Whether the first operand is written."""
    stores = instruction.name.startswith(("wmma.store", "prefetch", "cp.async"))
    return instruction.op[0] not in NO_RESULT and not stores and bool(instruction.operands)


def names(operand: object) -> set[str]:
    """Registers and other values by name within an operand; `_`, which discards, is none."""
    if isinstance(operand, Vector):
        return set().union(*map(names, operand.parts))
    if isinstance(operand, Register):
        return {operand.name} - {"_"}
    if isinstance(operand, Symbol):
        return {operand.name}
    return names(operand.base) if isinstance(operand, Address) else set()
