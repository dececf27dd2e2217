"""What a newer version of reconciler manages is shown and left alone, and holds what it has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import HostSettings
from reconciler.model.host import FileFact, Guest, Owner, Power, Quarantined
from reconciler.plan.plan import build_plan
from reconciler.plan.steps import SetMemory
from reconciler.plan.verify import PlanError, verify
from tests.worlds import MIB, NEW, change_of, desired, disk, domain, guest, host, kernel, plan, stopped, vif

NEWER = "its config file (format 7)"
SETTINGS = HostSettings(name="alpha", toolstack="simulated", max_unavailable=5)
MAC = "00:16:3e:00:00:01"
WEB = domain("web", disks=(disk("/srv/web.img", on_delete="delete"),), vifs=(vif(MAC),))
ALL = frozenset({"alpha/web"})
CONSENTS = [
    Consent(),
    Consent(adopt=ALL),
    Consent(restart=ALL),
    Consent(retry=ALL),
    Consent(rollback=ALL),
    Consent(unpause=ALL),
    Consent(allow_destroy=9, allow_restart=9),
]
GUESTS = [
    guest(WEB, newer=NEWER),
    guest(WEB, newer=NEWER, power=Power.PAUSED),
    guest(WEB, newer=NEWER, power=Power.CRASHED),
    guest(WEB, newer=NEWER, edited=True),
    guest(WEB, newer=NEWER, candidate=replace(WEB, cmdline="new"), unproven=True),
    guest(WEB, newer=NEWER, previous=replace(WEB, cmdline="old"), quarantine=(Quarantined(boot="1" * 64),)),
    stopped(WEB, newer=NEWER),
    stopped(WEB, newer=NEWER, config=None),
    guest(WEB, newer=NEWER, owner=Owner.FOREIGN),
    guest(WEB, newer=NEWER, owner=Owner.UNMANAGED),
]


@pytest.mark.parametrize("consent", CONSENTS)
@pytest.mark.parametrize("there", GUESTS)
@pytest.mark.parametrize(
    "spec",
    [
        WEB,
        replace(WEB, memory_kib=300 * MIB),
        replace(WEB, kernel=kernel("web", NEW)),
        replace(WEB, state="stopped", autostart=5),
        replace(WEB, policy=Policy(reconcile=False)),
        replace(WEB, policy=Policy(restart="defer", wave=4)),
        None,
    ],
    ids=["same", "memory", "kernel", "stopped", "reconcile", "defer", "gone"],
)
def test_nothing_is_done_whatever_is_asked_for(spec: Domain | None, there: Guest, consent: Consent) -> None:
    wanted = desired(domain("other"), *([spec] if spec is not None else []))
    made = plan(host(guest(domain("other")), there), wanted, consent)
    assert made.steps == ()
    if spec is None and there.owner is not Owner.OURS:
        return
    change = change_of(made, "web")
    assert change.action is Action.BLOCKED
    assert "a newer version of reconciler manages it and wrote its config file (format 7)" in change.reason
    assert change.hint == "upgrade reconciler on this controller"


def test_a_file_that_went_prunes_it_neither_alone_nor_from_an_empty_tree() -> None:
    assert plan(host(guest(WEB, newer=NEWER)), desired()).steps == ()


def test_nobody_is_restarted_under_it_and_nothing_stopped() -> None:
    app = domain("app", depends_on=("db",))
    world = host(guest(domain("db")), guest(app, newer=NEWER))
    for db in (domain("db", kernel=kernel("db", NEW)), domain("db", state="stopped")):
        made = plan(world, desired(db, app, settings=SETTINGS))
        assert made.steps == ()
        assert change_of(made, "db").action is Action.BLOCKED


def test_its_wave_is_not_through() -> None:
    world = host(guest(domain("canary"), newer=NEWER), guest(domain("web")))
    canary = domain("canary", policy=Policy(wave=-1))
    made = plan(world, desired(canary, domain("web", kernel=kernel("web", NEW)), settings=SETTINGS))
    assert change_of(made, "web").waits_for == ("wave: alpha/canary",)
    assert made.steps == ()


@pytest.mark.parametrize("there", [guest(WEB, newer=NEWER), stopped(WEB, newer=NEWER)], ids=["runs", "down"])
@pytest.mark.parametrize(
    "taker",
    [
        domain("thief", disks=(disk("/srv/web.img"),)),
        domain("thief", vifs=(vif(MAC),)),
        domain("thief", uuid=WEB.uuid),
    ],
    ids=["disk", "mac", "uuid"],
)
def test_nobody_gets_what_it_has(there: Guest, taker: Domain) -> None:
    made = plan(host(there), desired(taker))
    assert made.steps == ()
    assert change_of(made, "thief").action is Action.BLOCKED


def test_no_disk_that_it_names_is_deleted_with_another_domain() -> None:
    reader = domain("reader", disks=(disk("/srv/web.img", access="ro"),))
    writer = replace(WEB, disks=(disk("/srv/web.img", access="ro", on_delete="delete"),), vifs=())
    made = plan(host(guest(writer), stopped(reader, newer=NEWER)), desired(domain("other")))
    assert "delete_disk" not in [step.step.kind for step in made.steps]


def test_where_nobody_can_read_its_disks_none_is_deleted_or_given_away() -> None:
    unread = stopped(WEB, name="unread", newer=NEWER, config=None)
    gone = domain("gone", disks=(disk("/srv/gone.img", on_delete="delete"),))
    world = host(guest(gone), unread)
    change = change_of(plan(world, desired(domain("other"))), "gone")
    assert (change.action, change.would) == (Action.BLOCKED, Action.DESTROY)
    assert change.blocked == "/srv/gone.img may belong to unread, whose files only a newer version can read"
    there = {"/srv/new.img": FileFact(kind="file", size_bytes=4096, key="/srv/new.img", real_path="/srv/new.img")}
    taker = domain("taker", disks=(disk("/srv/new.img"),))
    assert change_of(plan(host(unread, files=there), desired(taker)), "taker").action is Action.BLOCKED


def test_the_proof_refuses_a_step_on_it() -> None:
    wanted = desired(replace(WEB, memory_kib=300 * MIB))
    made = build_plan(wanted, {"alpha": host(guest(WEB))}, Consent())
    assert any(isinstance(step.step, SetMemory) for step in made.steps)
    with pytest.raises(PlanError, match="newer version"):
        verify(made, {"alpha": host(guest(WEB, newer=NEWER))}, wanted)
