"""The graph of a result, as the tape recorded it: a box per operation, arguments above results.

Each box says its operation and arguments by number, so its words alone tell the whole graph. Layers are
longest paths, and each layer is sorted by the mean place of its neighbours (Sugiyama et al. 1981).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlsys_lab._core.style import PALETTE
from mlsys_lab.autograd.tape import Node, tape_of
from mlsys_lab.autograd.tensor import Tensor, pull
from mlsys_lab.viz.profile import arrays


def graph(result: Tensor, *, names: Mapping[str, Tensor] | None = None, most: int = 30) -> Any:
    """Draw the tape behind a result: operation, shape, dtype, bytes, size of values and gradients.

    The gradients come from a backward of its own, which changes no `.grad` (hooks of inner tensors run);
    where the result is not one number there are none. A value is told where the tape kept it.

    Args:
        result: a tensor whose tape still stands: draw before backward, or after one with retain_graph=True.
        names: what to call leaves, such as `dict(model.named_parameters())`.
        most: draw this many operations and leaves, those nearest the result.

    Returns:
        A matplotlib figure; `viz.show` adds its text.
    """
    import matplotlib.pyplot as plt

    every = tape_of([result._node()])
    nodes = every[:most][::-1]  # oldest first
    labels = dict(zip(nodes, describe(result, every, nodes, names or {}), strict=True))
    place, bends = layout(nodes)
    points = [*place.values(), *(bend for path in bends.values() for bend in path)]
    wide, high = (1 + max(point[i] for point in points) for i in (0, 1))
    figure, axes = plt.subplots(figsize=(max(7.0, 2.5 * wide), 0.8 + 1.15 * high))
    for (parent, child), path in bends.items():
        xs, ys = zip(place[parent], *path, place[child], strict=True)
        axes.plot(xs, ys, color=PALETTE["idle"], lw=1.2, zorder=1)
        axes.annotate("", (np.mean(xs[-2:]), np.mean(ys[-2:])), (xs[-2], ys[-2]), zorder=1,
                      arrowprops={"arrowstyle": "-|>", "color": PALETTE["idle"], "lw": 1.2})  # fmt: skip
    for node in nodes:
        colour = PALETTE["memory"] if node.op is None else PALETTE["compute"]
        box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": colour, "lw": 1.5}
        axes.text(*place[node], labels[node], ha="center", va="center", fontsize=8, bbox=box, gid="said")
    title = f"The tape: {len(nodes)} of {len(every)} boxes"
    if len(nodes) < len(every):
        title += f", those nearest the result\n(all: most={len(every)}; a part: graph of an inner tensor)"
    axes.set_title(title, fontsize=9)
    axes.set(xlim=(-0.6, wide - 0.4), ylim=(high - 0.4, -0.6))
    axes.axis("off")
    return figure


def parents(node: Node) -> list[Node]:
    """The nodes that this one was made of, in the order of its arguments."""
    found = [p for edge in node.edges for p in (edge[0] if isinstance(edge[0], tuple) else edge[:1])]
    return [p for p in found if p is not None]


def describe(result: Tensor, every: list[Node], nodes: list[Node], names: Mapping[str, Tensor]) -> list[str]:
    """What each box says."""
    grads: dict[Node, Any] = {}
    if result.size == 1:
        pull([result], [None], lambda node, g, _: grads.update({node: g}), wanted=every, retain_graph=True)
    values = {t.node: t.data for t in names.values()} | kept_values(every) | {result.node: result.data}
    called = {t.node: name for name, t in names.items()}
    number = {node: i for i, node in enumerate(every[::-1], start=1)}
    said = []
    for node in nodes:
        made_of = ", ".join(f"#{number[p]}" for p in parents(node))
        head = f"#{number[node]} " + (
            called.get(node, "leaf") if node.op is None else f"{node.op.name}({made_of})"
        )
        held = sum({id(a): a.nbytes for edge in node.edges for a in arrays(edge[2])}.values())
        keeps = [f"keeps {held:,} B for backward"] if held else []
        size = math.prod(node.shape) * node.dtype.itemsize
        sizes = [f"{k} {rms(d[node])}" for k, d in (("value", values), ("grad", grads)) if node in d]
        lines = [head, f"{tuple(node.shape)} {node.dtype}, {size:,} B", *keeps]
        said.append("\n".join([*lines, *(["rms: " + ", ".join(sizes)] if sizes else [])]))
    return said


def rms(array: Any) -> str:
    return f"{math.sqrt(float((array.astype(float) ** 2).mean())):.3g}" if array.size else "none"


def kept_values(nodes: list[Node]) -> dict[Any, Any]:
    """The values that rules read and the tape therefore kept, by the node that made them."""
    found: dict[Any, Any] = {}
    for node in nodes:
        at: dict[int, Any] = {0: node}
        for parent, rule, _ in node.edges:
            at.update(enumerate(parent, 1) if isinstance(parent, tuple) else [(rule.argument + 1, parent)])
        for _, rule, saved in node.edges:
            pairs = [(at.get(p), v) for p, v in zip(rule.positions, saved, strict=False)]
            found |= {n: v for n, v in pairs if n is not None and getattr(v, "shape", None) == n.shape}
    return found


Point = tuple[float, float]


def straighten(
    chain: list[Any], rows: list[list[Any]], layer: dict[Any, int], column: dict[Any, float]
) -> None:
    """Give the bends of a long line one column, the outermost of theirs, where nothing stands in its way.

    Args:
        chain: what the line starts from, then its bends. The start moves along where there is room for it.
        rows, layer, column: the drawing so far; columns are changed.
    """
    if len(chain) < 2:
        return
    middle = float(np.mean(list(column.values())))
    at = max((column[bend] for bend in chain[1:]), key=lambda c: abs(c - middle))
    free = [all(y is x or abs(column[y] - at) >= 1 for y in rows[layer[x]]) for x in chain]
    if all(free[1:]):
        column.update(dict.fromkeys(chain[0 if free[0] else 1 :], at))


def layout(nodes: list[Node]) -> tuple[dict[Node, Point], dict[tuple[Node, Node], list[Point]]]:
    """Where each node stands (column, layer), and where a line that crosses layers bends.

    Args:
        nodes: oldest first.
    """
    inside = set(nodes)
    links = [(p, n) for n in nodes for p in dict.fromkeys(parents(n)) if p in inside]
    layer: dict[Any, int] = {}
    for node in sorted(nodes, key=lambda n: n.op is not None):  # leaves, then operations, oldest first
        layer[node] = max([layer[p] + 1 for p, n in links if n is node], default=0)
    for node in nodes:
        if node.op is None:  # a leaf stands just above its first use
            layer[node] = min([layer[n] for p, n in links if p is node], default=1) - 1
    chains: dict[tuple[Node, Node], list[Any]] = {}
    for p, n in links:
        chains[p, n] = [(p, n, i) for i in range(layer[p] + 1, layer[n])]  # a place to pass in each layer
        layer.update({bend: bend[2] for bend in chains[p, n]})
    steps = [pair for (p, n), via in chains.items() for pair in zip([p, *via], [*via, n], strict=True)]
    rows: list[list[Any]] = [[x for x in layer if layer[x] == i] for i in range(max(layer.values()) + 1)]
    column = {x: float(i) for row in rows for i, x in enumerate(row)}
    near: dict[Any, list[Any]] = {x: [] for x in layer}
    for a, b in steps:
        near[a].append(b)
        near[b].append(a)
    width = max(map(len, rows))
    for _ in range(8):
        for row in rows:
            wish = {x: np.mean([column[y] for y in near[x]] or [column[x]]) for x in row}
            row.sort(key=wish.__getitem__)
            column.update({x: i + (width - len(row)) / 2 for i, x in enumerate(row)})
    for (p, _), via in chains.items():
        straighten([p, *via], rows, layer, column)
    point = {x: (column[x], float(layer[x])) for x in layer}
    return {n: point[n] for n in nodes}, {link: [point[b] for b in via] for link, via in chains.items()}
