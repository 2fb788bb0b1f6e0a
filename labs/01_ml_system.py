# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 75
#     needs:
#     - scikit-learn
#     parts:
#     - capacity
#     - datasets
#     - viz
#     paths:
#     - training
#     - inference
#     - operations
#     points: 10
#     prerequisites:
#     - '00'
#     title: What is an ML system?
#     week: 1
# ---

# %% [markdown]
# # What is an ML system?
#
# | | |
# |---|---|
# | **Goal** | meet a demand for accuracy, time and power with data, model and device together |
# | **Time** | 75 minutes, 45 of them in three exercises |
# | **Points** | 10: Pareto 4, budget solver 4, audit and letter 2 |
# | **Parts** | `mlsys_lab.datasets`, `mlsys_lab.capacity`; beside them scikit-learn |
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

from mlsys_lab.datasets import pedestrians, side_by_side

images, walks = pedestrians(6400, seed=0)  # (6400, 32, 16) greys, (6400,) 1: somebody walks
fig, axes = plt.subplots(2, 1, figsize=(7, 3.2))
for ax, k, title in zip(axes, (1, 0), ("Walkers, half hidden", "Poles, trees, signs"), strict=True):
    ax.imshow(side_by_side(images[walks == k][:17]), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title)
show(fig)

# %% [markdown]
# A client wants this camera: **accuracy** at least X %, an answer within Y ms, at most Z watts. Whoever answers can turn
# knobs of three kinds: the *data* (how many labels, how clean), the *model* (how wide), the *system* (how many bits a weight
# has, on which device).
#
# ## Predict
#
# With 400 labels a network of 16 hidden units is right in about 73 of 100 images. With 6,400 labels, in how many?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_accuracy = 82
### END SOLUTION

# %%
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

warnings.filterwarnings("ignore", category=ConvergenceWarning)  # it stops before it has settled
tests, truth = pedestrians(3000, seed=1)


def flat(x):
    """Images (n, 32, 16) as rows (n, 512), each around its own mean."""
    x = x.reshape(len(x), -1)
    return x - x.mean(1, keepdims=True)


