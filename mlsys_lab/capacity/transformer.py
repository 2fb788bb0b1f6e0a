"""Every weight of a transformer from its spec: embedding, blocks, last norm, head.

After Vaswani et al. 2017 with the later choices as fields of the spec: rotary or learned positions, GQA,
latent attention, gated MLPs, experts. What tensor parallelism splits follows Megatron-LM (arXiv 1909.08053,
section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlsys_lab.capacity.weights import Weight

if TYPE_CHECKING:
    from mlsys_lab.capacity.models import ModelSpec


def transformer_weights(m: ModelSpec) -> Iterator[Weight]:
    """All weights that the model stores; a tied output has 0 copies and still multiplies."""
    yield from embedding_weights(m)
    yield from block_weights(m, 0, m.layers)
    yield from last_weights(m)


def block_weights(m: ModelSpec, first: int, end: int) -> Iterator[Weight]:
    """The weights of layers `first` to `end` - 1."""
    n = end - first
    dense = sum(is_dense(m, layer) for layer in range(first, end))
    yield from _attention(m, n)
    if dense:
        yield from _mlp(m, dense, "mlp", m.intermediate)
    if n > dense:
        yield from _experts(m, n - dense)
    yield from _norm(m, "norm", m.norms_per_layer * n)


def is_dense(m: ModelSpec, layer: int) -> bool:
    """Whether this layer has an MLP and no experts."""
    return m.moe is None or layer < m.moe.first_dense or layer in m.moe.dense_layers


def mtp_weights(m: ModelSpec) -> Iterator[Weight]:
    """DeepSeek-V3's modules for later tokens (arXiv 2412.19437, section 2.2)."""
    if m.mtp:
        yield Weight("mtp", "projection", (m.hidden, 2 * m.hidden), m.mtp, multiplies=True)
        yield from _norm(m, "mtp norm", 3 * m.mtp)
        yield from (w for _ in range(m.mtp) for w in block_weights(m, m.layers, m.layers + 1))


def embedding_weights(m: ModelSpec) -> Iterator[Weight]:
    """What stands before the first block."""
    width = m.embedding_width or m.hidden
    if m.kind == "vision":
        shape, grid = (
            (m.hidden, m.channels, m.patch, m.patch),
            m.positions - 1,
        )  # one position is the class token's
        yield Weight("embedding", "patches", shape, multiplies=True, positions=grid)
        yield Weight("embedding", "patches bias", (m.hidden,))
        yield Weight("embedding", "class token", (m.hidden,))
    else:
        used = 1 if m.embedding_is_active or m.tied else 0
        yield Weight("embedding", "tokens", (m.vocab, width), used=used, shard="tp")
    if m.embedding_width:
        yield Weight("embedding", "project in", (m.hidden, width), multiplies=True)
    if m.positions:
        yield Weight("positions", "positions", (m.positions, m.hidden))
    if m.token_types:
        yield Weight("embedding", "token types", (m.token_types, m.hidden))
    if m.embedding_norm:
        yield from _norm(m, "embedding norm", 1)


def last_weights(m: ModelSpec) -> Iterator[Weight]:
    """What stands after the last block."""
    if m.final_norm:
        yield from _norm(m, "final norm", 1)
    if m.embedding_width:
        yield Weight("head", "project out", (m.embedding_width, m.hidden), multiplies=True)
    if m.pooler:
        yield Weight("pooler", "pooler", (m.hidden, m.hidden), multiplies=True, positions=1)
        yield Weight("pooler", "pooler bias", (m.hidden,))
    if m.kind == "vision":
        if m.classes:
            yield Weight("head", "classes", (m.classes, m.hidden), multiplies=True, positions=1)
            yield Weight("head", "classes bias", (m.classes,))
    elif m.head:
        shape, copies = (m.vocab, m.embedding_width or m.hidden), 0 if m.tied else 1
        yield Weight("head", "output", shape, copies, used=1, multiplies=True, shard="tp")
        if m.head_bias:
            yield Weight("head", "output bias", (m.vocab,), shard="tp")


def _linear(
    part: str, name: str, shape: tuple[int, int], n: int, *, bias: bool = False, used: int | None = None,
    shard: str = "", bias_shard: str = "",
) -> Iterator[Weight]:  # fmt: skip
    yield Weight(part, name, shape, n, used, multiplies=True, shard=shard)
    if bias:
        yield Weight(part, f"{name} bias", shape[:1], n, used, shard=bias_shard)


def _attention(m: ModelSpec, n: int) -> Iterator[Weight]:
    if m.mla is not None:
        yield from _latent_attention(m, n)
        return
    width, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    for name, out, shard in (("query", width, "tp"), ("key", kv, "kv"), ("value", kv, "kv")):
        yield from _linear(
            "attention", name, (out, m.hidden), n, bias=m.qkv_bias, shard=shard, bias_shard=shard
        )
    yield from _linear("attention", "output", (m.hidden, width), n, bias=m.o_bias, shard="tp")
    if m.qk_norm:
        per_head = m.qk_norm == "head"
        yield Weight("norm", "query norm", (m.head_dim if per_head else width,), n)
        yield Weight("norm", "key norm", (m.head_dim if per_head else kv,), n)


def _latent_attention(m: ModelSpec, n: int) -> Iterator[Weight]:
    assert m.mla is not None
    a, query = m.mla, m.heads * (m.mla.nope + m.mla.rope)
    if a.q_rank:
        yield from _linear("attention", "query down", (a.q_rank, m.hidden), n, bias=m.qkv_bias)
        yield Weight("norm", "query down norm", (a.q_rank,), n)
        yield from _linear("attention", "query up", (query, a.q_rank), n, shard="tp")
    else:
        yield from _linear("attention", "query", (query, m.hidden), n, shard="tp")
    yield from _linear("attention", "key-value down", (a.kv_rank + a.rope, m.hidden), n, bias=m.qkv_bias)
    yield Weight("norm", "key-value down norm", (a.kv_rank,), n)
    yield from _linear("attention", "key-value up", (m.heads * (a.nope + a.v), a.kv_rank), n, shard="tp")
    yield from _linear("attention", "output", (m.hidden, m.heads * a.v), n, bias=m.o_bias, shard="tp")


def _mlp(
    m: ModelSpec, n: int, part: str, width: int, shard: str = "tp", used: int | None = None
) -> Iterator[Weight]:
    for name in ("gate", "up") if m.gated else ("up",):
        yield from _linear(
            part, name, (width, m.hidden), n, bias=m.mlp_bias, used=used, shard=shard, bias_shard=shard
        )
    yield from _linear(part, "down", (m.hidden, width), n, bias=m.mlp_bias, used=used, shard=shard)


def _experts(m: ModelSpec, n: int) -> Iterator[Weight]:
    assert m.moe is not None
    e = m.moe
    yield from _linear("router", "router", (e.experts, m.hidden), n)
    if e.router_bias:
        yield Weight("router", "correction", (e.experts,), n)
    yield from _mlp(m, n * e.experts, "experts", e.intermediate, "expert", n * e.per_token)
    if e.shared:
        yield from _mlp(m, n, "shared experts", e.shared)
        if e.shared_gate:
            yield from _linear("shared experts", "shared gate", (1, m.hidden), n)


def _norm(m: ModelSpec, name: str, n: int) -> Iterator[Weight]:
    if n and m.norm != "plain":
        yield Weight("norm", f"{name} scale", (m.hidden,), n)
        if m.norm == "layer":
            yield Weight("norm", f"{name} shift", (m.hidden,), n)
