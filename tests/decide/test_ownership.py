"""Domains that are not ours: blocked, adopted when asked, and never touched otherwise."""

from __future__ import annotations

from dataclasses import replace

from reconciler.decide.changes import Action, Consent, Fleet
from reconciler.decide.decide import decide_host
from reconciler.model.fleet import Doubt
from reconciler.model.host import Owner
from tests.worlds import (
    NEW,
    change_of,
    desired,
    domain,
    guest,
    host,
    kernel,
    kinds,
    plan,
    unmanaged,
    vif,
)


def test_a_domain_of_the_same_name_that_is_not_ours_blocks() -> None:
    made = plan(host(unmanaged(domain("web"))), desired(domain("web")))
    change = change_of(made, "web")
    assert change.action is Action.BLOCKED
    assert change.hint == "reconciler apply --adopt alpha/web"
    assert made.steps == ()


def test_adopting_never_restarts() -> None:
    running = domain("web", kernel=kernel("web", NEW))
    made = plan(host(unmanaged(running)), desired(domain("web")), Consent(adopt=frozenset({"alpha/web"})))
    change = change_of(made, "web")
    assert change.action is Action.ADOPT
    assert tuple(map(str, change.pending)) == ("kernel needs a restart",)
    assert "shutdown" not in kinds(made, "web")


def test_adopting_another_uuid_is_blocked_with_the_line_to_write() -> None:
    running = domain("web", uuid="another")
    made = plan(host(unmanaged(running)), desired(domain("web")), Consent(adopt=frozenset({"alpha/web"})))
    assert change_of(made, "web").hint == 'put uuid = "another" into the spec'


def test_foreign_marks_are_nobodys_business() -> None:
    made = plan(host(guest(domain("web"), owner=Owner.FOREIGN)), desired(domain("web")))
    assert "another fleet's" in (change_of(made, "web").blocked or "")


def test_a_domain_that_moved_to_another_host_is_blocked_on_both() -> None:
    web = domain("web")
    settings = desired().hosts["alpha"].settings
    fleet = Fleet(declared={"web": "beta"}, managed={"web": ("alpha",)})
    (here,) = decide_host(host(guest(web)), settings, {}, frozenset(), fleet, Consent())
    beta = replace(host(), name="beta")
    (there,) = decide_host(beta, replace(settings, name="beta"), {"web": web}, frozenset(), fleet, Consent())
    assert {here.action, there.action} == {Action.BLOCKED}
    assert "moved from alpha to beta" in here.reason


def test_a_host_is_adopted_without_what_another_fleet_has_and_without_a_prune() -> None:
    world = host(
        unmanaged(domain("web")), guest(domain("db"), owner=Owner.FOREIGN), guest(domain("old")), guest(domain("own"))
    )
    wanted = desired(domain("web"), domain("db"), domain("own"))
    made = plan(world, wanted, Consent(adopt=frozenset({"alpha"})))
    assert {change.domain: change.action for change in made.changes} == {
        "web": Action.ADOPT,
        "db": Action.BLOCKED,
        "old": Action.NO_OP,
        "own": Action.NO_OP,
    }
    assert change_of(made, "db").hint == "reconciler apply --adopt alpha/db"
    assert change_of(made, "old").would is Action.DESTROY


def test_what_this_tree_may_never_have_asked_for_is_not_destroyed_and_its_mark_can_be_renewed() -> None:
    doubt = Doubt(why="nothing shows it", waits_for="commit: abc", hint="git fetch --unshallow")
    world = host(guest(domain("web")), guest(domain("old")))
    wanted = replace(desired(domain("web")), doubts={"alpha/old": doubt, "alpha/web": doubt})
    made = plan(world, wanted)
    old = change_of(made, "old")
    assert (old.action, old.would, old.waits_for) == (Action.NO_OP, Action.DESTROY, ("commit: abc",))
    assert (old.reason, old.hint) == ("nothing shows it", "git fetch --unshallow")
    assert made.steps == ()
    renewing = plan(world, wanted, Consent(adopt=frozenset({"alpha"})))
    assert kinds(renewing, "old") == kinds(renewing, "web") == ["write_config"]


def test_a_domain_of_another_fleet_keeps_its_uuid_and_macs_and_does_not_restart() -> None:
    runs = domain("web", uuid="theirs", vifs=(vif("00:16:3e:00:00:07", named=False),))
    wanted = domain("web", uuid="ours", vifs=(vif("00:16:3e:00:00:09", named=False),))
    made = plan(host(guest(runs, owner=Owner.FOREIGN)), desired(wanted), Consent(adopt=frozenset({"alpha/web"})))
    change = change_of(made, "web")
    assert (change.action, change.fields) == (Action.ADOPT, ())
    assert change.target is not None
    assert (change.target.uuid, change.target.vifs[0].mac) == ("theirs", "00:16:3e:00:00:07")
    assert change.hint is not None
    assert 'uuid = "theirs"' in change.hint
    assert 'mac = "00:16:3e:00:00:07"' in change.hint


def test_one_of_which_xl_tells_nothing_cannot_be_adopted_and_why_is_said() -> None:
    untold = replace(unmanaged(domain("web")), running=None)
    made = plan(host(untold), desired(domain("web")), Consent(adopt=frozenset({"alpha/web"})))
    assert change_of(made, "web").blocked == "it cannot be adopted: xl does not tell its configuration"
    world = host(replace(untold, problem="xl tells of a disk without a place"))
    made = plan(world, desired(domain("web")), Consent(adopt=frozenset({"alpha/web"})))
    assert change_of(made, "web").blocked == "it cannot be adopted: xl tells of a disk without a place"


def test_beside_one_of_which_xl_tells_nothing_a_new_domain_has_its_derived_mac_and_no_mac_of_its_own() -> None:
    world = host(replace(unmanaged(domain("other")), running=None))
    derived, written = (domain("web", vifs=(vif("00:16:3e:00:00:09", named=named),)) for named in (False, True))
    assert change_of(plan(world, desired(derived)), "web").action is Action.CREATE
    assert "other" in (change_of(plan(world, desired(written)), "web").blocked or "")
