"""Training by ours and by torch from the same weights: the same losses; no leaks; half precision; batches."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import nn, optim, viz
from mlsys_lab.datasets import DataLoader, digits, spirals, windows

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
F = nn.functional
TF = torch.nn.functional
STEPS = 50
CONFIG = nn.GPTConfig(vocab_size=64, block_size=32, n_layer=2, n_head=2, n_embd=64)


class TorchBlock(torch.nn.Module):
    """A block of GPT-2 in torch's modules, with our names."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attn, self.mlp = torch.nn.Module(), torch.nn.Module()
        self.attn.c_attn = torch.nn.Linear(width, 3 * width)
        self.attn.c_proj = torch.nn.Linear(width, width)
        self.mlp.c_fc, self.mlp.c_proj = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        batch, positions, _ = x.shape
        qkv = self.attn.c_attn(self.ln_1(x)).view(batch, positions, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = TF.scaled_dot_product_attention(*qkv, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.attn.c_proj(out)
        return x + self.mlp.c_proj(TF.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh"))


class TorchGPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.n_embd
        self.transformer = torch.nn.Module()
        self.transformer.wte = torch.nn.Embedding(config.vocab_size, width)
        self.transformer.wpe = torch.nn.Embedding(config.block_size, width)
        self.transformer.h = torch.nn.ModuleList(
            TorchBlock(width, config.n_head) for _ in range(config.n_layer)
        )
        self.transformer.ln_f = torch.nn.LayerNorm(width)
        self.lm_head = torch.nn.Linear(width, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, idx):
        parts = self.transformer
        x = parts.wte(idx) + parts.wpe.weight
        for block in parts.h:
            x = block(x)
        return self.lm_head(parts.ln_f(x))


def gpt():
    """Both models and their data: a sequence whose next token follows from the last one."""
    rng = np.random.default_rng(0)
    successor = rng.permutation(64)
    tokens = np.zeros(400, np.int64)
    for i in range(1, 400):
        tokens[i] = successor[tokens[i - 1]] if rng.random() < 0.95 else rng.integers(64)
    x, y = windows(tokens, 32, 8, generator=rng)
    return nn.GPT(CONFIG, generator=rng), TorchGPT(CONFIG), x, y


def cnn():
    """Both models and their data: handwritten digits."""
    pytest.importorskip("sklearn", reason="pip install scikit-learn")
    nn.manual_seed(0)
    ours, theirs = (
        lib.Sequential(
            lib.Conv2d(1, 8, 3, padding=1), lib.ReLU(), lib.MaxPool2d(2), lib.Conv2d(8, 16, 3, padding=1),
            lib.ReLU(), lib.Flatten(), lib.Linear(256, 32), lib.ReLU(), lib.Linear(32, 10),
        )
        for lib in (nn, torch.nn)
    )  # fmt: skip
    x, y = digits()
    return ours, theirs, x[:64], y[:64]


OPTIMIZERS = {
    "SGD": lambda lib, parameters, lr: lib.SGD(parameters, lr=lr, momentum=0.9),
    "Adam": lambda lib, parameters, lr: lib.Adam(parameters, lr=lr),
}
# Each loss falls by more than half; further down the same rounding weighs more: it is relative to the loss.
RATES = {("gpt", "SGD"): 0.05, ("gpt", "Adam"): 2e-3, ("cnn", "SGD"): 0.05, ("cnn", "Adam"): 1.5e-3}


def ours_losses(model, optimizer, x, y):
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = model(ag.Tensor(x) if x.dtype == np.float32 else x)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def torch_losses(model, optimizer, x, y):
    x, y, losses = torch.from_numpy(x), torch.from_numpy(y), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = model(x)
        loss = TF.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


@pytest.fixture(params=["numpy", "native"])
def provider(request):
    try:
        chosen = ag.gemm_provider(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    with chosen:
        yield


def both(make, method):
    """The losses of ours and of torch, from the same weights."""
    ours, theirs, x, y = make()
    state = {k: torch.from_numpy(v) for k, v in ours.state_dict().items()}
    theirs.load_state_dict(state)
    rate = RATES[make.__name__, method]
    found = ours_losses(ours, OPTIMIZERS[method](optim, ours.parameters(), rate), x, y)
    return found, torch_losses(theirs, OPTIMIZERS[method](torch.optim, theirs.parameters(), rate), x, y)


@pytest.mark.parametrize("method", OPTIMIZERS)
@pytest.mark.parametrize("make", [gpt, cnn])
def test_losses_are_torchs_to_2e_6_over_50_steps_while_they_halve(make, method, provider):
    found, wanted = both(make, method)
    assert wanted[-1] <= wanted[0] / 2
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=0)


@pytest.mark.skipif("MLSYS_LAB_SHOTS" not in os.environ, reason="pictures are made with --shots DIR")
def test_the_curves_of_ours_and_torch_as_a_picture():
    import matplotlib.pyplot as plt

    viz.style()
    figure, panels = plt.subplots(1, 2, figsize=(7, 3.5), sharey=True)
    apart = 0.0
    for axes, make in zip(panels, (gpt, cnn), strict=True):
        for method, line in (("SGD", "--"), ("Adam", "-")):
            found, wanted = both(make, method)
            apart = max(apart, float(np.abs(found / wanted - 1).max()))
            axes.plot(wanted, line, color=viz.PALETTE["reference"], lw=1, label=f"torch, {method}")
            steps = np.arange(0, STEPS, 5)
            axes.plot(steps, found[::5], "o", mfc="none", color=viz.PALETTE["yours"], label=f"ours, {method}")
            beside = (4, 6 if method == "Adam" else -6)
            axes.annotate(method, (STEPS - 1, wanted[-1]), beside, textcoords="offset points", va="center")
        axes.set(xlabel="step", title={"gpt": "GPT, 2 layers", "cnn": "CNN on digits"}[make.__name__])
        axes.set_xlim(-2, STEPS + 9)
    panels[0].set_ylabel("loss, nat")
    panels[0].legend(handles=panels[0].lines[:2], labels=["torch", "ours"], frameon=False)
    figure.suptitle(f"From the same weights ours has torch's losses, within {apart:.0e} of them")
    figure.savefig(Path(os.environ["MLSYS_LAB_SHOTS"], "training-curves.png"))
    print(viz.text_of(figure))


def small():
    """A classifier of spirals, its data, and a function that takes one step."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(2, 16, generator=rng), nn.ReLU(), nn.Linear(16, 3, generator=rng))
    x, y = spirals(48, generator=rng)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ag.Tensor(x)), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, x, y, step


def test_memory_and_live_tensors_are_equal_at_step_10_and_step_1000():
    _, _, _, step = small()

    def state():
        gc.collect()
        return sum(issubclass(type(o), ag.Tensor) for o in gc.get_objects()), tracemalloc.get_traced_memory()[
            0
        ]

    tracemalloc.start()
    try:
        for _ in range(10):
            step()
        tensors, used = state()
        for _ in range(990):
            step()
        tensors_later, used_later = state()
    finally:
        tracemalloc.stop()
    assert tensors_later == tensors
    assert used_later - used < 4096  # bytes in 990 steps: counters grow by some, a kept array would be more


def test_gradients_of_four_small_batches_are_those_of_the_large_one():
    model, x, y, _ = small()
    F.cross_entropy(model(ag.Tensor(x)), y).backward()
    wanted = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    for part, target in DataLoader(x, y, batch_size=12):
        (F.cross_entropy(model(ag.Tensor(part)), target) / 4).backward()
    for p, g in zip(model.parameters(), wanted, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [(ag.bfloat16, torch.bfloat16, 0.03), (ag.float16, torch.float16, 0.004)],
    ids=["bfloat16", "float16"],
)
def test_autocast_gives_torchs_loss_and_gradients_in_float32(ours, theirs, tolerance):
    model, reference, x, y = gpt()
    reference.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    with nn.autocast(ours):
        hidden = F.linear(ag.ones((2, 64)), model.lm_head.weight)
        loss = F.cross_entropy(model(x).reshape(-1, 64), y.reshape(-1))
    assert hidden.dtype == ours
    assert F.linear(ag.ones((2, 64)), model.lm_head.weight).dtype == np.float32
    assert loss.dtype == np.float32
    with torch.autocast("cpu", theirs):
        wanted = TF.cross_entropy(reference(torch.from_numpy(x)).view(-1, 64), torch.from_numpy(y).view(-1))
    assert loss.item() == pytest.approx(wanted.item(), rel=tolerance / 4)
    loss.backward()
    wanted.backward()
    for name, p in model.named_parameters():
        assert p.grad.dtype == np.float32
        assert p.dtype == np.float32
        g = dict(reference.named_parameters())[name].grad.numpy()
        assert np.linalg.norm(p.grad.numpy() - g) <= tolerance * np.linalg.norm(g) + 1e-6, name


def test_a_convolution_under_autocast_is_narrow_and_its_gradient_is_not():
    layer, x = nn.Conv2d(2, 3, 3), ag.ones((1, 2, 5, 5))
    with nn.autocast():
        y = layer(x)
    assert y.dtype == ag.bfloat16
    y.backward(np.ones(y.shape, ag.bfloat16))
    assert layer.weight.grad.dtype == np.float32


def test_training_in_bfloat16_halves_the_loss_as_in_float32():
    model, _, x, y = gpt()
    optimizer, losses = optim.Adam(model.parameters(), lr=3e-3), []
    for _ in range(20):
        optimizer.zero_grad()
        with nn.autocast():
            loss = F.cross_entropy(model(x).reshape(-1, 64), y.reshape(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_loss_scaling_saves_gradients_that_float16_loses():
    layer = nn.Linear(4, 2, generator=np.random.default_rng(0))
    x, optimizer, scaler = ag.ones((1, 4)), optim.SGD(layer.parameters(), lr=1.0), optim.GradScaler()

    def backward(scale):
        layer.zero_grad()
        with nn.autocast(ag.float16):
            loss = (layer(x).astype(np.float32) * 1e-9).sum()
        scale(loss).backward()

    backward(lambda loss: loss)
    assert not layer.weight.grad.numpy().any()
    backward(scaler.scale)
    scaler.unscale_(optimizer)
    np.testing.assert_allclose(layer.weight.grad.numpy(), 1e-9, rtol=1e-2)


def test_batches_in_order_are_those_of_torchs_loader():
    x, y = np.arange(10.0), np.arange(10) * 2
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    for drop_last in (False, True):
        ours = DataLoader(x, y, batch_size=4, drop_last=drop_last)
        theirs = torch.utils.data.DataLoader(data, batch_size=4, drop_last=drop_last)
        assert len(ours) == len(theirs) == len(list(ours))
        for mine, wanted in zip(ours, theirs, strict=True):
            for a, b in zip(mine, wanted, strict=True):
                np.testing.assert_array_equal(a, b.numpy())


def test_each_epoch_has_every_example_once_in_a_new_order_that_the_generator_decides():
    loader, again = (
        DataLoader(np.arange(50), batch_size=7, shuffle=True, generator=np.random.default_rng(4))
        for _ in range(2)
    )
    first, second, third = (np.concatenate([b for (b,) in one]) for one in (loader, loader, again))
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()
    assert (first == third).all()


@pytest.mark.parametrize("served", [0, 2, 5])
def test_a_resumed_loader_goes_on_with_the_next_batch_and_the_same_next_epochs(served):
    def make(seed):
        return DataLoader(np.arange(20), batch_size=4, shuffle=True, generator=np.random.default_rng(seed))

    loader, resumed = make(0), make(9)
    batches = iter(loader)
    for _ in range(served):
        next(batches)
    resumed.load_state_dict(loader.state_dict())
    rest = [b.tolist() for (b,) in batches] if served % 5 else []
    if rest:
        assert [b.tolist() for (b,) in resumed] == rest
    for _ in range(2):
        assert [b.tolist() for (b,) in resumed] == [b.tolist() for (b,) in loader]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DataLoader(np.arange(3), np.arange(4)), r"one length, got \[3, 4\]"),
        (lambda: DataLoader(np.arange(3), batch_size=0), "batch_size expects at least 1, got 0"),
        (lambda: DataLoader(), "one length"),
    ],
)
def test_a_loader_refuses_what_it_cannot_cut(call, message):
    with pytest.raises(ValueError, match=message):
        call()
