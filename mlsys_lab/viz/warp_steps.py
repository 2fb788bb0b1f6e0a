"""A warp steps: sectors of global memory, banks of shared memory, a reduction tree, warps that take turns.

The kernels below run on the simulator, and what is drawn is what its counters say; the last part is a model
over instructions that ran. After M. Harris, "Optimizing Parallel Reduction in CUDA" (2007) for the trees.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mlsys_lab.viz.stepper import Shape, Step, Stepper
from mlsys_lab.viz.warp_drawing import (
    ROWS,
    SIZE,
    WARP,
    Scene,
    bar,
    box,
    label,
    listed,
    percent,
    row,
    shapes,
    some,
    waiting,
)  # fmt: skip
from mlsys_lab.viz.warp_hiding import turns
from mlsys_lab.viz.warp_run import Request, listen

SECTOR_WORDS = 8

INTRO = (
    "A warp is 32 threads, lanes 0 to 31, that run one instruction together. Four parts: what a load asks of "
    "memory, banks of shared memory, a sum of 128 numbers, warps that take turns. Blue: at work. Orange: "
    "what it costs. Dashed: nothing done, or not run yet. All numbers are counted by the simulator, which "
    "runs the CUDA C++ shown; only the last part is a model, and says so."
)

GATHER = """extern "C" __global__ void gather(const float *x, float *out) {
    int i = threadIdx.x;
    out[i] = x[INDEX];
}"""
BANKS = """extern "C" __global__ void banks(float *out) {
    __shared__ float s[33 * 32];
    int t = threadIdx.x;
    for (int k = t; k < 33 * 32; k += 32) s[k] = k;
    __syncthreads();
    out[t] = s[INDEX];
}"""
TREE = """extern "C" __global__ void tree(const float *x, float *out) {
    __shared__ float s[128];
    int t = threadIdx.x;
    s[t] = x[t];
    for (HALVES) {
        __syncthreads();
        ADD
    }
    __syncthreads();
    if (t == 0) out[0] = s[0];
}"""
UP, DOWN = "int h = 1; h < 128; h *= 2", "int h = 64; h > 0; h /= 2"
TREES = {
    "t % (2 * h) == 0": (UP, "if (t % (2 * h) == 0) s[t] += s[t + h];"),
    "i = 2 * h * t": (UP, "int i = 2 * h * t; if (i < 128) s[i] += s[i + h];"),
    "t < h": (DOWN, "if (t < h) s[t] += s[t + h];"),
}


def warp_steps(
    *,
    loads: Sequence[str] = ("i", "2 * i", "i + 1", "32 * i"),
    words: Sequence[str] = ("t", "2 * t", "32 * t", "33 * t"),
    load_cycles: int = 24,
) -> Stepper:
    """What a warp does on a GPU, in four parts; every number is counted in a run on the simulator.

    Args:
        loads: at most four indices of x, 1,024 floats of global memory, in C, for lane i.
        words: at most four indices of s, 1,056 floats of shared memory, for lane t.
        load_cycles: cycles that a load takes in the model of the last part.

    Returns:
        A stepper.

    Raises:
        CompileError: an index is no C++.
        ValueError: no indices or too many, one outside the array for every lane, no cycle for a load.
        NoFrontEnd: no compiler for CUDA C++ is installed; names the command that installs one.

    Example:
        >>> viz.warp_steps().save("warp.html")  # doctest: +SKIP
    """
    if not (1 <= len(loads) <= 4 and 1 <= len(words) <= 4 and load_cycles > 0):
        raise ValueError(
            f"expected 1 to 4 loads, 1 to 4 words and a load of at least 1 cycle, got {len(loads)}, "
            f"{len(words)} and {load_cycles}"
        )
    steps = [*coalescing(loads), *banks(words), *trees(), *turns(load_cycles)]
    geometry = shapes()
    first = {key: shape | steps[0][1].get(key, {}) for key, shape in geometry.items()}
    made, before = [Step(steps[0][0])], steps[0][1]
    for say, scene in steps[1:]:
        hidden: Scene = {
            key: {k: geometry[key][k] for k in change} for key, change in before.items() if key not in scene
        }
        new = {key: change for key, change in scene.items() if before.get(key) != change}
        made.append(Step(say, {**hidden, **new}))
        before = scene
    return Stepper("How a warp steps", INTRO, {k: Shape(**s) for k, s in first.items()}, made, SIZE)


def coalescing(forms: Sequence[str]) -> list[tuple[str, Scene]]:
    """Part 1: which sectors of global memory the lanes of a load touch."""
    told = [f"x[{form}]" for form in forms]
    bars = waiting(told)
    head = (
        row("lane", "lane", range(WARP))
        | row("column", "column", range(WARP))
        | {"askhead": label("asks x[ ]")}
    )
    head |= {f"head{r}": label("sectors", f"{r * WARP} to {r * WARP + 31}") for r in range(ROWS)}
    head |= {f"big{s}": box("plain") for s in range(ROWS * WARP)}
    say = (
        "Part 1, global memory: it moves in sectors of 32 bytes, eight floats. Lane i loads one float of x; "
        "which one, the index says. The grid is the first 4 KiB of x, a cell per sector; in it, how "
        "many lanes ask for some of it."
    )
    off: Scene = {f"ask{t}": box("idle") for t in range(WARP)}
    steps = [(say, head | off | bars | {"code": label("out[i] = x[...];")})]
    for number, form in enumerate(forms):
        one = load(GATHER.replace("INDEX", form), "global", np.arange(1024, dtype=np.float32))
        touched = counted(one.word // SECTOR_WORDS)
        asked, moved = 4 * len(one.threads), 32 * one.cost
        scene = head | asks(one)
        scene |= {f"big{s}": box("memory", str(n)) for s, n in touched.items()}
        bars[f"bar{number}"] = bar(
            one.cost / WARP,
            f"{told[number]}: {some(one.cost, 'sector')}",
            f"{asked} B asked, {moved:,} B moved",
        )
        each = sorted(set(touched.values()))
        lanes = f"{each[0]} to {each[-1]} lanes" if len(each) > 1 else some(each[0], "lane")
        say = (
            f"{told[number]}: lanes ask for words {listed(one.word)}. {some(one.warps, 'request')}, "
            f"{some(one.cost, 'sector')}: {listed(touched)}, {lanes} in each. "
            f"Of {moved:,} bytes that move, {asked} are asked for: {percent(asked / moved)}."
        )
        steps.append((say, scene | bars | code(f"out[i] = x[{form}];", one)))
    return steps


BANK = "Part 2, shared memory: word w lies in bank w % 32, and a bank gives one word per wavefront."


def banks(forms: Sequence[str]) -> list[tuple[str, Scene]]:
    """Part 2: which lanes meet in a bank of shared memory."""
    told = [f"s[{form}]" for form in forms]
    bars = waiting(told)
    head = (
        row("lane", "lane", range(WARP))
        | row("column", "bank", range(WARP))
        | {"askhead": label("asks s[ ]")}
    )
    head |= {"head0": label("lanes that", "ask there")}
    steps = []
    for number, form in enumerate(forms):
        one = load(BANKS.replace("INDEX", form), "shared")
        meet: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for lane, word in zip(one.threads.tolist(), one.word.tolist(), strict=True):
            meet[word % WARP][word].append(lane)  # lanes that ask for one word share it
        scene = head | asks(one)
        for bank, there in meet.items():
            all_ = list(there.values())
            shown = all_ if len(all_) <= ROWS else all_[: ROWS - 1]
            for r, lanes in enumerate(shown):
                same = (f"+{len(lanes) - 1}",) if len(lanes) > 1 else ()
                if r:
                    scene[f"head{r}"] = label("and ask", "there too")
                scene[f"big{r * WARP + bank}"] = box("memory" if r else "compute", str(lanes[0]), *same)
            if len(shown) < len(all_):
                hidden = len(all_) - len(shown)
                scene[f"big{(ROWS - 1) * WARP + bank}"] = box("memory", f"{hidden}", "more")
        more = one.cost - one.ideal
        bars[f"bar{number}"] = bar(
            one.cost / WARP, f"{told[number]}: {some(one.cost, 'wavefront')}", f"{more} more than needed"
        )
        most = max(meet.values(), key=len)
        bank = next(b for b, there in meet.items() if there is most)
        lanes = [lane for sharing in most.values() for lane in sharing]
        who = f"Lanes {listed(lanes)} meet in bank {bank}" if more else "No two words meet"
        say = (
            f"{told[number]}: lanes ask for words {listed(one.word)}, which lie in "
            f"{some(len(meet), 'bank')}: {listed(sorted(meet))}. {who}: "
            f"{some(one.cost, 'wavefront')}, {more} more than needed."
        )
        if number == 0:
            say = f"{BANK} {say}"
        if form == "33 * t":
            say += " This is a column of rows of 32 padded to 33."
        steps.append((say, scene | bars | code(f"out[t] = s[{form}];", one)))
    return steps


def trees() -> list[tuple[str, Scene]]:
    """Part 3: a block of four warps adds 128 ones, by a tree with three ways to choose lanes."""
    bars = {k: v for k, v in waiting([*TREES, ""]).items() if k != "bar3"}
    head = (
        row("lane", "bank", range(WARP))
        | row("column", "lane", range(WARP))
        | {"askhead": label("warp 0 stores")}
    )
    steps = []
    for number, (name, (halves, add)) in enumerate(TREES.items()):
        source = TREE.replace("HALVES", halves).replace("ADD", add)
        line = source[: source.index(add)].count("\n") + 1
        out = np.zeros(1, np.float32)
        _, requests, _ = listen(source, ROWS * WARP, np.ones(ROWS * WARP, np.float32), out)
        all_ = [r for r in requests if r.line == line and r.space == "shared"]
        so_far: list[Request] = []
        rounds = sorted({r.interval for r in all_})
        for count, interval in enumerate(rounds, 1):
            now = [r for r in all_ if r.interval == interval]
            so_far += now
            stores = [r for r in now if r.op.startswith("st")]
            sums = {int(t): v for r in stores for t, v in zip(r.threads, r.value, strict=True)}
            scene = head | threads_drawn(sums, stores)
            bars[f"bar{number}"] = bar(
                active(so_far),
                f"{name}: {active(so_far):.0%} of lanes",
                f"add, {conflicts(so_far)} extra wavefronts",
            )
            h = halves_at(halves, count)
            say = (
                f"h = {h}: {some(len(sums), 'thread')} add ({listed(sorted(sums))}), in "
                f"{some(len({t // WARP for t in sums}), 'warp')}: {percent(active(now))} of the lanes of "
                f"warps that run it. Their loads and stores take {sum(r.cost for r in now)} wavefronts, "
                f"{conflicts(now)} more than needed."
            )
            if count == 1:
                say = f"{STORY[number]} {say}"
            if count == len(rounds):
                say += f" The sum is {out[0]:g}; in all {active(all_):.0%} of the lanes added, with "
                say += f"{conflicts(all_)} wavefronts more than needed."
            steps.append(
                (say, scene | bars | {"code": label(f"for ({halves}) {{ __syncthreads(); {add} }}")})
            )
    return steps


def threads_drawn(sums: dict[int, float], stores: list[Request]) -> Scene:
    """The block's threads with what those that add have stored, and the words that warp 0 has per bank."""
    runs = {t // WARP for t in sums}
    scene: Scene = {}
    for t in range(ROWS * WARP):
        off = box("idle" if t // WARP in runs else "plain")
        scene[f"big{t}"] = box("compute", f"{sums[t]:g}") if t in sums else off
    for w in range(ROWS):
        lanes = sum(t // WARP == w for t in sums)
        scene[f"head{w}"] = label(f"warp {w}", f"{lanes} of 32" if w in runs else "skips")
    words = counted(np.concatenate([r.word[r.threads < WARP] for r in stores]) % WARP)
    scene |= {f"ask{b}": box("plain") for b in range(WARP)}
    return scene | {f"ask{b}": box("memory" if n > 1 else "compute", str(n)) for b, n in words.items()}


STORY = (
    "Part 3, a tree adds 128 ones. A cell: the sum its lane stored; dashed: a lane that is off; thin: the "
    "warp skips. Top row: words that warp 0 stores in each bank.",
    "Now the first threads add, so whole warps skip; but their words lie 2 h apart.",
    "Halves from the middle: the first threads add, and neighbours take neighbouring words.",
)


def load(source: str, space: str, *arguments: Any) -> Request:
    """The last load from a space of memory in a kernel that one warp runs."""
    _, requests, _ = listen(source, WARP, *arguments, np.zeros(WARP, np.float32))
    found = [r for r in requests if r.space == space and r.op.startswith("ld")]
    if not found:
        raise ValueError(f"expected a load from {space} memory, got none: give an index within the array")
    return found[-1]


def active(requests: Iterable[Request]) -> float:
    """Lanes that asked, of those of the warps that asked."""
    requests = list(requests)
    return sum(len(r.threads) for r in requests) / (WARP * sum(r.warps for r in requests))


def conflicts(requests: Iterable[Request]) -> int:
    return sum(r.cost - r.ideal for r in requests)


def halves_at(halves: str, count: int) -> int:
    """The distance in a round of a tree, the first being 1."""
    return 2 ** (count - 1) if halves == UP else 2 ** (7 - count)


def counted(values: Any) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def asks(one: Request) -> Scene:
    return {
        f"ask{t}": box("compute", str(w))
        for t, w in zip(one.threads.tolist(), one.word.tolist(), strict=True)
    }


def code(line: str, one: Request) -> Scene:
    return {"code": label(f"{line} The load in PTX: {one.op}")}
