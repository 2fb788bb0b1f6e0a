# ---
# jupyter:
#   kernelspec:
#     display_name: MLSys Lab
#     language: python
#     name: python3
#   mlsys_lab:
#     minutes: 75
#     needs:
#     - nvidia-cuda-nvrtc
#     - scikit-learn
#     parts:
#     - kernels
#     - autograd
#     - viz
#     paths:
#     - training
#     - inference
#     points: 10
#     prerequisites:
#     - 08a
#     title: Why is a naive matrix product slow?
#     week: 5
# ---

# %% [markdown]
# # Why is a naive matrix product slow?
#
# | | |
# |---|---|
# | **Goal** | make one product use each number it fetches more often: in a warp, in a block, in a thread |
# | **Time** | 75 minutes, 54 of them in four exercises |
# | **Points** | 10: coalescing 2, tiles 3, banks 2, registers 3 |
# | **Parts** | `mlsys_lab.kernels`, without a GPU; at the end `autograd` |
# | **Before** | lab 08a |

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

# H100 SXM, NVIDIA's data sheet: float32 without tensor cores 67 TFLOP/s, memory 3.35 TB/s.
peak, bandwidth = 67e12, 3.35e12
uses = np.geomspace(1, 1024, 101)  # of each float that is fetched; a multiply-add needs two of them
rate = np.minimum(peak, bandwidth * uses * 2 / 8)
fig, ax = plt.subplots()
ax.loglog(uses, rate / 1e12, color=PALETTE["memory"], label="limit set by the memory")
bound(ax, peak / 1e12, "arithmetic: 67 TFLOP/s")
ax.axvline(peak / bandwidth * 4, ls=":", color=PALETTE["idle"], label="80 uses")
ax.legend(loc="lower right")
ax.set(xlabel="uses of each float fetched", ylabel="most TFLOP/s (model)", ylim=(0.5, 200))
ax.set_title("Used once per fetch, numbers feed 1 % of the arithmetic")
show(fig)

# %% [markdown]
# A product of two matrices uses each number $n$ times. Whether it is *fetched* $n$ times is up to the kernel. $C = AB$, all
# $(n, n)$, float32, row by row; $n$ is a multiple of 64. Here is the first idea: a thread per result.

# %%
from functools import cache

from autograder.machine import need

need("nvrtc")  # NVIDIA's compiler, where it is missing
from mlsys_lab.kernels import CudaKernel

compiled = cache(CudaKernel)
NAIVE = r"""extern "C" __global__ void naive(const float* a, const float* b, float* c, int n) {
    int row = blockIdx.x * blockDim.x + threadIdx.x, col = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + col];
    c[row * n + col] = sum;
}"""


