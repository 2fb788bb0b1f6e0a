"""One peer of benchmarks/autograd.py in a process of its own: how long do n steps of a workload take?

Called as `python _autograd_child.py MODULE ARGUMENTS...`; MODULE has `prepare(arguments)`, which returns a
line about itself and a function from a Work to a step, which returns its loss. One JSON object per line, both
ways.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable

sys.path.append(sys.path.pop(0))  # autograd.py of this folder must not hide the peer of that name

from _autograd_work import Work


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # what a peer prints goes to stderr
    os.dup2(2, 1)
    about, make = importlib.import_module(sys.argv[1]).prepare(sys.argv[2:])
    steps: dict[Work, Callable[[], float]] = {}
    print(json.dumps({"about": about}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        count, work = question.pop("count"), Work(**question)
        try:
            if work not in steps:
                steps[work] = make(work)
            step = steps[work]
            wall, cpu = time.perf_counter(), time.process_time()
            losses = [step() for _ in range(count)]
            answer = {
                "cpu": time.process_time() - cpu,
                "wall": time.perf_counter() - wall,
                "losses": losses[:3],
            }
        except Exception as error:  # the parent reports it as a row that was left out
            answer = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
