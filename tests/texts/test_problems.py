"""What xl refuses in a config file: all of it is told at once, each with its place and what to write instead."""

from __future__ import annotations

import pytest

from reconciler.texts.cfg_grammar import read_cfg
from reconciler.texts.cfg_reader import Reading, read_values

HEAD = 'name = "web"\nkernel = "/boot/vmlinuz"\nmemory = 64\n'


def read(text: str) -> Reading:
    return read_values(read_cfg(text).values, {})


def test_all_problems_are_told() -> None:
    reading = read(
        'uuid = "1"\nbuilder = "linux"\non_crash = "explode"\non_reboot = "restrt"\nvcpus = 4\nmaxvcpus = 2\n'
        'disk = ["/a,raw,xvda,w", "/b,raw,xvdb,w!", "/c,rawr,xvdc,w"]\nvif = ["rate=1"]\npci = ["eth0"]\n'
    )
    assert reading.domain is None
    assert {remark.loc for remark in reading.problems} == {
        ("name",), ("uuid",), ("builder",), ("on_crash",), ("on_reboot",), ("maxvcpus",), ("disk", 1), ("disk", 2),
        ("vif", 0), ("pci", 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told", "hint"),
    [
        ("builder = 'linux'", 'builder is "linux"', 'type = "pv"'),
        ('disk = ["/a,raw,xvda,w!"]', 'has the access "w!"', "write w"),
        ('disk = ["/a,rwa,xvda,w"]', 'has the format "rwa"', 'Did you mean "raw"?'),
        ('on_crash = "preserved"', 'on_crash is "preserved"', 'Did you mean "preserve"?'),
        ('type = "pv"\nbuilder = "hvm"', "contradiction", "Take out the builder"),
    ],
)
def test_a_problem_comes_with_what_to_write_instead(line: str, told: str, hint: str) -> None:
    (problem,) = read(f"{HEAD}{line}\n").problems
    assert told in problem.text
    assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ('memory = "2G"', "xl counts MiB: write memory = 2048."),
        ('memory = "1024 MB"', "xl counts MiB: write memory = 1024."),
        ('maxmem = "512MiB"', "xl counts MiB: write maxmem = 512."),
        ("memory = 089", "Write memory = 89: a number that begins with 0 is octal."),
        ('memory = "much"', None),
        ('vcpus = "2G"', None),
    ],
)
def test_a_number_that_is_none_for_xl_is_written_out(line: str, hint: str | None) -> None:
    (ignored,) = read(f"{HEAD}{line}\n").ignored
    assert ignored.text.endswith("no number, so xl leaves it out.")
    assert ignored.hint == hint
