"""Passwords that a spec names by a file of the host: `vncpasswd_file`. Their values are read on the host alone.

A config file of ours has a comment with the path, and on the host the value in the line behind it. What observes a
host takes the values away before anything else sees the text, and notes which is no longer the one in its file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from reconciler.expressions import expression
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, XlValue
from reconciler.model.host import Guest

SECRET_FILES: Final = {"vncpasswd_file": "vncpasswd", "spicepasswd_file": "spicepasswd"}
"""Keys of `[xl]` that are ours alone, with the keys of xl.cfg whose values they tell."""

BEFORE: Final = " (as it was before)"
"""Behind the path, in a definition that has a value which its file held earlier."""

_PREFIX: Final = "# reconciler-secret: "
_KEYS: Final = "|".join(SECRET_FILES.values())
_LINES: Final = expression(
    rf"^{_PREFIX}(?P<key>{_KEYS}) (?P<path>/.*?)(?P<before>{re.escape(BEFORE)})?\n(?P<value>(?P=key) = .*\n)?",
    re.MULTILINE,
)


def secret_line(key: str, path: XlValue) -> str:
    """Write the comment that stands for such a key of a definition.

    >>> secret_line("vncpasswd_file", "/etc/xen/web.vnc")
    '# reconciler-secret: vncpasswd /etc/xen/web.vnc'
    """
    return f"{_PREFIX}{SECRET_FILES[key]} {path}"


def told_by_files(
    guests: Mapping[str, Guest],
    secrets: Iterable[tuple[str, str, str]],
    is_in_file: Callable[[str, str, str], bool],
) -> dict[str, Guest]:
    """Put files for the passwords that domains run with, where these files hold them: nothing else has to change then.

    `secrets` are domain, key and path; `is_in_file` says whether the file of a domain and a key holds a value.
    """
    told = dict(guests)
    for name, key, path in secrets:
        guest = told.get(name)
        running = guest.running if guest is not None else None
        value = dict(running.xl).get(SECRET_FILES[key]) if running is not None else None
        if guest is not None and running is not None and value is not None and is_in_file(name, key, str(value)):
            others = [pair for pair in running.xl if pair[0] != SECRET_FILES[key]]
            told[name] = replace(guest, running=replace(running, xl=tuple(sorted([*others, (key, path)]))))
    return told


def secret_files(domain: Domain) -> Iterator[tuple[str, str]]:
    """Return the files of the host in which a definition has its secrets, each with its key."""
    return ((key, str(value).removesuffix(BEFORE)) for key, value in domain.xl if key in SECRET_FILES)


def has_secrets(text: str) -> bool:
    return _PREFIX in text


def without_values(text: str, changed: Collection[str] = ()) -> str:
    """Take the values out of a config file of ours. `changed` are the keys whose files hold another one by now.

    >>> without_values('a = 1\\n# reconciler-secret: vncpasswd /v\\nvncpasswd = "x"\\nb = 2\\n', ["vncpasswd"])
    'a = 1\\n# reconciler-secret: vncpasswd /v (as it was before)\\nb = 2\\n'
    """
    if not has_secrets(text):
        return text
    return _LINES.sub(
        lambda found: f"{_PREFIX}{found['key']} {found['path']}{BEFORE if found['key'] in changed else ''}\n", text
    )


def as_keys(text: str) -> str:
    """Write each comment as the key of `[xl]` that it stands for, in as many lines, so that places stay right.

    >>> as_keys('# reconciler-secret: vncpasswd /v\\nvncpasswd = "x"\\n')
    'vncpasswd_file = "/v"\\n\\n'
    """

    def written(found: re.Match[str]) -> str:
        line = value_line(f"{found['key']}_file", found["path"] + (found["before"] or ""))
        return f"{line}\n" if found["value"] else line

    return _LINES.sub(written, text) if has_secrets(text) else text


def with_values(text: str, earlier: str, value_of: Callable[[str], str]) -> str:
    """Put the values into a config file that is about to be written, as a real host does (`dom0.shell`).

    One that is to stay as it was before is taken from the `earlier` text of the file.
    """
    held = {found["key"]: found["value"] for found in _LINES.finditer(earlier)}

    def filled(found: re.Match[str]) -> str:
        key, path = found["key"], found["path"]
        kept = found["value"] or (held.get(key) if found["before"] else None)
        return f"{_PREFIX}{key} {path}\n{kept or value_line(key, value_of(path))}"

    return _LINES.sub(filled, text)


def changed_values(text: str, value_of: Callable[[str], str | None]) -> frozenset[str]:
    """Return the keys whose value in a config file is not the one that its file holds now, where there is one."""
    if not has_secrets(text):
        return frozenset()
    return frozenset(
        found["key"]
        for found in _LINES.finditer(text)
        if (now := value_of(found["path"])) is not None and found["value"] != value_line(found["key"], now)
    )


def value_line(key: str, value: str) -> str:
    """Write a value as xl.cfg has it.

    >>> value_line("vncpasswd", 'a"b\\\\c')
    'vncpasswd = "a\\\\"b\\\\\\\\c"\\n'
    """
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key} = "{escaped}"\n'


def secret_of(content: str) -> str:
    """Return the secret in a file: its first line."""
    return content.partition("\n")[0].removesuffix("\r")
