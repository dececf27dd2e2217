"""What each rule does when it does not know: it holds, and says why and what the ways out are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Change, Consent
from reconciler.decide.waves import waits_for_another
from reconciler.model.boot import ROLLED_BACK, with_quarantined
from reconciler.model.claims import Unseen
from reconciler.model.domain import Domain, Image, Policy
from reconciler.model.fleet import Brake, Desired, DesiredHost, HostSettings
from reconciler.model.host import Guest, Hold, Host, Owner, Power
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.verify import verify
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, stopped, unmanaged, vif

CANARY = Policy(wave=-1)
SETTINGS = HostSettings(name="alpha", toolstack="simulated", max_unavailable=5, overcommit_vcpus=False)


def new(name: str, **changes: object) -> Domain:
    return domain(name, kernel=kernel(name, NEW), **changes)


def held(made: Plan, name: str = "web") -> Change:
    """The restart of a higher wave that waits, with nobody down for it."""
    change = change_of(made, name)
    assert change.action is Action.NO_OP
    assert change.would is Action.RESTART
    assert change.waits_for == ("wave: alpha/canary",)
    assert waits_for_another(change)
    assert change.hint is not None
    assert "in a commit" in change.hint
    assert kinds(made, name) == []
    return change


def fleet_plan(
    wanted: Desired, consent: Consent | None = None, targets: frozenset[str] = frozenset(), *seen: Host
) -> Plan:
    hosts = {one.name: one for one in seen}
    made = build_plan(wanted, hosts, consent or Consent(), targets=targets)
    verify(made, hosts, wanted)
    return made


class TestACanaryThatDoesNotGetThrough:
    """`canary` is in wave -1, `web` in wave 0; both get another kernel."""

    world = host(guest(domain("canary")), guest(domain("web")))
    canary = new("canary", policy=CANARY)

    def test_blocked(self) -> None:
        made = plan(self.world, desired(replace(self.canary, vcpus=9, maxvcpus=9), new("web"), settings=SETTINGS))
        assert "alpha/canary is blocked: it asks for 9 vcpus" in held(made).reason

    def test_deferred(self) -> None:
        deferred = new("canary", policy=replace(CANARY, restart="defer"))
        change = held(plan(self.world, desired(deferred, new("web"), settings=SETTINGS)))
        assert change.reason == "wave -1 is not through: alpha/canary is deferred"
        assert (change.hint or "").startswith("reconciler apply --restart alpha/canary")

    def test_deferred_and_let_go(self) -> None:
        deferred = new("canary", policy=replace(CANARY, restart="defer"))
        wanted = desired(deferred, new("web"), settings=SETTINGS)
        made = plan(self.world, wanted, Consent(restart=frozenset({"alpha/canary"})))
        assert {change.action for change in made.changes} == {Action.RESTART}

    def test_quarantined(self) -> None:
        failed = guest(domain("canary"))
        failed = replace(failed, quarantine=with_quarantined(failed, self.canary, "it panicked"))
        change = held(plan(host(failed, guest(domain("web"))), desired(self.canary, new("web"), settings=SETTINGS)))
        assert (change.hint or "").startswith("reconciler apply --retry alpha/canary")

    @pytest.mark.parametrize(
        "runs",
        [
            unmanaged(domain("canary")),
            unmanaged(domain("canary"), running=None),
            unmanaged(domain("canary"), owner=Owner.FOREIGN),
        ],
        ids=["of nobody", "and nobody can tell what it runs", "of another fleet"],
    )
    def test_not_ours_and_to_restart(self, runs: Guest) -> None:
        change = held(plan(host(runs, guest(domain("web"))), desired(self.canary, new("web"), settings=SETTINGS)))
        assert "alpha/canary is not managed by reconciler" in change.reason
        assert (change.hint or "").startswith("reconciler apply --adopt alpha/canary")

    def test_not_ours_and_as_specified(self) -> None:
        """Nothing would restart it, whoever takes it over."""
        as_it_is = domain("canary", policy=CANARY, prevent_destroy=True, memory_kib=300 * MIB)
        for runs in (unmanaged(domain("canary")), unmanaged(domain("canary"), running=None, power=Power.ABSENT)):
            made = plan(host(runs, guest(domain("web"))), desired(as_it_is, new("web"), settings=SETTINGS))
            assert change_of(made, "web").action is Action.RESTART

    def test_not_ours_and_to_be_stopped(self) -> None:
        down = replace(self.canary, state="stopped")
        world = host(unmanaged(domain("canary")), guest(domain("web")))
        assert change_of(plan(world, desired(down, new("web"), settings=SETTINGS)), "web").action is Action.RESTART

    def test_of_another_fleet_and_as_specified_but_for_the_identity_that_adopting_keeps(self) -> None:
        card = vif("00:16:3e:00:00:01", named=False)
        theirs = domain("canary", uuid="of another fleet", vifs=(replace(card, mac="00:16:3e:00:00:02"),))
        world = host(unmanaged(theirs, owner=Owner.FOREIGN), guest(domain("web")), bridges=frozenset({"xenbr0"}))
        as_it_is = domain("canary", policy=CANARY, vifs=(card,))
        made = plan(world, desired(as_it_is, new("web"), settings=SETTINGS))
        assert change_of(made, "web").action is Action.RESTART

    def test_not_ours_and_left_alone(self) -> None:
        alone = replace(self.canary, policy=replace(CANARY, reconcile=False))
        world = host(unmanaged(domain("canary")), guest(domain("web")))
        assert change_of(plan(world, desired(alone, new("web"), settings=SETTINGS)), "web").action is Action.RESTART

    @pytest.mark.parametrize("how", ["quarantined", "deferred"])
    def test_held_in_part_and_blocked_in_the_rest(self, how: str) -> None:
        """Its live part is blocked, since a bridge is missing; the kernel that waits holds later waves all the same."""
        card = vif("00:16:3e:00:00:01", bridge="nowhere")
        policy = replace(CANARY, restart="defer" if how == "deferred" else "auto")
        canary = new("canary", policy=policy, vifs=(card,))
        there = guest(domain("canary", policy=CANARY))
        if how == "quarantined":
            there = replace(there, quarantine=with_quarantined(there, canary, "it panicked"))
        world = replace(host(there, guest(domain("web"))), bridges=frozenset({"xenbr0"}))
        held(plan(world, desired(canary, new("web"), settings=SETTINGS)))

    @pytest.mark.parametrize("by", ["memory", "the brake", "a hold", "the selection", "a failure"])
    def test_deferred_and_held_in_its_live_part_too(self, by: str) -> None:
        """Whatever holds what could be done live, its kernel waits as before, and so do later waves."""
        canary = new("canary", policy=replace(CANARY, restart="defer"), memory_kib=512 * MIB)
        world = host(
            guest(domain("canary", policy=CANARY)), guest(domain("web")), free_mib=0 if by == "memory" else 999
        )
        wanted, others, targets = desired(canary, new("web"), settings=SETTINGS), {}, frozenset[str]()
        match by:
            case "the brake":
                wanted = replace(wanted, brake=Brake(max_destroy=0))
                web = DesiredHost(settings=replace(SETTINGS, name="beta"), domains={"web": new("web")})
                left = {name: one for name, one in wanted.hosts["alpha"].domains.items() if name != "web"}
                wanted = replace(wanted, hosts={"alpha": DesiredHost(settings=SETTINGS, domains=left), "beta": web})
                others = {"beta": host(guest(domain("web")), name="beta")}
                world = host(guest(domain("canary", policy=CANARY)), guest(domain("gone")))
            case "a hold":
                world = replace(world, holds={"canary": Hold(begins=0, reason="mine")})
            case "the selection":
                targets = frozenset({"alpha/web"})
            case "a failure":
                wanted = replace(wanted, postponed={"alpha/canary": "failed: no loop device"})
        change = change_of(build_plan(wanted, {"alpha": world, **others}, Consent(), targets=targets), "web")
        assert (change.action, change.would) == (Action.NO_OP, Action.RESTART)
        assert change.waits_for[0].endswith("/canary")

    def test_left_alone_after_a_failure(self) -> None:
        wanted = desired(
            self.canary, new("web"), settings=SETTINGS, postponed={"alpha/canary": "failed: no loop device"}
        )
        assert "failed: no loop device" in held(plan(self.world, wanted)).reason

    def test_frozen(self) -> None:
        wanted = desired(new("web"), new("low", policy=CANARY), settings=SETTINGS, frozen=frozenset({"alpha/canary"}))
        noted = host(guest(domain("canary", policy=CANARY)), guest(domain("web")))
        made = plan(noted, replace(wanted, prune=False))
        assert "alpha/canary is frozen, since its spec file has errors" in held(made).reason

    def test_frozen_and_never_made_is_in_no_wave(self) -> None:
        wanted = desired(new("web"), new("low", policy=CANARY), settings=SETTINGS, frozen=frozenset({"alpha/other"}))
        assert change_of(plan(self.world, replace(wanted, prune=False)), "web").action is Action.RESTART

    def test_frozen_and_left_alone_by_what_is_kept_on_its_host_is_out_of_its_wave(self) -> None:
        there = host(guest(domain("canary", policy=Policy(reconcile=False))), guest(domain("web")))
        wanted = desired(new("web"), new("low", policy=CANARY), settings=SETTINGS, frozen=frozenset({"alpha/canary"}))
        assert change_of(plan(there, replace(wanted, prune=False)), "web").action is Action.RESTART

    @pytest.mark.parametrize("power", [Power.REBOOTING, Power.SUSPENDED, Power.DYING])
    def test_in_a_state_that_nobody_can_tell_anything_of(self, power: Power) -> None:
        there = host(guest(domain("canary"), power=power), guest(domain("web")))
        assert power.value in held(plan(there, desired(self.canary, new("web"), settings=SETTINGS))).reason

    def test_not_told_by_xl(self) -> None:
        there = host(guest(domain("canary"), running=None, power=Power.RUNNING), guest(domain("web")))
        assert (
            "alpha/canary is blocked" in held(plan(there, desired(self.canary, new("web"), settings=SETTINGS))).reason
        )

    def test_not_selected(self) -> None:
        wanted = desired(self.canary, new("web"), settings=SETTINGS)
        made = fleet_plan(wanted, None, frozenset({"alpha/web"}), self.world)
        assert "alpha/canary is not selected in this run" in held(made).reason
        assert made.steps == ()

    def test_held_by_the_brake(self) -> None:
        hosts = [self.world, replace(host(guest(domain("gone-1")), guest(domain("gone-2"))), name="beta")]
        wanted = desired(self.canary, new("web"), settings=SETTINGS, brake=Brake(max_destroy=1, max_restart=5))
        beta = DesiredHost(settings=replace(SETTINGS, name="beta"), domains={"b": new("b", policy=CANARY)})
        hosts[1] = replace(hosts[1], guests={**hosts[1].guests, "b": guest(domain("b"))})
        made = build_plan(
            replace(wanted, hosts={**wanted.hosts, "beta": beta}), {one.name: one for one in hosts}, Consent()
        )
        change = change_of(made, "web")
        assert (change.action, change.waits_for) == (Action.NO_OP, ("wave: beta/b",))
        assert change_of(made, "canary").action is Action.RESTART

    def test_on_a_host_that_does_not_answer(self) -> None:
        wanted = desired(new("web"), settings=SETTINGS)
        silent = DesiredHost(settings=replace(SETTINGS, name="beta"), domains={"canary": self.canary})
        made = fleet_plan(replace(wanted, hosts={**wanted.hosts, "beta": silent}), None, frozenset(), self.world)
        change = change_of(made, "web")
        assert (change.action, change.waits_for) == (Action.NO_OP, ("wave: beta/canary",))
        assert "wait until beta answers" in (change.hint or "")

    def test_that_is_out_of_its_wave_by_reconcile_false(self) -> None:
        out = new("canary", policy=replace(CANARY, reconcile=False))
        made = plan(self.world, desired(out, new("web"), settings=SETTINGS))
        assert change_of(made, "web").action is Action.RESTART

    def test_lets_live_changes_and_starts_go(self) -> None:
        there = host(guest(domain("canary")), guest(domain("web")), stopped(domain("db")))
        blocked = replace(self.canary, vcpus=9, maxvcpus=9)
        wanted = desired(blocked, domain("web", memory_kib=300 * 1024), domain("db"), settings=SETTINGS)
        made = plan(there, wanted)
        assert [change_of(made, name).action for name in ("web", "db")] == [Action.UPDATE, Action.START]

    def test_lets_a_rollback_go(self) -> None:
        before = guest(new("web"), previous=domain("web"))
        there = host(guest(domain("canary")), before)
        there = replace(there, images={**there.images, kernel("web").path: kernel("web").sha256})
        wanted = desired(replace(self.canary, vcpus=9, maxvcpus=9), new("web"), settings=SETTINGS)
        made = plan(there, wanted, Consent(rollback=frozenset({"alpha/web"})))
        assert change_of(made, "web").action is Action.RESTART

    def test_lets_its_own_wave_and_lower_ones_go(self) -> None:
        there = host(guest(domain("canary")), guest(domain("web")))
        blocked = replace(self.canary, vcpus=9, maxvcpus=9)
        made = plan(there, desired(blocked, new("web", policy=CANARY), settings=SETTINGS))
        assert change_of(made, "web").action is Action.RESTART


class TestAKernelThatFailedElsewhere:
    """Three domains of one wave get one kernel, which fails in the first."""

    names = ("d0", "d1", "d2")

    def wanted(self, **changes: object) -> Desired:
        return desired(*(self.spec(name) for name in self.names), settings=SETTINGS, **changes)

    def spec(self, name: str) -> Domain:
        return domain(name, kernel=Image(sha256=NEW, path=f"/k/{name}/vmlinuz.{NEW[:12]}", source="kernels/vmlinuz"))

    def failed(self, reason: str = "it panicked") -> Guest:
        there = guest(domain("d0"))
        return replace(there, quarantine=with_quarantined(there, self.spec("d0"), reason))

    def test_is_brought_to_no_other_by_any_number_of_runs(self) -> None:
        world = host(self.failed(), *(guest(domain(name)) for name in self.names[1:]))
        for _ in range(3):
            made = plan(world, self.wanted())
            assert made.steps == ()
            assert change_of(made, "d1").waits_for == ("kernel: alpha/d0",)
            assert (change_of(made, "d1").would, change_of(made, "d2").would) == (Action.RESTART, Action.RESTART)

    def test_is_tried_where_somebody_asks_for_it(self) -> None:
        world = host(self.failed(), *(guest(domain(name)) for name in self.names[1:]))
        made = plan(world, self.wanted(), Consent(retry=frozenset({"alpha/d1"})))
        assert [change_of(made, name).action for name in ("d1", "d2")] == [Action.RESTART, Action.NO_OP]

    def test_holds_nobody_who_runs_it_already(self) -> None:
        running = guest(self.spec("d1"))
        world = host(self.failed(), running, guest(domain("d2")))
        more = replace(self.spec("d1"), maxvcpus=4)
        wanted = desired(self.spec("d0"), more, self.spec("d2"), settings=SETTINGS)
        assert change_of(plan(world, wanted), "d1").action is Action.RESTART

    def test_holds_nobody_where_another_domain_is_proven_with_it_and_something_else_was_new_as_well(self) -> None:
        bad = replace(self.spec("d0"), cmdline="rdinit=/nothing")
        there = guest(domain("d0"))
        there = replace(there, quarantine=with_quarantined(there, bad, "it panicked"))
        same = replace(self.spec("d2"), cmdline="rdinit=/nothing")
        world = host(there, guest(self.spec("d1")), guest(domain("d2")))
        made = plan(world, desired(bad, self.spec("d1"), self.spec("d2"), settings=SETTINGS))
        assert change_of(made, "d2").action is Action.RESTART
        made = plan(world, desired(bad, self.spec("d1"), same, settings=SETTINGS))
        assert change_of(made, "d2").waits_for == ("cmdline: alpha/d0",)

    def test_holds_others_where_it_is_all_that_was_new_however_many_are_proven_with_it(self) -> None:
        world = host(self.failed(), guest(self.spec("d1")), guest(domain("d2")))
        made = plan(world, self.wanted())
        assert change_of(made, "d2").waits_for == ("kernel: alpha/d0",)

    def test_rolled_back_by_hand_is_no_failure_that_holds_other_kernels(self) -> None:
        world = host(self.failed(ROLLED_BACK), *(guest(domain(name)) for name in self.names[1:]))
        canary = replace(self.spec("d0"), policy=CANARY)
        other = domain("d2", kernel=kernel("d2", "3" * 64))
        made = plan(world, desired(canary, self.spec("d1"), other, settings=SETTINGS))
        assert [change_of(made, name).action for name in ("d1", "d2")] == [Action.NO_OP, Action.RESTART]
        assert change_of(made, "d1").reason == "wave -1 is not through: alpha/d0 was rolled back by hand"


SHARED = Image(sha256="5" * 64, path="/k/initrd.555555555555", source="kernels/initrd")


class TestARamdiskOrACmdlineThatFailedElsewhere:
    """The kernel stays as it is. What is new is shared by all three, and does not boot in the first."""

    @pytest.mark.parametrize("key, value", [("ramdisk", SHARED), ("cmdline", "root=/dev/nowhere")])
    @pytest.mark.parametrize("reason, way_out", [("it hung", "change the"), (ROLLED_BACK, "--retry alpha/d0")])
    def test_is_brought_to_no_other(self, key: str, value: object, reason: str, way_out: str) -> None:
        wanted = {name: domain(name, **{key: value}) for name in ("d0", "d1")}
        wanted["d0"] = replace(wanted["d0"], policy=CANARY if reason == ROLLED_BACK else Policy())
        wanted["d2"] = domain("d2", kernel=kernel("d2", NEW))
        there = guest(domain("d0", policy=wanted["d0"].policy))
        there = replace(there, quarantine=with_quarantined(there, wanted["d0"], reason))
        world = host(there, guest(domain("d1")), guest(domain("d2")))
        made = plan(world, desired(*wanted.values(), settings=SETTINGS))
        held, other = change_of(made, "d1"), change_of(made, "d2")
        assert (held.action, held.would, other.action) == (Action.NO_OP, Action.RESTART, Action.RESTART)
        assert waits_for_another(held)
        assert "alpha/d0" in held.reason
        assert way_out in (held.hint or "")

    def test_what_it_was_ready_with_before_did_not_fail(self) -> None:
        failing = replace(domain("d0"), cmdline="root=/dev/nowhere", kernel=kernel("d0", NEW))
        there = guest(domain("d0", kernel=kernel("d0", NEW)))
        there = replace(there, quarantine=with_quarantined(there, failing, "it hung"))
        world = host(there, guest(domain("d1")))
        made = plan(world, desired(failing, domain("d1", kernel=kernel("d1", NEW)), settings=SETTINGS))
        assert change_of(made, "d1").action is Action.RESTART


class TestWhatIsNotKnownIsNotDone:
    def test_nothing_is_pruned_while_a_spec_cannot_be_read(self) -> None:
        made = plan(host(guest(domain("web")), guest(domain("gone"))), desired(domain("web"), prune=False))
        assert made.steps == ()

    def test_nothing_is_destroyed_of_which_nobody_knows_what_has_to_be_kept(self) -> None:
        unread = guest(domain("gone"), config=None, running=None, power=Power.ABSENT, problem="it cannot be parsed")
        made = plan(host(guest(domain("web")), unread), desired(domain("web")))
        assert (change_of(made, "gone").action, made.steps) == (Action.BLOCKED, ())

    def test_nothing_is_created_that_may_be_on_a_host_that_does_not_answer(self) -> None:
        wanted = desired(domain("web"))
        made = build_plan(wanted, {"alpha": host()}, Consent(), unseen=Unseen(names={"web": "beta"}))
        assert (change_of(made, "web").action, made.steps) == (Action.BLOCKED, ())

    def test_nobody_is_taken_down_whose_spec_nobody_can_ask(self) -> None:
        world = host(guest(domain("db")), guest(domain("app", depends_on=("db",))))
        wanted = desired(new("db"), settings=SETTINGS, frozen=frozenset({"alpha/app"}), prune=False)
        made = plan(world, wanted)
        assert "app depends on it and may not restart" in (change_of(made, "db").blocked or "")
        assert made.steps == ()

    @pytest.mark.parametrize("power", [Power.PAUSED, Power.REBOOTING, Power.SUSPENDED, Power.DYING])
    def test_nobody_is_taken_down_who_is_in_no_state_to_be_stopped(self, power: Power) -> None:
        app = domain("app", depends_on=("db",))
        world = host(guest(domain("db")), guest(app, power=power))
        made = plan(world, desired(new("db"), app, settings=SETTINGS))
        assert change_of(made, "db").action is Action.BLOCKED
        assert made.steps == ()

    @pytest.mark.parametrize("limit", [0, 0.0])
    def test_a_brake_of_none_lets_none_through(self, limit: float) -> None:
        made = plan(
            host(guest(domain("web")), guest(domain("gone"))), desired(domain("web"), brake=Brake(max_destroy=limit))
        )
        assert made.steps == ()

    def test_what_is_not_ours_is_adopted_only_when_asked(self) -> None:
        made = plan(host(unmanaged(domain("web"))), desired(new("web")))
        assert (change_of(made, "web").action, made.steps) == (Action.BLOCKED, ())
