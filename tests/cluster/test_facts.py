"""What controllers tell each other of their hosts: all that the others need, and only when something in it changed."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.cluster.controller import Controller
from reconciler.cluster.etcd import Entry, Put
from reconciler.cluster.facts import AllFacts, packed_of, unpacked
from reconciler.cluster.keys import FACTS_BYTES, Facts, Names, read
from reconciler.cluster.sharing import Known
from reconciler.inspect.observed import Observed, Seen
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.model.host import Host
from reconciler.toolstack import Question
from tests.cluster.fake_etcd import FakeEtcd, Store
from tests.worlds import domain, guest, host

pytestmark = pytest.mark.anyio
LEASE = 10
HOSTS = ("alpha", "beta")
KEY = "/reconciler/prod/facts/alpha"


def known(seen: Host, reason: str = "as specified") -> Known:
    look = Seen(host=seen, question=Question(files=("/disk",)), at=datetime(2026, 1, 2, tzinfo=UTC))
    observed = Observed(fleet="prod", key=b"secret of this controller", hosts={seen.name: look})
    return Known(observed=observed, host=seen, domains={f"{seen.name}/web": ("Ready", reason)})


class Fleet:
    """Some controllers on one etcd, by whose clock nothing moves unless `turns` is called."""

    def __init__(self, count: int = 2) -> None:
        self.store = Store()
        self.etcds = [FakeEtcd(self.store) for _ in range(count)]
        self.all = [Controller(etcd, LEASE, clock=lambda: self.store.now) for etcd in self.etcds]
        parts = {
            name: DesiredHost(settings=HostSettings(name=name, toolstack="simulated"), domains={}) for name in HOSTS
        }
        self.tree = Desired(fleet="prod", tree_digest="d1", hosts=parts)
        for number, one in enumerate(self.all):
            one.name = one.who = f"c{number}"
            one.go_by(self.tree)

    async def turns(self, thirds: int = 9) -> None:
        for _ in range(thirds):
            for one in self.all:
                await one.turn()
            self.store.now += LEASE / 3

    def of(self, name: str) -> tuple[Controller, Controller]:
        """Who has a host, and who has not."""
        has = next(one for one in self.all if one.why_not(name) is None)
        return has, next(one for one in self.all if one is not has)

    def entry(self) -> Entry | None:
        return self.store.entries.get(KEY)


async def test_the_others_see_a_host_as_its_controller_does_and_do_not_look_themselves() -> None:
    fleet, seen = Fleet(), replace(host(guest(domain("web"))), stuck=("xl create web",))
    await fleet.turns()
    has, other = fleet.of("alpha")
    assert await other.told("alpha") is None, "nothing is told yet, so it looks itself"
    await has.tell("alpha", known(seen))
    await fleet.turns(1)
    told = await other.told("alpha")
    assert told is not None
    assert told.seen is not None
    assert told.seen.hosts["alpha"].host == seen
    assert told.seen.hosts["alpha"].question == Question(files=("/disk",))
    assert told.seen.key == b"secret of this controller"
    assert told.domains == {"alpha/web": ("Ready", "as specified")}
    assert await has.told("alpha") is None


async def test_it_is_written_when_it_changes_and_not_for_the_time_that_goes_on() -> None:
    fleet, web = Fleet(), guest(domain("web"))
    await fleet.turns()
    has, _ = fleet.of("alpha")
    await has.tell("alpha", known(host(replace(web, running_seconds=5.0))))
    first = fleet.entry()
    await has.tell("alpha", known(host(replace(web, running_seconds=65.0))))
    assert fleet.entry() == first
    for changed in (known(host(web), "it is paused"), known(host(web, guest(domain("db"))), "it is paused")):
        before = fleet.entry()
        await has.tell("alpha", changed)
        assert fleet.entry() != before


async def test_only_who_has_the_claim_tells() -> None:
    fleet = Fleet()
    await fleet.turns()
    has, other = fleet.of("alpha")
    await other.tell("alpha", known(host()))
    assert fleet.entry() is None
    del fleet.store.entries["/reconciler/prod/claim/alpha"]  # it does not know yet
    await has.tell("alpha", known(host()))
    assert fleet.entry() is None


async def test_what_an_emptied_or_restored_etcd_has_lost_is_told_again() -> None:
    fleet = Fleet()
    await fleet.turns()
    has, other = fleet.of("alpha")
    await has.tell("alpha", known(host(guest(domain("web")))))
    older = fleet.store.snapshot()
    await has.tell("alpha", known(host(guest(domain("db")))))
    await fleet.turns(1)
    for lost in ("restored", "emptied"):
        if lost == "restored":
            fleet.store.restore(older)
        else:
            fleet.store.wipe()
        for _ in range(4):
            await fleet.turns()
            has, other = fleet.of("alpha")
            await has.tell("alpha", known(host(guest(domain("db")))))
        told = await other.told("alpha")
        assert told is not None
        assert told.seen is not None
        assert set(told.seen.hosts["alpha"].host.guests) == {"db"}


async def test_what_was_seen_before_etcd_was_emptied_is_not_told_again_and_each_host_is_looked_at_anew() -> None:
    """Places that were taken meanwhile are lost with it."""
    fleet, woken = Fleet(), list[str]()
    await fleet.turns()
    has, _ = fleet.of("alpha")
    await has.tell("alpha", known(host(guest(domain("web")))))
    for one in fleet.all:
        one.woken = woken.append
    eras = [one.era for one in fleet.all]
    for key in ("/reconciler/prod/", "/reconciler/prod/fleet"):
        for lost in [name for name in fleet.store.entries if name.startswith(key)]:
            del fleet.store.entries[lost]
        all_is_lost = key.endswith("prod/")
        if all_is_lost:
            fleet.store.leases.clear()
        woken.clear()
        await fleet.turns(12)
        assert (fleet.entry() is None) == all_is_lost
        assert {*woken} == {*HOSTS}
        assert all(one.era > era for one, era in zip(fleet.all, eras, strict=True))
        eras, before = [one.era for one in fleet.all], fleet.entry()
        has, _ = fleet.of("alpha")
        await has.tell("alpha", known(host(guest(domain("web")))))
        assert fleet.entry() != before, "the same as before, and seen since"


async def test_facts_of_a_new_etcd_whose_revision_has_passed_that_of_the_old_one_are_read() -> None:
    fleet = Fleet()
    await fleet.turns()
    has, other = fleet.of("alpha")
    await has.tell("alpha", known(host(guest(domain("web")))))
    await fleet.turns(1)
    fleet.store.wipe()
    for _ in range(6):
        await has.turn()
        fleet.store.now += LEASE / 3
    await has.tell("alpha", known(host(guest(domain("db")))))
    fleet.store.revision = 1000
    await other.turn()
    told = await other.told("alpha")
    assert told is not None
    assert told.seen is not None
    assert set(told.seen.hosts["alpha"].host.guests) == {"db"}


@pytest.mark.parametrize(("marked", "written"), [("c" * 40, False), ("a" * 40, True)])
async def test_an_empty_etcd_is_never_told_an_ancestor_of_a_mark_on_a_host_of_another(
    marked: str, written: bool
) -> None:
    """Whoever has no mark on its own hosts, or no host, asks those of all, once each was looked at."""
    fleet, said = Fleet(), list[str]()
    for one in fleet.all:
        one.newer, one._say = lambda older, newer: older <= newer, said.append
        one.go_by(replace(fleet.tree, commit="b" * 40))
    await fleet.turns(6)
    for one in fleet.all:
        one.fetched(problem=False)
    owners = {name: next(one for one in fleet.all if name in one._mine()) for name in HOSTS}
    await owners["beta"].tell("beta", known(replace(host(), name="beta")))
    await fleet.turns(3)
    assert any("alpha was not looked at yet" in text for text in said)
    assert "/reconciler/prod/fleet" not in fleet.store.entries
    await owners["alpha"].tell("alpha", known(host(replace(guest(domain("web")), commit=marked))))
    await fleet.turns(3)
    assert ("/reconciler/prod/fleet" in fleet.store.entries) == written
    assert any("reconciler accept bbbbbbbbbbbb" in text for text in said) != written


def test_facts_that_are_longer_than_any_are_not_unpacked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little text can be very much when it is unpacked."""
    look = Seen(host=host(guest(domain("web"))), question=Question(), at=datetime(2026, 1, 2, tzinfo=UTC))
    text = packed_of(Observed(fleet="prod", key=b"", hosts={"alpha": look}))
    assert unpacked(text, "prod") is not None
    packed = base64.b64decode(text)
    long = zlib.compress(zlib.decompress(packed) + b" " * 2000)
    assert unpacked(base64.b64encode(long).decode(), "prod") is not None
    monkeypatch.setattr("reconciler.cluster.facts._UNPACKED_BYTES", len(zlib.decompress(packed)) + 1000)
    assert unpacked(base64.b64encode(long).decode(), "prod") is None
    monkeypatch.setattr("reconciler.cluster.facts._UNPACKED_BYTES", 100)
    assert not packed_of(Observed(fleet="prod", key=b"", hosts={"alpha": look})), "the others look themselves"


