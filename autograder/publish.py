"""Links from a released course to where it opens without installing: Colab, Codespaces.

All of them follow from one address, `url` in pyproject.toml's `[tool.mlsys-lab]`. In a notebook they are
text: a badge's picture would be fetched from a stranger's host whenever the notebook is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from autograder.assignment import UsageError
from autograder.notebook_tools import nbformat
from autograder.pair import write_notebook, write_percent

#: What the setup cell does where no wheel lies near it.
_NO_WHEEL = (
    '        raise FileNotFoundError("copy the course\'s folder wheels/ beside this notebook") from None'
)

LINKS_ID = "open-in"


def repository(url: str) -> str:
    """OWNER/NAME of a published course.

    Raises:
        UsageError: it is no GitHub address, the one kind that Colab and Codespaces open.
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w-][\w.-]*?)(?:\.git)?/?", url, re.ASCII)
    if found is None:
        raise UsageError(
            f"pyproject.toml: [tool.mlsys-lab] url is {url!r}: write https://github.com/OWNER/NAME"
        )
    return found[1]


def colab(url: str, path: str) -> str:
    """The address at which Colab opens a notebook of the published course, from its branch main."""
    return f"https://colab.research.google.com/github/{repository(url)}/blob/main/{path}"


def codespaces(url: str) -> str:
    """The address at which Codespaces opens the published course."""
    return f"https://codespaces.new/{repository(url)}"


def colab_badge(url: str, path: str) -> str:
    """Colab's badge for a notebook, in Markdown."""
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({colab(url, path)})"


def codespaces_badge(url: str) -> str:
    """Codespaces' badge, in Markdown, as a paragraph of its own."""
    return f"\n\n[![Open in Codespaces](https://github.com/codespaces/badge.svg)]({codespaces(url)})"


def linked(course: Mapping[str, bytes], url: str, wheel: str) -> dict[str, bytes]:
    """A course whose notebooks say where they open, and whose setup cells find the wheel from there.

    Args:
        course: the released files by path; they are not changed.
        url: where the course is published.
        wheel: the name of the library's wheel in `wheels/`.
    """
    files = dict(course)
    fetch = f'        near = ["https://github.com/{repository(url)}/raw/main/wheels/{wheel}"]'
    for path in course:
        if not path.endswith(".ipynb"):
            continue
        notebook = nbformat.reads(course[path].decode(), as_version=4)
        said = f"[Open in Colab]({colab(url, path)}) | [Open in Codespaces]({codespaces(url)})"
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(said, id=LINKS_ID))
        for cell in notebook.cells:
            if "setup" in cell.metadata.get("tags", []):
                cell.source = cell.source.replace(_NO_WHEEL, fetch)
        files[path] = write_notebook(notebook).encode()
        files[path.removesuffix(".ipynb") + ".py"] = write_percent(notebook).encode()
    return files
