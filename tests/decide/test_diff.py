"""What differs between two definitions, under the names of the spec, and what each difference costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.diff import Effect, FieldChange, align_vifs, compare, fields_of_new
from reconciler.model.domain import Domain, Policy, Ready
from reconciler.model.host import FileFact
from tests.worlds import MIB, NEW, disk, domain, host, kernel, vif

WEB = domain("web", disks=(disk("/srv/web"),), vifs=(vif("00:16:3e:00:00:01"),))
WORLD = host(files={"/srv/web": FileFact(kind="file", size_bytes=4096)})


def differences(current: Domain, wanted: Domain, *, running: bool = True) -> tuple[FieldChange, ...]:
    return compare(current, wanted, WORLD, running=running)


def shown(fields: Iterable[FieldChange]) -> list[tuple[str, object, object]]:
    return [(field.path, field.before, field.after) for field in fields]


def test_equal_definitions_differ_in_nothing() -> None:
    assert differences(WEB, WEB) == ()
    assert differences(replace(WEB, cmdline=""), replace(WEB, cmdline=None)) == (), "xl lists an empty one for none"


def test_how_the_controller_treats_a_domain_is_no_difference() -> None:
    assert differences(WEB, replace(WEB, policy=Policy(wave=3, restart="defer", ready=Ready(tcp="web:80")))) == ()


@pytest.mark.parametrize(
    ("changed", "path", "effect"),
    [
        ({"memory_kib": 300 * MIB}, "memory", Effect.LIVE),
        ({"vcpus": 2}, "vcpus", Effect.LIVE),
        ({"cpu_weight": 512}, "cpu_weight", Effect.LIVE),
        ({"cap": 50}, "cap", Effect.LIVE),
        ({"autostart": 3}, "autostart", Effect.LIVE),
        ({"prevent_destroy": True}, "prevent_destroy", Effect.LIVE),
        ({"shutdown_timeout_seconds": 5}, "shutdown_timeout", Effect.LIVE),
        ({"on_shutdown_timeout": "destroy"}, "on_shutdown_timeout", Effect.LIVE),
        ({"depends_on": ("db",)}, "depends_on", Effect.LIVE),
        ({"disks": (disk("/srv/web", on_delete="delete"),)}, "disk[0xca00].on_delete", Effect.LIVE),
        ({"disks": (disk("/srv/web", size_bytes=8192),)}, "disk[0xca00].size", Effect.LIVE),
        ({"kernel": kernel("web", NEW)}, "kernel", Effect.RESTART),
        ({"cmdline": "single"}, "cmdline", Effect.RESTART),
        ({"type": "hvm"}, "type", Effect.RESTART),
        ({"maxmem_kib": 1024 * MIB}, "maxmem", Effect.RESTART),
        ({"cpus": "0-1"}, "cpus", Effect.RESTART),
        ({"on_crash": "preserve"}, "on_crash", Effect.RESTART),
        ({"disks": (disk("/srv/web", access="ro"),)}, "disk[0xca00].access", Effect.RESTART),
        ({"vifs": (vif("00:16:3e:00:00:01", bridge="other"),)}, "vif[0].bridge", Effect.RESTART),
        ({"pci": ("0000:03:00.0",)}, "pci", Effect.RESTART),
        ({"xl": (("vnc", 1),)}, "xl.vnc", Effect.RESTART),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_difference_costs_what_xl_can_do_about_it(changed: dict[str, Any], path: str, effect: Effect) -> None:
    (field,) = differences(WEB, replace(WEB, **changed))
    assert (field.path, field.effect) == (path, effect)


def test_nothing_costs_a_domain_that_does_not_run_a_restart() -> None:
    (field,) = differences(WEB, replace(WEB, kernel=kernel("web", NEW)), running=False)
    assert field.effect is Effect.LIVE


@pytest.mark.parametrize(
    ("kind", "added", "removed"),
    [
        ("pv", {"disk": Effect.LIVE, "vif": Effect.LIVE}, {"disk": Effect.RESTART, "vif": Effect.LIVE}),
        ("pvh", {"disk": Effect.LIVE, "vif": Effect.LIVE}, {"disk": Effect.RESTART, "vif": Effect.LIVE}),
        ("hvm", {"disk": Effect.RESTART, "vif": Effect.RESTART}, {"disk": Effect.RESTART, "vif": Effect.RESTART}),
    ],
)
@pytest.mark.parametrize("what", ["disk", "vif"])
def test_devices_come_and_go_live_only_where_a_guest_learns_of_it(
    kind: Any, added: dict[str, Effect], removed: dict[str, Effect], what: str
) -> None:
    few = replace(WEB, type=kind)
    more: dict[str, dict[str, Any]] = {
        "disk": {"disks": (*few.disks, disk("/srv/more", 51728))},
        "vif": {"vifs": (*few.vifs, vif("00:16:3e:00:00:02", 1))},
    }
    many = replace(few, **more[what])
    assert [field.effect for field in differences(few, many)] == [added[what]]
    assert [field.effect for field in differences(many, few)] == [removed[what]]


@pytest.mark.parametrize("ceiling", ["maxmem_kib", "maxvcpus"])
def test_a_ceiling_that_is_lowered_waits_and_one_that_is_raised_does_not(ceiling: str) -> None:
    high, low = ({ceiling: getattr(WEB, ceiling) * factor} for factor in (2, 1))
    (lowered,) = differences(replace(WEB, **high), replace(WEB, **low))
    (raised,) = differences(replace(WEB, **low), replace(WEB, **high))
    assert (lowered.waits, raised.waits) == (True, False)
    (of_stopped,) = differences(replace(WEB, **high), replace(WEB, **low), running=False)
    assert not of_stopped.waits


def test_what_a_spec_leaves_open_is_whatever_is_there() -> None:
    assert differences(replace(WEB, cpu_weight=256, cap=0), WEB) == (), "what xl does when it is told nothing"
    assert differences(WEB, replace(WEB, disks=(disk("/srv/web", size_bytes=None),))) == ()


def test_differences_are_sorted_and_in_the_words_of_a_spec() -> None:
    wanted = replace(WEB, vcpus=2, memory_kib=300 * MIB, cmdline="single", kernel=kernel("web", NEW))
    assert shown(differences(WEB, wanted)) == [
        ("cmdline", None, "single"),
        ("kernel", f"vmlinuz ({'1' * 12})", f"vmlinuz ({'2' * 12})"),
        ("memory", 256 * MIB, 300 * MIB),
        ("vcpus", 1, 2),
    ]


def test_of_a_new_domain_all_that_it_will_have_is_shown() -> None:
    fields = {field.path: field.after for field in fields_of_new(WEB, WORLD)}
    assert fields["memory"] == 256 * MIB
    assert fields["disk[0xca00]"].startswith("path=/srv/web")  # type: ignore[union-attr]  # a text
    assert fields["vif[0]"] == "mac=00:16:3e:00:00:01, bridge=xenbr0"
    assert "ramdisk" not in fields, "what it will not have is not shown"


class TestVifs:
    """An interface is the one with its mac, whatever its place in the spec."""

    first, second = vif("00:16:3e:00:00:01", 0), vif("00:16:3e:00:00:02", 1)

    def test_the_second_of_two_stays_where_it_is_when_the_first_goes(self) -> None:
        both = replace(WEB, vifs=(self.first, self.second))
        aligned = align_vifs(replace(WEB, vifs=(replace(self.second, devid=0),)), both)
        assert aligned.vifs == (self.second,)

    def test_a_new_one_takes_a_free_place(self) -> None:
        wanted = replace(WEB, vifs=(vif("00:16:3e:00:00:03", 0), replace(self.second, devid=1)))
        aligned = align_vifs(wanted, replace(WEB, vifs=(self.second,)))
        assert [(one.mac[-2:], one.devid) for one in aligned.vifs] == [("03", 0), ("02", 1)]

    def test_one_without_a_mac_of_its_own_is_known_by_its_place(self) -> None:
        there = replace(WEB, vifs=(replace(self.first, mac="00:16:3e:99:99:99"),))
        wanted = replace(WEB, vifs=(replace(self.first, named=False),))
        assert [one.devid for one in align_vifs(wanted, there).vifs] == [0]


def test_values_of_xl_are_shown_as_xl_cfg_has_them() -> None:
    wanted = replace(
        WEB, xl=(("nomigrate", 1), ("serial", 'p"ty'), ("usbdevice", ("tablet", 5)), ("vfb", ("vnc=1,sdl=0",)))
    )
    as_written = [
        ("xl.nomigrate", 1), ("xl.serial", '"p\\"ty"'), ("xl.usbdevice", '["tablet", 5]'), ("xl.vfb", '["vnc=1,sdl=0"]')
    ]  # fmt: skip
    assert [(path, after) for path, _, after in shown(differences(WEB, wanted))] == as_written
    assert [(path, before) for path, before, _ in shown(differences(wanted, WEB))] == as_written
    assert [
        (path, after) for path, _, after in shown(fields_of_new(wanted, WORLD)) if path.startswith("xl.")
    ] == as_written


def test_a_list_that_became_longer_is_shown_whole() -> None:
    before, after = replace(WEB, xl=(("vfb", ("vnc=1",)),)), replace(WEB, xl=(("vfb", ("vnc=1", "sdl=1")),))
    assert shown(differences(before, after)) == [("xl.vfb", '["vnc=1"]', '["vnc=1", "sdl=1"]')]


def test_equal_definitions_are_compared_as_wholes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.decide.diff._plain", None)
    monkeypatch.setattr("reconciler.decide.diff._tables", None)
    assert differences(WEB, replace(WEB)) == ()
