"""PTX text to instructions, with the source line of each.

A tokenizer, not lines: a statement may hold braces and several may share a line. Nested scopes, as inline
assembly opens them, get register names of their own. Grammar: PTX ISA 9.0, chapters 4 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mlsys_lab.kernels.ptx.code import (
    BYTES,
    Address,
    Immediate,
    Instruction,
    Kernel,
    Module,
    Register,
    Symbol,
    Variable,
    Vector,
)

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<line>\.(?:loc|file|version|target|address_size|pragma)\b[^\n]*)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+U?|\d+U?)
    |(?P<word>[%$_A-Za-z][\w$]*(?:\.[\w:]+)*)
    |(?P<directive>\.[A-Za-z_][\w:]*)
    |(?P<mark>[{}()\[\],;:+\-|@!<>=*&~^/])""",
    re.VERBOSE | re.DOTALL,
)


class PtxError(ValueError):
    """The text is no PTX that this machine reads; the message names the line of the text."""


def parse(text: str) -> Module:
    """Read a PTX text.

    Raises:
        PtxError: what stands there is not read; names the line of the text.
    """
    return _Parser(text).module()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, position = text, list[tuple[str, str, int]](), 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise PtxError(
                    f"PTX line {self._line(position)}: unexpected {text[position : position + 20]!r}"
                )
            if match.lastgroup != "skip":
                self.tokens.append((str(match.lastgroup), match[0], position))
            position = match.end()
        self.at, self.made, self.source_line = 0, Module(), 0
        self.scopes: list[dict[str, str]] = []
        self.declared: set[str] = set()
        self.opened = 0

    def _line(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        if self.at >= len(self.tokens):
            raise PtxError("the PTX text ends in the middle of a statement")
        _, text, position = self.tokens[self.at]
        if wanted and text != wanted:
            raise PtxError(f"PTX line {self._line(position)}: expected {wanted!r}, found {text!r}")
        self.at += 1
        return text

    def accept(self, wanted: str) -> bool:
        """Pass a token over where it is this one."""
        found = self.peek() == wanted
        self.at += found
        return found

    def listed(self, end: str, read: Callable[[], Any]) -> list[Any]:
        """What stands between commas up to an end, which is passed over."""
        found = []
        while not self.accept(end):
            if not self.accept(","):
                found.append(read())
        return found

    def skip_past(self, mark: str) -> None:
        while self.take() != mark:
            pass

    def module(self) -> Module:
        while self.at < len(self.tokens):
            token = self.peek()
            if self.accept(".entry"):
                self.code(self.made.kernels)
            elif self.accept(".func"):
                self.code(self.made.functions)
            elif token in (".global", ".const", ".shared", ".local", ".tex"):
                variable = self.variable()
                self.made.variables[variable.name] = variable
            elif token == ".section":
                self.skip_past("{")
                self.skip_past("}")
            else:
                self.at += 1
        return self.made

    def variable(self) -> Variable:
        space, align, kind = self.take().lstrip("."), 1, "b8"
        while self.kind() == "directive":
            token = self.take()
            if token == ".align":
                align = int(self.take())
            elif token[1:] in BYTES:
                kind = token[1:]
            elif token in (".v2", ".v4"):
                align = max(align, BYTES[kind] * int(token[2:]))
        name, count = self.take(), 1
        while self.accept("["):
            count = int(self.take()) * count if self.peek() != "]" else -1
            self.take("]")
        initial = self.initial(kind) if self.accept("=") else b""
        self.accept(";")
        size = count * BYTES[kind] if count >= 0 else -1
        return Variable(name, space, size, max(align, BYTES[kind]), initial, kind)

    def initial(self, kind: str) -> bytes:
        """The bytes of one number, or of a list of them."""
        if self.accept("{"):
            return b"".join(self.listed("}", lambda: self.initial(kind)))
        token, value = self.peek(), self.operand()
        if not isinstance(value, Immediate):
            raise PtxError(f"a variable that starts with {token!r} is not simulated")
        return (value.value & ((1 << 8 * BYTES[kind]) - 1)).to_bytes(BYTES[kind], "little")

    def code(self, there: dict[str, Kernel]) -> None:
        """An entry or a function; one that is only declared is passed over."""
        results = self.listed(")", self.variable) if self.accept("(") else []
        one = Kernel(self.take(), results=results)
        if self.accept("("):
            one.parameters = self.listed(")", self.variable)
        while self.peek() not in ("{", ";"):
            self.at += 1
        self.scopes, self.declared = [], set()
        if not self.accept(";"):
            self.body(one)
            there[one.name] = one

    def body(self, kernel: Kernel) -> None:
        self.take("{")
        self.opened += 1
        scope, self.scopes = self.opened, [*self.scopes, {}]
        while not self.accept("}"):
            token = self.peek()
            if token == "{":
                self.body(kernel)
            elif self.kind() == "line":
                self.located(self.take())
            elif token == ".reg":
                self.registers(kernel, scope)
            elif token in (".shared", ".local", ".param"):
                variable = self.variable()
                kernel.variables[variable.name] = variable
            elif self.kind() == "directive":
                self.skip_past(";")
            elif not self.accept(";"):
                self.statement(kernel)
        self.scopes = self.scopes[:-1]

    def located(self, token: str) -> None:
        """The line in the learner's file: of inlined code, where it was inlined."""
        if not token.startswith(".loc"):
            return
        inlined = re.search(r"(?:inlined_at\s+1\s+|@\[ kernel\.cu:)(\d+)", token)  # NVRTC's, clang's
        place = token.split()
        own = int(place[2]) if place[1] == "1" else 0
        self.source_line = own or (int(inlined[1]) if inlined else 0) or self.source_line

    def registers(self, kernel: Kernel, scope: int) -> None:
        self.take(".reg")
        kind = self.take().lstrip(".")
        while True:
            name = self.take()
            names = [name]
            if self.accept("<"):
                names = [f"{name}{i}" for i in range(int(self.take()))]
                self.take(">")
            for one in names:
                unique = one if len(self.scopes) == 1 else f"{one}@{scope}"
                self.scopes[-1][one] = unique
                kernel.registers[unique] = kind
                self.declared.add(unique)
            if self.take() == ";":
                return

    def statement(self, kernel: Kernel) -> None:
        word = self.take()
        if self.accept(":"):
            kernel.labels[word] = len(kernel.code)
            return
        guard = None
        if word == "@":
            negated = self.accept("!")
            guard = Register(self.resolved(self.take()), negated)
            word = self.take()
        operands = self.listed(";", self.operand)
        kernel.code.append(Instruction(tuple(word.split(".")), operands, guard, self.source_line))

    def resolved(self, name: str) -> str:
        return next((s[name] for s in reversed(self.scopes) if name in s), name)

    def number(self) -> Immediate:
        text = self.take().rstrip("U")
        real = {"0f": "f32", "0d": "f64"}.get(text[:2].lower(), "")
        return Immediate(int(text[2:], 16) if text[1:2].lower() in ("x", "f", "d") else int(text), real)

    def operand(self) -> Any:
        for start, end in ("{}", "()"):
            if self.accept(start):
                return Vector(tuple(self.listed(end, self.operand)))
        if self.accept("["):
            return self.address()
        if self.accept("-"):
            return Immediate(-self.number().value)
        if self.accept("!"):
            return Register(self.resolved(self.take()), True)
        if self.kind() == "number":
            return self.number()
        name = self.resolved(self.take())
        one: Any = Register(name) if name in self.declared or name == "_" else Symbol(name)
        if self.accept("|"):
            return Vector((one, Register(self.resolved(self.take()))))
        if isinstance(one, Symbol) and self.accept("+"):
            return Address(one, self.number().value)
        return one

    def address(self) -> Any:
        found = self.operand()
        base, offset = (found.base, found.offset) if isinstance(found, Address) else (found, 0)
        while self.peek() in ("+", "-"):
            negative = (self.take() == "-") != self.accept("-")
            offset += -self.number().value if negative else self.number().value
        if self.accept(","):  # [map, {column, row}] of a tensor: no instruction that has it is simulated
            self.operand()
        self.take("]")
        return Address(base, offset)
