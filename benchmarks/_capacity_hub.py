"""accelerate's and calflops' side of benchmarks/capacity.py --peers: rows as JSON in, values as JSON out.

accelerate's estimate of memory is the size of the model built without storage; its own command does that for
models of the hub, here the same calls take the row's configuration, with the head that it would leave out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

_operators = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):  # of detection, in a part of torchvision that asks for CUDA's torch
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402
import transformers  # noqa: E402
from accelerate import init_empty_weights  # noqa: E402
from accelerate.utils import calculate_maximum_sizes  # noqa: E402
from calflops import calculate_flops  # noqa: E402


class NotThere(Exception):
    """It has no such estimate; the message says why."""


def vision(i: dict[str, Any]) -> Any:
    return torchvision.models.get_model(i["arch"].lower(), weights=None)


def language(config: dict[str, Any]) -> Any:
    made = transformers.AutoConfig.for_model(**config)
    plain = config["model_type"] == "bert"  # the row counts the model and its pooler
    build = transformers.AutoModel if plain else transformers.AutoModelForCausalLM
    return build.from_config(made, dtype=torch.float32)


def by_accelerate(row: dict[str, Any]) -> float:
    if row["quantity"] != "param_count":
        raise NotThere("the memory of weights alone")
    with init_empty_weights():
        model = vision(row["inputs"]) if "classes" in row["inputs"] else language(row["config"])
    if "config" in row:
        model.tie_weights()  # as its guide says, outside
    return float(calculate_maximum_sizes(model)[0] / 4)  # float32


def by_calflops(row: dict[str, Any]) -> float:
    if row["quantity"] not in ("param_count", "forward_gmacs"):
        raise NotThere("FLOPs, MACs and parameters of one forward pass alone")
    if "arch" not in row["inputs"] or "h" in row["inputs"] or "L" in row["inputs"]:
        raise NotThere("it runs the model, which is not done here for models of language")
    shape = (1, *row["inputs"].get("input", (3, 224, 224)))
    _, macs, parameters = calculate_flops(
        model=vision(row["inputs"]), input_shape=shape, print_results=False, output_as_string=False
    )
    return float(macs / 1e9 if row["quantity"] == "forward_gmacs" else parameters)


def table(peer: Callable[[dict[str, Any]], float], rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        try:
            found[row["id"]] = {"value": peer(row)}
        except NotThere as why:
            found[row["id"]] = {"why": str(why)}
        except Exception as error:  # what it does not take is told, row by row
            found[row["id"]] = {"why": f"{type(error).__name__}: {error}"[:120]}
    return found


def main() -> None:
    rows = json.load(sys.stdin)
    transformers.logging.set_verbosity_error()
    with contextlib.redirect_stdout(sys.stderr):
        found = {"accelerate": table(by_accelerate, rows), "calflops": table(by_calflops, rows)}
    json.dump(found, sys.stdout)


main()
