"""Parses xl.cfg files by their grammar: text in, values out. Called by `config_file`, which knows what the keys mean,
and by import, which also wants to know where each stands.

It follows xl's own scanner (tools/libs/util/libxlu_cfg_l.l and _y.y), down to its surprises: a file whose last line is
a comment needs a newline at its end, Windows line ends are refused, a key given twice has its last value.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache

from reconciler.expressions import expression
from reconciler.model.parts import in_quotes
from reconciler.records import dataclass

TEXT_MAX = 256 * 1024  # characters; real files have a few thousand, so this bounds time and memory
_DEPTH_MAX = 200  # lists in lists; xl's own keys need two, and it reads any number
_ERRORS_MAX = 20  # that are told of one text


class Number(str):
    """A bare number. xl keeps its text too, so `name = 007` is the name "007"."""

    __slots__ = ()


Value = str | tuple["Value", ...]
"""A string, a `Number`, or a list of values."""


Loc = tuple[str | int, ...]
"""The place of a value: its key, and in lists the indices that lead to it."""


class XlCfgError(ValueError):
    """Reports a text that xl cannot read. Line and column count from 1; in `hint`, FILE stands for the file's path."""

    def __init__(self, line: int, column: int, message: str, hint: str | None = None) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class CfgText:
    """What a text says, and where. Of a text with errors it has what could be read all the same."""

    text: str
    values: dict[str, Value] = field(default_factory=dict)
    places: dict[Loc, int] = field(default_factory=dict)  # offset of each value; of a key, of its last assignment
    overruled: list[tuple[str, int]] = field(default_factory=list)  # assignments that a later one undoes
    comments: dict[str, list[str]] = field(default_factory=dict)  # by the key that they stand before, behind or within
    errors: list[XlCfgError] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)  # offsets of the line breaks, once they were asked for

    def line_and_column(self, at: int) -> tuple[int, int]:
        """Count line and column of an offset, both from 1."""
        if not self._ends:
            self._ends = [match.start() for match in _LINE_BREAK.finditer(self.text)] or [len(self.text)]
        before = bisect_left(self._ends, at)
        return before + 1, at - (self._ends[before - 1] if before else -1)

    def offset(self, loc: Loc) -> int | None:
        """Return where a value stands, or else what is around it; None for what the text does not have."""
        return next((self.places[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in self.places), None)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # NAME, NUMBER, STRING, ADD, NEWLINE, END or the character itself
    text: str
    at: int  # offset in the text


_TOKEN = expression(
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
_CODE = "if|else|elif|import|from|def|for|while|try|print"
_STATEMENT = expression(  # with a margin, a line may also be the middle of something
    rf"^(?:[a-z]|[ \t]+(?:[a-z][.\w]*[ \t]*\+?=(?!=)|(?:{_CODE})\b))", re.MULTILINE | re.IGNORECASE
)
_LINE_BREAK = expression("\n")
_ESCAPE = expression(r"\\(.)", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_ESCAPED_BYTE = expression(r"[\udc80-\udcff]")  # by surrogateescape
_UNPRINTABLE = expression(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def parse_cfg(text: str) -> Mapping[str, Value]:
    r"""Parse a config file into its values by key. Raises XlCfgError and nothing else, whatever the text.

    >>> parse_cfg("name = 'web'\nmemory = 512\nvif = ['bridge=br0',]\n")
    {'name': 'web', 'memory': '512', 'vif': ('bridge=br0',)}
    """
    found = read_cfg(text, errors_max=1)
    if found.errors:
        raise found.errors[0]
    return found.values


def read_cfg(text: str, errors_max: int = _ERRORS_MAX) -> CfgText:
    r"""Read a config file with all errors in it, up to a bound, and with the places and comments of its keys.

    >>> found = read_cfg("Name = 'web'\nmemory = 512 # MiB\n")
    >>> [str(error) for error in found.errors]
    ["line 1, column 1: 'N' has no place here."]
    >>> found.values, found.comments, found.line_and_column(found.places["memory",])
    ({'memory': '512'}, {'memory': ['# MiB']}, (2, 10))
    """
    if len(text) > TEXT_MAX:
        message = f"This is longer than {TEXT_MAX} characters, so it is taken for no config file."
        return CfgText(text, errors=[XlCfgError(1, 1, message)])
    told: list[XlCfgError] = []
    if text.startswith(_ORDER_MARK):
        told.append(XlCfgError(1, 1, *_OF_ORDER_MARK))
        text = f" {text[1:]}"
    found = CfgText(text)
    _Parser(found).parse(errors_max)
    windows = next((error for error in found.errors if error.message == _OF_RETURNS[0]), None)
    if windows is not None and errors_max > 1 and "\r\n" in text:
        told.append(windows)
        found = CfgText(text.replace("\r\n", "\n"))  # all are told as one, and lines and columns stay the same
        _Parser(found).parse(errors_max)
    found.errors[:0] = told
    return found


def read_plain(text: str) -> dict[str, Value] | None:
    r"""Read a text as plain as those that we write, a line at a time; None where it is not, so `read_cfg` has to.

    >>> read_plain('name = "web"\nmemory = 512\nvif = [\n    "bridge=br0",\n]\n')
    {'name': 'web', 'memory': '512', 'vif': ('bridge=br0',)}
    >>> read_plain("name = 'web' # in single quotes\n")
    """
    atoms: dict[str, Value] = {}
    lists: dict[str, Value] = {}
    at, end = 0, len(text)
    while at < end:
        found = _PLAIN.match(text, at)
        if found is None:
            return None
        key, string, number, items = found.groups()
        if key in atoms or key in lists:
            return None
        if items is not None:
            lists[key] = tuple(_PLAIN_ITEM.findall(items))
        else:
            atoms[key] = Number(number) if string is None else string
        at = found.end()
    return atoms | lists


_PLAIN = expression(  # strings without escapes, and lists of such, one on each line
    r'([a-z][._0-9a-z]*) = (?:"([^"\\\n]*)"|([0-9]+)|\[\n((?:    "[^"\\\n]*",\n)*)\])\n'
)
_PLAIN_ITEM = expression(r'"([^"\\\n]*)",\n')


def quote(text: str) -> str:
    """Write a string as xl.cfg has it. Raises ValueError for characters that no domain definition has a use for."""
    if found := _UNPRINTABLE.search(text):
        raise ValueError(
            f"{text[:40]!r} has the character {found[0]!r}, which a config file of xl cannot carry safely."
        )
    return in_quotes(text)


def as_latin1(text: str) -> str:
    r"""Read bytes that are no UTF-8, which surrogates stand for, as Latin-1: the texts of old files are that, mostly.

    >>> as_latin1("f\udcfcr")
    'für'
    """
    return _ESCAPED_BYTE.sub(lambda found: chr(ord(found[0]) - 0xDC00), text)


@lru_cache(maxsize=4096)
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

    def __init__(self, found: CfgText) -> None:
        self._text = found.text
        self._found = found
        self._at = 0
        self._token = _Token("NEWLINE", "", 0)
        self._comments: list[str] = []  # since the last assignment
        self._atoms: dict[str, str] = {}
        self._lists: dict[str, list[Value]] = {}

    def parse(self, errors_max: int) -> None:
        """Read all assignments. After an error, reading goes on where a line begins with a word."""
        begin: int | None = 0
        while begin is not None:
            self._at = begin
            try:
                self._advance()
                self._statements()
                break
            except XlCfgError as error:
                self._found.errors.append(error)
                last = self._token  # where a list is not closed, it is the next key
                at = last.at if last.kind == "NAME" else last.at + 1
                again = _STATEMENT.search(self._text, max(at, begin + 1))
                begin = again.start() if again is not None and len(self._found.errors) < errors_max else None
        self._found.values |= {**self._atoms, **{key: tuple(values) for key, values in self._lists.items()}}
        if self._comments:
            self._found.comments[""] = self._comments

    def _statements(self) -> None:
        while self._token.kind != "END":
            if self._token.kind in ("NEWLINE", ";"):
                self._advance()
                continue
            key = self._assignment()
            if self._token.kind not in ("NEWLINE", ";", "END"):
                raise self._error(self._token, "Here a new line or `;` is expected.", self._of_second_string())
            if self._comments:  # the one on the same line is among them already
                self._found.comments.setdefault(key, []).extend(self._comments)
                self._comments = []

    def _assignment(self) -> str:
        name = self._take("NAME", "Here a key is expected, such as `memory`; keys are in lower case.")
        key = name.text
        operator = self._token
        if operator.kind not in ("=", "ADD"):
            hint = _NO_CODE if key in _PYTHON else None
            raise self._error(operator, f"After `{key}` an `=` is expected.", hint)
        self._advance()
        adds = operator.kind == "ADD" and (key in self._atoms or key in self._lists)
        behind = len(self._lists.get(key, ())) if adds else 0
        there = self._found.places.get((key,))
        place = self._token
        value = self._value((key,), depth=0, behind=behind)
        if adds:
            self._add(name, value)
            return key
        if there is not None:
            self._found.overruled.append((key, there))
        self._found.places[key,] = place.at
        self._atoms.pop(key, None)
        self._lists.pop(key, None)
        if isinstance(value, str):
            self._atoms[key] = value
        else:
            self._lists[key] = list(value)
        return key

    def _add(self, name: _Token, value: Value) -> None:
        key = name.text
        if isinstance(value, tuple) and key in self._lists:
            self._lists[key].extend(value)  # in place, so that a file of nothing but `+=` stays cheap
        elif isinstance(value, str) and key in self._atoms:
            if isinstance(value, Number) or isinstance(self._atoms[key], Number):
                raise self._error(name, f"xl cannot use `+=` with numbers: write `{key}` once.")
            self._atoms[key] += value
        else:
            raise self._error(name, f"`{key} +=` adds a list to a string or a string to a list.")

    def _value(self, loc: Loc, depth: int, behind: int = 0) -> Value:
        """Read a value. `behind` counts the items that a list has already."""
        token = self._token
        if token.kind == "STRING":
            self._advance()
            return self._unquoted(token)
        if token.kind == "NUMBER":
            self._advance()
            return Number(token.text)
        if token.kind != "[":
            hint = {"NAME": _no_name(token.text), "END": "Is a list not closed? It ends with `]`."}.get(token.kind)
            raise self._error(token, "Here a value is expected: a number, a quoted string or a list in `[ ]`.", hint)
        if depth == _DEPTH_MAX:
            raise self._error(token, f"Lists are nested more than {_DEPTH_MAX} deep.")
        self._advance()
        return self._list(loc, depth, behind)

    def _list(self, loc: Loc, depth: int, behind: int) -> tuple[Value, ...]:
        values: list[Value] = []
        self._skip_newlines()
        while self._token.kind != "]":
            place: Loc = (*loc, behind + len(values))
            self._found.places[place] = self._token.at
            values.append(self._value(place, depth + 1))
            self._skip_newlines()
            if self._token.kind != ",":
                break
            self._advance()
            self._skip_newlines()
        hint = self._of_second_string()
        self._take("]", "Here the list should go on with `,` or end with `]`.", hint)
        return tuple(values)

    def _of_second_string(self) -> str | None:
        """Say what to do where a second string follows the first one at once."""
        if self._token.kind != "STRING":
            return None
        mark = self._text[self._token.at]
        return _ONE_LINE if self._text.endswith(mark * 2, 0, self._token.at) else _SIDE_BY_SIDE

    def _unquoted(self, token: _Token) -> str:
        def unescape(match: re.Match[str]) -> str:
            if (found := _ESCAPED.get(match[1])) is not None:
                return found
            # xl refuses \x41 and drops \101 without a word, so neither can have been meant
            message = f"The escape `{match[0]}` in this string is not one that xl understands."
            raise self._error(token, message, r"Write the character itself; a backslash is written \\.")

        return _ESCAPE.sub(unescape, token.text[1:-1])

    def _skip_newlines(self) -> None:
        while self._token.kind == "NEWLINE":
            self._advance()

    def _take(self, kind: str, message: str, hint: str | None = None) -> _Token:
        token = self._token
        if token.kind != kind:
            raise self._error(token, message, hint)
        self._advance()
        return token

    def _advance(self) -> None:
        """Read the next token. Comments are put aside."""
        match = _TOKEN.match(self._text, self._at)
        assert match is not None  # something always matches
        kind = match.lastgroup or ""
        token = _Token(match[kind] if kind == "SIGN" else kind, match[kind], match.start(kind))
        self._at = match.end()
        if kind == "STRAY" and self._at == len(self._text) and token.text.isascii():
            token = _Token("END", "", self._at)  # xl's scanner drops one stray character at the very end
        elif kind == "STRAY":
            self._token = token
            raise self._error(token, *_lexical_message(token, self._text))
        elif token.text.startswith("#"):
            self._comments.append(token.text.rstrip())
        self._token = token

    def _error(self, token: _Token, message: str, hint: str | None = None) -> XlCfgError:
        return XlCfgError(*self._found.line_and_column(token.at), message, hint)


_ORDER_MARK = "\ufeff"
_OF_ORDER_MARK = ("The file begins with a byte order mark, which xl refuses.", r"sed -i '1s/^\xef\xbb\xbf//' FILE")
_OF_RETURNS = ("Windows line ends are refused by xl: keep only the new lines.", r"sed -i 's/\r$//' FILE")
_PYTHON = frozenset({"assert", "class", "def", "del", "exec", "for", "from", "if", "import", "print", "try", "while"})
_NO_MORE = "Take it out: xl reads a list on until its `]`, over any number of lines."
_NO_CODE = 'xm ran config files as Python, xl does not: write the value itself, as in name = "web".'
_ONE_LINE = "xl has no strings in three quotes: write it on one line, between single ones."
_FLAGS = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}
_SIDE_BY_SIDE = "Put a comma between two strings; xl does not join those that stand side by side."


def _lexical_message(token: _Token, text: str) -> tuple[str, str | None]:
    """Say what is wrong with a character that begins no token, and what to write instead."""
    line = text[token.at : text.find("\n", token.at) + 1 or len(text)].rstrip()
    before = text[text.rfind("\n", 0, token.at) + 1 : token.at]
    match token.text:
        case "'" | '"' as mark if before.endswith(mark * 2):
            return "This string does not end on its line.", _ONE_LINE
        case "'" | '"' as mark:
            hint = f"Close it with {mark} on the same line; two strings are joined by KEY += {mark}…{mark}."
            return "This string does not end on its line.", hint
        case "#":
            hint = "echo >> FILE"
            return "A comment on the last line needs a new line after it, else xl refuses the file.", hint
        case "\r":
            return (
                _OF_RETURNS
                if "\r\n" in text
                else ("Line ends of old Macs are refused by xl.", r"Convert them: tr '\r' '\n'")
            )
        case "\\" if not line[1:]:
            return "`\\\\` has no place here.", _NO_MORE
        case "<" if not before.strip() and token.at == len(text) - len(text.lstrip()):
            return "This is XML.", "libvirt makes an xl.cfg of it: virsh domxml-to-native xen-xl FILE"
        case "-" if re.fullmatch(r"[ \t]*[a-z]\w*", before):
            return "`-` has no place here.", "Keys are written with `_`, as max_grant_frames."
        case "." if re.search(r"=[ \t]*[0-9]+$", before):
            return "`.` has no place here: xl knows whole numbers alone.", None
        case "-" if number := re.match(r"-[0-9]+", line):
            message = "`-` has no place here; config files of xm could hold Python, those of xl cannot."
            return message, f'xl knows no negative numbers; where a key takes one, write it as a string: "{number[0]}".'
        case "(" | ")" | ":" | "+" | "-" | "." | "%" | "{" | "}" | "*" | "/" as sign:
            return f"`{sign}` has no place here; config files of xm could hold Python, those of xl cannot.", _NO_CODE
        case _:
            return f"{as_latin1(token.text)!r} has no place here.", _instead_of(line, before)


def _no_name(word: str) -> str:
    """Say what to write instead of a word where a value is expected."""
    return f"Write {_FLAGS[word]} for {word}." if word in _FLAGS else _NO_CODE


def _instead_of(line: str, before: str) -> str | None:
    """Say what to write instead of a word that is none."""
    word = re.match(r"\w*", line)
    match word[0] if word is not None else "":
        case "True":
            return "Write 1 for True."
        case "False":
            return "Write 0 for False."
        case "None":
            return "Leave the key out."
        case "M" | "MB" | "MiB" if re.search(r"[0-9]$", before):
            return "Write the number alone: xl counts MiB."
        case key if not before.strip() and re.match(r"\w+[ \t]*\+?=", line):
            return f"Keys are in lower case: {key.lower()}."
        case "" if line[:1] in "\u2018\u2019\u201a\u201c\u201d\u201e":
            return 'Write plain quotes: ".'
        case "" if line[:1].isspace() or not line:
            return "Write a plain blank."
        case bare if bare and before.strip():
            return f'Put a string in quotes: "{bare[:40]}".'
        case _:
            return None
