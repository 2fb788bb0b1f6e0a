"""Attention and GPT against torch's formulas; the cache gives what no cache gives."""

from __future__ import annotations

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import nn

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
F = torch.nn.functional
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-11}, "float32": {"rtol": 1e-3, "atol": 2e-3}}


def rotated(x, start, theta):
    """Llama's rotary positions, in torch: x cos + rotate_half(x) sin."""
    half = x.shape[-1] // 2
    frequencies = 1 / theta ** (torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(start, start + x.shape[2], dtype=torch.float64), frequencies)
    angles = torch.cat([angles, angles], -1).to(x.dtype)
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * angles.cos() + turned * angles.sin()


def attended(x, state, prefix, config):
    """One layer of self-attention in torch."""
    batch, positions, width = x.shape
    heads, shared = config.n_head, config.n_kv_head or config.n_head
    d = width // heads
    qkv = F.linear(x, state[prefix + "c_attn.weight"], state.get(prefix + "c_attn.bias"))
    q, k, v = qkv.split([heads * d, shared * d, shared * d], -1)
    q, k, v = (t.view(batch, positions, -1, d).transpose(1, 2) for t in (q, k, v))
    if config.rope_theta is not None:
        q, k = rotated(q, 0, config.rope_theta), rotated(k, 0, config.rope_theta)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    out = out.transpose(1, 2).reshape(batch, positions, width)
    return F.linear(out, state[prefix + "c_proj.weight"], state.get(prefix + "c_proj.bias"))


def torch_gpt(state, idx, config):
    """GPT-2 in torch's functions."""
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"])  # noqa: E731
    x = state["transformer.wte.weight"][idx]
    if config.rope_theta is None:
        x = x + state["transformer.wpe.weight"][: idx.shape[1]]
    for i in range(config.n_layer):
        p = f"transformer.h.{i}."
        x = x + attended(norm(x, p + "ln_1"), state, p + "attn.", config)
        h = norm(x, p + "ln_2")
        h = F.linear(h, state[p + "mlp.c_fc.weight"], state.get(p + "mlp.c_fc.bias"))
        h = F.gelu(h, approximate="tanh")
        x = x + F.linear(h, state[p + "mlp.c_proj.weight"], state.get(p + "mlp.c_proj.bias"))
    return F.linear(norm(x, "transformer.ln_f"), state["lm_head.weight"])


SIZES = {"vocab_size": 31, "block_size": 12, "n_layer": 2, "n_head": 4, "n_embd": 16}
CONFIGS = {
    "gpt2": nn.GPTConfig(**SIZES),
    "no bias, own head": nn.GPTConfig(**SIZES, bias=False, tie_weights=False),
    "rotary": nn.GPTConfig(**SIZES, rope_theta=100.0),
    "grouped": nn.GPTConfig(**SIZES, n_kv_head=2),
    "rotary, one shared": nn.GPTConfig(**SIZES, rope_theta=10000.0, n_kv_head=1),
}


def model_of(config, dtype="float64"):
    """A model whose weights are large enough that every part matters."""
    model, rng = nn.GPT(config, generator=np.random.default_rng(0)), np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data[...] = 8 * parameter.data + 0.1 * rng.normal(size=parameter.shape)
    return model.to(dtype)


def tied(state):
    return {**state, "lm_head.weight": state["transformer.wte.weight"]}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("positions", "dtype"), [(12, "float64"), (7, "float64"), (12, "float32")])
def test_values_and_gradients_are_those_of_torch(name, positions, dtype):
    config = CONFIGS[name]
    model = model_of(config, dtype)
    idx = np.random.default_rng(2).integers(0, 31, (3, positions))
    target = np.random.default_rng(3).integers(0, 31, (3, positions))
    state = {n: torch.tensor(p.numpy(), requires_grad=True) for n, p in model.named_parameters()}
    whole = tied(state) if config.tie_weights else state
    logits, wanted = model(idx), torch_gpt(whole, torch.from_numpy(idx), config)
    np.testing.assert_allclose(logits.numpy(), wanted.detach().numpy(), **TOLERANCE[dtype])
    assert logits.dtype == dtype
    nn.functional.cross_entropy(logits.reshape(-1, 31), target.reshape(-1)).backward()
    F.cross_entropy(wanted.view(-1, 31), torch.from_numpy(target).view(-1)).backward()
    for n, p in model.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), state[n].grad.numpy(), **TOLERANCE[dtype], err_msg=n)
        assert p.grad.dtype == dtype


def test_the_keys_are_gpt2s():
    keys = set(nn.GPT(nn.GPTConfig(**{**SIZES, "n_layer": 1})).state_dict())
    part = lambda *names: {f"{n}.{w}" for n in names for w in ("weight", "bias")}  # noqa: E731
    block = part("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    wanted = {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"}
    assert keys == wanted | part("transformer.ln_f") | {f"transformer.h.0.{name}" for name in block}


