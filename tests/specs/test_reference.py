"""The reference page of the keys is what their table says. After a change of the table, run this with
RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reconciler.model.key_row import Choice, Key, Kind, Takes, Whole
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, READY_KEYS, VIF_KEYS
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
_KINDS = {
    Kind.ORDER: "`true`, `false`, or an integer from 0 to 999",
    Kind.SECONDS: "a number of seconds",
    Kind.FLAG: "`true` or `false`",
}
_SPELLED = {
    Kind.SIZE: "in MiB",
    Kind.FLAG: "as 1 or 0",
}


def page() -> str:
    sections = [_HEAD, *_sections(DOMAIN_KEYS, "", "##")]
    for title, table, keys in (
        ("disk", "[[disk]]", DISK_KEYS),
        ("vif", "[[vif]]", VIF_KEYS),
        ("ready", "[ready]", READY_KEYS),
    ):
        sections += [f"## Keys of `{table}`\n", *_sections(keys, f"{title}.", "###")]
    return "\n".join(sections)


def _sections(keys: Iterable[Key[Any]], prefix: str, level: str) -> Iterator[str]:
    for key in keys:
        if key.in_spec:
            example = f"\n```toml\n{key.example}\n```\n" if key.example else ""
            facts = "".join(f"- {fact}\n" for fact in _facts(key))
            yield f"{level} `{prefix}{key.name}`\n\n{key.doc}\n{example}\n{facts}"


def _facts(key: Key[Any]) -> Iterator[str]:
    yield f"Value: {_value(key.kind)}. {_left_out(key)}"
    if key.takes is not Takes.NOTHING:
        yield f"To change it: {key.takes.value}."
    if key.needs:
        yield f"Needs `{key.needs}`."
    if key.allowed_by:
        yield f"host.toml has to allow it, in `[allow] {key.allowed_by}`."
    if key.kept:
        yield "Kept."
    if key.in_cfg:
        spelled = _SPELLED.get(key.kind) if isinstance(key.kind, Kind) else None
        yield f"A key of xl.cfg{f', {spelled}' if spelled else ''}."
    if key.listed:
        yield f"`xl list -l` shows it as `{'.'.join(key.listed)}`."
    yield f"Since {key.since}."


def _value(kind: Kind | Whole | Choice) -> str:
    match kind:
        case Whole():
            return f"an integer from {kind.least} to {kind.most}"
        case Choice():
            return ", ".join(f"`{word}`" for word in kind.words)
        case _:
            article = "an" if kind.value.startswith("array") else "a"
            return _KINDS.get(kind, f"{article} {kind.value}")


def _left_out(key: Key[Any]) -> str:
    if key.floor is not None:
        return f"Left out: as `{key.floor}`."
    meant = key.unset if key.default is None else key.default
    match key.kind, meant:
        case Kind.ORDER, None:
            return "Left out: `false`."
        case _, None | ():
            return "It may be left out."
        case Kind.DURATION, float() as seconds:
            return f'Left out: `"{seconds:g}s"`.'
        case _, bool():
            return f"Left out: `{str(meant).lower()}`."
        case _, int() | float():
            return f"Left out: {meant:g}."
        case _:
            return f"Left out: `{meant}`."


def test_the_page_says_what_the_table_says() -> None:
    if UPDATE:
        PAGE.write_text(page())
    assert PAGE.read_text() == page()
