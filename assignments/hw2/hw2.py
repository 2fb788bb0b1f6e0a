# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 540
#     needs:
#     - numpy
#     - matplotlib
#     - scikit-learn
#     parts:
#     - autograder
#     - autograd
#     - viz
#     points: 100
#     prerequisites:
#     - '00'
#     - '04'
#     title: 'HW2: Framework and autograd'
#     week: 3
# ---

# %% [markdown]
# # HW2: Framework and autograd
#
# | | |
# |---|---|
# | **Goal** | build the core of a framework: rules that survive broadcasting, an engine, an optimiser, a compiler's first passes, and a plan that trades arithmetic for memory |
# | **Time** | about 9 hours in five parts: 7.5 for the exercises and the written answer, 1.5 for reading and predictions |
# | **Points** | 100 automatic, 5 of them for a notebook that runs from a clean start; 10 for a written answer |
# | **Parts** | `autograder.check`; NumPy, scikit-learn's digits; at the end of part 3 `mlsys_lab.autograd` |
# | **Before** | labs 00 and 04 |

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
# functions with other inputs, for 39 more; your report names them and withholds their values. 5 points are
# for the clean start, multiplied by the share of the other 95 that you earned. q1b and q1c use your q1a, q5b uses
# your q5a: a mistake there costs points in both.
#
# **Limits.** 4 s for a call, 15 s for a question, 60 s for the submission; in the clean start 15 s for a
# cell and 60 s for the notebook.
#
# **Handing in.** `python3 lab.py submit hw2` runs the notebook from a clean start, says what would fail, and
# makes the archive that you hand in.

# %%
import itertools
import math
import tracemalloc
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)  # (1797, 64)
print(f"NumPy {np.__version__}, {len(images)} digits of 64 pixels")

# %% [markdown]
# ## Part 1. Whose gradient has which shape?
#
# 32 images, shrunk to four grey values each, get random labels. Four numbers and a bias can tell little of those: an
# honest loss stays well above 1. One of the two programs below forgets a sum.

