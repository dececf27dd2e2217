"""What a domain claims for itself, and who is in the way of whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.claims import Register, claims_of, disk_claim, live_claims, without
from reconciler.model.host import FileFact, Power
from tests.worlds import disk, domain, guest, host, stopped, unmanaged, vif

WEB = domain("web", disks=(disk("/srv/web"),), vifs=(vif("00:16:3e:00:00:01"),))
WORLD = host(guest(WEB))


def test_a_definition_claims_its_uuid_its_macs_and_its_disks() -> None:
    assert {claim.value for claim in claims_of(WORLD, WEB).values()} == {"uuid-of-web", "00:16:3e:00:00:01", "/srv/web"}
    assert claims_of(WORLD, None) == {}


@pytest.mark.parametrize("power", [power for power in Power if power is not Power.ABSENT])
def test_whatever_a_guest_does_that_the_hypervisor_holds_it_has_what_it_claims(power: Power) -> None:
    for one in (guest(WEB, power=power), unmanaged(WEB, power=power)):
        assert live_claims(WORLD, one) == claims_of(WORLD, WEB)


def test_a_guest_that_is_not_there_has_nothing() -> None:
    assert live_claims(WORLD, stopped(WEB)) == {}
    assert live_claims(WORLD, None) == {}


@pytest.mark.parametrize(("before", "after"), [("ro", "rw"), ("rw", "ro")])
def test_to_read_and_to_write_a_disk_are_two_claims(before: str, after: str) -> None:
    reads, writes = (claims_of(WORLD, replace(WEB, disks=(disk("/srv/web", access=how),))) for how in (before, after))
    assert [claim.value for claim in without(writes, reads).values()] == ["/srv/web"]
    assert without(reads, reads) == {}


def test_one_file_under_two_names_is_one_disk() -> None:
    fact = FileFact(kind="file", size_bytes=4096, key="1:42")
    world = host(files={"/srv/link": fact, "/srv/real": fact})
    assert disk_claim(world, disk("/srv/link")).key == disk_claim(world, disk("/srv/real")).key
    other = replace(world, name="beta")
    assert disk_claim(world, disk("/srv/link")).key != disk_claim(other, disk("/srv/link")).key


@pytest.mark.parametrize(
    ("has", "wants", "in_the_way"), [("rw", "rw", True), ("rw", "ro", True), ("ro", "rw", True), ("ro", "ro", False)]
)
def test_only_readers_share(has: str, wants: str, in_the_way: bool) -> None:
    register = Register()
    claims = claims_of(WORLD, domain("other", disks=(disk("/srv/web", access=has),)))
    register.add("alpha/other", claims)
    wanted = disk_claim(WORLD, disk("/srv/web", access=wants))
    assert register.in_the_way("alpha/web", wanted) == ("alpha/other" if in_the_way else None)
    assert register.in_the_way("alpha/other", wanted) is None, "nobody is in their own way"
    register.remove("alpha/other", claims)
    assert register.in_the_way("alpha/web", wanted) is None
