# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 70
#     needs:
#     - nvidia-cuda-nvrtc
#     parts:
#     - kernels
#     - nn
#     - viz
#     paths:
#     - training
#     - inference
#     points: 10
#     prerequisites:
#     - '00'
#     title: How do ten thousand threads sum an array?
#     week: 5
# ---

# %% [markdown]
# # How do ten thousand threads sum an array?
#
# | | |
# |---|---|
# | **Goal** | write CUDA C++ from one thread per element to one sum for a whole grid, and see what each line costs |
# | **Time** | 70 minutes, 46 of them in five exercises |
# | **Points** | 10: map 2, stride 2, block 2, tree 2, grid 2 |
# | **Parts** | `mlsys_lab.kernels`, which runs a kernel without a GPU; at the end `nn` |
# | **Before** | lab 00; some C is enough to read and write the kernels |

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

# H100 SXM, from NVIDIA's data sheet: 3.35 TB/s; 132 multiprocessors hold 2,048 threads each.
# Assumed: 0.3 microseconds until data arrives.
latency_s, bandwidth, most = 0.3e-6, 3.35e12, 132 * 2048
threads = np.logspace(0, np.log10(most), 60)
fig, ax = plt.subplots()
rate = 4 * threads / latency_s / 1e9
ax.loglog(threads, rate, color=PALETTE["memory"], label="4 bytes each, then wait")
bound(ax, bandwidth / 1e9, "H100: 3,350 GB/s")
ax.axvline(10_000, ls=":", color=PALETTE["idle"], label="ten thousand threads")
ax.legend(loc="lower right")
ax.set(xlabel="threads that read", ylabel="memory read (GB/s, model)", ylim=(1e-2, 2e4))
ax.set_title("One thread waits; a quarter of a million keep the memory busy")
show(fig)

# %% [markdown]
# A thread that reads 4 bytes and waits for them moves next to nothing. A GPU does not make the wait shorter, it lets others
# run meanwhile. How do they share one sum?
#
# A **kernel** is a function that every thread runs. Threads stand in **blocks**, blocks in a **grid**; `kernel[blocks,
# threads](...)` starts them. CUDA C++ is compiled here by NVIDIA's own compiler and then run on a simulated GPU.

# %%
from autograder.machine import need

need("nvrtc")  # NVIDIA's compiler, where it is missing: about 145 MB (elsewhere clang, 410 MB)
from mlsys_lab.kernels import CudaKernel

WHO = r"""extern "C" __global__ void who(float* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;  // threads of the blocks before mine, and my place
    out[i] = 100.0f * blockIdx.x + threadIdx.x;
}"""
out = np.zeros(12, np.float32)
_ = CudaKernel(WHO)[3, 4](out)  # 3 blocks of 4 threads
print(out)


# %% [markdown]
# ## Build 1: one thread, one element (6 minutes)
#
# Square each of `n` elements. There are at least `n` threads, and mostly more: blocks come whole. A thread without an
# element must not touch memory: on a GPU it might change whatever lies behind the array, often without any error. Write
# between the braces, about 2 lines.

