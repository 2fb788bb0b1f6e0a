# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 60
#     needs: []
#     parts:
#     - capacity
#     - viz
#     paths:
#     - training
#     - inference
#     points: 10
#     prerequisites:
#     - '00'
#     title: Which roof are you under?
#     week: 2
# ---

# %% [markdown]
# # Which roof are you under?
#
# | | |
# |---|---|
# | **Goal** | measure the two numbers that bound your machine, and say of an operation which of them it meets |
# | **Time** | 60 minutes, 32 of them in three exercises |
# | **Points** | 10: intensity 4, ridge 3, bus and car 3 |
# | **Parts** | `mlsys_lab.capacity`; NumPy's own products |
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

# %%
import matplotlib.pyplot as plt
import numpy as np

from mlsys_lab.capacity.machine import cache_bytes, cpu_seconds

a, b, c = (np.ones((512, 512), np.float32) for _ in range(3))
table, row = np.ones((4096, 4096), np.float32), np.ones(4096, np.float32)
x, y, z = (np.ones(1 << 22, np.float32) for _ in range(3))
took = {  # the same 2^28 operations each, in seconds of one core
    "64 sums of two vectors": 64 * cpu_seconds(lambda: np.add(x, y, out=z), rounds=3),
    "8 products matrix by vector": 8 * cpu_seconds(lambda: table @ row, rounds=3),
    "1 product matrix by matrix": cpu_seconds(lambda: np.matmul(a, b, out=c)),
}
fig, ax = plt.subplots()
bars = ax.barh(list(took), [1e3 * s for s in took.values()], color=PALETTE["compute"])
ax.bar_label(bars, fmt="{:,.0f} ms", padding=4)
ax.set(xlabel="CPU time (ms)", xlim=(0, 1.25e3 * max(took.values())))
apart = max(took.values()) / min(took.values())
ax.set_title(f"268 million operations: up to {apart:.0f} times as long")
show(fig)

# %% [markdown]
# What differs is how often a number that was fetched is used: a vector's element once, a matrix's hundreds of times.
#
# A **roofline** holds an operation against two numbers of a machine: its peak (FLOP/s, floating-point operations per
# second), and its bandwidth (byte/s). The operation brings one: its **intensity**, FLOP per byte moved.
#
# ## Predict
#
# `z = x + y`, long vectors of float32 (4 bytes): how many FLOP per byte? Where is your core's **ridge**: from how many
# FLOP per byte on does it compute all the time?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_sum = 1 / 12  # FLOP per byte
predicted_ridge = 8  # FLOP per byte
### END SOLUTION

# %% [markdown]
# ## Build 1: how much work, how many bytes? (12 minutes)
#
# Count for a perfect cache: each element of an input is read once, each of the result written once. An addition is one
# FLOP, a multiplication too; a sum of $k$ products counts $2k$. About 8 lines.
#
# | name | computes | `sizes` |
# |---|---|---|
# | `"add"` | `z = x + y` | `(n,)` |
# | `"axpy"` | `y = s * x + y`, `s` a number | `(n,)` |
# | `"matvec"` | `(m, k)` times `(k,)` | `(m, k)` |
# | `"matmul"` | `(m, k)` times `(k, n)` | `(m, k, n)` |

# %% nbgrader={"grade": false, "grade_id": "lab07-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def work(name, sizes, width=4):
    """FLOPs of an operation, and the bytes it has to move: two integers.

    name, sizes: a row of the table above; width: bytes of an element (float32: 4, bf16: 2)."""
    ### BEGIN SOLUTION
    if name in ("add", "axpy"):
        (n,) = sizes
        return (n if name == "add" else 2 * n), 3 * n * width
    m, k, n = sizes if name == "matmul" else (*sizes, 1)
    return 2 * m * k * n, (m * k + k * n + m * n) * width
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab07-q1-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab07.q1", work)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# How many elements does each array have? Those of the inputs are read, those of the result written. In `axpy`, `y` is both;
# the number `s` stays in a register.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# Elements: `add` and `axpy` move three vectors of `n`. A product of `(m, k)` and `(k, n)` has `m * k`, `k * n` and `m * n`;
# a vector is a matrix with `n = 1`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     add:    n FLOPs,     3 n elements
#     axpy:   2 n FLOPs,   3 n elements
#     matmul: 2 m k n,     m k + k n + m n elements
#     bytes = elements * width
# </details>

