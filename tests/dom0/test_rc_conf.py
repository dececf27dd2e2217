"""The list of domains that NetBSD's xendomains starts, in each of the ways in which people write it for sh."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.dom0.autostart import UNNUMBERED
from reconciler.dom0.rc_conf import LISTS, NotUnderstoodError, looks_elsewhere, read_lists, write_lists

RC_CONF, OWN_FILE = LISTS


def as_sh_reads(texts: Mapping[str, str], folder: Path) -> list[str]:
    """What rc.subr's load_rc_config makes of the files: sh reads the one, then the other."""
    files = [folder / path.rpartition("/")[2] for path in LISTS]
    for path, file in zip(LISTS, files, strict=True):
        file.write_text(texts.get(path, ""))
    read = "".join(f". '{file}'\n" for file in files) + "for domain in $xendomains; do echo $domain; done"
    return subprocess.run(["sh", "-c", read], capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.parametrize(
    ("before", "order", "after"),
    [
        ("", 10, 'xendomains="web" # reconciler: web=10\n'),
        ("hostname=dom0", 10, 'hostname=dom0\nxendomains="web" # reconciler: web=10\n'),
        ('a=1\nxendomains="foo bar"\nb=2\n', 10, 'a=1\nxendomains="web foo bar" # reconciler: web=10\nb=2\n'),
        ("xendomains='db'  # reconciler: db=5\n", 10, 'xendomains="db web" # reconciler: db=5 web=10\n'),
        ("xendomains=db\n", 10, 'xendomains="web db" # reconciler: web=10\n'),
        ('xendomains="db";\n', 10, 'xendomains="web db"; # reconciler: web=10\n'),
        ("xendomains=db\n", None, "xendomains=db\n"),
        ('xendomains="web db" # reconciler: web=10 db=20\n', None, 'xendomains="db" # reconciler: db=20\n'),
        ('xendomains="web" # reconciler: web=10\n', 10, 'xendomains="web" # reconciler: web=10\n'),
        ("# xendomains=\nsshd=YES # xendomains\n", None, "# xendomains=\nsshd=YES # xendomains\n"),
        ('xendomains="foo" # keep foo last\n', 10, 'xendomains="web foo" # keep foo last # reconciler: web=10\n'),
        ('xendomains="foo \\\n    bar"\n', 10, 'xendomains="web foo \\\n    bar" # reconciler: web=10\n'),
        ('xendomains="foo\n    bar\n"\n', 10, 'xendomains="web foo\n    bar\n" # reconciler: web=10\n'),
        ('xendomains="foo\n  web\n  bar"\n', None, 'xendomains="foo\n  \n  bar"\n'),
        ('xendomains=YES\nsshd=YES\nxendomains="b"\n', None, 'xendomains=YES\nsshd=YES\nxendomains="b"\n'),
        ('xendomains=YES\nxendomains="b"\n', 1, 'xendomains=YES\nxendomains="web b" # reconciler: web=1\n'),
        (
            'xendomains="db" # reconciler: db=5\nxendomains="$xendomains foo"\n',
            10,
            'xendomains="db" # reconciler: db=5\nxendomains="$xendomains web foo" # reconciler: web=10\n',
        ),
        ('export xendomains="foo"\n', 10, 'export xendomains="web foo" # reconciler: web=10\n'),
    ],
)
def test_only_our_name_moves_in_the_list(before: str, order: int | None, after: str, tmp_path: Path) -> None:
    texts = {RC_CONF: before}
    assert {**texts, **write_lists(texts, "web", order)} == {RC_CONF: after}
    assert list(read_lists({RC_CONF: after})) == as_sh_reads({RC_CONF: after}, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        'xendomains="$(ls)"\n',
        'xendomains="a"; xendomains="b"\n',
        'xendomains=a\nxendomains+=" b"\n',  # no assignment for NetBSD's sh
        'xendomains="foo\\\nbar"\n',  # one name for sh
        'xendomains="a"\nxendomains="${xendomains}b"\n',
        'if checkyesno xen; then\n    xendomains="a"\nfi\n',
        '[ -f /etc/spare ] || xendomains="a"\n',
        ': ${xendomains:="a"}\n',
        'xendomains="a" other="b"\n',
    ],
)
def test_a_list_in_another_form_is_reported_and_left_alone(text: str) -> None:
    for path in LISTS:
        with pytest.raises(NotUnderstoodError, match=r"the line .*xendomains.* is not a plain list") as caught:
            read_lists({path: text})
        assert caught.value.path == path
        with pytest.raises(NotUnderstoodError):
            write_lists({path: text}, "web", 10)


