"""FLOPs against torch's counter and the closed forms of the papers."""

from __future__ import annotations

import pytest

from mlsys_lab.capacity import ModelSpec, convnet, forward_flops, model, operations, six_nd, train_flops
from mlsys_lab.capacity.zoo import language_model

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")


@pytest.mark.parametrize(("V", "S", "L", "h", "a", "B"), [(211, 24, 3, 32, 4, 2), (1000, 64, 1, 48, 6, 3)])
def test_a_gpts_flops_are_those_that_torchs_counter_sees_on_meta(V, S, L, h, a, B):
    from torch.utils.flop_counter import FlopCounterMode

    from tests.capacity.torch_modules import GPT

    with torch.device("meta"):
        module, tokens = GPT(V, S, L, h, a), torch.zeros(B, S, dtype=torch.long)
    with FlopCounterMode(display=False) as forward:
        out = module(tokens)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    config = {"model_type": "gpt2", "vocab_size": V, "n_positions": S, "n_layer": L, "n_embd": h, "n_head": a}
    spec = ModelSpec.from_hf(config)
    assert forward_flops(spec, B, S) == forward.get_total_flops()
    # On meta the scores are kept, and attention's backward is twice its forward.
    ours = sum(o.backward for o in operations(spec, B, S, attention="materialised"))
    assert ours == backward.get_total_flops()


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_gpts_training_flops_are_megatrons_formula(recompute):
    spec, B, s = language_model("gpt3-175b"), 4, 2048
    L, h, V = spec.layers, spec.hidden, spec.vocab
    factor, head = (72, 12) if recompute == "none" else (96, 16)  # arXiv 2205.05198, appendix A
    closed = factor * B * L * s * h**2 * (1 + s / (6 * h) + V / (head * L * h))
    ours = train_flops(spec, B, s, attention="materialised", recompute=recompute)
    assert ours == pytest.approx(closed, rel=1e-12)


def test_flash_attention_costs_14_and_kept_scores_12_times_b_h_s_squared_d():
    spec, s = language_model("gpt2"), 1024
    unit = spec.layers * spec.heads * s**2 * spec.head_dim
    for attention, factor in (("flash", 14), ("materialised", 12)):
        core = next(o for o in operations(spec, 1, s, attention=attention) if o.name == "scores and values")
        assert core.forward + core.backward == factor * unit
    half = next(o for o in operations(spec, 1, s, causal=True) if o.name == "scores and values")
    assert half.forward == 4 * unit * (s + 1) // (2 * s)


def test_without_attention_a_dense_models_training_is_6_n_d_of_its_matrices():
    spec, s = language_model("llama-2-7b"), 512
    matrices = spec.parameters - spec.parts["norm"] - spec.parts["embedding"]
    core = next(o for o in operations(spec, 1, s) if o.name == "scores and values")
    assert train_flops(spec, 1, s) - core.forward - core.backward == six_nd(matrices, s)


def test_only_the_experts_that_answer_are_multiplied():
    spec = language_model("mixtral-8x7b")
    experts = sum(o.forward for o in operations(spec, 1, 1) if o.part == "experts")
    assert experts == 2 * spec.parts["experts"] * 2 // 8


@pytest.mark.parametrize(("name", "gmacs"), [("vit-b-16", 17.564), ("vit-b-32", 4.409), ("vit-l-16", 61.555)])
def test_a_vision_transformer_multiplies_what_torchvision_publishes(name, gmacs):
    assert round(forward_flops(model(name)) / 2e9, 3) == gmacs


def test_a_convolutional_networks_flops_are_torchs_on_another_image_size():
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(192, 384, 3, 1, 1), nn.Conv2d(384, 256, 3, 1, 1), nn.Conv2d(256, 256, 3, 1, 1)]
    head = [
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(9216, 4096),
        nn.Linear(4096, 4096),
        nn.Linear(4096, 10),
    ]
    with torch.device("meta"):
        image = torch.zeros(2, 3, 187, 201)
        module = nn.Sequential(*layers, nn.MaxPool2d(3, 2), *head).to("meta")
    with FlopCounterMode(display=False) as counter:
        module(image)
    net = convnet("alexnet", image=(3, 187, 201), classes=10)
    assert forward_flops(net, 2) == counter.get_total_flops()
    assert net.parameters == sum(p.numel() for p in module.parameters())
