"""The peak of a traced step is what torch's own profiler sees its allocator do in the real one."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from mlsys_lab.capacity.tracing import trace  # noqa: E402

WITHIN = 1e-4
FORGOTTEN = torch.ones(8, 256)


def real_peak(model, inputs, optimizer, step, path, steps=2):
    """Bytes at the peak of the real step: what is there before, and what the allocator reports then."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils._pytree import tree_leaves

    state = list(optimizer.state.values())
    held = [*model.parameters(), *model.buffers(), *filter(torch.is_tensor, tree_leaves((inputs, state)))]
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        for _ in range(steps):
            step(model, inputs, optimizer)
    profiled.export_chrome_trace(str(path))
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    now = peak = sum(storages.values())
    for event in sorted(events, key=lambda e: e["ts"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        b, s, h = x.shape
        q, k, v = (t.view(b, s, self.heads, -1).transpose(1, 2) for t in self.qkv(self.before(x)).split(h, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, s, h))
        return x + self.mlp(self.after(x))


class GPT(nn.Module):
    def __init__(self, width=64, depth=3, heads=4, vocabulary=512, context=64, recompute=False):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.token.weight
        self.recompute = recompute

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in "12")
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in "12")

    def forward(self, x):
        return F.relu(x + self.norms[1](self.two(F.relu(self.norms[0](self.one(x))))))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        Residual(16), Residual(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def mlp():
    return nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))


def sum_step(model, inputs, optimizer):
    model(inputs).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def loss_step(model, inputs, optimizer):
    model(*inputs).backward()
    optimizer.step()
    optimizer.zero_grad()


def mixed_step(model, inputs, optimizer):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(*inputs)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def accumulating_step(model, inputs, optimizer):
    for part in inputs.chunk(4):
        (model(part).square().mean() / 4).backward()
    optimizer.step()
    optimizer.zero_grad()


def tokens(batch=4, length=48):
    return torch.randint(512, (batch, length)), torch.randint(512, (batch, length))


CASES = {
    "mlp, AdamW": (mlp, lambda: torch.randn(64, 256), torch.optim.AdamW, {}, sum_step),
    "mlp, SGD": (mlp, lambda: torch.randn(512, 256), torch.optim.SGD, {}, sum_step),
    "mlp, momentum": (mlp, lambda: torch.randn(64, 256), torch.optim.SGD, {"momentum": 0.9}, sum_step),
    "mlp, Adagrad": (mlp, lambda: torch.randn(64, 256), torch.optim.Adagrad, {}, sum_step),
    "mlp, RMSprop": (mlp, lambda: torch.randn(64, 256), torch.optim.RMSprop, {}, sum_step),
    "mlp, Adam without foreach": (
        mlp, lambda: torch.randn(64, 256), torch.optim.Adam, {"foreach": False}, sum_step,
    ),
    "mlp, Adam foreach": (mlp, lambda: torch.randn(64, 256), torch.optim.Adam, {"foreach": True}, sum_step),
    "mlp, fused AdamW": (mlp, lambda: torch.randn(64, 256), torch.optim.AdamW, {"fused": True}, sum_step),
    "mlp, accumulating": (mlp, lambda: torch.randn(256, 256), torch.optim.AdamW, {}, accumulating_step),
    "gpt": (GPT, tokens, torch.optim.AdamW, {}, loss_step),
    "gpt, wide": (lambda: GPT(128, 2, 8), lambda: tokens(2, 64), torch.optim.AdamW, {}, loss_step),
    "gpt, recomputing": (lambda: GPT(recompute=True), tokens, torch.optim.AdamW, {}, loss_step),
    "gpt, mixed precision": (GPT, tokens, torch.optim.AdamW, {}, mixed_step),
    "cnn": (cnn, lambda: torch.randn(8, 3, 48, 48), torch.optim.SGD, {"momentum": 0.9}, sum_step),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_traced_peak_is_that_of_the_real_step(case, tmp_path):
    build, data, optimiser, options, step = CASES[case]
    torch.manual_seed(0)
    model, inputs = build(), data()
    optimizer = optimiser(model.parameters(), lr=1e-3, **options)
    traced = trace(model, inputs, optimizer, step=step)
    real = real_peak(model, inputs, optimizer, step, tmp_path / "trace.json")
    assert traced.peak.is_exact
    assert traced.peak_bytes == pytest.approx(real, rel=WITHIN)
    assert sum(traced.parts_at_peak().values()) == traced.peak_bytes


class Recurrent(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.lstm, self.out = nn.LSTM(32, 64, layers), nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.lstm(x)[0])


def lstm(layers):
    model = Recurrent(layers)
    return model, torch.randn(20, 8, 32), torch.optim.AdamW(model.parameters())


@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_is_exact_without_onednn(layers, tmp_path):
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=False):
        model, x, optimizer = lstm(layers)
        traced = trace(model, x, optimizer, step=sum_step)
        real = real_peak(model, x, optimizer, sum_step, tmp_path / "trace.json")
    assert traced.peak.is_exact
    assert traced.peak_bytes == pytest.approx(real, rel=WITHIN)


