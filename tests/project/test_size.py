"""The engine stays small enough to be read: lines of code, without blank lines, comments and docstrings."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "mlsys_lab"
IGNORED = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """Lines that hold code, docstrings not counted."""
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [n for n in ast.walk(ast.parse(text)) if isinstance(n, scopes) and ast.get_docstring(n)]
    prose = {i for n in documented for i in range(n.body[0].lineno, (n.body[0].end_lineno or 0) + 1)}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in IGNORED]
    return len({i for t in tokens for i in range(t.start[0], t.end[0] + 1)} - prose)


def test_a_docstring_a_comment_and_a_blank_line_are_no_code():
    assert (
        code_lines('"""One.\n\nTwo."""\n\n# three\ndef f(x):\n    """Four."""\n    return (\n        x)\n')
        == 3
    )


def test_the_engine_networks_optimisers_and_compiler_are_at_most_4500_lines_of_python():
    packages = ("autograd", "nn", "optim", "compile")
    lines = {p: sum(code_lines(f.read_text("utf-8")) for f in (LIBRARY / p).rglob("*.py")) for p in packages}
    assert sum(lines.values()) <= 4_500, lines


def test_the_c_is_at_most_800_lines():
    assert sum(len(f.read_text("utf-8").splitlines()) for f in LIBRARY.rglob("*.c")) <= 800


def test_what_a_learner_of_lab_04_reads_is_at_most_800_lines():
    read = ("tensor.py", "tape.py", "primitive.py", "primitives.py", "rows.py", "operators.py")
    lines = {name: code_lines((LIBRARY / "autograd" / name).read_text("utf-8")) for name in read}
    assert sum(lines.values()) <= 800, lines


def test_the_ptx_machine_and_its_report_are_at_most_2500_lines_and_no_file_is_over_350():
    kernels = LIBRARY / "kernels"
    files = [*(kernels / "ptx").glob("*.py"), kernels / "report.py"]
    lines = {file.name: code_lines(file.read_text("utf-8")) for file in files}
    assert sum(lines.values()) <= 2_500, lines
    long = {f.name: n for f in kernels.rglob("*.py") if (n := len(f.read_text("utf-8").splitlines())) > 350}
    assert long == {}
