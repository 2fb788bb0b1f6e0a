# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 65
#     needs:
#     - torch
#     - scikit-learn
#     parts:
#     - autograd
#     - viz
#     paths:
#     - training
#     points: 10
#     prerequisites:
#     - '00'
#     title: How does a machine differentiate?
#     week: 3
# ---

# %% [markdown]
# # How does a machine differentiate?
#
# | | |
# |---|---|
# | **Goal** | write the rule, the product and the order by which every framework computes gradients |
# | **Time** | 65 minutes, 38 of them in three exercises |
# | **Points** | 10: chain rule 2, matrix product 4, order 4 |
# | **Parts** | `mlsys_lab.autograd`; beside it PyTorch |
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

# Parameters: the network below; GPT-2 small (Radford and others, 2019); Llama 3 8B (Meta, 2024).
models = {"this lab's network": 2_410, "GPT-2 small": 124_439_808, "Llama 3 8B": 8_030_261_248}
fig, ax = plt.subplots()
place = range(len(models))
nudges = [count + 1 for count in models.values()]
ax.barh([p + 0.2 for p in place], nudges, 0.36, color=PALETTE["idle"], label="nudge each parameter")
ax.barh([p - 0.2 for p in place], [3] * 3, 0.36, color=PALETTE["compute"], label="go backward")
ax.set(xscale="log", xlim=(1, 1e15), yticks=place, yticklabels=models)
ax.set_xlabel("work for one gradient (forward passes, model)")
ax.legend(loc="lower right")
ax.set_title("One gradient costs about three passes, whatever the size")
show(fig)

# %% [markdown]
# Training asks how the loss changes with each parameter. Nudging one parameter at a time takes a run each. Going backward
# through one run gives all at once, for about twice that run. How?
#
# ## Predict
#
# First, how good is nudging? The slope of $f$ at $x$ is about $(f(x + h) - f(x)) / h$. For which step $h$ is that closest
# to the truth, in float64, where 16 digits are kept?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_h = 1e-8
### END SOLUTION

# %% [markdown]
# ## Build 1: the chain rule (8 minutes)
#
# A program is a chain of small steps, each with a known slope: $y = f_n(\dots f_2(f_1(x)))$. Its slope is the product of
# the steps' slopes, each taken **at the value that came into that step**. About 5 lines.

# %% nbgrader={"grade": false, "grade_id": "lab04-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def chain_rule(steps, x):
    """A chain of functions, and its slope, at x.

    steps: pairs (f, slope of f), first to last; each takes a float and returns a float.
    Returns (y, dy): the chain's value at x, and how fast it changes with x.
    """
    ### BEGIN SOLUTION
    dy = 1.0
    for f, slope in steps:
        dy *= slope(x)
        x = f(x)
    return x, dy
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab04-q1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab04.q1", chain_rule)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# Walk along the chain once and carry two numbers: the value so far, and the product of the slopes so far.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# In each step the slope comes first, because it needs the value before `f` changes it. An empty chain is `(x, 1.0)`.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     dy = 1.0
#     for f, slope in steps:
#         multiply dy by the slope at x
#         x becomes f(x)
#     return both
# </details>

# %%
import numpy as np

slope_of = chain_rule if solved("lab04.q1") else skip("lab04.q1")
whose = "yours" if solved("lab04.q1") else "the reference"
wave = (lambda x: np.sin(2 * x), lambda x: 2 * np.cos(2 * x))
steps = [wave] * 10


def value(x):
    return slope_of(steps, x)[0]


truth = float(slope_of(steps, np.longdouble(0.3))[1])  # the same chain with more digits
h = np.logspace(-15, -1, 57)
one_way = np.array([(value(0.3 + step) - value(0.3)) / step for step in h])
both_ways = np.array([(value(0.3 + step) - value(0.3 - step)) / (2 * step) for step in h])
exact = abs(slope_of(steps, 0.3)[1] - truth) / abs(truth)

# %%
fig, ax = plt.subplots()
for mark, slopes, way in (("o-", one_way, "one way"), ("x:", both_ways, "both ways")):
    error = np.maximum(abs(slopes - truth) / abs(truth), 1e-17)
    ax.loglog(h, error, mark, color=PALETTE["idle"], label=f"nudging {way}")
