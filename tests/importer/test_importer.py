"""What import makes of domains and config files: the same domain again, or a sentence for each thing that is not."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.decide.diff import align_vifs, compare
from reconciler.importer.tables import Imported, NotImportable, as_toml, host_needs, import_domain
from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.host import Host, Power
from reconciler.specs.resolve import complete_images
from reconciler.specs.resolve.host import resolve_host
from reconciler.specs.value_types import INTERFACE
from reconciler.texts.cfg_grammar import Value, XlCfgError, parse_cfg, quote
from reconciler.texts.cfg_reader import OWN_KEYS
from reconciler.texts.config_file import read_file, render_file
from reconciler.texts.guests import LiveDomain, assemble_guests
from tests.importer.figures import bare_host, import_text, resolved
from tests.strategies import domains, texts
from tests.texts.recorded import UUID, running_json

_few = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_CORPUS = os.environ.get("RECONCILER_CORPUS")
_HEAD = 'name = "web"\nkernel = "/boot/vmlinuz"\nmemory = 64\n'


def sayable(domain: Domain) -> Domain:
    """The nearest domain that a spec has words for."""
    return replace(
        domain,
        name="web",
        cmdline=domain.cmdline or None,
        bootloader=domain.bootloader and (domain.bootloader.strip() or "pygrub"),
        cpu_weight=None if domain.cpu_weight == 256 else domain.cpu_weight,
        cap=domain.cap or None,
        disks=tuple(_sayable_disk(disk) for disk in domain.disks),
        vifs=tuple(_sayable_vif(vif, domain.type) for vif in domain.vifs),
        depends_on=(),
    )


def _sayable_disk(disk: Disk) -> Disk:
    if disk.is_elsewhere or disk.cdrom:
        target = f"/srv/{disk.devid}" if disk.target else ""
        return replace(disk, target=target, size_bytes=None, on_delete="keep")
    if disk.kind == "lv":
        return replace(disk, target=f"/dev/vg0/lv-{disk.devid}", format="raw")
    target = f"{posixpath.normpath(disk.target)}-{disk.devid}"
    return replace(disk, target=target, format="raw", on_delete="keep") if disk.kind == "device" else replace(
        disk, target=target
    )  # fmt: skip


_TEXTS = ("bridge", "ip", "script", "model", "gatewaydev", "backend")


def _sayable_vif(vif: Vif, kind: str) -> Vif:
    words = {key: (getattr(vif, key) or "").strip() or None for key in _TEXTS}
    vif = replace(vif, **words)  # type: ignore[arg-type]  # all of them are texts
    if vif.vifname is None or re.fullmatch(INTERFACE, vif.vifname) is None:
        vif = replace(vif, vifname=None)
    return vif if kind == "hvm" else replace(vif, type=None)


@_few
@given(domain=domains().map(sayable))
def test_what_a_spec_can_say_comes_back_as_it_was(domain: Domain) -> None:
    imported = import_text(render_file(domain, "default", None))
    assert imported.unsaid == ()
    again = resolved(imported)
    digests = {image.path: image.sha256 for image in domain.images}
    completed, missing = complete_images(again, bare_host(), digests)
    assert missing == ()
    assert completed == domain


@_few
@given(domain=domains(name="web"))
def test_what_a_spec_cannot_say_is_told_and_the_domain_held(domain: Domain) -> None:
    try:
        imported = import_text(render_file(domain, "default", None))
    except NotImportable as error:
        assert str(error).endswith(".")
        return
    assert imported.table.get("reconcile", True) is (imported.unsaid == ())
    for sentence in imported.unsaid:
        assert f"# - {sentence}\n" in as_toml(imported, "here")


_values: st.SearchStrategy[Value] = st.recursive(
    texts, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4
)
_keys = st.from_regex(r"[a-z][._0-9a-z]{0,8}", fullmatch=True) | st.sampled_from(
    ["restart", "state", "wave", "ready", "vnuma", "vif2", "cpus_soft", "profile", "serial", "xl", "reconcile"]
)


def _written(value: Value) -> str:
    return quote(value) if isinstance(value, str) else "[" + ", ".join(_written(item) for item in value) + "]"


@_few
@given(extra=st.dictionaries(_keys.filter(lambda key: key not in OWN_KEYS), _values, max_size=4))
def test_no_key_is_dropped_without_a_word(extra: dict[str, Value]) -> None:
    imported = import_text(_HEAD + "".join(f"{key} = {_written(value)}\n" for key, value in extra.items()))
    assert unaccounted(set(extra), imported) == set()
    assert resolved(imported).name == "web"


def unaccounted(keys: set[str], imported: Imported) -> set[str]:
    """The keys that are neither under [xl] nor named in a sentence."""
    told = " ".join((*imported.unsaid, *imported.ignored))
    return {
        key
        for key in keys - set(imported.table.get("xl", ()))
        if re.search(rf"(?<![\w]){re.escape(key)}(?!\w)", told) is None
    }


@pytest.mark.skipif(_CORPUS is None, reason="RECONCILER_CORPUS names no folder of config files")
def test_files_of_the_wild() -> None:
    seen = 0
    for path in sorted(Path(_CORPUS or "").rglob("*")):
        try:
            text = path.read_text() if path.is_file() else ""
            keys = set(parse_cfg(text))
        except (XlCfgError, UnicodeDecodeError):
            continue
        if keys and read_file(text, {}).domain is not None:
            imported = import_text(text)
            assert unaccounted(keys - OWN_KEYS, imported) == set(), path
            assert resolved(imported).memory_kib > 0
            seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('disk = [",empty,xvda,w"]', "disk xvda has format=empty"),
        ('disk = ["/srv/a,raw,xvda,w,colo-port=70000"]', "disk xvda has colo-port=70000"),
        ('disk = ["/srv/../a,raw,xvda,w"]', 'A spec cannot say ".." in "/srv/../a": it has "/a"'),
        ('vif = ["bridge=!"]', "vif[0].bridge must be the name of a bridge"),
        ('ramdisk = " "', "ramdisk must not be empty"),
    ],
)
def test_things_without_a_word(line: str, expected: str) -> None:
    imported = import_text(f"{_HEAD}{line}\n")
    assert expected in " ".join(imported.unsaid)
    assert imported.table["reconcile"] is False
    assert resolved(imported).policy.reconcile is False


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('restart = "onreboot"', "restart is a key that xl does not know"),
        ('cmdline = "quiet"\nroot = "/dev/xvda"', "root is given beside cmdline"),
        ('vif = ["type=netfront"]', "vif 0 has type=netfront"),
        ('vif = ["bridge="]', "vif 0 has bridge="),
        ("vnuma = [[['pnode=0']]]", "vnuma has lists nested"),
        ('ramdisk = ""', "ramdisk is empty"),
        ('cpu_weight = "much"', "cpu_weight"),
    ],
)
def test_things_that_make_no_difference(line: str, expected: str) -> None:
    imported = import_text(f"{_HEAD}{line}\n")
    assert expected in " ".join(imported.ignored)
    assert imported.unsaid == ()
    assert "reconcile" not in imported.table


@pytest.mark.parametrize("name", ["7", "my vm", "x" * 64, "Domain-0", "auto", "host", "ü", ""])
def test_names_that_no_spec_can_have(name: str) -> None:
    with pytest.raises(NotImportable, match="no name for a spec"):
        import_text(f'{_HEAD}name = "{name}"\n')


def test_a_domain_with_nothing_to_boot_has_no_spec() -> None:
    with pytest.raises(NotImportable, match="needs a kernel"):
        import_text('name = "web"\nmemory = 64\n')


def test_defaults_of_the_tree_do_not_leak_into_what_is_imported() -> None:
    defaults = {"vcpus": 4, "on_crash": "restart", "cmdline": "debug", "cap": 50, "disk": [{"vdev": "a", "path": "/x"}]}
    imported = import_text(_HEAD, defaults)
    assert imported.unsaid == ()
    again = resolved(imported, defaults)
    assert again.cap == 0  # which is what no cap means
    assert replace(again, cap=None) == resolved(import_text(_HEAD))


def test_defaults_that_no_spec_can_take_away_are_told() -> None:
    imported = import_text(_HEAD, {"ramdisk": "/boot/initrd", "xl": {"serial": "pty"}})
    assert imported.unsaid == (
        "The tree's [defaults] give it a ramdisk, which it does not have.",
        "The tree's [defaults] give it xl.serial, which it does not have.",
    )


def test_host_toml_is_told_only_what_it_lacks_and_keeps_what_it_has() -> None:
    table = {"toolstack": "xl", "disk_roots": ["/srv"], "allow": {"xl_keys": ["serial"], "scripts": ["vif-bridge"]}}
    host, _ = resolve_host("alpha", table)
    assert host is not None
    text = f'{_HEAD}disk = ["/srv/a,raw,xvda,w", "/dev/vg0/b,raw,xvdb,w", "/dev/sdc,raw,xvdc,w"]\nvnc = 1\n'
    text += 'usbdev = ["a"]\n'
    imported = import_text(text + 'serial = "pty"\nvif = ["script=vif-bridge"]\nramdisk = "/opt/initrd"\n')
    assert host_needs([imported.spec], host) == {
        "kernel_roots": ["/", "/boot", "/etc/xen", "/usr/pkg/etc/xen", "/opt"],
        "disk_roots": ["/srv", "vg0", "/dev/sdc"],
        "allow": {"xl_keys": ["serial", "usbdev"]},
    }


def test_the_same_file_gives_the_same_bytes() -> None:
    text = f'{_HEAD}vnc = 1\nserial = ["pty", "null"]\ndisk = ["/srv/a,raw,xvda,w"]\n'
    assert as_toml(import_text(text), "web.cfg") == (
        '# Imported from web.cfg.\n\ntype = "pv"\nkernel = "/boot/vmlinuz"\nmemory = 64\ndisk = [\n'
        '    { vdev = "xvda", path = "/srv/a" },\n]\n\n[xl]\nserial = [\n    "pty",\n    "null",\n]\nvnc = 1\n'
    )


_FILES = {
    "the file it was started from": f'name = "g2"\nuuid = "{UUID}"\nkernel = "/boot/guest/vmlinuz"\n'
    'ramdisk = "/boot/guest/initrd.gz"\nextra = "console=hvc0 quiet"\nmemory = 128\nmaxmem = 160\nmaxvcpus = 2\n'
    'disk = ["file:/srv/g2.img,xvda,w"]\nvif = ["script=vif-bridge"]\non_crash = "preserve"\nserial = "pty"\n',
    "a file without uuid and mac": 'name = "g2"\nkernel = "/boot/guest/vmlinuz"\nvif = [""]\ncpus = "0-1"\n',
    "a file of another domain": f'name = "g2"\nuuid = "{UUID[:-1]}f"\nkernel = "/boot/other"\nmemory = 64\n',
}


@pytest.mark.parametrize("text", [*_FILES.values(), None], ids=[*_FILES, "no file"])
def test_what_xl_lists_as_running_is_imported_so_that_nothing_differs(text: str | None) -> None:
    instance = LiveDomain(name="g2", uuid=UUID, power=Power.RUNNING, actual_kib=98304, config=running_json())
    digests = {"/boot/guest/vmlinuz": "ab" * 32, "/boot/guest/initrd.gz": "cd" * 32}
    guests, _ = assemble_guests(
        fleet="default",
        configs={} if text is None else {"g2": text},
        candidates={},
        instances=[instance],
        images=digests,
        autostart={},
    )
    running = guests["g2"].running
    assert running is not None
    imported = import_domain(running, {}, unsaid=guests["g2"].unsaid, ignored=guests["g2"].ignored)
    assert imported.unsaid == ()
    wanted, missing = complete_images(resolved(imported), bare_host(), digests)
    assert missing == ()
    host = Host(name="alpha", total_kib=1 << 22, free_kib=1 << 21, cpus=4, guests=guests)
    assert compare(running, align_vifs(wanted, running), host, running=True) == ()
