# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 480
#     needs:
#     - numpy
#     - matplotlib
#     - scikit-learn
#     parts:
#     - autograder
#     - viz
#     points: 100
#     prerequisites:
#     - '00'
#     title: 'HW1: ML and systems basics'
#     week: 1
# ---

# %% [markdown]
# # HW1: ML and systems basics
#
# | | |
# |---|---|
# | **Goal** | count what a computation moves, not only what it computes: words through a cache, bytes under a roof, entries through a log, information through a split |
# | **Time** | about 8 hours in five parts: 7 for the exercises and the written answer, 1 for reading and predictions |
# | **Points** | 100 automatic, 5 of them for a notebook that runs from a clean start; 10 for a written answer |
# | **Parts** | `autograder.check`; NumPy, scikit-learn |
# | **Before** | lab 00 |

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

# %% [markdown]
# **How it is graded.** `check` runs a question's public tests here, 56 points in all. Hidden tests call your
# functions with other inputs, for 39 more; your report names them and keeps their values. 5 points are for
# the clean start, multiplied by the share of the other 95 that you earned.
#
# **Limits.** 2 s for a call, 10 s for a question, 60 s for the submission; in the clean start 10 s for a
# cell and 60 s for the notebook.
#
# **Handing in.** `python3 lab.py submit hw1` runs the notebook from a clean start, says what would fail, and
# makes the archive that you hand in.

# %%
import itertools
import math
import time
import tracemalloc
from collections import OrderedDict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

print(f"NumPy {np.__version__}, scikit-learn {sklearn.__version__}")


# %% [markdown]
# ## Part 1. What does memory hand out?
#
# The next cell adds up every `s`-th number of a long `float32` array and divides the time by the count of
# numbers added.
#

# %%
def fastest(function, repeats=5):
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def seconds_per_number(numbers, stride):
    """Seconds for each number added when every stride-th one is."""
    taken = numbers[::stride]
    return fastest(taken.sum) / taken.size


# %%
strides = np.array([1, 2, 4, 8, 16, 32, 64, 128])
long_array = np.ones(1 << 23, dtype=np.float32)
per_number = np.array([seconds_per_number(long_array, s) for s in strides])
fig, ax = plt.subplots()
ax.plot(strides, per_number / per_number[0], "o-", color=PALETTE["memory"], label="time per number")
ax.axvline(16, color=PALETTE["reference"], linestyle="--")
ax.text(16.6, 1.0, "16 numbers are 64 bytes", va="bottom")
ax.set_xscale("log", base=2)
ax.set_xticks(strides, [str(s) for s in strides])
ax.set(xlabel="stride (numbers of 4 bytes)", ylabel="time per number (ratio to stride 1)")
ax.set_title("Measured: an addition gets dearer as its neighbours go unused")
show(fig)


# %% [markdown]
# Memory comes in **lines**, on most machines of 64 bytes, often fetched in pairs. Two effects are mixed in:
# NumPy adds neighbours several at a time and strided numbers one by one, which lifts the left; beyond the
# line, page addresses and prefetching, made for neighbours too, lift the right.
#
# The model for this part has lines alone: a line holds `line` words, the cache holds `capacity` lines,
# any line may lie anywhere, and when it is full the line whose last use is longest ago goes (least recently
# used, **LRU**). A **miss** is an access whose line is not there.
#
# **q1a (20 min, 6 points).** Count the misses. About 10 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q1a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def count_misses(addresses, line, capacity):
    """Count the misses of a fully associative LRU cache that starts empty.

    Args:
        addresses: word addresses, whole numbers from 0, in the order of access.
        line: words in a line; word w lies in line w // line.
        capacity: lines that the cache holds, at least 1.

    Returns:
        The number of misses, an int.

    Example:
        count_misses([0, 1, 8, 0], line=8, capacity=1) is 3.
    """
    ### BEGIN SOLUTION
    cache = OrderedDict()  # line number -> None, the longest unused first
    misses = 0
    for address in addresses:
        number = int(address) // line
        if number in cache:
            cache.move_to_end(number)
            continue
        misses += 1
        cache[number] = None
        if len(cache) > capacity:
            cache.popitem(last=False)
    return misses
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Keep the line numbers in the order of their last use. A hit
# moves a line to the end; a miss adds one there and may drop the first.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>One loop over the addresses, one `if` on "is the line there".
# `collections.OrderedDict` has `move_to_end` and `popitem(last=False)`.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>hit: `cache.move_to_end(number)`; miss: count,
# `cache[number] = None`, and when `len(cache) > capacity` drop the first.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q1a-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw1.q1a", count_misses)


# %% [markdown]
# A product `C = A B` of n-by-n matrices runs `C[i, j] += A[i, k] * B[k, j]` over all i, j, k. The three
# loops may stand in any order. In **tiles** of t, three outer loops pick a tile of each index and three
# inner loops run inside it. With t = n there is one tile, the plain product.
#
# **q1b (30 min, 5 points).** List the addresses that it touches. About 8 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q1b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def matmul_trace(n, order, tile):
    """List the word addresses that a tiled n-by-n matrix product touches, in order.

    A starts at word 0, B at n * n, C at 2 * n * n; each is stored row by row. One step touches
    A[i, k], then B[k, j], then C[i, j] (read and written: one access).

    Args:
        n: rows and columns of each matrix.
        order: the loops from outer to inner, such as "ijk"; the loops over tiles and the loops
            inside a tile stand in the same order.
        tile: rows and columns of a tile; the last tile is smaller where it does not divide n.

    Returns:
        3 * n**3 addresses, a list or a 1-d array.
    """
    ### BEGIN SOLUTION
    trace = []
    for corner in itertools.product(range(0, n, tile), repeat=3):
        spans = [range(start, min(start + tile, n)) for start in corner]
        for step in itertools.product(*spans):
            at = dict(zip(order, step, strict=True))
            i, j, k = at["i"], at["j"], at["k"]
            trace += [i * n + k, n * n + k * n + j, 2 * n * n + i * n + j]
    return trace
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>`itertools.product` runs nested loops, the last one fastest.
# The letters of `order` say which of its three numbers is i, which j, which k.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>An outer product over tile corners, an inner product over
# three ranges, three addresses in each step. Element (r, c) of a matrix that starts at word s is word
# `s + r * n + c`.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`at = dict(zip(order, step))`, then `at["i"]`; a range of a
# tile is `range(start, min(start + tile, n))`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q1b-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q1b", matmul_trace)

# %% [markdown]
# **Predict.** A cache of 24 lines with 8 words each; n = 24. All six loop orders do the same 13,824
# multiplications. How many times as many misses has the worst order as the best? Store your number, then
# measure.
#

# %% tags=["predict"]
# Your guess; not graded.
### BEGIN SOLUTION
predicted_ratio = 3.0
### END SOLUTION

