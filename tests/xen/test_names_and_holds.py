"""Another name for a running domain, and domains that somebody holds."""

from __future__ import annotations

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
maxmem = 128
shutdown_timeout = "60s"
ready = { min_seconds = 1 }
autostart = 20
vif = [{ bridge = "xenbr0" }]
"""


def test_a_running_domain_gets_another_name_and_runs_on_and_one_that_is_held_is_left_alone(
    lab: Lab, fleet: Fleet
) -> None:
    fleet.write("mail", GUEST)
    fleet.apply()
    lab.wait_for_guest("mail")
    domid, mac = lab.domains()["mail"], lab.xl("network-list", "mail").split("\n")[1].split()[2]

    fleet.remove("mail")
    fleet.write("post", f'renamed_from = "mail"\n{GUEST}')
    assert [change["action"] for change in fleet.plan()["changes"]] == ["update"]
    fleet.apply()

    domains = lab.domains()
    assert (domains["post"], "mail" in domains) == (domid, False), "it runs on"
    assert lab.xl("network-list", "post").split("\n")[1].split()[2] == mac
    assert lab.ssh("ls /etc/xen/mail.cfg /etc/xen/post.cfg", check=False).stdout == "/etc/xen/post.cfg\n"
    links = lab.ssh("cd /etc/xen/auto && for link in *; do echo $link $(readlink -f $link); done").stdout
    assert "020-post /etc/xen/post.cfg\n" in links
    assert "mail" not in links
    fleet.assert_nothing_to_do()

    fleet.run("hold", "lab/post", "--reason", "somebody looks at it")
    fleet.edit("post", "memory = 96", "memory = 112")
    (change,) = fleet.plan()["changes"]
    assert (change["action"], change["would"]) == ("no-op", "update")
    fleet.apply()
    assert lab.xl("list", "post").splitlines()[1].split()[1:3] == [domid, "96"]

    fleet.run("unhold", "lab/post")
    fleet.apply()
    assert lab.xl("list", "post").splitlines()[1].split()[1:3] == [domid, "112"]
    fleet.assert_nothing_to_do()
