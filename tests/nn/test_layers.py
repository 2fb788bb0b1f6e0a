"""Layers and losses hold torch.nn's values and gradients, with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import nn

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
F = nn.functional
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# name: ours, torch's, input
LAYERS = {
    "Linear": (lambda: nn.Linear(7, 5), lambda: torch.nn.Linear(7, 5), floats(2, 3, 7)),
    "Linear without bias": (
        lambda: nn.Linear(7, 5, bias=False),
        lambda: torch.nn.Linear(7, 5, bias=False),
        floats(4, 7),
    ),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3), lambda: torch.nn.Conv2d(3, 4, 3), floats(2, 3, 6, 5)),
    "Conv2d with everything": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), 1, (1, 2), 2, bias=False),
        lambda: torch.nn.Conv2d(4, 6, (3, 2), (2, 1), 1, (1, 2), 2, bias=False),
        floats(2, 4, 6, 7),
    ),
    "Embedding": (
        lambda: nn.Embedding(9, 4),
        lambda: torch.nn.Embedding(9, 4),
        np.array([[0, 8, 8], [3, 0, 1]]),
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6), lambda: torch.nn.LayerNorm(6), floats(2, 3, 6)),
    "LayerNorm eps": (lambda: nn.LayerNorm(6, 0.1), lambda: torch.nn.LayerNorm(6, 0.1), floats(3, 6)),
    "RMSNorm": (lambda: nn.RMSNorm(6, 0.1), lambda: torch.nn.RMSNorm(6, 0.1), floats(2, 3, 6)),
    "ReLU": (nn.ReLU, torch.nn.ReLU, floats(3, 4)),
    "GELU": (nn.GELU, torch.nn.GELU, floats(3, 4)),
    "GELU tanh": (lambda: nn.GELU("tanh"), lambda: torch.nn.GELU("tanh"), floats(3, 4)),
    "SiLU": (nn.SiLU, torch.nn.SiLU, floats(3, 4)),
    "Sigmoid": (nn.Sigmoid, torch.nn.Sigmoid, floats(3, 4)),
    "Tanh": (nn.Tanh, torch.nn.Tanh, floats(3, 4)),
    "Flatten": (nn.Flatten, torch.nn.Flatten, floats(3, 4, 2)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), lambda: torch.nn.MaxPool2d(3, 2, 1), floats(2, 3, 5, 6)),
    "Sequential fused": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)),
        lambda: torch.nn.Sequential(
            torch.nn.Linear(6, 8),
            torch.nn.ReLU(),
            torch.nn.Linear(8, 8),
            torch.nn.GELU(),
            torch.nn.Linear(8, 3),
        ),
        floats(4, 6),
    ),
    "Sequential plain": (
        lambda: nn.Sequential(
            nn.Linear(6, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Tanh()
        ),
        lambda: torch.nn.Sequential(
            torch.nn.Linear(6, 4),
            torch.nn.Linear(4, 4),
            torch.nn.ReLU(),
            torch.nn.Linear(4, 5, bias=False),
            torch.nn.ReLU(),
            torch.nn.Tanh(),
        ),
        floats(4, 6),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_torch(name):
    make, make_torch, x = LAYERS[name]
    ours, theirs = make(), make_torch()
    ours.load_state_dict(theirs.state_dict())
    floating = x.dtype == np.float32
    a, b = ag.Tensor(x.copy(), requires_grad=floating), torch.tensor(x, requires_grad=floating)
    y, t = ours(a), theirs(b)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), rtol=1e-5, atol=2e-6)
    up = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    y.backward(up)
    t.backward(torch.from_numpy(up))
    pairs = [(p.grad, dict(theirs.named_parameters())[n].grad) for n, p in ours.named_parameters()]
    assert len(pairs) == len(list(theirs.parameters()))
    for mine, wanted in [*pairs, *([(a.grad, b.grad)] if floating else [])]:
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine.numpy(), wanted.numpy(), rtol=1e-5, atol=5e-6)


LOGITS, CLASSES, PROBABILITIES = floats(5, 4), np.array([3, 0, 1, -100, 2]), RNG.random((5, 4), np.float32)
LOSSES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss, torch.nn.CrossEntropyLoss, LOGITS, CLASSES),
    "NLLLoss": (nn.NLLLoss, torch.nn.NLLLoss, LOGITS, np.array([3, 0, 1, 1, 2])),
    "MSELoss": (nn.MSELoss, torch.nn.MSELoss, LOGITS, PROBABILITIES),
    "L1Loss": (nn.L1Loss, torch.nn.L1Loss, LOGITS, PROBABILITIES),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, torch.nn.BCEWithLogitsLoss, 50 * LOGITS, PROBABILITIES),
    "images": (nn.CrossEntropyLoss, torch.nn.CrossEntropyLoss, floats(2, 4, 3), np.array([[3, 0, 1]] * 2)),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_are_those_of_torch(name, reduction):
    ours, theirs, x, target = LOSSES[name]
    a, b = ag.Tensor(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
    y, t = ours(reduction=reduction)(a, target), theirs(reduction=reduction)(b, torch.from_numpy(target))
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), rtol=1e-5, atol=1e-6)
    up = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    y.backward(up)
    t.backward(torch.tensor(up))
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_softmax_of_a_dimension_is_that_of_torch():
    x = floats(3, 4)
    for dim in (0, -1):
        wanted = torch.softmax(torch.from_numpy(x), dim)
        np.testing.assert_allclose(F.softmax(ag.Tensor(x), dim).numpy(), wanted, rtol=1e-6)
        np.testing.assert_allclose(F.log_softmax(ag.Tensor(x), dim).numpy(), wanted.log(), rtol=1e-5)


def test_dropout_zeroes_its_share_keeps_the_mean_and_is_still_in_evaluation():
    layer, x = (
        nn.Dropout(0.25, generator=np.random.default_rng(0)),
        ag.Tensor(np.ones((200, 200), np.float32)),
    )
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 4 * (0.25 * 0.75 / 40_000) ** 0.5
    again = nn.Dropout(0.25, generator=np.random.default_rng(0))(x).numpy()
    assert (again == y).all()
    assert layer.eval()(x) is x


def test_dropout_lets_the_gradient_through_where_it_let_the_value_through():
    x = ag.Tensor(np.ones((8, 8), np.float32), requires_grad=True)
    y = nn.Dropout(0.5, generator=np.random.default_rng(0))(x)
    y.backward(np.full((8, 8), 3, np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), 3 * y.numpy())


@pytest.mark.parametrize(
    ("fill", "variance"),
    [
        (nn.init.kaiming_uniform_, 2 / (30 * 9)),
        (nn.init.kaiming_normal_, 2 / (30 * 9)),
        (nn.init.xavier_uniform_, 2 / (70 * 9)),
        (nn.init.xavier_normal_, 2 / (70 * 9)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_initialisers_have_the_variance_of_their_papers(fill, variance):
    weight = nn.Parameter(np.empty((40, 30, 3, 3), np.float32))
    fill(weight, generator=np.random.default_rng(0))
    assert abs(weight.data.mean()) < 4 * (variance / weight.size) ** 0.5
    assert weight.data.var() == pytest.approx(variance, rel=0.05)


def test_layers_start_with_the_spread_of_torchs():
    torch.manual_seed(0)
    nn.manual_seed(0)
    for ours, theirs in [
        (nn.Linear(300, 200), torch.nn.Linear(300, 200)),
        (nn.Conv2d(4, 400, 5), torch.nn.Conv2d(4, 400, 5)),
        (nn.Embedding(300, 100), torch.nn.Embedding(300, 100)),
    ]:
        for name, wanted in theirs.state_dict().items():
            found = ours.state_dict()[name]
            assert found.std() == pytest.approx(wanted.std().item(), rel=0.15)


def test_a_layer_without_inputs_gives_its_bias():
    layer = nn.Linear(0, 5)
    np.testing.assert_array_equal(
        layer(np.zeros((2, 0), np.float32)).numpy(), np.tile(layer.bias.numpy(), (2, 1))
    )


def test_a_seed_makes_the_same_layer_again():
    nn.manual_seed(3)
    first = nn.Linear(4, 5).state_dict()
    nn.manual_seed(3)
    again = nn.Linear(4, 5).state_dict()
    assert (first["weight"] == again["weight"]).all()
    assert (first["bias"] == again["bias"]).all()
    assert not (nn.Linear(4, 5).state_dict()["bias"] == first["bias"]).all()


WRONG = [
    (
        lambda: nn.Linear(784, 10)(np.zeros((64, 28), np.float32)),
        ag.ShapeError,
        r"\(\.\.\., 784\).*\(10, 784\).*\(64, 28\).*in_features=28",
    ),
    (lambda: F.mse_loss(ag.zeros((2,)), ag.zeros((2,)), "avg"), ValueError, "'avg'"),
    *(
        (lambda f=f: f(ag.zeros((3, 1)), ag.zeros((3,))), ag.ShapeError, r"\(3, 1\), got \(3,\)")
        for f in (F.mse_loss, F.l1_loss, F.binary_cross_entropy_with_logits)
    ),
    (lambda: nn.Sequential([nn.ReLU()]), TypeError, r"got list at 0: write Sequential\(\*layers\)"),
    (lambda: nn.Sequential(nn.Linear(3, 3), ag.relu), TypeError, r"at 1: .*nn.ReLU\(\)"),
    (lambda: nn.Sequential(5), TypeError, "expects modules, got int"),
    (lambda: nn.ModuleList([1, 2]), TypeError, "expects modules, got int"),
    (lambda: nn.ModuleList().append("a"), TypeError, "expects modules, got str"),
    (lambda: nn.Dropout(1.5), ValueError, r"in \[0, 1\], got 1.5"),
    (lambda: F.dropout(ag.zeros((2,)), -1.0), ValueError, r"in \[0, 1\], got -1"),
    (lambda: nn.autocast("int8"), ValueError, "bfloat16 or float16, got int8"),
    (lambda: nn.CrossEntropyLoss("sum"), TypeError, "positional"),
    (lambda: nn.Linear(2, 2).load_state_dict(None), TypeError, "arrays by name, got NoneType"),
    (lambda: nn.Embedding(5, 2)(np.array([4, 9])), IndexError, r"below 5 for weight \(5, 2\), got 9"),
    (lambda: nn.MultiHeadAttention(10, 3), ValueError, "10, 3"),
    (lambda: nn.MultiHeadAttention(12, 4, 3), ValueError, "12, 4, 3"),
    (lambda: nn.Conv2d(4, 6, 3)(ag.zeros((1, 3, 8, 8))), ag.ShapeError, r"\(6, 4, 3, 3\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_wrong_input_is_refused_with_what_came_and_the_remedy(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
