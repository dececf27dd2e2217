"""What people read is no wider than their terminal, and columns stay columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.show.paint import ansi
from reconciler.show.width import columns, fit

PLAN = """\
- alpha/a-rather-long-name  destroy, held: by the brake (no spec names it any more, and nobody said that it should go)
    kernel   vmlinuz-6.1.0-28-amd64 (8b51b8efb7f0) → vmlinuz-6.1.0-29-amd64 (e8cd0c17834d)  (restart)
    memory   512 MiB → 1 GiB                                                               (live)
    hint: if that is meant: reconciler apply --allow-destroy 3

alpha: memory 2.5 GiB now, 2.5 GiB at most, 2 GiB at the end, of 7.6 GiB
specs/alpha/web.toml:3:10: error: memory has to be at least 1 MiB, and this is less than that by far
  3 | memory = 0            # a comment that is so long that the whole line would not fit into the terminal
    |          ^
"""
AT_80 = """\
- alpha/a-rather-long-name  destroy, held: by the brake (no spec names it any
                            more, and nobody said that it should go)
    kernel   vmlinuz-6.1.0-28-amd64 (8b51b8efb7f0) → vmlinuz-6.1.0-29-amd64
             (e8cd0c17834d)  (restart)
    memory   512 MiB → 1 GiB
             (live)
    hint: if that is meant: reconciler apply --allow-destroy 3

alpha: memory 2.5 GiB now, 2.5 GiB at most, 2 GiB at the end, of 7.6 GiB
specs/alpha/web.toml:3:10: error: memory has to be at least 1 MiB, and this is
  less than that by far
  3 | memory = 0            # a comment that is so long that the whole line would not fit into the terminal
    |          ^
"""
AT_100 = """\
- alpha/a-rather-long-name  destroy, held: by the brake (no spec names it any more, and nobody said
                            that it should go)
    kernel   vmlinuz-6.1.0-28-amd64 (8b51b8efb7f0) → vmlinuz-6.1.0-29-amd64 (e8cd0c17834d)  (restart)
    memory   512 MiB → 1 GiB                                                               (live)
    hint: if that is meant: reconciler apply --allow-destroy 3

alpha: memory 2.5 GiB now, 2.5 GiB at most, 2 GiB at the end, of 7.6 GiB
specs/alpha/web.toml:3:10: error: memory has to be at least 1 MiB, and this is less than that by far
  3 | memory = 0            # a comment that is so long that the whole line would not fit into the terminal
    |          ^
"""


@pytest.mark.parametrize(("width", "shown"), [(80, AT_80), (101, AT_100), (200, PLAN), (20, PLAN)])
def test_a_plan_at_some_widths(width: int, shown: str) -> None:
    assert fit(PLAN, width) == shown


@given(st.text(alphabet="ab \n日é", max_size=400), st.integers(40, 120))
def test_nothing_is_lost_and_nothing_but_a_long_word_is_too_wide(text: str, width: int) -> None:
    wrapped = fit(text, width)

    assert wrapped.split() == text.split()
    for line in wrapped.splitlines():
        words = line.split()
        assert columns(line) <= width or len(words) == 1
    assert fit(wrapped, width + 40) == wrapped


def test_colours_take_no_room() -> None:
    painted = ansi("a" * 30, "red") + " " + ansi("b" * 30, "green")

    assert columns(painted) == 61
    assert fit(painted, 61) == painted
    assert len(fit(painted, 60).splitlines()) == 2


def test_a_word_that_does_not_fit_under_its_column_goes_to_the_left_until_it_does() -> None:
    path = "/var/lib/xen/kernels/db/vmlinuz-6.12"
    told = fit(f"  e7dfa68e671c  running  {path}\n", 40)
    assert told == f"  e7dfa68e671c  running\n    {path}\n"
    assert fit(f"  e7dfa68e671c  running  {path}{path}\n", 40).splitlines()[1] == f"    {path}{path}"
