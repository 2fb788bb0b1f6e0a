"""Modules: what is found under which name, and state that goes to torch and to files and comes back."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import nn, optim

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")


def ours() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Sequential(nn.Linear(16, 6), nn.LayerNorm(6))
    )


def theirs():
    inner = torch.nn.Sequential(torch.nn.Linear(16, 6), torch.nn.LayerNorm(6))
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), inner)


def test_names_are_those_of_torch():
    assert list(ours().state_dict()) == list(theirs().state_dict())
    assert [n for n, _ in ours().named_parameters()] == [n for n, _ in theirs().named_parameters()]
    assert [n for n, _ in ours().named_modules()] == [n for n, _ in theirs().named_modules()]
    assert [n for n, _ in ours().named_children()] == [n for n, _ in theirs().named_children()]


def test_state_goes_to_torch_and_back():
    a, b, c = ours(), theirs(), ours()
    b.load_state_dict({k: torch.from_numpy(v) for k, v in a.state_dict().items()})
    c.load_state_dict(b.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)
    wanted = b(torch.from_numpy(x)).detach().numpy()
    for model in (a, c):
        np.testing.assert_allclose(model(ag.Tensor(x)).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_torchs_bfloat16_is_taken():
    model, wanted = ours(), theirs().bfloat16().state_dict()
    model.load_state_dict(wanted)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, wanted[name].float().numpy())


def test_a_state_dict_is_a_copy_and_loading_reaches_an_optimisers_arena():
    model = ours()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    first = model.state_dict()
    x = ag.Tensor(np.ones((1, 1, 4, 4), np.float32))
    model(x).backward(np.arange(6, dtype=np.float32)[None])
    optimizer.step()
    moved = model.state_dict()
    assert any((first[k] != moved[k]).any() for k in first)
    model.load_state_dict(first)
    optimizer.zero_grad()
    optimizer.step()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, first[name])


def test_loading_between_forward_and_backward_is_noticed():
    model = nn.Linear(3, 2)
    y = model(ag.Tensor(np.ones((1, 3), np.float32), requires_grad=True))
    model.load_state_dict(model.state_dict())
    with pytest.raises(ag.InplaceError):
        y.backward(np.ones((1, 2), np.float32))


def changed(**changes):
    state = nn.Linear(3, 2).state_dict()
    for name, value in changes.items():
        state[name] = value
    return {k: v for k, v in state.items() if v is not None}


@pytest.mark.parametrize(
    ("state", "parts"),
    [
        (changed(bias=None), ["missing bias"]),
        (changed(extra=np.zeros(2)), ["extra extra"]),
        (changed(weight=np.zeros((3, 2))), ["weight expects shape (2, 3), got (3, 2)"]),
        (
            changed(bias=None, scale=np.zeros(2), weight=np.zeros(6)),
            ["missing bias", "extra scale", "(2, 3), got (6,)", "rename keys"],
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_in_one_message_and_changes_nothing(state, parts):
    model = nn.Linear(3, 2)
    before = model.state_dict()
    with pytest.raises(RuntimeError) as error:
        model.load_state_dict(state)
    assert all(part in str(error.value) for part in parts)
    assert all((model.state_dict()[k] == v).all() for k, v in before.items())


def test_without_strict_only_shapes_have_to_fit():
    model, weight = nn.Linear(3, 2), np.ones((2, 3), np.float32)
    model.load_state_dict({"weight": weight, "other": np.zeros(1)}, strict=False)
    assert (model.weight.numpy() == 1).all()
    with pytest.raises(RuntimeError, match="shape"):
        model.load_state_dict({"weight": weight.T}, strict=False)


def test_an_optimiser_of_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match=r"model\.parameters\(\)"):
        optim.Adam(nn.ReLU().parameters())


def test_a_shared_parameter_is_listed_once_and_saved_under_both_names():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    first, second = model
    second.weight = first.weight
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_train_and_eval_reach_every_module_and_zero_grad_every_parameter():
    model = ours()
    assert all(m.training for m in model.modules())
    assert not any(m.training for m in model.eval().modules())
    model(ag.Tensor(np.ones((1, 1, 4, 4), np.float32))).backward(np.arange(6, dtype=np.float32)[None])
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_receive_no_gradient():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    frozen, live = model
    frozen.requires_grad_(False)
    model(ag.Tensor(np.ones((1, 3), np.float32))).backward(np.ones((1, 2), np.float32))
    assert frozen.weight.grad is None
    assert live.weight.grad is not None


def test_a_model_in_float64_computes_in_float64():
    model = ours().to(np.float64)
    x = np.random.default_rng(0).normal(size=(1, 1, 4, 4))
    y = model(ag.Tensor(x))
    reference = theirs().double()
    reference.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.numpy(), reference(torch.from_numpy(x)).detach().numpy(), rtol=1e-12)


def test_a_model_prints_its_parts():
    assert "(3): Sequential(\n    (0): Linear(16, 6, bias=True)" in repr(ours())


STATE = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2], ml_dtypes.bfloat16),
    "steps": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float16),
    "short": np.array([1, 65535], np.uint16),
}


def test_safetensors_come_back_as_they_went(tmp_path):
    nn.save_safetensors(STATE, tmp_path / "a.safetensors", {"format": "np"})
    found = nn.load_safetensors(tmp_path / "a.safetensors")
    assert list(found) == list(STATE)
    for name, wanted in STATE.items():
        assert found[name].dtype == wanted.dtype
        assert found[name].shape == wanted.shape
        np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("name", ["x", "a name", "a longer name"])
def test_safetensors_are_the_bytes_that_the_format_describes(tmp_path, name):
    path = tmp_path / "a.safetensors"
    nn.save_safetensors({name: np.array([1, 2], np.float32).reshape(1, 2)}, path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert (8 + length) % 8 == 0
    entry = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    assert json.loads(raw[8 : 8 + length]) == {name: entry}
    assert raw[8 + length :] == b"\x00\x00\x80\x3f\x00\x00\x00\x40"


def test_the_safetensors_package_reads_ours_and_we_read_its(tmp_path):
    package = pytest.importorskip("safetensors.numpy", reason="pip install safetensors")
    state = {k: v for k, v in STATE.items() if v.dtype != ml_dtypes.bfloat16}
    nn.save_safetensors(state, tmp_path / "ours")
    package.save_file(state, tmp_path / "theirs")
    for found in (package.load_file(tmp_path / "ours"), nn.load_safetensors(tmp_path / "theirs")):
        assert found.keys() == state.keys()
        for name, wanted in state.items():
            np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("cut", [4, 20, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, cut):
    path = tmp_path / "a.safetensors"
    nn.save_safetensors(STATE, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="whole safetensors"):
        nn.load_safetensors(path)


@pytest.mark.parametrize(
    "text", [b"", b"abc", (5).to_bytes(8, "little") + b"{bad}", (2).to_bytes(8, "little") + b"[]"]
)
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    path = tmp_path / "a.safetensors"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="whole safetensors"):
        nn.load_safetensors(path)


def test_a_dtype_that_the_format_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match="got complex64 for z"):
        nn.save_safetensors({"z": np.zeros(2, np.complex64)}, tmp_path / "a")
