"""PTX text to instructions, with the source line of each.

A tokenizer, not lines: a statement may hold braces and several may share a line. Nested scopes, as inline
assembly opens them, get register names of their own. Grammar: PTX ISA 9.0, chapters 4 and 5.
"""

from __future__ import annotations

import re
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

    def skip_past(self, mark: str) -> None:
        while self.take() != mark:
            pass

    def module(self) -> Module:
        while self.at < len(self.tokens):
            token = self.peek()
            if self.kind() == "line":
                if token.startswith(".target"):
                    self.made.target = token.split()[1].rstrip(",")
                self.at += 1
            elif token in (".visible", ".weak", ".extern", ".common"):
                self.at += 1
            elif token == ".entry":
                self.at += 1
                self.entry()
            elif token in (".global", ".const", ".shared", ".local", ".tex"):
                variable = self.variable()
                self.made.variables[variable.name] = variable
            elif token == ".func":
                self.function()
            elif token == ".section":
                self.skip_past("{")
                self.skip_past("}")
            else:
                self.at += 1
        return self.made

    def function(self) -> None:
        """A declaration, or a body, which is passed over: calling it is an error when it is called."""
        while self.peek() not in (";", "{"):
            self.at += 1
        depth = 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0 and token in (";", "}"):
                return

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
        while self.peek() == "[":
            self.at += 1
            count = int(self.take()) * count if self.peek() != "]" else -1
            self.take("]")
        initial = b""
        if self.peek() == "=":
            self.at += 1
            initial = self.initial(kind)
        if self.peek() == ";":
            self.at += 1
        size = count * BYTES[kind] if count >= 0 else -1
        return Variable(name, space, size, max(align, BYTES[kind]), initial, kind)

    def initial(self, kind: str) -> bytes:
        if self.peek() != "{":
            return _bytes(self.operand(), kind)
        self.at += 1
        found, sign = b"", 1
        while (token := self.peek()) != "}":
            if token == "-":
                sign = -1
                self.at += 1
            elif self.kind() == "number":
                value = self.number()
                found += _bytes(Immediate(sign * value.value, value.real), kind)
                sign = 1
            elif token == ",":
                self.at += 1
            elif token == "{":
                found += self.initial(kind)
            else:
                raise PtxError(f"a variable that starts with {token!r} is not simulated")
        self.at += 1
        return found

    def entry(self) -> None:
        kernel = Kernel(self.take())
        if self.peek() == "(":
            self.at += 1
            while self.peek() != ")":
                if self.peek() == ",":
                    self.at += 1
                else:
                    kernel.parameters.append(self.variable())
            self.at += 1
        while self.peek() != "{":
            self.at += 1
        self.scopes, self.declared = [], set()
        self.body(kernel)
        self.made.kernels[kernel.name] = kernel

    def body(self, kernel: Kernel) -> None:
        self.take("{")
        self.opened += 1
        scope, self.scopes = self.opened, [*self.scopes, {}]
        while (token := self.peek()) != "}":
            if token == "{":
                self.body(kernel)
            elif self.kind() == "line":
                if token.startswith(".loc"):
                    self.located(token)
                self.at += 1
            elif token == ".reg":
                self.registers(kernel, scope)
            elif token in (".shared", ".local", ".param"):
                variable = self.variable()
                kernel.variables[variable.name] = variable
            elif self.kind() == "directive":
                self.skip_past(";")
            elif token == ";":
                self.at += 1
            else:
                self.statement(kernel)
        self.at += 1
        self.scopes = self.scopes[:-1]

    def located(self, token: str) -> None:
        """The line in the learner's file: of inlined code, where it was inlined."""
        inlined = re.search(r"inlined_at\s+1\s+(\d+)", token)
        place = token.split()
        if place[1] == "1" and int(place[2]):
            self.source_line = int(place[2])
        elif inlined and int(inlined[1]):
            self.source_line = int(inlined[1])

    def registers(self, kernel: Kernel, scope: int) -> None:
        self.take(".reg")
        kind = self.take().lstrip(".")
        while True:
            name = self.take()
            if self.peek() == "<":
                self.at += 1
                names = [f"{name}{i}" for i in range(int(self.take()))]
                self.take(">")
            else:
                names = [name]
            for one in names:
                unique = one if len(self.scopes) == 1 else f"{one}@{scope}"
                self.scopes[-1][one] = unique
                kernel.registers[unique] = kind
                self.declared.add(unique)
            if self.take() == ";":
                return

    def statement(self, kernel: Kernel) -> None:
        word = self.take()
        if self.peek() == ":":
            self.at += 1
            kernel.labels[word] = len(kernel.code)
            return
        guard = None
        if word == "@":
            negated = self.peek() == "!"
            self.at += negated
            guard = Register(self.resolved(self.take()), negated)
            word = self.take()
        operands = []
        while self.peek() != ";":
            if self.peek() == ",":
                self.at += 1
            else:
                operands.append(self.operand())
        self.at += 1
        kernel.code.append(Instruction(tuple(word.split(".")), operands, guard, self.source_line))

    def resolved(self, name: str) -> str:
        return next((s[name] for s in reversed(self.scopes) if name in s), name)

    def number(self) -> Immediate:
        text = self.take().rstrip("U")
        if text[:2] in ("0f", "0F"):
            return Immediate(int(text[2:], 16), "f32")
        if text[:2] in ("0d", "0D"):
            return Immediate(int(text[2:], 16), "f64")
        return Immediate(int(text, 0) if text[:2] in ("0x", "0X") else int(text))

    def operand(self) -> Any:
        token = self.peek()
        if token in ("{", "("):
            self.at += 1
            parts = []
            while self.peek() not in ("}", ")"):
                if self.peek() == ",":
                    self.at += 1
                else:
                    parts.append(self.operand())
            self.at += 1
            return Vector(tuple(parts))
        if token == "[":
            return self.address()
        if token == "-":
            self.at += 1
            return Immediate(-self.number().value)
        if token == "!":
            self.at += 1
            return Register(self.resolved(self.take()), True)
        if self.kind() == "number":
            return self.number()
        name = self.resolved(self.take())
        one: Any = Register(name) if name in self.declared or name == "_" else Symbol(name)
        if self.peek() == "|":
            self.at += 1
            return Vector((one, Register(self.resolved(self.take()))), paired=True)
        if self.peek() == "+" and isinstance(one, Symbol):
            self.at += 1
            return Address(one, self.number().value)
        return one

    def address(self) -> Any:
        self.take("[")
        base = self.operand()
        if isinstance(base, Address):  # the operand took the offset
            offset = base.offset
            base = base.base
        else:
            offset = 0
        while self.peek() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            if self.peek() == "-":
                self.at += 1
                sign = -sign
            offset += sign * self.number().value
        self.take("]")
        return Address(base, offset)


def _bytes(value: Immediate, kind: str) -> bytes:
    return (value.value & ((1 << 8 * BYTES[kind]) - 1)).to_bytes(BYTES[kind], "little")
