"""The reference pages of the keys are what their tables say. After a change of a table, run this with
RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.inspect.explain import (
    HOST_TABLES,
    PCI_TABLES,
    TABLES,
    TREE_TABLES,
    default_in,
    default_of,
    spelling_of,
    value_in,
    value_of,
    with_schema,
)
from reconciler.model.key_row import Key, Takes
from reconciler.specs.schema import MODELS, SpecKind, schema
from reconciler.specs.schema_errors import validate
from reconciler.specs.setting_keys import Setting
from reconciler.specs.toml import parse_toml
from tests.transcript import UPDATE

FOLDER = Path(__file__).parents[2] / "docs/reference"

_HEAD = """\
# Keys of a domain spec

A domain's own file, a profile, and the `[defaults]` of reconciler.toml have these keys. They are named as in xl.cfg(5).
For editors, `reconciler schema` prints the same as JSON Schema.

- A *size* is an integer number of MiB, or a string such as `"512MiB"` or `"2GiB"`.
- A *duration* is a string such as `"90s"`, `"2m"`, `"1h"` or `"500ms"`.
- *live*: a running domain is changed as it runs. *restart*: it goes down and comes back.
- *kept*: it is written down on the host with the domain, so it holds after the spec file is gone.

This page is made from `reconciler/model/keys.py` and `reconciler/specs/setting_keys.py`.
"""
_HEAD_OF_HOST = """\
# Keys of host.toml

One file a host, in the folder that has the host's name. For editors, `reconciler schema host` prints the same as JSON
Schema.

- A *size* is an integer number of MiB, or a string such as `"512MiB"` or `"2GiB"`.
- A *duration* is a string such as `"90s"`, `"2m"`, `"1h"` or `"500ms"`.

This page is made from `reconciler/specs/setting_keys.py`.
"""
_HEAD_OF_TREE = """\
# Keys of reconciler.toml

Settings of the whole tree, at its root. For editors, `reconciler schema tree` prints the same as JSON Schema. What
`[defaults]` may have is on the page of [the keys of a domain spec](domain.md).

This page is made from `reconciler/specs/setting_keys.py`.
"""


def page() -> str:
    sections = [_HEAD]
    for prefix, table, keys in TABLES:
        sections += [f"## Keys of `{table}`\n"] if table else []
        sections += _sections(keys, prefix, "###" if table else "##")
    sections += _sections_of_settings("domain", PCI_TABLES)
    return "\n".join(sections)


def _sections_of_settings(kind: SpecKind, tables: Iterable[tuple[str, str, tuple[Setting, ...]]]) -> Iterator[str]:
    for prefix, table, rows in tables:
        if table:
            yield f"## Keys of `{table}`\n"
        for row, of_key, is_required in with_schema(kind, table, rows):
            example = f"\n```toml\n{row.example}\n```\n" if row.example else ""
            default = default_in(row, of_key)
            left_out = "It may be left out" if default is None else f"Left out: {default}"
            facts = f"- Value: {row.value or value_in(of_key)}. {'Required' if is_required else left_out}.\n"
            facts += f"- Since {row.since}.\n"
            yield f"{'###' if table else '##'} `{prefix}{row.name}`\n\n{row.doc}\n{example}\n{facts}"


def _sections(keys: Iterable[Key[Any]], prefix: str, level: str) -> Iterator[str]:
    for key in keys:
        if key.in_spec:
            example = f"\n```toml\n{key.example}\n```\n" if key.example else ""
            facts = "".join(f"- {fact}\n" for fact in _facts(key))
            yield f"{level} `{prefix}{key.name}`\n\n{key.doc}\n{example}\n{facts}"


def _facts(key: Key[Any]) -> Iterator[str]:
    default = default_of(key)
    left_out = "It may be left out" if default is None else f"Left out: {default}"
    yield f"Value: {value_of(key.kind)}. {left_out}."
    if key.takes is not Takes.NOTHING:
        yield f"To change it: {key.takes.value}."
    if key.needs:
        yield f"Needs {' or '.join(f'`{other}`' for other in key.needs)}."
    if key.allowed_by:
        yield f"host.toml has to allow it, in `[allow] {key.allowed_by}`."
    if key.kept:
        yield "Kept."
    if key.in_cfg:
        yield f"A key of xl.cfg{spelling_of(key)}."
    if key.listed:
        yield f"`xl list -l` shows it as `{'.'.join(key.listed)}`."
    yield f"Since {key.since}."


PAGES = {
    "domain.md": page(),
    "host.md": "\n".join([_HEAD_OF_HOST, *_sections_of_settings("host", HOST_TABLES)]),
    "reconciler.md": "\n".join([_HEAD_OF_TREE, *_sections_of_settings("tree", TREE_TABLES)]),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_says_what_the_table_says(name: str) -> None:
    if UPDATE:
        (FOLDER / name).write_text(PAGES[name])
    assert (FOLDER / name).read_text() == PAGES[name]


@pytest.mark.parametrize("kind", MODELS)
def test_each_key_in_a_json_schema_has_a_description_and_no_default_that_a_file_cannot_say(kind: SpecKind) -> None:
    for of_key in _properties(schema(kind)):
        assert len(of_key["description"]) > 10
        assert not isinstance(default := of_key.get("default"), float) and not (isinstance(default, dict) and default)
        assert (
            of_key.get("default") in (None, "") or of_key.get("type") != "string" or isinstance(of_key["default"], str)
        )


def _properties(part: Any) -> Iterator[dict[str, Any]]:
    match part:
        case {"properties": properties}:
            yield from properties.values()
    for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _properties(item)


@pytest.mark.parametrize(("kind", "tables"), [("host", HOST_TABLES), ("tree", TREE_TABLES)])
def test_the_table_has_each_key_once_and_every_example_is_taken(
    kind: SpecKind, tables: tuple[tuple[str, str, tuple[Setting, ...]], ...]
) -> None:
    for _prefix, table, rows in tables:
        text = "\n".join(row.example for row in rows)
        if not table:
            assert {row.name for row in rows} == set(schema(kind)["properties"])
        needed = 'toolstack = "xl"\n' if kind == "host" and table else ""
        _, complaints = validate(MODELS[kind], parse_toml(f"{needed}{table}\n{text}"))
        assert [complaint.detail for complaint in complaints] == []
