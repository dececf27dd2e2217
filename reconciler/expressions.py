"""Regular expressions that are compiled at their first use: most runs use few of ours, and each takes half a ms.

>>> numbers = expression("[0-9]+")
>>> numbers.findall("1 and 23")
['1', '23']
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

_METHODS = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub", "subn")


class _Expression:
    """Stands for `re.compile(pattern, flags)`."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._said = pattern, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self._said)
        vars(self).update({method: getattr(compiled, method) for method in _METHODS})  # found without us from now on
        return getattr(compiled, name)


if TYPE_CHECKING:
    expression = re.compile  # which type checkers know
else:

    def expression(pattern: str, flags: int = 0) -> _Expression:
        """Return a regular expression for the head of a module."""
        return _Expression(pattern, flags)
