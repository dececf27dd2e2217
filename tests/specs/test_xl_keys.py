"""Which keys of `[xl]` need no allowance, and the page that says why.

After a change of them, run this with RECONCILER_UPDATE_CASES=1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reconciler.specs.resolve.host import check_allowed, resolve_host
from reconciler.specs.resolve.xl_keys import HARMLESS, HARMLESS_BY_SUBJECT, REACHES
from reconciler.specs.schema import DomainSpec
from tests.transcript import UPDATE

PAGE = Path(__file__).parents[2] / "docs/reference/xl-keys.md"

_HEAD = """\
# Keys under `[xl]`

Any key of xl.cfg(5) that is no key of a spec itself can stand under `[xl]`, and is passed on as it is. A key that can
name no file, program or device of the dom0, and that gives the domain no rights that others lack, needs no allowance:
what is wrong with it hurts this domain alone. All others stand in `[allow] xl_keys` of host.toml, those that no xl
knows, too.

`vncpasswd_file` and `spicepasswd_file` are no keys of xl: each names a file of the host, whose first line becomes
`vncpasswd` or `spicepasswd` in the config file there ([how](../guests.md#passwords)).

This page is made from `reconciler/specs/resolve/xl_keys.py`.
"""


def page() -> str:
    return "\n".join([_HEAD, *_harmless(), *_others()]) + "\n"


def _harmless() -> Iterator[str]:
    yield "## Without an allowance\n"
    for subject, keys in HARMLESS_BY_SUBJECT.items():
        yield f"{subject}: {', '.join(f'`{key}`' for key in keys)}.\n"


def _others() -> Iterator[str]:
    yield "## With an allowance\n\n| key | reaches |\n|---|---|"
    for key, reason in REACHES.items():
        yield f"| `{key}` | {reason} |"


def test_the_page_says_what_the_table_says() -> None:
    if UPDATE:
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


def test_no_key_is_both() -> None:
    assert set(REACHES) & HARMLESS == set()
    assert list(REACHES) == sorted(REACHES)


def test_only_what_reaches_the_dom0_has_to_be_allowed() -> None:
    host, _ = resolve_host("alpha", {"toolstack": "xl"})
    assert host is not None
    xl = {
        "acpi": 1,
        "vnc": 1,
        "keymap": "de",
        "boot": "dc",
        "serial": "/dev/ttyS0",
        "device_model_override": "/x",
        "x": 1,
    }
    spec = DomainSpec.model_validate({"kernel": "k", "memory": 64, "xl": xl})
    refused = [complaint.loc[-1] for complaint in check_allowed(spec, host)]
    assert refused == ["serial", "device_model_override", "x"]