# %% tags=["nbval-check-output"]
count = work if solved("lab07.q1") else skip("lab07.q1")


def intensity(name, sizes, width=4):
    """FLOP per byte, from your count."""
    flops, moved = count(name, sizes, width)
    return flops / moved


for name, sizes in [("add", (1 << 22,)), ("matvec", (4096, 4096)), ("matmul", (512, 512, 512))]:
    print(f"{name:7} {intensity(name, sizes):7.3f} FLOP/byte")

# %% [markdown]
# ## Measure the slope: how fast do bytes come?
#
# The sum of two vectors does next to nothing but move bytes. So its time shows the bandwidth; and since a small vector
# stays in a cache, its length shows which memory answers. This is STREAM (McCalpin, 1995) in three lines. The result goes
# into an array that exists (`out=`); below one sees why.

# %%
lengths = 2 ** np.arange(9, 24)


def stream(n, fresh=False):
    """Bytes per second of z = x + y with n elements; fresh: z is a new array each time."""
    x, y, z = (np.ones(n, np.float32) for _ in range(3))
    into = {} if fresh else {"out": z}
    return count("add", (n,))[1] / cpu_seconds(lambda: np.add(x, y, **into), rounds=3)


# %%
speeds = np.array([stream(n) for n in lengths])
far = [stream(lengths[-1]) for _ in range(5)]
bandwidth, slower = np.median(far), stream(lengths[-1], fresh=True)
print(f"{min(far) / 1e9:.0f} to {max(far) / 1e9:.0f} GB/s from memory in five runs;",
      f"{slower / 1e9:.0f} GB/s with a new array each time")

# %%
fig, ax = plt.subplots()
ax.semilogx(lengths * 12, speeds / 1e9, "o-", color=PALETTE["memory"], label="z = x + y")
for level, size in cache_bytes().items():
    ax.axvline(size, ls=":", color=PALETTE["reference"], label=f"{level} ends")
bound(ax, bandwidth / 1e9, "memory")
ax.legend()
ax.set(xlabel="bytes of the three vectors", ylabel="GB/s, one core", ylim=(0, None))
best, last = speeds.max() / 1e9, bandwidth / 1e9
ax.set_title(f"{best:.0f} GB/s at best, {last:.0f} GB/s where no cache holds the vectors")
show(fig)

# %% [markdown]
# Very short vectors are slow for another reason: each call costs Python a microsecond. And a result in a new array is
# slow because the system hands out pages of zeros, one interrupt each: a benchmark that allocates measures that.
#
# ## Measure the flat part: how fast can it compute?
#
# A product of matrices touches each element hundreds of times. What it reaches at best is the peak here: one core,
# float32, the library that NumPy came with.

# %%
sides = [16, 32, 64, 128, 256, 512, 768]


def product(m, k, n):
    """FLOP per second of the product of (m, k) and (k, n)."""
    a, b, c = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.ones((m, n), np.float32)
    return count("matmul", (m, k, n))[0] / cpu_seconds(lambda: np.matmul(a, b, out=c), rounds=3)


products = np.array([product(n, n, n) for n in sides])
peak = products.max()
print(f"{peak / 1e9:.0f} GFLOP/s")


# %% [markdown]
# ## Build 2: the roof (10 minutes)
#
# An operation of intensity $I$ cannot be faster than the peak, nor than its bytes arrive. Where both bounds meet is the
# ridge. About 1 line.

# %% nbgrader={"grade": false, "grade_id": "lab07-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def roof(intensity, peak, bandwidth):
    """What is attainable at an intensity, in FLOP/s, and the ridge, in FLOP/byte.

    intensity: FLOP/byte, a number or an array of any shape; peak: FLOP/s;
    bandwidth: byte/s, a number or an array that broadcasts with intensity (one per level)."""
    ### BEGIN SOLUTION
    return np.minimum(peak, intensity * bandwidth), peak / bandwidth
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab07-q2-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab07.q2", roof)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Two bounds hold at the same time, so the smaller one is what is left. Units help: FLOP/byte times byte/s is FLOP/s.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# The slope is `intensity * bandwidth`, the flat part is `peak`; compare element by element, not with `min`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     attainable = np.minimum(flat part, slope)
#     ridge = the intensity at which the slope reaches the peak
# </details>