# %%
coarse = images[:32].reshape(32, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(32, 4)
drawn = np.eye(10)[np.random.default_rng(0).integers(0, 10, 32)]


def loss_curve(bias_gradient, steps=200):
    """Train weights (4, 10) and a bias that starts with shape (10,); the loss at each step."""
    weight, bias, losses = np.zeros((4, 10)), np.zeros(10), []
    for _ in range(steps):
        logits = coarse @ weight + bias
        chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses.append(-np.log((chance * drawn).sum(axis=1)).mean())
        g = (chance - drawn) / len(drawn)  # (32, 10): the loss's gradient for the logits
        weight, bias = weight - 3 * coarse.T @ g, bias - 3 * bias_gradient(g)
    return losses, bias.shape


# %%
fig, ax = plt.subplots()
forms = {"honest": (lambda g: np.ones(32) @ g, "reference"), "one sum missing": (lambda g: g, "idle")}
for name, (form, color) in forms.items():
    losses, shape = loss_curve(form)
    ax.plot(losses, color=PALETTE[color], label=f"{name}: the bias ends with shape {shape}")
bound(ax, math.log(10), "ln 10: knows nothing")
ax.set(xlabel="step", ylabel="loss (nats per image)", ylim=(0, 2.7))
ax.legend(loc="center right")
ax.set_title("Measured: no error is raised, and noise is learned by heart")
show(fig)


# %% [markdown]
# The sum over the batch got lost, and NumPy stretched the bias to one for each image. In the forward pass an
# array of shape (10,) was **broadcast** to (32, 10): each of its numbers was used 32 times. Its gradient is the
# sum over these uses.
#
# **q1a (15 min, 5 points).** Undo broadcasting. About 3 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q1a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def unbroadcast(g, shape):
    """Sum a gradient over what broadcasting repeated.

    Args:
        g: gradient for a broadcast array.
        shape: shape before broadcasting; g.shape is what it was broadcast to.

    Returns:
        Array of that shape and of the dtype of g.

    Example:
        unbroadcast(np.ones((32, 10)), (10,)) is an array of ten 32s.
    """
    ### BEGIN SOLUTION
    lead = g.ndim - len(shape)
    single = tuple(lead + place for place, size in enumerate(shape) if size == 1)
    return g.sum(axis=tuple(range(lead)) + single).reshape(shape)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Broadcasting does two things: it puts new axes in front, and
# it repeats axes of length 1. Sum over both.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>The new axes are the first `g.ndim - len(shape)`; an axis of
# `shape` lies that many places further back in g. Afterwards the axes of length 1 have to be there again.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`sum` takes a tuple of axes, and an empty tuple sums over
# nothing. `reshape` brings axes of length 1 back.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q1a-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q1a", unbroadcast)


# %% [markdown]
# Now the rules of operations that work element by element on two arrays of different shapes. `maximum` is
# needed for ReLU; where both sides are equal (nearly equal is not), each gets **half** of the gradient.
#
# A gradient has the shape **and the dtype** of the array that it belongs to. Otherwise one float64 array makes
# everything before it float64, with twice the bytes.
#
# **q1b (25 min, 6 points).** Five operations. About 14 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q1b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def elementwise_vjp(operation, g, a, b):
    """The gradients for a and b, given that of operation(a, b).

    Args:
        operation: "add", "sub", "mul", "div" or "maximum".
        g: gradient for the result.
        a, b: arrays that broadcast against each other.

    Returns:
        Two arrays, one of the shape and dtype of a, one of those of b.
    """
    ### BEGIN SOLUTION
    if operation == "add":
        for_a, for_b = g, g
    elif operation == "sub":
        for_a, for_b = g, -g
    elif operation == "mul":
        for_a, for_b = g * b, g * a
    elif operation == "div":
        for_a, for_b = g / b, -g * (a / b) / b
    else:
        share = np.where(a == b, 0.5, a > b)
        for_a, for_b = g * share, g * (1 - share)
    return unbroadcast(for_a, a.shape).astype(a.dtype), unbroadcast(for_b, b.shape).astype(b.dtype)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>First write each rule as if both arrays had the shape of the
# result. Then undo broadcasting and set the dtype, once for all five.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>add: g and g. sub: g and -g. mul: each gets g times the
# other. div: a/b changes by 1/b with a and by -a/b² with b. maximum: g goes to the larger.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>maximum: `share = np.where(a == b, 0.5, a > b)`, then g
# times share and g times (1 - share). At the end `unbroadcast(for_a, a.shape).astype(a.dtype)`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q1b-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw2.q1b", elementwise_vjp)


# %% [markdown]
# `a @ b` multiplies matrices in the last two axes; the axes before them are a batch and broadcast. So
# (8, 1, 3, 4) @ (5, 4, 2) is (8, 5, 3, 2). Lab 04's rule holds for each pair of matrices.
#
# **q1c (15 min, 5 points).** Any number of batch axes. About 4 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q1c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def matmul_vjp(g, a, b):
    """The gradients for a and b, given that of a @ b; batch axes broadcast.

    Args:
        g: (..., n, m).
        a: (..., n, k), at least two axes.
        b: (..., k, m), at least two axes.

    Returns:
        Two arrays, one of the shape and dtype of a, one of those of b.
    """
    ### BEGIN SOLUTION
    for_a = unbroadcast(g @ np.swapaxes(b, -1, -2), a.shape)
    for_b = unbroadcast(np.swapaxes(a, -1, -2) @ g, b.shape)
    return for_a.astype(a.dtype), for_b.astype(b.dtype)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Turn the last two axes only: `.T` turns all of them round.
# Then a batch axis that was repeated has to be summed, as in q1a.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`np.swapaxes(b, -1, -2)`; the product has the batch axes of
# g, and `unbroadcast` brings it to the shape of a.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>For a: (n, m) times (m, k); for b: (k, n) times (n, m). Which
# factor is g, and which is turned? Then `unbroadcast`, then the dtype.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q1c-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q1c", matmul_vjp)


# %% [markdown]
# A **reduction** takes many numbers to one along some axes. `axis` is None (all axes), a whole number, or a tuple
# of them, and counts from the end where it is negative. With `keepdims` a reduced axis stays, with length 1.
# Of several largest elements, equal to the last bit, each gets an equal share of the gradient of `max`.
#
# **q1d (35 min, 7 points).** About 9 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q1d", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    """The gradient for x, given that of a reduction of x.

    Args:
        operation: "sum", "mean" or "max".
        g: gradient for the result.
        x: array; it may be empty (an axis of length 0) where the operation allows that.
        axis: None, an int or a tuple of ints, negative ones too.
        keepdims: whether the reduced axes stayed.

    Returns:
        Array of the shape and dtype of x.
    """
    ### BEGIN SOLUTION
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % max(x.ndim, 1)
    kept = [1 if place in axes else size for place, size in enumerate(x.shape)]
    if operation == "sum":
        share = np.ones(x.shape)
    elif operation == "mean":
        share = np.ones(x.shape) / max(math.prod(x.shape[place] for place in axes), 1)
    else:
        largest = x == x.max(axis=axis, keepdims=True)
        share = largest / largest.sum(axis=axis, keepdims=True)
    return (np.reshape(g, kept) * share).astype(x.dtype)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Each element of x gets the gradient of the result that it went
# into, times its share: 1, one over the number of elements reduced, or one over the number of largest
# ones.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>Bring g to x's number of axes with length 1 where x was
# reduced (as with `keepdims`), and let broadcasting do the rest. Without `keepdims` the places of these
# axes come from `axis`.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`kept = [1 if place in axes else size for place, size in
# enumerate(x.shape)]`, then `np.reshape(g, kept) * share`; for max, `largest = x == x.max(axis=axis,
# keepdims=True)`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q1d-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw2.q1d", reduce_vjp)


# %% [markdown]
# `x[key]` gathers: `table[[3, 1, 3]]` looks up three rows of an embedding table, one of them twice. What was
# read twice gets two gradients.
#
# **q1e (10 min, 4 points).** Any key that NumPy takes. About 3 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q1e", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def index_vjp(g, shape, key):
    """The gradient for x, given that of x[key].

    Args:
        g: gradient for x[key].
        shape: shape of x.
        key: what stood in the brackets: numbers, slices, arrays of numbers or booleans, or a tuple
            of these.

    Returns:
        Array of that shape and of the dtype of g.
    """
    ### BEGIN SOLUTION
    scattered = np.zeros(shape, dtype=g.dtype)
    np.add.at(scattered, key, g)
    return scattered
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Start from zeros and add each gradient at the place that was
# read.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`zeros[key] += g` reads, adds and writes once for each place:
# of two gradients for one place the last wins. NumPy has a form of `add` without that.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>It is a method of `np.add` and is called `at`; `help(np.add.at)`
# says what it takes. Which dtype have the zeros?</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q1e-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw2.q1e", index_vjp)


# %%
def worst_error(rule, function, arrays, rng):
    """Largest difference of a rule from central differences, relative to the largest gradient."""
    g, worst = rng.normal(size=function(*arrays).shape), 0.0
    for place, got in enumerate(rule(g, *arrays)):
        nudged = np.zeros_like(arrays[place])
        for spot in np.ndindex(*nudged.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in arrays]
                moved[place][spot] += step
                ends.append((g * function(*moved)).sum())
            nudged[spot] = (ends[0] - ends[1]) / 2e-5
        worst = max(worst, np.abs(nudged - got).max() / np.abs(nudged).max())
    return worst


# %%
def judged():
    """The error of each rule on arrays that broadcast, float64."""
    rng, found = np.random.default_rng(1), {}
    pair = [rng.uniform(1, 2, (4, 1, 3)), rng.uniform(1, 2, (5, 1))]
    binary = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    for name, function in {**binary, "maximum": np.maximum}.items():
        found[name] = worst_error(partial(elementwise_vjp, name), function, pair, rng)
    factors = [rng.normal(size=(2, 1, 3, 4)), rng.normal(size=(3, 4, 2))]
    found["matmul"] = worst_error(matmul_vjp, np.matmul, factors, rng)

    def reduced(name, g, x):
        return [reduce_vjp(name, g, x, (0, -1))]

    for name, function in {"sum": np.sum, "mean": np.mean, "max": np.max}.items():
        reduction = partial(function, axis=(0, -1))
        found[name] = worst_error(partial(reduced, name), reduction, factors[1:], rng)

    def gathered(g, x):
        return [index_vjp(g, x.shape, [2, 0, 2])]

    found["index"] = worst_error(gathered, lambda x: x[[2, 0, 2]], factors[1:], rng)
    return found


# %%
if all(solved(f"hw2.q1{part}") for part in "abcde"):
    errors = judged()
    fig, ax = plt.subplots()
    ax.bar(list(errors), [max(e, 1e-16) for e in errors.values()], color=PALETTE["yours"])
    ax.tick_params(axis="x", labelsize=8)
    bound(ax, 1e-6, "a wrong rule lies above")
    ax.set(yscale="log", ylim=(1e-16, 1), ylabel="difference from nudging (share)")
    off = [name for name, error in errors.items() if not error < 1e-6]
    agreed = f"your rules agree with nudging to {max(errors.values()):.0e}"
    ax.set_title("Measured: " + (f"nudging disagrees with {', '.join(off)}" if off else agreed))
    show(fig)
else:
    print("This figure waits for q1a to q1e.")

# %% [markdown]
# Nudging is an honest judge of what it is asked. It was not asked about float32, ties or empty arrays.
#
# ## Part 2. What does an engine do?
#
# From here on a **program** is a list of steps. Step i is `(operation, inputs, options)`: a name, a tuple with
# numbers of **earlier** steps, a dict. Its result is **value** i. The operations `"input"` and `"constant"` have
# no inputs.

# %%
OPERATIONS = {
    "constant": lambda value: value,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "maximum": np.maximum,
    "matmul": np.matmul, "exp": np.exp, "log": np.log, "tanh": np.tanh,
    "sum": np.sum, "mean": np.mean, "max": np.max,
    "index": lambda x, key: x[key],
}  # fmt: skip


def run(program, inputs, operations=OPERATIONS):
    """The values of all steps; inputs: name -> array."""
    values = []
    for operation, places, options in program:
        if operation == "input":
            values.append(inputs[options["name"]])
        else:
            values.append(operations[operation](*(values[i] for i in places), **options))
    return values


# (x y) + x
example = [
    ("input", (), {"name": "x"}),
    ("input", (), {"name": "y"}),
    ("mul", (0, 1), {}),
    ("add", (2, 0), {}),
]
run(example, {"x": np.array([1.0, 2.0]), "y": np.array([3.0, 4.0])})

# %% [markdown]
# The engine goes from the root to step 0 once. When it comes to a step, all steps that use its value have been
# visited, so its gradient is complete: the **sum** over its uses. The step's rule then gives one gradient for
# each of its inputs. `PLAIN_RULES` shows what a rule looks like.

# %%
# rule(g, value, *inputs, **options): one gradient for each input, in a tuple.
PLAIN_RULES = {  # for arrays of one shape
    "add": lambda g, value, a, b: (g, g),
    "mul": lambda g, value, a, b: (np.multiply(g, b), np.multiply(g, a)),
    "tanh": lambda g, value, x: (g * (1 - value**2),),
}


def go_back(program, inputs, seed):
    """Run a program and go back from its last step, with PLAIN_RULES; given."""
    return gradients(program, run(program, inputs), len(program) - 1, seed, PLAIN_RULES)


# %% [markdown]
# Three traps. The rule of `add` returns one array twice: whoever adds into it in place changes both. A rule may
# give a wider dtype than that of the value, and the next rule should not see it. Recursion ends at 1,000 steps;
# here are up to 30,000.
#
# **q2a (35 min, 10 points).** Call a rule once for each step that the root depends on, and never for a step
# without inputs. About 10 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q2a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def gradients(program, values, root, seed, rules):
    """Go backward through a program.

    Args:
        program: list of steps.
        values: the value of each step.
        root: number of the step to start from.
        seed: gradient for the root's value, of its shape and dtype.
        rules: operation -> rule(g, value, *inputs, **options), a tuple of arrays; the g that a rule
            is handed has the dtype of value.

    Returns:
        A list with the gradient for each value, of that value's dtype; None where the root does not
        depend on it.
    """
    ### BEGIN SOLUTION
    found = [None] * len(program)
    found[root] = seed
    for step in range(root, -1, -1):
        operation, inputs, options = program[step]
        if found[step] is None or not inputs:
            continue
        parts = rules[operation](found[step], values[step], *(values[i] for i in inputs), **options)
        for i, part in zip(inputs, parts, strict=True):
            part = np.asarray(part, dtype=values[i].dtype)
            found[i] = part if found[i] is None else found[i] + part
    return found
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Inputs come before their step in the list. So the list itself,
# read backward, is an order in which gradients can be handed on.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A list of Nones, the seed at the root, one loop from the root
# down to 0. Skip what has no gradient or no inputs. Make a new array for each sum.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`parts = rules[operation](found[step], values[step],
# *(values[i] for i in inputs), **options)`; then for each input `found[i] = part if found[i] is None else
# found[i] + part`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q2a-check", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
check("hw2.q2a", gradients, go_back)


# %% [markdown]
# Who trains only the last layer of a network wants few of these gradients. A rule has to be called only where a
# path leads from a wanted value to the root.
#
# **q2b (15 min, 5 points).** Find these steps, looking at each edge once or twice: a program may have 60,000
# steps. About 9 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q2b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def needed(program, wanted, root):
    """The steps that lie on a path from a wanted step to the root.

    Args:
        program: list of steps.
        wanted: list of step numbers whose gradients are wanted.
        root: number of the step to start from.

    Returns:
        Sorted list of step numbers; wanted steps and the root belong to their paths.
    """
    ### BEGIN SOLUTION
    after, wanted = set(), set(wanted)
    for step, (_, inputs, _) in enumerate(program):
        if step in wanted or any(i in after for i in inputs):
            after.add(step)
    before = {root}
    for step in range(root, -1, -1):
        if step in before:
            before.update(program[step][1])
    return sorted(after & before)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Two questions for each step: does it depend on a wanted one,
# and does the root depend on it?</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>One pass forward marks what depends on a wanted step, one
# pass backward marks what the root depends on. The answer is what has both marks.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>Forward: `if step in wanted or any(i in after for i in
# inputs): after.add(step)`. Backward from the root: a marked step marks its inputs.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q2b-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q2b", needed)

# %% [markdown]
# **Predict.** A network of 12 layers, each with a matrix product, a bias and a ReLU; 12 weights and 12 biases are
# inputs. Only the last 2 layers are trained. Which share of all rule calls is left, from 0 to 1?

# %% tags=["predict"]
# Your guess; not graded.
### BEGIN SOLUTION
predicted_share = 0.5
### END SOLUTION

# %%
def deep_program(layers):
    """x -> maximum(x w + b, 0) in each layer; the inputs of each layer, and the program."""
    program = [("input", (), {"name": "x"}), ("constant", (), {"value": np.float32(0)})]
    parameters, last = [], 0
    for layer in range(layers):
        w = len(program)
        program += [("input", (), {"name": f"w{layer}"}), ("input", (), {"name": f"b{layer}"})]
        program += [("matmul", (last, w), {}), ("add", (w + 2, w + 1), {})]
        program.append(("maximum", (w + 3, 1), {}))
        parameters.append([w, w + 1])
        last = w + 4
    return program, parameters


# %%
if solved("hw2.q2b"):
    deep, layers = deep_program(12)
    trained = range(1, 13)
    wanted = [list(itertools.chain(*layers[-n:])) for n in trained]
    on_path = [needed(deep, places, len(deep) - 1) for places in wanted]
    calls = np.array([sum(bool(deep[step][1]) for step in steps) for steps in on_path])
    fig, ax = plt.subplots()
    ax.plot(trained, calls / calls.max(), "o-", color=PALETTE["yours"], label="your count")
    prediction(ax, 2, predicted_share)
    ax.set(xlabel="layers trained, from the end", ylabel="rule calls (share of all)", ylim=(0, 1.1))
    ax.set_title("Counted: backward stops where nothing further back is wanted")
    show(fig)
else:
    print("This figure waits for q2b.")


# %% [markdown]
# Nobody writes programs as lists. A `Tensor` stands for a value while ordinary Python runs, and each operation
# writes a step on its **tape**. Given, but for the one function that all five operators call.

# %%
class Tape:
    """A program while it is written, and the values of its steps. Given; the tests use it."""

    def __init__(self):
        self.program, self.values = [], []

    def step(self, operation, inputs=(), **options):
        """Write a step, run it; the Tensor of its value."""
        value = OPERATIONS[operation](*(self.values[i] for i in inputs), **options)
        return self.write((operation, tuple(inputs), options), value)

    def write(self, step, value):
        self.program.append(step)
        self.values.append(value)
        return Tensor(self, len(self.values) - 1)


def trace(function, *arrays):
    """Call function with Tensors x0, x1, ... of the arrays: (program, values, root)."""
    tape = Tape()
    names = [f"x{place}" for place in range(len(arrays))]
    tensors = [tape.write(("input", (), {"name": n}), a) for n, a in zip(names, arrays, strict=True)]
    root = function(*tensors).place
    return tape.program, tape.values, root


# %%
class Tensor:
    """Value number `place` of a tape."""

    __array_ufunc__ = None  # so that `array + tensor` comes to __radd__ below

    def __init__(self, tape, place):
        self.tape, self.place = tape, place
        self.shape, self.dtype = np.shape(tape.values[place]), np.asarray(tape.values[place]).dtype

    def __add__(self, other): return combine("add", self, other)
    def __radd__(self, other): return combine("add", other, self)
    def __sub__(self, other): return combine("sub", self, other)
    def __rsub__(self, other): return combine("sub", other, self)
    def __mul__(self, other): return combine("mul", self, other)
    def __rmul__(self, other): return combine("mul", other, self)
    def __truediv__(self, other): return combine("div", self, other)
    def __rtruediv__(self, other): return combine("div", other, self)
    def __matmul__(self, other): return combine("matmul", self, other)
    def __rmatmul__(self, other): return combine("matmul", other, self)
    def maximum(self, other): return combine("maximum", self, other)

    def exp(self): return self.tape.step("exp", [self.place])
    def log(self): return self.tape.step("log", [self.place])
    def tanh(self): return self.tape.step("tanh", [self.place])
    def sum(self, **options): return self.tape.step("sum", [self.place], **options)
    def mean(self, **options): return self.tape.step("mean", [self.place], **options)
    def max(self, **options): return self.tape.step("max", [self.place], **options)
    def __getitem__(self, key): return self.tape.step("index", [self.place], key=key)


# %% [markdown]
# In `2 * x` one side is no Tensor. It becomes a step `"constant"` with the option `value`. **A single number of any
# kind (no axes) takes the dtype of the Tensor beside it**; an array with axes keeps its own. Tensors of two tapes
# do not mix.
#
# **q2c (35 min, 7 points).** About 10 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q2c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def combine(operation, left, right):
    """Write a step with two operands, at least one of them a Tensor.

    Args:
        operation: "add", "sub", "mul", "div", "maximum" or "matmul".
        left, right: Tensors, numbers or arrays; in this order they go into the operation.

    Returns:
        The Tensor of the result.

    Raises:
        ValueError: two Tensors of different tapes.
    """
    ### BEGIN SOLUTION
    beside = left if isinstance(left, Tensor) else right
    places = []
    for operand in (left, right):
        if not isinstance(operand, Tensor):
            value = np.asarray(operand)
            value = value if value.ndim else value.astype(beside.dtype)
            operand = beside.tape.step("constant", value=value)
        elif operand.tape is not beside.tape:
            raise ValueError("the two tensors lie on different tapes: trace them together")
        places.append(operand.place)
    return beside.tape.step(operation, places)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Find a Tensor among the two: it has the tape, and the dtype
# for a single number. Then bring both sides to places on that tape.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>For a side that is no Tensor: `np.asarray`, the dtype if it
# has no axes, and `tape.step("constant", value=...)`, which gives a Tensor. For one that is: is its tape
# the same?</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`value = np.asarray(operand)`; `value if value.ndim else
# value.astype(beside.dtype)`; at the end `beside.tape.step(operation, places)`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q2c-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw2.q2c", combine, Tape)


# %% [markdown]
# ## Part 3. What does an optimiser remember?
#
# The **global norm** is the root of the sum of all squares, over all gradients together. If it is larger than a
# limit, clipping scales all gradients by limit / norm (Pascanu and others, *On the difficulty of training
# recurrent neural networks*, 2013); else it leaves them as they are.
#
# Sum the squares in **float64**: 1e30 is a float32, its square is not. And mind what a float64 number does to a
# float32 array that it multiplies.

# %%
def after_clip(gradients, limit):
    """The gradients once clip has seen them. Given; the tests use it."""
    clip(gradients, limit)
    return gradients


# %% [markdown]
# **q3a (15 min, 5 points).** About 4 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q3a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def clip(gradients, limit):
    """Scale gradients down to a global norm.

    Args:
        gradients: list of arrays.
        limit: largest global norm, above 0.

    Returns:
        (list of arrays of the same shapes and dtypes, the norm before clipping as a float). Where a
        gradient holds a nan, the norm is nan and nothing is scaled: every number comes back as it
        was. The arrays given are not changed.
    """
    ### BEGIN SOLUTION
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = limit / norm if norm > limit else 1.0
    return [(g * scale).astype(g.dtype) for g in gradients], norm
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>One number for all gradients decides; no gradient is scaled
# alone.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A sum over all arrays of their sums of squares, a root, and a
# factor that is 1 unless the norm is above the limit.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`np.square(g, dtype=np.float64)` squares in float64; `(g *
# scale).astype(g.dtype)` keeps the dtype.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q3a-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q3a", clip, after_clip)


# %% [markdown]
# **AdamW** (Loshchilov and Hutter, 2019). For a parameter p with gradient g, its t-th update at the rate η is:
#
# - m ← β₁ m + (1 − β₁) g and v ← β₂ v + (1 − β₂) g², both from 0
# - m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ)
# - p ← p − η λ p − η m̂ / (√v̂ + ε), with the old p on the right
#
# A gradient of None leaves the parameter and its m, v and t alone: t counts the updates of **that parameter**. The
# decay λ never goes through m or v.

# %%
def after_adamw(parameters, gradients):
    """The parameters and gradients once adamw has seen them. Given; the tests use it."""
    adamw(parameters, gradients, {}, 0.1)
    return parameters, gradients


def twice_from_one_state(parameters, first, second):
    """One update with first, then two with second from the state after it. Given, for the tests."""
    parameters, state = adamw(parameters, first, {}, 0.1)
    return [adamw(parameters, second, state, 0.1)[0] for _ in range(2)]


# %% [markdown]
# **q3b (30 min, 8 points).** About 12 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q3b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def adamw(parameters, gradients, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """One update of all parameters.

    Args:
        parameters: list of arrays.
        gradients: list of arrays of the same shapes, or None.
        state: {} for the first update, later what the last one returned; what is in it is up to you.
        lr, betas, eps, weight_decay: the symbols (beta_1, beta_2), epsilon, lambda above; lr is eta.

    Returns:
        (list of new parameters with shapes and dtypes as before, new state). Nothing given is
        changed, neither the arrays nor state and what is in it: a second call from one state gives
        the same.
    """
    ### BEGIN SOLUTION
    moved, remembered = [], dict(state)
    for place, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if g is None:
            moved.append(p)
            continue
        t, m, v = remembered.get(place, (0, np.zeros_like(p), np.zeros_like(p)))
        t, m, v = t + 1, betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        step = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        moved.append((p - lr * weight_decay * p - lr * step).astype(p.dtype))
        remembered[place] = (t, m, v)
    return moved, remembered
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Keep three things for each parameter: t, m and v. Take them
# out, bring them up to date, use them, put them back.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`state` can be a dict from the parameter's place in the list
# to (t, m, v), with zeros where there is none yet.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`step = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 -
# betas[1] ** t)) + eps)`, then `p - lr * weight_decay * p - lr * step`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q3b-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw2.q3b", adamw, after_adamw, twice_from_one_state)


# %% [markdown]
# Over a training run of `total` steps, counted from 0, the rate often rises in a line and falls along half a cosine:
#
# - step s < warmup: peak · (s + 1) / warmup
# - after that, with q = (s − warmup) / (total − warmup): floor + (peak − floor) · (1 + cos πq) / 2
# - from step `total` on: floor
#
# Here the last step of the warmup has the peak already. The course's `optim.WarmupCosineLR` divides by warmup + 1
# and has it one step later; both are in use.
#
# **q3c (10 min, 3 points).** About 4 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q3c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def learning_rate(step, peak, warmup, total, floor):
    """The rate at a step: a line up, half a cosine down, then flat.

    Args:
        step: whole number from 0.
        peak, floor: the highest and the lowest rate.
        warmup, total: whole numbers of steps; 0 <= warmup < total.
    """
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min((step - warmup) / (total - warmup), 1.0)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Three stretches, one after another. The third is the second
# with q held at 1.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>An `if` for the line, then q, at most 1, and the
# formula.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>At q = 1 the formula gives the floor, so `min` spares the third
# case. `math.cos` and `math.pi`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q3c-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw2.q3c", learning_rate)


# %% [markdown]
# Does it matter where the decay stands? Older code adds λp to the gradient. The next cell gives five parameters
# gradients that are pure noise, of scales 0.01 to 100, and looks at what is left of each.

# %%
def share_left(decoupled, updates=400):
    """What is left of five parameters that start at 1, under noise of five scales."""
    scales, dice = np.logspace(-2, 2, 5), np.random.default_rng(0)
    p, state = [np.ones((5, 2000))], {}
    for _ in range(updates):
        g = scales[:, None] * dice.normal(size=(5, 2000))
        if decoupled:
            p, state = adamw(p, [g], state, lr=0.01, weight_decay=0.1)
        else:
            p, state = adamw(p, [g + 0.1 * p[0]], state, lr=0.01, weight_decay=0.0)
    return scales, p[0].mean(axis=1)


if solved("hw2.q3b"):
    fig, ax = plt.subplots()
    shares = {"your AdamW": share_left(True), "decay in the gradient": share_left(False)}
    for (name, (scales, left)), color in zip(shares.items(), ("yours", "idle"), strict=True):
        ax.semilogx(scales, left, "o-", color=PALETTE[color], label=name)
    bound(ax, (1 - 0.01 * 0.1) ** 400, "(1 - lr x decay) to the 400")
    ax.set(xlabel="scale of the gradient's noise", ylabel="share of the parameter left")
    ax.set_ylim(-0.1, 1.2)
    ax.legend(loc="upper left")
    ax.set_title("Measured: decay in the gradient depends on the gradient")
    show(fig)
    for name, (scales, left) in shares.items():
        said = [f"{share:.2g} at {scale:g}" for scale, share in zip(scales, left, strict=True)]
        print(f"{name}, share left at each scale:", ", ".join(said))
else:
    print("This figure waits for q3b.")


# %% [markdown]
# Adam divides by the size of the gradient. A decay that stands inside is divided too: it hardly acts where gradients
# are large, and far too strongly where they are small.
#
# Now all of it: your rules, engine, recorder, clipping, AdamW and schedule train a network on digits. Beside it
# the course's engine, `mlsys_lab.autograd`, with your optimiser.

# %%
def elementwise_rule(operation, g, value, a, b):
    return elementwise_vjp(operation, g, a, b)


def reduce_rule(operation, g, value, x, **how):
    return (reduce_vjp(operation, g, x, **how),)


RULES = {
    **{name: partial(elementwise_rule, name) for name in ("add", "sub", "mul", "div", "maximum")},
    **{name: partial(reduce_rule, name) for name in ("sum", "mean", "max")},
    "matmul": lambda g, value, a, b: matmul_vjp(g, a, b),
    "index": lambda g, value, x, key: (index_vjp(g, x.shape, key),),
    "exp": lambda g, value, x: (g * value,),
    "log": lambda g, value, x: (g / x,),
    "tanh": PLAIN_RULES["tanh"],
}

# %%
SIZES = {"w1": (64, 32), "b1": (32,), "w2": (32, 10), "b2": (10,)}
dice = np.random.default_rng(0)
start = [dice.normal(0, 0.2, shape).astype(np.float32) for shape in SIZES.values()]
batches = dice.integers(0, len(images), (120, 64))  # 120 steps, 64 images each


# %%
def network_loss(w1, b1, w2, b2, x, labels):
    """Cross-entropy of two layers, written with operators only."""
    logits = (x @ w1 + b1).maximum(0) @ w2 + b2  # (64, 10)
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = shifted[(np.arange(len(labels)), labels)]
    return (shifted.exp().sum(axis=1).log() - right).mean()


def yours(parameters, batch):
    """Loss and gradients by your engine."""
    labels = digits[batch]
    program, values, root = trace(lambda *p: network_loss(*p, labels), *parameters, images[batch])
    seed = np.ones_like(values[root])
    return values[root], gradients(program, values, root, seed, RULES)[:4]


# %%
from mlsys_lab import autograd as ag


def the_courses(parameters, batch):
    """Loss and gradients by the course's engine."""
    w1, b1, w2, b2 = tensors = [ag.Tensor(p, requires_grad=True) for p in parameters]
    logits = ag.maximum(ag.Tensor(images[batch]) @ w1 + b1, 0.0) @ w2 + b2
    loss = ag.cross_entropy(logits, digits[batch])
    loss.backward()
    return loss.item(), [t.grad.numpy() for t in tensors]


def train(engine):
    """The losses of 120 updates."""
    parameters, state, losses = start, {}, []
    for step, batch in enumerate(batches):
        loss, found = engine(parameters, batch)
        found, _ = clip(found, 1.0)
        rate = learning_rate(step, 0.02, 10, 120, 0.001)
        parameters, state = adamw(parameters, found, state, rate)
        losses.append(loss)
    return np.array(losses, dtype=float), parameters


# %%
parts = ("q1a", "q1b", "q1c", "q1d", "q1e", "q2a", "q2c", "q3a", "q3b", "q3c")
if all(solved(f"hw2.{part}") for part in parts):
    (own, trained_parameters), (theirs, _) = train(yours), train(the_courses)
    fig, ax = plt.subplots()
    ax.plot(theirs, color=PALETTE["reference"], lw=5, alpha=0.35, label="the course's engine")
    ax.plot(own, color=PALETTE["yours"], lw=1.5, label="your engine")
    ax.set(xlabel="update", ylabel="loss (nats per image)", ylim=(0, None))
    ax.legend()
    gap = np.abs(own - theirs).max()
    ax.set_title(f"Measured: two engines, their losses at most {gap:.1g} apart")
    show(fig)
    print("every parameter still float32:", all(p.dtype == np.float32 for p in trained_parameters))
else:
    print("This figure waits for q1, q2a, q2c and q3.")


# %% [markdown]
# ## Part 4. What can be known before anything runs?
#
# A framework that holds the program can look at it first. **q4a (40 min, 5 points).** Shapes and dtypes of all
# values, from those of the inputs. Nothing is computed: the arrays may be too large for any machine.
#
# `add`, `sub`, `mul`, `div`, `maximum` broadcast; `matmul` as in q1c; `exp`, `log`, `tanh` keep the shape;
# `sum`, `mean`, `max` have the options `axis` (None where it is missing) and `keepdims` (False). Of two dtypes the
# result has `np.result_type`. About 25 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q4a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def infer(program, inputs):
    """The shape and dtype of each value.

    Args:
        program: list of steps; all floating-point, without "index".
        inputs: name -> (shape, dtype), a tuple and a str.

    Returns:
        List of (shape, dtype), tuples of ints and dtype names such as "float32".

    Raises:
        ValueError: shapes that do not fit, or an axis that is not there; the message says which step,
            as in "step 3".
    """
    ### BEGIN SOLUTION
    known = []
    for place, (operation, given, options) in enumerate(program):
        shapes, dtypes = [known[i][0] for i in given], [known[i][1] for i in given]
        if operation == "input":
            shape, dtype = inputs[options["name"]]
        elif operation == "constant":
            shape, dtype = options["value"].shape, options["value"].dtype
        else:
            shape, dtype = shapes[0], np.result_type(*dtypes)
        try:
            if operation == "matmul":
                (*front, n, k), (*behind, same, m) = shapes
                if k != same:
                    raise ValueError(f"{k} columns times {same} rows")
                shape = (*np.broadcast_shapes(tuple(front), tuple(behind)), n, m)
            elif operation in ("sum", "mean", "max"):
                axis, ndim = options.get("axis"), len(shape)
                axes = range(ndim) if axis is None else [int(a) for a in np.atleast_1d(axis)]
                if any(not -ndim <= a < ndim for a in axes):
                    raise ValueError(f"axis {axis} of the shape {shape}")
                axes = [a % ndim for a in axes]
                sizes = [1 if i in axes else size for i, size in enumerate(shape)]
                keep = options.get("keepdims", False)
                shape = [size for i, size in enumerate(sizes) if keep or i not in axes]
            elif len(given) == 2:
                shape = np.broadcast_shapes(*shapes)
        except ValueError as error:
            raise ValueError(f"step {place}, {operation}: {error}") from None
        known.append((tuple(shape), np.dtype(dtype).name))
    return known
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Walk through the program as `run` does, and carry (shape,
# dtype) where it carries values. Four kinds of steps: those without inputs, elementwise, matmul,
# reductions.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`np.broadcast_shapes` works on shapes alone and raises
# ValueError. matmul: broadcast all but the last two axes, compare k, put n and m behind. Catch ValueError
# and raise it anew with the step's number.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>reduction: is -ndim <= a < ndim? Then `a % ndim` for each;
# drop these places or put 1 there. Names: `np.dtype(dtype).name`. Around all: `except ValueError as error: raise
# ValueError(f"step {place}: {error}")`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q4a-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q4a", infer)


# %% [markdown]
# **q4b (55 min, 7 points).** Make a program smaller that gives the same root:
#
# 1. **Fold**: a step all of whose inputs are constants is computed now, once, and becomes a constant itself.
# 2. **Merge**: of two equal steps (operation, options, inputs, after merging these) one stays.
# 3. **Drop** the steps that the root does not need; also after folding.
#
# `"random"` gives new numbers each time: neither fold nor merge it. A step without inputs is not one whose inputs
# are all constants. Constants are equal if dtype, shape and every bit are; `fingerprint` writes that
# down. Inputs are equal in the same order only: `a + b` and `b + a` stay two steps. About 28 lines.

# %%
def fingerprint(options):
    """Text that is the same for equal options: arrays by dtype, shape and bytes, the rest by repr."""

    def said(value):
        if isinstance(value, np.ndarray | np.generic):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, slice):
            return "slice", said(value.start), said(value.stop), said(value.step)
        if isinstance(value, tuple | list):
            return type(value).__name__, [said(part) for part in value]
        return repr(value)

    return repr([(name, said(options[name])) for name in sorted(options)])


fingerprint({"axis": 0}), fingerprint({"value": np.float32([1, 2])})


# %% nbgrader={"grade": false, "grade_id": "hw2-q4b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def simplify(program, root, operations):
    """Fold, merge and drop.

    Args:
        program: list of steps.
        root: number of the step whose value is wanted.
        operations: operation -> function(*inputs, **options), to fold with.

    Returns:
        (new program, number of the root in it).
    """
    ### BEGIN SOLUTION
    def used(steps, end):
        """The steps that end needs, in order."""
        marked = {end}
        for i in range(end, -1, -1):
            if i in marked:
                marked.update(steps[i][1])
        return sorted(marked)

    new, place, known = [], {}, {}
    for i in used(program, root):
        operation, inputs, options = program[i]
        inputs = tuple(place[j] for j in inputs)
        pure = operation != "random"
        if pure and inputs and all(new[j][0] == "constant" for j in inputs):
            folded = operations[operation](*(new[j][2]["value"] for j in inputs), **options)
            operation, inputs, options = "constant", (), {"value": folded}
        same = (operation, inputs, fingerprint(options))
        if pure and same in known:
            place[i] = known[same]
        else:
            place[i] = known[same] = len(new)
            new.append((operation, inputs, options))
    small, number = [], {}
    for i in used(new, place[root]):
        operation, inputs, options = new[i]
        number[i] = len(small)
        small.append((operation, tuple(number[j] for j in inputs), options))
    return small, number[place[root]]
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Write a new program while walking through the old one, and
# remember for each old step where its value is now. Folding and merging happen on the way; dropping is a
# walk backward.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A dict from old number to new number, a dict from (operation,
# new inputs, fingerprint) to new number. A small function that marks what a step needs is used twice,
# before and after.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`inputs = tuple(place[j] for j in inputs)`; if all are
# constants: compute, and it is now a `("constant", (), {"value": ...})`; then look it up in `known`. At the
# end number what is left anew.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q4b-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("hw2.q4b", simplify)


# %% [markdown]
# **q4c (20 min, 5 points).** A value is **live** from the step that makes it to the last step that uses it, both
# included. A value that no step uses is live during its own step. Values in `keep` are live from their step to the
# program's end. How many bytes are live during each step? A program may have 60,000 steps, and `keep` as many
# numbers: go through each a few times, not once for each step. About 13 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q4c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def live_bytes(program, sizes, keep):
    """Bytes live during each step.

    Args:
        program: list of steps; those without inputs count like all others.
        sizes: bytes of each value.
        keep: list of steps whose values must stay.

    Returns:
        List of ints, one for each step.
    """
    ### BEGIN SOLUTION
    last = list(range(len(program)))
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step
    for step in keep:
        last[step] = len(program)
    freed = [0] * (len(program) + 1)
    live, found = 0, []
    for step, size in enumerate(sizes):
        live += size
        freed[last[step]] += size
        found.append(live)
        live -= freed[step]
    return found
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>First find for each value the last step that uses it. Then
# count: a step adds its own bytes, and after it those go whose last use it was.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A list `last`, written by one pass over all inputs; a list of
# bytes that go after each step; a running sum.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>In each step, in this order: add its bytes, note them under
# the step after which they go, write the sum down, take off what goes now. What has to stay goes after the
# program's end.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q4c-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q4c", live_bytes)


# %%
def attention():
    """One head of attention over 256 tokens, written carelessly; and the shapes of its inputs."""
    program = []

    def step(operation, *inputs, **options):
        program.append((operation, inputs, options))
        return len(program) - 1

    x, x_t, w_q, w_k, w_v = (step("input", name=name) for name in ("x", "x_t", "w_q", "w_k", "w_v"))
    half, width = step("constant", value=np.float32(0.5)), step("constant", value=np.float32(64))
    root_of_width = step("exp", step("mul", half, step("log", width)))
    products = [step("matmul", step("matmul", x, w_q), step("matmul", w_k, x_t)) for _ in range(2)]
    scores, again = (step("div", product, root_of_width) for product in products)
    step("tanh", scores)  # was once looked at
    raised = step("exp", step("sub", scores, step("max", again, axis=-1, keepdims=True)))
    shares = step("div", raised, step("sum", raised, axis=-1, keepdims=True))
    step("mean", step("matmul", shares, step("matmul", x, w_v)))
    weights = dict.fromkeys(("w_q", "w_k", "w_v"), ((64, 64), "float32"))
    return program, {"x": ((256, 64), "float32"), "x_t": ((64, 256), "float32"), **weights}


# %% [markdown]
# Three counts. Forward alone lets each value go after its last use; the program before backward keeps all of them.
# So "backward to come" lies above "as written" although it has fewer steps: compare it with the last curve.

# %%
if all(solved(f"hw2.q4{part}") for part in "abc"):
    careless, given_shapes = attention()
    careful, careful_root = simplify(careless, len(careless) - 1, OPERATIONS)
    fig, ax = plt.subplots()
    for steps, kept, color, name in (
        (careless, [len(careless) - 1], "idle", "as written, forward only"),
        (careful, range(len(careful)), "memory", "yours, backward to come"),
        (careful, [careful_root], "yours", "yours, forward only"),
    ):
        known = infer(steps, given_shapes)
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in known]
        live = np.array(live_bytes(steps, sizes, list(kept))) / 1e6
        label = f"{name}: {len(live)} steps, at most {live.max():.2f} MB"
        ax.step(range(len(live)), live, where="mid", color=PALETTE[color], label=label)
    ax.set(xlabel="step", ylabel="live values (MB)", ylim=(0, 2.4))
    ax.legend(loc="upper left")
    ax.set_title("Computed, nothing ran: backward keeps what forward could let go")
    show(fig)