# %% nbgrader={"grade": false, "grade_id": "lab08a-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def square():
    """A kernel that writes out[i] = x[i] * x[i] for each i below n.

    It is started with at least n threads; each takes one element."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__ void square(const float* x, float* out, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__ void square(const float* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = x[i] * x[i];
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08a-q1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08a.q1", square)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# `who`, above, computes the number of a thread in the grid. Make it the number of the thread's element.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# One line for `i`, one for the work, with a guard: an `if` that lets only threads with an element through.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     i is the number of this thread in the whole grid
#     if i is below n: out at i becomes x at i, squared
# </details>

# %%
squares = square if solved("lab08a.q1") else skip("lab08a.q1")
x, out = np.ones(1000, np.float32), np.zeros(1000, np.float32)
report = CudaKernel(squares())[4, 256](x, out, 1000)  # 1,024 threads
report

# %% [markdown]
# The **report** of a launch says what each line costs. 32 neighbouring threads are a **warp**: they run an instruction
# together. Their reads are one **request**, and memory answers in **sectors** of 32 bytes, 8 floats. `square` needs 4 for
# a full warp.
#
# ## Predict
#
# Now 4,096 elements for only 128 threads. `pieces` cuts the array as one would for the cores of a CPU: a piece of 32
# elements for each thread. How many sectors will a request touch?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_sectors = 32
### END SOLUTION

# %%
PIECES = r"""extern "C" __global__ void pieces(const float* x, float* out, int n) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    int each = n / (gridDim.x * blockDim.x);
    float sum = 0;
    for (int j = t * each; j < (t + 1) * each; ++j) sum += x[j];
    out[t] = sum;
}"""
rng = np.random.default_rng(0)
x, out = rng.random(4096, np.float32), np.zeros(128, np.float32)
in_pieces = CudaKernel(PIECES)[2, 64](x, out, len(x)).global_loads
print("sums right:", np.allclose(out, x.reshape(128, 32).sum(1), rtol=1e-5))


# %% [markdown]
# ## Build 2: read beside your neighbour (8 minutes)
#
# Give each thread other elements, such that a warp reads 32 neighbours at the same time. Which thread adds which elements
# is your choice; each element is added once, and `n` can be anything. About 4 lines.

# %% nbgrader={"grade": false, "grade_id": "lab08a-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def stride_sum():
    """A kernel that writes out[t], what thread t of the grid has added; together: the sum of x.

    x has n elements, out one for each thread of the grid; what stands in out before is no zero."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__ void stride_sum(const float* x, float* out, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__ void stride_sum(const float* x, float* out, int n) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    for (int j = t; j < n; j += gridDim.x * blockDim.x) sum += x[j];
    out[t] = sum;
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08a-q2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08a.q2", stride_sum)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# What matters is what the 32 threads of a warp read *at the same time*, not what one thread reads one after the other.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# Thread `t` starts at element `t`. All threads then step over the whole grid: by `gridDim.x * blockDim.x`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     t is the number of this thread in the whole grid
#     sum is 0
#     for j from t, below n, in steps of all threads: add x at j
#     out at t becomes the sum
# </details>

# %%
strides = stride_sum if solved("lab08a.q2") else skip("lab08a.q2")
whose = "yours" if solved("lab08a.q2") else "the reference"
in_strides = CudaKernel(strides())[2, 64](x, out, len(x)).global_loads
per_request = [a.sectors / a.requests for a in (in_pieces, in_strides)]
fig, ax = plt.subplots()
colors = [PALETTE["memory"], PALETTE["yours"]]
ax.barh(["a piece per thread", f"strides ({whose})"], per_request, 0.5, color=colors)
ax.axvline(4, ls="--", color=PALETTE["reference"], label="fewest: 128 bytes")
prediction(ax, predicted_sectors, 0)
ax.legend(loc="upper right")
ax.set(xlabel="sectors per request", xlim=(0, 48))
ax.set_title("Neighbours that read apart fetch eight times as much")
show(fig)


# %% [markdown]
# In pieces every thread asks for a sector of its own and uses 4 of its 32 bytes. (A cache may keep the rest for the next
# step. It holds few such sectors per thread.)
#
# ## Build 3: a block shares (10 minutes)
#
# `__shared__ float s[256];` in a kernel is memory of the whole block. Each thread stores one element there, or 0 where there
# is none, and thread 0 adds them up. Warps run in any order: `__syncthreads()` lets none pass before all have arrived.
# About 8 lines.

