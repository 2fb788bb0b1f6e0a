"""What a model is to an estimator: sizes and choices from which every weight, FLOP and cached byte follows.

`ModelSpec` is a transformer's; `ConvNet` (convnets.py) and `Counted` (a torch module's weights) have the same
face: name, parameters, active_parameters, parts, kv_bytes_per_token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mlsys_lab.capacity.weights import Weight, by_part


class Counts:
    """What follows from a list of weights alone."""

    name: str

    @property
    def weights(self) -> tuple[Weight, ...]:
        raise NotImplementedError

    @cached_property
    def parameters(self) -> int:
        """Numbers stored, shared ones once."""
        return sum(w.stored for w in self.weights)

    @cached_property
    def active_parameters(self) -> int:
        """Of them, those that one token passes through."""
        return sum(w.active for w in self.weights)

    @cached_property
    def parts(self) -> dict[str, int]:
        """Parameters by part; the sum is `parameters`."""
        return by_part(self.weights)

    def kv_bytes_per_token(self, dtype_bytes: float = 2) -> int:
        """Bytes that generation keeps per token of context; 0 for a model that does not generate."""
        return 0


@dataclass(frozen=True)
class MoE:
    """A mixture of experts in place of the MLP (Shazeer et al. 2017; DeepSeekMoE, arXiv 2401.06066).

    Attributes:
        experts: routed experts of a layer.
        per_token: of them, those that one token goes to.
        intermediate: width of an expert.
        shared: width of the experts that every token goes to, all together; 0 for none.
        shared_gate: a gate of one output on the shared ones (Qwen-MoE).
        router_bias: one correction per expert in the router (DeepSeek-V3's balancing without a loss).
        first_dense: layers at the beginning that have an MLP instead.
        dense_layers: further such layers, by number.
    """

    experts: int
    per_token: int
    intermediate: int
    shared: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    first_dense: int = 0
    dense_layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class MLA:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Attributes:
        kv_rank: width of the compressed keys and values, which is what the cache holds.
        q_rank: width of the compressed queries; 0 when they are not compressed.
        nope, rope: width of a head's query and key without and with rotary position.
        v: width of a head's value.
    """

    kv_rank: int
    q_rank: int
    nope: int
    rope: int
    v: int


@dataclass(frozen=True)
class ModelSpec(Counts):
    """A transformer.

    Attributes:
        name: as people call it.
        layers, hidden, heads, vocab: counts.
        kv_heads: heads of keys and values (GQA); equal to `heads` for multi-head attention, 1 for multi-
            query.
        head_dim: width of a head; not always hidden / heads.
        intermediate: width of the MLP; gated: three matrices (SwiGLU) instead of two.
        kind: "decoder" (generates, has a KV cache), "encoder" or "vision".
        tied: the output matrix is the embedding; head: there is an output matrix at all.
        norm: "rms" (a scale), "layer" (scale and shift), "scale" (layer norm without shift), "plain" (no
            parameters).
        qkv_bias, o_bias, mlp_bias, head_bias: which products add a vector.
        qk_norm: "" none, "head" one per head width (Qwen3), "all" over all heads (OLMo 2).
        positions: rows of learned positions, 0 with rotary ones or ALiBi; token_types: rows of segment
            embeddings.
        norms_per_layer, embedding_norm, final_norm: where norms stand.
        pooler: a hidden x hidden layer at the end (BERT).
        embedding_width: of the token embedding where it is projected to `hidden` (OPT-350M); 0 for hidden.
        patch, channels, classes: of a vision transformer.
        moe, mla: mixture of experts, latent attention; mtp: further modules that predict later tokens
            (DeepSeek-V3),
            which are not part of `parameters` as their paper counts it; see `mtp_parameters`.
        embedding_is_active: whether `active_parameters` counts the input embedding, of which a token reads
            one row: Mistral's 12.9B of Mixtral and Qwen's 3.3B count it, DeepSeek's 2.4B of V2-Lite leaves
            it out.
        context: longest context that the config names; 0 when it names none.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    vocab: int
    intermediate: int
    kv_heads: int = 0
    head_dim: int = 0
    kind: str = "decoder"
    gated: bool = False
    tied: bool = False
    head: bool = True
    norm: str = "layer"
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    qk_norm: str = ""
    positions: int = 0
    token_types: int = 0
    norms_per_layer: int = 2
    embedding_norm: bool = False
    final_norm: bool = True
    pooler: bool = False
    embedding_width: int = 0
    patch: int = 0
    channels: int = 3
    classes: int = 0
    moe: MoE | None = None
    mla: MLA | None = None
    mtp: int = 0
    embedding_is_active: bool = True
    context: int = 0
    model_type: str = ""

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "intermediate"):
            _positive(name, getattr(self, name))
        if self.kind != "vision":
            _positive("vocab", self.vocab)
        if not self.head_dim:
            if self.hidden % self.heads:
                raise ValueError(
                    f"hidden {self.hidden} is not divisible by heads {self.heads}: give head_dim"
                )
            object.__setattr__(self, "head_dim", self.hidden // self.heads)
        if not self.kv_heads:
            object.__setattr__(self, "kv_heads", self.heads)
        for name in ("head_dim", "kv_heads"):
            _positive(name, getattr(self, name))
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads {self.heads} is not divisible by kv_heads {self.kv_heads}: each serves a whole number"
            )
        if self.moe is not None and not 0 < self.moe.per_token <= self.moe.experts:
            raise ValueError(f"expected 1 to {self.moe.experts} experts per token, got {self.moe.per_token}")

    @classmethod
    def from_hf(
        cls, config: Mapping[str, Any] | str | Path, *, strict: bool = True, name: str = ""
    ) -> ModelSpec:
        """The spec of a Hugging Face config: a dict, or the path of a config.json. See `hf.read`."""
        from mlsys_lab.capacity.hf import read  # here: the reader builds on this file

        return read(config, strict=strict, name=name)

    @staticmethod
    def from_torch(module: Any, name: str = "") -> Counted:
        """The weights of a torch module, shared ones once; its children are the parts ("meta" is enough)."""
        weights = tuple(
            Weight(path.partition(".")[0], path, tuple(tensor.shape))
            for path, tensor in module.named_parameters()
        )
        return Counted(name or type(module).__name__, weights)

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        from mlsys_lab.capacity.transformer import transformer_weights

        return tuple(transformer_weights(self))

    @property
    def mtp_parameters(self) -> int:
        """Weights of the modules that predict later tokens, without embedding and head, which are shared."""
        from mlsys_lab.capacity.transformer import mtp_weights

        return sum(w.stored for w in mtp_weights(self))

    def kv_bytes_per_token(self, dtype_bytes: float = 2) -> int:
        """Bytes of keys and values, or of their compressed form, per token of context and sequence, all
        layers.

        Args:
            dtype_bytes: 2 for bfloat16, 1 for fp8, 0.5 for four bits.
        """
        if dtype_bytes <= 0:
            raise ValueError(f"expected more than zero bytes per number, got {dtype_bytes}")
        if self.kind != "decoder":
            return 0
        width = self.mla.kv_rank + self.mla.rope if self.mla else 2 * self.kv_heads * self.head_dim
        return round(self.layers * width * dtype_bytes)

    def kv_bytes(self, context: int, batch: int = 1, dtype_bytes: float = 2) -> int:
        """Bytes of the cache of `batch` sequences of `context` tokens each."""
        _positive("context", context)
        _positive("batch", batch)
        return context * batch * self.kv_bytes_per_token(dtype_bytes)

    def summary(self) -> dict[str, Any]:
        """Its fields that are not at their default, for printing."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


@dataclass(frozen=True)
class Counted(Counts):
    """A model of which only the weights are known."""

    name: str
    listed: tuple[Weight, ...]

    @property
    def weights(self) -> tuple[Weight, ...]:
        return self.listed


def _positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} has to be a whole number of at least 1, got {value!r}")