else:
    print("This figure waits for q4a to q4c.")

# %% [markdown]
# Forward alone needs a few values at a time. Backward comes in the opposite order, so what was made first is needed
# last, and everything waits.
#
# ## Part 5. What if it does not fit?
#
# Checkpointing (Chen and others, *Training Deep Nets with Sublinear Memory Cost*, 2016) keeps some values and
# computes the others again. Take a chain: value 0 is given, step i makes value i from value i − 1, for i = 1 to n.
# Going back through step i needs value i − 1.

# %%
# A chain of n = 4 steps: bytes of values 0 to 4, and operations of steps 1 to 4 (step 0 is none).
chain_sizes = [10, 20, 30, 40, 50]
chain_costs = [0, 1, 2, 3, 4]


# %% [markdown]
# The forward pass holds value 0 and the values in `kept`, from 1 to n − 1. They cut the chain into **segments**. From
# the last to the first: compute a segment's other values again from the one at its start, hold them all, go back
# through the segment, then free them and that start. Not counted: value n, which is handed on; gradients; what the
# forward pass holds for a moment.
#
# With kept = [2], the last segment holds values 0, 2, 3: 80 bytes; then the first 0, 1: 30. The peak is 80;
# steps 1 and 3 run twice: 4 extra operations.
#
# **q5a (20 min, 5 points).** About 7 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q5a", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def plan_cost(sizes, costs, kept):
    """What a plan holds at most, and what it computes again.

    Args:
        sizes: bytes of values 0 to n.
        costs: operations of steps 0 to n, the first 0.
        kept: list of different numbers from 1 to n - 1, in any order.

    Returns:
        (peak, extra): the most bytes held while any segment is gone through, and the operations of
        all steps that run twice. Two ints.
    """
    ### BEGIN SOLUTION
    n, held, peak = len(sizes) - 1, 0, 0
    for start, end in itertools.pairwise([0, *sorted(kept), n]):
        held += sizes[start]
        peak = max(peak, held + sum(sizes[start + 1 : end]))
    return peak, sum(costs[i] for i in range(1, n) if i not in kept)
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>Which values are there while a segment is gone through? All
# starts up to its own, and the values inside it. Later starts are gone already.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`itertools.pairwise([0, *sorted(kept), n])` gives each
# segment's start and end. The value at the end belongs to the next segment.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>A running sum of the starts. In each segment the values strictly
# between start and end come on top; the largest of these is the peak. Of the steps 1 to n - 1, which run
# twice?</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q5a-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q5a", plan_cost)


