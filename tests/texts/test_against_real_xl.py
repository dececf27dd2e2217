"""What we write, and how we read, judged by the real xl (see oracle/). Skipped where it cannot be had."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.domain import Disk, Domain, Image, Vif, usual_vif_type
from reconciler.model.pci import PciDevice, read_pci
from reconciler.model.quantities import rate_of
from reconciler.texts.cfg_grammar import XlCfgError, parse_cfg
from reconciler.texts.config_file import read_file, render_file
from reconciler.texts.devices import read_disk, read_vif
from reconciler.texts.running import overlay
from tests.strategies import domains, texts
from tests.texts.oracle.real_xl import RealXl

_HEAD = 'name = "web"\nkernel = "/boot/vmlinuz"\nmemory = 64\n'
_few = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plain(domain: Domain) -> Domain:
    """The domain as xl's JSON can tell of it: no policies, no digests, and its own words for rates and addresses."""

    def undigested(image: Image | None) -> Image | None:
        return image and replace(image, sha256=image.path)

    def said(vif: Vif) -> Vif:
        return replace(vif, type=None) if vif.type == usual_vif_type(domain.type) else vif

    return replace(
        domain,
        kernel=undigested(domain.kernel),
        ramdisk=undigested(domain.ramdisk),
        firmware=None,
        cpus=None,
        xl=(),
        state="running",
        prevent_destroy=False,
        shutdown_timeout_seconds=90,
        on_shutdown_timeout="fail",
        depends_on=(),
        disks=tuple(plain_disk(disk) for disk in domain.disks),
        vifs=tuple(replace(said(vif), rate=vif.rate and str(rate_of(vif.rate))) for vif in domain.vifs),
        pci=tuple(plain_pci(device) for device in domain.pci),
    )


def plain_disk(disk: Disk) -> Disk:
    """A disk as xl's JSON can tell of it: what it uses by itself was not said."""
    usual: dict[str, Any] = {"trusted": True, "specification": "xen", "colo": False}
    usual = {name: None for name, value in usual.items() if getattr(disk, name) == value}
    return replace(disk, on_delete="keep", kind="file", **usual)


def plain_pci(text: str) -> str:
    """A PCI device as xl's JSON can tell of it: what is off was not said."""
    device = read_pci(text)
    flags = {name: True for name, value in (device.flags or {}).items() if value}
    policy = None if device.rdm_policy == "strict" else device.rdm_policy
    return str(PciDevice(bdf=device.bdf, name=device.name, vslot=device.vslot, flags=flags, rdm_policy=policy))


@_few
@given(domain=domains())
def test_xl_understands_a_rendered_domain_as_it_was_meant(xl: RealXl, domain: Domain) -> None:
    verdict = xl.create(render_file(domain, "default", None))
    assert verdict.config is not None, verdict.said
    found = overlay(verdict.config, None, {})
    if domain.firmware is not None and domain.type != "hvm":  # xl resolves it to a kernel of its own
        found = replace(found, kernel=None)
    assert plain(found) == plain(domain)
    assert overlay(verdict.config, domain, {}) == domain
    assert "warning" not in verdict.said.lower(), verdict.said


@_few
@given(text=texts | st.text(max_size=20).map(lambda text: text.replace("\0", "")))
def test_xl_and_we_agree_on_every_string(xl: RealXl, text: str) -> None:
    for quote_mark in "\"'":
        file = f"{_HEAD}cmdline = {quote_mark}{text}{quote_mark}\n".encode("utf-8", "replace").decode()
        verdict = xl.create(file)
        try:
            ours = parse_cfg(file)
        except XlCfgError as error:
            # the one thing that we refuse and xl takes is an octal escape, which xl then drops
            assert verdict.config is None or "escape" in error.message, error
        else:
            assert verdict.config is not None, verdict.said
            assert verdict.config["b_info"].get("cmdline") == ours.get("cmdline")


_pieces = st.sampled_from(
    ["x=1", "x+=1", 'y="a"', 'y+="b"', "z=[", "]", ",", "'c'", '"d"', "12", "0x1f", "\n", "\n", ";", " ", "\t", "# e\n",
     "=", "+=", "[", "z=['a',\n 'b' , ]", "z += [ 'c' ]", "F", "(", "-", ".", "\\", '"', "é", "\r", "x", "#"]
)  # fmt: skip


@settings(_few, max_examples=250)
@given(pieces=st.lists(_pieces, max_size=8))
def test_xl_and_we_agree_on_what_is_a_config_file(xl: RealXl, pieces: list[str]) -> None:
    file = _HEAD + "".join(pieces)
    verdict = xl.create(file)
    try:
        parse_cfg(file)
    except XlCfgError as error:
        assert verdict.config is None or "numbers" in error.message, (file, error)
    else:
        assert verdict.config is not None, (file, verdict.said)


_disk_parts = st.sampled_from(
    ["/srv/a.img", "/dev/vg0/a b", "vg0/a", "raw", "qcow2", "", "xvda", "0x0", "hdc:cdrom", "hda:disk", "w", "r", "rw",
     "format=raw", "format=qcow2", "vdev=xvdb", "access=ro", "access=", "cdrom", "devtype=cdrom", "devtype=disk",
     "target=/srv/b,c=d", "backendtype=phy", "script=block-x", "discard", "foo=1", "foo", " vdev=xvdc", "format="]
)  # fmt: skip