# %%
def product(source, a, b, tile=32, rows=32):
    """(c, report) of blocks of 32 by `rows` threads for 32 by `tile` results. a, b: (n, n)."""
    n, c = len(a), np.zeros_like(a)
    report = compiled(source)[(n // 32, n // tile), (32, rows)](a, b, c, n)
    return c, report


# %%
n, rng = 128, np.random.default_rng(0)
a, b = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
steps = n**3 / 32  # multiply-adds of a warp
c, slow = product(NAIVE, a, b, tile=8, rows=8)
print("right:", np.allclose(c, a @ b, atol=1e-3))

# %% [markdown]
# ## Build 1: whose neighbour? (8 minutes)
#
# A warp is 32 threads that follow one another in `threadIdx.x`. For each multiply-add it makes a request for `a` and one
# for `b`. **Predict**: how many sectors of 32 bytes do both touch together, in `naive`?
#
# Then rewrite the kernel for the same blocks of 32 x 8 threads, so that it takes 5. About 1 line changes.

# %% tags=["predict"]
### BEGIN SOLUTION
predicted_sectors = 33
### END SOLUTION

# %% nbgrader={"grade": false, "grade_id": "lab08b-q1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def coalesced():
    """A kernel that writes c = a @ b. Started with n / 32 by n / 8 blocks of 32 by 8 threads."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__
    ### STARTER: void coalesced(const float* a, const float* b, float* c, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__
void coalesced(const float* a, const float* b, float* c, int n) {
    int col = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + col];
    c[row * n + col] = sum;
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08b-q1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08b.q1", coalesced)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# In which direction do the numbers of a matrix lie side by side? The threads of a warp should walk that way.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# With neighbouring columns, a warp needs one number of `a` (one sector for all lanes) and 32 neighbours of `b` (4 sectors).
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     the column comes from the x of block and thread, the row from their y
#     all else as in naive
# </details>

# %%
better = coalesced if solved("lab08b.q1") else skip("lab08b.q1")
whose = "yours" if solved("lab08b.q1") else "the reference"
fast = product(better(), a, b, tile=8, rows=8)[1]
sectors = [report.global_loads.sectors / steps for report in (slow, fast)]

# %%
fig, ax = plt.subplots(figsize=(7, 2.8))
colors = [PALETTE["memory"], PALETTE["yours"]]
ax.barh(["naive", f"coalesced ({whose})"], sectors, 0.5, color=colors)
prediction(ax, predicted_sectors, 0)
ax.invert_yaxis()
ax.set(xlabel="sectors per multiply-add of a warp", xlim=(0, 48))
ax.set_title("The same work, for 33 sectors or for 5")
show(fig)


# %% [markdown]
# ## Build 2: a block shares tiles (18 minutes)
#
# Still every warp fetches all of its numbers itself. A block of 32 x 32 threads makes 32 x 32 results: its 32 rows of `a`
# serve all its columns. Step along $k$ by 32: each thread brings one number of `a` and one of `b` into shared memory, then
# all multiply these two tiles (`__shared__ float as[32][32];`). A barrier before reading, and one before the next tile is stored. About 12 lines.

# %% nbgrader={"grade": false, "grade_id": "lab08b-q2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def tiled():
    """A kernel that writes c = a @ b. Started with n / 32 by n / 32 blocks of 32 by 32 threads."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__
    ### STARTER: void tiled(const float* a, const float* b, float* c, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__
void tiled(const float* a, const float* b, float* c, int n) {
    __shared__ float as[32][32], bs[32][32];
    int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 32 + y, col = blockIdx.x * 32 + x;
    float sum = 0;
    for (int k = 0; k < n; k += 32) {
        as[y][x] = a[row * n + k + x];
        bs[y][x] = b[(k + y) * n + col];
        __syncthreads();
        for (int j = 0; j < 32; ++j) sum += as[y][j] * bs[j][x];
        __syncthreads();
    }
    c[row * n + col] = sum;
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08b-q2-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab08b.q2", tiled)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# The loop over `k` falls into stretches of 32. For each: fetch both tiles, wait, multiply, wait.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# The tile of `a` covers this block's rows and columns `k` to `k + 31`; that of `b` covers rows `k` to `k + 31` and this block's
# columns. Thread `(y, x)` brings element `[y][x]` of both.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     two shared arrays of 32 by 32; x, y, row, col; sum is 0
#     for k from 0 below n by 32:
#         as[y][x] is a at this row, column k + x
#         bs[y][x] is b at row k + y, this column
#         wait; for j below 32: add as[y][j] times bs[j][x]; wait
#     write sum to c
# </details>

# %%
tile_kernel = tiled if solved("lab08b.q2") else skip("lab08b.q2")
whose = "yours" if solved("lab08b.q2") else "the reference"
shared = product(tile_kernel(), a, b)[1]
print(f"sectors per multiply-add: {fast.global_loads.sectors / steps:.3g} before,", end=" ")
print(f"{shared.global_loads.sectors / steps:.3g} with tiles ({whose})")

# %%
# Break it: the same kernel without its last barrier.
before, _, after = tile_kernel().rpartition("__syncthreads();")
c, broken = product(before + after, a, b)
print("right:", np.allclose(c, a @ b, atol=1e-3))
print(*(race.message for race in broken.races[:1]), sep="\n")


# %% [markdown]
# Behind the products: a fast warp stores the next tile while a slow one still reads this. If your last barrier stood
# before them: one reads what another has not stored.
#
# ## Build 3: thirty-two banks (10 minutes)
#
# Shared memory has 32 **banks**, each 4 bytes wide: word $w$ lies in bank $w \bmod 32$. Lanes that want different words
# of one bank take turns: each turn is a **wavefront**. Attention needs $C = AB^T$; `turned` computes that from tiles.
# **Predict**: wavefronts per multiply-add of a warp? (`tiled` needs 2.)

# %%
def turned():
    """A kernel that writes c = a @ b.T; the tile of b is read along its columns."""
    return r"""extern "C" __global__ void turned(const float* a, const float* b, float* c, int n) {
    __shared__ float left[32][32], right[32][32];
    int x = threadIdx.x, y = threadIdx.y, i = blockIdx.y * 32, j = blockIdx.x * 32;
    float sum = 0;
    for (int k = 0; k < n; k += 32) {
        left[y][x] = a[(i + y) * n + k + x];
        right[y][x] = b[(j + y) * n + k + x];
        __syncthreads();
        for (int m = 0; m < 32; ++m) sum += left[y][m] * right[x][m];
        __syncthreads();
    }
    c[(i + y) * n + j + x] = sum;
}"""


# %% tags=["predict"]
### BEGIN SOLUTION
predicted_wavefronts = 33
### END SOLUTION

# %% [markdown]
# Return a kernel `turned` that computes the same with no conflict and no further sectors: your own text, or that of
# `turned()` with a change. About 1 line.

# %% nbgrader={"grade": false, "grade_id": "lab08b-q3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def padded():
    """The kernel `turned` without bank conflicts: c = a @ b.T, in the same launch as `tiled`."""
    ### BEGIN SOLUTION
    return turned().replace("right[32][32]", "right[32][33]")
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08b-q3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("lab08b.q3", padded)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Lane `x` reads word `32 * x + m` of `right`. In which bank is that, for each `x`?
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# Were the rows of the array one word longer, lane `x` would read word `33 * x + m`. Nobody has to use that last word.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     take the text of turned(), and replace the declared size of right:
#     32 rows as before, 33 columns
# </details>

# %%
without = padded if solved("lab08b.q3") else skip("lab08b.q3")
whose = "yours" if solved("lab08b.q3") else "the reference"
reports = [product(source, a, b)[1] for source in (turned(), without())]
turns = [report.shared.wavefronts / steps for report in reports]

# %%
fig, (left, right) = plt.subplots(1, 2)
lane = np.arange(32)
left.plot(lane, 32 * lane % 32, "o", color=PALETTE["memory"], label="rows of 32 words")
left.plot(lane, 33 * lane % 32, "x", color=PALETTE["yours"], label="rows of 33 words")
left.set(xlabel="lane", ylabel="bank of its word", ylim=(-2, 44))
left.legend(loc="upper left", fontsize=8)
left.set_title("One column, one bank")
right.barh(["turned", f"padded\n({whose})"], turns, 0.5, color=[PALETTE["memory"], PALETTE["yours"]])
prediction(right, predicted_wavefronts, 0)
right.invert_yaxis()
right.set(xlabel="wavefronts per multiply-add", xlim=(0, 70))
right.set_title("A word of padding frees 31 turns")
show(fig)


# %% [markdown]
# ## Build 4: registers (18 minutes)
#
# A multiply-add still takes two wavefronts, two cycles in which an H100 could issue eight. Registers are nearer.
# Let each thread make **four** results of one column, 8 rows apart: a number of `b` then serves four multiply-adds. Blocks
# are 32 x 8 threads for 32 x 32 results, so each thread brings four numbers of each tile. At most 1.4 wavefronts per
# multiply-add. About 15 lines.

# %% nbgrader={"grade": false, "grade_id": "lab08b-q4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def registers():
    """A kernel that writes c = a @ b. Started with n / 32 by n / 32 blocks of 32 by 8 threads."""
    ### BEGIN SOLUTION
    ### STARTER: return r"""extern "C" __global__
    ### STARTER: void registers(const float* a, const float* b, float* c, int n) {
    ### STARTER: }"""
    return r"""extern "C" __global__
void registers(const float* a, const float* b, float* c, int n) {
    __shared__ float as[32][32], bs[32][32];
    int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 32 + y, col = blockIdx.x * 32 + x;
    float sum[4] = {};
    for (int k = 0; k < n; k += 32) {
        for (int r = 0; r < 32; r += 8) {
            as[y + r][x] = a[(row + r) * n + k + x];
            bs[y + r][x] = b[(k + y + r) * n + col];
        }
        __syncthreads();
        for (int j = 0; j < 32; ++j)
            for (int r = 0; r < 4; ++r) sum[r] += as[y + 8 * r][j] * bs[j][x];
        __syncthreads();
    }
    for (int r = 0; r < 4; ++r) c[(row + 8 * r) * n + col] = sum[r];
}"""
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "lab08b-q4-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("lab08b.q4", registers)

# %% [markdown] tags=["hint-1", "hint-2", "hint-3"]
# <details><summary>Hint 1: the idea</summary>
#
# Start from `tiled`. What was one becomes four, in three places: what a thread brings, what it adds, what it writes.
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# `float sum[4] = {};` holds rows `y`, `y + 8`, `y + 16`, `y + 24` of the tile. The loop over the four stands inside the loop over
# `j`, so that `bs[j][x]` is read once for all of them.
# </details>
#
# <details><summary>Hint 3: nearly the code</summary>
#
#     for k by 32:
#         for r in 0, 8, 16, 24: row y + r of both tiles, as in tiled
#         wait
#         for j below 32, for r below 4: add as[y + 8 r][j] times bs[j][x] to sum[r]
#         wait
#     for r below 4: write sum[r] to row + 8 r
# </details>

# %%
in_registers = registers if solved("lab08b.q4") else skip("lab08b.q4")
whose = "yours" if solved("lab08b.q4") else "the reference"
last = product(in_registers(), a, b, rows=8)[1]
ladder = {"naive": slow, "coalesced": fast, "tiled": shared, f"registers ({whose})": last}


# %% [markdown]
# ## Which roof?
#
# Per cycle, a multiprocessor of an H100 can issue 4 multiply-adds of a warp, serve 1 wavefront, and get 12.8 bytes of the
# memory's bandwidth (3.35 TB/s over 132 multiprocessors at 1.98 GHz). If no cache helped, the slowest of the three would
# decide.

# %%
def cycles(report):
    """Cycles of a multiprocessor per multiply-add of a warp: memory, shared memory, arithmetic."""
    loads, stores = report.global_loads.sectors, report.global_stores.sectors
    bytes_moved = 32 * (loads + stores) / steps
    return bytes_moved / 12.8, report.shared.wavefronts / steps, 1 / 4


# %%
fig, ax = plt.subplots(figsize=(7, 3.8))
roofs = {"memory": "memory", "shared memory": "communication", "arithmetic": "compute"}
for k, (label, color) in enumerate(roofs.items()):
    need_of = [max(cycles(report)[k], 0.01) for report in ladder.values()]
    ax.barh(np.arange(4) + 0.25 * (k - 1), need_of, 0.22, color=PALETTE[color], label=label)
ax.set(xscale="log", xlim=(0.01, 3000), yticks=range(4), yticklabels=ladder)
ax.set_xlabel("cycles per multiply-add of a warp (model, no caches; 0 drawn as 0.01)")
ax.invert_yaxis()
ax.legend(loc="lower right")
ax.set_title("The bottleneck moves from memory to shared memory")
show(fig)

# %% [markdown]
# Caches soften the first two steps. On an A6000, Boehm (2022) measured, in percent of cuBLAS: naive 1.3, coalesced 8.5,
# tiled 12.8, and with registers, 8 and then 8 x 8 results per thread, 36.5 and 68.7.
#
# ## The library's problem, on your kernels
#
# A network learns digits. Both of its products run on your `registers`; the gradient of the left factor, $G B^T$, on your
# `padded`.

# %%
from sklearn.datasets import load_digits

from mlsys_lab import autograd as ag

on_gpu = ag.primitive(
    "on_gpu",
    lambda a, b: product(in_registers(), a, b, rows=8)[0],
    lambda g, b: product(without(), g, b)[0],
    lambda g, a: product(in_registers(), np.ascontiguousarray(a.T), g, rows=8)[0],
)

# %%
images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)  # (1797, 64)
start = [rng.normal(0, 0.2, (64, 64)).astype(np.float32) for _ in range(2)]
batches = rng.integers(0, len(images), (60, 64))  # 60 steps, 64 images each


def train(multiply):
    """The loss at each step; 64 outputs, of which ten are digits."""
    w, losses = [ag.Tensor(s.copy(), requires_grad=True) for s in start], []
    for batch in batches:
        hidden = ag.tanh(multiply(ag.Tensor(images[batch]), w[0]))  # (64, 64)
        loss = ag.cross_entropy(multiply(hidden, w[1]), digits[batch])
        loss.backward()
        losses.append(loss.item())
        w = [ag.Tensor(p.data - 0.5 * p.grad.data, requires_grad=True) for p in w]
    return np.array(losses)


# %% tags=["nbval-check-output"]
yours, theirs = train(on_gpu), train(ag.matmul)
print("60 steps within 0.1 % of the library's:", bool(np.abs(yours / theirs - 1).max() < 1e-3))

# %%
fig, ax = plt.subplots()
ax.plot(theirs, color=PALETTE["reference"], lw=5, alpha=0.35, label="the library's product")
ax.plot(yours, color=PALETTE["yours"], lw=1.5, label=f"CUDA on the simulator ({whose})")
ax.legend()
ax.set(xlabel="step", ylabel="loss (nats per image)", ylim=(0, 5))
ax.set_title("It learns, on kernels of your own")
show(fig)

# %% tags=["bonus-gpu"]
# Bonus, where CuPy sees a GPU: the same source on it.
c = np.zeros_like(a)
try:
    CudaKernel(in_registers())[(n // 32, n // 32), (32, 8)](a, b, c, n, device="gpu")
    print("the product is NumPy's:", np.allclose(c, a @ b, atol=1e-3))
except RuntimeError as reason:
    print(f"skipped, {reason}")

# %% [markdown]
# ## Par and bonus
#
# Par, the lines of a short answer: 4, 12, 1 and 15. Without points: four by four results per thread, in tiles of 64 x 64.
# How many wavefronts per multiply-add are left, and which roof is next?
#
# ## What you now know
#
# A product is slow while each number it fetches is used once. Each level shares with the next smaller group: a warp one
# request, a block a tile, a thread a register. When one roof is lifted the next one holds, so count all of them.
#
# Where this is wrong: caches serve much of what a warp asks for again, the assembler may merge loads, and real kernels use
# tensor cores, for which these roofs lie elsewhere.
#
# The real system: [the tiles of CUTLASS](https://docs.nvidia.com/cutlass/media/docs/cpp/gemm_api.html).
