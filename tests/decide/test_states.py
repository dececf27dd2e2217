"""What is done with a domain as it is now: left alone, created, started, stopped, written anew."""

from __future__ import annotations

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Policy
from reconciler.model.host import Power
from tests.worlds import (
    MIB,
    change_of,
    desired,
    disk,
    domain,
    guest,
    host,
    kinds,
    plan,
)


def test_a_domain_as_specified_is_left_alone() -> None:
    web = domain("web")
    made = plan(host(guest(web)), desired(web))
    assert change_of(made, "web").action is Action.NO_OP
    assert made.steps == ()


def test_a_new_domain_is_staged_written_started_and_awaited() -> None:
    made = plan(host(), desired(domain("web", disks=(disk("/srv/web"),), autostart=10)))
    assert kinds(made, "web") == [
        "stage_image",
        "create_disk",
        "write_config",
        "start",
        "await_ready",
        "promote_config",
        "set_autostart",
    ]


@pytest.mark.parametrize("power", [Power.REBOOTING, Power.SUSPENDED, Power.DYING])
def test_a_domain_between_two_states_is_neither_created_nor_changed(power: Power) -> None:
    made = plan(host(guest(domain("web"), power=power)), desired(domain("web", memory_kib=512 * MIB)))
    change = change_of(made, "web")
    assert change.action is Action.NO_OP
    assert change.waits_for == (f"{power.value} to end",)


def test_a_crashed_and_kept_domain_is_cleared_away_and_started() -> None:
    made = plan(host(guest(domain("web"), power=Power.CRASHED)), desired(domain("web")))
    assert change_of(made, "web").action is Action.START
    assert kinds(made, "web") == ["shutdown", "start", "await_ready"]


def test_a_stopped_domain_gets_everything_but_the_run() -> None:
    made = plan(host(), desired(domain("web", state="stopped", disks=(disk("/srv/web"),))))
    assert kinds(made, "web") == ["stage_image", "create_disk", "write_config"]


def test_a_running_domain_is_stopped_when_the_spec_says_so() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", state="stopped")))
    assert change_of(made, "web").action is Action.STOP
    assert kinds(made, "web") == ["shutdown", "write_config"]


def test_a_config_edited_by_hand_is_written_anew() -> None:
    made = plan(host(guest(domain("web"), edited=True)), desired(domain("web")))
    assert kinds(made, "web") == ["write_config"]
    assert change_of(made, "web").reason == "its config file was edited by hand"


def test_a_held_domain_is_shown_and_never_changed() -> None:
    alone = Policy(reconcile=False)
    made = plan(host(guest(domain("web", policy=alone))), desired(domain("web", memory_kib=512 * MIB, policy=alone)))
    change = change_of(made, "web")
    assert (change.action, made.steps) == (Action.NO_OP, ())
    assert [field.path for field in change.fields] == ["memory"]


def test_a_broken_file_freezes_its_domain_and_all_prunes() -> None:
    made = plan(
        host(guest(domain("web")), guest(domain("old"))),
        desired(frozen=frozenset({"alpha/web"}), prune=False),
    )
    assert {change.action for change in made.changes} == {Action.NO_OP}


def test_what_a_zombie_left_is_not_ours_to_guess() -> None:
    made = plan(host(guest(domain("web"), running=None, problem="left out of `xl list -l`")), desired(domain("web")))
    assert change_of(made, "web").action is Action.BLOCKED
    assert made.hosts["alpha"].used_kib > 0
