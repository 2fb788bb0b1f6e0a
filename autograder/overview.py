"""labs/README.md, generated from the labs' headers: `python -m autograder.overview labs`.

Which labs there are, what each builds on, how long it takes and what it needs; one path each for training,
inference and operations; then the words and signs that all of them share.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autograder.notebook import header

#: What a lab's header may name under `paths`: the ways through the course of which it is a step.
PATHS = ("training", "inference", "operations")

TEXT = Path(__file__).parent / "templates" / "labs_overview.md"


def overview(sources: Sequence[Path]) -> str:
    """The text of labs/README.md for these labs, in their order.

    Args:
        sources: the labs' .py files, solved or not; only their headers are read.
    """
    facts = {source.stem.split("_")[0]: (source, header(source)) for source in sources}
    rows = [
        f"| {number} | [{f['title']}]({source.stem}.ipynb) | {f['week']} | {_labs(f['prerequisites'])} "
        f"| {f['minutes']} | {f['points']:g} | {', '.join(f['needs']) or 'nothing further'} |"
        for number, (source, f) in facts.items()
    ]
    template = TEXT.read_text(encoding="utf-8")
    return template.replace("{rows}", "\n".join(rows)).replace("{paths}", _paths(facts))


def _paths(facts: Mapping[str, tuple[Path, Mapping[str, Any]]]) -> str:
    """The ways through the labs: as one where all of them are the same steps."""
    ways = {
        path: ", then ".join(
            f"[{n} {f['title']}]({s.stem}.ipynb)" for n, (s, f) in facts.items() if path in f.get("paths", ())
        )
        for path in PATHS
    }
    if len(set(ways.values())) == 1 and ways[PATHS[0]]:
        return f"So far one way serves everybody ({', '.join(PATHS)}): {ways[PATHS[0]]}."
    steps = [f"- **{path.capitalize()}**: {way}." for path, way in ways.items() if way]
    return "Nobody has to do all of it. Each way through is complete in itself:\n\n" + "\n".join(steps)


def write(folder: Path) -> Path:
    """Write labs/README.md anew."""
    target = folder / "README.md"
    target.write_text(overview(sorted(folder.glob("[0-9][0-9]*_*.py"))), encoding="utf-8")
    return target


def _labs(numbers: Sequence[str]) -> str:
    return ", ".join(str(n) for n in numbers) or "-"


if __name__ == "__main__":
    print(write(Path(sys.argv[1] if len(sys.argv) > 1 else "labs")))
