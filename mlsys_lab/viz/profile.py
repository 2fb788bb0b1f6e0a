"""What each operation costs: calls, time, bytes and FLOPs, and the memory that the tape holds.

It listens at `observe`, puts a stopwatch around each row's forward while it listens, and one in each edge
of the tape for backward. The stopwatch of an edge lives as long as what the edge saved, so its end tells
when that was let go.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from mlsys_lab._core.backend import Array, extent, is_float
from mlsys_lab.autograd.tape import table
from mlsys_lab.autograd.tensor import Tensor
from mlsys_lab.autograd.watch import observe
from mlsys_lab.viz.flops import PICKS, count


@dataclass(frozen=True)
class Event:
    """One operation that ran: `phase` "forward" or "backward", times in seconds since the profile began."""

    name: str
    phase: str
    start_s: float
    time_s: float
    bytes_read: int
    bytes_written: int
    flops: int
    live_bytes: int  # what the tape holds for backward once this had run


@dataclass
class Row:
    """All calls of one operation in one phase."""

    name: str
    phase: str
    calls: int = 0
    time_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0


def arrays(value: Any) -> Iterator[Array]:
    """The arrays in an argument, a saved value or a list of them."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays(part)
    elif isinstance(value, Tensor):
        yield value.data
    elif hasattr(value, "nbytes") and hasattr(value, "strides"):
        yield value


def touched(array: Array) -> int:
    """The bytes in which an array lies: less than its size where it repeats them."""
    _, low, high = extent(array)
    return min(array.nbytes, high - low) if array.size else 0


def traffic(read: list[Array], made: list[Array], given: list[Array]) -> tuple[int, int]:
    """Bytes read and written by what read some arrays and made others; a view of `given` costs nothing."""
    owners = {id(extent(x)[0]) for x in given}
    written = sum(touched(x) for x in made if id(extent(x)[0]) not in owners)
    return (sum(map(touched, {id(x): x for x in read}.values())) if written else 0), written


class Stopwatch:
    """A rule on an edge of the tape: times it, and ends when the edge's saved values are let go."""

    def __init__(self, profile: profile, op: Any, rule: Any, values: Any, flops: int) -> None:
        self.profile, self.op, self.rule, self.flops = profile, op, rule, flops
        self.argument, self.positions = rule.argument, rule.positions
        self.held = profile.hold(values)

    def function(self, g: Any, *values: Any) -> Any:
        if isinstance(g, Tensor) or not self.profile.active:  # a recorded backward is heard by operation
            return self.rule.function(g, *values)
        start = self.profile.clock()
        grad = self.rule.function(g, *values)
        read = [x for x in arrays(values) if self.op.name not in PICKS or not is_float(x.dtype)]
        cost = traffic([g, *read], list(arrays(grad)), [g])
        self.profile.add(self.op.name, "backward", start, self.profile.clock(), cost, self.flops)
        return grad

    def __del__(self) -> None:
        self.profile.let_go(self.held)


