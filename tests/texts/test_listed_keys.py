"""What runs without a config file at hand: from what xl lists of it, xl is told the same again at the next start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.texts.config_file import render_body
from reconciler.texts.listed_keys import listed_keys
from reconciler.texts.running import overlay
from tests.texts.oracle.real_xl import RealXl
from tests.texts.recorded import running_json
from tests.texts.test_refusals import LIST_LINES, WORD_LINES, head

_HVM = """name = "web"
type = "hvm"
memory = 64
vcpus = 2
"""
_WHOLE = [
    _HVM + 'boot = "dc"\nnestedhvm = 1\nhpet = 0\nlocaltime = 1\ntsc_mode = "native"\ncpuid = "host,tm=0"\n'
    'usbdevice = [ "tablet" ]\nserial = "pty"\nmax_event_channels = 2047\nvif = [ "mac=0:16:3e:0:0:1,bridge=br0" ]\n',
    _HVM + 'spice = 1\nspiceport = 5\nspicehost = "::1"\nspicepasswd = "x"\nvga = "qxl"\nvideoram = 16\n'
    'shadow_memory = 7\nstubdomain_memory = 32\ndevice_model_version = "qemu-xen"\ndevice_model_override = "/q"\n'
    'device_model_args = [ "-a", "b" ]\nseclabel = "x"\ninit_seclabel = "y"\nvendor_device = "xenserver"\n',
    _HVM + 'vnc = 1\nvnclisten = "127.0.0.1"\nvncpasswd = "x"\nvncdisplay = 3\nvncunused = 0\nsdl = 0\nkeymap = "de"\n'
    'usb = 1\nusbversion = 2\nxen_platform_pci = 0\nacpi_s3 = 0\nrdm_mem_boundary = 64\ngfx_passthru = 1\nhap = 0\n',
    head("pv") + 'vfb = [ "vnc=1,vncdisplay=3,keymap=de", "sdl=1,opengl=0" ]\nvkb = [ "backend-type=linux,width=5" ]\n'
    'cpus_soft = "1"\ndtdev = [ "/a", "/b" ]\ne820_host = 1\n',
    head("pv") + 'vnc = 1\nvncunused = 1\ncpus = "0-1"\nnomigrate = 1\non_soft_reset = "preserve"\n',
    head("pvh") + 'pvshim = 1\npvshim_cmdline = "a b"\ntimer_mode = "one_missed_tick_pending"\nperiod = 9\n'
    'latency = 3\nslice = 4\nextratime = 1\nrtc_timeoffset = 5\nvuart = "sbsa_uart"\nmax_grant_version = 1\nvpmu = 1\n',
    head("pv") + 'vtpm = [ "backend=a,uuid=00000002-1111-2222-3333-444444444444" ]\npassthrough = "share_pt"\n'
    'vdispl = [ "backend=0,be-alloc=1,connectors=a:1x2;b:3x4" ]\ndriver_domain = 1\n',
]  # fmt: skip
_FILLED_IN = ("_vcpus", "_memkb")
_OF_TABLES = ("/disks/", "/nics/", "/pcidevs/")
"""What has tables of its own in a spec: `running` reads it, and its tests judge it."""

_DRAWN = {"uuid", "mac", "ms_vm_genid"}


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Each place where two configurations of xl differ, but for what is drawn by chance and what libxl fills in."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted((before.keys() | after.keys()) - _DRAWN):
            yield from differences(before.get(key), after.get(key), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from differences(one, other, path)
    elif before != after and not (before in (None, "") and after in (None, "")) and not path.endswith(_FILLED_IN):
        yield f"{path}: {before!r} -> {after!r}"


def lost(xl: RealXl, text: str) -> tuple[list[str], tuple[str, ...]] | None:
    """What is not the same at the next start, and what was said to be lost; None when xl refuses the text."""
    before = xl.create(text).config
    if before is None:
        return None
    found: Any = listed_keys(before)
    domain = replace(overlay(before, None, {}), xl=found.xl, cpus=found.cpus)
    after = xl.create(render_body(domain))
    assert after.config is not None, after.said
    return list(differences(before, after.config)), found.untold


@pytest.mark.parametrize("text", _WHOLE)
def test_the_next_start_is_told_all_of_it(xl: RealXl, text: str) -> None:
    assert lost(xl, text) == ([], ())


@pytest.mark.parametrize("kind", ["pv", "pvh", "hvm"])
def test_no_value_of_a_key_is_lost_without_a_word(xl: RealXl, kind: Any) -> None:
    seen = 0
    for line in [*WORD_LINES, *LIST_LINES]:
        outcome = lost(xl, f"{head(kind)}{line}\n")
        if outcome is not None:
            assert not outcome[0] or outcome[1], (line, outcome)
            assert not outcome[1] or line.startswith(("usbdev", "vkb")), outcome  # xl itself lists not all of these
            seen += 1
    assert seen > 40


@pytest.mark.skipif("RECONCILER_CORPUS" not in os.environ, reason="RECONCILER_CORPUS names no folder of config files")
def test_nor_is_any_of_files_found_in_the_wild(xl: RealXl) -> None:
    found = sorted(Path(os.environ["RECONCILER_CORPUS"]).rglob("*"))
    files = [path for path in found if path.suffix == ".cfg" or path.name.startswith(("xlexample", "xmexample"))]
    outcomes = {path.name: lost(xl, path.read_bytes().decode("utf-8", "surrogateescape")) for path in files}
    told = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    assert len(told) > 50
    others = {
        name: (
            [line for line in lost if not line.startswith(_OF_TABLES)],
            [line for line in said if "disks[" not in line],
        )
        for name, (lost, said) in told.items()
    }
    assert {name: outcome for name, outcome in others.items() if outcome[0] and not outcome[1]} == {}
    assert [name for name, outcome in others.items() if outcome[1]] == ["test-usb.cfg"]  # xl itself lists no more of it


def test_what_nobody_knows_is_named() -> None:
    found = listed_keys(running_json(new_thing=[1, 2], other={"deep": "x"}))
    assert found.xl == ()
    assert [sentence.partition(" = ")[0] for sentence in found.untold] == [
        "`xl list -l` shows b_info.new_thing",
        "`xl list -l` shows b_info.other.deep",
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"b_info": {"cpuid": 5, "iomem": [{"start": "x"}], "ioports": [{}], "vcpu_hard_affinity": [1]}},
        {"b_info": {"vnuma_nodes": [{"memkb": "x"}, 3], "type.hvm": [], "cpuid": [{}]}, "c_info": 7},
        {"vfbs": [5], "vkbs": {}, "vdispls": [{"connectors": [3]}], "disks": [3], "nics": 5, "channels": [{}]},
        {"usbdevs": "x", "pcidevs": {"a": 1}, "b_info": None},
    ],
)
def test_odd_output_is_read_as_far_as_it_goes(odd: dict[str, Any]) -> None:
    assert listed_keys(odd).xl == ()


def test_what_libxl_works_out_by_itself_is_no_loss() -> None:
    assert listed_keys(running_json(shadow_memkb=1234, **{"type.pv": {"bootloader": "pygrub"}})).untold == ()
