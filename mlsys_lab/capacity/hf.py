"""A Hugging Face config.json as a `ModelSpec`; a field that could change the count and is not known is
refused.

What each model_type counts, implies and ignores stands in data/model_types.toml. A silent guess here is how
estimators come to be wrong by a factor: heads of the cache, width of a head, biases, tied embeddings.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlsys_lab.capacity.models import MLA, ModelSpec, MoE

DATA = Path(__file__).parent / "data"
_FLAGS = ("tied", "qkv_bias", "o_bias", "mlp_bias", "final_norm", "gated")
_MAY_BE_ZERO = ("token_types", "mla.q_rank", "moe.first_dense", "moe.shared", "moe.shared_count", "mtp")


class NotAModel(ValueError):
    """What was given is no config of a model that this program can count; the message says why."""


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads((DATA / "model_types.toml").read_text(encoding="utf-8"))


@cache
def _rules(model_type: str) -> dict[str, Any]:
    """The type's table with those that it is like below it, and the fields neutral everywhere."""
    tables = _tables()
    own = tables[model_type]
    below = (
        _rules(own["like"])
        if "like" in own
        else {"neutral": tables["any"]["neutral"], "only": tables["any"]["only"]}
    )
    merged: dict[str, Any] = {
        key: {**below.get(key, {}), **own.get(key, {})} for key in ("counted", "default", "only", "implied")
    }
    merged["neutral"] = [*below["neutral"], *own.get("neutral", [])]
    merged["nullable"] = [*below.get("nullable", []), *own.get("nullable", [])]
    return merged


def model_types() -> list[str]:
    """The values of model_type that can be read."""
    return sorted(set(_tables()) - {"any"})


def read(config: Mapping[str, Any] | str | Path, *, strict: bool = True, name: str = "") -> ModelSpec:
    """The spec of a config.

    Args:
        config: the dict, or the path of its JSON file.
        strict: refuse a field that the type is not known to have; otherwise warn and leave it out.
        name: of the model; by default the config's own `_name_or_path`, or the type.

    Raises:
        NotAModel: not JSON, no model's config, an unknown type, a required field missing, an unknown field.

    >>> config = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}
    >>> read(config).parameters
    124439808
    """
    if not isinstance(config, Mapping):
        config = _load(Path(config))
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise NotAModel(
            "not a model's config.json: it has no model_type, such as " + ", ".join(model_types()[:4])
        )
    if model_type not in model_types():
        if isinstance(config.get("text_config"), Mapping):
            raise NotAModel(
                f"{model_type!r} holds several models: give its text_config, which has a type of its own"
            )
        near = difflib.get_close_matches(model_type, model_types(), n=3, cutoff=0.3) or model_types()
        raise NotAModel(f"model_type {model_type!r} is not known; the nearest are {', '.join(near)}")
    rules = _rules(model_type)
    _refuse_unknown(config, rules, model_type, strict)
    values = _values(config, rules, model_type)
    title = name or str(config.get("_name_or_path") or config.get("name_or_path") or model_type)
    return _spec(title, model_type, {**rules["implied"], **values})


