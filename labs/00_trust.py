# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 70
#     needs:
#     - nbclient
#     parts:
#     - autograder
#     - viz
#     paths:
#     - training
#     - inference
#     - operations
#     points: 10
#     prerequisites: []
#     title: Can you trust a notebook?
#     week: 1
# ---

# %% [markdown]
# # Can you trust a notebook?
#
# | | |
# |---|---|
# | **Goal** | say when a number in a notebook holds, and make one hold by itself |
# | **Time** | 70 minutes, 40 of them in three exercises |
# | **Points** | 10: stale cell 3, order check 4, headless run 3 |
# | **Parts** | `autograder.check`; Jupyter's own `nbformat`, `nbclient`, `jupytext` |
# | **Before** | nothing |

# %% tags=["setup"]
# Setup, safe to run again: installs the course where it is missing, sets the plot style.
import glob
import importlib
import os
import re
import subprocess
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
try:
    from autograder.machine import describe
except ImportError:
    near = [w for up in ("", "../", "../../") for w in glob.glob(up + "wheels/mlsys_lab_*.whl")]
    if not near:
        raise FileNotFoundError("copy the course's folder wheels/ beside this notebook") from None
    newest = max(near, key=lambda w: [int(n) for n in re.findall(r"\d+", os.path.basename(w))])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", newest, "nbclient", "scikit-learn"]
    subprocess.run(pip, check=True)
    importlib.invalidate_caches()
    from autograder.machine import describe
from autograder.check import check, skip, solved
from mlsys_lab.viz import PALETTE, bound, prediction, show, style

_ = style()
print(describe())

# %%
import matplotlib.pyplot as plt

# Notebooks behind papers in PubMed Central, run again: Samuel and Mietchen, GigaScience 13 (2024).
survey = {
    "gave identical results": 879,
    "ran without errors": 1_203,
    "dependencies installed, rerun": 10_388,
    "dependencies declared, tried": 15_817,
    "in Python": 22_578,
    "all notebooks found": 27_271,
}
fig, ax = plt.subplots()
bars = ax.barh(list(survey), list(survey.values()), color=PALETTE["reference"])
ax.bar_label(bars, fmt="{:,.0f}", padding=4)
ax.set(xlabel="notebooks", xlim=(0, 32_000))
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.set_title("Of 10,388 notebooks rerun, 879 gave identical results")
show(fig)

# %% [markdown]
# ## One of them, in slow motion
#
# Will a language model of 7.6 billion parameters fit a GPU of 24 GiB (1 GiB is 2^30 bytes)? A colleague answers with a
# notebook of four cells. Two bytes (bf16) per weight; then keys and values (2) in 32 layers, 4,096 wide, 2 bytes each,
# for 4,096 tokens of each request. Activations are left out. Every answer below is the same for 24 GB (22.4 GiB).

# %%
import nbformat

sources = [
    "requests = 4",
    "weights = 7.6e9 * 2 / 2**30",
    "kv_cache = 2 * 32 * 4096 * 2 * 4096 * requests / 2**30",
    "total = weights + kv_cache\nround(total, 1)",
]
plan = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sources])

# %%
from nbclient import NotebookClient

quiet = ["--log-level=40"]


def session(notebook, steps):
    """Play a person in a fresh kernel: an index runs that cell, (index, new source) edits it."""
    notebook = nbformat.from_dict(notebook)
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", extra_arguments=quiet)
    with client.setup_kernel():
        for step in steps:
            if isinstance(step, tuple):
                notebook.cells[step[0]].source = step[1]
            else:
                client.execute_cell(notebook.cells[step], step)
    return notebook


# %% [markdown]
# ## Predict
#
# The colleague runs all four cells: **22.2** GiB, it fits. Then comes the question whether 8 requests fit. The colleague
# changes the first cell to `requests = 8`, runs it, jumps to the last cell, and runs that.
#
# Which number stands below the last cell now, in GiB?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_gib = 22.2
### END SOLUTION

# %% tags=["nbval-check-output"]
saved = session(plan, [0, 1, 2, 3, (0, "requests = 8"), 0, 3])
clean = session(saved, [0, 1, 2, 3])
for cell in saved.cells:
    print(f"[{cell.execution_count}]", cell.source.splitlines()[0])
shown, true = (float(run.cells[-1].outputs[0].data["text/plain"]) for run in (saved, clean))
print(f"The last cell shows {shown} GiB; a clean start shows {true} GiB.")