# %% nbgrader={"grade": false, "grade_id": "lab08a-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def block_sum():
    """A kernel that writes out[b], the sum of the elements of block b: one for each of its threads.

    blockDim.x is at most 256; the last block may have fewer elements than threads. What stands in out
    before is no zero."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__ void block_sum(const float* x, float* out, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__ void block_sum(const float* x, float* out, int n) {
    __shared__ float s[256];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    s[t] = i < n ? x[i] : 0;
    __syncthreads();
    if (t == 0) {
        float sum = 0;
        for (int k = 0; k < blockDim.x; ++k) sum += s[k];
        out[blockIdx.x] = sum;
    }
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08a-q3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08a.q3", block_sum)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Three steps: everyone stores, everyone waits, one adds. The barrier stands outside of every `if`.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# `s[threadIdx.x]` gets `x[i]` or 0, for threads beyond `n` too. A loop of thread 0 goes up to `blockDim.x`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     t is the place in the block, i the place in the grid
#     s at t becomes x at i if i is below n, else 0
#     wait for all
#     if t is 0: add s from 0 to blockDim.x, and write to out at the block's number
# </details>

# %%
serial = block_sum if solved("lab08a.q3") else skip("lab08a.q3")
x, out = rng.random(1024, np.float32), np.zeros(4, np.float32)
# Break it: the same kernel without its barrier.
broken = CudaKernel(serial().replace("__syncthreads();", ""))[4, 256](x, out, len(x))
print("sums right:", np.allclose(out, x.reshape(4, 256).sum(1), rtol=1e-5))
print(*(race.message for race in broken.races), sep="\n")

# %% [markdown]
# Right, and yet broken: all stores happened to run first, which a GPU does not promise. Two threads touch a place, one
# writes, nothing orders them.
#
# ## Build 4: a tree (12 minutes)
#
# Instead of thread 0, half of the threads add an element of the other half to their own, then a quarter, and so on. A
# request to shared memory takes a **wavefront** (more if banks conflict: lab 08b). **Predict**: how many per block of 256?
# Then write it: at most 64, no conflict. About 6 lines.

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_wavefronts = 45
### END SOLUTION

# %% nbgrader={"grade": false, "grade_id": "lab08a-q4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def tree_sum():
    """A kernel as block_sum, in which the number of values halves at each step.

    blockDim.x is 32, 64, 128 or 256."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__ void tree_sum(const float* x, float* out, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__ void tree_sum(const float* x, float* out, int n) {
    __shared__ float s[256];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    s[t] = i < n ? x[i] : 0;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) s[t] += s[t + half];
    }
    if (t == 0) out[blockIdx.x] = s[0];
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08a-q4-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08a.q4", tree_sum)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Fold the array like paper: the far half onto the near half. The threads that still work are then 0, 1, 2, ...
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# A loop over `half`: `blockDim.x / 2`, halved until it is 0. In it a barrier for all, then an `if` for the threads below
# `half`.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     s at t becomes x at i, or 0
#     for half from blockDim.x / 2 down to 1, halved each time:
#         wait for all
#         if t is below half: add s at t + half to s at t
#     thread 0 writes s at 0
# </details>

# %%
tree = tree_sum if solved("lab08a.q4") else skip("lab08a.q4")
whose = "yours" if solved("lab08a.q4") else "the reference"


def wavefronts(source, threads):
    x, out = rng.random(threads, np.float32), np.zeros(1, np.float32)
    return CudaKernel(source)[1, threads](x, out, threads).shared.wavefronts


sizes = [32, 64, 128, 256]
fig, ax = plt.subplots()
ways = (serial, "thread 0 adds", "idle"), (tree, f"tree ({whose})", "yours")
for source, label, color in ways:
    taken = [wavefronts(source(), n) for n in sizes]
    ax.plot(sizes, taken, "o-", color=PALETTE[color], label=label)
prediction(ax, 256, predicted_wavefronts)
ax.legend(loc="upper left")
ax.set(xlabel="threads per block", ylabel="wavefronts per block", xticks=sizes, xlim=(0, 330))
ax.set_title("A tree takes a sixth of the turns, and eight steps instead of 256")
show(fig)


