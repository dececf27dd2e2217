"""Matches regular expressions with what guests write, by RE2: its time grows with the text, whatever the pattern says.

Python's own engine tries all ways to match. For `^(a+)+$` their number doubles with each character of a line, so a
guest could hold up everything that runs beside the search. Used by the rules for specs and by the ready gate.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

WAYS_OUT = (
    r"Patterns are those of RE2: without lookaround such as (?=…), references such as \1, "
    r"possessive or atomic groups; the end of the text is \z, not \Z."
)


class UnusablePatternError(ValueError):
    """Reports a pattern that RE2 cannot follow. The message is the end of a sentence."""


def check_pattern(pattern: str) -> None:
    """Raise UnusablePatternError unless `pattern` can be searched for."""
    _compiled(pattern)


def is_in(pattern: str, text: str) -> bool:
    """Return whether the pattern matches anywhere in `text`. ^ and $ also match at the ends of lines."""
    _compiled(pattern)  # complains of what was written, without what comes before it here
    return _compiled(f"(?m){pattern}").search(text.encode(errors="replace")) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False  # else they go to stderr, past all that is said there
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else "unknown"
        raise UnusablePatternError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from None
    except UnicodeEncodeError:  # TOML holds none, but what a host says of a domain may
        raise UnusablePatternError("it holds half a character") from None
