# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     limits:
#       memory_mb: 3072
#     minutes: 75
#     needs:
#     - torch
#     - tensorflow
#     - scikit-learn
#     parts:
#     - autograd
#     - compile
#     - nn
#     - optim
#     - viz
#     paths:
#     - training
#     points: 10
#     prerequisites:
#     - '04'
#     title: Why did the frameworks converge?
#     week: 3
# ---

# %% [markdown]
# # Why did the frameworks converge?
#
# | | |
# |---|---|
# | **Goal** | write a framework of the first kind, catch one of the second kind tracing too often, audit what is said of both |
# | **Time** | 75 minutes, 40 of them in three exercises |
# | **Points** | 10: evaluator 4, retraces 3, audit 3 |
# | **Parts** | `mlsys_lab.compile`, `autograd`, `nn`, `optim`; beside them PyTorch and TensorFlow |
# | **Before** | lab 04 |

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

# Theano: its HISTORY.txt; PyTorch 2: its wiki; TensorFlow: Wikipedia; Chainer: Tokui, 2015; JAX:
# Frostig, 2018. Options: Google's research blog, 2017; pytorch.org, The road to 1.0, 2018.
kinds = {"graph first": 1, "both": 0, "eager first": -1}
moves = {
    "Theano": ([("Theano", 2009.3, "graph first")], "idle"),
    "TF": ([("TensorFlow", 2015.9, "graph first"), ("TensorFlow 2", 2019.7, "both")], "memory"),
    "Chainer": ([("Chainer", 2015.4, "eager first")], "idle"),
    "PyTorch": ([("PyTorch", 2017.0, "eager first"), ("PyTorch 2", 2023.2, "both")], "compute"),
    "JAX": ([("JAX", 2018.9, "both")], "communication"),
}
asides = {"JAX": (-40, -4), "TensorFlow 2": (-25, -18), "PyTorch": (0, -18)}
fig, ax = plt.subplots()
for points, color in moves.values():
    ax.plot([p[1] for p in points], [kinds[p[2]] for p in points], "o-", color=PALETTE[color])
    for name, year, kind in points:
        aside = asides.get(name, (0, 9))
        where = {"xytext": aside, "textcoords": "offset points", "ha": "center", "gid": "said"}
        ax.annotate(f"{name}, {int(year)}", (year, kinds[kind]), **where)
ax.set(yticks=list(kinds.values()), yticklabels=kinds, ylim=(-1.5, 1.5), xlim=(2007, 2025))
ax.set_xlabel("year of release")
ax.set_title("From opposite ends, both came to offer both")
show(fig)

# %% [markdown]
# **Define-then-run** (elsewhere: define-and-run): Python writes a graph down, later something else runs it. **Eager**
# (define-by-run): each line runs as Python comes to it. TensorFlow and PyTorch each chose one and added the other, first
# as an option: TensorFlow's eager mode in 2017, PyTorch's TorchScript in 2018.
#
# ## Predict
#
# Tianqi Chen tells of 2012 (CMU 10-414/714, lecture 1): 44,000 lines and six months for one network. It is a story, not a
# measurement. A network of two convolutions and its training loop, without loading data: how many lines today?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_lines = 30
### END SOLUTION

# %% [markdown]
# ## A graph, defined
#
# The loss of a layer with one weight matrix, $\mathrm{mean}((\tanh(xw) - y)^2)$, and its gradient for $w$. `x` holds
# images (n, 64), `y` what is wanted (n, 10), `w` is (64, 10). Of the nodes, `slope` (n, 10) says how the loss changes with
# each score, `gradient` (64, 10) how it changes with each weight. Below nothing is computed: a table is filled.

# %%
import numpy as np

nodes = {}


def node(name, function=None, *inputs):
    """Write down how a value is computed; without a function it is one to be fed."""
    nodes[name] = (function, inputs)


for name in ("x", "w", "y"):
    node(name)

