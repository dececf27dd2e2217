"""What a boot reads, and how one that failed is remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.boot import (
    ROLLED_BACK,
    as_before,
    before_this,
    boot_digest,
    boots_the_same,
    failed_before,
    left_by_rollback,
    quarantined,
    with_quarantined,
)
from reconciler.model.domain import Image, Policy, Ready
from tests.worlds import MIB, NEW, disk, domain, guest, kernel, stopped, vif

WEB = domain("web", disks=(disk("/srv/web"),), vifs=(vif("00:16:3e:00:00:01"),))
BETTER = replace(WEB, kernel=kernel("web", NEW))


@pytest.mark.parametrize(
    "changed",
    [
        {"kernel": kernel("web", NEW)},
        {"ramdisk": kernel("web", NEW)},
        {"cmdline": "single"},
        {"bootloader": "pygrub"},
        {"bootloader_args": ("-q",)},
        {"firmware": "ovmf"},
        {"type": "pvh"},
        {"maxmem_kib": 1024 * MIB},
        {"maxvcpus": 4},
        {"cpus": "0-1"},
        {"on_crash": "preserve"},
        {"on_watchdog": "restart"},
        {"disks": (disk("/srv/other"),)},
        {"disks": (disk("/srv/web", access="ro"),)},
        {"vifs": ()},
        {"vifs": (vif("00:16:3e:00:00:01", bridge="other"),)},
        {"pci": ("0000:03:00.0",)},
        {"xl": (("vnc", 1),)},
    ],
    ids=str,
)
def test_what_a_boot_reads_makes_it_another_boot(changed: dict[str, Any]) -> None:
    assert boot_digest(replace(WEB, **changed)) != boot_digest(WEB)


@pytest.mark.parametrize(
    "changed",
    [
        {"memory_kib": 300 * MIB},
        {"vcpus": 2},
        {"cpu_weight": 512},
        {"cap": 50},
        {"autostart": 3},
        {"prevent_destroy": True},
        {"shutdown_timeout_seconds": 5},
        {"depends_on": ("db",)},
        {"cmdline": ""},
        {"policy": Policy(wave=2)},
        {"disks": (disk("/srv/web", on_delete="delete", size_bytes=1 << 30),)},
    ],
    ids=str,
)
def test_what_changes_live_or_is_only_kept_makes_a_bad_kernel_not_worth_another_try(changed: dict[str, Any]) -> None:
    assert boot_digest(replace(WEB, **changed)) == boot_digest(WEB)


def test_a_boot_that_failed_is_remembered_with_its_kernel_and_reason() -> None:
    remembering = guest(WEB, quarantine=with_quarantined(guest(WEB), BETTER, "it panicked"))
    entry = quarantined(remembering, BETTER)
    assert entry is not None
    assert BETTER.kernel is not None
    assert (entry.reason, entry.kernel) == ("it panicked", BETTER.kernel.path)
    assert quarantined(remembering, WEB) is None
    assert quarantined(None, WEB) is None


def test_what_a_rollback_left_is_not_tried_again_and_yet_has_not_failed() -> None:
    left = guest(WEB, quarantine=with_quarantined(None, BETTER, ROLLED_BACK))
    assert quarantined(left, BETTER) is not None
    assert failed_before(left, BETTER) is None


def test_ten_failed_boots_are_remembered_each_once_and_the_oldest_goes() -> None:
    one = guest(WEB)
    boots = [replace(WEB, cmdline=str(number)) for number in range(11)]
    for boot in (*boots, boots[5]):
        one = replace(one, quarantine=with_quarantined(one, boot, "failed"))
    assert len(one.quarantine) == 10
    assert quarantined(one, boots[0]) is None
    assert all(quarantined(one, boot) for boot in boots[1:])
    assert one.quarantine[-1].boot == boot_digest(boots[5]), "the newest is the last"


def test_going_back_changes_what_boots_and_the_signs_of_it_and_nothing_else() -> None:
    before = replace(WEB, cmdline="old", memory_kib=128 * MIB, policy=Policy(ready=Ready(tcp="web:80"), wave=3))
    back = as_before(replace(BETTER, memory_kib=300 * MIB), before)
    assert (back.kernel, back.cmdline, back.policy.ready) == (WEB.kernel, "old", Ready(tcp="web:80"))
    assert (back.memory_kib, back.policy.wave) == (300 * MIB, 0)
    assert boots_the_same(WEB, replace(WEB, memory_kib=128 * MIB))
    assert not boots_the_same(WEB, BETTER)


def test_back_is_what_was_proven_before_what_runs_now() -> None:
    assert before_this(guest(BETTER, previous=WEB)) == WEB
    assert before_this(guest(BETTER, config=WEB, unproven=True)) == WEB
    assert before_this(guest(BETTER)) is None
    first = guest(BETTER, config=BETTER, config_proven=False, unproven=True)
    assert before_this(first) is None, "a first boot has nothing before it"


def test_a_rollback_quarantines_what_runs_and_what_the_specs_ask_for() -> None:
    asked = replace(WEB, kernel=kernel("web", "3" * 64))
    rolled_back = guest(BETTER, quarantine=left_by_rollback(guest(BETTER), asked))
    assert [bool(quarantined(rolled_back, one)) for one in (BETTER, asked, WEB)] == [True, True, False]
    assert len(left_by_rollback(stopped(WEB, config=None), asked)) == 1


def test_equal_definitions_with_kernels_of_other_names_boot_other_things() -> None:
    """What tells a kernel without a digest is its path, which is not compared."""
    one, other = (replace(WEB, kernel=Image(sha256="", path=path)) for path in ("/boot/one", "/boot/other"))
    assert one == other
    assert (
        boot_digest(one)
        != boot_digest(other)
        == boot_digest(replace(other, kernel=Image(path="/boot/other", sha256="")))
    )
