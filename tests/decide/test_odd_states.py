"""A domain of ours that lives in another way than by running as itself: told, and neither replaced nor robbed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.inspect.status import Status, judge
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import DeleteDisk, Shutdown, Start, Unpause
from reconciler.plan.verify import verify
from tests.worlds import MIB, change_of, desired, disk, domain, guest, host, kernel, kinds, plan, stopped, unmanaged

WEB = domain("web", disks=(disk("/srv/web.img", on_delete="delete"),))
OTHER = domain("www", disks=(disk("/srv/web.img"),))
DEAD = "d7a2b2c4-0000-4000-8000-000000000000"

STATES: dict[str, dict[str, Any]] = {
    "a zombie without a name": {"power": Power.DYING, "listed_as": "(null)", "running": None},
    "dying": {"power": Power.DYING},
    "alive, and its name is lost": {"listed_as": "(null)", "running": None},
    "renamed by hand": {"listed_as": "renamed"},
    "paused": {"power": Power.PAUSED},
    "paused, and xl cannot tell its configuration": {"power": Power.PAUSED, "running": None},
    "being saved": {"power": Power.SUSPENDED},
    "being made": {"power": Power.STARTING, "running": None},
    "rebooting": {"power": Power.REBOOTING, "served": True},
    "migrated away": {"power": Power.MIGRATING, "listed_as": "web--migratedaway"},
    "coming in": {"power": Power.MIGRATING, "listed_as": "web--incoming", "running": None},
    "saved": {"power": Power.SAVED, "running": None, "actual_kib": 0, "saved_image": "/var/lib/xen/save/web"},
    "crashed, and kept": {
        "power": Power.CRASHED,
        "running": replace(WEB, on_crash="preserve"),
        "config": replace(WEB, on_crash="preserve"),
    },
}


def in_state(name: str, **changes: Any) -> Guest:
    return guest(WEB, **STATES[name], domid=7, **changes)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize(
    "asked",
    [
        desired(WEB),
        desired(replace(WEB, memory_kib=300 * MIB)),
        desired(replace(WEB, kernel=kernel("web", "3" * 64))),
        desired(replace(WEB, state="stopped")),
        desired(OTHER),
        desired(OTHER, WEB),
    ],
    ids=["as it was", "memory", "kernel", "stopped", "its disk for another", "its disk for both"],
)
def test_it_is_never_absent_never_ready_and_keeps_what_it_has(name: str, asked: Desired) -> None:
    made = plan(host(in_state(name)), asked)
    assert not [step for step in made.steps if isinstance(step.step, Start | DeleteDisk | Shutdown)]
    change = change_of(made, "web")
    assert change.action in (Action.NO_OP, Action.BLOCKED)
    (status,) = (status for status in judge(made, {}) if status.address == "alpha/web")
    assert status.status is not Status.READY
    if name != "rebooting":
        assert status.hint, "what a person can do about it"


def test_a_paused_domain_goes_on_when_it_is_asked_to() -> None:
    paused = host(guest(WEB, power=Power.PAUSED))
    assert change_of(plan(paused, desired(WEB)), "web").hint == (
        "xl unpause web on the host, or: reconciler apply --restart alpha/web"
    )
    for consent in (Consent(restart=frozenset({"alpha/web"})), Consent(unpause=frozenset({"alpha/web"}))):
        made = plan(paused, desired(WEB), consent)
        assert change_of(made, "web").action is Action.UPDATE
        assert [type(step.step) for step in made.steps] == [Unpause]
        restarted = plan(paused, desired(replace(WEB, kernel=kernel("web", "3" * 64))), consent)
        assert kinds(restarted, "web")[2:5] == ["unpause", "shutdown", "start"]


def test_a_dump_can_be_taken_of_a_crash_that_is_kept() -> None:
    crashed = host(in_state("crashed, and kept"))
    asked = desired(replace(WEB, on_crash="preserve"))
    change = change_of(plan(crashed, asked), "web")
    assert change.action is Action.BLOCKED
    assert change.hint is not None
    assert "xl dump-core 7" in change.hint
    again = plan(crashed, asked, Consent(restart=frozenset({"alpha/web"})))
    assert kinds(again, "web") == ["shutdown", "start", "await_ready"]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ({"power": Power.SHUTDOWN}, "it is shutdown"),
        ({"power": Power.CRASHED}, "it is crashed"),
        ({"power": Power.REBOOTING, "served": False}, "it is rebooting"),
        ({"power": Power.UNFINISHED, "running": None}, "it is half-made"),
        ({"power": Power.UNFINISHED, "running": None, "config": None, "candidate": WEB}, "it does not exist yet"),
    ],
)
def test_what_nobody_brings_back_is_cleared_away_and_started_again(left: dict[str, Any], words: str) -> None:
    made = plan(host(guest(WEB, **left)), desired(WEB))
    assert change_of(made, "web").reason == words
    cleared = [step.step for step in made.steps if isinstance(step.step, Shutdown)]
    assert cleared
    assert cleared[0].remnant
    assert cleared[0].uuid == WEB.uuid
    assert "start" in kinds(made, "web")
    gone = plan(host(guest(WEB, **left)), desired(replace(WEB, state="stopped")))
    assert "shutdown" in kinds(gone, "web")
    assert "start" not in kinds(gone, "web")


def test_what_depends_on_a_paused_domain_is_not_started() -> None:
    app = domain("app", depends_on=("web",))
    made = plan(host(guest(WEB, power=Power.PAUSED), stopped(app)), desired(WEB, app))
    assert (
        change_of(made, "app").blocked
        == "it depends on web, which does not run: it is paused, which is no state to act on"
    )


def of_two_hosts(alpha: Host, beta: Host, *domains: Domain) -> Plan:
    both = desired(*domains)
    settings = both.hosts["alpha"]
    asked = replace(
        both,
        hosts={
            "alpha": settings,
            "beta": replace(settings, domains={}, settings=replace(settings.settings, name="beta")),
        },
    )
    hosts = {"alpha": alpha, "beta": replace(beta, name="beta")}
    made = build_plan(asked, hosts, Consent())
    verify(made, hosts, asked)
    return made


@pytest.mark.parametrize("here", [guest(WEB), stopped(WEB)], ids=["runs", "does not run"])
@pytest.mark.parametrize("asked", [(WEB,), (domain("x"),)], ids=["declared", "no longer declared"])
@pytest.mark.parametrize("owner", list(Owner))
def test_a_uuid_that_lives_on_another_host_too_stops_all_that_would_be_done(
    here: Guest, asked: tuple[Domain, ...], owner: Owner
) -> None:
    there = guest(WEB, uuid=WEB.uuid, owner=owner, config=WEB if owner is Owner.OURS else None)
    made = of_two_hosts(host(replace(here, uuid=WEB.uuid)), host(there), *asked)
    assert not [step for step in made.steps if step.address.endswith("/web")]
    statuses = {status.address: status.status for status in judge(made, {})}
    assert statuses["alpha/web"] is Status.STALLED
    assert statuses["beta/web"] in (Status.STALLED, Status.UNMANAGED)


NOBODYS = unmanaged(domain("x"), name=f"(null) {DEAD}", listed_as="(null)", running=None, power=Power.DYING, uuid=DEAD)


def test_what_a_domain_nobody_knows_holds_cannot_be_excluded() -> None:
    world = host(stopped(WEB), NOBODYS)
    started = change_of(plan(world, desired(WEB)), "web")
    assert started.blocked is not None
    assert "/srv/web.img" in started.blocked
    assert change_of(plan(world, desired(domain("x"))), "web").action is Action.BLOCKED, "it would be deleted"
    assert change_of(plan(world, desired(domain("y"), WEB)), "y").action is Action.CREATE, "it takes nothing there is"
    runs = plan(host(guest(WEB), NOBODYS), desired(replace(WEB, kernel=kernel("web", "3" * 64))))
    assert change_of(runs, "web").action is Action.RESTART, "it holds its disk itself"


def test_a_config_file_that_is_not_named_after_its_domain_is_told_with_the_name_it_needs() -> None:
    """It is the domain's own, so its disk is no reason to refuse: the file has to be renamed first."""
    file = stopped(WEB, name="problem", owner=Owner.UNMANAGED)
    world = host(unmanaged(WEB), file)
    for consent in (Consent(), Consent(adopt=frozenset({"alpha/web"}))):
        change = change_of(plan(world, desired(WEB), consent), "web")
        assert change.blocked == "the config file problem.cfg on the host defines it too, under another name"
        assert change.hint == "in the folder of the config files there: mv problem.cfg web.cfg"
    renamed = host(unmanaged(WEB, config=WEB, config_exists=True))
    adopted = change_of(plan(renamed, desired(WEB), Consent(adopt=frozenset({"alpha/web"}))), "web")
    assert adopted.action is Action.ADOPT