def train(labels, width, flipped=0.0):
    """One hidden layer of `width` units, from the first labels; a share of them is flipped."""
    wrong = np.random.default_rng(2).random(labels) < flipped
    passes = max(30, 48_000 // labels)
    net = MLPClassifier((width,), alpha=1e-3, batch_size=64, max_iter=passes, random_state=0)
    return net.fit(flat(images[:labels]), np.where(wrong, 1 - walks[:labels], walks[:labels]))


# %%
def rounded(w, bits):
    """Weights as whole multiples of one step, as integers of so many bits hold them."""
    if bits == 32:
        return w
    step = abs(w).max() / (2 ** (bits - 1) - 1)
    return np.round(w / step) * step


def accuracy(net, bits=32):
    """Percent of the test images that are told right."""
    (w1, w2), (b1, b2) = net.coefs_, net.intercepts_
    hidden = np.maximum(flat(tests) @ rounded(w1, bits) + b1, 0)  # (3000, width)
    scores = hidden @ rounded(w2, bits) + b2  # (3000, 1)
    return 100 * float(((scores[:, 0] > 0) == truth).mean())


# %%
sizes, widths = (400, 1600, 6400), (4, 16, 64)
nets = {(n, w): train(n, w) for n in sizes for w in widths}
noisy = {n: accuracy(train(n, 16, flipped=0.3)) for n in sizes}
fig, (left, right) = plt.subplots(1, 2, sharey=True)
clean = [accuracy(nets[n, 16]) for n in sizes]
left.semilogx(sizes, clean, "o-", color=PALETTE["compute"], label="labels right")
left.semilogx(sizes, noisy.values(), "o-", color=PALETTE["idle"], label="30 % flipped")
prediction(left, 6400, predicted_accuracy)
left.set(xlabel="labels", ylabel="accuracy (%)", xlim=(250, 60_000), ylim=(50, 95))
left.legend(loc="lower right")
for n, mark in zip((400, 6400), ("o:", "o-"), strict=True):
    line = [accuracy(nets[n, w]) for w in widths]
    right.semilogx(widths, line, mark, color=PALETTE["compute"], label=f"{n:,} labels")
right.set(xlabel="width (hidden units)", xticks=widths, xticklabels=widths)
right.minorticks_off()
right.legend(loc="lower right")
left.set_title("Data: labels pay, noise costs")
right.set_title("Model: width pays with data")
show(fig)
full, reached = accuracy(nets[6400, 64]), {b: accuracy(nets[6400, 64], b) for b in range(2, 9)}
enough = next(b for b, reaches in reached.items() if full - reaches < 2)

# %% [markdown]
# With 400 labels width buys nothing; with 6,400 it does. A knob's worth depends on where the others stand.
#
# The third knob: whole networks run on integers. **Predict** how few bits a weight can have before two points of accuracy
# are lost, for 64 units and 6,400 labels.

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_bits = 6
### END SOLUTION

# %%
fig, ax = plt.subplots()
ax.plot(list(reached), list(reached.values()), "o-", c="C1", label="64 units")
bound(ax, full, "at 32 bits")
prediction(ax, predicted_bits)
ax.legend(loc="lower right")
ax.set(xlabel="bits of a weight", ylabel="accuracy (%)")
ax.set_title(f"System: {enough} bits do, {enough - 1} do not")
show(fig)


# %% [markdown]
# ## All knobs at once
#
# Now every combination: 3 x 3 x 5. The weights of a network take (512 + 1) · width · bits / 8 bytes, which a camera has to
# hold.
#
# ## Build 1: who is never the right choice? (10 minutes)
#
# A candidate is **dominated** when another one is at least as good in every column, and better in one. What nobody
# dominates is the **Pareto set**: all else is a waste. Write every column so that less is better. About 4 lines.

# %% nbgrader={"grade": false, "grade_id": "lab01-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def pareto(points):
    """The indices of the points that no other point dominates, in order.

    points: n lists of d numbers each; in every column less is better.
        Equal points do not dominate each other: both stay.
    """
    ### BEGIN SOLUTION
    def dominates(p, q):
        pairs = list(zip(p, q, strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [i for i, q in enumerate(points) if not any(dominates(p, q) for p in points)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab01-q1-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab01.q1", pareto)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# Ask of each point: is there any other one that beats it? Nobody has to be sorted, and no column counts more than another.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# `p` dominates `q` when all of its numbers are at most those of `q`, and at least one is smaller. The second half keeps
# equal points, and keeps a point from dominating itself.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     for each index i and point q:
#         is there a p in points with
#             all(a <= b ...) and any(a < b ...) over the pairs of p and q?
#         if there is none: keep i
# </details>

# %%
front_of = pareto if solved("lab01.q1") else skip("lab01.q1")
whose_front = "yours" if solved("lab01.q1") else "the reference"
widths_in_bits = (32, 8, 4, 3, 2)
scores = {(*k, b): accuracy(net, b) for k, net in nets.items() for b in widths_in_bits}


def point(n, w, b):
    """What less of is better: kB of weights, percent of errors."""
    return 513 * w * b / 8 / 1e3, 100 - scores[n, w, b]


alone = {
    "data alone": [(n, 16, 32) for n in sizes],
    "model alone": [(1600, w, 32) for w in widths],
    "system alone": [(1600, 16, b) for b in widths_in_bits],
}
joint = list(scores)

# %%
fig, ax = plt.subplots()
looks = (("idle", "s"), ("compute", "o"), ("memory", "^"))
for (label, rows), (color, mark) in zip(alone.items(), looks, strict=True):
    points = [point(*row) for row in rows]
    best = np.array(sorted(points[i] for i in front_of(points)))
    ax.plot(best[:, 0], best[:, 1], mark + ":", color=PALETTE[color], label=label)
points = [point(*row) for row in joint]
best = np.array(sorted(points[i] for i in front_of(points)))
ax.plot(best[:, 0], best[:, 1], "o-", color=PALETTE["yours"], label=f"all three ({whose_front})")
ax.set(xscale="log", xlabel="weights (kB)", ylabel="errors (%)", ylim=(10, 31))
ax.legend()
ax.set_title("Three knobs together beat each knob alone")
show(fig)

# %% tags=["nbval-check-output"]
ahead = {}
for label, rows in alone.items():
    singles = [point(*row) for row in rows]
    ahead[label] = all(any(a < c and b < d for a, b in best) for c, d in singles)
print("somewhere smaller and better at once:", ahead)


# %% [markdown]
# A wide network in few bits, from many labels, is smaller **and** better than what any single knob reaches. The frontier
# has no best point. Which one is right depends on the demand.
#
# ## Build 2: the budget solver (15 minutes)
#
# Given limits, find the cheapest candidate that keeps all. Where none does, say what is to blame: a limit is **binding**
# when dropping it, and it alone, would leave a candidate. About 8 lines.

# %% nbgrader={"grade": false, "grade_id": "lab01-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def solve(candidates, limits):
    """The cheapest candidate within limits; where there is none, the limits to blame.

    candidates: n dicts with the keys "accuracy", "latency_ms", "power_w", "cost_usd".
    limits: some of these keys; "accuracy" is a least value, every other one a most. On it counts.
    Returns (choice, binding): an index (of equal costs the most accurate) and []; or None and
        the names of the limits each of which, dropped alone, leaves a candidate, in their order.
    """
    ### BEGIN SOLUTION
    def left(names):
        def keeps(row, k):
            return row[k] >= limits[k] if k == "accuracy" else row[k] <= limits[k]

        return [i for i, row in enumerate(candidates) if all(keeps(row, k) for k in names)]

    if left(limits):
        rows = [(candidates[i]["cost_usd"], -candidates[i]["accuracy"], i) for i in left(limits)]
        return min(rows)[2], []
    return None, [k for k in limits if left([n for n in limits if n != k])]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab01-q2-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab01.q2", solve)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# One question answers everything: which candidates keep these limits? Ask it for all limits, then for all but one.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# Write an inner function `left(names)`: the indices of the candidates that keep the limits of these names. `min` with a
# key that is a pair compares the second where the first is equal. `binding` may come out empty: then two limits are in the way at once.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     feasible = left(all names)
#     some: the one of least (cost_usd, -accuracy), and []
#     none: None, and each k in limits for which left(the others) holds some
# </details>

# %% [markdown]
# ## The client's camera
#
# A frame is searched at 10,000 places. A label costs 0.05 USD (assumed). Devices, times and watts come from
# `mlsys_lab.capacity.edge`: a roofline at the device's peak for that width, times what published measurements took beyond it.
# Two, three and four bits are computed as eight.

# %%
from mlsys_lab.capacity import device, edge, model

solver = solve if solved("lab01.q2") else skip("lab01.q2")
whose = "yours" if solved("lab01.q2") else "the reference"


def on_device(device, n, w, b):
    """A network of this lab on a device: what the client asks about."""
    dtype = "float32" if b == 32 else "int8"
    ideal, _ = edge.ideal_s(2 * 513 * w * 10_000, 513 * w * b / 8, device, dtype)
    took = edge.slowdown(device, dtype, "dense") * ideal
    name = f"{n:,} labels, {w} units, {b} bits, {device.name}"
    asked = {"latency_ms": took.mid * 1e3, "power_w": device.watts, "cost_usd": device.usd + 0.05 * n}
    return {"name": name, "accuracy": scores[n, w, b], **asked}


able = {32: lambda d: d.float32_flops > 0, 8: lambda d: "int8" in d.peaks}
devices = edge.edge_devices().values()
cameras = [on_device(d, *k) for d in devices for k in joint if able[min(max(k[2], 8), 32)](d)]


# %%
def told(rows, limits):
    """What the solver says, in words."""
    choice, binding = solver(rows, limits)
    if choice is None:
        return f"nothing; binding: {' or '.join(binding) or 'two limits at once'}"
    return f"{rows[choice]['name']}, {rows[choice]['cost_usd']:.0f} USD"


# %%
easy = {"accuracy": 78, "latency_ms": 50, "power_w": 7}
for change in ({}, {"power_w": 5}, {"accuracy": 83}, {"latency_ms": 0.2}, {"accuracy": 95}):
    print(f"{change or easy}: {told(cameras, easy | change)}")

# %% [markdown]
# The same demand, changed in one number, moves the answer to another device, to more labels, or to a narrower network
# that more labels make good enough. Who owns only one knob would not have found it.
#
# ## Real candidates, and a demand that breaks
#
# Published ImageNet networks on the same devices, 88 in all. The client wants 80 % within 20 ms at 5 W.

# %%
real = []
for c in edge.candidates():
    asked = {"latency_ms": 1e3 * c.latency_s.mid, "power_w": c.power_w.mid, "cost_usd": c.cost_usd}
    real.append({"name": c.name, "accuracy": 100 * c.accuracy, **asked})
small = [c for c in real if c["power_w"] <= 5]
pairs = [(c["latency_ms"], -c["accuracy"]) for c in real]
best = np.array(sorted(pairs[i] for i in front_of(pairs)))

# %%
fig, ax = plt.subplots()
for rows, color, label in ((real, "idle", "all devices"), (small, "memory", "at most 5 W")):
    x, y = ([c[key] for c in rows] for key in ("latency_ms", "accuracy"))
    ax.semilogx(x, y, "o", color=PALETTE[color], alpha=0.6, label=label)
label = f"Pareto set ({whose_front})"
ax.step(best[:, 0], -best[:, 1], color=PALETTE["yours"], where="post", label=label)
bound(ax, 80, "80 %")
ax.axvline(20, ls="--", color=PALETTE["reference"], label="20 ms")
ax.set(xlabel="time of an image (ms)", ylabel="accuracy (%)", ylim=(55, 88))
ax.legend(loc="lower right")
ax.set_title("Nothing at 5 W reaches 80 % within 20 ms")
show(fig)

# %% tags=["nbval-check-output"]
demand = {"accuracy": 80, "latency_ms": 20, "power_w": 5}
print(f"80 %, 20 ms, 5 W (solver: {whose}):", told(real, demand))
print("without a limit on power:", told(real, {k: demand[k] for k in ("accuracy", "latency_ms")}))
print("70 % instead:", told(real, demand | {"accuracy": 70}))

# %% [markdown]
# `mlsys-lab estimate edge --accuracy 80% --latency 20ms --power 5W` blames the same limits, and says by how much.
#
# ## The rest of the system
#
# The trained network is three lines of this lab. Sculley and others (2015) drew that: a small box of ML code amid large
# ones. **Predict** its share in this course's own code: which percent of the lines are network, gradient or optimiser?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_share = 20
### END SOLUTION

# %%
from mlsys_lab.viz.code_share import boxes, lines_by_role

fig, ax = plt.subplots()
lines = lines_by_role()  # of the repository; where only the course's package is installed, of that
boxes(ax, lines, "learning", predicted_share)
ax.set_title("Areas are lines of code: the black box learns")
show(fig)


# %% [markdown]
# The rest is the system.
#
# ## Build 3: audit the texts, then write (20 minutes)
#
# Numbers that people learn from. Compute each with `model` and `device`, or by hand; then write to the client. About 8
# lines and 80 words; the letter counts when it is complete.
#
# | claim | number |
# |---|---|
# | Adam, bytes per parameter | 12 |
# | Llama-2-70B, 16 bits | 21 GB |
# | Llama-2-7B serving 32 x 4096 | 16 GB |
# | GPT-3, 1024 A100, a month | 4.6 million USD |
# | GPT-3, GPU-hours | thousands |
# | A100 over CPU, bandwidth | 22 |
# | ResNet-50 | 100 MB |

# %% nbgrader={"grade": false, "grade_id": "lab01-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def audit():
    """The right number for each claim, in order: bytes, GB, GB, million USD, thousand hours, -, MB.

    Adam in float32: weight, gradient, two moments. Serving: 16-bit weights and the KV cache.
    GPT-3: 1024 A100 for 34 days, at device("A100").usd_per_hour_mid. CPU: an "EPYC 9654".
    """
    ### BEGIN SOLUTION
    big, small, a100 = model("llama-2-70b"), model("llama-2-7b"), device("A100")
    serving = 2 * small.parameters + small.kv_bytes(4096, 32)
    hours = 1024 * 34 * 24
    faster = a100.memory_bytes_per_s / device("EPYC 9654").memory_bytes_per_s
    cost = hours * a100.usd_per_hour_mid / 1e6
    resnet = 4 * model("resnet50").parameters / 1e6
    return [16, 2 * big.parameters / 1e9, serving / 1e9, cost, hours / 1e3, faster, resnet]
    ### END SOLUTION


def letter():
    """To the client who asked for 80 %, 20 ms, 5 W: 60 to 200 words, as a text.

    It names data, model and system, and at least three numbers with their unit.
    """
    ### BEGIN SOLUTION
    return """No network that we know keeps 80 % within 20 ms at 5 W: at 5 W the best in time has
    73 %. Power binds, and so does accuracy. With 25 W the system is a Jetson Orin Nano for 249 USD,
    and a larger model keeps both other limits. If 5 W is fixed by the battery, we suggest the small
    model and to spend on data instead: in our trial the step from 400 to 6,400 labels gave ten
    points, for 300 USD. Please tell us which of the three numbers you can move."""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab01-q3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab01.q3", audit, letter)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# Count first, multiply then: parameters times bytes, GPUs times days times hours. The letter is read for being complete;
# nobody grades its style.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# `model("llama-2-7b").parameters` and `.kv_bytes(context, batch)` in bytes; `device("A100").memory_bytes_per_s`. GB is
# 1e9 bytes. Adam keeps four numbers of four bytes.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     Adam: 4 numbers x 4 bytes            70B: 2 bytes x parameters
#     serving: 2 x parameters + kv_bytes(4096, 32)
#     hours: 1024 x 34 x 24; cost: hours x usd_per_hour_mid
#     bandwidth: A100's over the EPYC's    ResNet-50: 4 bytes x parameters
# </details>

# %%
right = (audit if solved("lab01.q3") else skip("lab01.q3")[0])()
whose = "yours" if solved("lab01.q3") else "the reference"
claimed = {
    "Adam, bytes per parameter": 12,
    "70B in 16 bits, GB": 21,
    "7B serving 32 x 4096, GB": 16,
    "GPT-3, million USD": 4.6,
    "GPT-3, thousand GPU-hours": 5,
    "A100 over CPU": 22,
    "ResNet-50, MB": 100,
}
off = [claim / number for claim, number in zip(claimed.values(), right, strict=True)]
fig, ax = plt.subplots()
places = range(len(claimed), 0, -1)
ax.barh(places, [ratio - 1 for ratio in off], left=1, height=0.5, color=PALETTE["idle"])
ax.axvline(1, color=PALETTE["yours"], label=f"right ({whose})")
for y, ratio, number in zip(places, off, right, strict=True):
    ax.text(200, y, f"{ratio:.2g} of {number:,.4g}", va="center", ha="right")
ax.set(xscale="log", xlim=(0.003, 250), xlabel="claimed / right")
ax.set_yticks(places, claimed)
ax.legend(loc="lower left")
ax.set_title("Of seven claims one holds")
show(fig)

# %% [markdown]
# The 21 GB are two bits a weight and 20 % on top; 4.6 million USD belong to 355 years of one V100. Wrong numbers are often
# right ones that answer another question.
#
# ## Par and bonus
#
# Par, the lines of a short answer: 4, 8 and 8. Without points: name the two limits where `binding` comes out empty.
#
# ## What you now know
#
# An ML system is data, model and device under one demand, and most of its code is none of the three. The Pareto set of all
# knobs together beats that of each alone, and a demand picks the point. When nothing fits, the binding limit says whom to
# talk to.
#
# Where this is wrong: the times are a model with intervals of a factor of two and more, and walkers drawn by a program are
# easier than people.
#
# The real system: [MLPerf Inference, edge](https://mlcommons.org/benchmarks/inference-edge/), measured under rules.
