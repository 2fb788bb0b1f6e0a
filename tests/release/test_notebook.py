"""Submissions are read from any bytes: what is wrong becomes one line, what is right comes out in cells."""

from __future__ import annotations

import json
from pathlib import Path

import jupytext
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.assignment import UsageError
from autograder.notebook import NotebookError, cells, code_cells, header, sanitised

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("labs/[0-9]*.py"), *ROOT.glob("assignments/hw*/hw*.py")])


def notebook(*sources: object, **more: object) -> bytes:
    listed = [{"cell_type": "code", "source": s, "metadata": {}, "outputs": []} for s in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": listed} | more).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe1", "not UTF-8"),
        (b"{", "not valid JSON"),
        (b"[1]", "no nbformat"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"nbformat": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (notebook(nbformat=99), "nbformat 99, not 4"),
        (notebook(nbformat=3), "nbformat 3, not 4"),
        (notebook(nbformat="4"), "nbformat unknown, not 4"),
        (notebook(nbformat=True), "nbformat unknown, not 4"),
        (notebook(cells={}), "no list of cells"),
        (notebook(cells=[7]), "cell 1 of the notebook is not a cell"),
        (notebook("x = 1", 5), "cell 2 of the notebook is not a cell"),
    ],
)
def test_what_is_no_notebook_is_said_in_one_line(data, says):
    with pytest.raises(NotebookError, match=says) as caught:
        code_cells(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.one_of(st.binary(max_size=200), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_cells_or_one_line(data):
    raw = data if isinstance(data, bytes) else json.dumps({"nbformat": 4, "cells": data}).encode()
    for suffix in (".ipynb", ".py"):
        try:
            found = code_cells(raw, suffix)
        except NotebookError as error:
            found = [str(error)]
            one_line = "\n" not in found[0]
        else:
            one_line = True
        assert one_line
        assert all(isinstance(text, str) for text in found)


def test_line_ends_byte_marks_and_lone_surrogates_do_not_matter():
    data = b"\xef\xbb\xbf" + notebook(["a = 1\r\n", "b = 2"], "c = '\ud800'")
    first, second = code_cells(data)
    assert first == "a = 1\nb = 2"
    assert second.encode("utf-8") == b"c = '?'"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_percent_cells_are_those_that_jupytext_reads(source):
    mine = cells(source.read_bytes(), ".py")
    theirs = [(c.cell_type, c.source.strip("\n")) for c in jupytext.read(source, fmt="py:percent").cells]
    assert mine == theirs


def test_a_plain_python_file_is_one_cell_and_magics_are_no_markers():
    assert code_cells(b"x = 1\n# %%time\ny = 2\n", ".py") == ["x = 1\n# %%time\ny = 2"]


def test_sanitising_keeps_sources_and_drops_all_that_steers_nbval():
    cell = {
        "cell_type": "code",
        "source": "x = 1",
        "metadata": {"tags": ["skip-execution", "raises-exception", "nbval-skip"]},
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "12/12"}],
        "execution_count": 3,
    }
    prose = {"cell_type": "markdown", "source": ["# T\n", "x"], "metadata": {}, "attachments": {"a": {}}}
    clean = nbformat.reads(sanitised(notebook(cells=[cell, prose], metadata={"x": 1})).decode(), as_version=4)
    nbformat.validate(clean)
    assert [(c.cell_type, c.source, dict(c.metadata)) for c in clean.cells] == [
        ("code", "x = 1", {}),
        ("markdown", "# T\nx", {}),
    ]
    assert clean.cells[0].outputs == []
    assert clean.cells[0].execution_count is None
    assert "attachments" not in clean.cells[1]
    assert set(clean.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("#     week: 1\n", ""), "no `week`"),
        (("week: 1", "week: soon"), "`week` in the header is 'soon', not int"),
        (("points: 10", "points: true"), "`points` in the header is True"),
        (("#   mlsys_lab:", "#   other:"), "no `title`"),
        (("#   mlsys_lab:", "#   mlsys_lab: ["), "the YAML header cannot be read: .* line"),
        (("#   mlsys_lab:", "#   - mlsys_lab:"), "the YAML header cannot be read"),
        (("# ---\n# jupyter:", "# jupyter:"), "there is no YAML header"),
    ],
)
def test_a_header_without_a_fact_is_refused(change, says, tmp_path):
    source = tmp_path / "00_trust.py"
    text = (ROOT / "labs" / "00_trust.py").read_text()
    assert change[0] in text
    source.write_text(text.replace(*change))
    with pytest.raises(UsageError, match=says):
        header(source)