# %%
if solved("hw1.q1a") and solved("hw1.q1b"):
    orders = ["ikj", "kij", "ijk", "jik", "kji", "jki"]
    missed = np.array([count_misses(matmul_trace(24, o, 24), 8, 24) for o in orders])
    fig, ax = plt.subplots()
    bars = ax.bar(orders, missed / missed.min(), color=PALETTE["yours"])
    ax.bar_label(bars, [f"{count:,}" for count in missed], padding=2)
    prediction(ax, 6, predicted_ratio)
    ax.set(xlim=(-0.6, 8), xlabel="loop order, outer to inner", ylabel="misses (ratio to the best)")
    ax.set_title(f"Model: one product, up to {missed.max() / missed.min():.0f} times the misses")
    show(fig)
else:
    print("This figure waits for q1a and q1b.")


# %% [markdown]
# With j innermost, B and C are walked along their rows and each line is used in full. With i innermost, A and C
# are walked down their columns: a new line at every step, gone before its next word is asked for.
#
# Tiles make the walk local in every direction. Libraries multiply tile by tile and leave two tiles to a tuned
# kernel.

# %% [markdown]
# **q1c (20 min, 7 points).** Each product of two tiles goes through `multiply`. About 8 lines.

# %% nbgrader={"grade": false, "grade_id": "hw1-q1c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def blocked_matmul(a, b, tile, multiply=np.matmul):
    """Multiply two matrices tile by tile.

    Args:
        a: (n, m) array.
        b: (m, p) array.
        tile: rows and columns of a tile; tiles at the edges are smaller.
        multiply: takes a tile of a and a tile of b, returns their product. It is called once for
            each pair of tiles, and every multiplication goes through it.

    Returns:
        (n, p) array, the product, of the dtype np.result_type(a, b).
    """
    ### BEGIN SOLUTION
    (n, m), p = a.shape, b.shape[1]
    c = np.zeros((n, p), dtype=np.result_type(a, b))
    for i in range(0, n, tile):
        for j in range(0, p, tile):
            for k in range(0, m, tile):
                rows, inner, columns = slice(i, i + tile), slice(k, k + tile), slice(j, j + tile)
                c[rows, columns] += multiply(a[rows, inner], b[inner, columns])
    return c
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Tile (I, J) of C is the sum over K of tile (I, K) of A times
# tile (K, J) of B.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>Zeros of the right dtype, then three loops with `range(0,
# size, tile)`. A slice may reach past the end of an array; NumPy cuts it off.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`c[i:i+tile, j:j+tile] += multiply(a[i:i+tile, k:k+tile],
# b[k:k+tile, j:j+tile])`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q1c-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw1.q1c", blocked_matmul)


# %% [markdown]
# Which tile? Take order `ikj` inside a tile, L words in a line, and t a multiple of L. B's tile is walked
# once for each i, so it should stay: t²/L lines. Between two uses of one of its lines the walk touches the
# rest of it, two rows of C's tile (2t/L), and of A's the end of one row and the start of the next up to the
# same k (t/L, and 1 more, since the line that holds k counts in both rows). So it stays when
# **t²/L + 3t/L + 1** lines fit; then each of the (n/t)³ tile products fetches its three tiles once.
#
# **q1d (20 min, 5 points).** Predict the misses, choose the tile. About 5 lines.