# %%
under = roof if solved("lab07.q2") else skip("lab07.q2")
flops = 1 << 28
reached = {  # name: FLOP per byte, FLOP per second
    "sum": (intensity("add", (1 << 22,)), flops / took["64 sums of two vectors"]),
    "matrix by vector": (
        intensity("matvec", (4096, 4096)), flops / took["8 products matrix by vector"]
    ),
}
for n, speed in zip(sides, products, strict=True):
    if n in (16, 64, 768):
        reached[f"product of {n}"] = (intensity("matmul", (n, n, n)), speed)

# %%
_, ridge = under(1.0, peak, bandwidth)
for name, (at, speed) in reached.items():
    print(f"{name:20} {speed / under(at, peak, bandwidth)[0]:4.0%} of what your roof allows")


# %%
def draw_roof(points, title):
    """Your roof on logarithmic axes, and points {name: (FLOP/byte, FLOP/s)} under it."""
    fig, ax = plt.subplots()
    at = np.geomspace(0.03, 1000, 200)
    ax.loglog(at, under(at, peak, bandwidth)[0] / 1e9, color=PALETTE["yours"], label="yours")
    for name, (i, speed) in points.items():
        ax.loglog(i, speed / 1e9, "o", color=PALETTE["compute"], label=f"_{name}", gid="said")
        ax.annotate(name, (i, speed / 1e9), (6, -14), textcoords="offset points", fontsize=9)
    ax.set(xlabel="intensity (FLOP/byte)", ylabel="GFLOP/s", title=title)
    return fig, ax


# %%
fig, ax = draw_roof(reached, f"Memory decides below {ridge:.1f} FLOP/byte, arithmetic above")
prediction(ax, predicted_ridge)
if predicted_sum:
    prediction(ax, predicted_sum, under(predicted_sum, peak, bandwidth)[0] / 1e9)
ax.legend(loc="lower right")
show(fig)


# %% [markdown]
# A point on the roof can gain only by another operation. The sum defines the slope; where it lies beside it, the machine
# did something else meanwhile. Points below wait for more: calls, short loops, jumps in memory.
#
# ## Move a point: fusion
#
# The sum of squares in two passes: one squares and writes, one reads back and sums. As the product of the vector with
# itself it is one pass that writes nothing. FLOPs stay, bytes shrink from 12 to 4 per element: the point moves right.

# %%
def two_passes():
    """The squares go to memory and come back."""
    np.multiply(x, x, out=z)
    return z.sum()


def fused():
    """Each square is added while it is in a register."""
    return x @ x


seconds = [cpu_seconds(f) for f in (two_passes, fused)]
print(f"fused: {seconds[0] / seconds[1]:.1f} times as fast")

# %%
flops, moved = 2 * len(x), [12 * len(x), 4 * len(x)]
points = {
    name: (flops / m, flops / s)
    for name, m, s in zip(["two passes", "fused"], moved, seconds, strict=True)
}
fig, ax = draw_roof(points, "The same 8 million FLOP with a third of the bytes")
(i, low), (j, high) = points.values()
arrow = {"arrowstyle": "->", "color": PALETTE["reference"]}
ax.annotate("", (j, high / 1e9), (i, low / 1e9), arrowprops=arrow)
ax.legend(loc="lower right")
show(fig)

# %% [markdown]
# This is most of what a compiler for neural networks does, and all that FlashAttention changes.
#
# ## Other people's roofs
#
# From the makers' datasheets, 16-bit, without sparsity. The figure printed largest there counts products with zeros that
# a pattern of 2:4 leaves out: no ordinary matrix reaches it.

# %%
from mlsys_lab.capacity import device

names = ["V100", "T4", "A100", "H100", "H200", "B200", "MI300X", "TPU v5p"]
ridges = {"one core, yours": under(1.0, peak, bandwidth)[1]}
for name in names:
    chip = device(name)
    ridges[name] = under(1.0, chip.half_peak(), chip.memory_bytes_per_s)[1]
fig, ax = plt.subplots()
colors = [PALETTE["yours"]] + [PALETTE["compute"]] * len(names)
ax.bar_label(ax.barh(list(ridges), list(ridges.values()), color=colors), fmt="{:,.0f}", padding=4)
ax.set(xlabel="ridge (FLOP/byte)", xlim=(0, 1.15 * max(ridges.values())))
ax.set_title("A GPU has to use each byte hundreds of times")
show(fig)


# %% [markdown]
# A language model that writes for one person multiplies matrices by one vector: 1 FLOP per byte in bf16. An H100, ridge
# 295, idles more than 99 % of that time.
#
# ## Build 3: the bus and the car (10 minutes)
#
# People want to cross a bridge. A vehicle takes up to `seats` of them, needs `minutes`, and as long to drive back for the
# next. When is the first there, when the last, and how many cross per hour of an endless queue? About 3 lines.

