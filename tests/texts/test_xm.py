"""What xm prints and reads: S-expressions as xend writes them, and config files with xm's words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.host import Power
from reconciler.specs.resolve.xm import check_xm
from reconciler.texts.cfg_words import XM_WORDS
from reconciler.texts.config_file import as_proven, read_file, render_body, render_file
from reconciler.texts.listing import XlOutputError
from reconciler.texts.running import overlay
from reconciler.texts.xenstore import backends_as_libxl_has_them, read_store
from reconciler.texts.xm_listing import SxpError, parse_sxp, parse_xm_configs, parse_xm_rows

UUID = "00000002-1111-2222-3333-444444444444"
DOM0 = (
    "(domain\n    (domid 0)\n    (uuid 00000000-0000-0000-0000-000000000000)\n    (vcpus 2)\n    (name Domain-0)\n"
    "    (maxmem 16777215)\n    (memory 512)\n    (cpu_time 99.5)\n    (online_vcpus 1)\n    (state r-----)\n)\n"
)
WEB = f"""(domain
    (domid 7)
    (cpu_weight 512)
    (cpu_cap 50)
    (bootloader )
    (on_crash preserve)
    (uuid {UUID})
    (bootloader_args )
    (vcpus 4)
    (name web)
    (cpus (()))
    (on_reboot restart)
    (on_poweroff destroy)
    (maxmem 256)
    (memory 128)
    (vcpu_avail 3)
    (start_time 1357749308.05)
    (cpu_time 24.1)
    (online_vcpus 2)
    (image
        (linux
            (kernel /var/lib/xen/kernels/web/vmlinuz.51349501a3d1)
            (args 'root=/dev/xvda1 init="/bin/sh"')
            (notes (FEATURES '!writable_page_tables|pae_pgdir_above_4gb'))
        )
    )
    (status 2)
    (state -b----)
    (device
        (vif
            (bridge xenbr0)
            (mac 00:16:3e:00:00:02)
            (script /etc/xen/scripts/vif-bridge)
            (rate 100000,50000)
            (backend 0)
        )
    )
    (device (vif (bridge xenbr1) (mac 00:16:3E:00:00:09) (script /etc/xen/scripts/vif-bridge) (backend 0)))
    (device (console (protocol vt100) (location 2)))
    (device
        (vbd
            (dev xvda:disk)
            (uname
                phy:vg0/web
            )
            (mode w)
        )
    )
    (device (tap (dev xvdb:disk) (uname tap:qcow2:/srv/web.qcow2) (mode r)))
)
"""
DOMAIN = Domain(
    name="web",
    uuid=UUID,
    kernel=Image(sha256="51349501a3d1" + "0" * 52, path="/var/lib/xen/kernels/web/vmlinuz.51349501a3d1"),
    cmdline='root=/dev/xvda1 init="/bin/sh"',
    memory_kib=128 * 1024,
    maxmem_kib=256 * 1024,
    vcpus=2,
    maxvcpus=4,
    cpu_weight=512,
    cap=50,
    on_crash="preserve",
    disks=(
        Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg0/web"),
        Disk(vdev="xvdb", devid=51728, kind="file", target="/srv/web.qcow2", format="qcow2", access="ro"),
    ),
    vifs=(
        Vif(devid=0, mac="00:16:3e:00:00:02", bridge="xenbr0", rate="2MB/s"),
        Vif(devid=1, mac="00:16:3e:00:00:09", bridge="xenbr1"),
    ),
)


def test_rows_of_a_list() -> None:
    dom0, web = parse_xm_rows(DOM0 + WEB)
    assert (dom0.domid, dom0.name, dom0.power, dom0.vcpus) == (0, "Domain-0", Power.RUNNING, 1)
    assert (web.domid, web.name, web.uuid, web.memory_kib, web.vcpus) == (7, "web", UUID, 128 * 1024, 2)


def test_a_domain_of_xm_new_that_was_not_started_does_not_live() -> None:
    shelved = f"(domain (uuid {UUID}) (vcpus 1) (name shelved) (memory 64) (status 0))\n"
    assert [row.domid for row in parse_xm_rows(DOM0 + shelved)] == [0]
    assert dict(parse_xm_configs(shelved)) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WEB, "without Domain-0"),
        ((DOM0 + WEB)[:-60], "never closed"),
        ("Error: Unable to connect to xend", "something that is no domain"),
        ("(domain)) (", "never opened"),
        (DOM0.replace("(state r-----)", ""), "state and uuid"),
        (DOM0.replace("(memory 512)", "(memory lots)"), "memory of the domain Domain-0"),
        (DOM0.replace("(domid 0)", "(domid (0))"), "domid"),
        ("(" * 100, "parentheses are open"),
    ],
)
def test_a_list_that_is_not_understood_is_an_error(text: str, said: str) -> None:
    with pytest.raises(XlOutputError, match=said):
        parse_xm_rows(text)


def test_what_runs_is_what_the_file_asked_for() -> None:
    text = render_file(DOMAIN, "default", None, words=XM_WORDS)
    digests = {DOMAIN.kernel.path: DOMAIN.kernel.sha256} if DOMAIN.kernel else {}
    written = read_file(text, digests, XM_WORDS).domain
    assert written == DOMAIN
    assert overlay(dict(parse_xm_configs(WEB))[7], written, digests) == DOMAIN


def test_an_interface_is_known_by_its_mac() -> None:
    moved = replace(DOMAIN, vifs=tuple(replace(vif, devid=1 - vif.devid) for vif in DOMAIN.vifs))
    running = overlay(dict(parse_xm_configs(WEB))[7], moved, {})
    assert {vif.mac: vif.devid for vif in running.vifs} == {vif.mac: vif.devid for vif in moved.vifs}
    other = overlay(dict(parse_xm_configs(WEB))[7], replace(DOMAIN, vifs=DOMAIN.vifs[1:]), {})
    assert sorted(vif.devid for vif in other.vifs) == [0, 1]


def test_a_file_of_xm_has_no_word_of_xl_alone() -> None:
    body = render_body(replace(DOMAIN, bootloader="pygrub", bootloader_args=("-q", "--x")), XM_WORDS)
    said: dict[str, object] = {}
    exec(body, {}, said)
    assert said["disk"] == ["phy:/dev/vg0/web,xvda,w", "tap:qcow2:/srv/web.qcow2,xvdb,r"]
    assert said["vif"] == ["mac=00:16:3e:00:00:02,bridge=xenbr0,rate=2MB/s", "mac=00:16:3e:00:00:09,bridge=xenbr1"]
    assert (said["extra"], said["cpu_cap"], said["bootargs"]) == (DOMAIN.cmdline, 50, "-q --x")
    assert not said.keys() & {"type", "cmdline", "cap", "bootloader_args", "firmware", "on_watchdog"}


def test_an_hvm_domain_has_a_builder_and_comes_back_as_one() -> None:
    hvm = replace(DOMAIN, type="hvm", kernel=None, cmdline=None)
    text = render_file(hvm, "default", None, words=XM_WORDS)
    assert '\nbuilder = "hvm"\n' in text
    assert read_file(text, {}, XM_WORDS).domain == hvm


def test_the_mark_is_ascii_also_when_it_was_proven() -> None:
    text = render_file(DOMAIN, "Köln", None, proven=False, words=XM_WORDS)
    assert text.isascii()
    assert as_proven(text).isascii()
    mark = read_file(as_proven(text), {}, XM_WORDS).mark
    assert mark is not None
    assert (mark.fleet, mark.proven) == ("Köln", True)


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"type": "pvh"}, ("type",)),
        ({"firmware": "pvgrub64"}, ("firmware",)),
        ({"on_watchdog": "restart"}, ("on_watchdog",)),
        ({"on_reboot": "soft-reset"}, ("on_reboot",)),
        ({"on_poweroff": "coredump-destroy"}, ("on_poweroff",)),
        ({"type": "hvm"}, ("kernel",)),
        ({"cmdline": "name=Köln"}, ("cmdline",)),
        ({"xl": (("max_event_channels", 9),)}, ("xl", "max_event_channels")),
        ({"xl": (("cpu_cap", 9),)}, ("xl", "cpu_cap")),
        ({"vifs": (replace(DOMAIN.vifs[0], devid=3),)}, ("vif", 0)),
        ({"disks": (replace(DOMAIN.disks[0], format="vhd"),)}, ("disk", 0, "format")),
        ({"disks": (replace(DOMAIN.disks[0], target="/dev/vg0/a,b"),)}, ("disk", 0, "lv")),
        ({"pci": ("0000:01:00.0,permissive=1",)}, ("pci", 0)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_xm_cannot_say_is_refused_by_validate_and_never_written(
    change: dict[str, object], loc: tuple[object, ...]
) -> None:
    domain = replace(DOMAIN, **change)  # type: ignore[arg-type]  # the cases name fields of Domain
    assert [complaint.loc for complaint in check_xm(domain)] == [loc]
    with pytest.raises(ValueError, match=r".+\."):
        render_body(domain, XM_WORDS)


def test_what_xm_can_say_is_not_refused() -> None:
    xl = (("boot", "c"), ("vnc", 1))
    assert list(check_xm(replace(DOMAIN, xl=xl, pci=("0000:01:00.0,msitranslate=1",)))) == []


@pytest.mark.parametrize("text", ["(a 'b", "(a '\\x4')", ")", "(a))", "(", "\x00("])
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(SxpError):
        parse_sxp(text)


def test_keys_that_only_xm_knows_are_kept_on_its_hosts_and_those_of_xl_alone_told() -> None:
    text = 'name = "web"\nkernel = "/k"\nmemory = 64\nvscsi = [ "a" ]\nmax_event_channels = 5\n'
    of_xm, of_xl = read_file(text, {}, XM_WORDS), read_file(text, {})
    assert of_xm.domain is not None
    assert of_xl.domain is not None
    assert (of_xm.domain.xl, of_xl.domain.xl) == ((("vscsi", ("a",)),), (("max_event_channels", 5),))
    assert [line.partition(" and ")[0] for line in of_xm.ignored] == ['xm knows no key "max_event_channels"']
    assert [line.partition(" (")[0] for line in of_xl.ignored] == ['xl knows no key "vscsi"']


@pytest.mark.parametrize(("ostype", "connected"), [("hvm", True), ("linux", False)])
def test_the_drive_of_an_hvm_domain_is_not_waited_for(ostype: str, connected: bool) -> None:
    """xend notes in the front end alone that a disk is a drive."""
    lines = [f'/vm/{UUID}/image/ostype = "{ostype}"', f'/local/domain/7/vm = "/vm/{UUID}"']
    for devid, kind, state in (("768", "disk", "4"), ("5632", "cdrom", "1")):
        front, back = f"/local/domain/7/device/vbd/{devid}", f"/local/domain/0/backend/vbd/7/{devid}"
        lines += [f'{front}/device-type = "{kind}"', f'{front}/state = "{state}"', f'{back}/state = "{state}"']
        lines += [f'{back}/frontend = "{front}"', f'{back}/params = "/srv/{kind}"', f'{back}/mode = "r"']
    devices = read_store(backends_as_libxl_has_them(lines)).devices[7]
    assert devices.connected is connected
    assert devices.disks == (("/srv/disk", "ro"), ("/srv/cdrom", "ro"))
