"""The model of a row of capacity_published.csv, from the row's own inputs through the library's reader."""

from __future__ import annotations

from typing import Any

from mlsys_lab.capacity import ModelSpec, Workload

Inputs = dict[str, Any]


class NotApplicable(Exception):
    """The row asks for what the library does not estimate; the message says why."""


def spec(i: Inputs, row: dict[str, str]) -> ModelSpec:
    """The model of a row, from the row's own inputs through the same reader as a config.json."""
    return ModelSpec.from_hf(config_of(i), name=row["subject"])


def config_of(i: Inputs) -> Inputs:
    """The config.json that a row's inputs amount to.

    Raises:
        NotApplicable: for an architecture that none is written down for here.
    """
    arch = i.get("arch", "gpt2")
    sizes: Inputs = {"vocab_size": i["V"], "hidden_size": i["h"], "num_hidden_layers": i["L"]}
    if arch == "deepseek_mla_moe":
        third = i.get("bias_corr", 0)
        config = sizes | {
            "model_type": "deepseek_v3" if third else "deepseek_v2",
            "num_attention_heads": i["a"],
            "intermediate_size": i["f"],
            "moe_intermediate_size": i["mf"],
            "n_routed_experts": i["E"],
            "n_shared_experts": i["sh"],
            "num_experts_per_tok": i["top"],
            "first_k_dense_replace": i["dense_L"],
            "q_lora_rank": i["ql"] or None,
            "kv_lora_rank": i["kvl"],
            "qk_nope_head_dim": i["nope"],
            "qk_rope_head_dim": i["rope"],
            "v_head_dim": i["vd"],
            "tie_word_embeddings": False,
        }
        if third:
            config["num_nextn_predict_layers"] = i.get("mtp", 0)
    elif arch == "llama":
        config = sizes | {
            "model_type": "qwen2" if i.get("bias") else "mixtral" if "E" in i else "llama",
            "intermediate_size": i["f"],
            "num_attention_heads": i["a"],
            "num_key_value_heads": i.get("kv", i["a"]),
            "tie_word_embeddings": bool(i.get("tied")),
        }
        if "E" in i:
            config |= {"num_local_experts": i["E"], "num_experts_per_tok": i["top"]}
        if "d" in i:
            config["head_dim"] = i["d"]
    elif arch == "bloom":
        config = {
            "model_type": arch,
            "vocab_size": i["V"],
            "hidden_size": i["h"],
            "n_layer": i["L"],
            "n_head": i["a"],
        }
    elif arch == "opt":
        config = sizes | {
            "model_type": arch,
            "num_attention_heads": i["a"],
            "ffn_dim": i.get("f", 4 * i["h"]),
            "max_position_embeddings": i["pos"] - 2,
        }
        if "proj" in i:
            config |= {"word_embed_proj_dim": i["proj"], "do_layer_norm_before": False}
    elif arch == "bert":
        config = sizes | {
            "model_type": arch,
            "num_attention_heads": i["a"],
            "intermediate_size": i["f"],
            "max_position_embeddings": i["S"],
        }
    elif arch == "gpt2":
        heads = (
            i["a"] if i["h"] % i["a"] == 0 else 1
        )  # a printed pair that does not divide; it is not in the count
        config = {
            "model_type": arch,
            "vocab_size": i["V"],
            "n_embd": i["h"],
            "n_layer": i["L"],
            "n_head": heads,
            "n_positions": i["S"],
        }
    else:
        raise NotApplicable(f"architecture {arch!r} is not known here")
    return config


def cache_model(i: Inputs, row: dict[str, str]) -> ModelSpec:
    sizes = {"vocab_size": 1, "hidden_size": 64, "intermediate_size": 1, "num_hidden_layers": i["L"]}
    if "kv_lora" in i:
        config = sizes | {
            "model_type": "deepseek_v2",
            "num_attention_heads": 1,
            "kv_lora_rank": i["kv_lora"],
            "q_lora_rank": None,
            "qk_rope_head_dim": i["rope"],
            "moe_intermediate_size": 1,
            "n_routed_experts": 1,
            "num_experts_per_tok": 1,
        }
    else:
        config = sizes | {
            "model_type": "llama",
            "num_attention_heads": i["kv"],
            "num_key_value_heads": i["kv"],
            "head_dim": i["d"],
        }
    return ModelSpec.from_hf(config, name=row["subject"])


def megatron(i: Inputs) -> tuple[ModelSpec, Workload]:
    m = ModelSpec(
        "gpt",
        i["L"],
        i["h"],
        i["a"],
        i["V"],
        4 * i["h"],
        tied=True,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        positions=i["S"],
    )
    w = Workload(
        i["S"],
        i.get("micro_batch", 1),
        i["global_batch"],
        dtype="float16",
        attention="materialised",
        dropout=True,
    )
    return m, w