async def test_a_host_that_its_controller_cannot_reach_is_not_observed_for_all() -> None:
    fleet = Fleet()
    await fleet.turns()
    has, other = fleet.of("alpha")
    await has.tell("alpha", known(host(guest(domain("web")))))
    nothing = Observed(fleet="prod", key=b"", hosts={})
    await has.tell("alpha", Known(observed=nothing, host=None, problem="no route to host"))
    await fleet.turns(1)
    told = await other.told("alpha")
    assert told is not None
    assert (told.seen, told.problem) == (None, "no route to host")


async def test_what_is_too_much_for_etcd_is_left_to_the_looks_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.cluster.facts.FACTS_BYTES", 400)
    fleet = Fleet()
    await fleet.turns()
    has, other = fleet.of("alpha")
    await has.tell("alpha", known(host(*(guest(domain(f"web{number}")) for number in range(20)))))
    await fleet.turns(1)
    entry = fleet.entry()
    assert entry is not None
    assert len(entry.value) <= 400
    assert await other.told("alpha") is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: "by hand",
        lambda text: text.replace('"format":1', '"format":9', 1),
        lambda text: text.replace('"seen":"', '"seen":"AAAA'),
        lambda text: text[: len(text) // 2],
    ],
)
async def test_facts_that_are_not_understood_are_none(harm: Callable[[str], str]) -> None:
    """As where a newer version, or a person, wrote them: then each controller looks itself."""
    fleet = Fleet()
    await fleet.turns()
    has, _ = fleet.of("alpha")
    await has.tell("alpha", known(host(guest(domain("web")))))
    entry = fleet.entry()
    assert entry is not None
    reader, store = AllFacts(FakeEtcd(fleet.store), Names("prod")), fleet.store
    store.entries[KEY] = replace(entry, value=harm(entry.value))
    await reader.renew()
    assert await reader.told("alpha", "prod", is_unreached=False) is None


async def test_a_thousand_domains_are_a_few_kilobytes() -> None:
    """Etcd keeps it for as long as the host is there, and each change is written whole."""
    fleet = Fleet()
    await fleet.turns()
    has, _ = fleet.of("alpha")
    await has.tell("alpha", known(host(*(guest(domain(f"web{number}")) for number in range(1000)))))
    entry = fleet.entry()
    assert entry is not None
    assert len(entry.value) < 200_000 < FACTS_BYTES
    facts = read(Facts, entry.value, FACTS_BYTES)
    assert facts is not None
    assert facts.who == has.who


async def test_a_claim_without_a_lease_is_nobodys_and_is_told() -> None:
    """One that was written by hand would never go."""
    said: list[str] = []
    fleet = Fleet(1)
    fleet.all[0]._say = said.append
    claim = '{"format":1,"session":"me","who":"me"}'
    await fleet.etcds[0].commit([], [Put("/reconciler/prod/claim/alpha", claim)])
    await fleet.turns(1)
    assert fleet.all[0].why_not("alpha") is not None
    assert any("etcdctl del /reconciler/prod/claim/alpha" in text for text in said)
    assert fleet.all[0].why_not("beta") is None
