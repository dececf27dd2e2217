"""Device specs: xl's own test vectors, the old forms of the NetBSD HOWTO, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from reconciler.model.domain import Disk, Vif
from reconciler.model.quantities import rate_of, rate_text
from reconciler.texts.devices import (
    disk_spec,
    kind_of,
    parse_disk,
    parse_vif,
    read_disk,
    read_vif,
    vif_spec,
)
from tests.strategies import disks, vifs


@pytest.mark.parametrize(
    ("spec", "disk"),
    [
        ("file:/u0/xen/foo-wd0,0x0,w", Disk(vdev="0x0", devid=0, kind="file", target="/u0/xen/foo-wd0")),
        ("file:/u0/xen/foo-wd1,0x1,w", Disk(vdev="0x1", devid=1, kind="file", target="/u0/xen/foo-wd1")),
        ("phy:/dev/vg0/web,xvda,r", Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg0/web", access="ro")),
        ("phy:vg0/web,xvda,w", Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg0/web")),
        ("phy:/dev/wd0e,0x1,w", Disk(vdev="0x1", devid=1, kind="device", target="/dev/wd0e")),
        ("/srv/a.img,raw,hda,rw", Disk(vdev="hda", devid=768, kind="file", target="/srv/a.img")),
        ("/srv/a.img,,hda", Disk(vdev="hda", devid=768, kind="file", target="/srv/a.img")),
        (
            "format=qcow2, vdev=xvdb, access=ro, target=/srv/a,b=c",
            Disk(vdev="xvdb", devid=51728, kind="file", target="/srv/a,b=c", format="qcow2", access="ro"),
        ),
        (",hdc:cdrom,r", Disk(vdev="hdc", devid=5632, kind="device", target="", access="ro", cdrom=True)),
        ("cdrom,vdev=hdc", Disk(vdev="hdc", devid=5632, kind="device", target="", access="ro", cdrom=True)),
        (
            "file:/srv/a.iso,hdc:cdrom,r",
            Disk(vdev="hdc", devid=5632, kind="device", target="/srv/a.iso", access="ro", cdrom=True),
        ),
        (
            "vdev=xvda,script=block-x,direct-io-safe,no-discard,untrusted,backendtype=phy,colo-port=7,target=pool/a",
            Disk(
                vdev="xvda",
                devid=51712,
                kind="device",
                target="pool/a",
                script="block-x",
                direct_io_safe=True,
                discard=False,
                trusted=False,
                backendtype="phy",
                colo_port=7,
            ),
        ),
        (
            "iscsi:iqn.2001:a,xvda,w",
            Disk(vdev="xvda", devid=51712, kind="device", target="iqn.2001:a", script="block-iscsi"),
        ),
    ],
)
def test_disks(spec: str, disk: Disk) -> None:
    assert parse_disk(spec) == disk


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("/srv/a.img,0x0,w", 'the format "0x0"'),
        ("/srv/a.img", "no vdev"),
        ("vdev=xvda", "no target"),
        ("vdev=xvda,vdev=xvdb,target=/a", "vdev twice"),
        ("foo:/srv/a,hda,w", 'begins "foo:"'),
        ("/a,raw,hda,w,r", "more parts"),
        ("/a,raw,hda,x", 'the access "x"'),
        ("/a,raw,hda,colour=blue", '"colour=blue"'),
        ("/a,raw,nonsense,w", "names no virtual disk"),
    ],
)
def test_bad_disks_are_told_why(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_disk(spec)


def test_what_no_spec_can_say_of_a_disk_is_named() -> None:
    assert read_disk(",empty,xvda,w")[1] == ("format=empty",)
    assert read_disk("/a,raw,xvda,w,colo-port=70000")[1] == ("colo-port=70000",)


@given(disks())
def test_a_written_disk_is_read_back(disk: Disk) -> None:
    found = parse_disk(disk_spec(disk))
    assert (found.devid, found.target, found.format, found.access) == (
        disk.devid,
        disk.target,
        disk.format,
        disk.access,
    )


def test_a_target_that_xl_would_shorten_is_refused() -> None:
    with pytest.raises(ValueError, match="ends with a comma"):
        disk_spec(Disk(vdev="xvda", devid=51712, kind="file", target="/srv/a,"))


@pytest.mark.parametrize(
    ("target", "kind"),
    [("/srv/vg0/web", "file"), ("/dev/vg0/web", "lv"), ("/dev/mapper/vg0-web", "device"), ("/dev/sda", "device")],
)
def test_the_kind_of_a_target(target: str, kind: str) -> None:
    assert kind_of(target) == kind


@pytest.mark.parametrize(
    ("spec", "vif"),
    [
        ("", Vif(devid=2, mac="")),
        ("mac=AA:00:00:d1:00:09, bridge=bridge0", Vif(devid=2, mac="aa:00:00:d1:00:09", bridge="bridge0")),
        ("devid=7,rate=10Mb/s", Vif(devid=7, mac="", rate="10Mb/s")),
        (
            "ip=10.0.0.1 netmask 255.255.255.0,script=vif-ip",
            Vif(devid=2, mac="", ip="10.0.0.1 netmask 255.255.255.0", script="vif-ip"),
        ),
        (
            "type=ioemu,model=e1000,vifname=v0,gatewaydev=x,accel=1",
            Vif(devid=2, mac="", type="ioemu", model="e1000", vifname="v0", gatewaydev="x"),
        ),
        ("netdev=eth0,mtu=9000,untrusted", Vif(devid=2, mac="", gatewaydev="eth0", mtu=9000, trusted=False)),
        ("ip=10.0.0.5 ,backend=net", Vif(devid=2, mac="", ip="10.0.0.5", backend="net")),
        (
            "forwarddev=e,colo_sock_mirror_id=1",
            Vif(devid=2, mac="", colo=(("forwarddev", "e"), ("sock_mirror_id", "1"))),
        ),
    ],
)
def test_vifs(spec: str, vif: Vif) -> None:
    assert parse_vif(spec, 2) == vif


@pytest.mark.parametrize("spec", ["foo", "colour=blue", "mac=nonsense", "type=pv", "rate=fast", "devid=first"])
def test_bad_vifs_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=spec.partition("=")[2] or spec):
        parse_vif(spec, 0)


def test_what_xl_makes_nothing_of_is_named() -> None:
    read = read_vif("bridge=br0,foo,type=netfront,mac=random,bridge = br1,mtu=70000", 0)
    ignored = ("foo", "type=netfront", "mac=random", "bridge = br1")
    assert read == (Vif(devid=0, mac="", bridge="br0"), ignored, ("mtu=70000",))


@pytest.mark.parametrize(("written", "meant"), [("/srv//a", "/srv/a"), ("/srv/./a", "/srv/a"), ("/x/../a", "/x/../a")])
def test_a_path_has_one_spelling(written: str, meant: str) -> None:
    assert read_disk(f"{written},raw,xvda,w")[0].target == meant


@given(vifs(devid=3))
def test_a_written_vif_is_read_back(vif: Vif) -> None:
    assert parse_vif(vif_spec(vif), 0) == vif


def test_a_comma_in_a_vif_is_refused() -> None:
    with pytest.raises(ValueError, match="another key"):
        vif_spec(Vif(devid=0, mac="00:16:3e:00:00:01", ip="10.0.0.1,bridge=br0"))


@pytest.mark.parametrize("rate", ["16000000b/s", "10MB/s@1s", "1GB/s@3us", "3B/s@1s"])
def test_a_rate_read_from_a_running_domain_means_the_same(rate: str) -> None:
    assert rate_of(rate_text(*rate_of(rate))) == rate_of(rate)


def _vectors(corpus: Path, kind: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((corpus / f"xen-xl-parse-vectors/{kind}-parse-vectors.json").read_text())
    return vectors


def _format(expected: dict[str, Any]) -> str:
    """The format in the words of a spec, which says of a drive only that it has nothing in it."""
    return "raw" if expected["format"] == "empty" else str(expected["format"])


def test_the_disk_vectors_of_xl(corpus: Path) -> None:
    for vector in _vectors(corpus, "disk"):
        spec, expected = ",".join(vector["args"]), vector["expect"]
        if expected is None:
            with pytest.raises(ValueError, match=spec):
                parse_disk(spec)
            continue
        disk = parse_disk(spec)
        assert disk.target == expected.get("pdev_path", "")
        assert disk.vdev == expected["vdev"]
        assert (disk.format, bool(disk.cdrom)) == (_format(expected), bool(expected.get("is_cdrom")))
        assert disk.access == ("rw" if expected.get("readwrite") else "ro")


def test_the_vif_vectors_of_xl(corpus: Path) -> None:
    for vector in _vectors(corpus, "vif"):
        spec, expected = ",".join(vector["args"]), vector["expect"]
        if expected is None:
            with pytest.raises(ValueError, match=r"xl"):
                parse_vif(spec, 0)
        elif rate := parse_vif(spec, 0).rate:
            assert rate_of(rate) == (expected["rate_bytes_per_interval"], expected["rate_interval_usecs"])
        else:
            assert expected == {"trusted": "True"}


@given(disks())
def test_a_plain_disk_is_read_as_one_with_blanks_between(disk: Disk) -> None:
    spec = disk_spec(disk)
    head, _, target = spec.partition("target=")
    plain, others = read_disk(spec)
    assert (repr(plain), others) == (repr((by_the_rules := read_disk(f" {head}target={target}"))[0]), by_the_rules[1])


@given(vifs())
def test_a_plain_vif_is_read_as_one_with_blanks_between(vif: Vif) -> None:
    spec = vif_spec(vif)
    assert repr(read_vif(spec, 0)) == repr(read_vif(spec.replace(",", ", "), 0))
