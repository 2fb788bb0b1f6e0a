"""Quantities as people write them, as SI base units inside: "80GB" is 8e10 bytes, "80GiB" is 8.59e10.

A unit is a prefix and a base unit, at most one "/" between two of them. After the SI brochure (9th edition)
and IEC 80000-13 for Ki, Mi, Gi. What is ambiguous ("80gb", "80G") is refused with the two readings it could
have.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from fractions import Fraction

DECIMAL = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Z": 10**21,
}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
SMALL = {"m": Fraction(1, 10**3), "u": Fraction(1, 10**6), "µ": Fraction(1, 10**6), "n": Fraction(1, 10**9)}
COUNTS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

#: Base unit: what it is in SI, its size there, the prefixes that it takes.
_UNITS: dict[str, tuple[str, Fraction, dict[str, Fraction]]] = {}


def _unit(
    spellings: str, si: str, size: Fraction | int, *prefixes: dict[str, int] | dict[str, Fraction]
) -> None:
    taken = {k: Fraction(v) for table in prefixes or ({"": 1},) for k, v in table.items()}
    for spelling in spellings.split():
        _UNITS[spelling] = (si, Fraction(size), taken)


_unit("B byte bytes", "B", 1, DECIMAL, BINARY)
_unit("bit bits", "B", Fraction(1, 8), DECIMAL, BINARY)
_unit("FLOP FLOPs flop flops", "FLOP", 1, DECIMAL)
_unit("MAC MACs", "FLOP", 2, DECIMAL)
_unit("s sec second seconds", "s", 1, {"": 1}, SMALL)
_unit("min minute minutes", "s", 60)
_unit("h hr hour hours", "s", 3600)
_unit("d day days", "s", 86400)
_unit("month months", "s", 30 * 86400)
_unit("year years", "s", 365 * 86400)
_unit("W watt watts", "W", 1, DECIMAL, SMALL)
_unit("J joule joules", "J", 1, DECIMAL, SMALL)
_unit("Wh", "J", 3600, DECIMAL)
_unit("USD $", "USD", 1)
_unit("token tokens", "token", 1, COUNTS)
_unit("request requests", "request", 1, COUNTS)
_unit("param params parameters", "param", 1, COUNTS)

_NUMBER = re.compile(r"\s*\$?\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(.*?)\s*")


@dataclass(frozen=True, order=True)
class Quantity:
    """A number of SI base units.

    Attributes:
        value: in `unit`.
        unit: "B", "FLOP", "s", "W", "J", "USD", "token", "request", "param", "" or two of them with "/".
    """

    value: float
    unit: str

    def __str__(self) -> str:
        return show(self.value, self.unit)


def _atom(text: str, whole: str) -> tuple[str, Fraction]:
    """One unit with its prefix: its SI unit and its size."""
    if text in _UNITS:
        si, size, _ = _UNITS[text]
        return si, size
    for spelling, (si, size, prefixes) in _UNITS.items():
        head = text[: len(text) - len(spelling)]
        if text.endswith(spelling) and head.strip() in prefixes:
            return si, size * prefixes[head.strip()]
    if re.fullmatch(r"[kKMGTPE]i?b", text) or re.fullmatch(r"[kmgtp]i?b", text):
        prefix = text[0].upper() if text[0] != "k" else "k"
        middle = "i" if "i" in text else ""
        raise ValueError(f"{whole!r}: write {prefix}{middle}B for bytes or {prefix}{middle}bit for bits")
    if re.fullmatch(r"[kKMGTPE]i?", text):
        raise ValueError(f"{whole!r}: the unit is missing, for example {text.rstrip('i')}B or {text[0]}iB")
    written = [p + u for u, (_, _, prefixes) in _UNITS.items() for p in prefixes]
    near = difflib.get_close_matches(text, written, n=3, cutoff=0.5) or ["GB", "GiB", "TFLOP/s"]
    raise ValueError(f"{whole!r}: unknown unit {text!r}; did you mean {', '.join(near)}?")


def _unit_of(text: str, whole: str) -> tuple[str, Fraction]:
    text = re.sub(r"^([kMGTPEZ]?)(?:FLOPS|flops/s|FLOPs/s)$", r"\1FLOP/s", text)
    above, slash, below = text.replace(" per ", "/").partition("/")
    if "/" in below:
        raise ValueError(f"{whole!r}: at most one '/' in a unit")
    si, size = _atom(above.strip(), whole)
    if not slash:
        return si, size
    si_below, size_below = _atom(below.strip(), whole)
    return f"{si}/{si_below}", size / size_below


def parse(text: str, unit: str | None = None) -> Quantity:
    """A quantity from its text.

    Args:
        text: a number and a unit, "1.5 TFLOP/s"; with `unit` "" or a countable one, also "7B" (7e9).
        unit: the SI unit that it has to have, None for any.

    Returns:
        The quantity in SI base units.

    Raises:
        ValueError: one line that names what to write instead.

    >>> parse("80GB"), parse("80 GiB")
    (Quantity(value=80000000000.0, unit='B'), Quantity(value=85899345920.0, unit='B'))
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        example = {"B": "80GB", "s": "200ms", "FLOP/s": "312 TFLOP/s", "USD/s": "2 USD/h"}.get(
            unit or "", "80GB"
        )
        raise ValueError(f"{text!r} is not a quantity: write a number and a unit, for example {example}")
    number = Fraction(found[1].replace("_", "").replace(",", ""))
    name = found[2]
    if "$" in text.partition(found[1])[0]:
        name = f"USD{name}"
    if unit in ("", "token", "param", "request") and name in COUNTS:
        return Quantity(float(number * COUNTS[name]), unit)
    if not name:
        if unit in (None, ""):
            return Quantity(float(number), "")
        raise ValueError(f"{text!r}: the unit is missing, write for example {show(float(number), unit)!r}")
    si, size = _unit_of(name, text)
    if unit is not None and si != unit:
        raise ValueError(
            f"{text!r} is in {si}, expected {unit or 'a plain number'}: write for example {_like(unit)}"
        )
    try:
        return Quantity(float(number * size), si)
    except OverflowError:
        raise ValueError(f"{text!r} is too large for a number") from None


