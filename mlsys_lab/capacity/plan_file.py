"""Plans as people write them down, in YAML: one a file, or several under `plans:` by name.

A plan is what `estimate train` or `estimate serve` is asked. Where it has `search:`, what it leaves out or
lists is searched; see `plan_search`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlsys_lab._core.hardware import Device, device
from mlsys_lab._core.quantity import amount
from mlsys_lab.capacity.inference import WEIGHT_BYTES
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload
from mlsys_lab.capacity.serving_plan import Load
from mlsys_lab.capacity.zoo import language_model

#: What people write for a dtype.
SHORT = {"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "fp32": "float32", "f32": "float32",
         "fp8": "float8"}  # fmt: skip
LAYOUT = ("dp", "zero", "tp", "sp", "pp", "interleave", "cp", "ep", "recompute")
WORK = ("context", "batch", "micro_batch", "optimizer", "dtype", "master", "grad_bytes", "attention",
        "dropout", "step", "loss")  # fmt: skip
ANY = ("model", "gpu", "usd_per_hour")
TRAIN = (*ANY, "gpus", "tokens", *WORK, "parallel", "search", "budget", "deadline")
SERVE = (*ANY, "dtype", "serve")
LOAD = ("rate", "prompt", "output", "ttft", "tpot", "dtype", "tp")
#: May be a list where there is `search:`.
LISTED = ("gpu", "gpus", "micro_batch", "dp", "zero", "tp", "pp", "recompute")
SEARCHES = ("cost", "time")


@dataclass(frozen=True)
class Plan:
    """One plan.

    Attributes:
        name: in a comparison; where: for messages, the file and the name.
        model, gpus_named: what runs on which types of GPU; of one unless it is searched.
        counts: numbers of GPUs; empty where the layout says it.
        layout: what `parallel:` says; a value is a tuple where it was a list.
        work: fields of a `Workload` that were given; micro_batch a tuple where it was a list.
        tokens: of the whole run, 0 for a step alone.
        search: "cost", "time" or "".
        budget_usd, deadline_s: at most, 0 for no matter.
        usd_per_hour: of a GPU, 0 for what is written down.
        load, serving: of a plan that serves; what `fewest_gpus` takes beside it.
    """

    name: str
    where: str
    model: ModelSpec
    gpus_named: tuple[Device, ...]
    counts: tuple[int, ...] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)
    work: Mapping[str, Any] = field(default_factory=dict)
    tokens: float = 0.0
    search: str = ""
    budget_usd: float = 0.0
    deadline_s: float = 0.0
    usd_per_hour: float = 0.0
    load: Load | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)

    @property
    def on(self) -> Device:
        return self.gpus_named[0]

    @property
    def parallel(self) -> Parallel:
        """The layout of a plan that is not searched; GPUs that it does not split are replicas."""
        given = {"zero": 1} | dict(self.layout)
        inner = given.get("tp", 1) * given.get("pp", 1) * given.get("cp", 1)
        if self.counts:
            count = self.counts[0]
            dp = given.setdefault("dp", max(count // max(inner, 1), 1))
            if dp * inner != count:
                raise ValueError(
                    f"gpus {count} is not dp {dp} x tp {given.get('tp', 1)} x pp {given.get('pp', 1)} x "
                    f"cp {given.get('cp', 1)} = {dp * inner}: leave dp out, or use {dp * inner} GPUs"
                )
        return Parallel(**given)

    @property
    def workload(self) -> Workload:
        """What a step works on."""
        return Workload(**{"context": min(self.model.context or 2048, 2048)} | dict(self.work))


def read_plans(path: str | Path) -> list[Plan]:
    """The plans of a file, in its order.

    Raises:
        ValueError: one line with the file, the plan and what is wrong with it.
    """
    import yaml

    class Once(yaml.SafeLoader):
        """A key that is written twice is a slip, not a change of mind."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise ValueError(f"{path}: {key!r} is written twice, at line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    try:
        text = Path(path).read_text(encoding="utf-8")
        found = yaml.load(text, Loader=Once)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"{path} cannot be read: {why}") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "no text"
        at = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path} is not YAML: {problem}{at}") from None
    if not isinstance(found, dict):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise ValueError(f"{path} holds no plan but {kind}: write for example 'model: llama-2-7b'")
    base = Path(path).parent
    if "plans" not in found:
        return [as_plan(found, name=Path(path).stem, where=str(path), base=base)]
    _known(found, ("plans",), str(path), "beside plans:")
    plans = found["plans"]
    if not isinstance(plans, dict) or not plans:
        raise ValueError(f"{path}: plans: wants a mapping of names to plans")
    return [as_plan(p, name=str(n), where=f"{path}: plan {n}", base=base) for n, p in plans.items()]


