"""Files found in the wild: what the real xl refuses is refused with its places, and nothing else is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from reconciler.importer.files import FileFound, read_domain_file
from tests.texts.oracle.real_xl import Unavailable, real_xl

_CORPUS = os.environ.get("RECONCILER_CORPUS")


def read(path: Path, text: str) -> FileFound:
    return read_domain_file(text, path.name, path.stem)


@pytest.mark.skipif(_CORPUS is None, reason="RECONCILER_CORPUS names no folder of config files")
def test_what_xl_refuses_is_refused_and_nothing_else() -> None:
    try:
        xl = real_xl()
    except Unavailable as reason:
        pytest.skip(str(reason))
    paths = [path for path in Path(_CORPUS or "").rglob("*") if path.is_file()]
    refused = 0
    for path in sorted(paths):
        if path.suffix != ".cfg" and not path.name.startswith(("xlexample", "xmexample")):
            continue
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        verdict = xl.create(f'name = "{path.stem}"; {text}')  # else it is refused for that alone
        found = read(path, text)
        assert all(problem.source is not None and problem.source.line > 0 for problem in found.problems)
        if "pnode" in verdict.said:  # that depends on the host
            assert any("nodes of the host" in note.detail for note in found.notes)
            continue
        assert (verdict.config is None) == bool(found.problems), (path, verdict.said, found.problems)
        refused += verdict.config is None
    assert refused > 10


def test_what_may_be_missing_only_because_of_another_error_is_not_told() -> None:
    found = read(Path("x.cfg"), "Kernel = '/k'\non_crash = 'x'\n")
    assert [(str(one.source), one.detail.partition(": ")[2][:12]) for one in found.problems] == [
        ("x.cfg:1:1", "'K' has no p"),
        ("x.cfg:2:12", "on_crash is "),
    ]


def test_a_file_of_ours_keeps_what_its_mark_says() -> None:
    from dataclasses import replace

    from reconciler.texts.config_file import render_file
    from tests.texts.test_keys_in_files import BARE

    text = render_file(replace(BARE, prevent_destroy=True), "default", None)
    found = read(Path("web.cfg"), text)
    assert found.domain is not None
    assert found.domain.prevent_destroy
    assert found.comments == {"name": []}


HEAD = 'name = "web"\nkernel = "/k"\nmemory = 64\n'
MANY = 20_000


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "pci = [" + "'zz'," * MANY + "]\n",
        HEAD + 'type = "hvm"\nviridian = [' + "1," * MANY + "]\n",
        HEAD + "disk = [" + "'/,zz'," * MANY + "]\n",
        HEAD + "".join(f"k{at} = 1\n" for at in range(MANY)),
        "a=1\n" * (3 * MANY),
        HEAD + "x = " + "[" * 12 * MANY,
    ],
    ids=["devices", "words", "disks", "unknown keys", "one key again and again", "nested lists"],
)
def test_what_is_wrong_again_and_again_takes_no_time(text: str) -> None:
    """By the clock of the process: this took minutes, since each place was looked for from the beginning."""
    began = time.process_time()
    found = read(Path("web.cfg"), text)
    assert time.process_time() - began < 5
    assert len(found.problems) + len(found.notes) < 450


def test_a_key_that_is_given_often_is_told_once() -> None:
    found = read(Path("web.cfg"), f"{HEAD}memory = 65\n" + "cap = 1\n" * 9)
    assert [note.detail for note in found.notes] == [
        "memory is given twice, and the last time counts: the one in line 3 is left out.",
        "cap is given 9 times, and the last time counts: those in lines 5, 6, 7, 8, 9 … are left out.",
    ]