def test_a_file_of_its_own_is_read_after_rc_conf_and_may_add_to_it() -> None:
    texts = {RC_CONF: 'xendomains="web foo"\n', OWN_FILE: 'xendomains="db ${xendomains} bar"\n'}
    assert list(read_lists(texts)) == ["db", "web", "foo", "bar"]
    assert write_lists(texts, "web", None) == {RC_CONF: 'xendomains="foo"\n'}
    texts[OWN_FILE] = 'xendomains="bar"\n'
    assert read_lists(texts) == {"bar": UNNUMBERED}
    assert write_lists(texts, "web", None) == {}
    assert read_lists({**texts, OWN_FILE: "# nothing\n"}) == {"web": UNNUMBERED, "foo": UNNUMBERED}


def test_it_is_known_where_xendomains_looks_for_config_files() -> None:
    assert looks_elsewhere({}, "/usr/pkg/etc/xen") is None
    assert looks_elsewhere({}, "/srv/xen") == "/usr/pkg/etc/xen/%s"
    texts = {RC_CONF: 'xendomains_config="/usr/pkg/etc/xen/%s.cfg"\n'}
    assert looks_elsewhere(texts, "/usr/pkg/etc/xen") == "/usr/pkg/etc/xen/%s.cfg"
    assert looks_elsewhere({**texts, OWN_FILE: "xendomains_config='/srv/xen/%s'\n"}, "/srv/xen") is None


names = st.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True)
blanks = st.sampled_from([" ", "  ", "\t", "\n", " \\\n "])


@st.composite
def lists(draw: st.DrawFn) -> str:
    """A list as sh takes it, of one or two assignments."""
    lines = []
    for number in range(draw(st.integers(1, 2))):
        words = draw(st.lists(names, max_size=4))
        if number:
            words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(["$xendomains", "${xendomains}"])))
        content = draw(blanks).join(words)
        comment = draw(st.sampled_from(["", " # mine", " # reconciler: web=5", "; # mine # reconciler: db=7"]))
        lines.append(f'xendomains="{content}"{comment}\n')
    return draw(st.sampled_from(["", "sshd=YES\n"])) + "\n".join(lines)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(lists(), names, st.one_of(st.none(), st.integers(0, 999)))
def test_sh_reads_what_we_read_and_only_our_name_comes_or_goes(
    tmp_path: Path, text: str, name: str, order: int | None
) -> None:
    before = list(read_lists({RC_CONF: text}))
    assert before == list(dict.fromkeys(as_sh_reads({RC_CONF: text}, tmp_path)))
    after = {RC_CONF: text, **write_lists({RC_CONF: text}, name, order)}
    read = read_lists(after)
    assert list(read) == list(dict.fromkeys(as_sh_reads(after, tmp_path)))
    assert [one for one in read if one != name] == [one for one in before if one != name]
    assert read.get(name) == order


@given(st.dictionaries(names, st.integers(0, 999), max_size=6), names, st.one_of(st.none(), st.integers(0, 999)))
def test_what_is_written_is_read_back(others: dict[str, int], name: str, order: int | None) -> None:
    texts = {RC_CONF: "sshd=YES\n"}
    for other, number in others.items():
        texts.update(write_lists(texts, other, number))
    texts.update(write_lists(texts, name, order))
    expected = {other: number for other, number in others.items() if other != name}
    if order is not None:
        expected[name] = order
    read = read_lists(texts)
    assert read == expected
    assert [read[one] for one in read] == sorted(read.values())
    assert texts[RC_CONF].startswith("sshd=YES\n")
