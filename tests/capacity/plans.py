"""Plans that tests write down."""

from __future__ import annotations

import json

GPT3 = {"model": "gpt3-175b", "gpu": "A100", "gpus": 1024, "tokens": "300B", "batch": 1536}
SPLIT = {"tp": 8, "pp": 8, "zero": 1}
SERVE = {"rate": 5, "prompt": 512, "output": 256, "ttft": "500ms", "tpot": "50ms"}


def write(folder, plan, name="plan.yaml"):
    """JSON is YAML too."""
    path = folder / name
    path.write_text(plan if isinstance(plan, str) else json.dumps(plan), encoding="utf-8")
    return path
