"""Bundles the student version of the course into the wheel as `autograder/course`.

Hatchling runs this file while it builds a wheel; an editable install gets nothing, since the repository is
there. The solved sources, hidden tests, mutants and samples lie outside the two packages and never come in.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Names the folder of a tree that `release` has made already, with only what is released.
TREE = "MLSYS_LAB_RELEASED_TREE"


class CourseHook(BuildHookInterface):
    """Generates the tree in a temporary folder and has the wheel take it from there."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        ready = os.environ.get(TREE)
        if ready:
            tree = Path(ready)
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="mlsys-lab-course-")
            tree = Path(self._temporary.name)
            self._generate(tree)
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            inside = f"autograder/course/{path.relative_to(tree).as_posix()}"
            build_data["force_include"][str(path)] = inside

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        temporary = getattr(self, "_temporary", None)
        if temporary is not None:
            temporary.cleanup()

    def _generate(self, tree: Path) -> None:
        sys.path.insert(0, self.root)
        try:
            from autograder.assignment import find
            from autograder.workspace import course_files, put_files
        finally:
            sys.path.remove(self.root)
        put_files(course_files(find(Path(self.root))), tree)
