"""A small part of `make fuzz`, the same each time, and inputs that broke a law once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz import hosts, laws
from tests.fuzz.laws import HangError, bounded
from tests.fuzz.mutated import hostile
from tests.fuzz.targets import TARGETS

EXAMPLES = {"specs": 8, "shown": 10, "shell": 10, "host": 15}  # each takes milliseconds


@pytest.mark.parametrize("name", TARGETS)
def test_every_law_holds(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES.get(name, 25),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile(target.seeds()))
    def check(text: str) -> None:
        with bounded():
            target.check(text)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_sound_passes(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].check(seed)


BROKE = {  # what broke a law once
    "host": [
        hosts.ANSWERS[0].replace(" config_names 0", " 0"),
        hosts.ANSWERS[0].replace("Linux\n0\n", ""),
        hosts.ANSWERS[0].replace("|600|", "|much|"),
        hosts.ANSWERS[0].replace("253:3 2048", "253:3"),
        hosts.ANSWERS[0].replace(" sectors 0", f" sectors {'9' * 5000}"),
    ],
    "cfg": [f"# {'9' * 17000}\nkernel = '/boot/vmlinuz' # {'9' * 17000}\nmemory = 64\n"],
    "xl": ["--٣\nada", "-\nada", f"{'9' * 400}\nada"],
    "shown": ["a\udcff]\nb", "b\na\udcffb", "`<script>alert(1)</script>"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BROKE.items() for text in texts])
def test_what_broke_a_law_once_does_so_no_more(name: str, text: str) -> None:
    TARGETS[name].check(text)


def test_an_input_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "SECONDS_MAX", 0.01)
    with pytest.raises(HangError), bounded():
        while True:
            pass
