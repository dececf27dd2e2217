"""What a host and its specs do to each other: seen at the next look, and repaired as the spec says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.model.diagnostics import Kind
from reconciler.simulated.host import SimulatedExecutor
from reconciler.simulated.store import Store
from tests.transcript import write_files
from tests.watch.conftest import HOST, World, look


def edit_config(world: World) -> None:
    world.hand.put("/etc/xen/web.cfg", config_of(world).replace(b"memory = 256", b"memory = 300"))


def config_of(world: World) -> bytes:
    from reconciler.simulated.store import Store

    store = Store(world.state_dir, "alpha")
    return store.content(store.read(), "/etc/xen/web.cfg")


DRIFTS: dict[str, Callable[[World], None]] = {
    "crashed": lambda world: world.hand.crash("web"),
    "destroyed by hand": lambda world: world.hand.destroy("web"),
    "memory set by hand": lambda world: world.hand.set("web", {"memory": "128"}),
    "config file edited": edit_config,
    "kernel file replaced": lambda world: world.hand.put("/boot/vmlinuz", b"another kernel"),
    "dom0 rebooted": lambda world: world.hand.reboot(),
}


def as_specified(world: World) -> bool:
    web, watcher = world.running(), world.watcher(detect_only=True)
    whole = web.running is not None and web.running.memory_kib == 256 * 1024 and not web.edited
    return whole and look(watcher).drifted == 0


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_drift_is_repaired_at_the_next_look(world: World, drift: Callable[[World], None]) -> None:
    watcher = world.watcher()
    look(watcher)
    assert as_specified(world)
    drift(world)
    outcome = look(watcher)
    assert outcome.drifted
    assert outcome.result.done
    assert not outcome.failed
    assert watcher.metrics().drifted == 0
    assert as_specified(world)
    assert world.condition("alpha/web") == "Ready"


@pytest.mark.parametrize("device", ["xvdb", "00:16:3e:00:00:01"], ids=["disk", "vif"])
def test_a_device_detached_by_hand_is_attached_again_while_the_domain_runs(world: World, device: str) -> None:
    disks = ", ".join(f'{{ vdev = "{vdev}", path = "/srv/{vdev}", size = "1GiB" }}' for vdev in ("xvda", "xvdb"))
    devices = f'disk = [{disks}]\nvif = [{{ mac = "00:16:3e:00:00:01" }}]\n'
    (world.specs / "alpha/host.toml").write_text('toolstack = "simulated"\ndisk_roots = ["/srv"]\n')
    world.write(web=f'kernel = "/boot/vmlinuz"\nmemory = 256\n{devices}')
    watcher = world.watcher()
    look(watcher)
    before = world.running()
    assert before.running is not None
    world.hand.set("web", {"detach": device})
    assert world.running().running != before.running
    outcome = look(watcher)
    assert (outcome.drifted, outcome.failed) == (1, False)
    after = world.running()
    assert after.running is not None
    assert {disk.devid: disk for disk in after.running.disks} == {disk.devid: disk for disk in before.running.disks}
    assert after.running.vifs == before.running.vifs
    assert "shutdown" not in {done.step.step.kind for done in outcome.result.done}


def test_a_replaced_kernel_is_what_runs_afterwards(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    before = world.running().running
    world.hand.put("/boot/vmlinuz", b"another kernel")
    look(watcher)
    after = world.running().running
    assert before is not None
    assert after is not None
    assert before.kernel != after.kernel


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_detect_only_tells_and_changes_nothing(world: World, drift: Callable[[World], None]) -> None:
    look(world.watcher())
    drift(world)
    before = Store(world.state_dir, "alpha").read()
    watcher = world.watcher(detect_only=True)
    outcome = look(watcher)
    assert outcome.drifted
    assert not outcome.result.done
    assert Store(world.state_dir, "alpha").read() == before
    assert world.condition("alpha/web") == "Held"
    assert watcher.metrics().drifted == outcome.drifted
    assert watcher.plan() is not None


def about(world: World, address: str) -> list[str]:
    """What the log says of a domain, without the time and the pass."""
    return [
        event.partition(" ")[2].rpartition(" pass=")[0]
        for event in world.events()
        if f"address={address} " in event + " "
    ]


def test_every_line_of_a_pass_names_it(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    first = {event.rpartition(" pass=")[2] for event in world.events()}
    said = len(world.events())
    world.hand.destroy("web")
    look(watcher)
    second = {event.rpartition(" pass=")[2] for event in world.events()[said:]}
    assert said > 3
    assert [len(name) for name in (*first, *second)] == [8, 8]
    assert first != second
    watcher.stop()
    assert "pass=" not in world.events()[-1]


def test_detect_only_tells_what_differs_once(world: World) -> None:
    look(world.watcher())
    world.hand.set("web", {"memory": "128"})
    world.hand.crash("db")
    watcher = world.watcher(detect_only=True)
    said = len(world.events())
    for _ in range(3):
        look(watcher)
    assert about(world, "alpha/web")[-1:] == [
        'level=info event="domain held" address=alpha/web reason="update: drifted from the spec" '
        'differs="memory: 128 MiB -> 256 MiB"'
    ]
    assert about(world, "alpha/db")[-1:] == [
        'level=info event="domain held" address=alpha/db reason="start: it does not run"'
    ]
    assert len(world.events()) == said + 3  # and the pass, once


def test_a_repair_tells_what_differed_and_that_it_is_over(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.hand.set("web", {"memory": "128"})
    before = len(about(world, "alpha/web"))
    look(watcher)
    told = about(world, "alpha/web")[before:]
    assert 'event="domain reconciling"' in told[0]
    assert 'differs="memory: 128 MiB -> 256 MiB"' in told[0]
    assert 'event="step begun"' in told[1]
    assert 'event="domain ready"' in told[-1]


def test_what_cannot_go_on_is_told_with_the_reason(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    look(watcher)
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\nfrobnicate = 1\n')
    look(watcher)
    (told,) = [event for event in about(world, "alpha/web") if "stalled" in event]
    assert told.startswith('level=warning event="domain stalled" address=alpha/web reason="')


def test_what_is_worked_on_is_reconciling_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    watcher = world.watcher()
    execute = SimulatedExecutor.execute

    async def seeing(self: SimulatedExecutor, *arguments: Any, **named: Any) -> None:
        shown = {one["address"]: one["condition"] for one in watcher.status_document()["domains"]}
        seen.append((world.condition("alpha/web"), shown["alpha/web"]))
        await execute(self, *arguments, **named)

    look(watcher)
    known = world.record().domains["alpha/web"]
    world.hand.destroy("web")
    world.clock.seconds += 60
    monkeypatch.setattr(SimulatedExecutor, "execute", seeing)
    look(watcher)
    assert set(seen) == {("Reconciling", "Reconciling")}
    assert world.record().domains["alpha/web"].condition == known.condition


def test_nothing_to_do_is_nothing_said(world: World) -> None:
    watcher = world.watcher()
    look(watcher, "start")
    said = len(world.events())
    look(watcher)
    look(watcher)
    assert len(world.events()) == said


def test_a_held_domain_is_shown_and_left_alone(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\nreconcile = false\n')
    world.hand.destroy("web")
    noted = look(watcher).result.done  # with the domain, so that it outlives the spec file
    assert [done.step.step.kind for done in noted] == ["write_config"]
    assert not look(watcher).result.done
    assert (guest := world.guest()) is not None and guest.running is None
    known = world.record().domains["alpha/web"]
    assert known.condition.value == "Held"
    assert "reconcile = false" in known.reason


def test_since_stays_while_the_condition_does_and_survives_a_restart(world: World) -> None:
    look(world.watcher())
    first = world.record().domains["alpha/web"].since
    world.clock.seconds += 3600
    look(world.watcher())
    assert world.record().domains["alpha/web"].since == first
    world.hand.destroy("web")
    look(world.watcher(detect_only=True))
    assert world.record().domains["alpha/web"].since > first


def test_a_removed_file_destroys_and_an_empty_tree_does_not(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    (world.specs / "alpha/db.toml").unlink()
    look(watcher)
    assert world.guest("db") is None
    (world.specs / "alpha/web.toml").unlink()
    look(watcher)
    assert world.running().running is not None


def test_a_renamed_file_is_another_domain(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    (world.specs / "alpha/web.toml").rename(world.specs / "alpha/www.toml")
    look(watcher)
    assert world.guest("web") is None
    assert world.running("www").running is not None
    assert set(world.record().domains) == {"alpha/db", "alpha/www"}


def test_a_tree_that_vanishes_changes_nothing_forgets_nothing_and_leaves_nothing_ready(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    before = world.running("web").running
    world.specs.rename(world.folder / "elsewhere")
    outcome = look(watcher)
    assert Kind.SPEC in [problem.kind for problem in outcome.problems]
    known = world.record().domains
    assert {address: domain.condition.value for address, domain in known.items()} == {
        "alpha/web": "Stalled",
        "alpha/db": "Stalled",
    }
    assert "No spec tree" in known["alpha/web"].reason
    assert [problem.summary for problem in world.record().problems] == ["No spec tree"]
    (world.folder / "elsewhere").rename(world.specs)
    assert not look(watcher).failed
    assert world.record().problems == ()
    assert world.condition("alpha/web") == "Ready"
    assert world.running("web").running == before


BREAKS: dict[str, Callable[[World], object]] = {
    "the only host": lambda world: (world.specs / "alpha/host.toml").write_text("toolstack = "),
    "one of two": lambda world: write_files(
        {"specs/alpha/host.toml": "toolstack = ", "specs/beta/host.toml": HOST}, world.folder
    ),
}


@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
def test_the_domains_of_a_host_whose_specs_have_errors_are_stalled(
    world: World, breaks: Callable[[World], object]
) -> None:
    watcher = world.watcher()
    look(watcher)
    world.clock.seconds += 60
    breaks(world)
    look(watcher)
    known = world.record().domains["alpha/web"]
    assert known.condition == "Stalled"
    assert known.reason == "the specs of alpha have errors, so nothing is done there"
    world.clock.seconds += 60
    look(watcher)
    assert world.record().domains["alpha/web"].since == known.since
    shown = {one["address"]: one["condition"] for one in watcher.status_document()["domains"]}
    assert shown["alpha/web"] == "Stalled"
    assert watcher.metrics().domains_by_condition["Stalled"] == 2


def test_a_host_that_never_had_readable_specs_names_its_domains(world: World) -> None:
    (world.specs / "alpha/host.toml").write_text("toolstack = ")
    write_files({"specs/beta/host.toml": HOST}, world.folder)
    look(world.watcher())
    assert world.condition("alpha/web") == "Stalled"


def test_a_broken_file_freezes_its_domain_and_every_destroy(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.write(web="memory = \n")
    (world.specs / "alpha/db.toml").unlink()
    world.hand.crash("web")
    outcome = look(watcher)
    assert not outcome.result.done
    assert world.condition("alpha/web") == "Stalled"
    assert world.guest("db") is not None
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\n')
    look(watcher)
    assert world.guest("db") is None
    assert world.condition("alpha/web") == "Ready"
