"""A default that is read back is no difference: for every key and type of guest, with the real texts of xl.

What is applied is observed as specified; and when an apply was cut short after any of its steps, the next one ends what
was begun, with no restart that the first one did not have. Definitions become config files, the real xl says what it
makes of them (see tests/texts/oracle), and that is observed as `xl list -l` would show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif
from reconciler.model.fleet import Allow, HostSettings
from reconciler.model.host import FileFact, Guest, Host, Power
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.plan.plan import Plan
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    DetachVif,
    PromoteConfig,
    SetMedium,
    SetMemory,
    SetScheduler,
    SetVcpus,
    Shutdown,
    Start,
    Step,
    WriteConfig,
)
from reconciler.texts.config_file import as_proven, render_file
from reconciler.texts.devices import disk_spec, vif_spec
from reconciler.texts.guests import LiveDomain, assemble_guests
from tests.texts.conftest import xl
from tests.texts.oracle.real_xl import RealXl
from tests.worlds import MIB, desired, domain, plan

SETTINGS = HostSettings(name="alpha", toolstack="simulated", allow=Allow(pci=("0000:04:00.*", "name=nic0")))

__all__ = ["xl"]

FOLDER = "/var/lib/xen/kernels/web"
OLD, NEW = (Image(sha256=digit * 64, path=f"{FOLDER}/k.{digit * 12}", source="kernels/k") for digit in "12")
ROOT = Disk(vdev="xvda", devid=51712, kind="file", target="/srv/web.img")
DATA = Disk(vdev="xvdb", devid=51728, kind="lv", target="/dev/vg0/data")
DRIVE = Disk(vdev="hdc", devid=5632, kind="device", target="/srv/a.iso", access="ro", cdrom=True)
COLO: dict[str, Any] = {
    "colo_host": "10.0.0.2",
    "colo_port": 9,
    "colo_export": "web",
    "active_disk": "/srv/a",
    "hidden_disk": "/srv/h",
}
MORE = Vif(devid=1, mac="00:16:3e:00:00:02", bridge="xenbr0")
BARE = Vif(devid=0, mac="00:16:3e:00:00:01")
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "kernel": {"kernel": NEW},
    "ramdisk": {"ramdisk": NEW},
    "cmdline": {"cmdline": 'root=/dev/xvda "quoted" \\ #'},
    "empty cmdline": {"cmdline": ""},
    "memory": {"memory_kib": 300 * MIB},
    "maxmem": {"maxmem_kib": 1024 * MIB},
    "maxmem lowered": {"maxmem_kib": 256 * MIB},
    "vcpus": {"vcpus": 2},
    "maxvcpus": {"maxvcpus": 8},
    "cpus": {"cpus": "0-3,^1"},
    "cpu_weight": {"cpu_weight": 512},
    "cpu_weight as it is by itself": {"cpu_weight": 256},
    "cap": {"cap": 50},
    "no cap": {"cap": 0},
    "disk": {"disks": (ROOT, DATA)},
    "disk, read only": {"disks": (ROOT, replace(DATA, access="ro"))},
    "disk of a device": {"disks": (ROOT, replace(DATA, kind="device", target="/dev/sdb1"))},
    "disk that goes with its domain": {"disks": (ROOT, replace(DATA, on_delete="delete"))},
    "disk of a backend type": {"disks": (ROOT, replace(DATA, backendtype="phy"))},
    "disk with options": {"disks": (ROOT, replace(DATA, direct_io_safe=True, discard=False, specification="xen"))},
    "disk of a script": {"disks": (ROOT, replace(DATA, kind="device", target="pool/a", script="block-x"))},
    "disk of a driver domain": {"disks": (ROOT, replace(DATA, kind="device", backend="storage"))},
    "disk of COLO": {"disks": (ROOT, replace(DATA, colo=True, **COLO))},
    "drive": {"disks": (ROOT, DRIVE)},
    "empty drive": {"disks": (ROOT, replace(DRIVE, target=""))},
    "no disk": {"disks": ()},
    "vif": {"vifs": (BARE, MORE)},
    "vif without a bridge": {"vifs": (BARE, replace(MORE, bridge=None))},
    "vif of the usual type": {"vifs": (replace(BARE, type="vif"),)},
    "emulated vif": {"vifs": (replace(BARE, type="ioemu"),)},
    "vif with a script": {"vifs": (BARE, replace(MORE, script="vif-nat", ip="10.0.0.9"))},
    "vif with a rate": {"vifs": (BARE, replace(MORE, rate="10Mb/s"))},
    "vif with a model": {"vifs": (BARE, replace(MORE, model="e1000"))},
    "vif with a name": {"vifs": (BARE, replace(MORE, vifname="web0"))},
    "vif with a place": {"vifs": (BARE, replace(MORE, devid=5))},
    "vif with options": {"vifs": (BARE, replace(MORE, mtu=9000, gatewaydev="eth0", trusted=True, backend="net"))},
    "vif of COLO": {"vifs": (BARE, replace(MORE, colo=(("forwarddev", "eth1"), ("sock_mirror_id", "0"))))},
    "no vif": {"vifs": ()},
    "pci": {"pci": ("0000:03:00.0", "0000:04:00.*@05,permissive=1,seize=0", "name=nic0,rdm_policy=relaxed")},
    "cpus of each vcpu": {"cpus": ("0", "1-2"), "vcpus": 2, "maxvcpus": 2},
    "on_crash": {"on_crash": "preserve"},
    "on_poweroff": {"on_poweroff": "rename-restart"},
    "on_reboot": {"on_reboot": "coredump-destroy"},
    "on_watchdog": {"on_watchdog": "restart"},
    "xl": {"xl": (("nomigrate", 1),)},
    "lists in xl": {"xl": (("x_lists", (("a", "b"), ("c", 1), "d")),)},
    "prevent_destroy": {"prevent_destroy": True},
    "shutdown_timeout": {"shutdown_timeout_seconds": 5.0},
    "on_shutdown_timeout": {"on_shutdown_timeout": "destroy"},
    "autostart": {"autostart": 10},
    "bootloader": {"kernel": None, "bootloader": "/usr/lib/xen/bin/pygrub"},
    "bootloader_args": {"kernel": None, "bootloader": "/usr/lib/xen/bin/pygrub", "bootloader_args": ("--kernel=/a b",)},
    "firmware": {"kernel": None, "firmware": "ovmf"},
    "pool": {"pool": "Pool-0"},
    "disk of another format": {"disks": (ROOT, replace(DATA, kind="file", target="/srv/data.qcow2", format="qcow2"))},
    "wave": {"policy": Policy(wave=1)},
    "restart": {"policy": Policy(restart="defer")},
    "ready": {"policy": Policy(ready=Ready(timeout_seconds=60, min_seconds=1, tcp="10.0.0.9:22", console="login:"))},
}
_NOT_ALONE = {
    "trusted": "the xl that judges here knows it of interfaces only",
    "grant_usage": "of xl 4.20",
    "vlan": "of xl 4.20",
    "name": "of another name it is another domain",
    "type": "each type is tried with all the others",
    "uuid": "it cannot change while the domain runs; tests/plan/test_claims.py",
    "state": "a stopped one has nothing to read back; tests/decide/test_left_alone.py, tests/chaos",
    "depends_on": "needs another domain; tests/laws/test_rules_meet.py",
    "rehearse": "it stands in no file of the host; tests/kernels/test_rehearsals.py",
    "reconcile": "then nothing is changed; tests/decide/test_left_alone.py",
}
"""Keys that no change above gives another value, and why."""


@dataclass(slots=True)
class Dom0:
    """The texts on a host with one domain, which steps change as they would there."""

    xl: RealXl
    kind: str
    config: str | None = None
    candidate: str | None = None
    running: dict[str, Any] | None = None
    started: str = ""
    autostart: int | None = None
    files: set[str] = field(
        default_factory=lambda: {ROOT.target, DATA.target, "/dev/sdb1", "/srv/data.qcow2", DRIVE.target, "/srv/b.iso"}
    )

    def do(self, step: Step) -> None:
        match step:
            case WriteConfig():
                text = render_file(step.definition, "default", None, proven=step.proven)
                if step.candidate:
                    self.candidate = text
                else:
                    self.config, self.candidate = text, None
            case PromoteConfig():
                assert self.config is not None
                self.config, self.candidate = as_proven(self.candidate or self.config), None
            case Start():
                started = self.candidate if step.candidate else self.config
                assert started is not None
                self.started = started
                verdict = self.xl.create(started)
                assert verdict.config is not None, verdict.said
                self.running = verdict.config
            case Shutdown():
                self.running = None
            case _:
                self._change(step)

    def _change(self, step: Step) -> None:
        running = self.running or {}
        match step:
            case SetMemory():
                running["b_info"]["target_memkb"] = step.memory_kib
            case SetVcpus():
                running["b_info"]["avail_vcpus"] = list(range(step.vcpus))
            case SetScheduler():
                running["b_info"]["sched_params"] |= {
                    {"cpu_weight": "weight"}.get(name, name): value for name, value in step.shares
                }
            case AttachVif():
                running.setdefault("nics", []).append(
                    self.xl.attach("network-attach", vif_spec(step.vif).split(",")).config
                )
            case DetachVif():
                running["nics"] = [nic for nic in running["nics"] if nic["devid"] != step.vif.devid]
            case AttachDisk():
                running.setdefault("disks", []).append(self.xl.attach("block-attach", [disk_spec(step.disk)]).config)
            case SetMedium():
                (drive,) = (disk for disk in running["disks"] if disk["vdev"] == step.disk.vdev)
                drive |= {"pdev_path": step.disk.target, "format": "raw" if step.disk.target else "empty"}
            case _:
                assert isinstance(step, get_args(Step))
                self.autostart = getattr(step, "order", self.autostart)

    def listed(self) -> dict[str, Any]:
        """As `xl list -l` shows it: with what libxl fills in for a live domain."""
        assert self.running is not None
        built = self.running["b_info"]
        usual = "vif_ioemu" if self.kind == "hvm" else "vif"
        return {
            **self.running,
            "b_info": {
                **built,
                "max_vcpus": built.get("max_vcpus", 1),
                "avail_vcpus": built.get("avail_vcpus", [0]),
                "sched_params": {"sched": "credit2", "weight": 256, "cap": 0, **built.get("sched_params", {})},
            },
            "disks": [{**disk, "colo_restore_enable": "False"} for disk in self.running.get("disks", ())],
            "nics": [{"nictype": usual, **nic} for nic in self.running.get("nics", ())],
        }

    def observe(self) -> Host:
        power = Power.RUNNING if self.running is not None else Power.ABSENT
        seen = LiveDomain(name="web", uuid="uuid-of-web", power=power, actual_kib=256 * MIB)
        images = {image.path: image.sha256 for image in (OLD, NEW)}
        guests: dict[str, Guest]
        guests, _ = assemble_guests(
            fleet="default",
            configs={} if self.config is None else {"web": self.config},
            candidates={} if self.candidate is None else {"web": self.candidate},
            instances=[] if self.running is None else [replace(seen, uuid=self.uuid, config=self.listed())],
            images=images,
            started={"web": self.started},
            autostart={} if self.autostart is None else {"web": self.autostart},
        )
        facts = {
            path: FileFact(kind="block" if path.startswith("/dev") else "file", size_bytes=4096, key=path)
            for path in self.files
        }
        return Host(
            name="alpha",
            total_kib=1 << 24,
            free_kib=1 << 23,
            cpus=8,
            guests=guests,
            images=images,
            files=facts,
            bridges=frozenset({"xenbr0"}),
        )

    @property
    def uuid(self) -> str:
        assert self.running is not None
        return str(self.running["c_info"]["uuid"])


def first(kind: str) -> Domain:
    return replace(
        domain("web", uuid="38ace7a1-db84-5728-9dad-fe46c80151ff", kernel=OLD, disks=(ROOT,), vifs=(BARE,)),
        type=kind,  # type: ignore[arg-type]  # the types of the table below
    )


_ONLY_FOR = {
    "emulated vif": ("hvm",),  # cards are emulated for these only
    "vif with a model": ("hvm",),
    "bootloader": ("pv", "pvh"),
    "bootloader_args": ("pv", "pvh"),
    "firmware": ("hvm",),
    "pci": ("pv", "hvm"),
}


def changed(kind: str, change: str) -> Domain:
    if kind not in _ONLY_FOR.get(change, (kind,)):
        pytest.skip(f"not for {kind} domains")
    return replace(first(kind), **CHANGES[change])


def planned(dom0: Dom0, wanted: Domain) -> Plan:
    return plan(dom0.observe(), desired(wanted, settings=SETTINGS))


def applied(dom0: Dom0, made: Plan, end: int | None = None) -> None:
    for step in made.steps[:end]:
        dom0.do(step.step)


def restarts(made: Plan) -> bool:
    return any(change.action is Action.RESTART for change in made.changes)


def running(xl: RealXl, wanted: Domain) -> Dom0:
    """A dom0 on which this was applied to nothing."""
    dom0 = Dom0(xl, wanted.type)
    applied(dom0, planned(dom0, wanted))
    assert dom0.running is not None
    return dom0


KINDS = pytest.mark.parametrize("kind", ["pv", "pvh", "hvm"])
EVERY = pytest.mark.parametrize("change", CHANGES)


def test_every_key_that_a_file_holds_is_among_the_changes() -> None:
    """A key that is added to the table and not here fails this test."""
    worlds = [replace(first("pv"), **change) for change in CHANGES.values()]
    missing = {
        key.name
        for key in DOMAIN_KEYS
        if key.of is not None and all(key.value(one) == key.value(first("pv")) for one in worlds)
    }
    disks = [disk for one in worlds for disk in one.disks]
    missing |= {key.name for key in DISK_KEYS if key.of is not None and len({key.value(disk) for disk in disks}) < 2}
    vifs = [vif for one in worlds for vif in one.vifs]
    missing |= {key.name for key in VIF_KEYS if key.of is not None and len({key.value(vif) for vif in vifs}) < 2}
    assert missing == _NOT_ALONE.keys()


@KINDS
@EVERY
def test_what_was_created_is_as_specified(xl: RealXl, kind: str, change: str) -> None:
    wanted = changed(kind, change)
    made = planned(running(xl, wanted), wanted)
    assert [(one.action, one.fields) for one in made.changes] == [(Action.NO_OP, ())]
    assert made.steps == ()


@KINDS
@EVERY
def test_an_apply_that_was_cut_short_is_ended_without_another_restart(xl: RealXl, kind: str, change: str) -> None:
    wanted = changed(kind, change)
    whole = planned(running(xl, first(kind)), wanted)
    for end in range(len(whole.steps) + 1):
        dom0 = running(xl, first(kind))
        applied(dom0, whole, end)
        rest = planned(dom0, wanted)
        assert not restarts(rest) or restarts(whole), (end, rest.changes)
        started = any(isinstance(step.step, Start) for step in whole.steps[:end])
        assert not (started and restarts(rest)), (end, rest.changes)
        applied(dom0, rest)
        left = planned(dom0, wanted)
        assert left.steps == (), (end, left.changes)
        assert not [one for one in left.changes if one.fields and not one.pending], (end, left.changes)


@pytest.mark.parametrize("medium", ["/srv/b.iso", ""], ids=["another", "none"])
@pytest.mark.parametrize("kind", ["pv", "hvm"])
def test_a_medium_is_changed_live_where_the_drive_is_emulated(xl: RealXl, kind: str, medium: str) -> None:
    before = replace(first(kind), disks=(ROOT, DRIVE))
    wanted = replace(before, disks=(ROOT, replace(DRIVE, target=medium)))
    dom0 = running(xl, before)
    made = planned(dom0, wanted)
    assert restarts(made) is (kind == "pv")
    if kind == "hvm":
        assert [step.step.kind for step in made.steps] == ["set_medium", "write_config"]
    applied(dom0, made)
    assert planned(dom0, wanted).steps == ()


def test_what_people_did_with_a_drive_is_drift_that_is_undone_live(xl: RealXl) -> None:
    wanted = replace(first("hvm"), disks=(ROOT, DRIVE))
    dom0 = running(xl, wanted)
    assert dom0.running is not None
    dom0.running["disks"][1] |= {"pdev_path": "", "format": "empty"}
    made = planned(dom0, wanted)
    assert [step.step.kind for step in made.steps] == ["set_medium"]
    applied(dom0, made)
    assert planned(dom0, wanted).steps == ()


USUAL: dict[str, dict[str, Any]] = {
    "cpus": {"cpus": "all"},
    "cpus of each vcpu": {"cpus": ("all",)},
    "pool": {"pool": "Pool-0"},
    "mtu": {"vifs": (replace(BARE, mtu=1500),)},
    "model": {"vifs": (replace(BARE, model="rtl8139"),)},
    "trusted": {"vifs": (replace(BARE, trusted=True),)},
    "discard": {"disks": (replace(ROOT, discard=True),)},
    "specification": {"disks": (replace(ROOT, specification="xen", colo=False),)},
    "cmdline": {"cmdline": ""},
    "shares": {"cpu_weight": 256, "cap": 0},
    "acpi": {"xl": (("acpi", 1), ("apic", "1"))},
    "boot": {"xl": (("boot", "cda"), ("nestedhvm", 0), ("xen_platform_pci", 1))},
    "nomigrate": {"xl": (("localtime", 0), ("nomigrate", 0), ("on_soft_reset", "soft-reset"), ("tsc_mode", "default"))},
    "channels": {"xl": (("max_event_channels", 1023),)},
}
"""Keys that are given the value that xl uses without them."""


@KINDS
@pytest.mark.parametrize("usual", USUAL)
def test_what_xl_does_anyway_is_no_reason_to_restart(xl: RealXl, kind: str, usual: str) -> None:
    plain = replace(first(kind), cpu_weight=None)
    said = replace(plain, **USUAL[usual])
    for before, wanted in ((plain, said), (said, plain)):
        dom0 = running(xl, before)
        made = planned(dom0, wanted)
        assert [one for one in made.changes if one.fields] == []
        assert {step.step.kind for step in made.steps} <= {"write_config"}
        applied(dom0, made)
        assert planned(dom0, wanted).steps == ()


def test_what_xl_chose_by_itself_may_be_asked_for_without_a_restart(xl: RealXl) -> None:
    """A bridge, a script, the name of the interface, what serves a disk: `xl list -l` tells what became of it."""
    dom0 = running(xl, replace(first("pv"), vifs=(replace(BARE, bridge=None),)))
    assert dom0.running is not None
    dom0.running["nics"][0] |= {"bridge": "xenbr0", "script": "/etc/xen/scripts/vif-bridge", "ifname": "vif7.0"}
    dom0.running["disks"][0] |= {"backend": "phy", "discard_enable": "True"}
    asked = replace(BARE, bridge="xenbr0", script="vif-bridge", vifname="vif7.0")
    wanted = replace(first("pv"), vifs=(asked,), disks=(replace(ROOT, backendtype="phy", discard=True),))
    made = planned(dom0, wanted)
    assert (made.steps[0].step.kind, len(made.steps)) == ("write_config", 1)
    applied(dom0, made)
    assert planned(dom0, wanted).steps == ()
    other = replace(wanted, vifs=(replace(asked, vifname="web0"),))
    assert restarts(planned(dom0, other))
