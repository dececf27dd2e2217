"""The list of domains that NetBSD's xendomains starts, and Debian's links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.dom0.autostart import UNNUMBERED, read_links, read_list, write_list
from reconciler.dom0.layout import Dom0

DEBIAN = Dom0(flavour="debian", config_dir="/etc/xen", kernel_dir="/var/lib/xen/kernels")


def test_links_name_a_domain_by_the_config_file_they_lead_to() -> None:
    lines = [
        "010-web\t/etc/xen/web.cfg",
        "020-db\t../db.cfg",
        "hand.cfg\t../mail.cfg",
        "030-web\t/etc/xen/web.cfg",
        "040-foreign\t/srv/foreign.cfg",
        "050-copy\t/etc/xen/scripts/x",
    ]
    assert read_links(lines, DEBIAN) == {"web": 10, "db": 20, "mail": UNNUMBERED}


@pytest.mark.parametrize(
    ("before", "order", "after"),
    [
        ("", 10, 'xendomains="web" # reconciler: web=10\n'),
        ('a=1\nxendomains="foo bar"\nb=2\n', 10, 'a=1\nxendomains="web foo bar" # reconciler: web=10\nb=2\n'),
        ("xendomains='db'  # reconciler: db=5\n", 10, 'xendomains="db web" # reconciler: db=5 web=10\n'),
        ("xendomains=db\n", None, 'xendomains="db"\n'),
        ('xendomains="web db" # reconciler: web=10 db=20\n', None, 'xendomains="db" # reconciler: db=20\n'),
        ('xendomains="web" # reconciler: web=10\n', 10, 'xendomains="web" # reconciler: web=10\n'),
        ("# xendomains=\nsshd=YES\n", None, "# xendomains=\nsshd=YES\n"),
    ],
)
def test_only_our_name_moves_in_the_list(before: str, order: int | None, after: str) -> None:
    assert write_list(before, "web", order) == after


@pytest.mark.parametrize(
    "text",
    [
        'xendomains="$(ls)"\n',
        'xendomains="a"; xendomains="b"\n',
        'xendomains="a\nb"\n',
        'xendomains=a\nxendomains+=" b"\n',
    ],
)
def test_a_list_in_another_form_is_reported_and_left_alone(text: str) -> None:
    assert read_list(text) is None
    with pytest.raises(ValueError, match=r"xendomains|plain list"):
        write_list(text, "web", 10)


def test_of_two_lists_the_last_one_counts_as_for_sh() -> None:
    text = 'xendomains=YES\nsshd=YES\nxendomains="foo bar"\n'
    assert read_list(text) == {"foo": UNNUMBERED, "bar": UNNUMBERED}
    after = 'xendomains=YES\nsshd=YES\nxendomains="web foo bar" # reconciler: web=10\n'
    assert write_list(text, "web", 10) == after


names = st.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True)


@given(st.dictionaries(names, st.integers(0, 999), max_size=6), names, st.one_of(st.none(), st.integers(0, 999)))
def test_what_is_written_is_read_back(others: dict[str, int], name: str, order: int | None) -> None:
    text = "sshd=YES\n"
    for other, number in others.items():
        text = write_list(text, other, number)
    text = write_list(text, name, order)
    expected = {other: number for other, number in others.items() if other != name}
    if order is not None:
        expected[name] = order
    read = read_list(text) or {}
    assert read == expected
    assert [read[one] for one in read] == sorted(read.values())
    assert text.startswith("sshd=YES\n")
