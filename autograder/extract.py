"""From a notebook's cells to the statements that the graded names need, and nothing else.

A notebook also draws, prints, measures and checks itself; none of that has to run again to grade a function.
So the top-level statements form a graph (who binds a name, who reads it), and the slice is what the wanted
names reach (after Weiser, Program Slicing, 1981). It runs where the student's code runs: parsing it is
already a risk.
"""

from __future__ import annotations
import __future__

import ast
import dis
import inspect
import linecache
import re
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autograder.errors import StudentError

FILENAME = re.compile(r"<cell (\d+)>")
_READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_CLASSDEREF"}
_BINDS = {"STORE_NAME", "STORE_GLOBAL", "DELETE_NAME", "DELETE_GLOBAL"}
_BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)
_PYTHON_CELL_MAGICS = {"time", "timeit", "capture", "prun", "memit", "mprun"}
_MAX_MESSAGE = 2_000
_DRAWS = {"plt", "pyplot", "matplotlib", "sns", "px", "go"}
#: Calls that only look, whatever they get.
_LOOKS = {
    "print", "display", "check", "skip", "help", "len", "repr", "str", "type", "id", "dir", "sum", "min",
    "max", "sorted", "isinstance", "pprint", "pp",
}  # fmt: skip
#: Calls that change their first argument, be it a function.
_SETS = {"setattr", "delattr", "update_wrapper", "__setattr__"}


@dataclass(frozen=True)
class Statement:
    """A compiled top-level statement: where it stands, what it reads, binds or changes.

    Attributes:
        binds: names it binds, or whose object it surely changes.
        effects: what its bare calls may change besides.
        always: it runs whatever is wanted.
    """

    cell: int
    line: int
    node: ast.stmt
    code: types.CodeType
    reads: frozenset[str]
    binds: frozenset[str]
    effects: Effects
    always: bool = False


@dataclass(frozen=True)
class Effects:
    """What calls whose result nobody keeps may change.

    Attributes:
        receivers: `ITEMS` in `ITEMS.append(1)`; changed unless it is imported.
        arguments: the function's root and the argument of `shuffle(ITEMS)`; changed if the argument is data.
        decorators: roots of the decorators of a function or class; each gets hold of it.
    """

    receivers: frozenset[str] = frozenset()
    arguments: frozenset[tuple[str, str]] = frozenset()
    decorators: frozenset[str] = frozenset()


def run_slice(
    cells: Sequence[str],
    wanted: Sequence[str],
    namespace: dict[str, Any] | None = None,
    before: Callable[[int, int], Any] = lambda cell, line: None,
) -> tuple[dict[str, Any], list[StudentError]]:
    """Define the wanted names in a namespace.

    Args:
        cells, wanted: as for `sliced`.
        namespace: a module's globals; new ones by default.
        before: told the cell and the line of each statement before it runs.

    Returns:
        The namespace, and what was raised, in order; after each the next statement ran all the same.
    """
    scope = {"__name__": "__main__"} if namespace is None else namespace
    statements, errors = sliced(cells, wanted)
    for statement in statements:
        before(statement.cell, statement.line)
        error = execute(statement, scope)
        if error is not None:
            errors.append(error)
    return scope, errors


def sliced(cells: Sequence[str], wanted: Sequence[str]) -> tuple[list[Statement], list[StudentError]]:
    """The statements that bind the wanted names, and all that these need, in the notebook's order.

    Args:
        cells: the source of the code cells; numbers in the result count from 1.
        wanted: top-level names.

    Returns:
        The statements, and a problem per cell that is no Python; the other cells count all the same.
    """
    statements: list[Statement] = []
    problems: list[StudentError] = []
    flags = 0
    for number, source in enumerate(cells, start=1):
        try:
            tree = parse_cell(source)
            for node in tree.body if tree else []:
                flags |= _future(node)
                statements.append(_statement(node, number, flags))
        except (Exception, RecursionError) as error:
            line = error.lineno if isinstance(error, SyntaxError) else None
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            problems.append(StudentError(type(error).__name__, text[:_MAX_MESSAGE], number, line))
        name = f"<cell {number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names = _Names(statements)
    changed = [names.changed(statement) for statement in statements]
    needed, chosen, before = set(wanted), set[int](), -1
    while len(chosen) != before:
        before = len(chosen)
        for index, statement in enumerate(statements):
            if index not in chosen and (statement.always or changed[index] & needed):
                chosen.add(index)
                needed |= statement.reads
    return [statements[index] for index in sorted(chosen)], problems