@pytest.mark.parametrize("layers", [1, 2])
def test_with_onednn_an_lstm_is_an_interval_that_holds_the_real_peak(layers, tmp_path):
    model, x, optimizer = lstm(layers)
    traced = trace(model, x, optimizer, step=sum_step)
    real = real_peak(model, x, optimizer, sum_step, tmp_path / "trace.json")
    assert not traced.peak.is_exact
    assert traced.peak_bytes < 0.7 * real, "what is seen alone is far too low"
    assert traced.peak.low <= real <= traced.peak.high


def test_a_module_without_memory_traces_as_one_with_it():
    real = GPT()
    with torch.device("meta"):
        empty = GPT()
        ids = torch.empty(4, 48, dtype=torch.int64)
    made = trace(real, tokens(), torch.optim.AdamW(real.parameters()), step=loss_step)
    not_made = trace(empty, (ids, ids.clone()), torch.optim.AdamW(empty.parameters()), step=loss_step)
    assert not_made.peak_bytes == made.peak_bytes


def test_recomputing_a_module_saves_what_the_same_checkpoints_save():
    plain, checkpointed = GPT(depth=4), GPT(depth=4, recompute=True)
    saved = trace(plain, tokens(), step=_forward_backward, recompute=["blocks.?"]).peak_bytes
    assert saved < trace(plain, tokens(), step=_forward_backward).peak_bytes
    # The model's own checkpoints also keep the state of the random numbers, 5,056 bytes a block.
    own = trace(checkpointed, tokens(), step=_forward_backward).peak_bytes
    assert 0 <= own - saved <= 5 * 5056


def _forward_backward(model, inputs, optimizer):
    model(*inputs).backward()
    model.zero_grad()


def test_nothing_of_the_callers_is_changed():
    model, x = mlp(), torch.randn(8, 256)
    optimizer = torch.optim.AdamW(model.parameters())
    before = {name: t.clone() for name, t in model.state_dict().items()}
    trace(model, x, optimizer)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not optimizer.state
    assert not model._forward_hooks


def test_parts_and_lines_say_what_is_alive_at_the_peak():
    model, x = mlp(), torch.randn(512, 256)
    optimizer = torch.optim.AdamW(model.parameters())
    traced = trace(model, x, optimizer)
    parts = traced.parts_at_peak()
    weights = sum(p.numel() * 4 for p in model.parameters())
    assert parts["parameters"] == weights
    assert parts["optimiser"] == pytest.approx(2 * weights, rel=1e-3)
    assert parts["inputs"] == 512 * 256 * 4
    largest = max(traced.live_at_peak(), key=lambda s: s.bytes * (s.part == "activations"))
    assert largest.bytes == 512 * 1024 * 4
    assert largest.module in {"0", "1"}


def test_printed_it_is_the_peak_with_its_parts_and_lines():
    model = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))
    traced = trace(model, torch.empty(64, 256), torch.optim.AdamW(model.parameters()))
    first, *rest = str(traced).splitlines()
    assert first.startswith("peak 10.64 MB, at moment 44 of 94")
    assert rest[0].split() == ["part", "optimiser", "4.205", "MB"]
    assert len(repr(traced)) < 200


def test_a_line_of_backward_is_that_of_its_forward():
    class Two(nn.Module):
        def forward(self, x):
            y = x * 2
            return y.exp().sum()

    x = torch.randn(1000, requires_grad=True)
    lines = {s.line for s in trace(Two(), x).storages if s.operation}
    first = Two.forward.__code__.co_firstlineno
    assert f"test_trace.py:{first + 1}" in lines
    assert f"backward of test_trace.py:{first + 2}" in lines


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"module": object()}, TypeError, "expected a torch.nn.Module or one of mlsys_lab.nn, got object"),
        (
            {"step": lambda m, x, _: m(x + FORGOTTEN)},
            ValueError,
            "a tensor that is neither the module's nor among the inputs: add it",
        ),
        ({"recompute": ["layers.*"]}, ValueError, "no module is called 'layers\\.\\*': there are 0, 1, 2"),
    ],
)
def test_what_cannot_be_traced_is_said(arguments, error, said):
    with pytest.raises(error, match=said):
        trace(**({"module": mlp(), "inputs": torch.randn(8, 256)} | arguments))