# %% [markdown]
# **q5b (15 min, 4 points).** Choose the plan with the fewest extra operations that keeps within a budget. Chains have at
# most 12 steps, so you may try all plans. About 9 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q5b", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def choose_kept(sizes, costs, budget):
    """The cheapest plan within a budget.

    Args:
        sizes, costs: as in plan_cost; at most 13 values.
        budget: largest peak, bytes.

    Returns:
        Sorted list of kept values with the fewest extra operations whose peak is at most the budget
        (any one of several); None where no plan keeps within it.
    """
    ### BEGIN SOLUTION
    inner, best = range(1, len(sizes) - 1), None
    for count in range(len(inner) + 1):
        for kept in itertools.combinations(inner, count):
            peak, extra = plan_cost(sizes, costs, kept)
            if peak <= budget and (best is None or extra < best[0]):
                best = extra, list(kept)
    return best and best[1]
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>There are at most 2 to the 11 plans. Ask `plan_cost` about
# each.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>`itertools.combinations(range(1, n), count)` for every count,
# and the best so far. The empty plan is a plan, and it is false in an `if`.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>`if peak <= budget and (best is None or extra < best[0])`:
# remember extra and the plan.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q5b-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("hw2.q5b", choose_kept)

# %% [markdown]
# **Predict.** 12 steps, values of 1 MB, all steps equally dear. With all values kept (extra 0) backward finds 12 MB
# (values 0 to 11). The plan `[]` peaks at 12 MB too, since its one segment is the whole chain, but runs 11 steps twice.
# What is the least peak of any plan, in MB?