def _like(unit: str) -> str:
    examples = {"B": "80GB or 80GiB", "s": "200ms", "FLOP/s": "312 TFLOP/s", "B/s": "900 GB/s", "W": "700 W"}
    return examples.get(unit, f"1 {unit}".strip())


def amount(text: str | float, unit: str) -> float:
    """The value of a positive quantity in `unit`; a number is taken as it is.

    Raises:
        ValueError: not a quantity of this unit, or not above zero.
    """
    value = parse(text, unit).value if isinstance(text, str) else float(text)
    if not value > 0 or not math.isfinite(value):
        raise ValueError(
            f"expected more than zero {unit or 'of it'}, got {text}: write for example {_like(unit)}"
        )
    return value


_STEPS = (
    (10**21, "Z"),
    (10**18, "E"),
    (10**15, "P"),
    (10**12, "T"),
    (10**9, "G"),
    (10**6, "M"),
    (10**3, "k"),
    (1, ""),
)
_COUNTED = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"), (1, ""))
_TIMES = (
    (365 * 86400, "years"),
    (86400, "days"),
    (3600, "h"),
    (60, "min"),
    (1, "s"),
    (1e-3, "ms"),
    (1e-6, "us"),
)


def show(value: float, unit: str, *, binary: bool = False, digits: int = 4) -> str:
    """A quantity as a person would write it, with `digits` significant digits.

    Args:
        value: in SI base units.
        unit: as `Quantity.unit`.
        binary: powers of 1024 for bytes (GiB), else of 1000 (GB).
        digits: significant digits.

    >>> show(8e10, "B"), show(80 * 2**30, "B", binary=True), show(90, "s")
    ('80 GB', '80 GiB', '1.5 min')
    """
    size = abs(value)
    if unit == "s":
        scale, name = next(((f, n) for f, n in _TIMES if size >= f), (1e-9, "ns")) if size else (1, "s")
        return f"{value / scale:.{digits}g} {name}"
    if unit == "USD":
        return f"{value:,.0f} USD" if size >= 100 else f"{value:,.2f} USD"
    if unit == "USD/s":
        return f"{value * 3600:.{digits}g} USD/h"
    if binary and unit.startswith("B"):
        factor, prefix = next(((f, p) for p, f in reversed(BINARY.items()) if size >= f), (1, ""))
    else:
        steps = _COUNTED if unit in ("", "token", "param", "request") else _STEPS
        factor, prefix = next(((f, p) for f, p in steps if size >= f), (1, ""))
    if unit in ("token", "param", "request"):
        return f"{value / factor:.{digits}g}{prefix} {unit}s"
    return f"{value / factor:.{digits}g} {prefix}{unit}".rstrip()
