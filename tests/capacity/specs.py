"""Models that several tests use."""

from __future__ import annotations

from mlsys_lab.capacity import ModelSpec

#: Llama 3.2 3B, of which the published count is 3,212,749,824.
LLAMA = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}


def gpt(L: int, h: int, a: int, V: int, S: int, tied: bool = True) -> ModelSpec:
    """GPT-2's shape with other sizes."""
    return ModelSpec(
        "gpt", L, h, a, V, 4 * h, tied=tied, qkv_bias=True, o_bias=True, mlp_bias=True, positions=S
    )