# %%
node("scores", np.matmul, "x", "w")
node("out", np.tanh, "scores")
node("off", np.subtract, "out", "y")
node("squares", np.square, "off")
node("loss", np.mean, "squares")
node("slope", lambda off, out: 2 * off * (1 - out**2) / off.size, "off", "out")
node("gradient", lambda x, slope: x.T @ slope, "x", "slope")


# %% [markdown]
# ## Build 1: then run (16 minutes)
#
# An evaluator gets such a table, what to **fetch** and what to **feed**. It computes each value after its inputs, once,
# and only what the fetched ones need: in topological order. Any value may be fed, then what leads to it is not needed.
# Graphs are deep: no recursion. About 11 lines.

# %% nbgrader={"grade": false, "grade_id": "lab05-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def run(nodes, fetches, feeds):
    """Values of a graph that was defined before.

    nodes: name -> (function, names of its arguments), in any order; function None: has to be fed.
    fetches: list of names; feeds: name -> value. Neither is changed.
    Returns the fetched values, a list. A needed value that nobody fed: ValueError with its name.
    """
    ### BEGIN SOLUTION
    values, ahead = dict(feeds), list(fetches)
    while ahead:
        function, inputs = nodes[ahead[-1]]
        lacking = [name for name in inputs if name not in values]
        if ahead[-1] in values:
            ahead.pop()
        elif function is None:
            raise ValueError(f"feed {ahead[-1]!r}")
        elif lacking:
            ahead += lacking
        else:
            values[ahead.pop()] = function(*(values[name] for name in inputs))
    return [values[name] for name in fetches]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab05-q1-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab05.q1", run)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Keep the values known so far in a dictionary that starts as the feeds, and a stack of names still wanted. Look at the
# last name of the stack: can it be computed now?
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# Four cases for it: known already, drop it; nobody fed it, raise; inputs are unknown, put these on top; otherwise compute
# it and drop it.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     values = a copy of feeds; ahead = a copy of fetches
#     while ahead holds names:
#         look at the last one, its function and its inputs
#         do what its case says
#     return the values of the fetches
# </details>

# %%
from functools import partial

evaluate = run if solved("lab05.q1") else skip("lab05.q1")
whose_run = "yours" if solved("lab05.q1") else "the reference"


def watched(nodes, ran):
    def noting(name, function, *values):
        ran.append(name)
        return function(*values)

    return {name: (f and partial(noting, name, f), inputs) for name, (f, inputs) in nodes.items()}


# %%
from sklearn.datasets import load_digits

images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)  # (1797, 64)
wanted = np.eye(10, dtype=np.float32)[digits]  # (1797, 10)
start = np.random.default_rng(0).normal(0, 0.1, (64, 10)).astype(np.float32)
feeds = {"x": images[:64], "w": start, "y": wanted[:64]}

here = [(0, 1), (0, 0), (0, -1), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (4, 0.5), (5, 1)]
spots = dict(zip(nodes, here, strict=True))
fig, both = plt.subplots(1, 2)
for ax, fetch in zip(both, ("loss", "gradient"), strict=True):
    ran = []
    evaluate(watched(nodes, ran), [fetch], feeds)
    for name, (function, inputs) in nodes.items():
        color = "memory" if function is None else "compute" if name in ran else "idle"
        for other in inputs:
            arrow = {"arrowstyle": "->", "color": PALETTE["idle"], "shrinkA": 6, "shrinkB": 6}
            ax.annotate("", spots[name], spots[other], arrowprops=arrow)
        ax.plot(*spots[name], "o", markersize=10, color=PALETTE[color])
        text = {"ha": "center", "fontsize": 8, "gid": "said" if name in ran else None}
        up = 8 if spots[name][1] > 0 else -15
        ax.annotate(name, spots[name], (0, up), textcoords="offset points", **text)
    ax.set(xlim=(-0.7, 5.7), ylim=(-1.6, 1.8), yticks=[])
    ax.set_xlabel(f"longest path from a fed value\n(run: {whose_run})")
    ax.set_title(f"Fetch {fetch}: {len(ran)} of 7 run")
