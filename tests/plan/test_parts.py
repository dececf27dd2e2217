"""What of a plan over several hosts each may do by itself: what needs nothing that is done on another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.model.host import Host
from reconciler.plan.parts import Beside, parts_of, rehearsed_together, restarts_of, within
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.verify import verify
from tests.worlds import NEW, domain, guest, host, kernel, stopped, vif


def fleet(**parts: tuple[Host, tuple[Domain, ...]]) -> tuple[Desired, dict[str, Host]]:
    hosts = {name: world for name, (world, _) in parts.items()}
    wanted = {
        name: DesiredHost(
            settings=HostSettings(name=name, toolstack="simulated", max_unavailable=2),
            domains={one.name: one for one in domains},
        )
        for name, (_, domains) in parts.items()
    }
    return Desired(fleet="default", hosts=wanted), hosts


def split(wanted: Desired, hosts: Mapping[str, Host], beside: Beside | None = None) -> dict[str, Plan]:
    plan = build_plan(wanted, hosts, Consent())
    verify(plan, hosts, wanted)
    parts = parts_of(plan, beside)
    for name, part in parts.items():
        ids = {step.id for step in part.steps}
        assert all(ids.issuperset(step.needs) for step in part.steps)
        assert {step.host for step in part.steps} <= {name}
        assert [entry.step for entry in part.ledger] == [step.id for step in part.steps]
        assert all(way.address in {step.address for step in part.steps} for way in part.ways_back)
    return parts


def on(name: str, *domains: Domain, down: tuple[Domain, ...] = ()) -> Host:
    return host(*(guest(one) for one in domains), *(stopped(one) for one in down), name=name)


def kinds(part: Plan) -> list[str]:
    return [f"{step.step.kind} {step.address}" for step in part.steps if step.step.kind in ("shutdown", "start")]


def booting_new(name: str, wave: int = 0) -> Domain:
    return domain(name, kernel=kernel(name, NEW), policy=Policy(wave=wave))


def test_hosts_of_one_wave_have_all_their_steps() -> None:
    wanted, hosts = fleet(
        alpha=(on("alpha", domain("a")), (booting_new("a"),)), beta=(on("beta", domain("b")), (booting_new("b"),))
    )
    parts = split(wanted, hosts)
    assert kinds(parts["alpha"]) == ["shutdown alpha/a", "start alpha/a"]
    assert kinds(parts["beta"]) == ["shutdown beta/b", "start beta/b"]
    assert len(parts["alpha"].ways_back) == 1


def test_a_later_wave_waits_for_other_hosts_and_a_repair_in_it_does_not() -> None:
    late, down = domain("b", policy=Policy(wave=1)), domain("c", policy=Policy(wave=1))
    wanted, hosts = fleet(
        alpha=(on("alpha", domain("a")), (booting_new("a"),)),
        beta=(on("beta", late, down=(down,)), (booting_new("b", 1), down)),
    )
    part = split(wanted, hosts)["beta"]
    assert kinds(part) == ["start beta/c"]
    waiting, repaired = part.changes
    assert (waiting.action, waiting.would, waiting.waits_for) == (Action.NO_OP, Action.RESTART, ("wave: alpha/a",))
    assert repaired.acts


def test_what_another_host_has_first_to_let_go_of_is_left_out() -> None:
    mac = "00:16:3e:00:00:01"
    wanted, hosts = fleet(
        alpha=(on("alpha", domain("a", vifs=(vif(mac),))), (domain("a"),)),
        beta=(on("beta", domain("b")), (domain("b", vifs=(vif(mac),)),)),
    )
    parts = split(wanted, hosts)
    assert [step.step.kind for step in parts["alpha"].steps if "vif" in step.step.kind] == ["detach_vif"]
    assert "attach_vif" not in [step.step.kind for step in parts["beta"].steps]


def test_no_restart_begins_elsewhere_once_one_has_failed() -> None:
    wanted, hosts = fleet(
        alpha=(on("alpha", domain("a")), (booting_new("a"),)),
        beta=(on("beta", domain("b"), down=(domain("c"),)), (booting_new("b"), domain("c"))),
    )
    parts = split(wanted, hosts, Beside(failing={"alpha": "alpha/a"}))
    assert kinds(parts["alpha"]) == ["shutdown alpha/a", "start alpha/a"]
    assert kinds(parts["beta"]) == ["start beta/c"]
    assert parts["beta"].changes[0].reason == "no restart begins, since that of alpha/a failed just now"


def test_no_more_restarts_than_the_fleet_has_places_left() -> None:
    wanted, hosts = fleet(alpha=(on("alpha", domain("a"), domain("b")), (booting_new("a"), booting_new("b"))))
    part = split(wanted, hosts)["alpha"]
    assert restarts_of(part) == {"alpha/a", "alpha/b"}
    assert within(part, 2, ["beta/x"]) is part
    assert kinds(within(part, 1, ["beta/x"])) == ["shutdown alpha/a", "start alpha/a"]
    none = within(part, 0, ["beta/x"])
    assert none.steps == ()
    assert {change.waits_for for change in none.changes} == {("host: beta/x",)}


def test_a_domain_never_goes_down_where_it_could_not_come_back() -> None:
    db = domain("db")
    app = domain("app", depends_on=("db",))
    wanted, hosts = fleet(alpha=(on("alpha", db, app), (booting_new("db"), app)))
    part = split(wanted, hosts)["alpha"]
    assert len(restarts_of(part)) == 2
    assert kinds(within(part, 1, ["beta/x"])) == []


def test_nothing_that_the_brake_counts_begins_before_each_host_was_looked_at() -> None:
    """What is to go on a host that nobody has seen yet counts as well, or a commit would pass by in slices."""
    alpha = on("alpha", domain("a"), domain("keep"), domain("old"))
    wanted, hosts = fleet(alpha=(alpha, (booting_new("a"), domain("keep"))))
    part = split(wanted, hosts, Beside(unseen=("beta",)))["alpha"]
    assert kinds(part) == ["shutdown alpha/a", "start alpha/a"]
    old = next(change for change in part.changes if change.domain == "old")
    assert (old.would, old.waits_for) == (Action.DESTROY, ("host: beta",))
    both = Beside(unseen=("beta",), braked=(Action.DESTROY, Action.RESTART))
    assert kinds(split(wanted, hosts, both)["alpha"]) == []
    assert "shutdown alpha/old" in kinds(split(wanted, hosts, Beside(unseen=("alpha",)))["alpha"])


def test_what_goes_down_for_a_rehearsed_restart_takes_its_places_together_and_late() -> None:
    rehearsed = Policy(rehearse="if-possible")
    base, leaf = domain("base"), domain("leaf", depends_on=("base",))
    other, plain = domain("other"), domain("plain")
    wanted, hosts = fleet(
        alpha=(
            replace(on("alpha", base, leaf, other, plain), snapshots={}),
            (
                domain("base", kernel=kernel("base", NEW), policy=rehearsed),
                domain("leaf", kernel=kernel("leaf", NEW), depends_on=("base",)),
                domain("other", kernel=kernel("other", NEW), policy=rehearsed),
                booting_new("plain"),
            ),
        )
    )
    part = split(wanted, hosts)["alpha"]
    assert [step.address for step in part.steps if step.step.kind == "rehearse"] == ["alpha/base", "alpha/other"]
    both = frozenset({"alpha/base", "alpha/leaf"})
    assert rehearsed_together(part) == {
        "alpha/base": both,
        "alpha/leaf": both,
        "alpha/other": frozenset({"alpha/other"}),
    }
