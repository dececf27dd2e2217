"""Hypothesis strategies of domains, shared by the property tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

from hypothesis import strategies as st

from reconciler.model.domain import Disk, Domain, Image, Vif, XlValue, driver_domain
from reconciler.model.keys import DISK_KEYS
from reconciler.model.vdev import devid_of
from reconciler.specs.schema import LIFTED, DomainSpec
from reconciler.specs.toml import parse_toml

names = st.from_regex(r"[a-z][a-z0-9._-]{0,12}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30)
"""Whatever a person may write on one line, with all that could upset a config file: quotes, backslashes, `#`, `]`."""

_words = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=",/"), min_size=1, max_size=12)
_ACTIONS = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart")
_PCI = ("0000:01:00.0", "0000:02:1f.3", "0000:00:1b.0,permissive=1", "0000:03:00.*@05", "name=nic0,seize=1")
_CPUS: tuple[str | tuple[str, ...] | None, ...] = (None, "0-3", "all", "1,^0", "2", ("0", "1-2"))
_VDEVS = ("xvda", "xvdb", "xvdc1", "hda", "hdc", "sda", "0x0", "0x1", "768", "51744", "d3p1")

_LIFTED: dict[str, tuple[Any, Any]] = {
    key.attribute: (key.default, getattr(DomainSpec.model_validate(parse_toml(key.example)), key.attribute))
    for key in LIFTED.values()
}
"""Keys that are passed on as they stand and came after 0.1: left out, or as in their example."""


_OPTIONS_OF_DISKS = tuple(
    key for key in DISK_KEYS if key.is_ordinary and key.in_cfg and key.name not in ("trusted", "grant_usage")
)
"""Those that xl 4.17 knows."""


def images(folder: str = "/var/lib/xen/kernels/web") -> st.SearchStrategy[Image]:
    """Staged images. Of two with one path the bytes are the same, as they are on any host."""
    return st.builds(
        lambda name, short: Image(sha256=f"{short}{_rest_of(short)}", path=f"{folder}/{name}.{short}"),
        _words,
        st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    )


def _rest_of(short: str) -> str:
    return hashlib.sha256(short.encode()).hexdigest()[len(short) :]


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    kind: Literal["file", "lv", "device"] = draw(st.sampled_from(("file", "lv", "device")))
    folder = {"file": "/srv", "lv": "/dev/vg0", "device": "/dev/disk/by-id"}[kind]
    word = draw(_words.filter(lambda word: word.strip(".")))  # "/srv/." is no path by the time that specs were read
    target = f"{folder}/{word}{draw(st.sampled_from(('', ',a=b', '.img', ' b')))}"
    vdev = draw(st.sampled_from(_VDEVS))
    options: dict[str, Any] = {
        key.attribute: draw(st.sampled_from((key.default, parse_toml(key.example)[key.name])))
        for key in _OPTIONS_OF_DISKS
    }
    cdrom = draw(st.integers(0, 3)) == 0 and not options["script"]
    empty = cdrom and draw(st.booleans())
    disk = Disk(
        **options,
        vdev=vdev,
        devid=devid_of(vdev),
        kind=kind,
        target="" if empty else target,
        format="raw" if empty else draw(st.sampled_from(("raw", "qcow2", "qcow", "vhd", "qed"))),
        access="ro" if cdrom else draw(st.sampled_from(("rw", "ro"))),
        cdrom=cdrom,
        size_bytes=draw(st.none() | st.integers(1, 1 << 40)),
        on_delete=draw(st.sampled_from(("keep", "delete"))),
    )
    return replace(disk, kind="device") if disk.used_as_is else disk


@st.composite
def vifs(draw: st.DrawFn, devid: int = 0) -> Vif:
    word = st.none() | _words.map(lambda text: text.strip(" ")).filter(bool)
    return Vif(
        devid=devid,
        mac=f"00:16:3e:{draw(st.integers(0, 255)):02x}:{draw(st.integers(0, 255)):02x}:{devid:02x}",
        bridge=draw(st.none() | st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._:-]{0,12}", fullmatch=True)),
        ip=draw(word),
        script=draw(word),
        rate=draw(st.none() | st.sampled_from(("10Mb/s", "1MB/s@20ms", "512Kb/s@1s", "3B/s@500000us"))),
        model=draw(word),
        type=draw(st.none() | st.sampled_from(("vif", "ioemu"))),
        vifname=draw(word),
        gatewaydev=draw(word),
        backend=draw(word.map(driver_domain)),
        mtu=draw(st.none() | st.sampled_from((1500, 9000))),
        trusted=draw(st.none() | st.booleans()),
        colo=draw(st.sampled_from(((), (("forwarddev", "eth1"), ("sock_mirror_id", "0"))))),
    )


@st.composite
def domains(draw: st.DrawFn, name: str | None = None) -> Domain:
    """Definitions that a spec could have led to: staged images, whole MiB, each device once."""
    memory, vcpus = draw(st.integers(1, 1 << 16)), draw(st.integers(1, 8))
    kind: Literal["pv", "pvh", "hvm"] = draw(st.sampled_from(("pv", "pvh", "hvm")))
    boots = draw(st.sampled_from(("kernel", "bootloader", "firmware")))
    firmware = {"pv": "pvgrub64", "pvh": "pvgrub32", "hvm": "ovmf"}[kind]
    return Domain(
        name=name or draw(names),
        uuid=str(draw(st.uuids())),
        type=kind,
        kernel=draw(images()) if boots == "kernel" else None,
        ramdisk=draw(st.none() | images()) if boots == "kernel" else None,
        cmdline=draw(st.none() | texts),
        bootloader=draw(texts.filter(bool)) if boots == "bootloader" else None,
        bootloader_args=draw(st.lists(texts, max_size=2).map(tuple)) if boots == "bootloader" else (),
        firmware=firmware if boots == "firmware" else None,
        memory_kib=memory * 1024,
        maxmem_kib=(memory + draw(st.integers(0, 1024))) * 1024,
        vcpus=vcpus,
        maxvcpus=vcpus + draw(st.integers(0, 4)),
        cpus=draw(st.sampled_from(_CPUS)),
        cpu_weight=draw(st.none() | st.integers(1, 65535)),
        cap=draw(st.none() | st.integers(0, 100)),
        disks=tuple(draw(st.lists(disks(), max_size=3, unique_by=lambda disk: disk.devid))),
        vifs=tuple(draw(vifs(devid)) for devid in range(draw(st.integers(0, 2)))),
        pci=tuple(draw(st.lists(st.sampled_from(_PCI), unique=True))),
        on_poweroff=draw(st.sampled_from(_ACTIONS)),
        on_reboot=draw(st.sampled_from(_ACTIONS)),
        on_crash=draw(st.sampled_from(_ACTIONS)),
        on_watchdog=draw(st.sampled_from(_ACTIONS)),
        xl=draw(_xl_keys()),
        state=draw(st.sampled_from(("running", "stopped"))),
        prevent_destroy=draw(st.booleans()),
        shutdown_timeout_seconds=draw(st.sampled_from((90, 0.5, 600))),
        on_shutdown_timeout=draw(st.sampled_from(("fail", "destroy"))),
        depends_on=tuple(draw(st.lists(names, max_size=2, unique=True))),
        **{name: draw(st.sampled_from(values)) for name, values in _LIFTED.items()},
    )


@st.composite
def _xl_keys(draw: st.DrawFn) -> tuple[tuple[str, XlValue], ...]:
    """Keys that no xl knows, so that their values can be anything."""
    atoms = texts | st.integers(0, 1 << 40)
    items = atoms | st.lists(atoms, max_size=2).map(tuple)
    value = atoms | st.lists(items, max_size=3).map(tuple)
    keys = st.from_regex(r"x_[._0-9a-z]{0,6}", fullmatch=True)
    return tuple(sorted(draw(st.dictionaries(keys, value, max_size=3)).items()))
