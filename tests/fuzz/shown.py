"""What guests print and specs say, on its way to a terminal, a page, Markdown, a log of CI, and to a shell."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

from reconciler.apply import ready
from reconciler.dom0.shell import assigned
from reconciler.show import escape, width
from reconciler.specs.patterns import UnusablePatternError, is_in
from reconciler.texts.create_failures import cause_of, hint_of
from reconciler.web.page import page
from tests.fuzz.laws import elements, is_plain, is_tame_markdown
from tests.web.fleet import FakeView, a_document

CONSOLES = (
    "[    0.000000] Linux version 6.1.0\nKernel panic - not syncing: VFS: Unable to mount root fs\n",
    "login: \x1b[1;31mweb\x1b[0m ready\r\nsystemd[1]: Reached target\tMulti-User.\r\n",
    "(a+)+$\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\n",
    "xc: error: panic: xc_dom_boot.c:120: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory\n",
)
VALUES = ("/srv/web.img", "console=hvc0 root=/dev/xvda1 'quiet' \"x\"", "a\nb=$(id)\n")


def check_shown(text: str) -> None:
    """The first line is a pattern as well, as `console` of `[ready]` has one."""
    pattern, _, rest = text.partition("\n")
    _check_pattern(pattern, rest)
    is_plain(escape.plain(text))
    for line in escape.plain_lines(text):
        is_plain(line)
        is_plain(width.fit(line, 40))
    for line in ready._printable(text).splitlines():  # what a verdict quotes
        is_plain(escape.plain(line))
    cause_of(text), hint_of(text)
    is_tame_markdown(f"| {escape.markdown(text)} | {escape.markdown_code(text)} |")
    assert "\n" not in escape.markdown(text) + escape.markdown_code(text) + escape.github_message(text)
    assert elements(f"<p>{escape.html(text)}</p>") == [("p",)]
    assert ":" not in escape.github_property(text)
    added = _elements_of_page(text) - _elements_of_page("x")
    assert not added, f"a text adds to the elements of the page: {added}"


def _check_pattern(pattern: str, text: str) -> None:
    try:
        is_in(pattern, text * 20)
    except UnusablePatternError as error:
        assert str(error)


@lru_cache(maxsize=2)
def _elements_of_page(text: str) -> Counter[tuple[str, ...]]:
    return Counter(elements(page(FakeView(document=a_document(text)))))


def check_shell(text: str) -> None:
    """What is assigned at the head of a script is what its shell has, and nothing else happens."""
    value = text.replace("\0", "")  # no argument can hold one; specs refuse it (`trees`)
    with tempfile.TemporaryDirectory() as folder:
        script = f'{assigned({"value": value, "other": "kept"})}printf "%s." "$value"; printf "%s" "$other"'
        done = subprocess.run(
            ["/bin/sh", "-c", script.encode(errors="surrogateescape")], cwd=folder, capture_output=True, check=False
        )
        assert not any(Path(folder).iterdir()), "a value was run"
    assert done.stdout == value.encode(errors="surrogateescape") + b".kept", done