# %% tags=["predict"]
# Your guess; not graded.
### BEGIN SOLUTION
predicted_peak = 6.0
### END SOLUTION

# %%
if solved("hw2.q5a") and solved("hw2.q5b"):
    sizes, costs = [1] * 13, [0] + [1] * 12
    plans = [list(p) for count in range(12) for p in itertools.combinations(range(1, 12), count)]
    every = np.array([plan_cost(sizes, costs, plan) for plan in plans])
    budgets = range(every[:, 0].min(), 13)
    best = np.array([plan_cost(sizes, costs, choose_kept(sizes, costs, b)) for b in budgets])
    fig, ax = plt.subplots()
    ax.plot(*every.T, "o", color=PALETTE["idle"], ms=4, label=f"all {len(plans):,} plans")
    ax.plot(*best.T, "o-", color=PALETTE["yours"], label="your choices")
    prediction(ax, predicted_peak, best[0, 1])
    ax.set(xlabel="peak (MB)", ylabel="steps computed again", xlim=(0, 14), ylim=(-0.5, 12.5))
    ax.legend(loc="lower left")
    ax.set_title(f"Model: {best[0, 0]} MB instead of 12 for {best[0, 1]} of 12 steps computed again")
    show(fig)
else:
    print("This figure waits for q5a and q5b.")


