"""How simulated guests behave: what their kernel's bytes say, told by what an executor sees of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.host import Power
from reconciler.plan.steps import PromoteConfig, SetMemory, StageImage, Start, WriteConfig
from reconciler.simulated.guest import KERNEL_MARK, Behaviour, read_behaviour
from tests.simulated.world import GIB_KIB, UUID, World, domain, image, ready, shutdown

MIB_KIB = 1024


def start_with(world: World, toml: str, **changes: Any) -> None:
    world.start(domain(kernel=world.put_kernel(toml), **changes))


def set_memory(memory_kib: int) -> SetMemory:
    return SetMemory(domain="web", uuid=UUID, before_kib=GIB_KIB // 2, memory_kib=memory_kib)


def test_any_file_is_a_kernel_that_boots(world: World) -> None:
    world.start(domain())
    assert world.look().devices_connected is False, "not before its kernel is up"
    world.do(ready(domain(), console="login:"))
    look = world.look()
    assert (look.power, look.devices_connected, look.actual_kib) == (Power.RUNNING, True, GIB_KIB // 2)


def test_boot_takes_the_virtual_seconds_it_says(world: World) -> None:
    start_with(world, 'boot_seconds = 30\nconsole = "here we are"')
    world.wait(29)
    assert world.look().devices_connected is False
    world.wait(1)
    look = world.look()
    assert look.devices_connected is True
    assert look.console is not None
    assert "here we are" in look.console


@pytest.mark.parametrize(
    ("on_crash", "power"),
    [
        ("destroy", Power.ABSENT),
        ("coredump-destroy", Power.ABSENT),
        ("preserve", Power.CRASHED),
        ("restart", Power.RUNNING),
    ],
)
def test_a_panic_obeys_on_crash(world: World, on_crash: str, power: Power) -> None:
    start_with(world, 'boot = "panic"\nboot_seconds = 2', on_crash=on_crash)
    boot_before = world.look().boot
    world.wait(2)
    look = world.look()
    assert look.power is power
    assert look.console is not None
    assert "Kernel panic" in look.console
    assert world.fail(ready(domain())).summary == "not ready"
    assert (look.boot == boot_before) is (power is Power.CRASHED)


def test_a_domain_that_panicked_away_gives_back_its_memory(world: World) -> None:
    free_before = world.observe().free_kib
    start_with(world, 'boot = "panic"')
    assert world.observe().free_kib < free_before
    world.wait(2)
    assert world.observe().free_kib == free_before


@pytest.mark.parametrize("devices", [{}, {"disks": (), "vifs": ()}])
def test_a_hang_is_never_ready_devices_or_not(world: World, devices: dict[str, Any]) -> None:
    start_with(world, 'boot = "hang"\nconsole = "waiting for root device"', **devices)
    problem = world.fail(ready(domain(), timeout_seconds=50))
    assert "waiting for root device" in problem.detail
    assert world.look().power is Power.RUNNING


@pytest.mark.parametrize(
    ("on_reboot", "power"), [("restart", Power.RUNNING), ("destroy", Power.ABSENT), ("preserve", Power.REBOOTING)]
)
def test_a_reboot_loop_obeys_on_reboot(world: World, on_reboot: str, power: Power) -> None:
    start_with(world, 'boot = "reboot-loop"\nboot_seconds = 3', on_reboot=on_reboot)
    assert world.fail(ready(domain())).summary == "not ready"
    assert world.look().power is power


def test_a_reboot_loop_changes_its_boot_again_and_again(world: World) -> None:
    start_with(world, 'boot = "reboot-loop"\nboot_seconds = 3')
    boots = []
    for _ in range(4):
        boots.append(world.look().boot)
        world.wait(3)
    assert len(set(boots)) == 4


def test_a_guest_that_ignores_shutdown_is_left_alone_when_the_step_says_fail(world: World) -> None:
    start_with(world, 'shutdown = "ignore"')
    began = world.executor.now()
    problem = world.fail(shutdown(domain(), "fail", seconds=70))
    assert problem.summary == "did not shut down"
    assert problem.hint is not None
    assert "on_shutdown_timeout" in problem.hint
    assert world.executor.now() - began == pytest.approx(70)
    assert world.look().power is Power.RUNNING


def test_a_guest_that_ignores_shutdown_is_destroyed_when_the_step_says_so(world: World) -> None:
    start_with(world, 'shutdown = "ignore"')
    world.do(shutdown(domain(), "destroy", seconds=70))
    assert world.look().power is Power.ABSENT
    assert world.executor.now() >= 70


@pytest.mark.parametrize("power", ["crashed", "shutdown"])
def test_shutdown_clears_away_what_is_down_already(world: World, power: str) -> None:
    world.start(domain())
    world.hand.set("web", {"power": power})
    world.do(shutdown(domain()))
    assert world.guest().power is Power.ABSENT


def test_a_slow_balloon_gets_there_in_time(world: World) -> None:
    start_with(world, 'balloon = "slow"')
    began = world.executor.now()
    world.do(set_memory(GIB_KIB))
    assert world.guest().actual_kib == GIB_KIB
    assert world.executor.now() - began >= 5


def test_a_slow_balloon_is_seen_on_its_way(world: World) -> None:
    start_with(world, 'balloon = "slow"')
    world.hand.set("web", {"memory": "1024"})
    world.wait(1)
    assert GIB_KIB // 2 < world.guest().actual_kib < GIB_KIB


def test_a_balloon_that_refuses_fails_with_what_was_reached(world: World) -> None:
    start_with(world, 'balloon = "refuse"')
    problem = world.fail(set_memory(GIB_KIB // 4))
    assert "256 MiB and has 512 MiB" in problem.detail
    guest = world.guest()
    assert guest.running is not None
    assert (guest.running.memory_kib, guest.actual_kib) == (GIB_KIB // 4, GIB_KIB // 2)


def test_a_reboot_brings_what_the_balloon_refused(world: World) -> None:
    start_with(world, 'balloon = "refuse"', on_crash="restart")
    world.fail(set_memory(GIB_KIB // 4))
    world.hand.crash("web")
    assert world.guest().actual_kib == GIB_KIB // 4


def test_behaviour_belongs_to_the_bytes_that_were_booted(world: World) -> None:
    start_with(world, 'boot = "ok"')
    world.put_kernel('boot = "panic"')
    world.wait(10)
    assert world.look().power is Power.RUNNING, "another file under the old source changes nothing that runs"


def test_a_restart_boots_the_candidate_and_keeps_the_old_config(world: World) -> None:
    old, new = domain(), domain(kernel=world.put_kernel('console = "new kernel"'))
    world.start(old)
    assert new.kernel is not None
    world.do(
        StageImage(domain="web", image=new.kernel),
        WriteConfig(definition=new, candidate=True),
        shutdown(old),
        Start(definition=new, candidate=True),
    )
    guest = world.guest()
    assert (guest.config, guest.candidate, guest.running, guest.unproven) == (old, new, new, True)
    world.do(ready(new, console="new kernel"), PromoteConfig(domain="web"))
    assert (world.guest().config, world.guest().candidate) == (new, None)


@pytest.mark.parametrize(
    "toml",
    [
        "boot = 'sideways'",
        "colour = 'red'",
        "boot_seconds = -1",
        "boot_seconds = 'long'",
        "boot =",
        "boot_seconds = nan",
    ],
)
def test_a_kernel_that_says_nonsense_does_not_start(world: World, toml: str) -> None:
    kernel = world.put_kernel(toml)
    problem = world.fail(
        StageImage(domain="web", image=kernel),
        WriteConfig(definition=domain(kernel=kernel, disks=())),
        Start(definition=domain(kernel=kernel, disks=())),
    )
    assert problem.summary == "kernel cannot boot"
    assert world.look().power is Power.ABSENT


def test_bytes_without_the_mark_are_any_kernel() -> None:
    assert read_behaviour(b"\x7fELF\x00\xff") == Behaviour()
    assert read_behaviour(b"#!simulated-kernels\nboot = 'panic'") == Behaviour()


def test_the_mark_alone_is_a_kernel_that_boots() -> None:
    assert read_behaviour(KERNEL_MARK) == Behaviour()


def test_bytes_that_are_no_text_are_named_as_such() -> None:
    with pytest.raises(ValueError, match="is not TOML"):
        read_behaviour(KERNEL_MARK + b"\n\xff\xfe")


def test_probe_answers_for_the_guest_that_has_the_address(world: World) -> None:
    vif = replace(domain().vifs[0], ip="10.0.0.9")
    start_with(world, "boot_seconds = 5", vifs=(vif,))
    assert asyncio.run(world.executor.probe_tcp("10.0.0.9:22")) is False
    world.wait(5)
    assert asyncio.run(world.executor.probe_tcp("10.0.0.9:22")) is True
    world.hand.destroy("web")
    assert asyncio.run(world.executor.probe_tcp("10.0.0.9:22")) is False


def test_a_path_nobody_put_there_holds_its_own_name(world: World) -> None:
    world.start(domain(kernel=image(b"/any/where", "/any/where")))
    assert world.look().power is Power.RUNNING