ax.axhline(max(exact, 1e-17), color=PALETTE["yours"], label=f"chain rule ({whose})")
prediction(ax, predicted_h)
ax.legend(loc=(0.02, 0.13))
ax.set(xlabel="step h", ylabel="relative error of the slope", ylim=(1e-17, 10))
ax.set_title("Nudging one way loses half the digits at best")
show(fig)


# %% [markdown]
# One way the best step is near $10^{-8}$: half of 16 digits are gone. Both ways, $(f(x+h)-f(x-h))/2h$, nine stay here.
# The chain rule is no approximation.
#
# ## Build 2: the rule of a matrix product (15 minutes)
#
# Most of a network's work is $C = AB$. Let $G$ hold the slope of the loss for each element of $C$: $(n,m)$. Which
# slopes follow for $A$ $(n,k)$ and for $B$ $(k,m)$? The element $A_{ij}$ meets row $j$ of $B$, and touches row $i$ of
# $C$. About 1 line.

# %% nbgrader={"grade": false, "grade_id": "lab04-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def matmul_vjp(g, a, b):
    """The slopes of the loss for a and b, given those for c = a @ b.

    g: (n, m), a: (n, k), b: (k, m), arrays of one dtype, which the results keep.
    Returns two arrays, shaped like a and like b.
    """
    ### BEGIN SOLUTION
    return g @ b.T, a.T @ g
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab04-q2-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab04.q2", matmul_vjp)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# $A_{ij}$ enters every $C_{il}$ with the factor $B_{jl}$. Its slope is the sum over $l$ of $G_{il} B_{jl}$.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# Both answers are matrix products, one with `b` transposed, one with `a` transposed. Only one order of the factors fits
# the shapes: (n, m) with (m, k), and (k, n) with (n, m).
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     for a: g times b transposed
#     for b: a transposed times g
# </details>

# %% [markdown]
# ## The real engine, on your rule
#
# `mlsys_lab.autograd` keeps a table of such rules. `ag.override("matmul", f)` puts yours in its place, and a network
# learns handwritten digits with it; PyTorch starts from the same weights. `images` holds 64 pixels per image, `digits`
# what they show.

# %%
from sklearn.datasets import load_digits

from mlsys_lab import autograd as ag

images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)  # (1797, 64)
rng = np.random.default_rng(0)
shapes = {"w1": (64, 32), "b1": (32,), "w2": (32, 10), "b2": (10,)}
start = {k: rng.normal(0, 0.2, shape).astype(np.float32) for k, shape in shapes.items()}
batches = rng.integers(0, len(images), (150, 64))  # 150 steps, 64 images each


def ours(rule):
    """Train with a rule for the matrix product; the loss at each step."""
    p = {k: ag.Tensor(v.copy(), requires_grad=True) for k, v in start.items()}
    losses = []
    with ag.override("matmul", rule):
        for batch in batches:
            hidden = ag.tanh(ag.Tensor(images[batch]) @ p["w1"] + p["b1"])  # (64, 32)
            loss = ag.cross_entropy(hidden @ p["w2"] + p["b2"], digits[batch])
            loss.backward()
            losses.append(loss.item())
            p = {k: ag.Tensor(v.data - 0.3 * v.grad.data, requires_grad=True) for k, v in p.items()}
    return np.array(losses)


# %%
from autograder.machine import need

need("torch")  # installs PyTorch where it is missing, about 0.9 GB
import torch


def theirs():
    """The same network, weights and batches in PyTorch."""
    p = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
    losses = []
    for batch in batches:
        hidden = torch.tanh(torch.tensor(images[batch]) @ p["w1"] + p["b1"])
        logits = hidden @ p["w2"] + p["b2"]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(digits[batch]))
        loss.backward()
        losses.append(loss.item())
        p = {k: (v - 0.3 * v.grad).detach().requires_grad_() for k, v in p.items()}
    return np.array(losses)


# %% tags=["nbval-check-output"]
rule = matmul_vjp if solved("lab04.q2") else skip("lab04.q2")
whose = "yours" if solved("lab04.q2") else "the reference"
with_rule, with_torch = ours(rule), theirs()
apart = np.abs(with_rule / with_torch - 1).max()
print("150 steps within 0.01 % of PyTorch's:", bool(apart < 1e-4))