show(fig)

# %% [markdown]
# A graph is known before it runs: what nobody asked for (grey) costs nothing.
#
# ## One loss, five ways and one more
#
# Your evaluator; TensorFlow's own graph, as in 2015; PyTorch, eager; and two that **trace** a Python function into a graph
# when it is called: `tf.function`, `torch.compile`. This course's `compile` traces too, its gradient included, and its
# graph goes through your evaluator as it is.

# %%
from autograder.machine import need

torch = need("torch")  # installs it where it is missing, about 0.9 GB
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")  # or it prints as it starts
tf = need("tensorflow")  # about 1.4 GB more
tf.get_logger().setLevel("ERROR")
torch.set_num_threads(1)
from mlsys_lab import autograd as ag
from mlsys_lab.compile import compile as capture


# %%
def session(x, w, y):
    """Define, then run, in TensorFlow: the gradient is more graph."""
    with tf.Graph().as_default():
        a, b, c = (tf.compat.v1.placeholder(tf.float32, one.shape) for one in (x, w, y))
        loss = tf.reduce_mean((tf.tanh(a @ b) - c) ** 2)
        fetches = [loss, *tf.gradients(loss, [b])]
        with tf.compat.v1.Session() as running:
            return running.run(fetches, {a: x, b: w, c: y})


# %%
def taped(x, w, y):
    with tf.GradientTape() as tape:
        tape.watch(w)
        loss = tf.reduce_mean((tf.tanh(x @ w) - y) ** 2)
    return loss, tape.gradient(loss, w)


traced = tf.function(taped)


# %% tags=["nbval-check-output"]
def loss_of(x, w, y):
    return ((torch.tanh(x @ w) - y) ** 2).mean()


def backend(graph, examples):  # takes the graphs of torch.compile: kept here, and run as they are
    graphs.append(graph)
    return graph.forward


def by_torch(function, *arrays):
    x, w, y = map(torch.tensor, arrays)
    loss = function(x, w.requires_grad_(), y)
    loss.backward()
    return loss.item(), w.grad


graphs = []
loss, slope = by_torch(loss_of, *feeds.values())
ways = {
    f"evaluator ({whose_run})": evaluate(nodes, ["loss", "gradient"], feeds),
    "TensorFlow, graph": session(*feeds.values()),
    "tf.function": traced(*map(tf.constant, feeds.values())),
    "torch.compile": by_torch(torch.compile(loss_of, backend=backend), *feeds.values()),
}
for name, (a, b) in ways.items():
    same = np.allclose(a, loss, rtol=1e-5) and np.allclose(b, slope, rtol=1e-4, atol=1e-7)
    print(f"{name}: loss and gradient as in eager PyTorch: {same}")


# %% tags=["nbval-check-output"]
def loss_and_slope(x, w, y):
    loss = ag.mean((ag.tanh(x @ w) - y) ** 2)
    return loss, ag.grad(loss, w)[0]


captured = capture(loss_and_slope)
captured(*(ag.Tensor(a, requires_grad=a is start) for a in feeds.values()))
graph = captured.graph("capture")
print(*str(graph).splitlines()[:8], "...", sep="\n")

# %% tags=["nbval-check-output"]
table = {value: (value.forward, value.args) for value in graph.values}  # values are the names here
fed = dict(zip(graph.inputs, feeds.values(), strict=True))
fed |= {value: value.data for value in table if value.op == "constant"}
fed |= {a: a for value in table for a in value.args if a not in table}  # numbers are themselves
mine = evaluate(dict.fromkeys(fed, (None, ())) | table, graph.outputs, fed)
print("the same loss:", np.allclose(mine[0], loss, rtol=1e-5))
print("the same gradient:", np.allclose(mine[1], slope, rtol=1e-4, atol=1e-7))