def as_plan(
    found: Any, *, name: str = "plan", where: str = "the plan", base: Path = Path()
) -> Plan:  # fmt: skip
    """A plan of what was written, checked key by key; a model's path is looked for in `base` too.

    Raises:
        ValueError: one line that begins with `where`.
    """
    if not isinstance(found, dict):
        raise ValueError(f"{where}: a plan is a mapping such as 'model: llama-2-7b', got {found!r}")
    serves = "serve" in found
    _known(found, SERVE if serves else TRAIN, where, "a plan that serves" if serves else "a plan")
    for needed in ("model", "gpu"):
        if found.get(needed) in (None, "", []):
            example = "model: llama-2-7b" if needed == "model" else "gpu: A100"
            raise ValueError(f"{where} has no {needed}: add for example '{example}'")
    try:
        made = _serving(found, where) if serves else _training(found, where)
        return Plan(name=name, where=where, model=_model(str(found["model"]), base), **made)
    except (ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(said if said.startswith(where) else f"{where}: {said}") from None


def _training(found: dict[Any, Any], where: str) -> dict[str, Any]:
    layout = found.get("parallel") or {}
    if not isinstance(layout, dict):
        raise ValueError(f"parallel: wants a mapping such as 'tp: 8', got {layout!r}")
    _known(layout, LAYOUT, where, "parallel:")
    search = str(found.get("search") or "")
    if search and search not in SEARCHES:
        raise ValueError(f"search is one of {', '.join(SEARCHES)}, got {search!r}")
    for key in ("budget", "deadline"):
        if key in found and not search:
            raise ValueError(f"{key} is for a search: add 'search: {'time' if key == 'budget' else 'cost'}'")
    lists = [key for key, value in {**found, **layout}.items() if isinstance(value, list)]
    if lists and not search:
        raise ValueError(f"{lists[0]} is a list, which wants a search: add 'search: cost', or give one value")
    for key in lists:
        if key not in LISTED:
            raise ValueError(f"{key} cannot be a list; what can is {', '.join(LISTED)}")
    work = {key: _typed(key, found[key]) for key in WORK if found.get(key) is not None}
    if "dtype" in work:
        work["dtype"] = SHORT.get(str(work["dtype"]), str(work["dtype"]))
    if search and ("batch" not in work or "tokens" not in found):
        lacks = "batch" if "batch" not in work else "tokens"
        raise ValueError(f"a search compares layouts that do the same work: add {lacks}")
    return {
        "gpus_named": tuple(device(str(name)) for name in _many(found["gpu"])),
        "counts": tuple(_whole("gpus", n) for n in _many(found.get("gpus", []))),
        "layout": {
            k: tuple(_plain(k, x) for x in v) if isinstance(v, list) else _plain(k, v)
            for k, v in layout.items()
        },
        "work": {k: tuple(v) if isinstance(v, list) else v for k, v in work.items()},
        "tokens": _quantity("tokens", found["tokens"], "token") if "tokens" in found else 0.0,
        "search": search,
        "budget_usd": _quantity("budget", found["budget"], "USD") if "budget" in found else 0.0,
        "deadline_s": _quantity("deadline", found["deadline"], "s") if "deadline" in found else 0.0,
        "usd_per_hour": _rent(found),
    }


def _serving(found: dict[Any, Any], where: str) -> dict[str, Any]:
    asked = found["serve"]
    if not isinstance(asked, dict):
        raise ValueError(f"serve: wants a mapping of {', '.join(LOAD[:5])}, got {asked!r}")
    _known(asked, LOAD, where, "serve:")
    lacking = [key for key in LOAD[:5] if key not in asked]
    if lacking:
        raise ValueError(f"serve: lacks {', '.join(lacking)}")
    dtype = str(asked.get("dtype") or found.get("dtype") or "bfloat16")
    dtype = SHORT.get(dtype, dtype)
    if dtype not in WEIGHT_BYTES:
        raise ValueError(f"dtype is one of {', '.join(WEIGHT_BYTES)}, got {dtype!r}")
    load = Load(
        _quantity("rate", asked["rate"], "request/s"), _whole("prompt", asked["prompt"]),
        _whole("output", asked["output"]), _seconds("ttft", asked["ttft"]), _seconds("tpot", asked["tpot"]),
    )  # fmt: skip
    tp = asked.get("tp", 0)
    return {
        "gpus_named": (device(str(found["gpu"])),),
        "load": load,
        "serving": {"dtype": dtype, "tp": _whole("tp", tp) if tp else 0},
        "usd_per_hour": _rent(found),
    }


def _model(text: str, base: Path) -> ModelSpec:
    beside = base / text
    return language_model(beside if text.endswith(".json") and beside.is_file() else text)


def _known(found: Mapping[Any, Any], keys: Iterable[str], where: str, what: str) -> None:
    known = list(keys)
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
            offered = f"; the nearest is {near[0]}" if near else f"; there are {', '.join(known)}"
            raise ValueError(f"{where}: {what} has no key {str(key)!r}{offered}")


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} has to be a whole number of at least 1, got {value!r}")
    return value


def _typed(name: str, value: Any) -> Any:
    """A value of a step's work, of the kind that its key wants."""
    if name in ("context", "batch", "micro_batch"):
        return [_whole(name, n) for n in value] if isinstance(value, list) else _whole(name, value)
    kind, said = {"grad_bytes": (int, "a whole number"), "master": (bool, "true or false"),
                  "dropout": (bool, "true or false")}.get(name, (str, "a word"))  # fmt: skip
    if not isinstance(value, kind) and not isinstance(value, list):
        raise ValueError(f"{name} has to be {said}, got {value!r}")
    return value


def _plain(name: str, value: Any) -> Any:
    """A value of `parallel:`; YAML reads a bare `none` as text and `null` as nothing."""
    if name == "recompute":
        return "none" if value is None else str(value)
    if name == "sp":
        if not isinstance(value, bool):
            raise ValueError(f"sp has to be true or false, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} has to be a whole number, got {value!r}")
    return value


def _quantity(name: str, value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} has to be a number of {unit}, got {value!r}")
    with suppress(ValueError):  # what is no number has a unit
        value = float(value)
    try:
        return amount(value, unit)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, int | float):  # may be meant in seconds or in milliseconds
        raise ValueError(f"{name} {value!r}: the unit is missing, write {value:g}ms or {value:g}s")
    return _quantity(name, value, "s")


def _rent(found: Mapping[Any, Any]) -> float:
    return _quantity("usd_per_hour", found["usd_per_hour"], "") if "usd_per_hour" in found else 0.0