class profile(observe):
    """With this, operations of this thread are counted and timed, forward and backward.

    Bytes are those of an operation's arrays, each read and written once: a cache may do with less. Time is
    that of the operation, on a GPU of its launch; `between_s` is what lies between operations: engine,
    Python, optimiser, the engine's sums of gradients. A compiled function runs operation by operation here,
    as under every observer.

    Args:
        clock: seconds; `time.perf_counter` unless given.

    Example:
        >>> with viz.profile() as p:  # doctest: +SKIP
        ...     loss(model(x), y).backward()
        >>> print(p)  # doctest: +SKIP
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(self.look)
        self.clock, self.active = clock, False
        self.events: list[Event] = []
        self.uncounted: set[str] = set()
        self.live_bytes = self.peak_bytes = 0
        self.wall_s = 0.0
        self._held: dict[int, list[int]] = {}  # owner of memory -> how many edges hold it, bytes
        self._leaves: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._span: tuple[Any, float, float] = (None, 0.0, 0.0)

    def __enter__(self) -> profile:  # type: ignore[override]
        super().__enter__()
        self.thread, self.active = threading.get_ident(), True
        self._forwards = [(op, op.forward) for op in table.values()]
        for op, forward in self._forwards:
            op.forward = self.timed(op, forward)
        self.start = self.clock()
        return self

    def __exit__(self, *error: Any) -> None:
        self.wall_s, self.active = self.clock() - self.start, False
        for op, forward in self._forwards:
            op.forward = forward
        super().__exit__(*error)

    def timed(self, op: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A row's forward that leaves on `_span` when it ran."""

        def run(*values: Any) -> Any:
            start = self.clock()
            out = forward(*values)
            if threading.get_ident() == self.thread:
                self._span = op, start, self.clock()
            return out

        return run

    def look(self, op: Any, arguments: tuple[Any, ...], result: Any) -> None:
        ran, start, end = self._span
        if ran is not op:  # an operation outside the table
            start = end = self.clock()
        out, values = result.data, [x.data if isinstance(x, Tensor) else x for x in arguments]
        if op.variadic:
            values[0] = list(arrays(arguments[0]))
        for x in arguments[0] if op.variadic else arguments:
            if isinstance(x, Tensor) and x.node is not None and x.node.op is None:
                owner = extent(x.data)[0]
                with suppress(TypeError):  # memory of an owner that allows no weak reference
                    self._leaves[id(owner)] = owner
        known = table.get(op.name) is op
        forward, backward = count(op.name, out, values) if known else (0, [0] * len(op.names))
        if not known:
            self.uncounted.add(op.name)
        given = list(arrays(values))
        read = [out, *given[1:]] if op.name in PICKS else given
        if result.node is not None:
            edges = []
            for parent, rule, kept in result.node.edges:
                flops = sum(backward) if rule.argument is None else backward[rule.argument]
                edges.append((parent, Stopwatch(self, op, rule, kept, flops), kept))
            result.node.edges = edges
        self.add(op.name, "forward", start, end, traffic(read, [out], given), forward)

    def add(self, name: str, phase: str, start: float, end: float, cost: tuple[int, int], flops: int) -> None:
        self.events.append(Event(name, phase, start - self.start, end - start, *cost, flops, self.live_bytes))

    def hold(self, values: Any) -> list[int]:
        """Count the memory of saved values, parameters aside, which live anyway."""
        held = []
        for array in arrays(values):
            owner = extent(array)[0]
            if id(owner) not in self._leaves:
                held.append(id(owner))
                entry = self._held.setdefault(id(owner), [0, getattr(owner, "nbytes", array.nbytes)])
                entry[0] += 1
                self.live_bytes += entry[1] if entry[0] == 1 else 0
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return held

    def let_go(self, held: list[int]) -> None:
        for owner in held:
            self._held[owner][0] -= 1
            if not self._held[owner][0]:
                self.live_bytes -= self._held.pop(owner)[1]

    @property
    def between_s(self) -> float:
        return self.wall_s - sum(e.time_s for e in self.events)

    def rows(self) -> list[Row]:
        """Per operation and phase the sums, the slowest first."""
        found: dict[tuple[str, str], Row] = {}
        for e in self.events:
            row = found.setdefault((e.name, e.phase), Row(e.name, e.phase))
            row.calls += 1
            for field in ("time_s", "bytes_read", "bytes_written", "flops"):
                setattr(row, field, getattr(row, field) + getattr(e, field))
        return sorted(found.values(), key=lambda row: -row.time_s)

    def _table(self) -> tuple[list[list[str]], str]:
        """The cells of the table, heads first, and the sentence below."""
        cells = [["operation", "phase", "calls", "ms", "MB read", "MB written", "MFLOP", "FLOP/byte"]]
        for r in self.rows():
            moved = r.bytes_read + r.bytes_written
            intensity = f"{r.flops / moved:.2f}" if moved else "-"
            numbers = (r.time_s * 1e3, r.bytes_read / 1e6, r.bytes_written / 1e6, r.flops / 1e6)
            cells.append([r.name, r.phase, str(r.calls), *(f"{x:.3f}" for x in numbers), intensity])
        said = (
            f"{len(self.events)} operations in {self.wall_s * 1e3:.3f} ms, {self.between_s * 1e3:.3f} ms "
            f"of them between operations; the tape held at most {self.peak_bytes / 1e6:.3f} MB for backward."
        )
        unknown = f" FLOPs not known: {', '.join(sorted(self.uncounted))}." if self.uncounted else ""
        return cells, said + unknown

    def __repr__(self) -> str:
        cells, said = self._table()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = (
            "  ".join(
                c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        )
        return "\n".join([*lines, said])

    def _repr_html_(self) -> str:
        (heads, *body), said = self._table()
        top = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
        rest = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in body)
        return f"<table><caption>{escape(said)}</caption><tr>{top}</tr>{rest}</table>"

    def to_json(self) -> dict[str, Any]:
        """The rows and the events as plain data, times in seconds."""
        return {
            "wall_s": self.wall_s,
            "between_s": self.between_s,
            "peak_bytes": self.peak_bytes,
            "rows": [asdict(row) for row in self.rows()],
            "events": [asdict(event) for event in self.events],
        }

    def to_trace(self, path: str | Path) -> None:
        """Write a file that ui.perfetto.dev and chrome://tracing open (Trace Event Format, Google 2016)."""
        here = {"pid": 1, "tid": 1}
        trace: list[dict[str, Any]] = [
            {"ph": "M", "name": f"{kind}_name", **here, "args": {"name": name}}
            for kind, name in (("process", "mlsys_lab"), ("thread", "operations"))
        ]
        for e in sorted(self.events, key=lambda e: (e.start_s, -e.time_s)):
            ts, dur = e.start_s * 1e6, e.time_s * 1e6  # microseconds
            args = {k: getattr(e, k) for k in ("bytes_read", "bytes_written", "flops")}
            trace += [
                {"ph": "X", "name": e.name, "cat": e.phase, "ts": ts, "dur": dur, **here, "args": args},
                {
                    "ph": "C",
                    "name": "saved for backward",
                    "ts": ts + dur,
                    **here,
                    "args": {"bytes": e.live_bytes},
                },
            ]
        Path(path).write_text(json.dumps({"traceEvents": trace, "displayTimeUnit": "ms"}), encoding="utf-8")