# %%
fig, ax = plt.subplots()
ax.plot(with_torch, "-", color=PALETTE["reference"], lw=5, alpha=0.35, label="PyTorch")
ax.plot(with_rule, "-", color=PALETTE["yours"], lw=1.5, label=f"this engine, rule: {whose}")
ax.legend()
ax.set(xlabel="step", ylabel="loss (nats per image)", ylim=(0, 2.8))
ax.set_title("Two engines, one curve")
show(fig)


# %% [markdown]
# ## Break it: a rule that is wrong and learns
#
# Suppose the slope for `a` gets lost: it is all zeros. Then nothing reaches the layers below. Does an error appear?

# %%
def forgetful(g, a, b):
    """Right for b, nothing for a."""
    return np.zeros_like(a), a.T @ g


without = ours(forgetful)


# %%
def gradients_hold(rule):
    """Does the rule agree with nudging on a small random product of two factors?"""
    factors = [ag.Tensor(rng.normal(size=s), requires_grad=True) for s in ((3, 4), (4, 2))]
    with ag.override("matmul", rule):
        try:
            return bool(ag.gradcheck(lambda a, b: ag.tanh(a @ b), factors))
        except AssertionError:
            return False


# %% tags=["nbval-check-output"]
print("nudging agrees with the full rule:", gradients_hold(rule))
print("nudging agrees with the forgetful rule:", gradients_hold(forgetful))

# %%
fig, ax = plt.subplots()
ax.plot(with_rule, color=PALETTE["yours"], label=f"full rule ({whose})")
ax.plot(without, color=PALETTE["idle"], label="nothing for a")
ax.legend()
ax.set(xlabel="step", ylabel="loss (nats per image)", ylim=(0, 2.8))
ax.set_title("A wrong gradient can look like learning")
show(fig)


# %% [markdown]
# Nothing failed; the first layer only stayed as it was. Nudging is slow, but an honest judge of rules: `gradcheck`.
#
# ## Build 3: in which order? (15 minutes)
#
# A value may be used twice. Its slope is the **sum** over its uses, so it can be handed on only when all of them have
# been visited. Find an order: every node comes before its inputs. No recursion: graphs are deep. About 9 lines.

# %% nbgrader={"grade": false, "grade_id": "lab04-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def backward_order(inputs, root):
    """The nodes that root was computed from, in an order in which slopes can be handed on.

    inputs: for each node, 0 to n-1, the list of those it was computed from; one may come twice.
        The numbers are names: an input's may be the larger one.
    root: the node to start from.
    Returns a list: root, then each node after every node that uses it, and nothing else.
    """
    ### BEGIN SOLUTION
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((i, False) for i in inputs[node])
    return order[::-1]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab04-q3-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab04.q3", backward_order)

# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>
#
# Turn it round: list each node *after* all of its inputs, then reverse the list. That is a depth-first walk which writes
# a node down when it leaves it.
# </details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>
#
# Keep a list as a stack, of pairs: a node, and whether its inputs were put on the stack before. A set holds the nodes
# seen, so that one used often is opened once.
# </details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly the code</summary>
#
#     stack holds (root, False)
#     while the stack holds something: take (node, ready)
#         ready: write the node down
#         not seen yet: mark it; push (node, True), then (i, False) for its inputs
#     return what was written down, reversed
# </details>

# %% [markdown]
# ## Predict, once more
#
# $y = x^{65536}$ as sixteen squarings: each value is used twice. A function that calls itself for every use, as one might
# write first, visits how many edges in all?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_visits = 100_000
### END SOLUTION

# %%
order_of = backward_order if solved("lab04.q3") else skip("lab04.q3")
whose = "yours" if solved("lab04.q3") else "the reference"


def squarings(depth):
    """Node i + 1 is node i times itself."""
    return [[]] + [[i, i] for i in range(depth)]


# %%
def visits_by_recursion(inputs, node):
    return sum(1 + visits_by_recursion(inputs, i) for i in inputs[node])


def visits_in_order(inputs, node):
    return sum(len(inputs[i]) for i in order_of(inputs, node))


depths = np.arange(1, 17)
ways = (visits_by_recursion, visits_in_order)
counted = {way: [way(squarings(d), int(d)) for d in depths] for way in ways}

