# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 70
#     needs:
#     - torch
#     parts:
#     - nn
#     - autograd
#     - optim
#     - viz
#     paths:
#     - training
#     points: 10
#     prerequisites:
#     - '04'
#     title: What does attention cost?
#     week: 4
# ---

# %% [markdown]
# # What does attention cost?
#
# | | |
# |---|---|
# | **Goal** | train a small language model on your mask, then compute its attention without its largest array |
# | **Time** | 70 minutes, 40 of them in three exercises |
# | **Points** | 10: mask 3, online softmax 4, tiling bytes 3 |
# | **Parts** | `mlsys_lab.nn`, `autograd`, `optim`; beside them PyTorch |
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
import numpy as np

# GPT-2 small (Radford and others, 2019): 768 wide. Forward pass, one layer, multiply and add as two.
width, n = 768, 2 ** np.arange(8, 16)
products = 24 * n * width**2  # queries, keys, values, output: 8; the two layers of 4 widths: 16
attention = 4 * n**2 * width  # scores of each pair of positions, then the weighted values
fig, ax = plt.subplots()
ax.loglog(n, products / 1e9, "o-", color=PALETTE["compute"], label="weights: linear")
ax.loglog(n, attention / 1e9, "o-", color=PALETTE["memory"], label="pairs of positions: quadratic")
ax.axvline(6 * width, ls="--", color=PALETTE["reference"], label=f"equal at {6 * width:,} positions")
ax.legend()
ax.set(xlabel="positions n", ylabel="work per layer (GFLOP, model)")
ax.set_title("Past 4,608 positions a layer of GPT-2's width works most on pairs")
show(fig)

# %% [markdown]
# Each position asks itself and every position before it: with $n$ positions about $n^2/2$ pairs. Written plainly, all
# $n^2$ are computed, and stored. What is bought for it, and which part of the bill can be avoided? (GPT-2 itself ends at
# 1,024.)
#
# ## A text, and the model to beat
#
# The text is the documentation inside every Python. A **bigram** counts which character follows which. Its loss is the
# mean of $-\ln p$ of the true next character, in nats, on a tenth of the text that it never saw.

# %%
from mlsys_lab.datasets import python_docs, windows

