"""Turns the path of keys of a problem into its line, column and length in the TOML file.

Built only for a file that has a problem, so reading a tree without problems never pays for it. Called by tree.
"""

from __future__ import annotations

import contextlib
import functools

import tree_sitter
import tree_sitter_toml
from tree_sitter import Node

from reconciler.model.diagnostics import Source
from reconciler.records import dataclass
from reconciler.specs.files import line_shown
from reconciler.specs.schema_errors import Loc
from reconciler.specs.toml import TomlError, parse_toml

DEPTH_MAX = 16  # specs nest three deep; what lies deeper has its position from the table around it


@dataclass(frozen=True, slots=True)
class Span:
    """Rows and columns as tree-sitter counts them: from 0, columns in bytes."""

    row: int
    column: int
    end_row: int
    end_column: int


class Positions:
    """The places of all keys and values of one file."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines = text.split("\n")
        self._keys: dict[Loc, Span] = {}
        self._values: dict[Loc, Span] = {}
        self._array_lengths: dict[Loc, int] = {}
        self._read_document(_parser().parse(text.encode()).root_node)

    def source(self, loc: Loc, *, at_key: bool = False) -> Source:
        """Find the place of a key or its value; of the nearest table around it when it is missing."""
        for end in range(len(loc), 0, -1):
            part = loc[:end]
            # what is missing shows where it should be: at the header of its table
            first, second = (self._keys, self._values) if at_key or end < len(loc) else (self._values, self._keys)
            span = first.get(part) or second.get(part)
            if span is not None:
                return self._source_of(span)
        return Source(path=self._path, text=line_shown(self._lines[0].rstrip("\r")))

    def _source_of(self, span: Span) -> Source:
        line = self._lines[span.row].rstrip("\r")
        before = line.encode()[: span.column].decode(errors="replace")
        within = line.encode()[span.column : span.end_column if span.end_row == span.row else None]
        length = max(1, len(within.decode(errors="replace").rstrip()))
        return Source(path=self._path, line=span.row + 1, column=len(before) + 1, text=line_shown(line), length=length)

    def _read_document(self, document: Node) -> None:
        for node in document.named_children:
            match node.type:
                case "pair":
                    self._read_pair(node, ())
                case "table" | "table_array_element":
                    self._read_table(node)

    def _read_table(self, node: Node) -> None:
        parts = [child for child in node.named_children if child.type != "comment"]
        if not parts:
            return
        header, *pairs = parts
        loc = self._resolve_header(tuple(_key_parts(header)), is_element=node.type == "table_array_element")
        self._keys.setdefault(loc, _span(header))
        for pair in pairs:
            if pair.type == "pair":
                self._read_pair(pair, loc)

    def _resolve_header(self, names: tuple[str, ...], *, is_element: bool) -> Loc:
        """Resolve a header: `[[disk]]` is the next element of disk, and `[disk.x]` lies in the last one."""
        loc: Loc = ()
        for position, name in enumerate(names):
            loc = (*loc, name)
            if is_element and position == len(names) - 1:
                self._array_lengths[loc] = self._array_lengths.get(loc, 0) + 1
            if loc in self._array_lengths:
                loc = (*loc, self._array_lengths[loc] - 1)
        return loc

    def _read_pair(self, pair: Node, table: Loc) -> None:
        parts = [child for child in pair.named_children if child.type != "comment"]
        if len(parts) != 2:
            return
        key, value = parts
        loc = (*table, *_key_parts(key))
        self._keys.setdefault(loc, _span(key))
        self._read_value(value, loc)

    def _read_value(self, value: Node, loc: Loc) -> None:
        self._values.setdefault(loc, _span(value))
        if len(loc) >= DEPTH_MAX:
            return
        if value.type == "array":
            elements = [child for child in value.named_children if child.type != "comment"]
            for index, element in enumerate(elements):
                self._read_value(element, (*loc, index))
        elif value.type == "inline_table":
            for pair in value.named_children:
                if pair.type == "pair":
                    self._read_pair(pair, loc)


def _span(node: Node) -> Span:
    (row, column), (end_row, end_column) = node.start_point, node.end_point
    return Span(row, column, end_row, end_column)


def _key_parts(node: Node) -> list[str]:
    """List the names in `a.b."c d"`, which the parser nests to the left, as many as positions are kept for."""
    names: list[str] = []
    pending = [node]
    while pending and len(names) < DEPTH_MAX:
        part = pending.pop()
        if part.type == "dotted_key":
            pending.extend(reversed(part.named_children))
        else:
            names.append(_key_name(part))
    return names


def _key_name(node: Node) -> str:
    text = (node.text or b"").decode(errors="replace")
    if node.type == "quoted_key":
        with contextlib.suppress(TomlError):
            return next(iter(parse_toml(f"{text} = 0")))
    return text


@functools.cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
