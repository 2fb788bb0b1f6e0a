"""Generated kernels on the machine against the same program in Python, thread by thread.

Unsigned arithmetic, branches, loops with break and continue, early returns, shared memory between barriers,
barriers that vote, atomics (of shared memory with the turns that they take) and shuffles.
`--hypothesis-profile=deep` runs thousands.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlsys_lab.kernels import CudaKernel

THREADS, BLOCKS = 48, 2
NAMES = "abcd"
BITS = 0xFFFFFFFF
HEADER_LINES = 3  # of the source, before the first line of the program


class Program:
    """A random program, written as CUDA C++ and as a Python generator that yields where threads meet."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.cuda: list[str] = []
        self.python: list[str] = []
        self.shared_atomics: list[int] = []  # lines of the source
        self.depth = self.loops = 0

    def line(self, cuda: str, python: str) -> None:
        self.cuda.append("    " * (self.depth + 1) + cuda)
        self.python.append("    " * (self.depth + 1) + python)

    def expression(self, level: int = 2) -> tuple[str, str]:
        """The same expression twice; every step wraps at 32 bits."""
        if level == 0 or self.pick.random() < 0.2:
            name = self.pick.choice([*NAMES, "t", str(self.pick.choice([0, 1, 3, 7, 31, 1000, BITS]))])
            return (name + "u", name) if name.isdigit() else (name, name)
        (x, p), (y, q) = self.expression(level - 1), self.expression(level - 1)
        operation = self.pick.choice(["+", "-", "*", "&", "|", "^", "<<", ">>", "/", "%", "min", "max", "?"])
        if operation in ("<<", ">>"):
            return f"({x} {operation} ({y} & 31u))", f"(({p} {operation} ({q} & 31)) & {BITS})"
        if operation in ("/", "%"):
            return f"({x} {operation} ({y} | 1u))", f"({p} {'//' if operation == '/' else '%'} ({q} | 1))"
        if operation in ("min", "max"):
            return f"{operation}({x}, {y})", f"{operation}({p}, {q})"
        if operation == "?":
            return f"({x} < {y} ? {x} : {y} + 1u)", f"({p} if {p} < {q} else ({q} + 1) & {BITS})"
        return f"({x} {operation} {y})", f"(({p} {operation} {q}) & {BITS})"

    def condition(self) -> tuple[str, str]:
        (x, p), (y, q) = self.expression(1), self.expression(1)
        sign = self.pick.choice(["<", "<=", "==", "!=", ">"])
        return f"({x} & 15u) {sign} ({y} & 15u)", f"({p} & 15) {sign} ({q} & 15)"

    def statement(self) -> None:
        kind = self.pick.random()
        if kind < 0.5 or self.depth > 3:
            name = self.pick.choice(NAMES)
            x, p = self.expression()
            self.line(f"{name} = {x};", f"{name} = {p}")
        elif kind < 0.75:
            x, p = self.condition()
            unlikely = self.pick.random() < 0.3
            self.line(f"if (__builtin_expect({x}, 0)) {{" if unlikely else f"if ({x}) {{", f"if {p}:")
            self.inside(self.pick.randint(1, 3))
            if self.pick.random() < 0.5:
                self.line("} else {", "else:")
                self.inside(self.pick.randint(1, 2))
            self.line("}", "pass")
        else:
            self.loops += 1
            name, bound = f"i{self.loops}", self.pick.choice(["3u", "(t & 7u)", "(a & 7u)", "5u"])
            python = bound.replace("u", "")
            self.line(
                f"for (unsigned {name} = 0; {name} < {bound}; {name}++) {{",
                f"for {name} in counted(lambda: {python}):",
            )
            self.depth += 1
            for word in self.pick.sample(["break", "continue"], self.pick.randint(0, 2)):
                x, p = self.condition()
                self.line(f"if ({x}) {word};", f"if {p}: {word}")
                self.statement()
            self.line(f"b += {name};", f"b = (b + {name}) & {BITS}")
            self.depth -= 1
            self.line("}", "pass")

    def inside(self, count: int) -> None:
        self.depth += 1
        for _ in range(count):
            self.statement()
        self.depth -= 1

    def meeting(self) -> None:
        """Something that threads do together, outside of all branches."""
        kinds = ["shared", "shuffle", "atomic", "ballot", "vote", "own"]
        name, kind = self.pick.choice(NAMES), self.pick.choice(kinds)
        shift = self.pick.randint(1, 31)
        if kind == "shared":
            self.line(f"s[t] = {name}; __syncthreads();", f"s[t] = {name}; yield 'barrier', 0")
            self.line(
                f"{name} += s[(t * {shift}u + 5u) % {THREADS}u];",
                f"{name} = ({name} + s[(t * {shift} + 5) % {THREADS}]) & {BITS}",
            )
            self.line("__syncthreads();", "yield 'barrier', 0")
        elif kind == "shuffle":
            self.line(
                f"if (t < 32u) {name} = __shfl_xor_sync(0xffffffffu, {name}, {shift});",
                f"if t < 32: {name} = yield 'shuffle', ({name}, {shift})",
            )
        elif kind == "vote":
            way = self.pick.choice(["count", "and", "or"])
            x, p = self.condition()
            self.line(f"{name} ^= __syncthreads_{way}({x});", f"{name} ^= yield '{way}', {p}")
        elif kind == "own":
            places = self.pick.choice([1, 2, 4])
            self.line(f"if (t < 4u) s[{THREADS}u + t] = 0u;", f"if t < 4: s[{THREADS} + t] = 0")
            self.line("__syncthreads();", "yield 'barrier', 0")
            place = f"{THREADS} + ({name} & {places - 1})"
            self.line(f"atomicAdd(&s[{place}], t | 1u);", f"w = {place}")
            self.shared_atomics.append(len(self.cuda) + HEADER_LINES)
            self.python.append(f"    taken[{len(self.shared_atomics)}, t // 32, w] += 1")
            self.python.append(f"    s[w] = (s[w] + (t | 1)) & {BITS}")
            self.line("__syncthreads();", "yield 'barrier', 0")
            place = f"{THREADS} + (t & 3)"
            self.line(f"{name} += s[{place}];", f"{name} = ({name} + s[{place}]) & {BITS}")
            self.line("__syncthreads();", "yield 'barrier', 0")
        elif kind == "ballot":
            self.line(
                f"if (t < 32u) {name} ^= __ballot_sync(0xffffffffu, {name} & 1u);",
                f"if t < 32: {name} ^= yield 'ballot', {name} & 1",
            )
        else:
            self.line(f"atomicAdd(&h[{name} & 7u], t);", f"h[{name} & 7] = (h[{name} & 7] + t) & {BITS}")

    def written(self) -> tuple[str, Any]:
        for _ in range(3):
            for _ in range(self.pick.randint(1, 4)):
                self.statement()
            self.meeting()
        self.line("if (t == 45u) return;", "if t == 45: return")
        self.meeting_after_return()
        body = "\n".join(self.cuda)
        source = f"""extern "C" __global__ void k(const unsigned* x, unsigned* y, unsigned* h) {{
    __shared__ unsigned s[{THREADS} + 4];
    unsigned t = threadIdx.x, a = x[blockIdx.x * {THREADS} + t], b = t * 7u, c = blockIdx.x, d = 1u;
{body}
    y[blockIdx.x * {THREADS} + t] = a ^ (b * 3u) ^ (c * 5u) ^ (d * 7u);
}}"""
        text = "def thread(t, a, b, c, d, s, h, out, taken):\n" + "\n".join(self.python)
        text += f"\n    out[t] = (a ^ (b * 3) ^ (c * 5) ^ (d * 7)) & {BITS}\n    return\n    yield"
        names: dict[str, Any] = {"counted": counted}
        exec(text, names)
        return source, names["thread"]

    def meeting_after_return(self) -> None:
        self.line("s[t] = d; __syncthreads();", "s[t] = d; yield 'barrier', 0")
        self.line("if (t < 40u) d += s[t + 1u];", f"if t < 40: d = (d + s[t + 1]) & {BITS}")