# %% [markdown]
# ## Break it: a number from outside
#
# A step of descent reads a learning rate that stands outside of it. After 15 of 30 steps we set that to 0. Who notices?

# %%
def tracer(way, function):
    """A function of arrays under a tracer, and a way to ask how many graphs were made of it."""
    graphs.clear()
    torch.compiler.reset()
    if way == "tf.function":
        made, take = tf.function(function), tf.constant
        count = made.experimental_get_tracing_count
    elif way == "torch.compile":
        made, take = torch.compile(function, backend=backend), torch.as_tensor
        count = graphs.__len__
    else:
        made, take = capture(function), ag.Tensor
        count = made.programs.__len__
    return lambda *a: made(*(take(v) if isinstance(v, np.ndarray) else v for v in a)).numpy(), count


tracers = "tf.function", "torch.compile", "this course's"


def update(w, slope):
    return w - rate * slope


# %%
falling = {}
for way in ("eager", *tracers):
    step, rate, w = update if way == "eager" else tracer(way, update)[0], 0.5, start
    falling[way] = []
    for number in range(30):
        rate = 0.5 if number < 15 else 0.0
        loss, slope = evaluate(nodes, ["loss", "gradient"], {**feeds, "w": w})
        falling[way].append(loss)
        w = step(w, slope)

fig, ax = plt.subplots()
looks = [("reference", 6, "-"), ("memory", 4, "-"), ("compute", 2, "-"), ("communication", 2, ":")]
for (way, losses), (color, wide, dash) in zip(falling.items(), looks, strict=True):
    ax.plot(losses, dash, lw=wide, color=PALETTE[color], label=way)
ax.axvline(15, ls="--", color=PALETTE["idle"], label="the rate becomes 0")
ax.legend()
ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
ax.set_title("Two graphs go on with the rate of their tracing")
show(fig)

# %% [markdown]
# Tracing ran the Python once and kept the number 0.5. `torch.compile` kept it too, with a **guard**: before each call it
# looks whether `rate` is what it was, and traces anew. So what counts as new?
#
# ## Predict, once more
#
# `rate` becomes an argument, a Python number that differs in each of 12 calls. How many graphs does `tf.function` make?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_graphs = 12
### END SOLUTION

# %%
def descend(turn):
    """A step of least squares, its slope by hand; turn transposes a matrix."""

    def step(w, x, y, real, rate):
        """real: (n, 1), 1 for an image, 0 for a row that only fills up."""
        count = turn(real) @ real  # (1, 1): how many images
        return w - rate / count * (turn(x) @ ((x @ w - y) * real))

    return step


turns = dict(zip(tracers, (tf.transpose, torch.t, ag.matrix_transpose), strict=True))


def as_found(step, w, batches, rates, size):
    """One pass over the images, a step for each batch (x, y); returns w."""
    for (x, y), rate in zip(batches, rates, strict=True):
        w = step(w, x, y, np.ones((len(x), 1), np.float32), rate)
    return w


# %%
rates = [0.6 / (1 + i) for i in range(12)]
ragged = [(images[:n], wanted[:n]) for n in range(64, 52, -1)]
cases = {"a new number": ([ragged[0]] * 12, rates), "a new shape": (ragged, rates[:1] * 12)}
made = {}
for case, (batches, some_rates) in cases.items():
    for way in tracers:
        step, count = tracer(way, descend(turns[way]))
        made[case, way] = []
        for batch, rate in zip(batches, some_rates, strict=True):
            as_found(step, start, [batch], [rate], 64)
            made[case, way].append(count())
by_numpy = as_found(descend(np.transpose), start, ragged, rates, 64)

fig, both = plt.subplots(1, 2, sharey=True)
for ax, case in zip(both, cases, strict=True):
    for way, (color, wide, dash) in zip(tracers, looks[1:], strict=True):
        calls = range(1, 13)
        ax.plot(calls, made[case, way], dash, lw=wide, color=PALETTE[color], label=way)
    ax.set(xlabel="calls", ylim=(0, 14), xlim=(0, 20))