def test_gpt2_small_has_the_published_number_of_parameters():
    """124,439,808: Radford et al. 2019 by way of the released checkpoint; counted on a model of no memory."""
    c = nn.GPTConfig()
    tiny = nn.GPT(nn.GPTConfig(vocab_size=5, block_size=3, n_layer=1, n_head=1, n_embd=2))
    count = sum(p.size for p in tiny.parameters())
    formula = lambda v, t, layers, n: v * n + t * n + layers * (12 * n * n + 13 * n) + 2 * n  # noqa: E731
    assert count == formula(5, 3, 1, 2)
    assert formula(c.vocab_size, c.block_size, c.n_layer, c.n_embd) == 124_439_808


def test_first_values_are_gpt2s():
    model = nn.GPT(nn.GPTConfig(**{**SIZES, "n_embd": 128}), generator=np.random.default_rng(0))
    state = model.state_dict()
    assert state["transformer.h.0.attn.c_attn.weight"].std() == pytest.approx(0.02, rel=0.03)
    assert state["transformer.h.0.attn.c_proj.weight"].std() == pytest.approx(0.02 / 4**0.5, rel=0.03)
    assert state["transformer.h.1.mlp.c_proj.weight"].std() == pytest.approx(0.02 / 4**0.5, rel=0.03)
    assert not state["transformer.h.1.mlp.c_fc.bias"].any()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_with_a_cache_are_those_without(name):
    model, idx = model_of(CONFIGS[name]), np.random.default_rng(2).integers(0, 31, (2, 11))
    cache = nn.KVCache(layers=2, capacity=12)
    with ag.no_grad():
        parts = [model(idx[:, a:b], cache).numpy() for a, b in [(0, 5), (5, 6), (6, 10), (10, 11)]]
        whole = model(idx).numpy()
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, **TOLERANCE["float64"])


def test_a_full_cache_is_refused():
    model = model_of(CONFIGS["gpt2"])
    with ag.no_grad(), pytest.raises(ValueError, match="4 positions, got 5"):
        model(np.zeros((1, 5), int), nn.KVCache(2, 4))


def test_more_positions_than_the_block_size_are_refused():
    with pytest.raises(ag.ShapeError, match="block_size=12 positions, got 13"):
        model_of(CONFIGS["gpt2"])(np.zeros((1, 13), int))


@pytest.mark.parametrize("name", ["gpt2", "rotary"])
def test_greedy_generation_takes_torchs_most_likely_token_also_past_the_block_size(name):
    config = CONFIGS[name]
    model, idx = model_of(config), np.random.default_rng(2).integers(0, 31, (2, 4))
    found = model.generate(idx, 14, temperature=0)
    state = {n: torch.from_numpy(v) for n, v in model.state_dict().items()}
    tokens = torch.from_numpy(idx)
    for _ in range(14):
        tokens = torch.cat([tokens, torch_gpt(state, tokens[:, -12:], config)[:, -1].argmax(-1)[:, None]], 1)
    np.testing.assert_array_equal(found, tokens.numpy())


def test_sampling_draws_with_the_softmax_and_top_k_leaves_the_rest_out():
    from mlsys_lab.nn.gpt import sampled

    logits = np.repeat(np.float32([[1, 2, 0, 2.5]]), 40_000, axis=0)
    rng = np.random.default_rng(0)
    for temperature, top_k, kept in [(1.0, None, [0, 1, 2, 3]), (0.5, 2, [1, 3])]:
        counts = np.bincount(sampled(logits, temperature, top_k, rng), minlength=4) / 40_000
        wanted = np.zeros(4)
        wanted[kept] = torch.softmax(torch.from_numpy(logits[0, kept]) / temperature, -1).numpy()
        np.testing.assert_allclose(counts, wanted, atol=0.01)


def test_rotary_positions_depend_on_the_distance_alone():
    rng = np.random.default_rng(0)
    q, k = (ag.Tensor(rng.normal(size=(1, 1, 1, 8))) for _ in range(2))
    products = [(nn.rotary(q, start + 3).numpy() * nn.rotary(k, start).numpy()).sum() for start in (0, 1, 50)]
    np.testing.assert_allclose(products, products[0], rtol=1e-6)


def test_scaled_dot_product_attention_is_torchs():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=s).astype(np.float32) for s in [(2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)])
    for positions in (7, 5):
        k, v = k[:, :, :positions], v[:, :, :positions]
        causal = positions == 5
        found = nn.functional.scaled_dot_product_attention(*map(ag.Tensor, (q, k, v)), is_causal=causal)
        wanted = F.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)), is_causal=causal)
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("where", ["transformer.drop", "transformer.h.1.dropout"])
def test_dropout_in_a_gpt_works_while_training_and_not_in_evaluation(where):
    model = nn.GPT(nn.GPTConfig(**SIZES, dropout=0.5), generator=np.random.default_rng(0))
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and name != where:
            module.p = 0.0
    idx = np.arange(5)[None]
    first, second = model(idx).numpy(), model(idx).numpy()
    assert not np.array_equal(first, second)
    model.eval()
    np.testing.assert_array_equal(model(idx).numpy(), model(idx).numpy())
