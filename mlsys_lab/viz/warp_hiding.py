"""The last part of the warp demo: warps that take turns hide the time that a load takes, in a model.

What each warp runs is what a loop ran on the simulator; when it runs is the model's, see `warp_turns`.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from mlsys_lab.viz.warp_drawing import WARP, Scene, bar, box, label, row, some, waiting
from mlsys_lab.viz.warp_run import listen
from mlsys_lab.viz.warp_turns import Turns, is_global_load, take_turns

LOOP = """extern "C" __global__ void columns(const float *x, float *out, int n) {
    float sum = 0;
    #pragma unroll 1
    for (int k = 0; k < n; k++)
        sum += x[32 * k + threadIdx.x];
    out[threadIdx.x] = sum;
}"""
LINE = "for (int k = 0; k < n; k++) sum += x[32 * k + threadIdx.x];"
TIMES = 16  # turns of that loop
MODEL = (
    "Part 4, a model: one instruction per cycle, a load takes {} cycles (on a GPU hundreds). "
    "Warps run the instructions that the loop really ran. Dashed: waits for its load; thin: ready, another "
    "has the slot."
)


def turns(load_cycles: int) -> list[tuple[str, Scene]]:
    """Part 4: a model of warps that take turns while a load is under way."""
    ran, _, _ = listen(LOOP, WARP, np.ones(TIMES * WARP, np.float32), np.zeros(WARP, np.float32), TIMES)
    trace = ran[next(i for i, one in enumerate(ran) if is_global_load(one)) :]
    counts = (1, 2, 4, 8)
    told = [some(n, "warp") for n in counts]
    bars, alone = waiting(told), tuple[str, ...]()
    steps: list[tuple[str, Scene]] = []
    for number, n in enumerate(counts):
        for switching in (False, True) if n > 1 else (True,):
            model = take_turns(trace, n, load_cycles=load_cycles, switching=switching)
            mine = [
                i for i, slot in enumerate(model.issued) if slot and slot[0] == 0 and is_global_load(slot[1])
            ]
            first = mine[2]  # of the loop's third turn: the start is over
            window = range(first, first + WARP)
            scene = row("column", "cycle", window) | {"askhead": label("slot goes to")}
            scene |= {f"warp{w}": label(f"warp {w}") for w in range(n)}
            for c, cycle in enumerate(window):
                slot = model.issued[cycle]
                scene[f"ask{c}"] = box("compute", f"w{slot[0]}") if slot else box("idle")
                for w in range(n):
                    late = w in model.waiting[cycle]
                    scene[f"small{w}-{c}"] = box("idle" if late else "plain")
                if slot:
                    scene[f"small{slot[0]}-{c}"] = box("compute", slot[1].op[0])
            bars[f"bar{number}"] = bar(model.used, f"{told[number]}: {rate(model)}", *alone)
            if n > 1 and not switching:
                alone = (f"switching off: {model.used:.0%}, {len(model.issued):,} cycles",)
                bars[f"bar{number}"] = bar(model.used, told[number], *alone)
            how = told[number] + ("" if n == 1 else f", switching {'on' if switching else 'off'}")
            inside = sum(model.issued[c] is not None for c in window)
            say = (
                f"{how}: {inside} of the 32 slots shown are used, in turn by {in_turn(model, window)}. "
                f"In all {len(trace) * n:,} instructions, {rate(model)}."
            )
            say = f"{'Model:' if steps else MODEL.format(load_cycles)} {say}"
            steps.append((say, scene | bars | {"code": label(LINE)}))
    return steps


def rate(model: Turns) -> str:
    return f"{model.used:.0%} of slots, {len(model.issued):,} cycles"


def in_turn(model: Turns, window: range) -> str:
    """Who has the slot, and for how many cycles on end."""
    owners = groupby(f"warp {slot[0]}" if slot else "nobody" for slot in (model.issued[c] for c in window))
    return ", ".join(f"{owner} ({len(list(cycles))})" for owner, cycles in owners)