@settings(_few, max_examples=350)
@given(
    prefix=st.sampled_from(["", "", "file:", "phy:", "tap:aio:", "qcow2:", "iscsi:", "foo:"]),
    parts=st.lists(_disk_parts, max_size=5),
)
def test_xl_and_we_agree_on_disks(xl: RealXl, prefix: str, parts: list[str]) -> None:
    spec = prefix + ",".join(parts)
    verdict = xl.attach("block-attach", [spec])
    try:
        disk, _ = read_disk(spec)
    except ValueError as error:
        assert verdict.config is None or "names no virtual disk" in str(error), (spec, error)
        return
    assert verdict.config is not None, (spec, verdict.said)
    path = verdict.config.get("pdev_path", "")
    assert disk.target in (path, f"/dev/{path}")
    assert disk.vdev == verdict.config["vdev"]
    assert (disk.format.replace("empty", "raw"), disk.cdrom) == (
        verdict.config["format"].replace("empty", "raw"),
        bool(verdict.config.get("is_cdrom")),
    )
    assert (disk.access == "rw") == bool(verdict.config.get("readwrite"))


_vif_parts = st.sampled_from(
    ["", "mac=00:16:3E:0:0:1", "mac=00-16-3e-00-00-02", " mac=00:16:3e:00:00:03", "mac=zz", "bridge=br0", "bridge=br1 "]
    + ["bridge=", "ip=10.0.0.1 netmask 255.255.255.0", "script=/etc/x", "vifname=v0", "model=e1000", "type=ioemu"]
    + ["type=vif", "type=x", "devid=3", "devid=x", "foo", "mtu=1500", "trusted"]
    + [f"rate={rate}" for rate in ("10Mb/s", "010MB/s@1s", "8Gb/s@20", "0B/s", "1B/s@0us", "5", "1MB/s@5m", "1KB/s@9u")]
)


@settings(_few, max_examples=250)
@given(parts=st.lists(_vif_parts, max_size=5))
def test_xl_and_we_agree_on_vifs(xl: RealXl, parts: list[str]) -> None:
    spec = ",".join(parts)
    verdict = xl.create(f"{_HEAD}vif = [ '{spec}' ]\n")
    try:
        vif, *_ = read_vif(spec, 0)
    except ValueError as error:
        assert verdict.config is None or "no limit" in str(error), (spec, error)
        return
    assert verdict.config is not None, (spec, verdict.said)
    theirs = overlay(verdict.config, None, {}).vifs[0]
    said = replace(vif, type=None) if vif.type == usual_vif_type("pv") else vif
    theirs = replace(theirs, bridge=(theirs.bridge or "").strip() or None)  # we drop blanks around it, and an empty one
    assert replace(said, rate=None, mac="") == replace(theirs, rate=None, mac="")
    assert vif.mac in ("", theirs.mac)
    assert (vif.rate and rate_of(vif.rate)) == (theirs.rate and rate_of(theirs.rate))


_SETTINGS = [
    "memory = 08", 'memory = "lots"', "memory = 0100", 'memory = " 64"', 'memory = "64 "', "maxmem = 128",
    "vcpus = 0", "vcpus = 2", "vcpus = 2\nmaxvcpus = 1", "vcpus = 2\nmaxvcpus = 4", 'type = "h"', 'type = ""',
    'type = "p"', "cap = 5", 'type = "x"', 'builder = "hvm"', 'builder = "generic"\ntype = "hvm"',
    'type = "hvm"\nkernel = "/x/hvmloader"', 'root = "/dev/xvda"', 'root = "/dev/xvda"\nextra = "ro"',
    'extra = "ro"', 'extra = "ro"\ncmdline = "rw"', "pci = []", 'vif = ""', 'vif = [["a"]]',
    'vif = ["bridge=a", ["x"], "bridge=b"]', 'disk = "x"', 'cpus = ["0", "1"]', 'uuid = "1"',
    'on_crash = "explode"', 'on_crash = "soft-reset"', 'on_poweroff = "preserve"', 'bootloader_args = "a  b"',
    "name = 5", 'bootloader_args = ["a", "b c"]', 'pci = ["nonsense"]', 'pci = ["0000:01:00.0@5,permissive=1"]',
    'cmdline = ["a"]',
]  # fmt: skip


@pytest.mark.parametrize("setting", _SETTINGS)
def test_xl_and_we_agree_on_settings_that_surprise(xl: RealXl, setting: str) -> None:
    agree(xl, f"{_HEAD}{setting}\n")


def _corpus_files() -> list[Path]:
    folder = os.environ.get("RECONCILER_CORPUS")
    found = Path(folder).rglob("*") if folder else []
    return sorted(path for path in found if path.suffix == ".cfg" or path.name.startswith(("xlexample", "xmexample")))


@pytest.mark.parametrize("path", _corpus_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_xl_and_we_agree_on_files_found_in_the_wild(xl: RealXl, path: Path) -> None:
    agree(xl, path.read_bytes().decode("utf-8", "surrogateescape"))


def agree(xl: RealXl, text: str) -> None:
    """What xl accepts we read, as the same domain; what it refuses we may refuse, with a sentence."""
    verdict, reading = xl.create(text), read_file(text, {})
    if verdict.config is None:
        assert reading.domain is not None or reading.problem, verdict.said
        return
    assert reading.domain is not None, reading.problem
    theirs = overlay(verdict.config, None, {})
    # xl draws what is not given
    ours = replace(reading.domain, uuid=reading.domain.uuid or theirs.uuid)
    vifs = [replace(ours, mac=ours.mac or drawn.mac) for ours, drawn in zip(ours.vifs, theirs.vifs, strict=True)]
    ours = replace(ours, vifs=tuple(vifs))
    if ours.kernel is None and ours.firmware is not None:
        theirs = replace(theirs, kernel=None)
    assert plain(ours) == plain(theirs)