# %%
fig, ax = plt.subplots()
looks = {"recursion": PALETTE["idle"], f"in order ({whose})": PALETTE["yours"]}
for (label, color), visits in zip(looks.items(), counted.values(), strict=True):
    ax.semilogy(depths, visits, "o-", color=color, label=label)
prediction(ax, 16, predicted_visits)
ax.legend(loc="upper left")
ax.set(xlabel="squarings", ylabel="edges visited", xlim=(0, 21), ylim=(1, 1e6), xticks=depths[1::2])
ax.set_title("Without an order, reuse doubles the work at each step")
show(fig)


# %% [markdown]
# ## The tape
#
# While it computes, the engine writes a **tape**: per result a node with its operation, and for each input the rule and
# the values that the rule needs. Backward is one loop over your order; `.node.edges` is the tape itself.

# %%
def graph_of(result):
    """The nodes behind a result, and for each the numbers of its inputs."""
    nodes = [result.node]
    for node in nodes:  # the list grows while we walk along it
        for parent, _, _ in node.edges:
            if parent not in nodes:
                nodes.append(parent)
    return nodes, [[nodes.index(parent) for parent, _, _ in node.edges] for node in nodes]


def backward(result, order_of):
    """The slope of a scalar result for every node, by the rules of the tape."""
    nodes, inputs = graph_of(result)
    order = order_of(inputs, 0)
    slopes = {0: np.ones_like(result.data)}
    for i in order:
        for j, (_, vjp, values) in zip(inputs[i], nodes[i].edges, strict=True):
            slopes[j] = slopes.get(j, 0) + vjp.function(slopes[i], *values)
    return nodes, order, slopes


# %% tags=["nbval-check-output"]
x = ag.Tensor(images[:8].astype(np.float64))  # (8, 64)
weights = {k: ag.Tensor(start[k].astype(np.float64), requires_grad=True) for k in ("w1", "w2")}
w1, w2 = weights.values()
hidden = ag.tanh(x @ w1)
loss = ((hidden * hidden) @ w2 + hidden @ w2).sum()
nodes, order, slopes = backward(loss, order_of)
loss.backward(retain_graph=True)
for name, w in weights.items():
    mine = slopes[nodes.index(w.node)]
    print(name, "as the engine's own:", np.allclose(mine, w.grad.data, rtol=1e-12))

# %%
named = {w.node: name for name, w in weights.items()}
fig, ax = plt.subplots(figsize=(7, 3.9))
place = {i: spot for spot, i in enumerate(order)}
for i in order:
    parents = [nodes.index(parent) for parent, _, _ in nodes[i].edges]
    for k, j in enumerate(parents):
        rad = -0.4 - 0.25 * parents[:k].count(j)  # a value used twice has two edges
        bend = {"arrowstyle": "->", "connectionstyle": f"arc3,rad={rad}", "shrinkB": 8}
        ax.annotate("", (place[j], 0), (place[i], 0), arrowprops={**bend, "color": PALETTE["idle"]})
    label = named.get(nodes[i]) or nodes[i].op.name
    color = PALETTE["memory" if nodes[i] in named else "compute"]
    ax.plot(place[i], 0, "o", markersize=13, color=color)
    ax.annotate(label, (place[i], -0.16), rotation=45, ha="right", va="top", gid="said")
ax.set(xlim=(-0.8, len(order) - 0.4), ylim=(-0.9, 1.1), yticks=[])
ax.set_xlabel("place in the order (orange: a weight)")
ax.set_title(f"The tape that ran, in backward order ({whose})")
show(fig)

# %% [markdown]
# ## Par and bonus
#
# Par, the lines of a short answer: 5, 1 and 9. Without points: find an order without a stack, from `node.serial`, which
# counts the tape's nodes as they are made.
#
# ## What you now know
#
# A gradient is the chain rule over a recorded run: local rules, multiplied along paths and summed where paths meet. A
# matrix product costs two more backward, so a gradient takes about three passes, whatever the number of parameters. The
# order matters because a value that is used twice must wait for both.
#
# Where this is wrong: rounding differs between engines, and a kink such as that of `abs` at 0 has no slope, so that
# engines choose one.
#
# The real system: [how autograd encodes the history](https://docs.pytorch.org/docs/stable/notes/autograd.html).
