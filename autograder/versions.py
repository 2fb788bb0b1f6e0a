"""Which release of the course a tree, a notebook and a hand-in are of.

An instructor says it once, in pyproject.toml under `[tool.mlsys-lab]`; a release carries it in a file VERSION
and in each notebook's metadata. It tells terms and mended releases apart; the package's own version does not.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError
from autograder.notebook import NotebookError
from autograder.tree import RECORD

FILE = "VERSION"

_RELEASE = re.compile(r"\d+(\.\d+)*", re.ASCII)
#: What a stranger's stamp may be to be repeated in a message.
_STAMP = re.compile(r"[\w.+-]{1,40}", re.ASCII)


def configured(root: Path) -> dict[str, str]:
    """An instructor's `[tool.mlsys-lab]`: `release`, and `url`, where the students' repository is published.

    Raises:
        UsageError: the file is no TOML, or one of them is no text, or the release no number as 2026.1.
    """
    path = root / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("mlsys-lab", {})
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    for name, value in table.items():
        if not isinstance(value, str):
            raise UsageError(f"{path}: [tool.mlsys-lab] {name} is {value!r}: write it as text, in quotes")
    release = table.get("release", "")
    if release and not _RELEASE.fullmatch(release):
        raise UsageError(f"{path}: [tool.mlsys-lab] release is {release!r}: write numbers, as in '2026.1'")
    return dict(table)


def release_of(root: Path) -> str:
    """The release of a tree, instructor's or students'; empty where it says none.

    A file VERSION counts only where the tree is one of ours: others use that name too.
    """
    path = root / FILE
    if path.is_file() and ((root / RECORD).is_file() or root == Path(__file__).resolve().parent / "course"):
        said = path.read_text(encoding="utf-8", errors="replace").strip()
        return said if _RELEASE.fullmatch(said) else ""
    return configured(root).get("release", "")


def order(release: str) -> tuple[int, ...]:
    """By which releases are older and newer: as text 2026.9 would come after 2026.10."""
    return tuple(int(n) for n in re.findall(r"\d+", release))


def stamped(data: bytes, kind: str = ".ipynb") -> str:
    """The release that a notebook or py:percent text says it was made from; empty where it says none.

    Never raises, whatever the bytes are.
    """
    try:
        text = data.decode("utf-8-sig")
        said = _in_header(text) if kind == ".py" else json.loads(text)["metadata"]["mlsys_lab"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return said if isinstance(said, str) and _STAMP.fullmatch(said) else ""


def refuse_another(data: bytes, kind: str, release: str, accepts: Sequence[str]) -> None:
    """Refuse a hand-in that says it was made from another release than the tests that would judge it.

    Editors and converters may lose the stamp: a hand-in without one is graded.

    Raises:
        NotebookError: names both releases.
    """
    made_from = stamped(data, kind)
    if made_from and release and made_from != release and made_from not in accepts:
        older = order(made_from) < order(release)
        fix = "bring it over with `mlsys-lab update`" if older else "grade it with that one"
        raise NotebookError(
            f"made from release {made_from} of the course, and this grades release {release}: {fix}, or have "
            f'assignment.toml say accepts = ["{made_from}"]'
        )


def _in_header(text: str) -> Any:
    """`version` under `mlsys_lab` in the YAML header, read line by line: a stranger's YAML is not loaded."""
    lines = text.split("\n")
    if lines[0].rstrip() != "# ---":
        return ""
    depth = -1
    for line in lines[1:200]:
        bare = line.removeprefix("#")
        if bare.strip() == "---":
            break
        indent = len(bare) - len(bare.lstrip())
        if depth < 0:
            depth = indent if bare.strip() == "mlsys_lab:" else -1
        elif indent <= depth:
            break
        elif found := re.fullmatch(r"version:\s*['\"]?([^'\"]*?)['\"]?", bare.strip()):
            return found[1]
    return ""
