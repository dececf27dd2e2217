"""From right specs to domains: layers, units, derived identity, images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.diagnostics import Kind
from reconciler.model.domain import Domain, Image
from reconciler.model.fleet import HostSettings
from reconciler.specs import read_tree
from reconciler.specs.resolve import complete_images, staged_path

Resolve = Callable[[str], Domain]
BASE = 'kernel = "/netbsd"\nmemory = 1024\n'


def test_the_example_of_the_seed_in_the_shipped_tree() -> None:
    reading = read_tree(Path(__file__).parents[2] / "specs")
    assert reading.diagnostics == ()
    foo = reading.desired.hosts["alpha"].domains["foo"]
    assert foo.kernel is not None
    assert foo.kernel.source == "/netbsd-XEN3PAE_DOMU-i386-foo.gz"
    assert foo.memory_kib == 1024 * 1024
    assert [(vif.mac, vif.bridge) for vif in foo.vifs] == [("aa:00:00:d1:00:09", "bridge0")]
    assert [(disk.devid, disk.kind) for disk in foo.disks] == [(0, "file"), (1, "file")]
    assert reading.files["alpha/foo"] == "alpha/foo.toml"


def test_layers_from_defaults_to_the_domains_own_file(tree: Path, domain: Resolve) -> None:
    (tree / "reconciler.toml").write_text('[defaults]\nmemory = 1\nwave = 1\n[defaults.ready]\ntimeout = "11s"\n')
    (tree / "profiles").mkdir()
    (tree / "profiles/base.toml").write_text(
        'kernel = "/base"\nmemory = 2\nvcpus = 2\nvif = [{}, {}]\n[ready]\nmin_seconds = 2\ntcp = "a:1"\n'
    )
    (tree / "profiles/linux.toml").write_text('profile = "base"\nvcpus = 3\ncap = 3\n')
    (tree / "profiles/big.toml").write_text("cap = 4\ncpu_weight = 4\n")
    web = domain('profile = ["linux", "big"]\ncpu_weight = 5\nvif = [{}]\n[ready]\ntcp = "b:2"\n')
    assert web.kernel is not None
    assert web.kernel.source == "/base"
    assert (web.policy.wave, web.memory_kib, web.vcpus, web.cap, web.cpu_weight) == (1, 2048, 3, 4, 5)
    assert len(web.vifs) == 1  # arrays replace
    ready = web.policy.ready  # tables merge
    assert (ready.timeout_seconds, ready.min_seconds, ready.tcp) == (11, 2, "b:2")


def test_a_profile_named_twice_counts_where_it_is_named_last(tree: Path, domain: Resolve) -> None:
    (tree / "profiles").mkdir()
    (tree / "profiles/a.toml").write_text("cap = 1\n")
    (tree / "profiles/b.toml").write_text("cap = 2\n")
    assert domain(BASE + 'profile = ["a", "b", "a"]\n').cap == 1


def test_profiles_of_profiles_do_not_multiply(tree: Path, domain: Resolve) -> None:
    (tree / "profiles").mkdir()
    (tree / "profiles/p0.toml").write_text("vcpus = 7\n")
    for level in range(1, 19):
        (tree / f"profiles/p{level}.toml").write_text(f'profile = ["p{level - 1}", "p{level - 1}"]\n')
    assert domain(BASE + 'profile = "p18"\n').vcpus == 7  # 2**18 layers, if each were taken each time


def test_a_long_chain_of_profiles_is_refused(tree: Path) -> None:
    (tree / "profiles").mkdir()
    for level in range(300):
        (tree / f"profiles/a{level:03}.toml").write_text(f'profile = "a{level + 1:03}"\n')
    (tree / "profiles/a300.toml").write_text("vcpus = 7\n")
    assert {diagnostic.summary for diagnostic in read_tree(tree).diagnostics} == {"Too many profiles"}


def test_defaults_of_the_keys_that_follow_others(domain: Resolve) -> None:
    web = domain(BASE + "vcpus = 3\n")
    assert (web.maxmem_kib, web.maxvcpus, web.autostart, web.state) == (1024 * 1024, 3, None, "running")


@pytest.mark.parametrize(("text", "kib"), [("1", 1024), ('"1GiB"', 1 << 20), ('"2048KiB"', 2048), ('"1TiB"', 1 << 30)])
def test_sizes(domain: Resolve, text: str, kib: int) -> None:
    assert domain(f'kernel = "/netbsd"\nmemory = {text}\n').memory_kib == kib


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("90s", 90), ("2m", 120), ("1h", 3600)])
def test_durations(domain: Resolve, text: str, seconds: float) -> None:
    assert domain(BASE + f'shutdown_timeout = "{text}"\n').shutdown_timeout_seconds == seconds


@pytest.mark.parametrize(("text", "order"), [("true", 500), ("false", None), ("0", 0), ("999", 999)])
def test_autostart(domain: Resolve, text: str, order: int | None) -> None:
    assert domain(BASE + f"autostart = {text}\n").autostart == order


@pytest.mark.parametrize(
    ("keys", "cmdline"),
    [
        ("", None),
        ('cmdline = ""', None),
        ('root = "/dev/xvda ro"', "root=/dev/xvda ro"),
        ('extra = "single"', "single"),
        ('root = "xbd0a"\nextra = "-s"', "root=xbd0a -s"),
    ],
)
def test_cmdline_is_joined_as_xl_does(domain: Resolve, keys: str, cmdline: str | None) -> None:
    assert domain(BASE + keys + "\n").cmdline == cmdline


def test_identity_is_derived_and_stays(tree: Path, domain: Resolve) -> None:
    web = domain(BASE + "vif = [{}, {}, { mac = 'AA:00:00:D1:00:09' }]\n")
    assert web.uuid == "38ace7a1-db84-5728-9dad-fe46c80151ff"  # of fleet "default" and name "web", for ever
    assert [vif.mac for vif in web.vifs] == ["00:16:3e:46:d2:5f", "00:16:3e:ae:1a:11", "aa:00:00:d1:00:09"]
    assert [vif.named for vif in web.vifs] == [False, False, True]
    assert [vif.devid for vif in web.vifs] == [0, 1, 2]
    (tree / "reconciler.toml").write_text('fleet = "other"\n')
    assert domain(BASE).uuid != web.uuid


def test_a_given_uuid_is_kept_in_lower_case(domain: Resolve) -> None:
    assert domain(BASE + 'uuid = "8B3C1F0E-5D6A-5C1E-9F57-1B2D3C4E5F60"\n').uuid.startswith("8b3c1f0e-")


def test_disks(domain: Resolve) -> None:
    web = domain(
        BASE
        + 'disk = [{ vdev = "xvda", path = "/srv//a/./b", size = "2GiB" }, { vdev = "1", lv = "vg0/web", size = 1 },'
        '{ vdev = "sda", device = "/dev/vg0/x", access = "ro" }]\n'
    )
    assert [(d.devid, d.kind, d.target, d.size_bytes, d.access) for d in web.disks] == [
        (51712, "file", "/srv/a/b", 2 << 30, "rw"),
        (1, "lv", "/dev/vg0/web", 1 << 20, "rw"),
        (2048, "device", "/dev/vg0/x", None, "ro"),
    ]


def test_what_host_toml_allows_is_passed_on(tree: Path, domain: Resolve) -> None:
    (tree / "alpha/host.toml").write_text(
        'toolstack = "simulated"\nkernel_roots = ["/k/"]\ndisk_roots = ["/dev/sdb"]\n'
        '[allow]\nbootloaders = ["pygrub"]\nscripts = ["vif-nat"]\nxl_keys = ["vnc", "serial"]\npci = ["3a:00.0"]\n'
    )
    web = domain(
        'kernel = "/k/netbsd"\nmemory = 1\nbootloader = "pygrub"\nbootloader_args = "-q  -x"\npci = ["0000:3A:00.0"]\n'
        'disk = [{ vdev = "xvda", device = "/dev/sdb" }]\nvif = [{ script = "vif-nat" }]\n'
        '[xl]\nvnc = 1\nserial = ["pty", "null"]\n'
    )
    assert web.bootloader_args == ("-q", "-x")
    assert web.pci == ("0000:3a:00.0",)
    assert web.xl == (("serial", ("pty", "null")), ("vnc", 1))


@pytest.mark.parametrize(
    ("device", "allowed", "may_be"),
    [
        ('"01:00.*"', "01:00.1", True),
        ('"01:00.*"', "02:00.1", False),
        ('"01:00.0"', "01:00.1", False),
        ('"01:00.0"', "01:00.*", True),
        ('{ name = "nic0" }', "01:00.1", True),
        ('{ name = "nic0" }', "name=nic1", False),
    ],
)
def test_what_a_pci_device_stands_for_is_left_to_the_host(tree: Path, device: str, allowed: str, may_be: bool) -> None:
    (tree / "alpha/host.toml").write_text(f'toolstack = "simulated"\n[allow]\npci = ["{allowed}"]\n')
    (tree / "alpha/web.toml").write_text(f'kernel = "/k"\nmemory = 1\npci = [{device}]\n')
    found = [one.summary for one in read_tree(tree).diagnostics]
    assert found == ([] if may_be else ["Not allowed on this host"])


def test_settings_of_a_host_and_of_the_tree(tree: Path) -> None:
    (tree / "reconciler.toml").write_text('fleet = "f"\n[brake]\nmax_destroy = 3\nmax_restart = "50%"\n')
    (tree / "alpha/host.toml").write_text(
        'toolstack = "xl"\nconnect = "ssh://root@dom0:2222"\nconfig_dir = "/usr/pkg/etc/xen"\nkeep_free = "1GiB"\n'
        'disk_roots = ["/srv/", "vg0"]\nparallel = 2\n[simulated]\nmemory = "4GiB"\nlatency = "20ms"\n'
    )
    desired = read_tree(tree).desired
    settings = desired.hosts["alpha"].settings
    assert (desired.fleet, desired.brake.max_destroy, desired.brake.max_restart) == ("f", 3, 0.5)
    assert settings.kernel_roots == ("/", "/boot", "/usr/pkg/etc/xen")
    assert settings.disk_roots == ("/srv", "/dev/vg0")
    assert (settings.keep_free_kib, settings.parallel, settings.connect) == (1 << 20, 2, "ssh://root@dom0:2222")
    assert (settings.simulated.memory_kib, settings.simulated.latency_seconds) == (4 << 20, 0.02)


def test_a_kernel_of_the_tree_is_known_by_its_bytes(tree: Path, domain: Resolve) -> None:
    (tree / "kernels").mkdir()
    (tree / "kernels/linux").write_bytes(b"vmlinuz")
    sha256 = hashlib.sha256(b"vmlinuz").hexdigest()
    web = domain(f'kernel = "./kernels/linux"\nkernel_sha256 = "{sha256.upper()}"\nmemory = 1\n')
    path = f"/var/lib/xen/kernels/web/linux.{sha256[:12]}"
    assert web.kernel == Image(sha256=sha256)
    assert web.kernel is not None
    assert (web.kernel.source, web.kernel.path) == ("kernels/linux", path)
    assert staged_path("/var/lib/xen/kernels/", "web", "kernels/linux", sha256) == path


SETTINGS = HostSettings(name="alpha", toolstack="xl")
SHA256 = "ab" * 32


def web_with(kernel: Image) -> Domain:
    return Domain(name="web", uuid="u", kernel=kernel, memory_kib=1, maxmem_kib=1)


def test_a_kernel_of_the_host_is_completed_from_its_digests() -> None:
    domain, diagnostics = complete_images(
        web_with(Image(sha256="", source="/netbsd", pin=SHA256)), SETTINGS, {"/netbsd": SHA256}
    )
    assert diagnostics == ()
    assert domain.kernel is not None
    assert (domain.kernel.sha256, domain.kernel.path) == (SHA256, "/var/lib/xen/kernels/web/netbsd.abababababab")


def test_a_kernel_that_is_not_on_the_host_is_a_problem_of_the_spec() -> None:
    domain, (diagnostic,) = complete_images(web_with(Image(sha256="", source="/netbsd")), SETTINGS, {})
    assert domain.kernel == Image(sha256="")
    assert (diagnostic.kind, diagnostic.address) == (Kind.SPEC, "alpha/web")
    assert diagnostic.detail == "/netbsd does not exist on alpha, or cannot be read there."


def test_a_kernel_with_other_bytes_than_its_pin_shows_both_digests() -> None:
    other = "cd" * 32
    _, (diagnostic,) = complete_images(
        web_with(Image(sha256="", source="/netbsd", pin=other)), SETTINGS, {"/netbsd": SHA256}
    )
    assert SHA256 in diagnostic.detail
    assert other in diagnostic.detail


def test_what_is_known_already_is_not_asked_for() -> None:
    web = web_with(Image(sha256=SHA256, path="/p", source="kernels/linux"))
    web = replace(web, ramdisk=Image(sha256="", source="/initrd"))
    domain, diagnostics = complete_images(web, SETTINGS, {"/initrd": SHA256})
    assert diagnostics == ()
    assert domain.kernel is web.kernel
    assert domain.ramdisk is not None
    assert domain.ramdisk.path.endswith("/web/initrd.abababababab")


def test_the_waves_on_a_frozen_host_are_known_as_far_as_its_files_can_be_read(
    tmp_path: Path,
) -> None:
    texts = {"canary": "wave = -1\n", "out": "reconcile = false\n", "broken": 'wave = "low"\n'}
    (tmp_path / "beta").mkdir()
    (tmp_path / "beta/host.toml").write_text('toolstack = "sxl"\n')
    for name, text in texts.items():
        (tmp_path / f"beta/{name}.toml").write_text(BASE + text)
    assert read_tree(tmp_path).desired.waves_of_frozen == {"beta/broken": None, "beta/canary": -1}