# %% [markdown]
# ## Build 5: the whole grid (10 minutes)
#
# The lanes of a warp need no memory between them: `__shfl_down_sync(0xffffffff, v, k)` gives the `v` of the lane `k` places
# further up. And `atomicAdd(out, v)` lets threads of all blocks add to one place, one after the other. Sum everything in
# one launch: first strides, then the warp, then **one** atomic addition per warp. About 5 lines.

# %% nbgrader={"grade": false, "grade_id": "lab08a-q5", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def grid_sum():
    """A kernel that adds the sum of x to out[0], 0 before; blockDim.x is a multiple of 32."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__ void grid_sum(const float* x, float* out, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__ void grid_sum(const float* x, float* out, int n) {
    float sum = 0;
    int first = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    for (int i = first; i < n; i += step) sum += x[i];
    for (int k = 16; k > 0; k /= 2) sum += __shfl_down_sync(0xffffffff, sum, k);
    if (threadIdx.x % 32 == 0) atomicAdd(out, sum);
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08a-q5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08a.q5", grid_sum)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# The loop of build 2 leaves one number in each thread. A warp folds its 32 numbers as the tree did, with shuffles in place
# of shared memory and barriers.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# All 32 lanes shuffle, at distances 16, 8, 4, 2, 1; no `if` around it. Afterwards lane 0, that is
# `threadIdx.x % 32 == 0`, holds the sum of its warp.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     sum in strides, as before
#     for k from 16 down to 1, halved: add to sum the shuffled-down sum at distance k
#     if this is lane 0: atomicAdd to out
# </details>

# %%
grid = grid_sum if solved("lab08a.q5") else skip("lab08a.q5")
ATOMIC = r"""extern "C" __global__ void atomic(const float* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(out, x[i]);
}"""

# %%
x, costs, ways = rng.random(16_384, np.float32), {}, {"an atomic per element": ATOMIC}
made = {"thread 0 per block": (3, serial), "tree per block": (4, tree), "grid": (5, grid)}
for name, (part, kernel) in made.items():
    ways[f"{name} ({'yours' if solved(f'lab08a.q{part}') else 'the reference'})"] = kernel()
for name, source in ways.items():
    out, blocks = np.zeros(64, np.float32), 8 if source == grid() else 64
    done = CudaKernel(source)[blocks, 256](x, out, len(x))
    costs[name] = done.global_loads.sectors, done.shared.wavefronts, done.global_stores.bytes // 4

# %%
fig, ax = plt.subplots(figsize=(7, 3.8))
parts = {"sectors read": "memory", "shared wavefronts": "compute"}
parts["values sent out"] = "communication"
for k, (label, color) in enumerate(parts.items()):
    counts = [max(c[k], 0.5) for c in costs.values()]
    ax.barh(np.arange(4) - 0.25 + 0.25 * k, counts, 0.22, color=PALETTE[color], label=label)
ax.set(xscale="log", xlim=(0.2, 3e6), yticks=range(4), yticklabels=costs)
ax.set_xlabel("count for 16,384 elements (0 drawn as 0.5)")
ax.invert_yaxis()
ax.legend(loc="right")
ax.set_title("All read the same; what they pass on differs 256-fold")
show(fig)

# %% [markdown]
# ## How the wait is hidden
#
# A scheduler of a multiprocessor issues one instruction per cycle, from any of up to 16 warps that does not wait. Say data
# arrive after 500 cycles, and a load with its share of the loop is 12 instructions. NVIDIA's compiler unrolls your loop:
# four loads leave together, then the warp waits once. How many warps until the scheduler never idles?

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_warps = 12
### END SOLUTION

# %%
def schedule(warps, work, wait=500, rounds=12):
    """A scheduler that switches to the warp that is ready first: (warp, start, end) of each turn."""
    ready, now, ran = [0.0] * warps, 0.0, []
    for _ in range(rounds * warps):
        warp = min(range(warps), key=ready.__getitem__)
        start = max(now, ready[warp])
        now = start + work
        ready[warp] = now + wait
        ran.append((warp, start, now))
    return ran


def busy(warps, work):
    ran = schedule(warps, work)
    return sum(end - start for _, start, end in ran) / ran[-1][2]


# %%
per_load = done.instructions / done.global_loads.requests  # of the grid kernel
fig, (left, right) = plt.subplots(1, 2)
for warp, start, end in schedule(4, 4 * per_load):
    left.plot([start, end], [warp, warp], lw=14, color=PALETTE["compute"], solid_capstyle="butt")
left.set(xlim=(0, 1500), xlabel="cycle (model)", ylabel="warp", yticks=range(4))
left.set_title(f"4 warps: {busy(4, 4 * per_load):.0%} busy")
warps = np.arange(1, 17)
for loads, color in ((4, "compute"), (1, "idle")):
    share = [busy(w, loads * per_load) for w in warps]
    right.plot(warps, share, "o-", color=PALETTE[color], label=f"loads in flight: {loads}")
prediction(right, predicted_warps)
right.legend(loc="upper left", fontsize=8)
right.set(xlabel="warps per scheduler", ylabel="busy (share of cycles, model)", ylim=(0, 1.4))
right.set_title("Warps hide the wait")
show(fig)

# %% [markdown]
# ## The library's problem, on your kernels
#
# Before each step, training measures how long its gradient is: the root of the sum of all squares. Your `square` and your
# `grid_sum` do it for the course's GPT; `optim.clip_grad_norm_` is the library's way.

# %%
from mlsys_lab import autograd as ag
from mlsys_lab import nn, optim

config = nn.GPTConfig(vocab_size=96, block_size=32, n_layer=2, n_head=4, n_embd=64)
model, tokens = nn.GPT(config, generator=rng), rng.integers(0, 96, (4, 33))
logits = model(tokens[:, :-1]).reshape(-1, 96)
ag.cross_entropy(logits, tokens[:, 1:].reshape(-1)).backward()
given = [p for p in model.parameters() if p.grad is not None]
g = np.concatenate([p.grad.numpy().ravel() for p in given])

# %% tags=["nbval-check-output"]
squared, total = np.zeros_like(g), np.zeros(1, np.float32)
CudaKernel(squares())[-(-len(g) // 256), 256](g, squared, len(g))
last = CudaKernel(grid())[40, 256](squared, total, len(g))  # 10,240 threads
theirs = optim.clip_grad_norm_(given, 1e9)
print("the norm is the library's:", bool(np.isclose(np.sqrt(total[0]), theirs, rtol=1e-4)))
print(f"{len(g):,} elements, {last.global_stores.bytes // 4} additions, {len(last.races)} races")

# %% tags=["bonus-gpu"]
# Bonus, where CuPy sees a GPU: the same source on it.
x, out = rng.random(1 << 20, np.float32), np.zeros(1, np.float32)
try:
    CudaKernel(grid())[264, 256](x, out, len(x), device="gpu")
    print("the sum is NumPy's:", bool(np.isclose(out[0], x.sum(), rtol=1e-4)))
except RuntimeError as reason:
    print(f"skipped, {reason}")

# %% [markdown]
# ## Par and bonus
#
# Par, the lines of a short answer: 2, 4, 8, 7 and 5. Without points: one kernel instead of two for the norm reads and writes
# how many bytes less? And which sum of a million floats is closer to the truth, one thread's or the tree's?
#
# ## What you now know
#
# Threads of a warp read together, so neighbours should read neighbours. A block passes values through shared memory with a
# barrier before each reading, a warp through shuffles, and a grid through few atomics. None of it makes memory answer sooner:
# other warps, and further loads, fill the wait.
#
# Where this is wrong: the counts are those of PTX and of full requests; caches, clocks and what the assembler changes are
# not simulated, and the wait of 500 cycles is assumed.
#
# The real system: [CUB's device-wide reduction](https://nvidia.github.io/cccl/cub/api/file_cub_device_device_reduce.cuh.html).
