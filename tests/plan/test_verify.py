"""The proof itself: a good plan is broken in one way at a time, and each time the proof names the rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Policy
from reconciler.model.fleet import Brake, Desired, HostSettings
from reconciler.model.host import Host, Owner, Power
from reconciler.model.memory import capacity_kib, promised_kib, used_kib
from reconciler.plan.plan import Plan
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    PlannedStep,
    SetMemory,
    Shutdown,
    Start,
    Step,
    WayBack,
)
from reconciler.plan.verify import PlanError, verify
from tests.worlds import MIB, NEW, desired, disk, domain, guest, host, kernel, plan, stopped, unmanaged, vif


def settings(max_unavailable: int = 1) -> HostSettings:
    return HostSettings(name="alpha", toolstack="simulated", max_unavailable=max_unavailable)


def refused(made: Plan, world: Host, wanted: Desired) -> str:
    """The rule that the proof says was broken."""
    with pytest.raises(PlanError) as caught:
        verify(made, {world.name: world}, wanted)
    (said,) = caught.value.diagnostics
    assert said.summary == "internal error: the plan does not prove itself"
    return said.detail


def in_order(made: Plan, *wanted: tuple[str, str]) -> Plan:
    """The plan with these steps (domain, kind) first and in this order, and nothing that any step has to wait for."""
    by_name: dict[tuple[str, str], PlannedStep] = {
        (step.address.split("/")[1], step.step.kind): step for step in made.steps
    }
    first = [by_name[name] for name in wanted]
    return replace(made, steps=tuple(replace(step, needs=()) for step in (*first, *rest(made, first))))


def rest(made: Plan, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    taken = {step.id for step in steps}
    return [step for step in made.steps if step.id not in taken]


def without(made: Plan, name: str, *kinds: str) -> Plan:
    """The plan without these steps of a domain, which nothing waits for any more."""
    kept = (step for step in made.steps if not (step.address == f"alpha/{name}" and step.step.kind in kinds))
    return replace(made, steps=tuple(replace(step, needs=()) for step in kept))


def with_step(made: Plan, kind: str, change: Callable[[PlannedStep], PlannedStep]) -> Plan:
    """The plan with its steps of a kind changed."""
    assert any(step.step.kind == kind for step in made.steps)
    return replace(made, steps=tuple(change(step) if step.step.kind == kind else step for step in made.steps))


class TestOrder:
    def test_a_step_comes_after_all_that_it_needs(self) -> None:
        world, wanted = host(), desired(domain("web"))
        made = plan(world, wanted)
        turned = replace(made, steps=(made.steps[1], made.steps[0], *made.steps[2:]))
        assert "comes before a step that it needs" in refused(turned, world, wanted)

    def test_a_step_that_makes_no_sense_where_it_stands_is_named(self) -> None:
        world, wanted = host(guest(domain("web"))), desired(domain("web", kernel=kernel("web", NEW)))
        made = plan(world, wanted)
        assert "is impossible: web runs already" in refused(without(made, "web", "shutdown"), world, wanted)

    def test_nothing_is_done_to_a_domain_that_no_change_is_about(self) -> None:
        world, wanted = host(guest(domain("web"))), desired(domain("web", memory_kib=300 * MIB))
        made = plan(world, wanted)
        rule = "works on a domain that is not to be changed"
        assert rule in refused(replace(made, changes=()), world, wanted)
        quiet = tuple(replace(change, action=Action.NO_OP) for change in made.changes)
        assert rule in refused(replace(made, changes=quiet), world, wanted)


class TestOwnership:
    @pytest.mark.parametrize("owner", [Owner.UNMANAGED, Owner.FOREIGN])
    def test_nothing_is_done_to_a_domain_that_is_not_ours(self, owner: Owner) -> None:
        wanted = desired(domain("web", memory_kib=300 * MIB))
        made = plan(host(guest(domain("web"))), wanted)
        theirs = host(guest(domain("web"), owner=owner))
        assert "would change a domain that is not ours" in refused(made, theirs, wanted)

    def test_what_adopts_a_domain_is_its_own_consent(self) -> None:
        world, wanted = host(unmanaged(domain("web"))), desired(domain("web"))
        made = plan(world, wanted, Consent(adopt=frozenset({"alpha/web"})))
        assert made.steps
        verify(made, {"alpha": world}, wanted)


class TestMemory:
    """`a` gives 256 MiB back and `b` takes them, on a host that has nothing else to give."""

    world = host(guest(domain("a", memory_kib=512 * MIB)), guest(domain("b")), free_mib=0)
    wanted = desired(domain("a"), domain("b", memory_kib=512 * MIB))

    def test_nobody_grows_before_there_is_room(self) -> None:
        made = plan(self.world, self.wanted)
        swapped = in_order(made, ("b", "set_memory"), ("a", "set_memory"))
        assert "are promised of" in refused(swapped, self.world, self.wanted)

    def test_the_last_kib_counts(self) -> None:
        world, wanted = host(free_mib=270), desired(domain("a"))
        made = plan(world, wanted)
        need = max(step.delta_kib for step in made.steps)
        fits = replace(world, free_kib=need)
        assert capacity_kib(fits, 0) - used_kib(fits) == need
        verify(made, {"alpha": fits}, wanted)
        assert "are promised of" in refused(made, replace(world, free_kib=need - 1), wanted)

    def test_what_a_step_moves_is_what_the_plan_says_of_it(self) -> None:
        made = plan(self.world, self.wanted)
        lied = with_step(made, "set_memory", lambda step: replace(step, delta_kib=0))
        assert "changes promised memory by -262144 KiB, not 0" in refused(lied, self.world, self.wanted)


class TestDependents:
    base, top = domain("base"), domain("top", depends_on=("base",))
    world = host(guest(base), guest(top))
    wanted = desired(domain("base", kernel=kernel("base", NEW)), top, settings=settings(2))

    def test_nobody_is_stopped_under_one_that_depends_on_it(self) -> None:
        made = plan(self.world, self.wanted)
        first = [("base", kind) for kind in ("stage_image", "write_config", "shutdown")]
        said = refused(in_order(made, *first), self.world, self.wanted)
        assert "stops it while top, which depends on it, runs" in said

    def test_nor_destroyed_under_it(self) -> None:
        wanted = desired(domain("other"), brake=Brake(max_destroy=2))
        made = plan(self.world, wanted)
        said = refused(in_order(made, ("base", "shutdown")), self.world, wanted)
        assert "stops it while top, which depends on it, runs" in said

    @pytest.mark.parametrize("done", ["nothing", "start"])
    def test_nobody_starts_before_what_it_depends_on_is_ready(self, done: str) -> None:
        made = plan(self.world, self.wanted)
        kinds = ["stage_image", "write_config", "shutdown", *(["start"] if done == "start" else [])]
        early = [("top", "shutdown"), *(("base", kind) for kind in kinds), ("top", "start")]
        assert "starts it before base is ready" in refused(in_order(made, *early), self.world, self.wanted)

    def test_a_dependent_that_is_there_and_paused_counts_as_well(self) -> None:
        paused = host(guest(self.base), guest(self.top, power=Power.PAUSED))
        made = plan(self.world, self.wanted)
        first = [("base", kind) for kind in ("stage_image", "write_config", "shutdown")]
        assert "stops it while top" in refused(in_order(made, *first), paused, self.wanted)


def test_no_more_domains_are_down_at_once_than_the_host_allows() -> None:
    world = host(guest(domain("a")), guest(domain("b")))
    wanted = desired(*(domain(name, kernel=kernel(name, NEW)) for name in "ab"))
    made = plan(world, wanted)
    down = [(name, kind) for name in "ab" for kind in ("stage_image", "write_config", "shutdown")]
    assert "takes 2 domains down at once" in refused(in_order(made, *down), world, wanted)
    two = replace(wanted, hosts={"alpha": replace(wanted.hosts["alpha"], settings=settings(2))})
    verify(in_order(made, *down), {"alpha": world}, two)


def test_a_domain_is_down_until_it_is_ready() -> None:
    world = host(guest(domain("a")), guest(domain("b")))
    wanted = desired(*(domain(name, kernel=kernel(name, NEW)) for name in "ab"))
    made = plan(world, wanted)
    of_a = [("a", kind) for kind in ("stage_image", "write_config", "shutdown", "start")]
    of_b = [("b", kind) for kind in ("stage_image", "write_config", "shutdown")]
    assert "takes 2 domains down at once" in refused(in_order(made, *of_a, *of_b), world, wanted)


class TestClaims:
    """Nobody gets a disk, a mac or a uuid while another live domain has it."""

    def said_of(self, step: Step, **observed: object) -> str:
        """What is said of a plan for `web` that takes this in addition, beside a live `other`."""
        other = guest(domain("other", **observed))
        world, wanted = host(guest(domain("web")), other), desired(domain("web", memory_kib=300 * MIB), domain("other"))
        made = plan(host(guest(domain("web")), guest(domain("other"))), wanted)
        greedy = PlannedStep(id="s0", host="alpha", step=step)
        return refused(replace(made, steps=(greedy, *made.steps)), world, wanted)

    def test_a_mac(self) -> None:
        mine = vif("00:16:3e:00:00:01")
        said = self.said_of(AttachVif(domain="web", uuid="uuid-of-web", vif=mine), vifs=(mine,))
        assert "comes while 00:16:3e:00:00:01 is still a mac of alpha/other" in said

    def test_a_disk_that_another_writes(self) -> None:
        mine = disk("/srv/x")
        said = self.said_of(
            AttachDisk(domain="web", uuid="uuid-of-web", disk=replace(mine, access="ro")), disks=(mine,)
        )
        assert "comes while /srv/x is still a disk of alpha/other" in said

    def test_a_disk_that_another_reads_is_not_written(self) -> None:
        mine = disk("/srv/x")
        said = self.said_of(
            AttachDisk(domain="web", uuid="uuid-of-web", disk=mine), disks=(replace(mine, access="ro"),)
        )
        assert "comes while /srv/x is still a disk of alpha/other" in said

    def test_a_uuid_and_a_disk_at_a_start(self) -> None:
        image = disk("/srv/x")
        world = host(guest(domain("old", disks=(image,))), stopped(domain("heir", disks=(image,))))
        wanted = desired(domain("heir", disks=(image,)))
        made = plan(world, wanted)
        early = in_order(made, ("heir", "start"), ("heir", "await_ready"))
        assert "comes while /srv/x is still a disk of alpha/old" in refused(early, world, wanted)
        same = replace(
            world, guests={**world.guests, "old": guest(domain("old"), running=domain("old", uuid="uuid-of-heir"))}
        )
        assert "is still the uuid of alpha/old" in refused(early, same, wanted)


class TestWayBack:
    """What would bring a domain back is proven at the moment when its new definition has just been started."""

    old = domain("a", memory_kib=512 * MIB)
    new = domain("a", kernel=kernel("a", NEW))
    world = host(guest(old), guest(domain("b")), free_mib=0)
    wanted = desired(new, domain("b", memory_kib=512 * MIB))

    def test_its_memory_is_kept_for_it(self) -> None:
        made = plan(self.world, self.wanted)
        assert made.ways_back
        early = [("a", kind) for kind in ("stage_image", "write_config", "shutdown")]
        taken = in_order(made, *early, ("b", "set_memory"), ("a", "start"))
        assert "would not fit into memory" in refused(taken, self.world, self.wanted)

    def way_back_changed(self, change: Callable[[WayBack], tuple[PlannedStep, ...]]) -> str:
        made = plan(self.world, self.wanted)
        (way,) = made.ways_back
        changed = replace(made, ways_back=(replace(way, steps=change(way)),))
        return refused(changed, self.world, self.wanted)

    def test_it_leads_to_the_definition_that_has_proven_itself(self) -> None:
        def elsewhere(way: WayBack) -> tuple[PlannedStep, ...]:
            return tuple(
                replace(one, step=replace(one.step, definition=self.new)) if isinstance(one.step, Start) else one
                for one in way.steps
            )

        assert "does not lead to the proven definition" in self.way_back_changed(elsewhere)

    def test_it_ends_there(self) -> None:
        def down_again(way: WayBack) -> tuple[PlannedStep, ...]:
            (down,) = (one for one in way.steps if one.step.kind == "shutdown")
            return (*way.steps, replace(down, id="s0.f9"))

        assert "does not lead to the proven definition" in self.way_back_changed(down_again)

    def test_each_of_its_steps_can_be_done(self) -> None:
        def not_down(way: WayBack) -> tuple[PlannedStep, ...]:
            return tuple(one for one in way.steps if one.step.kind != "shutdown")

        assert "is impossible: a runs already" in self.way_back_changed(not_down)


class TestEnd:
    """At the end, deciding anew finds nothing left to do."""

    @pytest.mark.parametrize(
        ("left_out", "says"),
        [("promote_config", "still to update"), ("set_autostart", "still to update"), ("start", "still to")],
    )
    def test_a_new_domain_is_as_specified(self, left_out: str, says: str) -> None:
        world, wanted = host(), desired(domain("web", autostart=10))
        made = plan(world, wanted)
        rest = {"start": ("start", "await_ready", "promote_config")}.get(left_out, (left_out,))
        assert says in refused(without(made, "web", *rest), world, wanted)

    def test_a_change_is_as_large_as_specified(self) -> None:
        world, wanted = host(guest(domain("web"))), desired(domain("web", memory_kib=512 * MIB))
        made = plan(world, wanted)
        less = with_step(made, "set_memory", self.by_half)
        assert "still to update" in refused(less, world, wanted)

    @staticmethod
    def by_half(step: PlannedStep) -> PlannedStep:
        assert isinstance(step.step, SetMemory)
        half_way = 384 * MIB
        before, after = (guest(domain("web", memory_kib=kib)) for kib in (256 * MIB, half_way))
        moved = promised_kib(after) - promised_kib(before)
        return replace(step, step=replace(step.step, memory_kib=half_way), delta_kib=moved)

    def test_what_was_to_go_is_gone(self) -> None:
        world, wanted = host(guest(domain("web"))), desired(domain("other"))
        made = without(plan(world, wanted), "web", "remove_config")
        assert "still to destroy" in refused(made, world, wanted)
        kept = replace(wanted, prune=False)  # the decision alone would leave it in peace
        assert "ends with it still there" in refused(made, world, kept)


class TestThePlug:
    """A guest gets its time, and its plug is pulled only if that was asked for: also on the way back."""

    world = host(guest(domain("web")))
    wanted = desired(domain("web", kernel=kernel("web", NEW)))

    @pytest.mark.parametrize("change", [{"timeout_seconds": 20.0}, {"on_timeout": "destroy"}])
    def test_a_shutdown_is_as_patient_as_the_spec(self, change: dict[str, Any]) -> None:
        made = plan(self.world, self.wanted)
        hasty = with_step(made, "shutdown", lambda one: replace(one, step=replace(one.step, **change)))
        assert ("less time" if "timeout_seconds" in change else "pull its plug") in refused(
            hasty, self.world, self.wanted
        )
        (back,) = made.ways_back
        steps = tuple(
            replace(one, step=replace(one.step, **change)) if isinstance(one.step, Shutdown) else one
            for one in back.steps
        )
        on_the_way_back = replace(made, ways_back=(replace(back, steps=steps),))
        assert ("less time" if "timeout_seconds" in change else "pull its plug") in refused(
            on_the_way_back, self.world, self.wanted
        )


class TestWaves:
    """`b` depends on `a`, which is in a lower wave; both get another kernel."""

    a = domain("a", kernel=kernel("a", NEW), policy=Policy(wave=-1))
    b = domain("b", kernel=kernel("b", NEW), depends_on=("a",))
    world = host(guest(domain("a")), guest(domain("b", depends_on=("a",))))
    wanted = desired(a, b, settings=settings(2))

    def test_no_wave_comes_before_a_lower_one(self) -> None:
        made = plan(self.world, self.wanted)
        turned = replace(made, steps=tuple(replace(step, wave=-step.wave) for step in made.steps))
        assert "comes after wave" in refused(turned, self.world, self.wanted)

    def test_no_change_comes_before_its_wave(self) -> None:
        made = plan(self.world, self.wanted)
        early = replace(made, steps=tuple(replace(step, wave=-1) for step in made.steps))
        assert "comes before its wave 0" in refused(early, self.world, self.wanted)

    def test_nobody_goes_along_with_one_that_stays_up(self) -> None:
        made = plan(self.world, self.wanted)
        steps = tuple(replace(step, needs=()) for step in made.steps if step.address == "alpha/b")
        said = refused(replace(made, steps=steps, ways_back=()), self.world, self.wanted)
        assert "takes it down though nothing that it depends on goes down" in said
