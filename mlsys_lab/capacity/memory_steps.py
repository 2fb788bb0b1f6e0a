"""The derivation of a training step's memory, as a person would write it: formula, numbers, source."""

from __future__ import annotations

from mlsys_lab.capacity.activations import activation_bytes, in_flight, layer_bytes, saved_by_layer
from mlsys_lab.capacity.held import held
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload

Step = tuple[str, str, str]
ZERO = "ZeRO: arXiv 1910.02054, section 3"
KEPT = "what the forward pass keeps: arXiv 2205.05198, section 4"


def memory_steps(m: ModelSpec, w: Workload, p: Parallel) -> list[Step]:
    """What is computed, how, and after which source, of a GPU of the first pipeline stage."""
    return [*_states(m, w, p), *_activations(m, w, p)]


def _states(m: ModelSpec, w: Workload, p: Parallel) -> list[Step]:
    has, ranks = held(m, p), p.dp * p.cp
    steps = [
        (
            "parameters of a GPU" + (" of the first stage" if p.pp > 1 else ""),
            f"{m.parameters:,} in all; of tp {p.tp}, pp {p.pp}, ep {p.ep}: {has.shared + has.experts:,}",
            f"{m.name}: its config",
        )
    ]
    for part, each, stage in (
        ("weights", w.dtype_bytes, 3),
        ("gradients", w.gradient_bytes, 2),
        ("optimizer", w.state_bytes, 1),
    ):
        sharded = p.zero >= stage and ranks > 1
        shared, experts = (ranks, ranks // p.ep) if sharded else (1, 1)
        total = has.shared * each / shared + has.experts * each / experts
        terms = [f"{has.shared:,} x {each:g} bytes" + (f" / {shared}" if sharded else "")]
        if has.experts:
            terms.append(f"{has.experts:,} x {each:g} bytes" + (f" / {experts}" if sharded else ""))
        steps.append(
            (part, f"{' + '.join(terms)} = {total:,.0f}", ZERO if sharded else f"{w.optimizer}, {w.dtype}")
        )
    return steps


def _activations(m: ModelSpec, w: Workload, p: Parallel) -> list[Step]:
    tokens = w.context * w.micro_batch / p.cp
    if p.recompute == "full":
        each = f"{w.dtype_bytes} x {m.hidden:,} of its input"
    else:
        kept = [s for s in saved_by_layer(m, w) if not (s.core and p.recompute == "selective")]
        each = " + ".join(
            f"{s.bytes_per_token:,.0f}{f' / {p.tp}' if p.tp > 1 and (s.split or p.sp) else ''} {s.name}"
            for s in kept
        )
    one, layers = layer_bytes(m, w, p), in_flight(m.layers, w, p)
    return [
        ("activations of a layer", f"{tokens:,.0f} tokens x ({each}) = {one:,.0f} bytes", KEPT),
        (
            "activations",
            f"{layers:,.4g} layers at once = {activation_bytes(m, w, p):,.0f} bytes, without the ends",
            "1F1B: arXiv 2205.05198, section 4.2.3" if p.pp > 1 else "all layers, the first to the last",
        ),
    ]