prediction(both[0], 12, predicted_graphs)
both[1].legend(loc="center right")
both[0].set(ylabel="graphs made", title="Per call: a new number")
both[1].set_title("Per call: a new shape")
show(fig)


# %% [markdown]
# Python values are part of the graph, so a new one needs a new graph; so does a new shape, in TensorFlow and in this
# course's compiler. PyTorch makes the second graph general, for sizes above 1. (TensorFlow's warning is silenced.)
#
# ## Build 2: stop the retracing (12 minutes)
#
# Mend `as_found`: all calls shall look alike, and `w` come out the same. Make every batch `size` long, with rows of zeros
# that `real` marks as none, and of the rate an array without axes. Nothing in float64. About 5 lines.

# %% nbgrader={"grade": false, "grade_id": "lab05-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def mended(step, w, batches, rates, size):
    """As `as_found`, with calls of step that differ in the numbers inside of arrays alone.

    step(w, x, y, real, rate) returns the next w. x: (size, d), y: (size, k), real: (size, 1) and
    rate: () are float32 arrays, w is (d, k). batches: pairs x (n, d), y (n, k), n at most size;
    rates: numbers.
    """
    ### BEGIN SOLUTION
    for (x, y), rate in zip(batches, rates, strict=True):
        fill = (0, size - len(x)), (0, 0)
        real = np.pad(np.ones((len(x), 1), np.float32), fill)
        w = step(w, np.pad(x, fill), np.pad(y, fill), real, np.array(rate, np.float32))
    return w
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab05-q2-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab05.q2", mended)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Nothing that changes from call to call may stand in a shape or be a Python number. Move both into the contents of arrays:
# the length into `real`, the rate into an array.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# `np.pad(x, ((0, more), (0, 0)))` adds rows of zeros below and keeps the dtype. An array without axes is
# `np.array(3.0, np.float32)`; `np.ones` without a dtype is float64.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     for each batch with its rate
#         fill = how many rows are missing, below; no columns
#         pad x, y and a column of ones alike
#         w becomes the step's result
# </details>

# %% tags=["nbval-check-output"]
epoch = mended if solved("lab05.q2") else skip("lab05.q2")
before, after = [], []
for way in tracers:
    for loop, counts in ((as_found, before), (epoch, after)):
        step, count = tracer(way, descend(turns[way]))
        same = np.allclose(loop(step, start, ragged, rates, 64), by_numpy, rtol=1e-3, atol=1e-5)
        counts.append(count())
    print(f"{way}: {counts[-1]} graph after the mend; w as NumPy's: {same}")

# %%
fig, ax = plt.subplots()
whose = "yours" if solved("lab05.q2") else "the reference"
for wide, counts, color in ((0.7, before, "idle"), (0.35, after, "yours")):
    label = "as found" if counts is before else f"mended ({whose})"
    ax.bar_label(ax.bar(tracers, counts, wide, color=PALETTE[color], label=label))
ax.legend(loc="upper center")
ax.set(ylabel="graphs for 12 batches", ylim=(0, 14), title="One graph for all batches, everywhere")
show(fig)


# %% [markdown]
# ## Build 3: audit the claims (12 minutes)
#
# Texts say: "`tf.function` traces a function once." "A graph is faster." "Fusing saves arithmetic." Compute instead:
# how many graphs TensorFlow makes; from which call on a graph has paid for its tracing; what a chain of elementwise
# steps moves. One to three lines each.

# %% nbgrader={"grade": false, "grade_id": "lab05-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def graphs_made(calls):
    """Graphs for a list of calls, each a tuple of arguments: Python numbers or NumPy arrays.

    An array counts by dtype and shape, a number by its value: 1, 1.0 and True are alike.
    """
    ### BEGIN SOLUTION
    def kind(value):
        return (value.dtype, value.shape) if isinstance(value, np.ndarray) else value

    return len({tuple(map(kind, call)) for call in calls})
    ### END SOLUTION


