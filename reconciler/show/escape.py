"""Keep what specs, hosts and guests say from being taken for instructions by a terminal, a web page or a CI log.

A kernel's file name, a console's last line, a config file written by hand: all of it reaches the screen through one of
these functions. Called by the other modules of this package and by `progress`.
"""

from __future__ import annotations

from reconciler.expressions import expression

_MARKDOWN_SPECIAL = expression(r"([\\`*_\[\]|~])")
_BACKTICKS = expression(r"`+")


def plain(text: str) -> str:
    r"""Escape text for one line of a terminal: whatever would move a cursor, ring or reorder letters.

    >>> plain("web\x1b[2J\n")
    'web\\x1b[2J\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plain_lines(text: str) -> list[str]:
    """Escape text that may have several lines (a console's last ones)."""
    return [plain(line.expandtabs(8).rstrip("\r")) for line in text.split("\n")]


def markdown(text: str) -> str:
    """Escape text within a line or table cell of Markdown: no markup, no HTML, no mention of a person (`@name`)."""
    shown = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", shown)


def markdown_code(text: str) -> str:
    """Write text as a code span, also within a table. Its fence is longer than any run of backticks in it."""
    shown = plain(text).replace("|", "\\|")
    if not shown:
        return ""
    longest = max((len(run) for run in _BACKTICKS.findall(shown)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def html(text: str) -> str:
    """Escape text within an HTML element."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def github_message(text: str) -> str:
    """Escape the message of a GitHub workflow command. Source: actions/toolkit, packages/core/src/command.ts."""
    lines = "\n".join(plain_lines(text))
    return lines.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github_property(text: str) -> str:
    """Escape a property (`file=`) of a GitHub workflow command."""
    return github_message(text).replace(":", "%3A").replace(",", "%2C")
