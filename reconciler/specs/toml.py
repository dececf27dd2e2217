"""One way to parse TOML: the fast parser where it is installed, the standard library's elsewhere. Called by tree.

Both read TOML 1.0. Errors are told apart from crashes here: a text that nests too deeply would overflow the stack of
one parser and the recursion limit of the other, so it is refused before either sees it.
"""

from __future__ import annotations

from typing import Any

from reconciler.expressions import expression

try:
    import toml_rs
except ImportError:  # no wheel for this platform
    toml_rs = None  # type: ignore[assignment]  # the one place that asks
import tomllib

BRACKETS_MAX = 1000
LINE_MAX_CHARACTERS = 16384  # a dotted key nests as deep as it has parts, and cannot be longer than its line
_POSITION = expression(r"line (?P<line>\d+), column (?P<column>\d+)")


class TomlError(Exception):
    """An error in a TOML text with its place: line and column count from 1, columns in characters."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def parse_toml(text: str) -> dict[str, Any]:
    """Parse the tables of a TOML text; raises TomlError."""
    if text.count("[") + text.count("{") > BRACKETS_MAX:
        raise TomlError(f"The file has more than {BRACKETS_MAX} brackets.", 1, 1)
    if len(text) > LINE_MAX_CHARACTERS:
        for number, line in enumerate(text.split("\n"), start=1):
            if len(line) > LINE_MAX_CHARACTERS:
                raise TomlError(f"The line is longer than {LINE_MAX_CHARACTERS} characters.", number, 1)
    try:
        return tomllib.loads(text) if toml_rs is None else toml_rs.loads(text, toml_version="1.0.0")
    except RecursionError:
        raise TomlError("The file nests tables or arrays too deeply.", 1, 1) from None
    except ValueError as error:  # both parsers' own error is one, and so is what int() says of too many digits
        raise _toml_error(str(error), text) from error


def _toml_error(message: str, text: str) -> TomlError:
    """Read line and column out of a parser's message, and leave the sentence.

    tomllib says "Invalid value (at line 2, column 5)" or "(at end of document)"; toml_rs begins with the position,
    then shows the line with a caret, then says what is wrong.
    """
    position = _POSITION.search(message)
    sentence = message.rpartition("^\n")[2] if "^\n" in message else message.partition(" (at ")[0]
    sentence = sentence.replace("\n", ", ").strip().rstrip(".")
    if position is not None:
        return TomlError(sentence[:1].upper() + sentence[1:] + ".", int(position["line"]), int(position["column"]))
    lines = text.split("\n")
    return TomlError(sentence[:1].upper() + sentence[1:] + ".", len(lines), len(lines[-1]) + 1)