# %%
def measured_peak(kept, n=24, width=1 << 16):
    """The most that NumPy asks for while a chain of n tanh runs with a plan, in values. Given."""
    first = np.linspace(-1, 1, width)

    def back(i, value, g):
        return g / np.cosh(value) ** 2

    tracemalloc.start()
    checkpointed(lambda i, value: np.tanh(value), back, np.ones_like, first, n, kept)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return 1 + peak / first.nbytes  # value 0 was there before


# %% [markdown]
# **q5c (25 min, 4 points).** Run it. Compute nothing that is already held, free what is done with, compute a segment again
# only when its turn has come. `measured_peak` above measures what is held. About 12 lines.

# %% nbgrader={"grade": false, "grade_id": "hw2-q5c", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def checkpointed(forward, backward, seed, x, n, kept):
    """Run a chain of n steps forward and backward, holding only what a plan keeps.

    Args:
        forward: forward(i, value i - 1) -> value i.
        backward: backward(i, value i - 1, gradient for value i) -> gradient for value i - 1.
        seed: seed(value n) -> gradient for value n; called once, after the forward pass.
        x: value 0.
        n: number of steps, at least 1.
        kept: list of different numbers from 1 to n - 1, in any order.

    Returns:
        (value n, gradient for value 0).
    """
    ### BEGIN SOLUTION
    held, value = {0: x}, x
    for i in range(1, n + 1):
        value = forward(i, value)
        if i in kept:
            held[i] = value
    g = seed(value)
    for start, end in reversed(list(itertools.pairwise([*held, n]))):
        inside = [held.pop(start)]
        for i in range(start + 1, end):
            inside.append(forward(i, inside[-1]))
        for i in range(end, start, -1):
            g = backward(i, inside.pop(), g)
    return value, g
    ### END SOLUTION


