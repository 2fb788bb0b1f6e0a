"""A row of capacity_published.csv as calls of the library: its inputs in, our value out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from _capacity_models import Inputs, NotApplicable, cache_model, megatron, spec

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import Parallel, Workload, convnet, forward_flops, model, six_nd
from mlsys_lab.capacity.activations import activation_bytes
from mlsys_lab.capacity.convnets import convnet_names
from mlsys_lab.capacity.costs import co2_tonnes, cost_usd, energy_kwh, rent
from mlsys_lab.capacity.flops import train_flops
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.op_time import all_reduce_s, gemm_s, link_efficiency
from mlsys_lab.capacity.runs import gpu_hours, published_runs, utilisation
from mlsys_lab.capacity.step_time import step_time
from mlsys_lab.capacity.training import model_state_bytes

GIB = 2**30
DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}

#: Tensor and pipeline degrees and heads of arXiv 2104.04473, table 1, which the rows do not carry.
MEGATRON = {
    "1.7B": (1, 1, 24),
    "3.6B": (2, 1, 32),
    "7.5B": (4, 1, 32),
    "18.4B": (8, 1, 48),
    "39.1B": (8, 2, 64),
    "76.1B": (8, 4, 80),
    "145.6B": (8, 8, 96),
    "310.1B": (8, 16, 128),
    "529.6B": (8, 35, 128),
    "1008.0B": (8, 64, 160),
}


@dataclass(frozen=True)
class Answer:
    """Our value in the row's unit, with the ends where it is an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    basis: str = ""
    reason: str = ""


def answer(row: dict[str, str]) -> Answer:
    """Our answer to one row."""
    inputs = json.loads(row["inputs"])
    if row["quantity"] not in QUANTITIES:
        raise NotApplicable(WHY_NOT.get(row["quantity"], f"no estimate of {row['quantity']} here"))
    found = QUANTITIES[row["quantity"]](inputs, row)
    if isinstance(found, Interval):
        if found.is_exact:
            return Answer(found.mid, basis="exact")
        return Answer(found.mid, found.low, found.high, found.basis, f"from {len(found.rows)} rows")
    return Answer(float(found), basis="exact")


WHY_NOT = {
    "top1_accuracy": "an accuracy is measured, not estimated; the edge planner carries such figures as data",
}


def torchvision_name(name: str) -> str:
    """The name that the library has for one of torchvision's ("MobileNet_V3_Large", "ViT_B_16")."""
    return name.lower().replace("_", "-") if name.startswith("ViT") else name.lower()


def parameters(i: Inputs, row: dict[str, str]) -> float:
    arch = i["arch"]
    if "classes" in i:
        name = torchvision_name(arch)
        if name not in convnet_names() and not name.startswith("vit"):
            raise NotApplicable(f"{arch} is not written down here")
        return (
            convnet(name, classes=i["classes"]).parameters
            if name in convnet_names()
            else model(name).parameters
        )
    found = spec(i, row)
    return found.parameters + (found.mtp_parameters if i.get("mtp") else 0)


def active(i: Inputs, row: dict[str, str]) -> float:
    return spec(i, row).active_parameters


def gmacs(i: Inputs, row: dict[str, str]) -> float:
    name = torchvision_name(i["arch"])
    if name in convnet_names():
        return convnet(name, image=tuple(i["input"])).forward_macs / 1e9
    if not name.startswith("vit"):
        raise NotApplicable(f"{i['arch']} is not written down here")
    return forward_flops(model(name)) / 2e9


def kv_per_token(i: Inputs, row: dict[str, str]) -> float:
    """From the row's own sizes; the rest of the model does not matter to the cache."""
    wide = DTYPE_BYTES[i["dtype"]]
    return cache_model(i, row).kv_bytes_per_token(wide)


def kv_total(i: Inputs, row: dict[str, str]) -> float:
    return cache_model(i, row).kv_bytes(i["S"], i["batch"], DTYPE_BYTES[i["dtype"]]) / GIB


def layout(i: Inputs, recompute: str, sp: bool) -> Parallel:
    return Parallel(tp=i["tp"], pp=i["pp"], interleave=i["interleave"], recompute=recompute, sp=sp)


def states_gib(i: Inputs, row: dict[str, str]) -> float:
    """12 L h^2 parameters alone, as the figure counts; float16 weights, float32 gradients and Adam."""
    _, w = megatron(i)
    held = 12 * i["L"] * i["h"] ** 2 / (i["tp"] * i["pp"])
    full = Workload(w.context, dtype="float16", grad_bytes=i["bytes_per_param"] - 14)
    return sum(model_state_bytes(held, full).values()) / GIB


def activations_gib(i: Inputs, row: dict[str, str]) -> float:
    m, w = megatron(i)
    return activation_bytes(m, w, layout(i, i["recompute"], bool(i["sp"]))) / GIB


def activation_ratio(i: Inputs, row: dict[str, str]) -> float:
    m, w = megatron(i)
    sp, recompute = {
        "seq": (True, "none"),
        "sel": (False, "selective"),
        "seqsel": (True, "selective"),
        "full": (False, "full"),
    }[i["mode"]]
    return (
        100
        * activation_bytes(m, w, layout(i, recompute, sp))
        / activation_bytes(m, w, layout(i, "none", False))
    )


def iteration_s(i: Inputs, row: dict[str, str]) -> Interval:
    m, w = megatron(i)
    return step_time(m, w, layout(i, i["recompute"], bool(i["sp"])), device(i["gpu"])).time_s


