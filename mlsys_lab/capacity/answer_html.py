"""An answer in a notebook: a table of its numbers, bars for a table of parts, the derivation to unfold.

Every bar stands beside the number and the share that it draws, so nothing is lost without it. One fragment
with its styles in it: no script, no file, no address.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from mlsys_lab._core.style import PALETTE
from mlsys_lab.capacity.answers import key_of, told

if TYPE_CHECKING:
    from mlsys_lab.capacity.answers import Answer

_CELL = ' style="text-align:left;padding:2px 12px 2px 0"'


def as_html(answer: Answer) -> str:
    """The fragment; all text in it is escaped."""
    single = {key: value for key, value in answer.values.items() if not isinstance(value, dict)}
    found = [_table("", [(key, told(key, value), "") for key, value in single.items()])] if single else []
    for key, value in answer.values.items():
        if isinstance(value, dict):
            found.append(_parts(key, value))
    if answer.steps:
        steps = "".join(f"<dt>{escape(what)}</dt><dd>{escape(how)}<br/><small>{escape(source)}</small></dd>"
                        for what, how, source in answer.steps)  # fmt: skip
        found.append(f"<details><summary>Derivation</summary><dl>{steps}</dl></details>")
    return f"<div>{''.join(found)}</div>"


def _parts(key: str, parts: dict[str, Any]) -> str:
    """A table with the share of each row of the whole, as text and as a bar."""
    whole = sum(parts.values())
    rows = []
    for name, size in parts.items():
        share = size / whole if whole else 0.0
        bar = (
            f'<span style="display:inline-block;height:0.8em;width:{max(share, 0.0) * 12:.2f}em;'
            f'background:{PALETTE["memory"]}" aria-hidden="true"></span>'
        )
        rows.append((name, told(key_of(key), size), f"<td{_CELL}>{share:.1%}</td><td{_CELL}>{bar}</td>"))
    return _table(f"{key}: {told(key_of(key), whole)} in all", rows)


def _table(caption: str, rows: list[tuple[str, str, str]]) -> str:
    """Rows of a name, its number, and further cells that are HTML already."""
    top = f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    body = "".join(
        f'<tr><th scope="row"{_CELL}>{escape(name)}</th><td{_CELL}>{escape(number)}</td>{more}</tr>'
        for name, number, more in rows
    )
    return f"<table>{top}<tbody>{body}</tbody></table>"