def _load(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        path = path / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotAModel(f"{path} cannot be read as a config.json: {error}") from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise NotAModel(f"{path} is not JSON: {error.msg} in line {error.lineno}") from None
    if not isinstance(found, dict):
        raise NotAModel(
            f"{path} is not a model's config.json: it holds a {type(found).__name__}, not an object"
        )
    return found


def _refuse_unknown(config: Mapping[str, Any], rules: dict[str, Any], model_type: str, strict: bool) -> None:
    known = [*rules["counted"], *rules["only"], *rules["neutral"]]
    for field in config:
        if field in known:
            continue
        near = difflib.get_close_matches(field, known, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        message = (
            f"{field!r} is no field of {model_type} that is known here, and it could change the count{hint}"
        )
        if strict:
            raise NotAModel(
                f"{message}. Correct it, or leave it out: ModelSpec.from_hf(config, strict=False)"
            )
        warnings.warn(message, stacklevel=4)
    for field, value in rules["only"].items():
        wanted = None if value == "null" else value
        if field in config and config[field] not in (wanted, None):
            raise NotAModel(
                f"{model_type} with {field} = {config[field]!r} is not known here, only {wanted!r} is"
            )


def _values(config: Mapping[str, Any], rules: dict[str, Any], model_type: str) -> dict[str, Any]:
    """Our fields, from the config or the type's defaults."""
    values: dict[str, Any] = {}
    for field, targets in rules["counted"].items():
        if field in rules["only"]:
            continue  # one value is possible, and `implied` says what it means
        if field in rules["nullable"] and field in config and config[field] is None:
            value = 0
        else:
            value = _look_up(field, config, rules["default"], model_type, ())
        for target in [targets] if isinstance(targets, str) else targets:
            if target in values and values[target] != value and field not in config:
                continue  # the other spelling of the same field was given
            values[target] = _checked(field, target, value)
    return values


def _look_up(
    field: str, config: Mapping[str, Any], default: dict[str, Any], model_type: str, seen: tuple[str, ...]
) -> Any:
    if config.get(field) is not None:
        return config[field]
    rule = default.get(field)
    if rule is None or field in seen:
        missing = seen[0] if seen else field
        raise NotAModel(f"{model_type}'s config.json lacks {missing!r}, which has no default: add it")
    if not isinstance(rule, str) or not rule.startswith("="):
        return rule
    times, _, rest = rule[1:].rpartition("*")
    first, _, below = rest.partition("/")
    seen = (*seen, field)
    value = _look_up(first, config, default, model_type, seen)
    if times:
        value = int(times) * value
    if below:
        divisor = _look_up(below, config, default, model_type, seen)
        _checked(first, "", value)
        if value % _checked(below, "", divisor):
            raise NotAModel(
                f"{first} {value} is not divisible by {below} {divisor}: give {field}, or correct one of them"
            )
        value //= divisor
    return value


def _checked(field: str, target: str, value: Any) -> Any:
    if target == "classes":
        return len(value) if isinstance(value, (dict, list)) else value
    if target == "moe.dense_layers":
        return tuple(value)
    if target in _FLAGS:
        if not isinstance(value, bool):
            raise NotAModel(f"{field} has to be true or false, got {value!r}")
    elif (
        isinstance(value, bool) or not isinstance(value, int) or value < (0 if target in _MAY_BE_ZERO else 1)
    ):
        raise NotAModel(f"{field} has to be a whole number of at least 1, got {value!r}")
    return value


def _spec(name: str, model_type: str, values: dict[str, Any]) -> ModelSpec:
    moe = {k.removeprefix("moe."): values.pop(k) for k in list(values) if k.startswith("moe.")}
    mla = {k.removeprefix("mla."): values.pop(k) for k in list(values) if k.startswith("mla.")}
    if "shared_count" in moe:
        moe["shared"] = moe.pop("shared_count") * moe["intermediate"]
    if "positions" in values:
        values["positions"] += values.pop("positions_beyond_context", 0)
    if "image" in values:
        side = values.pop("image")
        if not values["patch"] or side % values["patch"]:
            raise NotAModel(f"image_size {side} is not divisible by patch_size {values['patch']}")
        values["positions"] = (side // values["patch"]) ** 2 + 1
    if values.get("embedding_width") == values["hidden"]:
        values["embedding_width"] = 0
    if mla:
        values["head_dim"] = mla["nope"] + mla["rope"]
    try:
        return ModelSpec(
            name=name,
            model_type=model_type,
            moe=MoE(**moe) if moe else None,
            mla=MLA(**mla) if mla else None,
            **values,
        )
    except ValueError as error:
        raise NotAModel(str(error)) from None
