"""What xl refuses, or leaves out, of the keys that a spec passes on unread: told as the real xl does it."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reconciler.texts.cfg_grammar import read_cfg
from reconciler.texts.cfg_reader import read_values
from reconciler.texts.refusals import Type, left_out, refusals
from tests.texts.oracle.real_xl import RealXl

LATER = ("ffa", "limited", "cpu_hotplug")
"""Words that came after the release that judges here."""

_few = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def head(kind: Type) -> str:
    kernel = "" if kind == "hvm" else 'kernel = "/boot/vmlinuz"\n'
    return f'name = "web"\ntype = "{kind}"\nmemory = 64\nvcpus = 2\n{kernel}'


def agree(xl: RealXl, kind: Type, line: str) -> None:
    """What the real xl refuses is told with the key, and nothing else."""
    text = f"{head(kind)}{line}\n"
    verdict, values = xl.create(text), read_cfg(text).values
    found = [*read_values(values, {}).problems, *refusals(values, kind)]
    assert (verdict.config is None) == bool(found), (text, verdict.said, found)
    keys = {remark.loc[0] for remark in found}
    assert keys <= {part.partition("=")[0].strip() for part in line.splitlines()}


WORD_LINES = [
    f'{key} = "{word}"'
    for key, words in {
        "on_soft_reset": ["preserve", "Preserve", "explode"],
        "passthrough": ["share_pt", "Enabled", "maybe"],
        "tsc_mode": ["native", "NATIVE", "3", "4", "natve", ""],
        "timer_mode": ["no_missed_ticks_pending", "2", "7", "x"],
        "altp2m": ["external", "2", "9", "x"],
        "device_model_version": ["qemu-xen", "qemu"],
        "gic_version": ["v3", "V2", "v9"],
        "tee": ["optee", "none", "x"],
        "vuart": ["sbsa_uart", "x"],
        "bios": ["ovmf", "OVMF", "x"],
        "gfx_passthru": ["igd", "1", "x"],
        "hdtype": ["ahci", "IDE", "x"],
        "ms_vm_genid": ["generate", "none", "x"],
        "vendor_device": ["none", "x"],
        "vga": ["stdvga", "QXL", "qxl", "x"],
        "mmio_hole": ["1024", "255", "256", "3840", "3841", "x"],
        "max_grant_frames": ["64", "-1", "x"],
        "firmware": ["pvgrub64", "ovmf", "/x"],
        "device_model_args": ["-a"],
        "cpus": ["all", "0-1,^1", "^all", "3-1", "x", "", "1,,2"],
        "cpus_soft": ["0", "0-", "-"],
    }.items()
    for word in words
]
LIST_LINES = [
    'viridian = [ "base", "!freq", "all" ]', 'viridian = [ "bas" ]', 'viridian = 1', 'mca_caps = [ "lmce" ]',
    'mca_caps = [ "x" ]', 'mca_caps = "lmce"', 'ioports = [ "2f8-2ff", "3f8" ]', 'ioports = [ "x" ]',
    'ioports = [ "2f8-" ]', 'ioports = [ "1ffffffff" ]', 'irqs = [ 5, "6" ]', 'irqs = [ "5x" ]', 'irqs = [ "-" ]',
    'iomem = [ "fed00,1", "a0,20@b0" ]', 'iomem = [ "4E000,2000,arm_mem_WB" ]', 'iomem = [ "a0" ]',
    'iomem = [ [ "a0,1" ] ]',
    'channel = [ "connection=pty, name=x" ]', 'channel = [ "name=x" ]', 'channel = [ "connection=socket" ]',
    'channel = [ "connection=socket,path=/x" ]', 'channel = [ "connection=x" ]', 'channel = [ "x" ]',
    'usbdev = [ "hostbus=1,hostaddr=3" ]', 'usbdev = [ "type=hostdev,hostbus=1" ]', 'usbdev = [ "type=x" ]',
    'usbdev = [ "port" ]', 'usbctrl = [ "type=pv,version=2,ports=8" ]', 'usbctrl = [ "type=x" ]', 'usbctrl = [ "x=1" ]',
    'vdispl = [ "backend=0,connectors=a:1x1" ]', 'vdispl = [ "backend=0" ]', 'vdispl = [ "connectors=a:x" ]',
    'vkb = [ "backend=0,unique-id=5" ]', 'vkb = [ "backend-type=qemu,unique-id=5" ]', 'vkb = [ "x=1" ]',
    'p9 = [ "tag=a,path=/x,security_model=none" ]',
    'p9 = [ "tag=a,path=/x" ]', 'p9 = [ "tag=a,path=/x,security_model=none,x=1" ]', 'vtpm = [ "backend=x" ]',
    'vtpm = [ "uuid=x" ]', 'pvcalls = [ "backend=0" ]', 'pvcalls = [ "x=1" ]', 'device_model_args = [ "-a" ]',
    'device_model_args_hvm = [ [ "-a" ] ]', 'serial = [ "pty", "null" ]', 'serial = [ [ "pty" ] ]',
    'vnclisten = "0:1"\nvncdisplay = 5', 'vnclisten = "0"\nvncdisplay = 5', 'cpus = [ "0", "1", "x" ]',
    'cpus = [ "0", "x" ]', 'channel = "connection=x"', 'irqs = "x"', 'p9 = [ [ "x" ] ]',
]  # fmt: skip


@pytest.mark.parametrize("kind", ["pv", "pvh", "hvm"])
@pytest.mark.parametrize("line", [*WORD_LINES, *LIST_LINES])
def test_what_the_real_xl_refuses_is_told(xl: RealXl, kind: Type, line: str) -> None:
    agree(xl, kind, line)


@_few
@given(text=st.text(st.sampled_from("0123456789abfx-,^@ node:al"), max_size=10), key=st.sampled_from(
    ["cpus", "cpus_soft", "ioports", "irqs", "iomem"]
))  # fmt: skip
def test_the_real_xl_reads_numbers_and_ranges_in_the_same_way(xl: RealXl, text: str, key: str) -> None:
    if key.startswith("cpus"):  # beyond the processors of this machine xl's answer is about them
        assume(not re.search("[1-9]", text))
    agree(xl, "pv", f'{key} = "{text}"' if key.startswith("cpus") else f'{key} = [ "{text}" ]')


@pytest.mark.parametrize(("line", "hint"), [
    ('localtime = "yes"', "Write localtime = 1."), ('acpi = "x"', None), ("usb = [ 1 ]", None),
    ('vfb = "vnc=1"', "Write vfb = [ ... ]."),
])  # fmt: skip
def test_what_xl_leaves_out_is_told(xl: RealXl, line: str, hint: str | None) -> None:
    text = f"{head('hvm')}{line}\n"
    (remark,) = left_out(read_cfg(text).values)
    assert remark.text.endswith("so xl leaves it out.")
    assert remark.hint == hint
    with_it, without = xl.create(text).config, xl.create(head("hvm")).config
    assert with_it is not None
    assert without is not None
    assert with_it["b_info"] == without["b_info"]


def test_words_of_later_releases_are_taken() -> None:
    for line in ('tee = "ffa"', 'altp2m = "limited"', 'viridian = [ "cpu_hotplug" ]'):
        assert list(refusals(read_cfg(f"{line}\n").values, "hvm")) == []


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_domain_with_nothing_to_boot_is_refused(xl: RealXl, kind: Type) -> None:
    text = f'name = "web"\ntype = "{kind}"\nmemory = 64\n'
    assert xl.create(text).config is None
    (remark,) = refusals(read_cfg(text).values, kind)
    assert remark.text == f"A {kind} domain needs a kernel, a bootloader or a firmware."
