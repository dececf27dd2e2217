"""A domain gets another name: found by its uuid, planned under its new name, and never destroyed for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired, HostSettings
from reconciler.model.host import Guest, Hold, Host, Owner, Power
from reconciler.plan.plan import build_plan
from reconciler.plan.steps import Rename
from reconciler.plan.verify import verify
from tests.worlds import MIB, NEW, change_of, desired, disk, domain, guest, host, kernel, kinds, plan, stopped, vif

MAIL = domain("mail", uuid="U", disks=(disk("/srv/mail.img"),), vifs=(vif("00:16:3e:00:00:07", named=False),))


def called(name: str, definition: Domain = MAIL, **changes: Any) -> Domain:
    return replace(definition, name=name, kernel=kernel(name), **changes)


def renamed(*others: Domain, settings: HostSettings | None = None, **changes: Any) -> Desired:
    """The specs after `git mv mail.toml post.toml`, and renamed_from."""
    wanted = desired(called("post", **changes), *others, **({"settings": settings} if settings else {}))
    part = replace(wanted.hosts["alpha"], renamed_from={"post": "mail"})
    return replace(wanted, hosts={"alpha": part})


def test_the_name_is_a_field_and_nothing_else_happens() -> None:
    made = plan(host(guest(MAIL)), renamed())
    (change,) = made.changes
    assert (change.address, change.action, change.reason) == ("alpha/post", Action.UPDATE, "renamed from mail")
    assert [(field.path, field.before, field.after) for field in change.fields] == [("name", "mail", "post")]
    assert change.downtime_seconds == 0
    assert kinds(made, "post") == ["stage_image", "rename"]


def test_one_that_does_not_run_is_renamed_too() -> None:
    made = plan(host(stopped(replace(MAIL, state="stopped"))), renamed(state="stopped"))
    assert kinds(made, "post") == ["stage_image", "rename"]


def test_other_changes_come_with_it_and_the_name_first() -> None:
    restart = plan(host(guest(MAIL)), renamed(memory_kib=300 * MIB, maxmem_kib=1024 * MIB))
    change = change_of(restart, "post")
    assert change.action is Action.RESTART
    assert [field.path for field in change.fields] == ["maxmem", "memory", "name"]
    assert kinds(restart, "post")[:2] == ["stage_image", "rename"]
    live = plan(host(guest(MAIL)), renamed(memory_kib=300 * MIB))
    assert change_of(live, "post").action is Action.UPDATE
    assert kinds(live, "post")[:3] == ["stage_image", "rename", "set_memory"]


def half_done(old: Guest, new: Guest) -> Host:
    return host(old, new)


@pytest.mark.parametrize("runs_as", ["mail", "post", None])
def test_two_config_files_of_one_uuid_are_a_rename_under_way(runs_as: str | None) -> None:
    post = called("post")
    old = guest(MAIL) if runs_as == "mail" else stopped(MAIL)
    new = guest(post) if runs_as == "post" else stopped(post)
    made = plan(half_done(old, new), renamed() if runs_as else renamed(state="stopped"))
    (change,) = made.changes
    assert change.address == "alpha/post"
    assert change.action is Action.UPDATE
    assert "rename" in kinds(made, "post")
    assert not {"start", "shutdown"} & set(kinds(made, "post"))


def test_it_is_ended_also_when_the_spec_has_its_uuid_instead_of_its_old_name() -> None:
    made = plan(half_done(guest(MAIL), stopped(called("post"))), desired(called("post")))
    assert "rename" in kinds(made, "post")


def test_what_a_rename_left_is_never_pruned() -> None:
    made = plan(half_done(guest(MAIL), stopped(called("post"))), desired(domain("other")))
    assert {change_of(made, name).action for name in ("mail", "post")} == {Action.BLOCKED}
    assert "renamed_from" in str(change_of(made, "mail").hint)


def test_a_hold_of_its_old_name_holds_it() -> None:
    made = plan(host(guest(MAIL), holds={"mail": Hold(begins=0, reason="mine")}), renamed())
    change = change_of(made, "post")
    assert (change.action, change.would, change.waits_for) == (Action.NO_OP, Action.UPDATE, ("hold: mine",))
    assert made.steps == ()


def test_one_that_keeps_its_old_name_for_now_is_not_taken_down_for_another() -> None:
    db = domain("db", kernel=kernel("db", NEW))
    two = HostSettings(name="alpha", toolstack="simulated", max_unavailable=2)
    wanted = renamed(db, settings=two, depends_on=("db",))
    world = host(guest(replace(MAIL, depends_on=("db",))), guest(domain("db")))
    made = build_plan(wanted, {"alpha": world}, Consent(), targets=frozenset({"alpha/db"}))
    assert made.steps == ()
    assert "it is still called mail" in str(change_of(made, "db").blocked)
    both = plan(world, wanted)
    assert kinds(both, "post")[:3] == ["stage_image", "rename", "shutdown"]


def test_an_update_that_did_not_begin_is_begun_anew_under_the_new_name() -> None:
    made = plan(host(guest(MAIL, candidate=replace(MAIL, cmdline="quiet"))), renamed(cmdline="quiet"))
    assert kinds(made, "post")[:4] == ["stage_image", "rename", "write_config", "shutdown"]


def test_an_update_that_was_cut_short_is_ended_first() -> None:
    made = plan(host(guest(MAIL, candidate=replace(MAIL, cmdline="quiet"), unproven=True)), renamed())
    change = change_of(made, "post")
    assert change.action is Action.BLOCKED
    assert "mail.toml" in str(change.hint)


@pytest.mark.parametrize("owner", [Owner.UNMANAGED, Owner.FOREIGN])
def test_what_is_not_ours_is_not_renamed(owner: Owner) -> None:
    made = plan(host(guest(replace(MAIL, uuid="other"), owner=owner)), renamed())
    change = change_of(made, "post")
    assert change.action is Action.BLOCKED
    assert "mail, which its spec says it was renamed from, is" in str(change.blocked)
    assert "reconciler apply --adopt alpha/mail" in str(change.hint)
    # but once it is there, whoever takes the old name is nobody's business
    assert plan(host(guest(called("post")), guest(domain("mail"), owner=owner)), renamed()).steps == ()


def test_a_name_that_somebody_has_is_not_taken_and_the_old_one_stays() -> None:
    made = plan(host(guest(MAIL), guest(domain("post"), owner=Owner.UNMANAGED)), renamed())
    assert {change_of(made, name).action for name in ("mail", "post")} == {Action.BLOCKED}


def test_a_domain_is_renamed_on_its_own_host_only() -> None:
    post = called("post")
    wanted = desired()
    beta = replace(wanted.hosts["alpha"], settings=replace(wanted.hosts["alpha"].settings, name="beta"))
    wanted = replace(
        wanted,
        hosts={
            "alpha": wanted.hosts["alpha"],
            "beta": replace(beta, domains={"post": post}, renamed_from={"post": "mail"}),
        },
    )
    hosts = {"alpha": host(guest(MAIL)), "beta": replace(host(), name="beta")}
    made = build_plan(wanted, hosts, Consent())
    verify(made, hosts, wanted)
    assert {change.action for change in made.changes} == {Action.BLOCKED}
    assert made.steps == ()


def test_without_it_the_line_to_paste_is_told() -> None:
    anew = replace(called("post"), uuid="V")
    made = plan(host(guest(MAIL)), desired(anew))
    assert 'renamed_from = "mail"' in str(change_of(made, "post").hint)
    bare, twin = domain("mail"), domain("post", uuid="V")
    assert 'renamed_from = "mail"' in str(change_of(plan(host(guest(bare)), desired(twin)), "post").hint)
    other = domain("post", memory_kib=300 * MIB)
    assert change_of(plan(host(guest(bare)), desired(other)), "post").hint is None


def test_one_that_went_away_by_itself_is_renamed_and_started() -> None:
    made = plan(host(stopped(MAIL, power=Power.ABSENT)), renamed())
    assert change_of(made, "post").action is Action.START
    assert [step.step for step in made.steps if isinstance(step.step, Rename)]