def calls_to_pay(trace, graph, eager):
    """The least n with trace + n * graph < n * eager, or None; costs are integers, in us."""
    ### BEGIN SOLUTION
    return trace // (eager - graph) + 1 if eager > graph else None
    ### END SOLUTION


def chain_bytes(steps, n):
    """Bytes that steps, each on n float32 numbers, read and write: (one by one, in one loop)."""
    ### BEGIN SOLUTION
    return 8 * n * steps, 8 * n
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab05-q3-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab05.q3", graphs_made, calls_to_pay, chain_bytes)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# A set keeps one of each kind. Each call saves what eager costs above the graph; tracing is paid when the savings exceed
# it. Each step reads n numbers and writes n; in one loop what lies between stays in registers.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# A call's kind is a tuple over its arguments. Where a graph saves nothing there is no such call. A float32 has 4 bytes.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     the number of different tuples of kinds
#     trace over the saving, rounded down, plus 1
#     one by one: 2 · steps · n · 4; in one loop the values between two steps are not moved
# </details>

# %% tags=["nbval-check-output"]
audits = (graphs_made, calls_to_pay, chain_bytes) if solved("lab05.q3") else skip("lab05.q3")
count_graphs, pays, moves = audits
values = [1, 1.0, True, 0.5, *(np.ones(n, t) for n in (3, 4) for t in (np.float32, np.float64))]
picks = np.random.default_rng(3).integers(0, len(values), (30, 2))
calls = [tuple(values[i] for i in pick) for pick in picks]
asked = tf.function(lambda a, b: (tf.convert_to_tensor(a), b))
for call in calls:
    asked(*call)
found = asked.experimental_get_tracing_count()
print("graphs as TensorFlow counts them:", count_graphs(calls) == found)
from mlsys_lab.compile import bytes_moved

chain = capture(lambda x: ag.tanh(ag.exp(ag.tanh(ag.exp(-x)))))
chain(ag.Tensor(np.ones(1000, np.float32)))
counted = tuple(bytes_moved(chain.graph(name)) for name in ("capture", "plan"))
print("bytes as the compiler counts them:", tuple(moves(5, 1000)) == counted)
first = tf.function(lambda a: tf.constant(a))
print("the first call f(1), the second f(1.0):", first(1).dtype.name, first(1.0).dtype.name)

# %%
import time

given = [tf.constant(one) for one in feeds.values()]


def took_us(function, calls):
    """CPU time of some calls in a row."""
    began = time.process_time_ns()
    for _ in range(calls):
        function(*given)
    return (time.process_time_ns() - began) // 1000


trace_us = int(np.median([took_us(tf.function(taped), 1) for _ in range(5)]))
graph_us, eager_us = took_us(traced, 200) // 200, took_us(taped, 200) // 200
measured = {n: took_us(tf.function(taped), n) / eager_us for n in (1, 10, 100, 1000)}
paid = pays(trace_us, graph_us, eager_us)

fig, ax = plt.subplots()
n = np.logspace(0, 3, 61)
costs = {"eager": n * eager_us, "traced once": trace_us + n * graph_us, "retraced": n * trace_us}
for (name, cost), color in zip(costs.items(), ("compute", "memory", "idle"), strict=True):
    ax.loglog(n, cost / eager_us, color=PALETTE[color], label=f"{name}, model")
ax.plot(*zip(*measured.items(), strict=True), "o", color=PALETTE["memory"], label="measured")
if paid:
    ax.axvline(paid, ls="--", color=PALETTE["yours"], label=f"paid after {paid} calls")
ax.legend()
ax.set(xlabel="calls", ylabel="CPU time (one eager call is 1)")
ax.set_title("A graph is an investment, and retracing loses it")
show(fig)


