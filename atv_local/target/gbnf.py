"""Grammars in GBNF, the notation of llama.cpp, in the Lark notation of llguidance.

A lexer takes the longest match, where GBNF tries every way to read a text. So each terminal is a single character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from atv_local.errors import UsageError
from atv_local.text import shown

_MAX_REPEAT = 2000
"""Most repetitions that llama.cpp takes."""
_MAX_DEPTH = 64
"""Of groups in groups. Grammars that people write have about 5; each takes several of Python's 1000 nested calls."""
_LAST_CODE_POINT = 0x10FFFF
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_REPEAT = re.compile(r"\{\s*(\d+)\s*(,?)\s*(\d*)\s*\}")
_HEX_ESCAPE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}


def lark_of_gbnf(text: str) -> str:
    """A grammar in GBNF as one in Lark's notation that matches the same texts.

    Raises:
        UsageError: it is not GBNF, or names tokens, which are not supported.
    """
    return _Grammar(text).lark()


@dataclass
class _Grammar:
    text: str
    at: int = 0
    rules: dict[str, str] = field(default_factory=dict)
    """The right side of each rule, in Lark's notation."""
    names: dict[str, str] = field(default_factory=dict)
    """Rules that are named anywhere, with their names in Lark's notation."""
    terminals: dict[str, str] = field(default_factory=dict)
    """The names of sets of characters, which are written as regular expressions."""

    def lark(self) -> str:
        """Read all of it."""
        self._skip(_SPACE_AND_LINES)
        while self.at < len(self.text):
            self._rule()
        if "root" not in self.rules:
            raise UsageError('`grammar` has no rule `root`; begin with one, such as root ::= "yes" | "no"')
        if missing := [name for name in self.names if name not in self.rules]:
            raise UsageError(f"`grammar` has no rule for {shown(missing[0])}, which another one uses")
        rules = [f"{self.names[name]}: {body}" for name, body in self.rules.items()]
        terminals = [f"{name}: /{pattern}/" for pattern, name in self.terminals.items()]
        return "\n".join([f"start: {self.names['root']}", *rules, *terminals]) + "\n"

    def _rule(self) -> None:
        name = self._name()
        self._skip(_SPACE)
        if not self.text.startswith("::=", self.at):
            self._fail("::=")
        self.at += 3
        self._skip(_SPACE_AND_LINES)
        self._named(name)
        self.rules[name] = self._alternatives(0)
        if self.at < len(self.text) and self.text[self.at] not in "\r\n":
            self._fail("the end of the line")
        self._skip(_SPACE_AND_LINES)

    def _alternatives(self, depth: int) -> str:
        found = [self._sequence(depth)]
        while self.text.startswith("|", self.at):
            self.at += 1
            self._skip(_SPACE_AND_LINES)
            found.append(self._sequence(depth))
        return " | ".join(found)

    def _sequence(self, depth: int) -> str:
        space = _SPACE_AND_LINES if depth else _SPACE
        parts: list[str] = []
        while (part := self._item(depth)) is not None:
            self._skip(space)
            while repeat := self._repeat():
                part = f"({part}){repeat}"
                self._skip(space)
            parts.append(part)
        return " ".join(parts) or '""'

    def _item(self, depth: int) -> str | None:
        """A literal, set of characters, group or name; None at the end of a sequence."""
        sign = self.text[self.at : self.at + 1]
        if sign in ("", "|", ")", "\r", "\n"):
            return None
        if sign == '"':
            return self._literal()
        if sign == "[":
            return self._set()
        if sign == ".":
            self.at += 1
            return self._terminal("(?s:.)")
        if sign == "(":
            return self._group(depth + 1)
        if sign in "<!":
            self._fail("a text in quotes, since tokens such as <...> are not supported")
        return self._named(self._name())

    def _literal(self) -> str:
        self.at += 1
        characters: list[str] = []
        while not self.text.startswith('"', self.at):
            characters.append(self._terminal(f"[{_code(self._character())}]"))
        self.at += 1
        return f"({' '.join(characters)})" if characters else '""'

    def _set(self) -> str:
        self.at += 1
        negated = self.text.startswith("^", self.at)
        self.at += negated
        ranges: list[str] = []
        while not self.text.startswith("]", self.at):
            first = last = self._character()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                last = self._character()
            if last < first:
                self._fail(f"a range that ends after {shown(first)}")
            ranges.append(_code(first) if last == first else f"{_code(first)}-{_code(last)}")
        if not ranges:
            self._fail("a character in the brackets")
        self.at += 1
        return self._terminal(f"[{'^' * negated}{''.join(ranges)}]")

    def _group(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise UsageError(f"`grammar` has groups more than {_MAX_DEPTH} deep; give some of them rules of their own")
        self.at += 1
        self._skip(_SPACE_AND_LINES)
        body = self._alternatives(depth)
        if not self.text.startswith(")", self.at):
            self._fail(")")
        self.at += 1
        return f"({body})"

    def _repeat(self) -> str:
        """How often what stands before it is repeated, in Lark's notation; empty if nothing says so."""
        sign = self.text[self.at : self.at + 1]
        if sign and sign in "*+?":
            self.at += 1
            return sign
        if sign != "{":
            return ""
        match = _REPEAT.match(self.text, self.at)
        if match is None:
            self._fail("a number of repetitions, such as {3} or {1,3}")
        least, comma, most = match.groups()
        if any(len(number) > 9 or int(number) > _MAX_REPEAT for number in (least, most) if number):
            self._fail(f"at most {_MAX_REPEAT} repetitions")
        if most and int(most) < int(least):
            self._fail(f"at least {least} repetitions")
        self.at = match.end()
        return f"{{{least}{comma}{most}}}"

    def _character(self) -> str:
        character = self.text[self.at : self.at + 1]
        if not character:
            self._fail("the end of a text or set of characters")
        self.at += 1
        if character != "\\":
            return character
        if match := _HEX_ESCAPE.match(self.text, self.at):
            self.at = match.end()
            code = int(match[1] or match[2] or match[3], 16)
            if code > _LAST_CODE_POINT or 0xD800 <= code <= 0xDFFF:
                self._fail("a character of Unicode")
            return chr(code)
        escaped = _ESCAPES.get(self.text[self.at : self.at + 1])
        if escaped is None:
            self._fail('an escape such as \\n, \\" or \\u00e9')
        self.at += 1
        return escaped

    def _name(self) -> str:
        match = _NAME.match(self.text, self.at)
        if match is None:
            self._fail("a name")
        self.at = match.end()
        return match[0]

    def _named(self, name: str) -> str:
        return self.names.setdefault(name, f"r{len(self.names)}")

    def _terminal(self, pattern: str) -> str:
        return self.terminals.setdefault(pattern, f"T{len(self.terminals)}")

    def _skip(self, space: re.Pattern[str]) -> None:
        if match := space.match(self.text, self.at):
            self.at = match.end()

    def _fail(self, expected: str) -> NoReturn:
        line = self.text.count("\n", 0, self.at) + 1
        found = self.text[self.at : self.at + 20].split("\n")[0]
        where = f"at {shown(found)}" if found else "at its end"
        raise UsageError(f"`grammar` line {line} {where}: expected {expected}")


def _code(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"