# %% [markdown] tags=["hint-1"]
# <details><summary>Hint 1: the idea</summary>First the forward pass, where only kept values stay. Then the
# segments from the last to the first, each computed again and gone back through.</details>

# %% [markdown] tags=["hint-2"]
# <details><summary>Hint 2: the shape</summary>A dict of held values; segments from `itertools.pairwise`
# over its keys and n; in a segment a list that grows by `forward` and shrinks by `backward`.</details>

# %% [markdown] tags=["hint-3"]
# <details><summary>Hint 3: nearly code</summary>Start a list with `held.pop(start)`; for i from start + 1
# to end - 1 append `forward(i, last of the list)`; for i from end down to start + 1 call `backward(i,
# list.pop(), g)`.</details>

# %% nbgrader={"grade": true, "grade_id": "hw2-q5c-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("hw2.q5c", checkpointed, measured_peak)

# %%
if solved("hw2.q5a") and solved("hw2.q5c"):
    lengths = [1, 2, 3, 4, 6, 8, 12, 24]
    plans = [list(range(length, 24, length)) for length in lengths]
    modelled = [plan_cost([1] * 25, [0] + [1] * 24, plan)[0] for plan in plans]
    measured = [measured_peak(plan) for plan in plans]
    fig, ax = plt.subplots()
    ax.plot(lengths, measured, "o-", color=PALETTE["yours"], label="measured, yours")
    ax.plot(lengths, modelled, "--", color=PALETTE["reference"], label="model: held values alone")
    ax.set(xlabel="steps in a segment, chain of 24", ylabel="peak (values)", ylim=(0, None))
    ax.legend(loc="upper center")
    least, most = min(measured), max(measured)
    length = lengths[measured.index(least)]
    ax.set_title(f"Measured: segments of {length} steps hold least, {least:.0f} values of {most:.0f}")
    show(fig)