# %%
fig, ax = plt.subplots()
bars = ax.bar(["saved notebook", "clean start"], [shown, true], color=PALETTE["memory"], width=0.4)
ax.bar_label(bars, fmt="%.1f GiB", label_type="center")
bound(ax, 24, "24 GiB: the GPU")
prediction(ax, 0.3, predicted_gib)
ax.set(xlim=(-0.5, 1.7), ylim=(0, 35), ylabel="memory (GiB)")
ax.set_title("It fits in the file, and not on the GPU")
show(fig)

# %% [markdown]
# The text says 8 requests, the last cell ran last, and its number still belongs to 4. The kernel holds **state**:
# `kv_cache` is from before the edit. The file keeps text, outputs and counts, not state.
#
# ## Build 1: which cells are stale? (15 minutes)
#
# A cell *reads* names and *writes* names; Python's parser finds both, below. A cell is **stale** when it reads a name
# whose cell ran after it, or whose cell is stale itself: staleness is passed on. About 6 lines.

# %%
import ast


def names(source):
    """The names that a cell reads and those that it writes, as two sets."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    writes = {node.id for node in found if isinstance(node.ctx, ast.Store)}
    return {node.id for node in found} - writes, writes


reads, writes = zip(*(names(source) for source in sources), strict=True)


# %% nbgrader={"grade": false, "grade_id": "lab00-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def stale_cells(counts, reads, writes):
    """The indices of the stale cells, in order.

    counts: the execution count of each cell, in the notebook's order, (n,) ints.
    reads, writes: the names of each cell, n sets; each name is written by one cell.
    """
    ### BEGIN SOLUTION
    n, stale = len(counts), set()
    for _ in range(n):
        for i in range(n):
            sources = [j for j in range(n) if j != i and reads[i] & writes[j]]
            if any(counts[j] > counts[i] or j in stale for j in sources):
                stale.add(i)
    return sorted(stale)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab00-q1-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab00.q1", stale_cells)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# Start with the cells that are stale on their own. Then look again: who reads from a stale cell? Repeat until a round
# finds nobody new.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# Keep a set `stale`. `n` rounds over all `n` cells are enough, since a chain of cells has at most `n` links. Cell `i`
# depends on cell `j` when `reads[i] & writes[j]` is not empty.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     for _ in range(n):
#         for i in range(n):
#             for j in range(n):
#                 if i depends on j, and (j ran later than i, or j is stale): add i
#     return the sorted list
# </details>

# %%
find_stale = stale_cells if solved("lab00.q1") else skip("lab00.q1")
whose = "yours" if solved("lab00.q1") else "the reference"
counts = [cell.execution_count for cell in saved.cells]
stale = find_stale(counts, reads, writes)
fig, ax = plt.subplots()
for i, (count, text) in enumerate(zip(counts, sources, strict=True)):
    label = text.split(" =")[0] + (", stale" if i in stale else "")
    color = PALETTE["reference" if i in stale else "idle"]
    ax.plot(count, i, "o", markersize=14, color=color, label=label)
    ax.annotate(label, (count + 0.2, i), va="center")
ax.set(xlabel="execution count", ylabel="cell", yticks=range(4), xlim=(0.5, 7.5), ylim=(3.5, -0.5))
ax.set_title(f"The last cell ran last, and is stale ({whose})")
show(fig)


# %% [markdown]
# ## Build 2: what the counts tell (12 minutes)
#
# A saved file has no state, but it has the execution count beside each cell. Three signs say that it was not simply run
# from top to bottom:
#
# - *never*: a cell has no count;
# - *backwards*: a cell's count is smaller than one above it;
# - *lost*: counts up to the largest that no cell shows, from cells that were run again, or deleted.
#
# 5 to 9 lines.

# %% nbgrader={"grade": false, "grade_id": "lab00-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def read_counts(counts):
    """What the execution counts of a saved notebook tell.

    counts: (n,) ints in the notebook's order, None where a cell was never run.
    Returns (never, backwards, lost): two lists of indices, and how many runs no cell shows.
    """
    ### BEGIN SOLUTION
    ran = [count for count in counts if count is not None]
    never = [i for i, count in enumerate(counts) if count is None]
    above = [max([c for c in counts[:i] if c is not None], default=0) for i in range(len(counts))]
    backwards = [i for i, count in enumerate(counts) if count is not None and count < above[i]]
    return never, backwards, max(ran, default=0) - len(ran)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab00-q2-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab00.q2", read_counts)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# Runs are numbered 1, 2, 3 without gaps, and a cell shows its last number only.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# Walk down the cells and carry the largest count seen so far. For `lost`, compare the largest count with the number of
# cells that have one. An empty notebook has lost nothing.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     largest = 0
#     for i, count in enumerate(counts):
#         no count: i belongs to never
#         count < largest: i belongs to backwards
#         largest = the larger of both
#     lost = largest - (how many cells have a count)
# </details>

# %% [markdown]
# ## How far do counts carry?
#
# Now 400 colleagues: each runs all cells, then does up to three random things: runs some cell again, or edits the number
# of requests without running it. Some files end with counts that look perfectly clean.
#
# Predict: of those clean-looking files, which share shows a wrong total, in percent?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_percent = 50
### END SOLUTION

# %%
def colleague(rng):
    """One random session: the counts in the file, and whether its last number is wrong."""
    text, counts, state, runs, shown = list(sources), [None] * 4, {}, 0, None
    for act in [0, 1, 2, 3, *rng.integers(-3, 4, size=rng.integers(0, 4))]:
        if act < 0:
            text[0] = f"requests = {rng.integers(1, 9)}"
            continue
        exec(text[act], state)
        counts[act] = runs = runs + 1
        shown = state["total"] if act == 3 else shown
    clean = {}
    exec("\n".join(text), clean)
    return counts, shown != clean["total"]


# %% tags=["nbval-check-output"]
import numpy as np

look = read_counts if solved("lab00.q2") else skip("lab00.q2")
whose = "yours" if solved("lab00.q2") else "the reference"


def warns(counts):
    """Does the order check find anything in these counts?"""
    never, backwards, lost = look(counts)
    return len(never) + len(backwards) + lost > 0


sessions = [colleague(rng) for rng in np.random.default_rng(0).spawn(400)]
wrong = np.array([is_wrong for _, is_wrong in sessions])
warned = np.array([warns(counts) for counts, _ in sessions])
share = {"order check warns": wrong[warned].mean(), "counts look clean": wrong[~warned].mean()}
print(f"{(~warned).sum()} of 400 files look clean; {wrong[~warned].mean():.0%} of these are wrong")

# %%
fig, ax = plt.subplots()
percent = [100 * value for value in share.values()]
bars = ax.barh(list(share), percent, color=[PALETTE["yours"], PALETTE["idle"]], height=0.5)
ax.bar_label(bars, fmt="%.0f %%", label_type="center")
prediction(ax, predicted_percent, 1.5)
ax.set(xlabel="files with a wrong total (%)", xlim=(0, 130), ylim=(-0.5, 1.8))
ax.set_xticks(range(0, 101, 20))
ax.set_title(f"Clean counts can hide a wrong number ({whose})")
show(fig)


# %% [markdown]
# The check warns of files that are fine and passes files that are not: an edit that nobody ran leaves the counts as
# they were. Nothing in the file can show that.
#
# ## Build 3: a headless run (13 minutes)
#
# Nobody at the keyboard: a fresh state, every cell once, from the top. **Parameters** replace the defaults right after
# the cell that sets them. `exec(source, state)` runs a text with a dictionary as its state. About 6 lines.

# %% nbgrader={"grade": false, "grade_id": "lab00-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def run_headless(sources, defaults, values):
    """Run cells from a clean start and return what they leave behind.

    sources: the text of each cell, n strings; defaults: index of the cell that sets the parameters.
    values: the parameters to use instead, name to value.
    Returns the state, name to value, without the entry "__builtins__" that exec adds.
    """
    ### BEGIN SOLUTION
    state = {}
    for i, source in enumerate(sources):
        exec(source, state)
        if i == defaults:
            state.update(values)
    del state["__builtins__"]
    return state
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab00-q3-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab00.q3", run_headless)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# A clean start is an empty dictionary, made anew in each call. The parameters come between two cells.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# One loop over the cells. After the cell `defaults` has run, put `values` over what it set: later cells then see them.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     state = {}
#     for i, source in enumerate(sources):
#         exec(source, state)
#         at the defaults' cell: update state with values
#     remove "__builtins__" and return state
# </details>

# %% [markdown]
# ## The real one
#
# `nbclient` does this with a real kernel, as `jupyter execute` and every notebook in this course's tests do. Here both
# run the plan, with a plot added at its end.

# %%
headless = run_headless if solved("lab00.q3") else skip("lab00.q3")
whose = "yours" if solved("lab00.q3") else "the reference"
plot = nbformat.v4.new_code_cell("import matplotlib.pyplot as plt\n_ = plt.bar(['total'], [total])")
runs = {}
for requests in (4, 8):
    runs[requests] = nbformat.from_dict({**plan, "cells": [*plan.cells, plot]})
    runs[requests].cells[0].source = f"requests = {requests}"
    NotebookClient(runs[requests], extra_arguments=quiet, record_timing=False).execute()

# %%
asked = np.arange(1, 13)
totals = np.array([headless(sources, 0, {"requests": int(r)})["total"] for r in asked])
real = [float(run.cells[3].outputs[0].data["text/plain"]) for run in runs.values()]
fig, ax = plt.subplots()
ax.plot(asked, totals, "o-", color=PALETTE["yours"], label=f"run_headless ({whose})")
ax.plot(list(runs), real, "ks", markersize=13, mfc="none", label="nbclient, a real kernel")
bound(ax, 24, "24 GiB")
ax.legend(loc="upper left")
ax.set(xlabel="requests at a time", ylabel="memory (GiB)")
ax.set_title(f"Twelve clean runs: {asked[totals <= 24].max()} requests fit")
show(fig)

# %% [markdown]
# ## What a reviewer sees
#
# From 4 to 8 requests one character of the text changes. The `.ipynb` is JSON with outputs inside; the `.py` beside
# each notebook of this course holds the text alone.

# %%
import difflib

import jupytext


def changed(before, after):
    """Lines and bytes that a diff of two texts shows."""
    diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[3:]
    return len(diff), sum(len(line.encode()) for line in diff)


writers = {".ipynb": nbformat.writes, ".py": lambda run: jupytext.writes(run, fmt="py:percent")}
sizes = {name: changed(*(write(run) for run in runs.values())) for name, write in writers.items()}
fig, ax = plt.subplots()
bytes_each = [size for _, size in sizes.values()]
bars = ax.barh(list(sizes), bytes_each, color=PALETTE["idle"], height=0.5)
ax.bar_label(bars, [f"{size:,} B in {lines} lines" for lines, size in sizes.values()], padding=4)
ax.set(xscale="log", xlim=(10, 1e6), xlabel="bytes in the diff")
ax.set_title("One changed character, twice reviewed")
show(fig)

# %% [markdown]
# ## Break it: a cache
#
# Clean runs cost time, so results get cached: same parameters, same result, no run. Then the model changes: only 8 of 32
# heads keep keys and values, 1,024 wide. What does the cache say?

# %%
import hashlib

memo = {}


def cached_total(text, requests, key):
    """The total of a headless run; run only where the cache holds nothing under the key."""
    if key not in memo:
        memo[key] = headless(text, 0, {"requests": int(requests)})["total"]
    return memo[key]


# %%
edited = [source.replace("4096 * 2", "1024 * 2") for source in sources]
for text in (sources, edited):
    digest = hashlib.sha256("".join(text).encode()).hexdigest()
    by_inputs = [cached_total(text, r, int(r)) for r in asked]
    by_text = [cached_total(text, r, (int(r), digest)) for r in asked]
truth = [headless(edited, 0, {"requests": int(r)})["total"] for r in asked]

# %%
fig, ax = plt.subplots()
ax.plot(asked, truth, "-", color=PALETTE["reference"], label="clean runs of the new text")
ax.plot(asked, by_text, "o", color=PALETTE["yours"], label=f"cache, key: inputs and text ({whose})")
ax.plot(asked, by_inputs, "o", color=PALETTE["idle"], label="cache, key: inputs")
ax.legend()
ax.set(xlabel="requests at a time", ylabel="memory (GiB)")
ax.set_title("A cache with too small a key is a stale cell")
show(fig)

# %% [markdown]
# A key must name everything that the result depends on. Arguments are not enough; text is not either, once a library, a
# file or the clock comes in.
#
# ## Par and bonus
#
# Par, the lines of a short answer without its signature: 6, 5 and 6. Without points: let `stale_cells` handle a name that two cells write, then try it on a notebook
# of your own.
#
# ## What you now know
#
# A notebook shows text, outputs and counts, and the number came from a state that it does not keep. Counts and names can
# prove a cell stale; nothing in the file can prove it fresh. A run from a clean start can, with parameters, as often as
# you like, and a cache is right only while its key is complete.
#
# Where this is wrong: a clean start repeats the text, not the world; other library versions, data or hardware still
# change the number.
#
# The real system: [nbclient](https://nbclient.readthedocs.io), under `jupyter execute`, nbval and papermill.