text = python_docs()
letters = sorted(set(text))
number = {c: i for i, c in enumerate(letters)}
tokens = np.array([number[c] for c in text])
seen_text, unseen = np.split(tokens, [len(tokens) * 9 // 10])
V, T = len(letters), 64  # characters, positions in a snippet

# %%
follows = np.ones((V, V))
np.add.at(follows, (seen_text[:-1], seen_text[1:]), 1)
chance = follows / follows.sum(1, keepdims=True)
bigram = -np.log(chance[unseen[:-1], unseen[1:]]).mean()
print(f"{len(text):,} characters, {V} different; the bigram's loss: {bigram:.2f} nats")

# %% [markdown]
# ## Predict
#
# A GPT of two layers, 64 wide, learns from snippets of 64 characters, 16 in each of 900 steps: seconds. Guessing evenly
# costs $\ln V \approx 4.5$ nats. What will its loss be on unseen text?
#
# One head of attention is $\mathrm{softmax}(q k^T / \sqrt{d}) \, v$, row by row; $q, k, v$ are $(n, d)$. Let $n = 2048$,
# $d = 64$, in float32 (4 bytes). As the formula stands: how many MiB ($2^{20}$ bytes) at its peak, beside $q, k, v$?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_loss = 1.8  # nats per character
predicted_mib = 32
### END SOLUTION

# %% [markdown]
# ## Build 1: who may see whom? (12 minutes)
#
# A model that predicts the next character must not see it. A query at position $i$ sees the keys at positions up to and
# with $i$; with a **window** of $w$ (as in the first Mistral 7B, 2023) only the last $w$ of these, its own among them. Queries and keys
# come as arrays of positions, since a tile or a cache holds a part of the text. About 2 lines.

# %% nbgrader={"grade": false, "grade_id": "lab06-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def visible(q_at, k_at, window=None):
    """Which query may look at which key.

    q_at: (n,) the queries' positions in the text; k_at: (m,) the keys'. Returns (n, m) booleans.
    window: how many positions a query sees at most, its own included; None: all up to its own."""
    ### BEGIN SOLUTION
    back = q_at[:, None] - k_at[None, :]
    return (back >= 0) & (back < (np.inf if window is None else window))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab06-q1-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab06.q1", visible)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# How far back does each query look for each key? That distance decides: negative is the future, 0 is itself.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# `q_at[:, None]` is a column, `k_at[None, :]` a row; their difference is `(n, m)`. Two comparisons, joined with `&`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     back = the column of queries minus the row of keys
#     allowed = back is at least 0
#     with a window: and back is below it
# </details>

# %%
from mlsys_lab import autograd as ag
from mlsys_lab import nn, optim


class Masked(nn.Module):
    """Attention of the course's GPT with `mask`, and `attend` as its inner part."""

    def __init__(self, old, mask, attend):
        self.c_attn, self.c_proj, self.n_head = old.c_attn, old.c_proj, old.n_head
        self.mask, self.attend = mask, attend

    def forward(self, x, residual=None, cache=None, layer=0):
        """x: (batch, n, width). Queries, keys, values per head; `attend`; the output layer."""
        batch, n, width = x.shape
        qkv = self.c_attn(x).reshape(batch, n, 3, self.n_head, width // self.n_head)
        qkv = ag.permute_dims(qkv, (2, 0, 3, 1, 4))  # (3, batch, heads, n, d)
        q, k, v = qkv[0], qkv[1], qkv[2]
        start = 0 if cache is None else cache.length
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        may_see = self.mask(np.arange(start, start + n), np.arange(start + n))
        out = ag.permute_dims(self.attend(q, k, v, may_see), (0, 2, 1, 3)).reshape(x.shape)
        return self.c_proj(out, residual)


def plain(q, k, v, may_see):
    """Attention as the formula has it: (batch, heads, n, d) each, and a mask (n, n)."""
    scores = q @ ag.matrix_transpose(k) * q.shape[-1] ** -0.5  # (batch, heads, n, n)
    return ag.softmax(ag.where(may_see, scores, -np.inf), axis=-1) @ v


# %%
held_x, held_y = windows(unseen, T, 64, generator=np.random.default_rng(1))  # (64, T) each


def held_out(model, some=None):
    """The loss of each unseen character: (snippets, T)."""
    x, y = some or (held_x, held_y)
    with ag.no_grad():
        log_p = ag.log_softmax(model(x), axis=-1).data  # (snippets, T, V)
    return -np.take_along_axis(log_p, y[..., None], 2)[..., 0]


# %%
def use(model, mask, attend=plain):
    for block in model.transformer.h:
        block.attn = Masked(block.attn, mask, attend)


def train(mask, steps):
    """A GPT after some steps with a mask, and its losses on unseen text."""
    rng = np.random.default_rng(0)
    sizes = nn.GPTConfig(vocab_size=V, block_size=T, n_layer=2, n_head=4, n_embd=64)
    model, at, losses = nn.GPT(sizes, generator=rng), [], []
    use(model, mask)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps + 1):
        if step % 50 == 0:
            at.append(step)
            losses.append(held_out(model).mean())
        x, y = windows(seen_text, T, 16, generator=rng)
        loss = ag.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, at, losses


# %% tags=["nbval-check-output"]
mask = visible if solved("lab06.q1") else skip("lab06.q1")
whose_mask = "yours" if solved("lab06.q1") else "the reference"
model, at, losses = train(mask, 900)
print("At least 0.4 nat below the bigram:", bool(held_out(model).mean() < bigram - 0.4))

# %%
fig, ax = plt.subplots()
ax.plot(at, losses, "o-", color=PALETTE["yours"], label=f"GPT, mask: {whose_mask}")
bound(ax, bigram, "bigram")
prediction(ax, 900, predicted_loss)
ax.legend()
ax.set(xlabel="step", ylabel="unseen text: loss (nats/character)", xlim=(0, 1200), ylim=(0, 4.6))
ax.set_title("Seconds of training beat all counts of pairs")
show(fig)


# %% [markdown]
# ## Break it: a mask that leaks
#
# Measured once, with the text of Python 3.11: 1.55 nats after 11 CPU-seconds, against the bigram's 2.32. Now one
# character too far: each position also sees the next one, which it has to predict. What would you expect of the loss, on
# text that was **never trained on**?

# %%
def leaking(q_at, k_at):
    return mask(q_at + 1, k_at)


leaky, at_leaky, losses_leaky = train(leaking, 300)

# %%
fig, ax = plt.subplots()
ax.plot(at, losses, "o-", color=PALETTE["yours"], label=f"mask: {whose_mask}")
ax.plot(at_leaky, losses_leaky, "o-", color=PALETTE["memory"], label="mask that leaks")
bound(ax, bigram, "bigram")
ax.legend(loc="upper right")
ax.set(xlabel="step", ylabel="unseen text: loss (nats/character)", ylim=(0, 4.6))
ax.set_title("A leak looks like a triumph, on unseen text too")
show(fig)

# %% [markdown]
# The validation set notices nothing: it leaks as well. Two things do notice. Let both models write, where no future is
# there to copy. Then change a late character and watch earlier answers.

# %%
start = np.array([[number[c] for c in 'The "assert" statement is ']])
for name, one in (("mask that sees the past", model), ("mask that leaks", leaky)):
    written = one.generate(start, 38, temperature=0.5, generator=np.random.default_rng(0))
    print(f"{name}: {''.join(letters[i] for i in written[0])!r}")

# %%
changed = held_x.copy()
changed[:, 40] = (changed[:, 40] + 1) % V
fig, ax = plt.subplots()
looks = (model, f"mask: {whose_mask}", "yours"), (leaky, "mask that leaks", "memory")
for one, label, color in looks:
    with ag.no_grad():
        moved = np.abs(one(changed).data - one(held_x).data).max((0, 2))  # (T,)
    ax.semilogy(np.maximum(moved, 1e-8), "o-", color=PALETTE[color], label=label)
ax.axvline(40, ls="--", color=PALETTE["reference"], label="the changed character")
ax.legend(loc="center left")
ax.set(xlabel="position", ylabel="change of its answer\n(logits; 0 drawn as 1e-8)")
ax.set_title("Only the leak lets the future change the past")
show(fig)


# %% [markdown]
# The leak reaches two positions back: one per layer.
#
# ## Build 2: softmax in one pass (16 minutes)
#
# `plain` stores a score for every pair. But the result for a query is an average of values, weighted by $e^{s}$: it can
# be kept **running**. Keep `top`, the largest score so far; `total`, the sum of $e^{s - top}$; and `mixed`, the sum of
# $e^{s - top}$ times the value. When a block of keys raises `top`, older sums were measured from a lower top: rescale
# them. About 6 lines.

# %% nbgrader={"grade": false, "grade_id": "lab06-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def fold(state, scores, values):
    """Take one more block of keys into a running softmax average.

    state: (top (n,), total (n,), mixed (n, d)); before the first block (-inf, 0, 0) everywhere.
    scores: (n, b); -inf where hidden. Of its first block each query sees at least one key.
    values: (b, d). Returns the new state, three arrays of scores' dtype.
    At the end mixed / total[:, None] is softmax(all scores) @ all values.
    """
    ### BEGIN SOLUTION
    top, total, mixed = state
    higher = np.maximum(top, scores.max(axis=1))
    shrink = np.exp(top - higher)
    weights = np.exp(scores - higher[:, None])
    mixed = mixed * shrink[:, None] + weights @ values
    return higher, total * shrink + weights.sum(axis=1), mixed
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab06-q2-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("lab06.q2", fold)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# $e^{s - new} = e^{s - old} \, e^{old - new}$. One factor per query moves both sums from the old top to the new one,
# and it is never above 1.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# The new top is the larger of the old one and the row maximum of the block. The factor `(n,)` multiplies `total`, and
# as a column `mixed`. Then the block adds its own part to both.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     higher = the larger of top and each row's maximum
#     shrink = exp of (top minus higher)
#     weights = exp of (scores minus higher, as a column)
#     return higher, total shrunk plus the weights' row sums,
#            mixed shrunk plus weights times values
# </details>

# %%
fold_in = fold if solved("lab06.q2") else skip("lab06.q2")
whose_fold = "yours" if solved("lab06.q2") else "the reference"


def fresh(n, d, dtype=np.float32):
    """The state before the first block."""
    return np.full(n, -np.inf, dtype), np.zeros(n, dtype), np.zeros((n, d), dtype)


def folded(scores, values, block=16):
    state = fresh(len(scores), values.shape[1], scores.dtype)
    for j in range(0, len(values), block):
        state = fold_in(state, scores[:, j : j + block], values[j : j + block])
    return state[2] / state[1][:, None]


def softmax_by_formula(scores, values):
    e = np.exp(scores)
    return e / e.sum(1, keepdims=True) @ values


rng = np.random.default_rng(2)
scores, values = rng.normal(size=(64, 128)), rng.normal(size=(128, 16))
sizes, error = np.logspace(0, 3, 31), {softmax_by_formula: [], folded: []}
for size in sizes:
    s = (scores * size).astype(np.float32)
    shifted = s.astype(np.float64) - s.max(1, keepdims=True)
    truth = softmax_by_formula(shifted, values)
    for way, errors in error.items():
        with np.errstate(over="ignore", invalid="ignore"):
            errors.append(np.abs(way(s, values.astype(np.float32)) - truth).max())
first = sizes[np.isnan(error[softmax_by_formula])][0]

# %%
fig, ax = plt.subplots()
ax.loglog(sizes, error[softmax_by_formula], "o-", color=PALETTE["idle"], label="as written")
ax.loglog(sizes, error[folded], "-", color=PALETTE["yours"], lw=2.5, label=f"one pass ({whose_fold})")
ax.axvline(first, ls="--", color=PALETTE["reference"], label="NaN from here: exp(88.8) overflows")
ax.legend(loc="upper right")
ax.set(xlabel="spread of the scores", ylabel="largest error (float32)", ylim=(1e-8, 1e-3))
ax.set_title("One pass is as exact, and goes on where exp overflows")
show(fig)


# %% [markdown]
# ## The trained model, on masks and one pass
#
# The same weights, now with `fold` inside, tile after tile: 16 queries against 16 keys. Does the model notice? Tiles that
# the mask hides whole are skipped; keys come latest first, so that each query's first block has a visible key: itself.
#
# About five characters of context pay; this small model gains little from more: a window of 8 costs it some 0.04 nat. Two
# layers of such windows reach 15 characters: the second looks at positions that have looked themselves.

# %%
def tiled(q, k, v, may_see, tile=16):
    """What `plain` computes, without an array of all pairs; no gradients."""
    q, k, v = (x.data for x in (q, k, v))
    out, d = np.empty_like(q), q.shape[-1]
    for b, h in np.ndindex(q.shape[:2]):
        for i in range(0, q.shape[2], tile):
            rows = q[b, h, i : i + tile] / np.sqrt(d, dtype=q.dtype)
            state = fresh(len(rows), d)
            for j in reversed(range(0, k.shape[2], tile)):
                seen = may_see[i : i + tile, j : j + tile]
                if seen.any():
                    part = np.where(seen, rows @ k[b, h, j : j + tile].T, np.float32(-np.inf))
                    state = fold_in(state, part, v[b, h, j : j + tile])
            out[b, h, i : i + tile] = state[2] / state[1][:, None]
    return ag.Tensor(out)


def near(q_at, k_at):
    return mask(q_at, k_at, 8)


many = windows(unseen, T, 400, generator=np.random.default_rng(3))  # snippets, for smaller errors

# %% tags=["nbval-check-output"]
found = {}
for way, rule in ((plain, mask), (tiled, mask), (plain, near), (tiled, near)):
    use(model, rule, way)
    found[way, rule] = held_out(model, many)  # (400, T)
same = [np.allclose(found[tiled, m], found[plain, m], rtol=1e-4, atol=1e-4) for m in (mask, near)]
print("the same losses within 0.01 %, without and with a window:", same)
two, early, late = (found[plain, mask][:, a:b].mean() for a, b in ((1, 2), (4, 8), (8, T)))
print("five to eight characters pay, more hardly:", bool(early < two - 0.2 and late > early - 0.1))

# %%
from itertools import pairwise

edges = [0, *2 ** np.arange(7)]  # groups of positions: 0, 1, 2 to 3, 4 to 7, and on
groups = [slice(a, b) for a, b in pairwise(edges)]
sees = [np.arange(g.start, g.stop).mean() + 1 for g in groups]
looks = {
    (plain, mask): ("reference", 6, "-", "all before, all pairs stored"),
    (tiled, mask): ("yours", 2, "-", f"all before, tiles ({whose_fold})"),
    (tiled, near): ("memory", 2, "--", f"window of 8, tiles ({whose_fold})"),
}
fig, ax = plt.subplots()
for key, (color, lw, ls, label) in looks.items():
    loss = np.array([found[key][:, g].mean(1) for g in groups])  # (groups, 400)
    ax.semilogx(sees, loss.mean(1), ls, lw=lw, color=PALETTE[color], alpha=2 / lw, label=label)
ax.errorbar(sees, loss.mean(1), loss.std(1) / 20, fmt="none", ecolor=PALETTE["memory"], capsize=3)
bound(ax, bigram, "bigram")
ax.legend(loc="upper right", bbox_to_anchor=(1, 0.7))
ax.set_xticks(2 ** np.arange(7), 2 ** np.arange(7), minor=False)
ax.set(xlabel="characters before the next one, mean of a group", ylabel="loss (nats), standard error")
ax.set_title("About five characters of context pay, more hardly")
show(fig)


# %% [markdown]
# ## Build 3: what do tiles cost? (12 minutes)
#
# A chip has a small fast memory and a large slow one. `q`, `k`, `v` of a head are $(n, d)$, in float32. For each tile of
# `rows` queries: load the tile, load **all** keys and values, a tile of `columns` at a time, then store the results. The
# last tile may be smaller. How many bytes move, and how many must fast memory hold? About 4 lines.

# %% nbgrader={"grade": false, "grade_id": "lab06-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def tiled_bytes(n, d, rows, columns):
    """Bytes that tiled attention of one head moves and holds, in float32, without a mask.

    n: positions; d: width of the head; rows: queries per tile; columns: keys per tile.
    Returns (moved, held), integers. moved: all loads and stores of slow memory. held: the tiles of
    q, k, v, scores and mixed, with top and total; rows and columns are at most n here.
    """
    ### BEGIN SOLUTION
    passes = -(-n // rows)
    moved = 2 * n * d + passes * 2 * n * d
    held = 2 * rows * d + 2 * columns * d + rows * columns + 2 * rows
    return 4 * moved, 4 * held
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab06-q3-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab06.q3", tiled_bytes)


# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Count numbers first, then multiply by 4 bytes. Each query is loaded once and each result stored once. How often does
# each key pass by?
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# There are $n / rows$ tiles of queries, rounded up; each lets all $2nd$ numbers of `k` and `v` pass. Held: `q` and
# `mixed` are (rows, d), `k` and `v` (columns, d), the scores (rows, columns), `top` and `total` (rows,).
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     passes = n over rows, rounded up
#     moved = q and the results, once; k and v, passes times
#     held = the five tiles and the two columns
#     both times 4
# </details>

# %%
class Slow:
    """Slow memory that counts the bytes going in and out."""

    moved = 0

    def __call__(self, array):
        self.moved += array.nbytes
        return array


def plain_counted(q, k, v, slow):
    s = slow(slow(q) @ slow(k).T / np.sqrt(q.shape[1], dtype=q.dtype))  # (n, n), stored
    p = slow(slow(s) - s.max(1, keepdims=True))  # loaded, stored
    np.exp(p, out=p)
    p /= p.sum(1, keepdims=True)
    return slow(slow(p) @ slow(v))


def tiled_counted(q, k, v, slow):
    out = np.empty_like(q)
    for i in range(0, len(q), 256):
        rows = slow(q[i : i + 256]) / np.sqrt(q.shape[1], dtype=q.dtype)
        state = fresh(len(rows), q.shape[1])
        for j in range(0, len(k), 64):
            state = fold_in(state, rows @ slow(k[j : j + 64]).T, slow(v[j : j + 64]))
        out[i : i + 256] = slow(state[2] / state[1][:, None])
    return out


# %%
import tracemalloc

ns, d = 2 ** np.arange(8, 12), 64
count, peak = ({plain_counted: [], tiled_counted: []} for _ in range(2))
agree = []
heads = [[rng.normal(size=(n, d)).astype(np.float32) for _ in range(3)] for n in ns]
for head in heads:
    results = []
    for way in count:
        slow = Slow()
        tracemalloc.start()
        results.append(way(*head, slow))
        peak[way].append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        count[way].append(slow.moved / 2**20)
    agree.append(np.allclose(*results, rtol=1e-3, atol=1e-5))

# %% tags=["nbval-check-output"]
bytes_of = tiled_bytes if solved("lab06.q3") else skip("lab06.q3")
whose = "yours" if solved("lab06.q3") else "the reference"
model_mib = [bytes_of(int(n), d, 256, 64)[0] / 2**20 for n in ns]
print("plain and tiled agree:", all(agree))
print("the model's bytes are those counted:", model_mib == count[tiled_counted])
print("the tiles fit into 227 KiB:", bytes_of(2048, d, 256, 64)[1] <= 227 * 1024)

# %%
fig, (left, right) = plt.subplots(1, 2)
for ax, points in ((left, count), (right, peak)):
    ax.loglog(ns, points[plain_counted], "o-", color=PALETTE["memory"], label="all pairs stored")
    ax.loglog(ns, points[tiled_counted], "o", color=PALETTE["yours"], label=f"tiles ({whose_fold})")
    ax.set(xlabel="positions n", xlim=(100, 12000))
left.loglog(ns, model_mib, "-", color=PALETTE["reference"], lw=1, label=f"model ({whose})")
right.loglog(ns, peak[tiled_counted][0] * ns / ns[0], ":", color=PALETTE["reference"], label="linear")
prediction(right, 2048, predicted_mib)
left.legend(loc="upper left")
right.legend(handles=right.lines[2:3], loc="lower right")
left.set(ylabel="moved (MiB, counted)", ylim=(0.1, 1e3))
right.set_ylabel("taken at the peak (MiB, measured)")
left.set_title("Moved: less, still quadratic")
right.set_title("Taken at the peak: at most linear")
show(fig)

# %% [markdown]
# At 2,048 positions two arrays of 16 MiB, scores and exponentials, live at once.
#
# FlashAttention (Dao and others, 2022) is such tiles in one GPU kernel. **Audit the claim**: "It needs linear memory."
# What its tiles hold does not grow with $n$; what the process takes (right) grows with the result; what moves (left)
# stays quadratic. Tiles of 256 and 64 rows fit an H100 block's 227 KiB (NVIDIA, Hopper Tuning Guide).
#
# ## The real libraries
#
# PyTorch's attention and this course's are compiled. `exact` holds both to the pass.

# %% tags=["nbval-check-output"]
import time
import timeit

from autograder.machine import need

need("torch")  # installs PyTorch where it is missing, about 0.9 GB
import torch

torch.set_num_threads(1)
sdpa = torch.nn.functional.scaled_dot_product_attention


def by_torch(q, k, v, slow):
    return sdpa(*(torch.from_numpy(x)[None, None] for x in (q, k, v)))[0, 0].numpy()


def by_engine(q, k, v, slow):
    return ag.attention(*(x[None, None] for x in (q, k, v)), causal=False)[0, 0]


def seconds(way, head):
    """CPU time of a call, the shortest of five."""
    return min(timeit.repeat(lambda: way(*head, Slow()), timer=time.process_time, number=1, repeat=5))


results = [np.asarray(way(*heads[1], Slow())) for way in (tiled_counted, by_torch, by_engine)]
exact = [np.allclose(results[0], other, rtol=1e-3, atol=1e-5) for other in results[1:]]
print("the pass agrees with PyTorch and with the engine:", exact)
ways = {"all pairs, NumPy": plain_counted, f"tiles, pass: {whose_fold}": tiled_counted}
ways |= {"PyTorch": by_torch, "this engine": by_engine}
times = {name: [seconds(way, head) for head in heads] for name, way in ways.items()}

# %%
fig, ax = plt.subplots()
unit = times["PyTorch"][0]
colors = [PALETTE[c] for c in ("memory", "yours", "reference", "compute")]
for (name, took), color in zip(times.items(), colors, strict=True):
    ax.loglog(ns, np.array(took) / unit, "o-", color=color, label=name)
ax.loglog(ns, (ns / ns[0]) ** 2.0, "--", color=PALETTE["idle"], label="four times per doubling")
ax.legend()
ax.set(xlabel="positions n", ylabel="CPU time (PyTorch at 256 is 1)", xlim=(100, 4000))
ax.set_title("Tiles save bytes, not work: time stays quadratic")
show(fig)

# %% [markdown]
# The tiles gain no time here: each costs a turn of a Python loop, some ten short NumPy calls. The libraries compile that
# loop.
#
# ## Par and bonus
#
# Par, the lines of a short answer: 2, 6 and 4. Without points: `tiled` skips tiles that the mask hides. By which factor
# does the work fall as $n$ grows, for the causal mask and with a window of $w$?
#
# ## What you now know
#
# Attention over all earlier positions compares every pair, so its work grows with $n^2$ however it is programmed; only a
# window changes that. Its memory need not: an average with running sums holds one tile at a time and gives the same
# numbers. A mask decides what a model may know, and one that leaks raises no loss: it shows in what the model writes, or
# in a test of causality.
#
# Where this is wrong: caches, not a counter, decide which bytes of a CPU move, and the small text makes every loss here a
# property of this text.
#
# The real system: [PyTorch's scaled dot product attention](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html).
