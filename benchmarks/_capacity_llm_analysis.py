"""llm-analysis' side of benchmarks/capacity.py --peers: rows as JSON on standard input, values on output.

Each row is asked of the call that its documentation names for it. Where a choice would be the user's, it is
the one that serves llm-analysis best: a gated MLP enters with 3/2 of its width, because only two matrices are
counted, and half of the peak is assumed to be reached, as its own constants suggest.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from llm_analysis.analysis import ActivationRecomputation, LLMAnalysis
from llm_analysis.config import (
    DtypeConfig,
    GPUConfig,
    ModelConfig,
    ParallelismConfig,
    get_gpu_config_by_name,
    populate_model_and_gpu_configs,
)
from llm_analysis.logger import logger

REACHED = 0.5  # of the peak: the comment at its constant FLOPS_EFFICIENCY
DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}
RECOMPUTE = {
    "none": ActivationRecomputation.NONE,
    "selective": ActivationRecomputation.SELECTIVE,
    "full": ActivationRecomputation.FULL,
}


class NotThere(Exception):
    """It has no such estimate; the message says why."""


def answer(quantity: str, i: dict[str, Any]) -> float:
    """Its value in the row's unit."""
    if quantity not in QUANTITIES:
        raise NotThere(f"no estimate of {quantity}")
    return float(QUANTITIES[quantity](i))


def config(i: dict[str, Any]) -> ModelConfig:
    if "kvl" in i or "kv_lora" in i:
        raise NotThere("no multi-head latent attention")
    if "classes" in i or "input" in i:
        raise NotThere("transformers alone")
    h, heads = i["h"], i.get("a", 1)
    gated = i.get("arch") == "llama"
    wide = i.get("f", 4 * h) * (1.5 if gated else 1)
    return ModelConfig(
        "row", i["L"], heads if h % heads == 0 else 1, h, i["V"],
        num_key_value_heads=i.get("kv"), ffn_embed_dim=wide, expansion_ratio=wide / h,
        moe_num_experts=i.get("E", 1), moe_top_k=i.get("top", 1), max_seq_len=i.get("S", 4096),
    )  # fmt: skip


def analysis(model: ModelConfig, gpu: str = "A100", **degrees: int) -> LLMAnalysis:
    return LLMAnalysis(
        model, gpu_config(gpu), DtypeConfig(), ParallelismConfig(**degrees),
        flops_efficiency=REACHED, hbm_memory_efficiency=1,
    )  # fmt: skip


def gpu_config(name: str) -> GPUConfig:
    names = {"A100": "a100-sxm-80gb", "A100-80GB-SXM": "a100-sxm-80gb", "H100-80GB": "h100-sxm-80gb"}
    if name not in names:
        raise NotThere(f"no configuration of {name}")
    return get_gpu_config_by_name(names[name])


def training(i: dict[str, Any], recompute: str, sp: bool) -> dict[str, Any]:
    tp, pp = i["tp"], i["pp"]
    dp = max(i.get("gpus", tp * pp) // (tp * pp), 1)
    degrees = {"tp_size": tp, "pp_size": pp, "dp_size": dp, "sp_size": tp if sp else 1}
    found: dict[str, Any] = analysis(config(i), i.get("gpu", "A100"), **degrees).training(
        batch_size_per_gpu=i["micro_batch"], global_batch_size=i["global_batch"], seq_len=i["S"],
        activation_recomputation=RECOMPUTE[recompute], flash_attn=False, softmax_dropout=True,
    )  # fmt: skip
    return found


def activations(i: dict[str, Any], recompute: str, sp: bool) -> float:
    return float(training(i, recompute, sp)["activation_memory_per_gpu"])


def ratio(i: dict[str, Any]) -> float:
    sp, recompute = {
        "seq": (True, "none"),
        "sel": (False, "selective"),
        "seqsel": (True, "selective"),
        "full": (False, "full"),
    }[i["mode"]]
    return 100 * activations(i, recompute, sp) / activations(i, "none", False)


def cache(i: dict[str, Any], tokens: int) -> float:
    if "kv_lora" in i:
        raise NotThere("no multi-head latent attention")
    model = ModelConfig("row", i["L"], i["kv"], i["kv"] * i["d"], 1, num_key_value_heads=i["kv"])
    layer = analysis(model).get_memory_kv_cache_per_layer(1, tokens, DTYPE_BYTES[i["dtype"]])
    return float(layer * i["L"])


QUANTITIES: dict[str, Any] = {
    "param_count": lambda i: analysis(config(i)).get_num_params_total(),
    "active_params": lambda i: analysis(config(i)).get_num_active_params_total(),
    "kv_bytes_per_token": lambda i: cache(i, 1),
    "kv_bytes_total": lambda i: cache(i, i["S"]) * i["batch"] / 2**30,
    "activations_per_gpu": lambda i: activations(i, i["recompute"], bool(i["sp"])) / 2**30,
    "activation_ratio_vs_none": ratio,
    "weights+optimizer_per_gpu": lambda i: (
        training(i, "none", False)["(weight+op_state+grad)_memory_per_gpu"] / 2**30
    ),
    "iteration_time": lambda i: training(i, i["recompute"], bool(i["sp"]))["latency_per_iter"],
}


def main() -> None:
    logger.disabled = True
    populate_model_and_gpu_configs()
    found: dict[str, Any] = {}
    for row in json.load(sys.stdin):
        try:
            found[row["id"]] = {"value": answer(row["quantity"], row["inputs"])}
        except NotThere as why:
            found[row["id"]] = {"why": str(why)}
        except Exception as error:  # what it does not take is told, row by row
            found[row["id"]] = {"why": f"{type(error).__name__}: {error}"[:120]}
    json.dump({"llm-analysis": found}, sys.stdout)


main()
