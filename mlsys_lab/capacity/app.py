"""`mlsys-lab estimate`: a command per question."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlsys_lab._core.hardware import Device, device
from mlsys_lab._core.quantity import amount, parse
from mlsys_lab.capacity import answers
from mlsys_lab.capacity.inference import WEIGHT_BYTES
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.options import AsJson, Explain, FailIf, TooMuch
from mlsys_lab.capacity.options import say as _say
from mlsys_lab.capacity.parallel import DTYPE_BYTES, Parallel, Workload
from mlsys_lab.capacity.plan_command import plan
from mlsys_lab.capacity.plan_file import Plan
from mlsys_lab.capacity.plans import trains
from mlsys_lab.capacity.roofline_command import roofline
from mlsys_lab.capacity.serving_plan import Load, NoPlan, fewest_gpus
from mlsys_lab.capacity.zoo import language_model, model

app = typer.Typer(
    name="mlsys-lab estimate",
    help="How much, how long, how many: exact where that is possible, an interval where not.\n\n"
    "Example: mlsys-lab estimate memory llama-2-7b --gpu A100 --context 4096 --dp 8 --zero 1",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
SHORT = {"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "fp32": "float32", "f32": "float32"}
BYTES = DTYPE_BYTES | {"float8": 1, "fp8": 1, "int8": 1, "int4": 0.5}

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A name (llama-2-7b) or a config.json.")]
Context = Annotated[int, typer.Option(help="Tokens of a sequence; 0: the model's, at most 2048.")]
Zero = Annotated[int, typer.Option(help="0, 1, 2 or 3.")]
Recompute = Annotated[str, typer.Option(help="none, selective or full.")]
Optimizer = Annotated[str, typer.Option(help="adamw, sgd, momentum, lion, adamw8bit.")]
Count = Annotated[int, typer.Option(help="A whole number of at least 1.")]


@app.command()
def params(name: Model, as_json: AsJson = False, explain: Explain = False, fail_if: FailIf = None) -> None:
    """Parameters, by part.

    Example: mlsys-lab estimate params mixtral-8x7b
    """
    _say(answers.parameters(_model(name)), as_json, explain, fail_if)


@app.command()
def kv(
    name: Model,
    context: Context = 0,
    batch: Count = 1,
    dtype: Annotated[str, typer.Option(help="bf16, fp16, fp32, fp8, int8, int4.")] = "bf16",
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """The cache of keys and values.

    Example: mlsys-lab estimate kv llama-3-8b --context 8192 --batch 16
    """
    _positive(batch=batch)
    full = SHORT.get(dtype, dtype)
    if full not in BYTES:
        raise ValueError(f"--dtype {dtype!r}: choose one of {', '.join([*SHORT, *BYTES])}")
    m = language_model(name)
    found = answers.kv_cache(m, _context(m, context), batch, BYTES[full], full)
    _say(found, as_json, explain, fail_if)


@app.command()
def flops(
    name: Model,
    batch: Count = 1,
    context: Context = 0,
    train: Annotated[bool, typer.Option("--train", help="Forward and backward.")] = False,
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """FLOPs of a forward pass or of a training step.

    Example: mlsys-lab estimate flops gpt2 --batch 8 --context 1024 --train
    """
    _positive(batch=batch)
    m = _model(name)
    _say(answers.flops(m, batch, _context(m, context), train), as_json, explain, fail_if)


@app.command()
def memory(
    name: Model,
    gpu: Annotated[str, typer.Option(help="Compare with what this one has: A100, H100, ...")] = "",
    micro_batch: Count = 1,
    context: Context = 0,
    tp: Count = 1,
    pp: Count = 1,
    dp: Count = 1,
    zero: Zero = 0,
    recompute: Recompute = "none",
    optimizer: Optimizer = "adamw",
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """What one GPU holds at the worst moment of a training step. Exit 1 where it does not fit.

    Example: mlsys-lab estimate memory llama-2-7b --gpu A100 --context 4096 --dp 8 --zero 1
    """
    m = language_model(name)
    w = Workload(context=_context(m, context), micro_batch=micro_batch, optimizer=optimizer)
    p = Parallel(dp=dp, zero=zero, tp=tp, pp=pp, recompute=recompute)
    _positive(micro_batch=micro_batch)
    found = answers.memory(m, w, p)
    if gpu:
        device(gpu)  # unknown, it is refused before anything is printed
    _say(found, as_json, explain, fail_if)
    if gpu:
        _fits(found, m, w, p, device(gpu))


@app.command()
def train(
    name: Model,
    gpu: Annotated[str, typer.Option(help="A100, H100, ...")],
    tokens: Annotated[str, typer.Option(help="Of the whole run: 300B, 1.4T.")],
    gpus: Annotated[int, typer.Option(help="In all; what tp and pp leave is dp.")] = 1,
    batch: Annotated[
        int, typer.Option(help="Sequences of a step; 0: a micro-batch a replica, 4 per stage of a pipeline.")
    ] = 0,
    micro_batch: Count = 1,
    context: Context = 0,
    tp: Count = 1,
    pp: Count = 1,
    zero: Zero = 1,
    recompute: Recompute = "none",
    optimizer: Optimizer = "adamw",
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """Memory, time, GPU-hours, cost and energy of a training run. Exit 1 where it does not fit.

    time_s is of the layout's own steps; published_time_s is what published runs on such GPUs took.

    Example: mlsys-lab estimate train llama-2-7b --gpu A100 --gpus 256 --tokens 2T --context 4096
    """
    _positive(gpus=gpus, tp=tp, pp=pp, micro_batch=micro_batch, batch=batch or 1)
    if gpus % (tp * pp):
        raise ValueError(f"{gpus} GPUs are not divisible by tp {tp} x pp {pp}: use a multiple of {tp * pp}")
    m = language_model(name)
    p = Parallel(dp=gpus // (tp * pp), zero=zero, tp=tp, pp=pp, recompute=recompute)
    batch = batch or p.dp * micro_batch * (4 * pp if pp > 1 else 1)
    w = Workload(_context(m, context), micro_batch, batch, optimizer=optimizer)
    on, asked = device(gpu), parse(tokens, "token").value
    if asked < 1:
        raise ValueError(f"--tokens has to be at least 1, got {tokens}")
    found = trains(Plan(m.name, "train", m, (on,), tokens=asked), on, p, w)
    _say(found, as_json, explain, fail_if)
    _fits(found, m, w, p, on)


@app.command()
def serve(
    name: Model,
    gpu: Annotated[str, typer.Option(help="A100, H100, ...")],
    rate: Annotated[float, typer.Option(help="Requests per second, all together.")],
    prompt: Annotated[int, typer.Option(help="Tokens of a request.")],
    output: Annotated[int, typer.Option(help="Tokens of an answer.")],
    ttft: Annotated[str, typer.Option(help="Time to the first token, at most: 500ms.")],
    tpot: Annotated[str, typer.Option(help="Time per further token, at most: 50ms.")],
    dtype: Annotated[str, typer.Option(help="Of the weights: bf16, fp16, fp32, fp8, int8, int4.")] = "bf16",
    tp: Annotated[int, typer.Option(help="GPUs of a replica; 0: what takes the fewest in all.")] = 0,
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """GPUs for a load that keep the promised latencies. Exit 1 where no number of them does.

    Example: mlsys-lab estimate serve llama-2-70b --gpu H100 --rate 5 --prompt 512 --output 256 --ttft 500ms
    --tpot 50ms
    """
    _positive(prompt=prompt, output=output)
    if tp < 0:
        raise ValueError(f"--tp has to be at least 1, or 0 to search, got {tp}")
    if not 0 < rate < float("inf"):
        raise ValueError(f"--rate has to be above 0 requests per second, got {rate:g}")
    full = {"fp8": "float8", **SHORT}.get(dtype, dtype)
    if full not in WEIGHT_BYTES:
        raise ValueError(f"--dtype {dtype!r}: choose one of bf16, fp16, fp32, fp8, int8, int4")
    load = Load(rate, prompt, output, _seconds("ttft", ttft), _seconds("tpot", tpot))
    m = language_model(name)
    _warn_beyond(m, prompt + output)
    try:
        plan = fewest_gpus(m, device(gpu), load, full, tp)
    except NoPlan as error:
        raise TooMuch(str(error)) from None
    _say(answers.serving(plan), as_json, explain, fail_if)


@app.command()
def network(
    size: Annotated[str, typer.Option(help="Of a rank's buffer, whole: 1GB, 256MiB.")],
    ranks: Annotated[int, typer.Option(help="That take part; beyond 8 over the network.")],
    gpu: Annotated[str, typer.Option(help="A100, H100, ...")],
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """What each rank sends in a collective, and how long it takes.

    Example: mlsys-lab estimate network --size 1GB --ranks 8 --gpu A100
    """
    _positive(ranks=ranks)
    found = answers.network(_amount("size", size, "B"), ranks, device(gpu))
    _say(found, as_json, explain, fail_if)


@app.command()
def edge(
    accuracy: Annotated[str, typer.Option(help="At least: 70% or 0.7.")] = "",
    latency: Annotated[str, typer.Option(help="Of one image, at most: 20ms.")] = "",
    power: Annotated[str, typer.Option(help="At most: 5W.")] = "",
    memory: Annotated[str, typer.Option(help="Of the weights, at most: 8MB.")] = "",
    cost: Annotated[str, typer.Option(help="Of the device, at most: 60USD.")] = "",
    device: Annotated[str, typer.Option(help="Only on this one: edge tpu, jetson nano, T4, ...")] = "",
    candidates: Annotated[
        str, typer.Option(metavar="FILE.csv", help="Your own: name,accuracy,latency,power,cost[,memory].")
    ] = "",
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """A network and a small device within limits, or which limit is to blame. Exit 1 where none meets all.

    Example: mlsys-lab estimate edge --accuracy 70% --latency 20ms --power 5W
    """
    from mlsys_lab.capacity import edge as small
    from mlsys_lab.capacity import edge_answer

    given = {"accuracy": accuracy, "latency": latency, "power": power, "memory": memory, "cost": cost}
    limits = {edge_answer.COLUMNS[k][0]: edge_answer.read_limit(k, text) for k, text in given.items() if text}
    if device and candidates:
        raise ValueError(
            "--device chooses among the candidates that are built in: leave it or --candidates out"
        )
    if candidates:
        those = edge_answer.read_candidates(Path(candidates))
    else:
        those = small.candidates([small.edge_device(device)] if device else None)
    found = edge_answer.edge(those, limits)
    _say(found, as_json, explain, fail_if)
    if found.refused:
        raise TooMuch(found.refused)


app.command()(plan)
app.command()(roofline)


def _fits(found: answers.Answer, m: ModelSpec, w: Workload, p: Parallel, on: Device) -> None:
    """Raises TooMuch, with what would help, where a GPU has less than is needed."""
    over = found.values["peak_bytes"] - on.memory_bytes
    if over > 0:
        helps = answers.remedies(m, w, p, on.memory_bytes)
        raise TooMuch(f"it does not fit: {answers.told('bytes', over)} more than {on.name} has. {helps}")


def _model(name: str) -> Any:
    return model(Path(name)) if name.endswith(".json") else model(name)


def _context(m: Any, asked: int) -> int:
    if asked < 0:
        raise ValueError(f"--context has to be at least 1, got {asked}")
    _warn_beyond(m, asked)
    return asked or min(getattr(m, "context", 0) or 2048, 2048)


def _warn_beyond(m: Any, tokens: int) -> None:
    """One line where a model is asked for more tokens than it was made for; learned positions are refused."""
    known = getattr(m, "context", 0)
    if 0 < known < tokens and not getattr(m, "positions", 0):
        print(f"note: {tokens:,} tokens are beyond the {known:,} that {m.name} was made for", file=sys.stderr)


def _positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"--{name.replace('_', '-')} has to be at least 1, got {number}")


def _seconds(name: str, text: str) -> float:
    try:  # a bare number may be meant in seconds or in milliseconds
        bare = float(text)
    except ValueError:
        return _amount(name, text, "s")
    raise ValueError(f"--{name} {text!r}: the unit is missing, write {bare:g}ms or {bare:g}s")


def _amount(name: str, text: str, unit: str) -> float:
    try:
        return amount(text, unit)
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from None