def achieved_tflops(i: Inputs, row: dict[str, str]) -> Interval:
    """Hardware FLOPs per GPU and second, of the micro-batch that we find fastest (the papers tuned it)."""
    size = row["subject"].removeprefix("Megatron ")
    if size not in MEGATRON:  # neither layout nor batch: what whole runs on such a GPU reach
        on, family = device(i["gpu"]), row["subject"].lower().partition("-")[0]
        return on.half_peak() / 1e12 * utilisation(on, without=[family])
    tp, pp, heads = MEGATRON[size]
    i = i | {"a": heads}
    m, _ = megatron(i)
    dp = i["gpus"] // (tp * pp)
    flops = train_flops(m, i["global_batch"], i["S"], attention="materialised", recompute=i["recompute"])
    times = []
    for micro in (1, 2, 4, 8):
        if i["global_batch"] % (dp * micro) == 0:
            _, w = megatron(i | {"micro_batch": micro})
            p = Parallel(dp=dp, tp=tp, pp=pp, recompute=i["recompute"])
            times.append(step_time(m, w, p, device(i["gpu"])).time_s)
    return flops / i["gpus"] / 1e12 / min(times, key=lambda t: t.mid)


def hours(i: Inputs, row: dict[str, str]) -> Interval | float:
    """Without the model's family, unless the row itself says what was achieved."""
    on = device(i["gpu"])
    if "tflops_per_gpu" in i:
        return gpu_hours(
            i["parameters"], i["tokens"], on, mfu=i["tflops_per_gpu"] * 1e12 / on.half_peak()
        ).mid
    family = next((r.family for r in published_runs() if r.model.lower() == row["subject"].lower()), None)
    if family is None:
        word = row["subject"].lower().split("-")[0]
        family = next(
            (r.family for r in published_runs() if word.startswith(r.family) or r.family in word), ""
        )
    return gpu_hours(i["parameters"], i["tokens"], on, without=[family])


def train_days(i: Inputs, row: dict[str, str]) -> float:
    """At a given throughput: factor x tokens x parameters over all GPUs."""
    flops = six_nd(i["parameters"], i["tokens"]) * i["flops_factor"] / 6
    return flops / (i["gpus"] * i["tflops_per_gpu"] * 1e12) / 86400


def gemm_ms(i: Inputs, row: dict[str, str]) -> Interval:
    """Without the row of the same GPU where it is the calibration itself."""
    on = device(i["gpu"].split("(")[0])
    return 1e3 * gemm_s(
        i["m"],
        i["k"],
        i["n"],
        on,
        dtype_bytes=DTYPE_BYTES[i["dtype"]],
        without=[on.name] if i["m"] == 4096 else [],
    )


def all_reduce_ms(i: Inputs, row: dict[str, str]) -> Interval:
    on = device({"NVLink3": "A100", "NVLink4": "H100"}.get(i["interconnect"], "A100"))
    return all_reduce_s(i["bytes"], i["gpus"], on.link_bytes_per_s / 2 * link_efficiency()) * 1e3


def energy_mwh(i: Inputs, row: dict[str, str]) -> Interval:
    return energy_kwh(i["gpus"] * i["days"] * 24, i["watts_per_gpu"], i["pue"]) * 1e-3


def carbon(i: Inputs, row: dict[str, str]) -> Interval:
    kwh = i["mwh"] * 1e3 if "mwh" in i else energy_kwh(i["gpu_hours"], i["watts_per_gpu"], i.get("pue", 1.0))
    return co2_tonnes(kwh, i["g_per_kwh"])


def _with_parameters(
    function: Callable[[Inputs, dict[str, str]], Any],
) -> Callable[[Inputs, dict[str, str]], Any]:
    return lambda i, row: function(i | {"parameters": i["params"]}, row)


QUANTITIES: dict[str, Callable[[Inputs, dict[str, str]], Interval | float]] = {
    "param_count": parameters,
    "active_params": active,
    "forward_gmacs": gmacs,
    "train_flops": lambda i, row: six_nd(i["params"], i["tokens"]),
    "kv_bytes_per_token": kv_per_token,
    "kv_bytes_total": kv_total,
    "weights_bytes": lambda i, row: i["params"] * i["bits"] / 8,
    "serving_rule_gb": lambda i, row: i["params"] * i["bits"] / 8 * i["overhead"] / 1e9,
    "weights+optimizer_per_gpu": states_gib,
    "activations_per_gpu": activations_gib,
    "activation_ratio_vs_none": activation_ratio,
    "iteration_time": iteration_s,
    "achieved_tflops_per_gpu": achieved_tflops,
    "gpu_hours": _with_parameters(hours),
    "train_days": _with_parameters(train_days),
    "train_cost_usd": lambda i, row: cost_usd(i["gpu_hours"], i["usd_per_gpu_hour"]),
    "energy_mwh": energy_mwh,
    "co2_t": carbon,
    "peak_bf16_dense_tflops": lambda i, row: device(i["device"]).half_peak() / 1e12,
    "hbm_bandwidth": lambda i, row: device(i["device"]).memory_bytes_per_s / 1e9,
    "ridge_flop_per_byte": lambda i, row: device(i["device"]).ridge(i["dtype"]),
    "on_demand_usd_per_gpu_hour": lambda i, row: rent(device(row["subject"])).mid,
    "gemm_time": gemm_ms,
    "allreduce_time": all_reduce_ms,
}
