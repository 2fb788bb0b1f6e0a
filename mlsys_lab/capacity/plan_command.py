"""`mlsys-lab estimate plan`: plans from files, one or side by side, searched where they ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlsys_lab.capacity.answers import Answer
from mlsys_lab.capacity.options import AsJson, Explain, FailIf, TooMuch, say
from mlsys_lab.capacity.plan_file import Plan, read_plans
from mlsys_lab.capacity.plan_found import Searched, failure, searched
from mlsys_lab.capacity.plans import answer, refusal, side_by_side


def plan(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="A plan, or several.")],
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """Plans from YAML: memory, time, cost and energy, side by side; a search for the cheapest that fits.

    Example: mlsys-lab estimate plan today.yaml cheaper.yaml

    A plan that trains:

    \b
      model: gpt3-175b
      gpu: A100
      gpus: 1024
      tokens: 300B
      batch: 1536            # sequences of a step
      context: 2048
      micro_batch: 1
      optimizer: adamw
      dtype: bf16
      parallel: {tp: 8, pp: 8, zero: 1, sp: true, recompute: none}
      usd_per_hour: 2        # else what sellers ask

    Further under parallel: dp, interleave, cp, ep. A plan that serves has model, gpu and

    \b
      serve: {rate: 5, prompt: 512, output: 256, ttft: 500ms, tpot: 50ms}

    Several plans: under `plans:` by name, or in several files.

    `search: cost` (or time) in a plan looks for the cheapest (fastest) layout that fits. What parallel
    and micro_batch say is kept, a list (`tp: [4, 8]`, also gpu and gpus) is chosen from, the rest of tp,
    pp, dp, zero, recompute and micro_batch is free. `budget: 500000 USD` and `deadline: 30d` bound it.

    Time, cost and energy are of the layout's own steps; published_time_s is what published runs took.
    Exit 1 where no plan fits.
    """
    plans = [p for file in files for p in read_plans(file)]
    twice = {p.name for p in plans if [q.name for q in plans].count(p.name) > 1}
    named = {f"{p.where.removesuffix('.yaml')}" if p.name in twice else p.name: p for p in plans}
    found = {name: searched(p) if p.search else answer(p) for name, p in named.items()}
    refused = [why for name, p in named.items() if (why := _why(p, found[name]))]
    if len(found) == 1:
        say(next(iter(found.values())), as_json, explain, fail_if)
    else:
        _say_all(found, as_json, explain, fail_if)
    if len(refused) == len(found):
        raise TooMuch("; ".join(refused))


def _why(p: Plan, found: Answer) -> str:
    if isinstance(found, Searched) and found.found is not None:
        return failure(found.found)
    return refusal(p, found)


def _say_all(found: dict[str, Answer], as_json: bool, explain: bool, fail_if: list[str] | None) -> None:
    failed = [(name, c) for c in fail_if or [] for name, a in found.items() if a.fails(c)]
    if as_json:
        table = {
            name: a.to_json() | ({"derivation": a.derivation()} if explain else {})
            for name, a in found.items()
        }
        print(json.dumps({"plans": table}, indent=1))
    else:
        print("\n".join(side_by_side(found)))
        for name, a in found.items():
            if isinstance(a, Searched):
                print(f"\n{name}", *a.search_lines(), sep="\n")
            if explain:
                print(f"\n{name}", *a.derivation(), sep="\n")
    if failed:
        name, condition = failed[0]
        raise TooMuch(f"{name}: --fail-if {condition!r} holds")
