"""Reads and writes the list of domains that a NetBSD dom0 starts at boot: `xendomains="foo bar"` of rc.conf. Pure.

rc.d/xendomains starts them in the order written. rc.subr has sh read /etc/rc.conf, then /etc/rc.conf.d/xendomains, so
the list is understood as sh takes it: the last assignment counts, it may span lines, and one that names `$xendomains`
adds to what was there. (sh has no `+=`.) Our numbers are kept in a comment behind a list, since it has no place for
them. Only our own names are ever touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from reconciler.dom0.autostart import UNNUMBERED
from reconciler.expressions import expression
from reconciler.records import dataclass

LISTS = ("/etc/rc.conf", "/etc/rc.conf.d/xendomains")
"""In the order in which sh reads them."""

_ASSIGNMENT = expression(
    r"""^(?P<before>(?:export[ \t]+)?)xendomains=
    (?:"(?P<double>(?:[\w.\s-]|\\\n|\$xendomains\b|\$\{xendomains\})*)"|'(?P<single>[\w.\s-]*)'|(?P<bare>[\w.-]*))
    (?P<end>[ \t]*;)?(?:[ \t]+\#(?P<comment>.*)|[ \t]*)$""",
    re.ASCII | re.MULTILINE | re.VERBOSE,
)
_MENTION = expression(r"^(?![ \t]*#)(?:[^#\n]|(?<=[^\s;])#)*\bxendomains\b.*", re.MULTILINE)
_WORD = expression(r"\$\{?xendomains\}?|[\w.-]+")
_GLUED = expression(r"[\w.}-]\\\n[\w.$-]|[\w.-]\$|\}[\w.-]")  # several pieces make one word; nobody writes a list so
_CONFIGS = expression(r"""^[ \t]*xendomains_config=["']?([^"'\s]*)""", re.MULTILINE)
_MARK = expression(r"(?:^|[ \t]*#)[ \t]*reconciler:(.*)$")


class NotUnderstoodError(ValueError):
    """Says which line is in no form that is understood. `path` is the file that it is in."""

    def __init__(self, path: str, line: str) -> None:
        super().__init__(f"the line {line!r} is not a plain list of names.")
        self.path = path


@dataclass(frozen=True, slots=True)
class _Part:
    """One assignment that the list is made of. `content` is what stands between the quotes."""

    path: str
    found: re.Match[str]
    content: str
    numbers: Mapping[str, int]
    remark: str  # a person's comment

    @property
    def adds(self) -> bool:
        return "$" in self.content

    @property
    def names(self) -> list[str]:
        return [word for word in _WORD.findall(self.content) if not word.startswith("$")]


def read_lists(texts: Mapping[str, str]) -> dict[str, int]:
    r"""Map each domain to its order, from the texts of LISTS that are there, in the order in which they are started.

    Raises NotUnderstoodError for a list in a form that is not understood.

    >>> read_lists({"/etc/rc.conf": "xendomains='foo'\nxendomains=\"$xendomains bar\" # reconciler: bar=10\n"})
    {'foo': 1000, 'bar': 10}
    """
    return _orders(_parts(texts))


def write_lists(texts: Mapping[str, str], domain: str, order: int | None) -> dict[str, str]:
    r"""Return the texts that change so that `domain` is in the list at its place, or no longer in it.

    Raises NotUnderstoodError for a list in a form that is not understood, which is then left alone.

    >>> write_lists({"/etc/rc.conf": 'xendomains="theirs web" # reconciler: web=20\n'}, "db", 10)
    {'/etc/rc.conf': 'xendomains="db theirs web" # reconciler: db=10 web=20\n'}
    >>> write_lists({"/etc/rc.conf": 'xendomains="theirs web" # mine\n'}, "web", None)
    {'/etc/rc.conf': 'xendomains="theirs" # mine\n'}
    """
    parts = _parts(texts)
    changed = {number: _without(part.content, domain) for number, part in enumerate(parts) if domain in part.names}
    numbers: dict[str, int] = {}
    if order is not None:
        if not parts:
            return _appended(texts, f'xendomains="{domain}" # reconciler: {domain}={order}')
        orders = {name: number for name, number in _orders(parts).items() if name != domain}
        later = next((name for name, number in orders.items() if number > order), None)
        place = next((number for number, part in enumerate(parts) if later in part.names), len(parts) - 1)
        changed[place] = _with(changed.get(place, parts[place].content), domain, later)
        numbers[domain] = order
    return _replaced(texts, parts, changed, numbers)


