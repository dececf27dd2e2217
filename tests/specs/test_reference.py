"""The reference page of the keys is what their table says. After a change of the table, run this with
RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reconciler.inspect.explain import TABLES, default_of, spelling_of, value_of
from reconciler.model.key_row import Key, Takes
from tests.transcript import UPDATE

PAGE = Path(__file__).parents[2] / "docs/reference/domain.md"

_HEAD = """\
# Keys of a domain spec

A domain's own file, a profile, and the `[defaults]` of reconciler.toml have these keys. They are named as in xl.cfg(5).
For editors, `reconciler schema` prints the same as JSON Schema.

- A *size* is an integer number of MiB, or a string such as `"512MiB"` or `"2GiB"`.
- A *duration* is a string such as `"90s"`, `"2m"`, `"1h"` or `"500ms"`.
- *live*: a running domain is changed as it runs. *restart*: it goes down and comes back.
- *kept*: it is written down on the host with the domain, so it holds after the spec file is gone.

This page is made from `reconciler/model/keys.py`.
"""


def page() -> str:
    sections = [_HEAD]
    for prefix, table, keys in TABLES:
        sections += [f"## Keys of `{table}`\n"] if table else []
        sections += _sections(keys, prefix, "###" if table else "##")
    return "\n".join(sections)


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
        yield f"Needs `{key.needs}`."
    if key.allowed_by:
        yield f"host.toml has to allow it, in `[allow] {key.allowed_by}`."
    if key.kept:
        yield "Kept."
    if key.in_cfg:
        yield f"A key of xl.cfg{spelling_of(key)}."
    if key.listed:
        yield f"`xl list -l` shows it as `{'.'.join(key.listed)}`."
    yield f"Since {key.since}."


def test_the_page_says_what_the_table_says() -> None:
    if UPDATE:
        PAGE.write_text(page())
    assert PAGE.read_text() == page()