# %% [markdown]
# Corrected: a graph for each kind of call; faster from some call on, while calls are alike; fusing saves bytes and no
# arithmetic, while pruning and common subexpressions save arithmetic, where there is some to spare. And `f(1.0)` above is
# no misprint: the call found the graph of `1`, and got an integer.
#
# ## The story, once more
#
# A network with two convolutions, on the digits. `mlsys_lab.nn` takes over `torch.nn`'s names, so that one text, `cnn`,
# serves both. Loading the data is not counted.

# %% tags=["nbval-check-output"]
def cnn(nn):
    """Images (n, 1, 8, 8) to logits (n, 10)."""
    first = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(128, 10))


def train(model, optim, loss_of, take):
    """The loss at each of 150 steps."""
    optimizer, losses = optim.Adam(model.parameters(), lr=3e-3), []
    for pick in np.random.default_rng(4).integers(0, len(images), (150, 64)):
        x, y = images[pick].reshape(-1, 1, 8, 8), digits[pick]
        loss = loss_of(model(take(x)), take(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


from mlsys_lab import nn, optim

nn.manual_seed(3)
ours, theirs = cnn(nn), cnn(torch.nn)
theirs.load_state_dict({name: torch.tensor(one) for name, one in ours.state_dict().items()})
with_ours = train(ours, optim, ag.cross_entropy, ag.Tensor)
with_torch = train(theirs, torch.optim, torch.nn.functional.cross_entropy, torch.from_numpy)
print("150 steps within 2 % of PyTorch's:", np.allclose(with_ours, with_torch, rtol=0.02))

# %%
fig, ax = plt.subplots()
ax.plot(with_torch, color=PALETTE["reference"], lw=5, alpha=0.35, label="torch.nn")
ax.plot(with_ours, color=PALETTE["compute"], lw=1.5, label="mlsys_lab.nn")
ax.legend()
ax.set(xlabel="step", ylabel="loss (nats per image)", ylim=(0, None))
ax.set_title("The same lines, two frameworks, one curve")
show(fig)

# %%
import inspect
from pathlib import Path

import mlsys_lab


def lines_of(package):
    """Lines of all Python files of a package."""
    return sum(p.read_bytes().count(b"\n") for p in Path(package.__file__).parent.rglob("*.py"))


written = sum(len(inspect.getsource(function).splitlines()) for function in (cnn, train))
lines = {
    "lecture's story": 44_000,
    "this network": written,
    "mlsys_lab": lines_of(mlsys_lab),
    "PyTorch, Python": lines_of(torch),
}
fig, ax = plt.subplots()
colors = [PALETTE[c] for c in ("idle", "yours", "compute", "compute")]
bars = ax.bar(range(4), lines.values(), 0.5, color=colors)
ax.bar_label(bars, [f"{n:,}" for n in lines.values()], label_type="center", color="white")
prediction(ax, 1, predicted_lines)
ax.set(yscale="log", ylim=(5, 1e7), xticks=range(4), xticklabels=lines, ylabel="lines")
ax.set_title("The lines did not vanish: they moved below")
show(fig)

# %% [markdown]
# ## Par and bonus
#
# Par, the lines of a short answer: 11, 5 and 5. Without points: give `tf.function` the option `reduce_retracing=True` and
# draw the retraces of shapes again; what does it do that PyTorch did by itself? And where there is a C++ compiler, leave `backend`
# out: Inductor compiles (about 14 CPU-seconds the first time, measured once). From which call on does that pay?
#
# ## What you now know
#
# A graph that is known before it runs can be pruned, fused and shipped, while eager code can be read, printed and
# debugged. Tracing joins them, for a price: a trace holds for one kind of call, and keeps what Python knew when it was
# made. So the frameworks met in the middle, and what they differ in is what counts as a new call.
#
# Where this is wrong: `torch.compile` handed its graphs to no compiler here, so this lab shows what tracing costs and not
# what Inductor gains.
#
# The real system: [how `tf.function` decides when to trace](https://www.tensorflow.org/guide/function).
