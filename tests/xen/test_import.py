"""Domains that somebody made: after import and adopt, the next restart gives xl what it was given before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.xen.fleet import HOST_TOML, Fleet
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

BOOT = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
extra = "console=hvc0"
memory = 96
"""
MADE = {
    # from a file that nobody finds: all of it is what `xl list -l` tells
    "till": ("/root/x.cfg", f'{BOOT}on_crash = "preserve"\nvif = ["mac=00:16:3e:00:00:21"]\nmax_grant_frames = 48\n'),
    # of another name than its domain
    "shop": ("/etc/xen/other.cfg", f'{BOOT}vcpus = 1\nmaxvcpus = 2\ndisk = ["/srv/shop.img,raw,xvda,w"]\n'),
    # what the dom0 starts at boot, and no link
    "desk": ("/etc/xen/auto/desk", f'{BOOT}cpu_weight = 300\nnomigrate = 1\nvif = [""]\n'),
}


@pytest.fixture
def made(lab: Lab) -> Iterator[dict[str, Any]]:
    """What xl made of each of these."""
    lab.ssh("truncate -s 8M /srv/shop.img")
    given = {}
    for name, (path, text) in MADE.items():
        lab.put(path, f'name = "{name}"\n{text}')
        given[name] = given_by(lab, path)
        lab.xl("create", path)
    for name in MADE:
        lab.wait_for_guest(name)
    yield given
    paths = " ".join(path for path, _ in MADE.values())
    lab.ssh(f"rm -f {paths} /srv/shop.img", check=False)


def given_by(lab: Lab, path: str) -> Any:
    """The JSON that xl makes of a file; macs and uuids that the file leaves open are drawn anew each time."""
    config = json.loads(lab.xl("create", "-n", path))
    config["c_info"].pop("uuid", None)
    for nic in config.get("nics", ()):
        nic.pop("mac", None)
    for key in ("kernel", "ramdisk"):
        config["b_info"][key] = config["b_info"][key].rpartition("/")[2].partition(".gz")[0].split(".")[0]
    return config


def test_a_domain_that_is_imported_and_adopted_is_restarted_as_it_was_made(
    lab: Lab, fleet: Fleet, made: dict[str, Any]
) -> None:
    (fleet.specs / "lab" / "host.toml").write_text(HOST_TOML)
    fleet.run("import", "lab")
    fleet.remove("legacy")
    for name in MADE:
        assert "reconcile = false" not in (fleet.specs / "lab" / f"{name}.toml").read_text(), name
        fleet.write(name, (fleet.specs / "lab" / f"{name}.toml").read_text())
    lab.ssh("mv /etc/xen/other.cfg /etc/xen/shop.cfg; rm /etc/xen/auto/desk")  # as apply --adopt asks for
    before = lab.domains()

    fleet.apply(*(f"--adopt=lab/{name}" for name in MADE))

    assert {name: lab.domains()[name] for name in MADE} == {name: before[name] for name in MADE}
    fleet.assert_nothing_to_do()
    assert {name: given_by(lab, f"/etc/xen/{name}.cfg") for name in MADE} == made

    lab.xl("shutdown", "-w", "-w", "till")
    fleet.apply()
    lab.wait_for_guest("till", boots=2)
    fleet.assert_nothing_to_do()
    assert {name: given_by(lab, f"/etc/xen/{name}.cfg") for name in MADE} == made