def counted(bound: Any) -> Iterator[int]:
    """C's loop: the bound is looked at in each round."""
    i = 0
    while i < bound():
        yield i
        i += 1


def by_hand(thread: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Each block's threads as generators, moved from meeting to meeting.

    Returns:
        What they leave, and the turns that lanes take at words of shared memory which they change.
    """
    turns = 0
    y, h = np.zeros(BLOCKS * THREADS, np.uint32), [0] * 8
    for block in range(BLOCKS):
        s: list[int] = [0] * (THREADS + 4)
        taken: Counter[tuple[int, int, int]] = Counter()
        out: dict[int, int] = {}
        own = (s, h, out, taken)
        running = {t: thread(t, int(x[block * THREADS + t]), t * 7, block, 1, *own) for t in range(THREADS)}
        asked: dict[int, Any] = {}
        answers: dict[int, Any] = dict.fromkeys(running)
        while running:
            for t in [t for t in running if t in answers]:
                try:
                    asked[t] = running[t].send(answers.pop(t))
                except StopIteration:
                    del running[t]
                    asked.pop(t, None)
            warp = [t for t in asked if t < 32 and asked[t][0] in ("shuffle", "ballot")]
            if warp:
                values = {t: asked.pop(t) for t in warp}
                for t, (kind, value) in values.items():
                    if kind == "shuffle":
                        answers[t] = values[t ^ value[1]][1][0]
                    else:
                        answers[t] = sum(values[u][1] << u for u in values)
            else:
                said = [value for _, value in asked.values()]
                ways = {"count": sum(said), "and": int(all(said)), "or": int(any(said))}
                answers = {t: ways.get(asked[t][0]) for t in running}
                asked.clear()
        most: Counter[tuple[int, int]] = Counter()
        for (atomic, warp, _), lanes in taken.items():
            most[atomic, warp] = max(most[atomic, warp], lanes)
        turns += most.total()
        for t, value in out.items():
            y[block * THREADS + t] = value
    return y, np.array(h, np.uint32), turns


@given(st.integers(0, 10**9))
def test_a_random_kernel_computes_what_python_does(seed):
    program = Program(seed)
    source, thread = program.written()
    x = np.random.default_rng(seed).integers(0, 2**32, BLOCKS * THREADS, np.uint32)
    y, h = np.zeros_like(x), np.zeros(8, np.uint32)
    report = CudaKernel(source)[BLOCKS, THREADS](x, y, h)
    want_y, want_h, turns = by_hand(thread, x)
    np.testing.assert_array_equal(y, want_y)
    np.testing.assert_array_equal(h, want_h)
    assert report is not None
    assert report.errors == report.races == []
    assert sum(report.lines[line].shared.wavefronts for line in program.shared_atomics) == turns
