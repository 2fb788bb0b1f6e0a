"""Writes the bundled hand-ins of HW2: `python assignments/hw2/make_samples.py`, from the repository's root.

Four of them: finished, half done with errors of its own, untouched, and careless about shared arrays and dtypes. Each is the
released student version with some exercises written; what each must score stands in `samples/expected.toml`,
which this script does not write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nbformat import NotebookNode

from autograder.notebook import code_cells
from autograder.pair import read_source, write_notebook
from autograder.student import student_notebook

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "hw2.py"

#: Ben's own answers to four questions, each wrong in its way; what else he has is the solution's.
BEN = {
    "hw2-q1d": '''\
def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    """The gradient for x, given that of a reduction of x."""
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    if operation == "sum":
        return g + np.zeros_like(x)
    if operation == "mean":
        return g * np.ones_like(x) * x.mean(axis=axis).size / x.size
    return g * (x == x.max(axis=axis, keepdims=True))''',
    "hw2-q2a": '''\
def gradients(program, values, root, seed, rules):
    """Go backward through a program."""
    found = [None] * len(program)
    found[root] = seed
    done = []

    def visit(step):
        for i in program[step][1]:
            if i not in done:
                visit(i)
        done.append(step)

    visit(root)
    for step in done[::-1]:
        name, inputs, options = program[step]
        if inputs:
            parts = rules[name](found[step], values[step], *[values[i] for i in inputs], **options)
            for i, part in zip(inputs, parts):
                part = part.astype(values[i].dtype)
                found[i] = part if found[i] is None else found[i] + part
    return found''',
    "hw2-q3b": '''\
def adamw(parameters, gradients, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """One update of all parameters."""
    t = state.get("t", 0) + 1
    m = state.get("m", [np.zeros_like(p) for p in parameters])
    v = state.get("v", [np.zeros_like(p) for p in parameters])
    new = []
    for i, (p, g) in enumerate(zip(parameters, gradients)):
        if g is not None:
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g**2
            step = m[i] / (1 - betas[0] ** t) / (np.sqrt(v[i] / (1 - betas[1] ** t)) + eps)
            p = (p - lr * weight_decay * p - lr * step).astype(p.dtype)
        new.append(p)
    return new, {"t": t, "m": m, "v": v}''',
    "hw2-q4c": '''\
def live_bytes(program, sizes, keep):
    """Bytes live during each step."""
    last = {}
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step
    found, live, kept = [], 0, set(keep)
    for step in range(len(program)):
        live += sizes[step]
        found.append(live)
        live -= sum(sizes[i] for i in set(program[step][1]) if last[i] == step and i not in kept)
    return found''',
}
BEN_SOLVED = ("q1a", "q1b", "q1c", "q1e", "q2b", "q3a", "q3c", "q5a")

#: Dan saves memory: his engine adds in place and converts nothing, his clipping measures in the gradients' dtype.
DAN = {
    "hw2-q2a": '''\
def gradients(program, values, root, seed, rules):
    """Go backward through a program."""
    found = {root: seed}
    for step in range(root, -1, -1):
        name, inputs, options = program[step]
        if step in found and inputs:
            parts = rules[name](found[step], values[step], *[values[i] for i in inputs], **options)
            for i, part in zip(inputs, parts):
                if i in found:
                    found[i] += part
                else:
                    found[i] = part
    return [found.get(step) for step in range(len(program))]''',
    "hw2-q3a": '''\
def clip(gradients, limit):
    """Scale gradients down to a global norm."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    if norm > limit:
        gradients = [g * (limit / norm) for g in gradients]
    return gradients, float(norm)''',
}


def half_done(solved: Sequence[str], own: Mapping[str, str]) -> NotebookNode:
    """The student version in which some questions hold the solution and some a student's own code."""
    answers = {cell.id: cell.source for cell in read_source(SOURCE).cells}
    notebook = student_notebook(SOURCE)
    for cell in notebook.cells:
        if cell.id in own:
            cell.source = own[cell.id]
        elif cell.id in {f"hw2-{question}" for question in solved}:
            cell.source = _without_markers(answers[cell.id])
    return notebook


def finished(own: Mapping[str, str] | None = None) -> NotebookNode:
    """The student version with every question solved, but for a student's own code."""
    exercises = [c.id for c in student_notebook(SOURCE).cells if "exercise" in c.metadata.get("tags", [])]
    return half_done([name.removeprefix("hw2-") for name in exercises], own or {})


SAMPLES: dict[str, Callable[[], NotebookNode]] = {
    "ada_hw2.ipynb": finished,
    "ben_hw2.ipynb": lambda: half_done(BEN_SOLVED, BEN),
    "cleo_hw2.ipynb": lambda: student_notebook(SOURCE),
    "dan_hw2.ipynb": lambda: finished(DAN),
}


def written(name: str) -> str:
    """The text of one sample's file."""
    return write_notebook(SAMPLES[name]())


def _without_markers(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not re.match(r"\s*### (BEGIN|END) SOLUTION", line))


if __name__ == "__main__":
    for sample in SAMPLES:
        path = HERE / "samples" / sample
        path.write_text(written(sample), encoding="utf-8")
        print(json.dumps({"sample": sample, "code_cells": len(code_cells(path.read_bytes(), path.suffix))}))
