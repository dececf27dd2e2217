"""Parses xl.cfg files by their grammar: text in, values out. Called by `config_file`, which knows what the keys mean.

It follows xl's own scanner (tools/libs/util/libxlu_cfg_l.l and _y.y), down to its surprises: a file whose last line is
a comment needs a newline at its end, Windows line ends are refused, a key given twice has its last value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.model.parts import in_quotes

TEXT_MAX = 256 * 1024  # characters; real files have a few thousand, so this bounds time and memory
_DEPTH_MAX = 20  # lists in lists; xl's own keys need two


class Number(str):
    """A bare number. xl keeps its text too, so `name = 007` is the name "007"."""

    __slots__ = ()


Value = str | tuple["Value", ...]
"""A string, a `Number`, or a list of values."""


class XlCfgError(ValueError):
    """Reports a text that xl cannot read. Line and column count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column
        self.message = message


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # NAME, NUMBER, STRING, ADD, NEWLINE, END or the character itself
    text: str
    at: int  # offset in the text


_TOKEN = re.compile(
    r"""[ \t]*+
    (?: (?P<NAME>[a-z][._0-9a-z]*)
      | (?P<SIGN>[,\[\]=;])
      | (?P<NUMBER>[0-9][0-9a-fx]*)
      | (?P<STRING>'(?:[^'\\\n]|\\[^\n])*+'|"(?:[^"\\\n]|\\[^\n])*+")
      | (?P<NEWLINE>\n|\#[^\n]*\n)
      | (?P<ADD>\+=)
      | (?P<END>\Z)
      | (?P<STRAY>.))""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def parse_cfg(text: str) -> dict[str, Value]:
    r"""Parse a config file into its values by key. Raises XlCfgError and nothing else, whatever the text.

    >>> parse_cfg("name = 'web'\nmemory = 512\nvif = ['bridge=br0',]\n")
    {'name': 'web', 'memory': '512', 'vif': ('bridge=br0',)}
    """
    if len(text) > TEXT_MAX:
        raise XlCfgError(1, 1, f"This is longer than {TEXT_MAX} characters, so it is taken for no config file.")
    return _Parser(text).parse()


def quote(text: str) -> str:
    """Write a string as xl.cfg has it. Raises ValueError for characters that no domain definition has a use for."""
    if found := _UNPRINTABLE.search(text):
        raise ValueError(
            f"{text[:40]!r} has the character {found[0]!r}, which a config file of xl cannot carry safely."
        )
    return in_quotes(text)


def number_of(text: str) -> int | None:
    """Read a string as C's strtol(text, base 0) does, which xl uses; None where xl takes it for no number.

    >>> number_of("0x10"), number_of("010"), number_of("10 MiB")
    (16, 8, None)
    """
    match = re.fullmatch(r"[ \t\n\v\f\r]*([+-]?)(?:(0[xX][0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))", text)
    if match is None or len(text) > 40:
        return None
    sign, hexadecimal, octal, decimal = match.groups()
    number = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
    number = -number if sign == "-" else number
    return number if -(2**63) <= number < 2**63 else None


class _Parser:
    """Parses by recursive descent with one token of look-ahead. `_DEPTH_MAX` bounds the recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan()
        self._token = next(self._tokens)

    def parse(self) -> dict[str, Value]:
        atoms: dict[str, str] = {}
        lists: dict[str, list[Value]] = {}
        while self._token.kind != "END":
            if self._token.kind in ("NEWLINE", ";"):
                self._advance()
                continue
            self._assignment(atoms, lists)
            if self._token.kind not in ("NEWLINE", ";", "END"):
                raise self._error(self._token, "Here a new line or `;` is expected.")
        return {**atoms, **{key: tuple(values) for key, values in lists.items()}}

    def _assignment(self, atoms: dict[str, str], lists: dict[str, list[Value]]) -> None:
        name = self._take("NAME", "Here a key is expected, such as `memory`; keys are in lower case.")
        key = name.text
        operator = self._token
        if operator.kind not in ("=", "ADD"):
            raise self._error(operator, f"After `{key}` an `=` is expected.")
        self._advance()
        value = self._value(depth=0)
        if operator.kind == "ADD" and (key in atoms or key in lists):
            self._add(name, value, atoms, lists)
            return
        atoms.pop(key, None)
        lists.pop(key, None)
        if isinstance(value, str):
            atoms[key] = value
        else:
            lists[key] = list(value)

    def _add(self, name: _Token, value: Value, atoms: dict[str, str], lists: dict[str, list[Value]]) -> None:
        key = name.text
        if isinstance(value, tuple) and key in lists:
            lists[key].extend(value)  # in place, so that a file of nothing but `+=` stays cheap
        elif isinstance(value, str) and key in atoms:
            if isinstance(value, Number) or isinstance(atoms[key], Number):
                raise self._error(name, f"xl cannot use `+=` with numbers: write `{key}` once.")
            atoms[key] += value
        else:
            raise self._error(name, f"`{key} +=` adds a list to a string or a string to a list.")

    def _value(self, depth: int) -> Value:
        token = self._token
        if token.kind == "STRING":
            self._advance()
            return self._unquoted(token)
        if token.kind == "NUMBER":
            self._advance()
            return Number(token.text)
        if token.kind != "[":
            raise self._error(token, "Here a value is expected: a number, a quoted string or a list in `[ ]`.")
        if depth == _DEPTH_MAX:
            raise self._error(token, f"Lists are nested more than {_DEPTH_MAX} deep.")
        self._advance()
        return self._list(depth)

    def _list(self, depth: int) -> tuple[Value, ...]:
        values: list[Value] = []
        self._skip_newlines()
        while self._token.kind != "]":
            values.append(self._value(depth + 1))
            self._skip_newlines()
            if self._token.kind != ",":
                break
            self._advance()
            self._skip_newlines()
        self._take("]", "Here the list should go on with `,` or end with `]`.")
        return tuple(values)

    def _unquoted(self, token: _Token) -> str:
        def unescape(match: re.Match[str]) -> str:
            if (found := _ESCAPED.get(match[1])) is not None:
                return found
            # xl refuses \x41 and drops \101 without a word, so neither can have been meant
            raise self._error(token, f"The escape `{match[0]}` in this string is not one that xl understands.")

        return _ESCAPE.sub(unescape, token.text[1:-1])

    def _skip_newlines(self) -> None:
        while self._token.kind == "NEWLINE":
            self._advance()

    def _take(self, kind: str, message: str) -> _Token:
        token = self._token
        if token.kind != kind:
            raise self._error(token, message)
        self._advance()
        return token

    def _advance(self) -> None:
        self._token = next(self._tokens)

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while match := _TOKEN.match(self._text, at):
            kind = match.lastgroup or ""
            token = _Token(match[kind] if kind == "SIGN" else kind, match[kind], match.start(kind))
            at = match.end()
            if kind == "STRAY" and at == len(self._text) and token.text.isascii():
                token = _Token("END", "", at)  # xl's scanner drops one stray character at the very end
            elif kind == "STRAY":
                raise self._error(token, _lexical_message(token.text))
            yield token

    def _error(self, token: _Token, message: str) -> XlCfgError:
        line = self._text.count("\n", 0, token.at) + 1
        column = token.at - self._text.rfind("\n", 0, token.at)
        return XlCfgError(line, column, message)


def _lexical_message(character: str) -> str:
    match character:
        case "'" | '"':
            return "This string does not end on its line."
        case "#":
            return "A comment on the last line needs a new line after it, else xl refuses the file."
        case "\r":
            return "Windows line ends are refused by xl: keep only the new lines."
        case "(" | ")" | ":" | "+" | "-" | ".":
            return f"`{character}` has no place here; config files of xm could hold Python, those of xl cannot."
        case _:
            return f"{character!r} has no place here."
