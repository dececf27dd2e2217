"""Who goes down with whom because of depends_on: together, in which wave, and what it comes back with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Host
from reconciler.plan.meaning import Replay
from reconciler.plan.plan import Plan
from reconciler.plan.steps import Start
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, stopped

ROOMY = HostSettings(name="alpha", toolstack="simulated", max_unavailable=10)
HELD = Policy(reconcile=False)


def new(name: str, **changes: object) -> Domain:
    return domain(name, kernel=kernel(name, NEW), **changes)


def followed(world: Host, made: Plan) -> Host:
    replay = Replay(world)
    for step in made.steps:
        replay.apply(step.step)
    return replay.host()


def starts(made: Plan, name: str) -> list[Domain]:
    steps = [step.step for step in made.steps if step.address == f"alpha/{name}"]
    return [step.definition for step in steps if isinstance(step, Start)]


def ready_before_down(made: Plan, first: str, then: str) -> bool:
    """Whether a domain is ready for the last time before another goes down for the last time."""
    at = [(step.address, step.step.kind) for step in made.steps]
    last = len(at) - 1 - at[::-1].index((f"alpha/{first}", "await_ready"))
    return last < len(at) - 1 - at[::-1].index((f"alpha/{then}", "shutdown"))


class TestNobodyGoesDownForNothing:
    """`db` gets another kernel; `zed`, which depends on it, may not restart; `app` depends on it too."""

    def world(self, *more: Domain) -> Host:
        return host(*map(guest, (domain("db"), domain("app", depends_on=("db",)), *more)))

    def test_a_healthy_domain_is_left_in_peace_when_what_it_depends_on_may_not_restart(self) -> None:
        zed = domain("zed", depends_on=("db",), policy=HELD)
        made = plan(self.world(zed), desired(new("db"), domain("app", depends_on=("db",)), zed, settings=ROOMY))
        assert made.steps == ()
        assert change_of(made, "app").action is Action.NO_OP
        assert change_of(made, "db").blocked == "zed depends on it and may not restart: its spec says reconcile = false"

    def test_nor_when_the_one_that_may_not_is_out_of_the_specs_and_cannot_be_pruned(self) -> None:
        world = self.world(domain("zed", depends_on=("db",)))
        made = plan(world, desired(new("db"), domain("app", depends_on=("db",)), settings=ROOMY, prune=False))
        assert made.steps == ()
        assert change_of(made, "app").action is Action.NO_OP

    def test_nor_through_another_in_between(self) -> None:
        chain = [domain("mid", depends_on=("db",)), domain("zed", depends_on=("mid",), policy=HELD)]
        world = self.world(*chain)
        made = plan(world, desired(new("db"), domain("app", depends_on=("db",)), *chain, settings=ROOMY))
        assert made.steps == ()
        assert [change_of(made, name).action for name in ("app", "mid")] == [Action.NO_OP, Action.NO_OP]
        why = "zed depends on it through mid and may not restart: its spec says reconcile = false"
        assert change_of(made, "db").blocked == why

    def test_four_passes_find_it_where_the_first_one_did(self) -> None:
        zed = domain("zed", depends_on=("db",), policy=HELD)
        world, wanted = self.world(zed), desired(new("db"), domain("app", depends_on=("db",)), zed, settings=ROOMY)
        for _ in range(4):
            made = plan(world, wanted)
            assert made.steps == ()
            world = followed(world, made)

    def test_what_cannot_start_again_is_not_taken_down(self) -> None:
        """`app` runs although `cache`, which it needs too, does not: it would not come back."""
        app = domain("app", depends_on=("cache", "db"))
        world = host(guest(domain("db")), stopped(domain("cache", state="stopped")), guest(app))
        made = plan(world, desired(new("db"), domain("cache", state="stopped"), app, settings=ROOMY))
        assert made.steps == ()
        assert "app depends on it and may not restart: it depends on cache" in (change_of(made, "db").blocked or "")


class TestWavesOverDependencies:
    """`b` depends on `a`, which is in a lower wave; both get another kernel."""

    a = new("a", policy=Policy(wave=-1))
    b = new("b", depends_on=("a",))
    world = host(guest(domain("a")), guest(domain("b", depends_on=("a",))))

    def test_the_later_one_comes_back_with_what_it_had_and_its_own_change_follows_in_its_wave(self) -> None:
        made = plan(self.world, desired(self.a, self.b, settings=ROOMY))
        assert made.diagnostics == ()
        assert [definition.kernel for definition in starts(made, "b")] == [kernel("b"), kernel("b", NEW)]
        assert [step.wave for step in made.steps if isinstance(step.step, Start)] == [-1, -1, 0]
        after = followed(self.world, made)
        assert plan(after, desired(self.a, self.b, settings=ROOMY)).steps == ()

    def test_the_plan_shows_both_down_times(self) -> None:
        from reconciler.plan.plan import build_plan

        wanted, downtime = desired(self.a, self.b, settings=ROOMY), {"alpha/a": 20.0, "alpha/b": 10.0}
        made = build_plan(wanted, {"alpha": self.world}, Consent(), downtime=downtime)
        assert (change_of(made, "a").downtime_seconds, change_of(made, "b").downtime_seconds) == (20, 20)
        assert change_of(made, "b").reason == "spec changed; a, which it depends on, restarts"

    def test_what_its_spec_asks_for_may_even_be_impossible(self) -> None:
        blocked = replace(self.b, vcpus=99, maxvcpus=99)
        settings = replace(ROOMY, overcommit_vcpus=False)
        made = plan(self.world, desired(self.a, blocked, settings=settings))
        assert kinds(made, "b") == ["shutdown", "start", "await_ready"]
        change = change_of(made, "b")
        assert (change.action, change.would) == (Action.RESTART, Action.RESTART)
        assert "cpus" in (change.blocked or "")
        assert starts(made, "b")[0].kernel == kernel("b")

    def test_a_live_change_waits_for_its_wave_too(self) -> None:
        more = domain("b", depends_on=("a",), memory_kib=300 * MIB)
        made = plan(self.world, desired(self.a, more, settings=ROOMY))
        assert kinds(made, "b") == ["shutdown", "start", "await_ready", "set_memory", "write_config"]
        assert starts(made, "b")[0].memory_kib == 256 * MIB

    def test_an_edited_config_file_is_written_as_what_runs_before_its_domain_goes_down(self) -> None:
        edited = guest(domain("b", depends_on=("a",)), edited=True)
        made = plan(host(guest(domain("a")), edited), desired(self.a, self.b, settings=ROOMY))
        assert kinds(made, "b")[:4] == ["write_config", "shutdown", "start", "await_ready"]

    def test_in_one_wave_it_goes_down_once(self) -> None:
        made = plan(self.world, desired(new("a"), self.b, settings=ROOMY))
        assert [definition.kernel for definition in starts(made, "b")] == [kernel("b", NEW)]

    def test_with_several_waves_below_it_goes_down_in_each(self) -> None:
        two = [new("a", policy=Policy(wave=-2)), new("m", policy=Policy(wave=-1))]
        top = new("z", depends_on=("a", "m"))
        world = host(*(guest(domain(name)) for name in ("a", "m")), guest(domain("z", depends_on=("a", "m"))))
        made = plan(world, desired(*two, top, settings=ROOMY))
        assert [step.wave for step in made.steps if step.address == "alpha/z" and isinstance(step.step, Start)] == [
            *(-2, -1, 0)
        ]
        assert plan(followed(world, made), desired(*two, top, settings=ROOMY)).steps == ()

    def test_a_stop_comes_early_rather_than_twice(self) -> None:
        made = plan(self.world, desired(self.a, domain("b", depends_on=("a",), state="stopped"), settings=ROOMY))
        assert kinds(made, "b").count("shutdown") == 1
        assert kinds(made, "b").count("start") == 0

    def test_the_plan_of_a_whole_chain_of_waves_applies(self) -> None:
        names = [f"d{number}" for number in range(10)]
        below = dict(zip(names[1:], names, strict=False))
        deps = {name: (below[name],) if name in below else () for name in names}
        world = host(*(guest(domain(name, depends_on=deps[name])) for name in names))
        wanted = desired(
            *(new(name, depends_on=deps[name], policy=Policy(wave=at)) for at, name in enumerate(names)), settings=ROOMY
        )
        made = plan(world, wanted)
        assert made.diagnostics == ()
        assert plan(followed(world, made), wanted).steps == ()
        assert len(starts(made, "d9")) == 10


class TestTooManyAtOnce:
    def test_both_numbers_are_told_and_only_who_asks_for_it_is_blocked(self) -> None:
        tops: Sequence[Domain] = [domain(f"t{number}", depends_on=("db",)) for number in range(3)]
        world = host(guest(domain("db")), *map(guest, tops), guest(domain("other")))
        made = plan(world, desired(new("db"), *tops, new("other")))
        refusal = "db, t0, t1, t2 go down together, 4 domains, and max_unavailable is 1"
        assert change_of(made, "db").blocked == refusal
        assert change_of(made, "db").hint == "set max_unavailable = 4 in alpha/host.toml"
        assert [change_of(made, top.name).action for top in tops] == [Action.NO_OP] * 3
        assert change_of(made, "other").action is Action.RESTART

    def test_what_its_own_number_allows_goes_on_beside_it(self) -> None:
        top = domain("t", depends_on=("a", "b"))
        world = host(guest(domain("a")), guest(domain("b")), guest(top))
        wanted = desired(new("a"), new("b"), top, settings=replace(ROOMY, max_unavailable=2))
        made = plan(world, wanted)
        assert (change_of(made, "a").action, change_of(made, "b").action) == (Action.RESTART, Action.BLOCKED)
        rest = plan(followed(world, made), wanted)
        assert change_of(rest, "b").action is Action.RESTART
        assert plan(followed(followed(world, made), rest), wanted).steps == ()


@pytest.mark.parametrize("length", [1_000, 5_000])
def test_a_chain_of_any_length_is_refused_or_stopped_without_a_bound_of_its_own(length: int) -> None:
    names = [f"d{number:05}" for number in range(length)]
    chain = [domain(name, depends_on=(names[at - 1],) if at else ()) for at, name in enumerate(names)]
    held = replace(chain[-1], policy=HELD)
    world = host(*map(guest, (*chain[:-1], held)), free_mib=10**7)
    made = plan(world, desired(new(names[0]), *chain[1:-1], held))
    assert made.steps == ()
    assert f"{names[-1]} depends on it through" in (change_of(made, names[0]).blocked or "")
