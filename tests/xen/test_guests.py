"""Guests other than a pv domain with its kernel in the dom0: how each is booted, changed, updated and taken away.

A domain that is booted from its own disk brings its kernel along: another one in there is the guest's affair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.xen.fleet import HOST_TOML, Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

KERNEL = "/boot/guest/vmlinuz-amd64"
ALLOW = """
[allow]
bootloaders = ["pygrub"]
"""
READY = 'ready = { min_seconds = 1, timeout = "180s" }\nshutdown_timeout = "60s"\n'
# A partition that begins 1 MiB into the disk: what pygrub looks for first.
PARTITION_TABLE = (
    r"{ head -c 446 /dev/zero; printf '\200\0\0\0\203\0\0\0\0\010\0\0\0\100\001\0'; head -c 48 /dev/zero;"
    r" printf '\125\252'; head -c 1048064 /dev/zero; }"
)


@pytest.fixture(scope="module", autouse=True)
def _host(fleet: Fleet) -> None:
    (fleet.specs / "lab" / "host.toml").write_text(HOST_TOML + ALLOW)


@pytest.fixture(autouse=True)
def _none_is_left(fleet: Fleet) -> Iterator[None]:
    """Each test has domains of its own, and the memory of the lab to itself."""
    yield
    if names := [file.stem for file in (fleet.specs / "lab").glob("*.toml") if file.stem != "host"]:
        fleet.tear_down(*names)


def install(lab: Lab, disk: str, kernel: str) -> None:
    """What a guest's own package manager does: a kernel and a grub.cfg in its root file system."""
    boot = f"linux /boot/vmlinuz-{kernel} console=hvc0\n  initrd /boot/initrd-{kernel}.gz"
    lab.ssh(
        "rm -rf /root/made && mkdir -p /root/made/root/boot/grub && cd /root/made && "
        f"cp /boot/guest/*-{kernel}* root/boot && cat > root/boot/grub/grub.cfg && "
        f"mke2fs -q -t ext2 -d root root.img 40M && {PARTITION_TABLE} > {disk} && cat root.img >> {disk} && "
        "rm -rf /root/made",
        text_in=f'set timeout=0\nset default=0\nmenuentry "{kernel}" {{\n  {boot}\n}}\n',
    )


def take_away(lab: Lab, fleet: Fleet, domain: str) -> None:
    """Destroy a domain by taking its file away. Another one stays, since an empty tree destroys nothing."""
    fleet.write("rest", f'kernel = "{KERNEL}"\nmemory = 96\nstate = "stopped"\n')
    fleet.remove(domain)
    fleet.apply()
    assert domain not in lab.domains()
    assert lab.ssh(f"ls -d /etc/xen/{domain}.cfg /var/lib/xen/kernels/{domain}", check=False).stdout == ""


def condition(fleet: Fleet, domain: str) -> str:
    """The one word that `status` has for a domain."""
    document = json.loads(fleet.run("status", "--json").stdout)
    (found,) = (one for one in document["domains"] if one["address"] == f"lab/{domain}")
    return str(found["status"])


def release(lab: Lab, domain: str) -> str:
    return lab.console(domain, "uname -r")


def memory_of(lab: Lab, domain: str) -> str:
    return lab.xl("list", domain).splitlines()[1].split()[2]


def test_a_guest_that_pygrub_boots_from_its_own_disk(lab: Lab, fleet: Fleet) -> None:
    lab.ssh("rm -f /srv/own.img")
    install(lab, "/srv/own.img", "amd64")
    fleet.write(
        "own",
        'bootloader = "pygrub"\nmemory = 128\nmaxmem = 160\n'
        f'disk = [{{ vdev = "xvda", path = "/srv/own.img" }}]\n{READY}',
    )
    fleet.apply()
    lab.wait_for_guest("own")
    assert not release(lab, "own").endswith("-cloud-amd64")
    assert condition(fleet, "own") == "ready"
    fleet.assert_nothing_to_do()
    domid = lab.domains()["own"]

    fleet.edit("own", "memory = 128", "memory = 144")
    fleet.apply()
    assert (lab.domains()["own"], memory_of(lab, "own")) == (domid, "144")

    # A kernel that the guest installs is none of our business, and comes with whatever restarts it next.
    install(lab, "/srv/own.img", "cloud")
    fleet.assert_nothing_to_do()
    fleet.edit("own", "maxmem = 160", "maxmem = 192")
    assert fleet.actions() == {"own": "restart"}
    fleet.apply()
    lab.wait_for_guest("own", boots=2)
    assert release(lab, "own").endswith("-cloud-amd64")
    fleet.assert_nothing_to_do()

    take_away(lab, fleet, "own")
