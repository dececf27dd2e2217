"""What a config file says is said by its spec: the real xl makes the same of both, and nothing is held.

`make import-figures` counts the same over a corpus of files from other projects.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.importer.files import read_domain_file
from tests.importer.figures import corpus, files_in, outcome
from tests.importer.files_of_others import REFUSED, TAKEN
from tests.texts.conftest import xl
from tests.texts.oracle.real_xl import RealXl

__all__ = ["xl"]

HEAD = 'name = "web"\nkernel = "/boot/vmlinuz"\nmemory = 64\nvcpus = 2\n'
_CORPUS = corpus()


def word(xl: RealXl, text: str) -> tuple[str, tuple[str, ...]]:
    found = outcome(xl, text)
    return found.word, found.why


@pytest.mark.parametrize(
    "path", files_in(_CORPUS) if _CORPUS else [], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_files_of_the_wild_come_back_as_they_were(xl: RealXl, path: Path) -> None:
    found = outcome(xl, path.read_bytes().decode("utf-8", "surrogateescape"))
    assert found.word == "same" or found.word.startswith("refused by"), found.why


BY_HAND = [
    'type = "hvm"\ndisk = ["phy:/dev/vg0/a,hda,w", "file:/srv/a.iso,hdc:cdrom,r"]',
    'disk = [",empty,hdc:cdrom,r"]',
    'disk = ["cdrom,vdev=hdc"]',
    'disk = ["/dev/sr0,raw,hdc,cdrom"]',
    'disk = ["format=qed,vdev=xvda,access=rw,backendtype=qdisk,target=/srv/a.qed"]',
    'disk = ["/srv/a.vhd,vhd,xvda,w", "/srv/b.qcow,qcow,xvdb,r", "/dev/vg0/c,qcow2,xvdc,w"]',
    'disk = ["vdev=xvda,script=block-iscsi,target=iqn.2001-05.org:a,b=c"]',
    'disk = ["iscsi:iqn.2001-05.org:a,xvda,w"]',
    'disk = ["vdev=xvda,backend=storage,direct-io-safe,no-discard,specification=virtio,target=/dev/vg0/a"]',
    'disk = ["vdev=xvda,colo,colo-host=h,colo-port=9,colo-export=e,active-disk=/a,hidden-disk=/b,target=/srv/a"]',
    'disk = ["/srv/a,raw,0x0,w", "/srv/b,raw,d3p1,r"]',
    "vif = [ 'ip=10.0.0.5 ,mac=00:16:3E:00:00:01' ]",
    'vif = ["mac=00:16:3e:00:00:01,devid=1", "mac=00:16:3e:00:00:02,devid=0"]',
    'vif = ["devid=3", ""]',
    'vif = ["mtu=9000,gatewaydev=eth0,backend=net,trusted", "netdev=eth1,untrusted"]',
    'vif = ["type=netfront,bridge=br0", "mac=random", "bridge = br0", "vlan=5", "accel=1"]',
    'vif = ["model=e1000,script=vif-nat,vifname=v0,rate=10Mb/s@20ms"]',
    'vif = ["forwarddev=eth1,colo_sock_mirror_id=0,colo_checkpoint_port=9"]',
    'type = "hvm"\nvif = ["type=ioemu,model=rtl8139,bridge=br0"]',
    'cpus = ["0", "1-2"]',
    'cpus = "all,^1"\ncpus_soft = ["0", "1"]',
    'pci = ["bdf=01:00.0,permissive=1"]',
    'pci = ["name=nic0"]',
    'pci = ["01:00.*"]',
    'pci = ["1:0.0@5,msitranslate=1,power_mgmt=1,seize=1,rdm_policy=relaxed", "0001:02:03.4"]\npci_permissive = 1',
    'ramdisk = ""',
    'vfb = ["vnc=1,vnclisten=0.0.0.0,vncunused=1", "sdl=1,xauthority=/root/x"]\nvkb = ["backend-type=qemu"]',
    'type = "hvm"\nserial = ["pty", "null"]\nusb = 1\nusbdevice = ["tablet", "host:1.2"]\nboot = "dc"',
    'type = "hvm"\nusbctrl = ["type=auto,version=2,ports=4"]\nusbdev = ["hostbus=1,hostaddr=3"]',
    'channel = ["name=a,connection=socket,path=/run/a", "connection=pty,name=b"]',
    'vtpm = ["backend=tpm,uuid=5c5c6ea2-95de-5d2c-a1b5-bd5a5ad7c0a1"]',
    'type = "hvm"\nviridian = ["base"]\ncpuid = ["0x1:ecx=xxxxxxxxxxxxxxxxxxxxxxxxxxxxx0xx"]\nmca_caps = ["lmce"]',
    'type = "hvm"\nnestedhvm = 1\nhpet = 0\nlocaltime = 1\ntsc_mode = "native"\ncpuid = "host,tm=0"\nfirmware = "ovmf"',
    'vsnd = [["CARD, short-name=Main, sample-formats=s8;u8", "PCM, name=Main", "STREAM, unique-id=0, type=p"]]',
    'vdispl = ["backend=0,be-alloc=1,connectors=a:1920x1080"]\np9 = ["tag=a,path=/srv,security_model=none"]',
    'irqs = [5]\nioports = ["2f8-2ff"]\niomem = ["f0000,10"]\nseclabel = "a:b:c"',
    'bootloader = "pygrub"\nbootloader_args = ["--a b", "c"]\npool = "p"\nperiod = 5\nmax_grant_frames = 64',
    'type = "pvh"\npvshim = 1\npvshim_cmdline = "a b"\non_soft_reset = "preserve"\non_watchdog = "destroy"',
    'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_args = ["-x", "y z"]\nvga = "stdvga"\nspice = 1',
]
"""Each of these was lost, held or changed once."""


@pytest.mark.parametrize("text", BY_HAND)
def test_what_was_lost_once_comes_back_as_it_was(xl: RealXl, text: str) -> None:
    assert word(xl, f"{HEAD}{text}\n") == ("same", ())


@pytest.mark.parametrize("kind", TAKEN)
def test_files_as_others_write_them_come_back_as_they_were(xl: RealXl, kind: str) -> None:
    assert word(xl, TAKEN[kind]) == ("same", ())


@pytest.mark.parametrize("kind", REFUSED)
def test_what_xl_refuses_of_others_is_told_with_all_places(xl: RealXl, kind: str) -> None:
    text, places = REFUSED[kind]
    assert xl.create(text).config is None
    found = read_domain_file(text, "web.cfg", "web")
    assert [str(problem.source).removeprefix("web.cfg:") for problem in found.problems] == places


_paths = st.sampled_from(["/srv/a.img", "/dev/vg0/a", "/dev/sdb1", "/srv/with blank", "/srv/x=1", "/srv/ü"])
_words = st.sampled_from(["a", "br0", "x-1", "a.b", "0", "block-x"])
_domains = st.sampled_from(["a", "x-1", "a.b"])  # no 0: that is the dom0, which serves a device without a word, too
_disk_options = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(["raw", "qcow", "qcow2", "vhd", "qed"]),
        "access": st.sampled_from(["r", "w", "ro", "rw"]),
        "backendtype": st.sampled_from(["phy", "tap", "qdisk", "standalone"]),
        "backend": _domains,
        "script": _words,
        "specification": st.sampled_from(["xen", "virtio"]),
        "devtype": st.sampled_from(["cdrom", "disk"]),
        "colo-host": _words,
        "colo-port": st.integers(1, 65535).map(str),
        "colo-export": _words,
        "active-disk": st.just("/srv/active"),
        "hidden-disk": st.just("/srv/hidden"),
    },
)
_disk_flags = st.lists(st.sampled_from(["direct-io-safe", "discard", "no-discard", "colo", "no-colo"]), max_size=3)
_vif_options = st.fixed_dictionaries(
    {},
    optional={
        "mac": st.sampled_from(["00:16:3e:00:00:01", "02:16:3E:aa:0:9"]),
        "bridge": st.sampled_from(["br0", "ovs0.42", "ovs0:1:2"]),
        "ip": st.sampled_from(["10.0.0.9", "10.0.0.9 10.0.0.10", "::1 "]),
        "script": _words,
        "rate": st.sampled_from(["10Mb/s", "1MB/s@20ms"]),
        "model": st.sampled_from(["e1000", "rtl8139", "netfront"]),
        "vifname": st.sampled_from(["v0", "web.0"]),
        "gatewaydev": _words,
        "netdev": _words,
        "backend": _domains,
        "mtu": st.sampled_from(["1500", "9000"]),
        "forwarddev": _words,
        "colo_sock_mirror_id": _words,
    },
)
_pci_options = st.fixed_dictionaries(
    {},
    optional={
        "permissive": st.sampled_from("01"),
        "msitranslate": st.sampled_from("01"),
        "power_mgmt": st.sampled_from("01"),
        "seize": st.sampled_from("01"),
        "rdm_policy": st.sampled_from(["strict", "relaxed"]),
        "vslot": st.sampled_from(["3", "1f"]),
    },
)
_PCI = ("01:00.0", "0002:1:1f.7", "02:00.*", "name=n")
_others = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.sampled_from(["'0-1'", "['0', '1']", "'all'", "2", "['all,^0', '2']"]),
        "cpus_soft": st.sampled_from(["'0'", "['0', '1']"]),
        "cpu_weight": st.just("512"),
        "cap": st.just("50"),
        "maxmem": st.just("128"),
        "maxvcpus": st.just("4"),
        "on_crash": st.sampled_from(["'preserve'", "'coredump-restart'"]),
        "on_soft_reset": st.just("'preserve'"),
        "root": st.just("'/dev/xvda1 ro'"),
        "extra": st.just("'quiet \"a\\\\b\"'"),
        "vfb": st.sampled_from(["['vnc=1']", "['sdl=1,xauthority=/x', '']"]),
        "serial": st.sampled_from(["'pty'", "['pty', '/dev/ttyS0']"]),
        "usbdevice": st.sampled_from(["'tablet'", "['tablet', 'mouse']"]),
        "boot": st.just("'dc'"),
        "acpi": st.sampled_from("01"),
        "nestedhvm": st.sampled_from("01"),
        "viridian": st.sampled_from(["1", "['base', 'stimer']"]),
        "cpuid": st.sampled_from(["'host,tm=0'", "['0x1:ecx=xxxxxxxxxxxxxxxxxxxxxxxxxxxxx0xx']"]),
        "channel": st.just("['name=a,connection=pty']"),
        "vtpm": st.just("['backend=tpm']"),
        "ioports": st.just("['2f8-2ff', '3f8']"),
        "irqs": st.just("[5, 7]"),
        "vncpasswd": st.just("''"),
        "timer_mode": st.sampled_from(["1", "'no_missed_ticks_pending'"]),
        "pci_msitranslate": st.just("1"),
        "nomigrate": st.just("1"),
        "max_event_channels": st.just("2047"),
    },
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Config files over all keys that xl reads, and over all options of their devices."""
    lines = [f'type = "{draw(st.sampled_from(["pv", "pvh", "hvm"]))}"']
    disks = []
    for vdev in draw(st.lists(st.sampled_from(["xvda", "hdc", "sda1", "0x301"]), unique=True, max_size=3)):
        options, flags = draw(_disk_options), draw(_disk_flags)
        empty = options.get("devtype") == "cdrom" and "script" not in options and draw(st.booleans())
        parts = [f"vdev={vdev}", *(f"{key}={value}" for key, value in options.items()), *flags]
        disks.append(
            ",".join(
                [*draw(st.permutations(parts)), f"target={'' if empty else draw(_paths)}{vdev if not empty else ''}"]
            )
        )
    vifs: list[str] = []
    for devids in draw(st.lists(st.booleans(), max_size=2)):
        options = draw(_vif_options)
        options |= {"devid": str(5 + len(vifs))} if devids else {}
        options |= {"mac": f"00:16:3e:00:00:{len(vifs):02x}"} if "mac" in options else {}
        flags = draw(st.sampled_from([[], ["trusted"], ["untrusted"]]))
        vifs.append(",".join([*(f"{key}={value}" for key, value in options.items()), *flags]))
    devices = draw(st.lists(st.sampled_from(_PCI), unique=True, max_size=2))
    pcis = [",".join([at, *(f"{key}={value}" for key, value in draw(_pci_options).items())]) for at in devices]
    lines += [f"{key} = {found!r}" for key, found in (("disk", disks), ("vif", vifs), ("pci", pcis)) if found]
    others = draw(_others)
    if lines[0] == 'type = "pv"':
        others.pop("timer_mode", None)  # xl refuses it there
    lines += [f"{key} = {value}" for key, value in others.items()]
    return HEAD + "\n".join(lines) + "\n"


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(text=files())
@example(text=f'{HEAD}vif = ["ip=::1 "]\n')
@example(text=f'{HEAD}type = "pv"\ndisk = ["vdev=xvda,access=r,backend=0,target=/srv/a.img"]\n')
@example(text=f'{HEAD}type = "pv"\nvif = ["backend=Domain-0"]\n')
def test_all_that_xl_reads_can_be_said(xl: RealXl, text: str) -> None:
    found = outcome(xl, text)
    assert found.word == "same", (text, found.why)
