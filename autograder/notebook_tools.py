"""jupytext, nbformat, nbclient and nbval, imported in a tenth of the time.

nbformat imports jsonschema, and that builds a grammar of internationalised addresses wherever the package
rfc3987_syntax is installed, as it is beside JupyterLab: one to six CPU-seconds in each process that touches a
notebook, for a format that no notebook's schema has. Here jsonschema does not find that package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SLOW = "rfc3987_syntax"


@contextmanager
def without_the_grammar() -> Iterator[None]:
    """While this is open, an import of rfc3987_syntax fails, unless it is there already."""
    mine = _SLOW not in sys.modules
    modules: dict[str, Any] = sys.modules
    if mine:
        modules[_SLOW] = None
    try:
        yield
    finally:
        if mine:
            del modules[_SLOW]


with without_the_grammar():
    import jupytext
    import nbformat
    from nbformat import NotebookNode

__all__ = ["NotebookNode", "jupytext", "nbformat", "without_the_grammar"]
