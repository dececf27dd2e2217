"""What depends_on asks: who goes down with whom, and what may not stop or start at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Brake, Desired, HostSettings
from reconciler.plan.plan import Plan
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, stopped

DB, APP, ZED = domain("db"), domain("app", depends_on=("db",)), domain("zed", depends_on=("db",))
BETTER_DB = domain("db", kernel=kernel("db", NEW))


def wanted(*domains: Domain, max_unavailable: int = 3, brake: int = 3) -> Desired:
    settings = HostSettings(name="alpha", toolstack="simulated", max_unavailable=max_unavailable)
    return desired(*domains, settings=settings, brake=Brake(max_destroy=brake))


def actions(made: Plan) -> dict[str, Action]:
    return {change.domain: change.action for change in made.changes}


class TestRestart:
    def test_all_that_depend_on_it_go_down_with_it_and_are_told_why(self) -> None:
        made = plan(host(*map(guest, (DB, APP, ZED))), wanted(BETTER_DB, APP, ZED))
        assert actions(made) == dict.fromkeys(("app", "db", "zed"), Action.RESTART)
        assert change_of(made, "app").reason == "db, which it depends on, restarts"

    def test_also_those_that_depend_on_them(self) -> None:
        web = domain("web", depends_on=("app",))
        made = plan(host(*map(guest, (DB, APP, web))), wanted(BETTER_DB, APP, web))
        assert actions(made)["web"] is Action.RESTART
        order = [step.address.split("/")[1] for step in made.steps if step.step.kind in ("shutdown", "start")]
        assert order == ["web", "app", "db", "db", "app", "web"]

    def test_who_is_down_anyway_stays_down(self) -> None:
        down = replace(APP, state="stopped")
        made = plan(host(guest(DB), stopped(down)), wanted(BETTER_DB, down))
        assert actions(made) == {"db": Action.RESTART, "app": Action.NO_OP}

    def test_a_live_change_takes_nobody_down(self) -> None:
        made = plan(host(*map(guest, (DB, APP))), wanted(domain("db", memory_kib=300 * MIB), APP))
        assert actions(made) == {"db": Action.UPDATE, "app": Action.NO_OP}

    @pytest.mark.parametrize("held", ["app", "zed"])
    def test_it_is_blocked_when_one_of_them_may_not_go_down_and_then_nobody_goes_down_for_it(self, held: str) -> None:
        others = [replace(one, policy=Policy(reconcile=one.name != held)) for one in (APP, ZED)]
        made = plan(host(*map(guest, (DB, *others))), wanted(BETTER_DB, *others))
        assert actions(made) == {"db": Action.BLOCKED, "app": Action.NO_OP, "zed": Action.NO_OP}
        assert made.steps == ()
        said = change_of(made, "db").blocked or ""
        assert f"{held} depends on it and may not restart" in said
        assert "reconcile = false" in said

    def test_nobody_has_gone_down_for_it_either_when_one_far_up_may_not(self) -> None:
        web = domain("web", depends_on=("app",), policy=Policy(reconcile=False))
        made = plan(host(*map(guest, (DB, APP, ZED, web))), wanted(BETTER_DB, APP, ZED, web))
        assert made.steps == ()

    def test_more_of_them_than_may_be_down_at_once_are_blocked_together(self) -> None:
        made = plan(host(*map(guest, (DB, APP, ZED))), wanted(BETTER_DB, APP, ZED, max_unavailable=2))
        assert made.steps == ()
        assert change_of(made, "db").hint == "set max_unavailable = 3 in alpha/host.toml"

    def test_a_restart_of_its_own_is_one_restart(self) -> None:
        app = replace(APP, kernel=kernel("app", NEW))
        made = plan(host(*map(guest, (DB, APP))), wanted(BETTER_DB, app))
        assert kinds(made, "app").count("shutdown") == 1


class TestStop:
    @pytest.mark.parametrize("after", [[APP], [replace(DB, state="stopped"), APP]], ids=["destroyed", "stopped"])
    def test_nothing_is_taken_away_under_one_that_runs(self, after: list[Domain]) -> None:
        made = plan(host(*map(guest, (DB, APP))), wanted(*after))
        assert change_of(made, "db").blocked == "app depends on it and runs"
        assert made.steps == ()

    def test_both_may_go_the_upper_one_first(self) -> None:
        made = plan(host(*map(guest, (DB, APP))), wanted(domain("other"), brake=2))
        down = [step.address for step in made.steps if step.step.kind == "shutdown"]
        assert down == ["alpha/app", "alpha/db"]

    def test_under_one_that_is_down_it_may_go(self) -> None:
        down = replace(APP, state="stopped")
        made = plan(host(guest(DB), stopped(down)), wanted(replace(DB, state="stopped"), down))
        assert actions(made)["db"] is Action.STOP


class TestStart:
    def test_what_it_depends_on_is_ready_before(self) -> None:
        made = plan(host(), wanted(DB, APP))
        order = [(step.address, step.step.kind) for step in made.steps]
        assert order.index(("alpha/db", "await_ready")) < order.index(("alpha/app", "start"))

    def test_on_top_of_one_that_runs_it_starts_at_once(self) -> None:
        made = plan(host(guest(DB)), wanted(DB, APP))
        assert {step.address for step in made.steps} == {"alpha/app"}

    def test_on_top_of_one_that_is_to_stay_down_it_does_not_start(self) -> None:
        down = replace(DB, state="stopped")
        made = plan(host(stopped(down)), wanted(down, APP))
        assert change_of(made, "app").blocked == (
            'it depends on db, which does not run: its spec says state = "stopped"'
        )

    def test_nor_when_only_its_file_says_from_now_on_that_it_is_to_stay_down(self) -> None:
        made = plan(host(stopped(DB)), wanted(replace(DB, state="stopped"), APP))
        assert actions(made) == {"db": Action.UPDATE, "app": Action.BLOCKED}

    def test_nor_on_top_of_one_that_is_blocked_and_who_depends_on_it_is_told_as_well(self) -> None:
        unheard = replace(DB, kernel=replace(kernel("db"), sha256="", path=""))
        web = domain("web", depends_on=("app",))
        made = plan(host(), wanted(unheard, APP, web))
        assert actions(made) == dict.fromkeys(("app", "db", "web"), Action.BLOCKED)
        assert made.steps == ()

    @pytest.mark.parametrize("runs", [True, False])
    def test_a_spec_with_errors_is_waited_for_unless_its_domain_runs(self, runs: bool) -> None:
        world = host(guest(DB)) if runs else host()
        made = plan(world, replace(wanted(APP), frozen=frozenset({"alpha/db"}), prune=False))
        assert actions(made)["app"] is (Action.CREATE if runs else Action.BLOCKED)
        assert runs or "it depends on db, which does not run" in (change_of(made, "app").blocked or "")
