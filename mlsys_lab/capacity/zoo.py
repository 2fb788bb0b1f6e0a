"""Named models: their configs are written down in data/zoo.toml and read like any config.json."""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from mlsys_lab.capacity.convnets import convnet, convnet_names
from mlsys_lab.capacity.hf import DATA, read
from mlsys_lab.capacity.models import Counts, ModelSpec

_ENDINGS = ("hf", "base", "chat", "instruct", "it", "v01", "v20")


@cache
def _zoo() -> dict[str, Any]:
    return tomllib.loads((DATA / "zoo.toml").read_text(encoding="utf-8"))


def _plain(name: str) -> str:
    """A name without its owner, case, punctuation and endings that leave the sizes alone."""
    words = [w for w in re.split(r"[^a-z0-9.]+", name.rpartition("/")[2].lower().replace("v0.1", "v01")) if w]
    while len(words) > 1 and words[-1] in _ENDINGS:
        words.pop()
    joined = "".join(words)
    return re.sub(r"^(meta)?(llama)", r"\2", joined).replace(".", "p")


@cache
def _by_plain() -> dict[str, str]:
    return {_plain(name): name for name in [*_zoo(), *convnet_names()]}


def names() -> list[str]:
    """Every model that is known by name."""
    return sorted(_by_plain().values())


def model(name: str | Path) -> Counts:
    """A model by its name, or by the path of a config.json.

    Raises:
        ValueError: neither; the message names the nearest models.

    >>> model("meta-llama/Llama-2-7b-hf").parameters
    6738415616
    """
    text = str(name)
    if text.endswith(".json") or Path(text).is_dir():
        return read(text)
    known = _by_plain().get(_plain(text))
    if known is None:
        near = difflib.get_close_matches(_plain(text), _by_plain(), n=3, cutoff=0.4)
        offered = ", ".join(_by_plain()[n] for n in near) or "gpt2, llama-2-7b, resnet50"
        raise ValueError(
            f"unknown model {text!r}; the nearest are {offered}, or give the path of a config.json"
        )
    if known not in _zoo():
        return convnet(known)
    return read(_zoo()[known]["config"], name=known)


def language_model(name: str | Path) -> ModelSpec:
    """As `model`, and refused when it is not a transformer."""
    found = model(name)
    if not isinstance(found, ModelSpec):
        raise ValueError(f"{found.name} is not a transformer: choose one such as llama-2-7b")
    return found


def confirmed(name: str) -> int | None:
    """The count that another program found for a named transformer; None where there is none."""
    count = _zoo()[name].get("confirmed")
    return None if count is None else int(count)


def source(name: str) -> str:
    """Where a named transformer's config comes from."""
    return str(_zoo()[name]["source"])


def transformers() -> list[str]:
    """The names that are transformers."""
    return sorted(_zoo())
