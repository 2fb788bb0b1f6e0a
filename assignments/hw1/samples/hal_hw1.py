# HW1, Hal
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
    trace = []
    for corner in itertools.product(range(0, n, tile), repeat=3):
        spans = [range(start, min(start + tile, n)) for start in corner]
        for step in itertools.product(*spans):
            at = dict(zip(order, step, strict=True))
            i, j, k = at["i"], at["j"], at["k"]
            trace += [i * n + k, n * n + k * n + j, 2 * n * n + i * n + j]
    return trace


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
    (n, m), p = a.shape, b.shape[1]
    c = np.zeros((n, p), dtype=np.result_type(a, b))
    for i in range(0, n, tile):
        for j in range(0, p, tile):
            for k in range(0, m, tile):
                rows, inner, columns = slice(i, i + tile), slice(k, k + tile), slice(j, j + tile)
                c[rows, columns] += multiply(a[rows, inner], b[inner, columns])
    return c


def tile_misses(n, tile, line):
    """Predict the misses of a tiled product whose tile fits: every tile product fetches 3 tiles.

    Args:
        n: rows and columns; a multiple of tile.
        tile: rows and columns of a tile; a multiple of line.
        line: words in a line.

    Returns:
        The number of misses, an int.
    """
    return 3 * (n // tile) ** 3 * tile * tile // line


def choose_tile(n, line, capacity):
    """Choose the tile with the fewest misses (see Goto and van de Geijn, ACM TOMS 34(3), 2008).

    Returns:
        The largest multiple of line that divides n and fits (tile**2 / line + 3 * tile / line + 1
        lines), or None where none does.
    """
    tiles = (t for t in range(line, n + 1, line) if n % t == 0)
    return max((t for t in tiles if (t * t + 3 * t) // line + 1 <= capacity), default=None)


def ridge_point(peak_flops, bandwidth):
    """The intensity (FLOP/byte) from which on a machine can reach its peak.

    Args:
        peak_flops: FLOP/s.
        bandwidth: byte/s.
    """
    return peak_flops / bandwidth


def attainable(intensity, peak_flops, bandwidth):
    """The roof: FLOP/s that an operation can reach (Williams and others, Roofline, CACM 52(4), 2009).

    Args:
        intensity: FLOP/byte, a number or an array of any shape.
        peak_flops, bandwidth: FLOP/s and byte/s.

    Returns:
        FLOP/s, of the shape of intensity.
    """
    return np.minimum(peak_flops, np.asarray(intensity) * bandwidth)


def work(operation, n, itemsize):
    """Count the FLOPs and the least bytes of an operation.

    Args:
        operation: "axpy", "matvec" or "matmul".
        n: length of a vector, rows and columns of a matrix.
        itemsize: bytes of a number.

    Returns:
        (flops, bytes), two whole numbers.
    """
    flops, words = {
        "axpy": (2 * n, 3 * n),
        "matvec": (2 * n * n, n * n + 2 * n),
        "matmul": (2 * n**3, 3 * n * n),
    }[operation]
    return flops, words * itemsize


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
    for tile in range(1, n + 1):
        moved = (2 * n**3 // tile + n * n) * itemsize
        if n % tile == 0 and 2 * n**3 / moved >= peak_flops / bandwidth:
            return tile
    return None


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


def bloom_size(count, false_positive_rate):
    """Choose a filter's bits (rounded up) and hashes (rounded to the nearest, at least 1).

    Returns:
        (bits, hashes), two ints.
    """
    bits = math.ceil(-count * math.log(false_positive_rate) / math.log(2) ** 2)
    return bits, max(1, round(bits / count * math.log(2)))


def bloom_build(keys, bits, hashes):
    """Build a filter: a bool array of bits, True at every position of every key (hash_positions)."""
    bloom = np.zeros(bits, dtype=bool)
    bloom[hash_positions(keys, hashes, bits)] = True
    return bloom


def might_hold(bloom, keys, hashes):
    """Ask a filter: for each key, could it be in? A bool array, one answer for each key."""
    return bloom[hash_positions(keys, hashes, bloom.size)].all(axis=1)


def merge_runs(runs, drop_tombstones):
    """Merge sorted runs into one.

    Args:
        runs: list of runs, the newest first; a run is a list of (key, value), keys rising.
        drop_tombstones: leave out the keys whose newest value is None.

    Returns:
        One run: keys rising, each once, with its newest value.
    """
    newest = {}
    for run in reversed(runs):
        newest.update(run)
    merged = sorted(newest.items())
    return [(key, value) for key, value in merged if not (drop_tombstones and value is None)]


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


def put(tree, key, value):
    """Set a key; value None deletes it."""
    tree.memtable[key] = value
    if len(tree.memtable) >= tree.memtable_limit:
        store(tree, sorted(tree.memtable.items()), level=0)
        tree.memtable = {}


def get(tree, key):
    """The newest value of a key, or None where it is absent or deleted."""
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


def compact(tree):
    """Merge every level that holds tree.fanout runs or more into the next, from the youngest on."""
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


def write_amplification(n, memtable_limit, fanout):
    """Entries written to disk for each of n puts of different keys, compactions included."""
    written, size = 0, memtable_limit
    while size <= n:
        written += n // size * size
        size *= fanout
    return written / n


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


def amplification(fan, filters):
    """Entries written for each put, and lookups for each get of an absent key."""
    disk, puts, gets = CountingDisk(), 1008, 200
    script = [("put", 7919 * i % 10007, i) for i in range(puts)]
    script += [("get", 20000 + i, None) for i in range(gets)]
    replay(script, disk.write, disk.read, disk.find, disk.drop, 16, fan, filters)
    return disk.written / puts, disk.lookups / gets


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


def build_model(k):
    """An unfitted Pipeline: SimpleImputer, StandardScaler, SelectKBest, LogisticRegression.

    Args:
        k: columns to keep.
    """
    return Pipeline(
        [
            ("fill", SimpleImputer()),
            ("scale", StandardScaler()),
            ("select", SelectKBest(f_classif, k=k)),
            ("classify", LogisticRegression(max_iter=200)),
        ]
    )


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
    scores = []
    for f in np.unique(fold):
        test = fold == f
        predicted = fit_predict(x[~test], y[~test], x[test])
        scores.append(np.mean(predicted == y[test]))
    return np.array(scores)


def mended_score(x, y, k, fold):
    """Mean accuracy over the folds; no step sees a test row or its label before it is scored."""

    def honest(rows, labels, new_rows):
        return build_model(k).fit(rows, labels).predict(new_rows)

    return float(np.mean(fold_scores(x, y, fold, honest)))


def scores_over_draws(score, shuffled, draws=5):
    """The scores of a protocol on several draws of the table."""
    found = []
    for seed in range(draws):
        table, labels = noisy_tumours(seed)
        dice = np.random.default_rng(100 + seed)
        parts = dice.permutation(np.arange(150) % 5)
        found.append(score(table, dice.permutation(labels) if shuffled else labels, 20, parts))
    return found


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
