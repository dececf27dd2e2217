"""Domains that are not ours: blocked, adopted when asked, and never touched otherwise."""

from __future__ import annotations

from dataclasses import replace

from reconciler.decide.changes import Action, Consent, Fleet
from reconciler.decide.decide import decide_host
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