# %% nbgrader={"grade": false, "grade_id": "lab07-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def crossing(people, seats, minutes):
    """Minutes until the first and until the last is there; people per hour of an endless queue.

    people, seats: integers of at least 1; minutes: of one way, and the way back is as long."""
    ### BEGIN SOLUTION
    trips = -(-people // seats)
    return minutes, (2 * trips - 1) * minutes, seats * 60 / (2 * minutes)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab07-q3-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab07.q3", crossing)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Count the trips; a trip that is not full is still a trip. All trips but the last are followed by a way back.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# With `t` trips: `t` ways there and `t - 1` ways back. The rate of an endless queue: `seats` people in every `2 * minutes`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     trips = people / seats, rounded up
#     first = one way
#     last = (trips there + ways back between them) * minutes
#     per hour = seats * 60 / (there and back)
# </details>

# %%
travel = crossing if solved("lab07.q3") else skip("lab07.q3")
queue = np.arange(1, 200)
fig, ax = plt.subplots()
for name, seats, minutes, color in [("car", 4, 10, "yours"), ("bus", 60, 40, "communication")]:
    last = [travel(int(n), seats, minutes)[1] for n in queue]
    first, _, rate = travel(200, seats, minutes)
    ax.step(queue, last, where="post", color=PALETTE[color],
            label=f"{name}: the first after {first} min, {rate:.0f} people/h")
ax.legend()
ax.set(xlabel="people waiting", ylabel="minutes until the last is there")
ax.set_title("The car is first; the bus is done first, from nine people on")
show(fig)

# %% [markdown]
# The first person's wait is **latency**, people per hour is **throughput**. A batch is a bus: the matrix is read once
# for all who sit in it. Up to the ridge a further vector is nearly free; beyond it everyone waits for everyone.

# %%
batches = [1, 2, 4, 8, 16, 32, 64, 128, 256]
k = 4096
measured = np.array([product(k, k, b) / (2 * k * k) for b in batches])  # vectors per second
allowed = [under(intensity("matmul", (k, k, b)), peak, bandwidth)[0] / (2 * k * k) for b in batches]
fig, ax = plt.subplots()
ax.loglog(batches, allowed, "--", color=PALETTE["yours"], label="your roof allows")
ax.loglog(batches, measured, "o-", color=PALETTE["compute"], label="measured")
ax.legend()
ax.set(xlabel="vectors in the batch", ylabel="vectors per second")
gain = measured[-1] / measured[0]
ax.set_title(f"256 at a time: {gain:.0f} times the throughput, {256 / gain:.0f} times the wait")
show(fig)

# %% [markdown]
# Two vectors may take longer than twice one: a single one has a routine of its own in the library below NumPy.
#
# ## The library's drawing of your numbers
#
# `mlsys_lab.capacity` keeps a machine as you measured it. Its own calibration takes a curve per class of operation
# too, because most operations stay below both bounds; with these it predicts whole training steps.

# %%
import datetime

from mlsys_lab.capacity.machine import Machine, processor
from mlsys_lab.viz.roof import roofline

cached = {"a cache": float(speeds.max()), "memory": float(bandwidth)}
mine = Machine(processor(), datetime.date.today().isoformat(), {"float32": float(peak)}, cached)
show(roofline(mine, [(name, *point) for name, point in reached.items()]))

# %% [markdown]
# **Par**: intensity 6 lines, roof 1, crossing 2. **Bonus**: in how many vectors does the batch meet your ridge, if the
# matrix is float32, and if it is int8 (1 byte) with float32 vectors? What does that say about quantising a model that
# serves one person?
#
# ## What you now know
#
# An operation's intensity and a machine's two numbers say which of them it meets. Left of the ridge fewer bytes help
# (fusion, smaller types, a batch); right of it only fewer or faster FLOPs do. Latency and throughput are two questions,
# and a batch answers one at the other's expense.
#
# Where this is wrong: bytes were counted for a perfect cache, one core was measured beside idle ones (all cores share
# the memory), and an operation below both bounds is explained by neither.
#
# Williams, Waterman, Patterson, [Roofline](https://dl.acm.org/doi/10.1145/1498765.1498785), Communications of the ACM 52
# (2009): the paper, eleven pages, readable after this lab.
