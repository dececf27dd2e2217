"""`mac_prefix`: the octets behind which MACs are derived."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.specs.tree import TreeReading, read_tree

VIF = 'kernel = "/k"\nmemory = 64\n[[vif]]\n[[vif]]\n'


def read(folder: Path, settings: str, *names: str) -> TreeReading:
    (folder / "alpha").mkdir()
    (folder / "alpha" / "host.toml").write_text('toolstack = "simulated"\n')
    (folder / "reconciler.toml").write_text(settings)
    for name in names:
        (folder / "alpha" / f"{name}.toml").write_text(VIF)
    return read_tree(folder)


def macs(reading: TreeReading) -> list[str]:
    return [vif.mac for domain in reading.desired.hosts["alpha"].domains.values() for vif in domain.vifs]


def test_without_it_macs_are_as_they_always_were(tmp_path: Path) -> None:
    assert macs(read(tmp_path, "", "web")) == ["00:16:3e:46:d2:5f", "00:16:3e:ae:1a:11"]


@pytest.mark.parametrize("prefix", ["02", "00:16:3E", "0a:1b", "02:00:00:00", "02:00:00:00:01"])
def test_macs_are_derived_behind_it(tmp_path: Path, prefix: str) -> None:
    found = macs(read(tmp_path, f'mac_prefix = "{prefix}"\n', "web"))
    assert len(set(found)) == 2
    for mac in found:
        assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)
        assert mac.startswith(prefix.lower() + ":")


@pytest.mark.parametrize("prefix", ["01", "00:16:3f:00:00:00", "0", "00-16-3e", "", "g0"])
def test_what_is_no_prefix_of_an_address_of_one_interface_is_refused(tmp_path: Path, prefix: str) -> None:
    (problem, *_) = read(tmp_path, f'mac_prefix = "{prefix}"\n', "web").diagnostics
    assert "must be one to five octets of a MAC address" in problem.detail


def test_two_that_meet_by_chance_are_an_error_with_a_line_that_mends_it(tmp_path: Path) -> None:
    names = [f"d{number}" for number in range(20)]
    reading = read(tmp_path, 'mac_prefix = "02:00:00:00:01"\n', *names)
    (problem, *_) = reading.diagnostics
    assert problem.summary == "Duplicate MAC"
    found = re.search(r'mac = "(02:00:00:00:01:[0-9a-f]{2})"', problem.hint or "")
    assert found is not None
    assert found[1] not in macs(reading)