def test_a_copy_of_our_own_config_file_is_told_with_what_to_do() -> None:
    world = host(guest(WEB), stopped(WEB, name="copy", owner=Owner.UNMANAGED))
    change = change_of(plan(world, desired(replace(WEB, memory_kib=300 * MIB))), "web")
    assert change.hint == "in the folder of the config files there: move copy.cfg away: web.cfg is its config file"
    assert change_of(plan(world, desired(WEB)), "web").action is Action.NO_OP


SAME = {"owner": Owner.UNMANAGED, "uuid": WEB.uuid}
SWAPPED = replace(WEB, name="db", uuid="uuid-of-db", disks=())
IN_THE_WAY = {
    "each has the other's file": (
        [unmanaged(WEB, config=SWAPPED, config_exists=True), stopped(WEB, name="db", owner=Owner.UNMANAGED)],
        "rename both files after the domains in them: web.cfg defines db",
    ),
    "its name is lost": ([unmanaged(WEB, name="(null) u", domid=3, **SAME)], "xl rename 3 web"),
    "its name is lost and it ended": (
        [unmanaged(WEB, name="(null) u", domid=3, power=Power.CRASHED, **SAME)],
        "xl destroy 3",
    ),
    "it is coming in": (
        [unmanaged(WEB, name="web--incoming", domid=3, running=None, power=Power.MIGRATING, **SAME)],
        "see what becomes of it: xl list -v",
    ),
    "another one has its uuid": (
        [unmanaged(WEB, name="copy", domid=3, **SAME)],
        "give the spec a uuid of its own; or, if copy is this domain: xl rename 3 web",
    ),
    "a copy of its file": (
        [stopped(WEB), stopped(replace(WEB, name="copy"), owner=Owner.UNMANAGED)],
        "copy.cfg on the host has its uuid, so it is a copy: move it away, or give it all its own",
    ),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_or_was_the_domain_itself_is_told_with_what_makes_it_that(case: str) -> None:
    there, hint = IN_THE_WAY[case]
    change = change_of(plan(host(*there), desired(WEB)), "web")
    assert change.action is Action.BLOCKED
    assert (change.hint or "").endswith(hint)


@pytest.mark.parametrize(
    "asked", [desired(WEB), desired(OTHER, WEB), desired(domain("db")), desired(replace(WEB, state="stopped"))]
)
def test_of_two_that_run_with_one_uuid_neither_is_touched(asked: Desired) -> None:
    copy = guest(replace(WEB, name="copy"), owner=Owner.UNMANAGED, config=None, uuid=WEB.uuid)
    made = plan(host(guest(WEB, uuid=WEB.uuid), copy), asked)
    assert {step.address for step in made.steps} <= {"alpha/db"}
    web = change_of(made, "web")
    assert (web.action, web.blocked) == (
        Action.BLOCKED,
        "its uuid is also that of alpha/copy, and one domain cannot be there twice",
    )
    assert {one.address: one.status for one in judge(made, {})}["alpha/web"] is Status.STALLED


@pytest.mark.parametrize("written", [None, WEB])
def test_what_was_saved_and_is_not_ours_is_not_started_anew_either(written: Domain | None) -> None:
    saved = stopped(WEB, owner=Owner.UNMANAGED, config=written, power=Power.SAVED, saved_image="/var/lib/xen/save/web")
    for consent in (Consent(), Consent(adopt=frozenset({"alpha/web"}))):
        made = plan(host(saved), desired(WEB), consent)
        assert made.steps == ()
        assert "waits to be restored" in (change_of(made, "web").blocked or "")