class _Names:
    """What the notebook's names stand for, as far as their definitions show."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.imported: set[str] = set()
        self.draws = set(_DRAWS)
        bound: set[str] = set()
        self.defined: dict[str, frozenset[str]] = {}
        for statement in statements:
            node = statement.node
            bound |= statement.binds
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.defined[node.name] = statement.reads
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                self.defined.update(dict.fromkeys(statement.binds, statement.reads))
            elif isinstance(node, ast.Assign) and _root(node.value) in self.draws:
                self.draws |= statement.binds  # fig, ax = plt.subplots()
            aliases = [part for part in ast.walk(node) if isinstance(part, ast.alias)]
            self.imported |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
        self.own = bound - self.imported
        self.data = self.own - self.defined.keys()

    def changed(self, statement: Statement) -> set[str]:
        """The names that a statement binds, or whose object it changes."""
        effects = statement.effects
        found = statement.binds | (effects.receivers & self.own)
        found |= {name for root, name in effects.arguments if name in self.data and root not in self.draws}
        for name in effects.decorators & self.own:
            # `@f.register` changes f; `@register` changes the table that register keeps.
            found |= {name} | (self.defined.get(name, frozenset()) & self.data)
        return set(found)


def execute(statement: Statement, namespace: dict[str, Any]) -> StudentError | None:
    """Run one statement; what it raises, `SystemExit` included, comes back as an error."""
    try:
        result = eval(statement.code, namespace)
        if inspect.iscoroutine(result):  # a notebook may await at the top level
            import asyncio

            asyncio.run(result)
    except BaseException as error:
        found = describe(error)
        if found.cell is None:
            found.cell, found.line = statement.cell, statement.line
        return found
    return None


def describe(error: BaseException) -> StudentError:
    """An exception as the student should read it: the innermost line of their own code, none of ours."""
    cell = line = None
    trace = error.__traceback__
    while trace is not None:
        if match := FILENAME.fullmatch(trace.tb_frame.f_code.co_filename):
            cell, line = int(match[1]), trace.tb_lineno
        trace = trace.tb_next
    try:
        message = str.__str__(str(error))[:_MAX_MESSAGE]
    except BaseException:
        message = "(the error has no readable message)"
    return StudentError(str.__str__(type(error).__name__)[:100], message, cell, line)


def parse_cell(source: str) -> ast.Module | None:
    """A cell as Python: shell commands and magics gone, line numbers kept. None: a cell in another language.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python.
    """
    try:
        return ast.parse(source)
    except SyntaxError as error:
        plain = error
    first = re.match(r"\s*%%(\w+)[^\n]*", source)
    if first:
        if first[1] not in _PYTHON_CELL_MAGICS:
            return None
        return parse_cell(source[: first.start()] + "\n" * first[0].count("\n") + source[first.end() :])
    from IPython.core.inputtransformer2 import TransformerManager

    blank = len(source) - len(source.lstrip("\n"))
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        raise plain from None
    tree.body = [kept for node in tree.body for kept in _unwrap_time(node)]
    ast.increment_lineno(tree, blank)
    return tree


def _unwrap_time(node: ast.stmt) -> list[ast.stmt]:
    """`%time x = f()` binds x; as a magic it is a call with the statement as text."""
    if isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call):
        texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if (
            ast.unparse(call.func) == "get_ipython().run_line_magic"
            and texts[:1] == ["time"]
            and len(texts) == 2
        ):
            inner = ast.parse(texts[1]).body
            return [ast.copy_location(statement, node) for statement in inner]
    return [node]


def _future(node: ast.stmt) -> int:
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return sum(getattr(__future__, name.name).compiler_flag for name in node.names)
    return 0


def _statement(node: ast.stmt, cell: int, flags: int) -> Statement:
    top_level_await = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    module = ast.Module([node], type_ignores=[])
    code = compile(module, f"<cell {cell}>", "exec", flags=flags | top_level_await, dont_inherit=True)
    reads: set[str] = set()
    binds = {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in _BINDS}
    for part in _nested(code):
        reads |= {i.argval for i in dis.get_instructions(part) if i.opname in _READS}
    always = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        always = _last(node.value.func) == "setrecursionlimit"
    binds |= set(_changed(node))
    return Statement(
        cell, node.lineno, node, code, frozenset(reads), frozenset(binds), _effects(node), always
    )


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _own_parts(node: ast.stmt) -> Iterator[ast.AST]:
    """What runs when the statement does: not the bodies of functions, nor those of classes."""
    todo: list[ast.AST] = [node]
    while todo:
        part = todo.pop()
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield part
            todo.extend(ast.iter_child_nodes(part))


def _changed(node: ast.stmt) -> Iterator[str]:
    """Names whose object it changes: `table[k] = v`, `Net.forward = f`, in a block also `rows.append(r)`."""
    in_block = isinstance(node, _BLOCKS)
    for part in _own_parts(node):
        target: ast.AST | None = None
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store | ast.Del):
            target = part
        elif in_block and isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            target = part.value.func if isinstance(part.value.func, ast.Attribute) else None
        if target is not None and (root := _root(target)):
            yield root


def _effects(node: ast.stmt) -> Effects:
    """What its bare expressions may change; most often they are plots and checks, which change nothing."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        made_by = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
        return Effects(decorators=frozenset(map(_root, made_by)))
    receivers: set[str] = set()
    arguments: set[tuple[str, str]] = set()
    todo = [part.value for part in _own_parts(node) if isinstance(part, ast.Expr)]
    while todo:
        value = todo.pop()
        if isinstance(value, ast.ListComp | ast.SetComp | ast.Await):  # [ITEMS.append(i) for i in range(3)]
            todo.append(value.value if isinstance(value, ast.Await) else value.elt)
        elif isinstance(value, ast.Tuple | ast.BoolOp):
            todo.extend(value.elts if isinstance(value, ast.Tuple) else value.values)
        elif isinstance(value, ast.Subscript | ast.Attribute):
            receivers.add(_root(value))
        elif isinstance(value, ast.Call) and _last(value.func) not in _LOOKS:
            if isinstance(value.func, ast.Attribute):
                receivers.add(_root(value.func))
            if _last(value.func) in _SETS and value.args:
                receivers.add(_root(value.args[0]))
            given = [*value.args, *(keyword.value for keyword in value.keywords)]
            arguments |= {(_root(value.func), _root(each)) for each in given}
    return Effects(frozenset(receivers), frozenset(arguments))


def _root(node: ast.AST) -> str:
    """`TABLE` of `TABLE`, `TABLE.rows[0]` and `TABLE.setdefault(k, []).append`; of `f(3).sum` nothing."""
    while True:
        if isinstance(node, ast.Subscript | ast.Attribute | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func
        else:
            return node.id if isinstance(node, ast.Name) else ""


def _last(function: ast.expr) -> str:
    """`append` of `ITEMS.append`, `print` of `print`."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
