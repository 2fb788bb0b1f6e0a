"""What every command of `mlsys-lab estimate` shares: its options, how an answer is said."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mlsys_lab.capacity.answers import Answer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Explain = Annotated[bool, typer.Option("--explain", help="Print the derivation too.")]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="CONDITION",
        help="Exit 1 where it holds (of an interval, its middle): 'peak_bytes > 80GB'.",
    ),
]


class TooMuch(Exception):
    """A plan that does not fit."""


def say(found: Answer, as_json: bool, explain: bool, fail_if: list[str] | None) -> None:
    """Print an answer.

    Raises:
        TooMuch: a condition of `fail_if` holds.
        ValueError: one is not understood; then nothing is printed.
    """
    failed = [condition for condition in fail_if or [] if found.fails(condition)]
    if as_json:
        more = {"derivation": found.derivation()} if explain else {}
        print(json.dumps(found.to_json() | more, indent=1))
    else:
        print("\n".join([*found.lines(), *(["", *found.derivation()] if explain else [])]))
    if failed:
        raise TooMuch(f"--fail-if {failed[0]!r} holds")