def looks_elsewhere(texts: Mapping[str, str], config_dir: str) -> str | None:
    """Return where xendomains looks for config files, `%s` for the domain, if that is not `config_dir`; else None."""
    found = [form for text in texts.values() for form in _CONFIGS.findall(text)]
    form = found[-1] if found else "/usr/pkg/etc/xen/%s"
    return None if form == f"{config_dir}/%s" else form


def _parts(texts: Mapping[str, str]) -> list[_Part]:
    """Return the assignments that count: the last one that does not add to what was there, and what adds to it."""
    parts: list[_Part] = []
    for path in LISTS:
        text = texts.get(path, "")
        end = 0
        for mention in _MENTION.finditer(text):
            if mention.start() < end:
                continue  # a further line of a list
            found = _ASSIGNMENT.match(text, mention.start())
            if found is None or _GLUED.search(found["double"] or ""):
                raise NotUnderstoodError(path, mention[0])
            part = _part(path, found)
            parts = [*parts, part] if part.adds else [part]
            end = found.end()
    return parts


def _part(path: str, found: re.Match[str]) -> _Part:
    comment = found["comment"] or ""
    mark = _MARK.search(comment)
    pairs = (word.partition("=") for word in (mark[1] if mark else "").split())
    numbers = {name: int(number) for name, _, number in pairs if re.fullmatch("[0-9]{1,3}", number)}
    content = found["double"] or found["single"] or found["bare"] or ""
    return _Part(path, found, content, numbers, (comment[: mark.start()] if mark else comment).rstrip())


def _orders(parts: Iterable[_Part]) -> dict[str, int]:
    orders: dict[str, int] = {}
    for part in parts:
        first, _, then = part.content.partition("$")
        names = {name: part.numbers.get(name, UNNUMBERED) for name in part.names}
        before = {name: names[name] for name in _WORD.findall(first)}
        orders = {**before, **orders, **names} if then else names
    return orders


def _with(content: str, domain: str, later: str | None) -> str:
    """Return the content with the domain before `later`, or at its end."""
    before, count = re.subn(_word(later), f"{domain} {later}", content, count=1) if later else (content, 0)
    if count:
        return before
    list_ends = len(content.rstrip())
    return f"{content[:list_ends]}{' ' if list_ends else ''}{domain}{content[list_ends:]}"


def _without(content: str, domain: str) -> str:
    left = re.sub(rf"{_word(domain)}[ \t]*", "", content)
    return left.rstrip(" \t") if content == content.rstrip() else left


def _word(name: str) -> str:
    return rf"(?<![\w.$\{{-]){re.escape(name)}(?![\w.-])"


def _appended(texts: Mapping[str, str], line: str) -> dict[str, str]:
    text = texts.get(LISTS[0], "")
    return {LISTS[0]: f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n"}


def _replaced(
    texts: Mapping[str, str], parts: list[_Part], changed: Mapping[int, str], numbers: Mapping[str, int]
) -> dict[str, str]:
    """Return the texts with some parts exchanged. From the last one on, since places behind a change move."""
    written: dict[str, str] = {}
    for number in sorted(changed, reverse=True):
        part, content = parts[number], changed[number]
        known = {**part.numbers, **numbers}
        ours = " ".join(f"{name}={known[name]}" for name in _WORD.findall(content) if name in known)
        remark = f" #{part.remark}" if part.remark else ""
        line = f'{part.found["before"]}xendomains="{content}"{part.found["end"] or ""}{remark}'
        text = written.get(part.path, texts[part.path])
        written[part.path] = (
            text[: part.found.start()] + line + (f" # reconciler: {ours}" if ours else "") + text[part.found.end() :]
        )
    return written