# %% nbgrader={"grade": false, "grade_id": "hw1-q1d", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def tile_misses(n, tile, line):
    """Predict the misses of a tiled product whose tile fits: every tile product fetches 3 tiles.

    Args:
        n: rows and columns; a multiple of tile.
        tile: rows and columns of a tile; a multiple of line.
        line: words in a line.

    Returns:
        The number of misses, an int.
    """
    ### BEGIN SOLUTION
    return 3 * (n // tile) ** 3 * tile * tile // line
    ### END SOLUTION


def choose_tile(n, line, capacity):
    """Choose the tile with the fewest misses (see Goto and van de Geijn, ACM TOMS 34(3), 2008).

    Returns:
        The largest multiple of line that divides n and fits (tile**2 / line + 3 * tile / line + 1
        lines), or None where none does.
    """
    ### BEGIN SOLUTION
    tiles = (t for t in range(line, n + 1, line) if n % t == 0)
    return max((t for t in tiles if (t * t + 3 * t) // line + 1 <= capacity), default=None)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>A tile of t by t words whose rows begin at line borders has
# t²/L lines. How many tile products are there?</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>One formula; one `max` over the tiles that divide n and fit,
# with a default for "none".</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`3 * (n // tile) ** 3 * (tile * tile // line)` and `max((t
# for t in ... if ...), default=None)`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q1d-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q1d", tile_misses, choose_tile)

# %%
if solved("hw1.q1a") and solved("hw1.q1b") and solved("hw1.q1d"):
    sizes, aligned, chosen = [2, 4, 8, 16, 32], [8, 16, 32], choose_tile(32, 8, 64)
    counted = [count_misses(matmul_trace(32, "ikj", t), 8, 64) for t in sizes]
    foretold = [tile_misses(32, t, 8) for t in aligned]
    fig, ax = plt.subplots()
    ax.plot(sizes, counted, "o", color=PALETTE["yours"], label="counted by your cache")
    ax.plot(aligned, foretold, "--", color=PALETTE["reference"], label="your formula, if it fits")
    ax.axvline(chosen, color=PALETTE["memory"])
    ax.text(chosen * 1.03, max(counted), "your tile", color=PALETTE["memory"], va="top")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_yticks([400, 800, 1600, 3200], ["400", "800", "1,600", "3,200"], minor=False)
    ax.minorticks_off()
    ax.set(xlabel="tile (words), cache of 64 lines of 8 words", ylabel="misses, n = 32")
    ax.set_title("Model: misses fall as the tile grows, until it no longer fits")
    ax.legend(loc="lower left")
    show(fig)
else:
    print("This figure waits for q1a, q1b and q1d.")


# %% [markdown]
# Here the formula is exact for the last tile that fits; a smaller one beats it, since part of what comes next
# is there. That is no rule: with n = 24, lines of 4 words and 20 of them, the last tile that fits, 4, already has
# 1,872 misses where the formula says 2,592. One tile further, B's lines go just before they are needed. Real
# cliffs are rounder.

# %% [markdown]
# ## Part 2. Which roof are you under?
#
# An operation does `flops` operations and moves `bytes`; its **intensity** is I = flops / bytes. With peak P
# (FLOP/s) and bandwidth W (byte/s) it reaches at most min(P, I W). The limits meet at the **ridge point**.
#
# **q2a (10 min, 4 points).** About 2 lines.

# %% nbgrader={"grade": false, "grade_id": "hw1-q2a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def ridge_point(peak_flops, bandwidth):
    """The intensity (FLOP/byte) from which on a machine can reach its peak.

    Args:
        peak_flops: FLOP/s.
        bandwidth: byte/s.
    """
    ### BEGIN SOLUTION
    return peak_flops / bandwidth
    ### END SOLUTION


def attainable(intensity, peak_flops, bandwidth):
    """The roof: FLOP/s that an operation can reach (Williams and others, Roofline, CACM 52(4), 2009).

    Args:
        intensity: FLOP/byte, a number or an array of any shape.
        peak_flops, bandwidth: FLOP/s and byte/s.

    Returns:
        FLOP/s, of the shape of intensity.
    """
    ### BEGIN SOLUTION
    return np.minimum(peak_flops, np.asarray(intensity) * bandwidth)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>At the ridge both limits are equal: I W = P.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>One division; one elementwise minimum.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`np.minimum(peak_flops, np.asarray(intensity) *
# bandwidth)`: `min` would compare arrays as a whole.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q2a-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q2a", ridge_point, attainable)


# %% [markdown]
# Three operations on vectors of n and n-by-n matrices: **axpy** `y = a x + y` (a is a number), **matvec**
# `y = A x`, **matmul** `C = A B`. Count one FLOP for each addition and each multiplication of a
# product-and-add pair. Count the least traffic that can do: every operand read once, every result written
# once; `a` stays in a register.
#
# **q2b (20 min, 4 points).** About 6 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q2b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def work(operation, n, itemsize):
    """Count the FLOPs and the least bytes of an operation.

    Args:
        operation: "axpy", "matvec" or "matmul".
        n: length of a vector, rows and columns of a matrix.
        itemsize: bytes of a number.

    Returns:
        (flops, bytes), two whole numbers.
    """
    ### BEGIN SOLUTION
    flops, words = {
        "axpy": (2 * n, 3 * n),
        "matvec": (2 * n * n, n * n + 2 * n),
        "matmul": (2 * n**3, 3 * n * n),
    }[operation]
    return flops, words * itemsize
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Each element of each result is a sum of products: a
# multiplication and an addition for each term. Then list the arrays that are read and the one that is
# written.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>axpy reads x and y and writes y. matvec reads A and x and
# writes y. matmul reads two matrices and writes one.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>axpy: 2n FLOPs, 3n words. The others go the same way;
# multiply the words by `itemsize`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q2b-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q2b", work)

# %% [markdown]
# **Predict and measure.** The next cells measure this machine's two limits: bandwidth with a dot product, which
# reads two arrays and writes nothing, and peak with products of square matrices. Then they measure the three
# operations. Which share of its roof, from 0 to 1, does axpy reach as NumPy runs it? The hollow point is your
# guess, the filled ones are measured. Times are drawn, never graded.

# %% tags=["predict"]
# Your guess; not graded.
### BEGIN SOLUTION
predicted_share = 0.9
### END SOLUTION

# %%
def measured_limits():
    """Peak (FLOP/s) and bandwidth (byte/s) of one core, measured."""
    left, right = np.ones(1 << 22), np.ones(1 << 22)
    squares = [np.ones((n, n)) for n in (512, 768)]
    peak = max(2 * len(a) ** 3 / fastest(lambda a=a: a @ a) for a in squares)
    return peak, 2 * left.nbytes / fastest(lambda: left @ right)


def measured_rates():
    """FLOPs, bytes and seconds of axpy, matvec and matmul as NumPy runs them on float64."""
    x, y, temporary = np.ones(1 << 22), np.ones(1 << 22), np.ones(1 << 22)
    matrix, small = np.ones((2048, 2048)), np.ones((512, 512))
    runs = {
        "axpy": (1 << 22, lambda: np.add(np.multiply(2.0, x, out=temporary), y, out=y)),
        "matvec": (2048, lambda: matrix @ x[:2048]),
        "matmul": (512, lambda: small @ small),
    }
    return {name: (*work(name, n, 8), fastest(run)) for name, (n, run) in runs.items()}


# %%
if solved("hw1.q2a") and solved("hw1.q2b"):
    core_peak, core_bandwidth = measured_limits()
    across, shares = np.logspace(-2, 3, 200), {}
    fig, ax = plt.subplots()
    roof_line = attainable(across, core_peak, core_bandwidth) / 1e9
    ax.loglog(across, roof_line, color=PALETTE["reference"], label="your roof")
    ax.axvline(ridge_point(core_peak, core_bandwidth), color=PALETTE["idle"], linestyle="--")
    for name, (flops, moved, seconds) in measured_rates().items():
        foreseen = float(attainable(flops / moved, core_peak, core_bandwidth))
        shares[name] = flops / seconds / foreseen
        if name == "axpy" and predicted_share is not None:
            prediction(ax, flops / moved, predicted_share * foreseen / 1e9)
        ax.plot(flops / moved, flops / seconds / 1e9, "o", color=PALETTE["compute"], label=name)
        place = (flops / moved, flops / seconds / 1e9)
        ax.annotate(f"{name}, {shares[name]:.0%}", place, (6, -14), textcoords="offset points")
    ax.text(ridge_point(core_peak, core_bandwidth), roof_line.min(), " ridge", color=PALETTE["idle"])
    ax.set(xlabel="intensity (FLOP/byte)", ylabel="GFLOP/s")
    worst = min(shares, key=shares.get)
    ax.set_title(f"Measured, under your roof: {worst} falls short most")
    show(fig)
else:
    print("This figure waits for q2a and q2b.")


# %% [markdown]
# NumPy has no single axpy: `2.0 * x` goes into a temporary that is read back, five passes over memory instead
# of three: three fifths of the roof. It can be far lower, a third or less: two of the five are writes, for
# which most CPUs first read the line, and the bandwidth above is one of reads alone. Arrays that stay partly
# in a cache lift it. Fused, it would move up.

# %% [markdown]
# In tiles of t that divide n, each tile product reads its two tiles, and each tile of C stays near the
# processor until it is written once: 2n³/t + n² words.
#
# **q2c (25 min, 5 points).** The smallest tile that reaches the flat roof. About 6 lines.

# %% nbgrader={"grade": false, "grade_id": "hw1-q2c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def compute_bound_tile(n, itemsize, peak_flops, bandwidth):
    """The smallest tile with which a tiled n-by-n product reaches the ridge point.

    Args:
        n: rows and columns of each matrix.
        itemsize: bytes of a number.
        peak_flops, bandwidth: FLOP/s and byte/s.

    Returns:
        The smallest divisor of n whose intensity is at least the ridge point; None where even
        a tile of n is not enough.
    """
    ### BEGIN SOLUTION
    for tile in range(1, n + 1):
        moved = (2 * n**3 // tile + n * n) * itemsize
        if n % tile == 0 and 2 * n**3 / moved >= peak_flops / bandwidth:
            return tile
    return None
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>The FLOPs stay 2n³; only the bytes depend on t. A larger tile
# moves fewer bytes, so the first that is enough is the smallest.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A loop over the divisors of n in rising order, an intensity,
# a comparison with P / W, and None after the loop.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`moved = (2 * n**3 / tile + n * n) * itemsize`; return at
# the first `2 * n**3 / moved >= peak_flops / bandwidth`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q2c-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q2c", compute_bound_tile)

# %%
if solved("hw1.q2c"):
    ridges = np.arange(1, 129)
    tiles = [compute_bound_tile(1024, 4, float(ridge), 1.0) for ridge in ridges]
    fig, ax = plt.subplots()
    ax.step(ridges, tiles, where="mid", color=PALETTE["yours"], label="your smallest tile")
    ax.plot(ridges, 4 * ridges, ":", color=PALETTE["reference"], label="4 bytes times the ridge")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xlabel="ridge point of a machine (FLOP/byte)", ylabel="tile (numbers), n = 1,024")
    ax.set_title("Model: twice the ridge takes twice the tile's side, four times the cache")
    ax.legend()
    show(fig)
else:
    print("This figure waits for q2c.")


# %% [markdown]
# ## Part 3. How does a store take writes?
#
# A log-structured merge tree (O'Neil and others, *The Log-Structured Merge-Tree*, Acta Informatica 33(4),
# 1996) never changes a file. New entries gather in a **memtable** in memory. When it is full it is written
# as a sorted file, a **run**. A deleted key gets a marker, a **tombstone** (here the value None). Runs are
# merged later.
#
# A read may have to look into every run. A **Bloom filter** (Bloom, CACM 13(7), 1970) for each run says
# "surely not here" or "perhaps".
#

# %%
def hash_positions(keys, hashes, bits):
    """Where whole-number keys fall in a Bloom filter.

    One 64-bit mix (splitmix64) split in two, then double hashing (Kirsch and Mitzenmacher, 2008).

    Returns:
        (len(keys), hashes) positions from 0 to bits - 1.
    """
    z = np.atleast_1d(np.asarray(keys, dtype=np.int64)).astype(np.uint64)
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    first, second = z >> np.uint64(32), (z & np.uint64(0xFFFFFFFF)) | np.uint64(1)
    steps = np.arange(hashes, dtype=np.uint64)
    return ((first[:, None] + steps * second[:, None]) % np.uint64(bits)).astype(np.int64)


hash_positions([7, 8], hashes=3, bits=64)


# %% [markdown]
# A filter of m bits, k hashes and n keys is best with m = -n ln p / (ln 2)² and k = (m / n) ln 2, where p
# is the share of absent keys that it lets through.
#
# **q3a (30 min, 7 points).** Size a filter, build one, ask one. About 6 lines in all.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q3a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def bloom_size(count, false_positive_rate):
    """Choose a filter's bits (rounded up) and hashes (rounded to the nearest, at least 1).

    Returns:
        (bits, hashes), two ints.
    """
    ### BEGIN SOLUTION
    bits = math.ceil(-count * math.log(false_positive_rate) / math.log(2) ** 2)
    return bits, max(1, round(bits / count * math.log(2)))
    ### END SOLUTION


def bloom_build(keys, bits, hashes):
    """Build a filter: a bool array of bits, True at every position of every key (hash_positions)."""
    ### BEGIN SOLUTION
    bloom = np.zeros(bits, dtype=bool)
    bloom[hash_positions(keys, hashes, bits)] = True
    return bloom
    ### END SOLUTION


def might_hold(bloom, keys, hashes):
    """Ask a filter: for each key, could it be in? A bool array, one answer for each key."""
    ### BEGIN SOLUTION
    return bloom[hash_positions(keys, hashes, bloom.size)].all(axis=1)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>A key that went in has all its positions set. One position
# that is not set proves that the key never went in.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`hash_positions` gives a table with a row for each key; an
# array can be indexed by such a table, to set and to read.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`bloom[positions] = True` and
# `bloom[positions].all(axis=1)`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q3a-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw1.q3a", bloom_size, bloom_build, might_hold)


# %% [markdown]
# A run is a list of (key, value) pairs in rising order of keys, each key once. Where several runs hold a
# key, the newest says what it is. A tombstone must stay as long as an older value may lie in a run that is
# not part of the merge.
#
# **q3b (20 min, 5 points).** Merge runs into one. About 6 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q3b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def merge_runs(runs, drop_tombstones):
    """Merge sorted runs into one.

    Args:
        runs: list of runs, the newest first; a run is a list of (key, value), keys rising.
        drop_tombstones: leave out the keys whose newest value is None.

    Returns:
        One run: keys rising, each once, with its newest value.
    """
    ### BEGIN SOLUTION
    newest = {}
    for run in reversed(runs):
        newest.update(run)
    merged = sorted(newest.items())
    return [(key, value) for key, value in merged if not (drop_tombstones and value is None)]
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>First settle what each key's newest value is; only then decide
# about tombstones.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>Go through the runs from the oldest to the newest and let
# later ones overwrite. Then sort by key.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`for run in reversed(runs): newest.update(run)`, then a
# list over `sorted(newest.items())` with a condition.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q3b-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q3b", merge_runs)


# %% [markdown]
# The next three cells are given. A `Tree` keeps its memtable and, for each run, a file number and a filter in
# memory. Everything else lies on a disk that can `write` a run (and gives back its file number), `read` a
# file, `find` one key in a file as (found, value), and `drop` a file. `levels[0]` holds the youngest runs;
# in each level the newest stands first.
#

# %%
@dataclass
class Run:
    """A sorted file on disk, and its filter in memory (None: no filters)."""

    file: int
    bloom: Any = None
    hashes: int = 0


@dataclass
class Tree:
    """An LSM tree: what it holds in memory, and the disk with its four functions."""

    disk: Any
    memtable_limit: int
    fanout: int
    filters: bool = True
    memtable: dict = field(default_factory=dict)
    levels: list = field(default_factory=lambda: [[]])


# %%
def store(tree, entries, level):
    """Write sorted entries to the disk as the newest run of a level."""
    run = Run(tree.disk.write(entries))
    if tree.filters:
        keys = [key for key, _ in entries]
        bits, run.hashes = bloom_size(len(keys), 0.01)
        run.bloom = bloom_build(keys, bits, run.hashes)
    while len(tree.levels) <= level:
        tree.levels.append([])
    tree.levels[level].insert(0, run)


def may_contain(tree, run, key):
    """Could this run hold the key? Always, where the tree has no filters."""
    return not tree.filters or bool(might_hold(run.bloom, [key], run.hashes)[0])


# %%
def replay(operations, write, read, find, drop, memtable_limit, fanout, filters):
    """Run operations on a new tree; given. An operation is ("put", key, value), ("delete", key, None)
    or ("get", key, None); the four functions are the disk. Returns what the gets gave, in order."""
    tree = Tree(
        SimpleNamespace(write=write, read=read, find=find, drop=drop), memtable_limit, fanout, filters
    )
    answers = []
    for name, key, value in operations:
        if name == "get":
            answers.append(get(tree, key))
            continue
        put(tree, key, value)
        if any(len(level) >= fanout for level in tree.levels):
            compact(tree)
    return answers


# %% [markdown]
# `put` changes the memtable, and when it then holds `memtable_limit` keys, stores it sorted in level 0 and
# starts an empty one. A delete is `put(tree, key, None)`. `get` looks in the memtable, then in the runs
# from the newest to the oldest, and stops at the first that has the key; it asks `may_contain` before it
# goes to the disk.
#
# **q3c (30 min, 6 points).** About 14 lines in all.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q3c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def put(tree, key, value):
    """Set a key; value None deletes it."""
    ### BEGIN SOLUTION
    tree.memtable[key] = value
    if len(tree.memtable) >= tree.memtable_limit:
        store(tree, sorted(tree.memtable.items()), level=0)
        tree.memtable = {}
    ### END SOLUTION


def get(tree, key):
    """The newest value of a key, or None where it is absent or deleted."""
    ### BEGIN SOLUTION
    if key in tree.memtable:
        return tree.memtable[key]
    for level in tree.levels:
        for run in level:
            if not may_contain(tree, run, key):
                continue
            found, value = tree.disk.find(run.file, key)
            if found:
                return value
    return None
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>The first place that knows the key is right, also when what it
# knows is a tombstone.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`put`: set, test the length, store, empty. `get`: memtable,
# then two loops over levels and runs, None at the end.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`found, value = tree.disk.find(run.file, key)`; test `key
# in tree.memtable` rather than the value, since None is a value here.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q3c-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw1.q3c", put, get, replay)


# %% [markdown]
# A level that holds `fanout` runs is merged: read them all, merge them newest first, store the result in
# the next level, drop the old files. The next level may then be full too. Tombstones may go only when no
# deeper level holds a run. A merge that leaves nothing writes nothing.
#
# **q3d (35 min, 6 points).** About 11 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q3d", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def compact(tree):
    """Merge every level that holds tree.fanout runs or more into the next, from the youngest on."""
    ### BEGIN SOLUTION
    for depth, level in enumerate(tree.levels):  # grows while we walk: store may add a level
        if len(level) < tree.fanout:
            continue
        bottom = not any(tree.levels[depth + 1 :])
        entries = merge_runs([tree.disk.read(run.file) for run in level], drop_tombstones=bottom)
        tree.levels[depth] = []
        if entries:
            store(tree, entries, depth + 1)
        for run in level:
            tree.disk.drop(run.file)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Take the levels from the youngest to the oldest: what one
# merge pushes down is then there when you come to the next level.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>For each full level: is anything deeper, read, merge, empty
# the level, store below, drop the files. `store` adds a level where there is none.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`merge_runs([tree.disk.read(run.file) for run in level],
# drop_tombstones=not any(tree.levels[depth + 1:]))`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q3d-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q3d", compact, merge_runs, replay)


# %% [markdown]
# **Write amplification** is the number of entries written to disk for each entry that was put; **read
# amplification**, the number of lookups on disk for each get.
#
# Put n different keys. Each run of level 0 has `memtable_limit` entries, each run of level 1 `fanout` times
# as many, and so on. Whenever enough entries for one whole run of a level have come, that run is written
# once; entries that do not fill one stay a level higher.
#
# **q3e (15 min, 3 points).** Predict the write amplification. About 5 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q3e", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def write_amplification(n, memtable_limit, fanout):
    """Entries written to disk for each of n puts of different keys, compactions included."""
    ### BEGIN SOLUTION
    written, size = 0, memtable_limit
    while size <= n:
        written += n // size * size
        size *= fanout
    return written / n
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>After n puts level 0 has been given n // limit runs in all,
# level 1 a fanout-th of that, rounded down.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A loop over run sizes limit, limit · fanout, limit · fanout²
# ... while a run of that size can be full.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`written += n // size * size`, then `size *= fanout`; at
# the end `written / n`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q3e-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q3e", write_amplification)


# %%
class CountingDisk:
    """A disk in a dictionary that counts entries written and lookups."""

    def __init__(self):
        self.files, self.written, self.lookups = {}, 0, 0

    def write(self, entries):
        number = len(self.files)
        self.files[number] = dict(entries)
        self.written += len(entries)
        return number

    def read(self, number):
        return list(self.files[number].items())

    def find(self, number, key):
        self.lookups += 1
        return key in self.files[number], self.files[number].get(key)

    def drop(self, number):
        self.files[number] = {}


# %% [markdown]
# **Predict.** 1,008 puts into a memtable of 16, then 200 gets of keys that are not there. With fanout 16,
# how many lookups does one such get cost without filters?
#

# %% tags=["predict"]
# Your guess; not graded.
### BEGIN SOLUTION
predicted_lookups = 4.0
### END SOLUTION

# %%
def amplification(fan, filters):
    """Entries written for each put, and lookups for each get of an absent key."""
    disk, puts, gets = CountingDisk(), 1008, 200
    script = [("put", 7919 * i % 10007, i) for i in range(puts)]
    script += [("get", 20000 + i, None) for i in range(gets)]
    replay(script, disk.write, disk.read, disk.find, disk.drop, 16, fan, filters)
    return disk.written / puts, disk.lookups / gets


# %%
if all(solved(f"hw1.q3{part}") for part in "abcde"):
    fans = [2, 4, 8, 16]
    fig, ax = plt.subplots()
    for filters, color, name in ((False, "reference", "no filters"), (True, "yours", "your filters")):
        writes, lookups = zip(*[amplification(fan, filters) for fan in fans], strict=True)
        ax.plot(writes, lookups, "o-", color=PALETTE[color], label=name)
        for at, (fan, *place) in enumerate(zip(fans, writes, lookups, strict=True)):
            said = f"{place[1]:.2f}" if filters else f"fanout {fan}: {place[1]:.3g}"
            off = (-7, (6, -15)[at % 2]) if filters else (6, 5)
            ax.annotate(said, place, off, textcoords="offset points", size=9)
    if predicted_lookups is not None:  # named in the legend: beside the point stand other labels
        guess = (write_amplification(1008, 16, 16), predicted_lookups)
        ax.plot(*guess, "o", ms=12, mfc="none", color=PALETTE["yours"], label="your prediction")
    ax.set(xlabel="write amplification (entries written per put)", ylabel="lookups per absent key")
    ax.margins(x=0.22, y=0.14)
    ax.set_title("Counted: few writes cost many lookups, and filters save those")
    ax.legend()
    show(fig)
    print("your formula says", [round(write_amplification(1008, 16, fan), 2) for fan in fans])
else:
    print("This figure waits for q3a to q3e.")


# %% [markdown]
# ## Part 4. Did the model see the answer?
#
# A colleague has 150 tumours, half of them malignant: eight weak measurements, 600 columns that carry
# nothing, a tenth of all values missing. The protocol below gives a proud accuracy. To test a protocol,
# shuffle the labels: nothing can be learned then, so an honest one scores about 0.5.
#

# %%
def noisy_tumours(seed):
    """150 tumours of both kinds in equal number: 8 weak columns, 600 of noise, a tenth missing."""
    rng, data = np.random.default_rng(seed), load_breast_cancer()
    kinds = [np.flatnonzero(data.target == kind) for kind in (0, 1)]
    rows = np.concatenate([rng.choice(kind, 75, replace=False) for kind in kinds])
    x = np.hstack([data.data[rows][:, [1, 4, 8, 9, 11, 14, 18, 19]], rng.normal(size=(150, 600))])
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, data.target[rows]


def colleague_score(x, y, k, fold):
    """Mean accuracy over the folds; fold[i] is the fold in which row i is tested."""
    x = x.copy()
    for label in np.unique(y):  # a missing value becomes the mean of its own kind of tumour
        x[y == label] = SimpleImputer().fit_transform(x[y == label])
    x = StandardScaler().fit_transform(x)
    x = SelectKBest(f_classif, k=k).fit_transform(x, y)
    scores = []
    for f in np.unique(fold):
        model = LogisticRegression(max_iter=200).fit(x[fold != f], y[fold != f])
        scores.append(np.mean(model.predict(x[fold == f]) == y[fold == f]))
    return float(np.mean(scores))


# %%
tumours, kinds = noisy_tumours(0)
coin = np.random.default_rng(1)
tumour_fold = coin.permutation(np.arange(150) % 5)
labelled = [kinds, coin.permutation(kinds)]
proud = [colleague_score(tumours, labels, 20, tumour_fold) for labels in labelled]
fig, ax = plt.subplots()
bars = ax.bar(["true labels", "shuffled labels"], proud, width=0.5, color=PALETTE["idle"])
ax.bar_label(bars, fmt="%.2f", padding=2)
bound(ax, 0.5, "chance")
ax.set(xlim=(-0.5, 1.8), ylim=(0, 1), ylabel="accuracy (share of rows)")
ax.set_title("Measured: the colleague's protocol also learns labels that mean nothing")
show(fig)


# %% [markdown]
# Find every step that uses something of the test rows: their values, or their labels. A step is safe if it
# is fitted on training rows alone and then applied to test rows. A scikit-learn `Pipeline` does that for
# all its steps at once.
#
# **q4a (15 min, 4 points).** The steps, unfitted, in one pipeline: column means for missing values,
# scaling, the k best columns by F-test, logistic regression. Scaling may come before or after the choice of
# columns. About 6 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q4a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def build_model(k):
    """An unfitted Pipeline: SimpleImputer, StandardScaler, SelectKBest, LogisticRegression.

    Args:
        k: columns to keep.
    """
    ### BEGIN SOLUTION
    return Pipeline(
        [
            ("fill", SimpleImputer()),
            ("scale", StandardScaler()),
            ("select", SelectKBest(f_classif, k=k)),
            ("classify", LogisticRegression(max_iter=200)),
        ]
    )
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>`Pipeline.fit` fits each step on what the steps before it made
# of the rows given; `predict` only applies them.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`Pipeline` takes a list of (name, step), the classifier
# last.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`Pipeline([("fill", SimpleImputer()), ..., ("classify",
# LogisticRegression(max_iter=200))])`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q4a-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q4a", build_model)


# %% [markdown]
# **q4b (20 min, 5 points).** Score any model fold by fold. `fit_predict` does both jobs: it gets the
# training rows, their labels and the test rows, and gives back the predicted labels. Hand it the rows as
# they are. About 6 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q4b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def fold_scores(x, y, fold, fit_predict):
    """Accuracy on each fold of a model trained on all the others.

    Args:
        x: (rows, columns) array, values may be missing (NaN).
        y: (rows,) labels of any kind.
        fold: (rows,) the fold in which a row is tested.
        fit_predict: (x_train, y_train, x_test) -> labels of x_test; called once for each fold.

    Returns:
        (folds,) float array, folds in rising order.
    """
    ### BEGIN SOLUTION
    scores = []
    for f in np.unique(fold):
        test = fold == f
        predicted = fit_predict(x[~test], y[~test], x[test])
        scores.append(np.mean(predicted == y[test]))
    return np.array(scores)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>A fold's rows are where `fold == f`; every other row
# trains.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A loop over `np.unique(fold)`, a mask, one call of
# `fit_predict`, a share of equal labels.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`fit_predict(x[~test], y[~test], x[test])`, then the mean
# of a comparison with `y[test]`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q4b-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw1.q4b", fold_scores)

# %% [markdown]
# **Predict.** What is the colleague's accuracy on the true labels once nothing leaks? Store a number
# between 0.5 and 1.
#

# %% tags=["predict"]
# Your guess; not graded.
### BEGIN SOLUTION
predicted_honest = 0.75
### END SOLUTION

# %% [markdown]
# **q4c (10 min, 4 points).** Mend the protocol: same steps, same folds, no leak. About 5 lines, or fewer
# with what you have.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q4c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def mended_score(x, y, k, fold):
    """Mean accuracy over the folds; no step sees a test row or its label before it is scored."""

    ### BEGIN SOLUTION
    def honest(rows, labels, new_rows):
        return build_model(k).fit(rows, labels).predict(new_rows)

    return float(np.mean(fold_scores(x, y, fold, honest)))
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Three of the colleague's steps look at all rows. Moving one of
# them is not enough.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A small `fit_predict` that builds a new model, fits it and
# predicts; then `fold_scores` and a mean.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`build_model(k).fit(x_train,
# y_train).predict(x_test)`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q4c-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q4c", mended_score)


# %%
def scores_over_draws(score, shuffled, draws=5):
    """The scores of a protocol on several draws of the table."""
    found = []
    for seed in range(draws):
        table, labels = noisy_tumours(seed)
        dice = np.random.default_rng(100 + seed)
        parts = dice.permutation(np.arange(150) % 5)
        found.append(score(table, dice.permutation(labels) if shuffled else labels, 20, parts))
    return found


# %%
if solved("hw1.q4c"):
    fig, ax = plt.subplots()
    protocols = [(colleague_score, "reference"), (mended_score, "yours")]
    for place, (protocol, color) in enumerate(protocols):
        for shift, shuffled in ((0.0, False), (2.5, True)):
            dots = scores_over_draws(protocol, shuffled)
            name = f"{protocol.__name__}, {'shuffled' if shuffled else 'true'} labels"
            ax.plot([place + shift] * len(dots), dots, "o", color=PALETTE[color], label=name)
    prediction(ax, 1, predicted_honest)
    bound(ax, 0.5, "chance")
    names = ["colleague\ntrue labels", "yours\ntrue labels", "colleague\nshuffled", "yours\nshuffled"]
    ax.set_xticks([0, 1, 2.5, 3.5], names)
    ax.set(xlim=(-0.5, 4.4), ylim=(0.3, 1), ylabel="accuracy (share of rows)")
    ax.set_title("Measured, five draws: without the leak little is left")
    show(fig)
else:
    print("This figure waits for q4c.")


# %% [markdown]
# The imputation used the labels, the selection used the labels of test rows, the scaling used their values.
# Mostly the selection made the score. On these draws, with true labels: nothing leaked 0.62, imputation
# alone 0.70, selection alone 0.83, both 0.86; scaling alone changes nothing that shows.
#
# A pipeline cannot mend folds that share a patient. If several rows are images of one patient, or copies
# made to balance the classes, near copies of a test row are trained on.
#
# **q4d (20 min, 4 points).** Give every group one fold, and keep the folds even. About 6 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q4d", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def group_folds(groups, n_folds):
    """Assign folds so that no group lies in two.

    Args:
        groups: (rows,) a patient's name or number for each row.
        n_folds: number of folds, at most the number of groups.

    Returns:
        (rows,) int array of folds 0 to n_folds - 1, none empty. The largest fold has at most one
        largest group more rows than the smallest.
    """
    ### BEGIN SOLUTION
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of, load = np.zeros(len(names), dtype=int), np.zeros(n_folds, dtype=int)
    for group in np.argsort(-sizes):  # the largest first, each into the emptiest fold
        fold_of[group] = load.argmin()
        load[fold_of[group]] += sizes[group]
    return fold_of[member]
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Decide for groups, not for rows; put the next group where the
# fewest rows are.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`np.unique` with `return_inverse` and `return_counts`, a loop
# over the groups, an array of loads.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`fold_of[group] = load.argmin()`, add the group's size to
# that load, and at the end `fold_of[member]`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q4d-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q4d", group_folds)


# %%
def score_of_images(deal, draws=6):
    """Mean accuracy on 40 patients with 4 images each and labels by coin; deal gives the folds."""
    patient, scores = np.repeat(np.arange(40), 4), []
    for seed in range(draws):
        dice = np.random.default_rng(seed)
        images = dice.normal(size=(40, 200))[patient] + 0.3 * dice.normal(size=(160, 200))
        diagnosis = dice.permutation(np.arange(40) % 2)[patient]
        scores.append(mended_score(images, diagnosis, 20, deal(patient, 5)))
    return np.mean(scores)


def dealt_freely(groups, n_folds):
    """Rows dealt into folds as if each were a patient of its own."""
    return np.random.default_rng(0).permutation(np.arange(len(groups)) % n_folds)


# %%
if solved("hw1.q4c") and solved("hw1.q4d"):
    found = [score_of_images(dealt_freely), score_of_images(group_folds)]
    fig, ax = plt.subplots()
    colors = [PALETTE["idle"], PALETTE["yours"]]
    bars = ax.bar(["rows dealt freely", "your groups"], found, width=0.5, color=colors)
    ax.bar_label(bars, fmt="%.2f", padding=-15)
    bound(ax, 0.5, "chance")
    ax.set(ylim=(0, 1.05), ylabel="accuracy (share of rows)")
    ax.set_title("Measured, labels by coin: a pipeline alone does not stop this leak")
    show(fig)
else:
    print("This figure waits for q4c and q4d.")

# %% [markdown]
# ## Part 5. Does it fit?
#
# Numbers about memory are copied from text to text. Here are six claims in the form in which one meets
# them. Each has a formula, and you will compute every one.
#

# %%
CLAIMS = [  # what it says, formula, its arguments, the number claimed, its unit
    ("training 3 billion parameters\nwith Adam: 6 GB", "training",
     {"parameters": 3_000_000_000, "optimizer": "adam"}, 6, "GB"),
    ("KV cache of 16 x 8,192 tokens:\n64 GiB", "kv cache",
     {"layers": 32, "kv_heads": 8, "head_dim": 128, "context": 8192, "batch": 16, "itemsize": 2},
     64, "GiB"),
    ("output of a convolution, stride 2,\n32 images: 25.7 MB", "conv output",
     {"batch": 32, "channels": 64, "height": 112, "width": 112, "kernel": 3, "stride": 2,
      "padding": 1, "itemsize": 4}, 25.7, "MB"),
    ("attention scores, 8 x 16 heads,\n2,048 tokens: 1 GB", "attention scores",
     {"batch": 8, "heads": 16, "context": 2048, "itemsize": 2}, 1, "GB"),
    ("50 million rows of 40 numbers\nas NumPy makes them: 8 GB", "table",
     {"rows": 50_000_000, "columns": 40, "itemsize": np.dtype(float).itemsize}, 8, "GB"),
    ("a disk of 2,000,000,000,000\nbytes: 2 TiB", "plain", {"count": 2_000_000_000_000}, 2, "TiB"),
]  # fmt: skip

# %% [markdown]
# A formula can be wrong as well, so measure where you can. The fifth claim can be tried at a thousandth of its
# size; Python's `tracemalloc` counts what NumPy asks for. If the claim is right, the table takes 8 MB.

# %%
# Measured: bytes that a table of 50,000 rows of 40 numbers takes as NumPy makes it.
tracemalloc.start()
small_table = np.full((50_000, 40), 0.5)
taken_bytes, _ = tracemalloc.get_traced_memory()
tracemalloc.stop()
print(f"claimed 8.0 MB, measured {taken_bytes / 1e6:.1f} MB, numbers of type {small_table.dtype}")


# %% [markdown]
# One claim is false before any formula. The others are too large to try.
#
# Mixed-precision training keeps for each parameter a 16-bit weight and a 16-bit gradient, and for the
# update a 32-bit copy of the weight and the optimizer's 32-bit state: nothing more for plain SGD, one
# number for momentum, two for Adam (Micikevicius and others, *Mixed Precision Training*, 2018; Rajbhandari
# and others, *ZeRO*, 2020, section 3.1). Activations come on top.
#
# **q5a (5 min, 3 points).** About 2 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q5a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def training_bytes(parameters, optimizer):
    """Bytes of weights, gradients and optimizer state in mixed precision.

    Args:
        parameters: number of parameters.
        optimizer: "sgd", "momentum" or "adam".

    Returns:
        Bytes, an int.
    """
    ### BEGIN SOLUTION
    state = {"sgd": 0, "momentum": 4, "adam": 8}[optimizer]
    return parameters * (2 + 2 + 4 + state)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Add up bytes for one parameter: two 16-bit numbers and at
# least one 32-bit number.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A dictionary from optimizer to bytes of state, and one
# product.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`parameters * (2 + 2 + 4 + state)`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q5a-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q5a", training_bytes)


# %% [markdown]
# While it writes text, a transformer keeps the keys and the values of all tokens so far, in every layer,
# for every sequence of the batch. With grouped queries (Ainslie and others, *GQA*, 2023) several query
# heads share one key-value head; only those are stored.
#
# **q5b (5 min, 3 points).** About 2 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q5b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def kv_cache_bytes(layers, kv_heads, head_dim, context, batch, itemsize):
    """Bytes of the key-value cache.

    Args:
        layers: transformer layers.
        kv_heads: key-value heads of a layer.
        head_dim: numbers in one key or value.
        context: tokens kept for a sequence.
        batch: sequences.
        itemsize: bytes of a number.
    """
    ### BEGIN SOLUTION
    keys = layers * kv_heads * head_dim * context * batch
    return 2 * keys * itemsize
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>One token in one layer keeps a key and a value for each
# key-value head.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A product of all six arguments and one small
# constant.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>The constant is 2: a key and a value.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q5b-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q5b", kv_cache_bytes)


# %% [markdown]
# A convolution's output has floor((H + 2p - k) / s) + 1 rows for H rows in, kernel k, stride s and padding
# p; columns alike. Attention scores are one number for each pair of tokens, in each head of each sequence and
# layer, where they are stored at all; count one layer.
#
# **q5c (15 min, 4 points).** About 4 lines.
#

# %% nbgrader={"grade": false, "grade_id": "hw1-q5c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def conv_output_bytes(batch, channels, height, width, kernel, stride, padding, itemsize):
    """Bytes of the output of a 2-d convolution with this many output channels and a square kernel."""
    ### BEGIN SOLUTION
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    return batch * channels * rows * columns * itemsize
    ### END SOLUTION


def attention_scores_bytes(batch, heads, context, itemsize):
    """Bytes of the attention scores of one layer."""
    ### BEGIN SOLUTION
    return batch * heads * context**2 * itemsize
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Count the numbers, then multiply by their size. A stride that
# does not divide rounds down.</details>
#

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>Rows and columns with `//`, then a product; scores grow with
# the square of the context.</details>
#

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`rows = (height + 2 * padding - kernel) // stride +
# 1`.</details>
#

# %% nbgrader={"grade": true, "grade_id": "hw1-q5c-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q5c", conv_output_bytes, attention_scores_bytes)


# %% [markdown]
# kB, MB, GB and TB are powers of 1,000; KiB, MiB, GiB and TiB are powers of 1,024 (IEC 80000-13).
#
# **q5d (10 min, 2 points).** Amounts in bytes. About 3 lines.

# %% nbgrader={"grade": false, "grade_id": "hw1-q5d", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def to_bytes(amount, unit):
    """Turn an amount in B, kB, MB, GB, TB, KiB, MiB, GiB or TiB into bytes."""
    ### BEGIN SOLUTION
    if unit == "B":
        return amount
    power = "kmgt".index(unit[0].lower()) + 1
    return amount * (1024 if unit[1] == "i" else 1000) ** power
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>A prefix is a power of a base. Which base does the small i ask for?</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A table of nine units, or the prefix's place in k, M, G, T as the power.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`base ** power` with base 1000 or 1024 and power 1 to 4; B alone is 1.</details>

# %% nbgrader={"grade": true, "grade_id": "hw1-q5d-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("hw1.q5d", to_bytes)

# %% [markdown]
# A claim is `"right"` if its number is within 2 % of the true one, else `"too low"` or `"too high"`.
# `FORMULAS` is given; it calls your functions and two that are obvious.
#
# **q5e (15 min, 3 points).** Hold claims to their formulas. About 7 lines.

# %%
FORMULAS = {
    "training": training_bytes,
    "kv cache": kv_cache_bytes,
    "conv output": conv_output_bytes,
    "attention scores": attention_scores_bytes,
    "table": lambda rows, columns, itemsize: rows * columns * itemsize,
    "plain": lambda count: count,
}


# %% nbgrader={"grade": false, "grade_id": "hw1-q5e", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def audit(claims):
    """Hold claims to their formulas.

    Args:
        claims: list of (name in FORMULAS, its arguments as a dict, amount, unit).

    Returns:
        For each claim (true bytes, verdict): "right" within 2 % of the true bytes, else "too low"
        or "too high".
    """
    ### BEGIN SOLUTION
    found = []
    for name, arguments, amount, unit in claims:
        true, claimed = FORMULAS[name](**arguments), to_bytes(amount, unit)
        if abs(claimed - true) <= 0.02 * true:
            verdict = "right"
        else:
            verdict = "too low" if claimed < true else "too high"
        found.append((true, verdict))
    return found
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Both sides in bytes first; compare after that. The 2 % are of the true number.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A loop, a formula called with `**arguments`, three cases.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`true = FORMULAS[name](**arguments)`; right if `abs(claimed - true) <= 0.02 * true`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw1-q5e-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw1.q5e", audit)

# %%
if all(solved(f"hw1.q5{part}") for part in "abcde"):
    verdicts = audit([claim[1:] for claim in CLAIMS])
    claimed = [to_bytes(amount, unit) for *_, amount, unit in CLAIMS]
    ratios = np.array(claimed) / [true for true, _ in verdicts]
    fig, ax = plt.subplots()
    names = [claim[0] for claim in CLAIMS]
    ax.barh(names, ratios - 1, left=1, color=PALETTE["memory"], height=0.5)
    for place, (*_, unit) in enumerate(CLAIMS):
        true_bytes, verdict = verdicts[place]
        said = f"{verdict}: {true_bytes / to_bytes(1, unit):.4g} {unit}"
        ax.text(max(ratios[place], 1) * 1.06, place, said, va="center", size=8, gid="said")
    ax.axvline(1, color=PALETTE["reference"], linestyle="--")
    ax.set_xscale("log")
    ax.set(xlim=(0.1, 30), xlabel="claimed bytes / true bytes (1 is right)")
    ax.invert_yaxis()
    ax.set_title("Computed: one claim of six holds")
    show(fig)
else:
    print("This figure waits for q5a to q5e.")

# %% [markdown]
# ## Written answer
#
# **(30 min, 10 points, read by a person.)** A feature store takes 200 writes for each read, and almost every
# read asks for a key that is there.
#
# | points | question |
# |---|---|
# | 3 | Which fanout do you choose? Argue with two numbers from your figure in part 3, one for writing and one for reading, and with the 200 to 1. |
# | 3 | What do filters save when the key is there, and what do they not save? |
# | 2 | Name one number in this notebook that would be another on a classmate's machine, and one that would not. Why? |
# | 2 | Clear, at most 200 words, every number with its unit or meaning. |
#

# %% [markdown] nbgrader={"grade": true, "grade_id": "hw1-written", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# Write here.
#

# %% [markdown] tags=["instructor"]
# ### Rubric for the written answer (instructors only)
#
# | points | for |
# |---|---|
# | 3 | A large fanout (8 or 16), argued with counted numbers: at 1,008 puts a write costs 1.76 entries at fanout 16 and 5.10 at fanout 2, and 200 writes weigh more than one read of at most 18 lookups. Another choice with a sound count gets the same. |
# | 3 | A key that is there costs the one lookup that finds it; filters save the lookups in the newer runs that do not have it, so about one lookup is left instead of about half the runs. |
# | 2 | Measured numbers (times, bandwidth, peak, the measured points) differ; counts, models and scores from a stored seed do not. |
# | 2 | Clear, within 200 words, no number without its unit or meaning. |
#

# %% [markdown]
# ## What you now know
#
# A count tells what a clock will show: misses, bytes and entries written explain most times before anything
# runs. A better order (tiles, fused loops, sorted runs) moves less for the same work. A score is worth what
# its split is worth.
#
# **Where it is wrong.** Real caches have sets and prefetchers, real stores have blocks and caches of their
# own, and the roof assumes that memory and arithmetic overlap fully.
#
# **The real system.** [RocksDB's tuning
# guide](https://github.com/facebook/rocksdb/wiki/RocksDB-Tuning-Guide) speaks of write and
# read amplification, and of a third: space.
#