else:
    print("This figure waits for q5a and q5c.")

# %% [markdown]
# Beside the values of the model the measured peak has what NumPy holds for a moment: a gradient or two, and parts of
# the rule.

# %% [markdown]
# ## Written answer
#
# **(30 min, 10 points, read by a person.)** A network of 24 equal steps; each value takes 1 GiB; 11 GiB are free for held
# values.
#
# | points | question |
# |---|---|
# | 3 | Of the plans with equal segments that fit, take the one with the fewest extra steps: what are its peak and its extra steps? Which segments would you make longer than others, and why? |
# | 3 | A colleague moves AdamW's decay into the gradient, "as it always was". Say with two numbers from your figure in part 3 what happens to which parameters. |
# | 2 | Name an error in a rule that comparing with nudging in float64 does not show, and a test that shows it. |
# | 2 | Clear, at most 200 words, every number with its unit or meaning. |

# %% [markdown] nbgrader={"grade": true, "grade_id": "hw2-written", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# Write here.

# %% [markdown] tags=["instructor"]
# ### Rubric for the written answer (instructors only)
#
# | points | for |
# |---|---|
# | 3 | Segments of 3 steps: 10 GiB and 16 extra steps (of 2: 13 GiB, too much; of 4: 9 GiB and 18). Early segments are gone through when few values are held, so they may be longer: 7 GiB with 17 extra steps is the least, and 11 GiB allow 13 extra steps. Any sound count of unequal segments gets the points. |
# | 3 | Adam divides by the size of the gradient, and a decay inside it is divided too. After 400 updates 0.67 of every parameter is left with AdamW; with the decay in the gradient 1.00 where the noise has the scale 100 (the decay does nothing) and 0.0004 where it has 0.01 (the parameter is gone). |
# | 2 | The dtype (float64 out of float32), a share at ties, an array that two gradients have in common, empty arrays, a place read twice; with a test that shows it. |
# | 2 | Clear, within 200 words, no number without its unit or meaning. |

# %% [markdown]
# ## What you now know
#
# A framework is a list of steps and a few passes over it: forward with values, backward with gradients, and passes
# that only look. A gradient has the shape and the dtype of what it belongs to. Memory goes into what backward
# needs, and arithmetic buys it back.
#
# **Where it is wrong.** Real programs branch, real allocators round and fragment, and going back through an
# operation can need other values than its input.
#
# **The real system.** [PyTorch's autograd
# mechanics](https://docs.pytorch.org/docs/stable/notes/autograd.html) and its
# [checkpointing](https://docs.pytorch.org/docs/stable/checkpoint.html).
