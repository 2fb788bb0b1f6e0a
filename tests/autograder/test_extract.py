"""What of a notebook runs to grade a name: all that the name needs, and nothing else."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from autograder.extract import run_slice


def run(cells: list[str], *wanted: str) -> tuple[dict[str, Any], list[tuple[str, int | None, int | None]]]:
    namespace, errors = run_slice(cells, wanted)
    return namespace, [(e.kind, e.cell, e.line) for e in errors]


def test_a_name_brings_what_it_needs_from_any_cell_and_nothing_else() -> None:
    cells = [
        "import math\nscale = 2",
        "unused = 1 / 0",
        "def area(r):\n    return scale * math.pi * r",
        "area(1)",
    ]
    namespace, errors = run(cells, "area")
    assert round(namespace["area"](1), 2) == 6.28
    assert not errors
    assert "unused" not in namespace


def test_bare_calls_prints_and_plots_do_not_run() -> None:
    namespace, errors = run(["def f():\n    return 1", "raise_here()", "print(1 / 0)", "f() / 0"], "f")
    assert namespace["f"]() == 1
    assert not errors


def test_the_last_definition_wins() -> None:
    namespace, _ = run(["def f():\n    return 1", "def f():\n    return 2"], "f")
    assert namespace["f"]() == 2


def test_a_helper_defined_after_its_user_is_found() -> None:
    namespace, _ = run(["def f():\n    return g()", "def g():\n    return h\nh = 3"], "f")
    assert namespace["f"]() == 3


@pytest.mark.parametrize(
    "change",
    [
        "table['a'] = 1", "for key in ['a']:\n    table[key] = 1", "for key in ['a']:\n    table.update(a=1)",
        "if True:\n    table = {'a': 1}", "table |= {'a': 1}", "try:\n    table['a'] = 1\nfinally:\n    pass",
        "with open('/dev/null') as file:\n    table['a'] = 1", "(table := {'a': 1})",
    ],
)  # fmt: skip
def test_a_statement_that_changes_a_needed_name_runs(change: str) -> None:
    namespace, errors = run(["table = {}\ndef f():\n    return table['a']", change], "f")
    assert not errors
    assert namespace["f"]() == 1


def test_a_method_patched_onto_a_needed_class_is_there() -> None:
    namespace, _ = run(
        ["class Net:\n    pass", "def forward(self):\n    return 7", "Net.forward = forward"], "Net"
    )
    assert namespace["Net"]().forward() == 7


@pytest.mark.parametrize(
    "change",
    [
        "table.update(a=1)", "table.setdefault('b', {}).update(a=1)", "change(table)", "change(item=table)",
        "setattr(f, 'a', 1)", "[table.update(a=1) for _ in range(2)]", "table['a']", "rng.nudge(table)",
        "change(table['b']), 0", "for _ in range(1):\n    change(table)", "f.cache.update(a=1)",
    ],
)  # fmt: skip
def test_a_bare_call_that_may_change_a_needed_name_runs(change: str) -> None:
    cells = [
        "from collections import defaultdict\ntable = defaultdict(dict)",
        "def change(item):\n    item['a'] = 1",
        "class Rng:\n    def nudge(self, item): change(item)\nrng = Rng()",
        "def f():\n    return table\nf.cache = {}",
        change,
    ]
    namespace, errors = run(cells, "f")
    f = namespace["f"]
    assert not errors
    assert "a" in f() or "a" in f()["b"] or f.cache or hasattr(f, "a")


@pytest.mark.parametrize("library", ["import numpy as np\nnp.put(TABLE, [0], [7])", "random.shuffle(TABLE)"])
def test_a_librarys_function_that_gets_a_needed_array_runs(library: str) -> None:
    cells = ["import random, numpy\nTABLE = numpy.arange(30)\ndef f():\n    return TABLE", library]
    assert run(cells, "f")[0]["f"]().tolist() != list(range(30))


@pytest.mark.parametrize(
    "bare",
    [
        "check('q1', f)", "check('q1', f, TABLE)", "print(TABLE, f(1))", "display(TABLE)", "measure(f)",
        "measure(f, Net)", "measure(g)", "print(f(3))", "f(3).sum()", "f(3)", "plt.plot(TABLE)", "plt.show()",
        "ax.plot(TABLE)", "np.nope(3)", "TABLE", "timed(lambda: f(TABLE))", "other.append(1 / 0)",
        "f.gone() if unknown else 0", "get_ipython().run_line_magic('timeit', 'f(TABLE)')",
    ],
)  # fmt: skip
def test_a_bare_call_that_only_looks_at_needed_names_does_not_run(bare: str) -> None:
    cells = [
        "import numpy as np\nimport missing_library.pyplot as plt\nTABLE = [1]\nother = []",
        "fig, ax = plt.subplots()",
        "class Net: pass\ng = lambda: np.float64(len(TABLE))\ndef f(x):\n    return TABLE, Net, g",
        "def measure(*functions):\n    1 / 0",
    ]
    ran: list[int] = []
    _, errors = run_slice([*cells, bare], ["f"], None, lambda cell, line: ran.append(cell))
    assert errors == []
    assert set(ran) == {1, 3}


def test_the_recursion_limit_is_set() -> None:
    cells = ["import sys", "sys.setrecursionlimit(sys.getrecursionlimit() + 1)", "def f():\n    return 1"]
    before = sys.getrecursionlimit()
    try:
        assert run(cells, "f")[1] == []
        assert sys.getrecursionlimit() == before + 1
    finally:
        sys.setrecursionlimit(before)


def test_what_is_registered_by_a_decorator_is_there() -> None:
    generic = "import functools\n@functools.singledispatch\ndef f(x):\n    return 'any'"
    registered = (
        "@f.register\ndef _(x: int):\n    return 'int'\n@f.register(str)\ndef _(x):\n    return 'str'"
    )
    unrelated = "@functools.lru_cache\ndef slow(x):\n    return x"
    namespace, errors = run([generic, registered, unrelated], "f")
    f = namespace["f"]
    assert (f(1), f("a"), f(1.0)) == ("int", "str", "any")
    assert not errors
    assert "slow" not in namespace


def test_what_a_needed_table_keeps_by_a_decorator_of_the_students_is_there() -> None:
    cells = [
        "TABLE = {}\ndef register(function):\n    TABLE[function.__name__] = function\n    return function",
        "@register\ndef double(x):\n    return 2 * x",
        "def f(name, x):\n    return TABLE[name](x)",
    ]
    assert run(cells, "f")[0]["f"]("double", 4) == 8


def test_what_is_bound_where_the_notebook_is_the_main_program_is_there() -> None:
    cells = ["if __name__ == '__main__':\n    scale = 3", "def f(x):\n    return scale * x"]
    assert run(cells, "f")[0]["f"](2) == 6


def test_a_local_name_does_not_pull_in_a_global_of_the_same_name() -> None:
    cells = ["def f():\n    total = 1\n    return total", "total = 1 / 0"]
    assert run(cells, "f")[1] == []


def test_an_error_names_its_cell_and_line_and_the_rest_still_runs() -> None:
    cells = ["# a comment\na = 1\n\nb = 1 / 0", "def f():\n    return a + c", "c = 2\nb"]
    namespace, errors = run(cells, "f", "b")
    assert errors == [("ZeroDivisionError", 1, 4)]
    assert namespace["f"]() == 3


def test_the_innermost_line_of_the_students_own_code_is_named() -> None:
    cells = ["def inner(x):\n    import json\n    return json.loads(x)", "value = inner('{')"]
    assert run(cells, "value")[1] == [("JSONDecodeError", 1, 3)]


def test_a_cell_that_is_no_python_is_reported_and_the_others_count() -> None:
    namespace, errors = run(["def f(:\n  pass", "def g():\n    return 1", "x = '\x00'"], "f", "g")
    assert namespace["g"]() == 1
    assert [(kind, cell) for kind, cell, _ in errors] == [("SyntaxError", 1), ("SyntaxError", 3)]


def test_a_cell_too_deep_for_the_parser_is_an_error_like_any_other() -> None:
    namespace, errors = run(
        ["x = " + "(" * 5_000 + ")" * 5_000, "y = " + "-" * 100_000 + "1", "z = 3"], "x", "y", "z"
    )
    assert namespace["z"] == 3
    assert {cell for _, cell, _ in errors} == {1, 2}


def test_exit_in_a_cell_is_an_error_like_any_other() -> None:
    namespace, errors = run(["import sys\nx = sys.exit(0)", "y = 2"], "x", "y")
    assert errors == [("SystemExit", 1, 2)]
    assert namespace["y"] == 2


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nx = 1", "!pip install thing\nx = 1", "%%time\nx = 1", "x = 1\nx?", "%time x = 1",
        "\n\n%load_ext autoreload\nx = 1", "%%capture out\n%matplotlib inline\nx = 1",
    ],
)  # fmt: skip
def test_magics_and_shell_commands_are_passed_over(cell: str) -> None:
    namespace, errors = run([cell], "x")
    assert namespace["x"] == 1
    assert not errors


def test_a_cell_in_another_language_is_passed_over() -> None:
    assert run(["%%bash\nx=1; rm -rf nothing", "%%html\n<b>x</b>"], "x") == ({"__name__": "__main__"}, [])


def test_lines_are_right_after_a_magic() -> None:
    assert run(["\n%matplotlib inline\n\nx = 1 / 0"], "x")[1] == [("ZeroDivisionError", 1, 4)]


def test_a_future_import_holds_for_later_cells() -> None:
    cells = ["from __future__ import annotations", "def f(x: Unknown) -> Missing:\n    return x"]
    namespace, errors = run(cells, "f")
    assert not errors
    assert namespace["f"](1) == 1


def test_a_star_import_is_always_run() -> None:
    assert run(["from math import *", "def f():\n    return floor(1.5)"], "f")[0]["f"]() == 1


def test_a_top_level_await_is_awaited() -> None:
    cells = ["import asyncio\nasync def g():\n    await asyncio.sleep(0)\n    return 5", "x = await g()"]
    assert run(cells, "x")[0]["x"] == 5


def test_an_error_whose_text_cannot_be_read_is_reported_all_the_same() -> None:
    kind = "class Bad(Exception):\n    def __str__(self):\n        raise ValueError\n"
    assert run([kind + "def g():\n    raise Bad\nx = g()"], "x")[1] == [("Bad", 1, 5)]
