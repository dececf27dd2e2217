"""Which regular expressions can be searched for, and what is said of the others."""

from __future__ import annotations

import pytest

from reconciler.specs.patterns import UnusablePatternError, check_pattern, is_in

CONSOLE = "Booting\nweb login: \n"


@pytest.mark.parametrize(
    "pattern", ["login:", "^web", r"login:\s*$", "(?i)LOGIN", "^Booting$", "a|web", "é?w", r"\blogin\b"]
)
def test_what_is_in_a_console(pattern: str) -> None:
    assert is_in(pattern, CONSOLE)


@pytest.mark.parametrize("pattern", ["^login", "Login", "x|^y$", r"login:\z"])
def test_what_is_not(pattern: str) -> None:
    assert not is_in(pattern, CONSOLE)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("login: (", "missing )"),
        ("(?=login)", "(?="),
        ("(?<!no )login", "(?<"),
        (r"(a)\1", r"\1"),
        (r"login\Z", r"\Z"),
        ("a++", "++"),
        ("(a{1000}){1000}", "{1000}"),
        ("*", "*"),
    ],
)
def test_what_cannot_be_searched_for_says_why(pattern: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnusablePatternError) as caught:
        check_pattern(pattern)
    assert said in str(caught.value)
    assert "(?m)" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "the engine says nothing by itself"
