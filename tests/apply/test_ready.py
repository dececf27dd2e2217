"""The ready gate, on a host that says what it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from reconciler.apply.ready import await_ready
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import Ready
from reconciler.model.host import Look, Power
from reconciler.plan.steps import AwaitReady

pytestmark = pytest.mark.anyio

UP = Look(power=Power.RUNNING, uuid="u", boot="7", devices_connected=True, console="")
BOOTING = replace(UP, devices_connected=False)


@dataclass
class Watched:
    """A guest as a function of the seconds since its start; its clock moves only when somebody sleeps."""

    at: Callable[[float], Look]
    answers_after: float = 0
    seconds: float = 0
    probes: list[str] = field(default_factory=list)

    async def look(self, domain: str) -> Look:
        return self.at(self.seconds)

    async def probe_tcp(self, address: str) -> bool:
        self.probes.append(address)
        return self.seconds >= self.answers_after

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> float:
        return 1000 + self.seconds


def wait_for(ready: Ready) -> AwaitReady:
    return AwaitReady(domain="web", uuid="u", ready=ready)


def from_second(second: float, look: Look, before: Look = BOOTING) -> Callable[[float], Look]:
    return lambda seconds: look if seconds >= second else before


async def test_ready_means_connected_for_as_long_as_asked() -> None:
    host = Watched(from_second(4, UP))
    await await_ready(host, wait_for(Ready(min_seconds=5)))
    assert host.seconds == 9


async def test_a_guest_without_devices_only_has_to_stay_up() -> None:
    host = Watched(lambda _: replace(UP, devices_connected=None))
    await await_ready(host, wait_for(Ready(min_seconds=5)))
    assert host.seconds == 5


async def test_devices_that_come_and_go_start_the_time_anew() -> None:
    host = Watched(lambda second: replace(UP, devices_connected=second != 3))
    await await_ready(host, wait_for(Ready(min_seconds=5)))
    assert host.seconds == 9


async def test_tcp_and_console_are_waited_for_when_asked() -> None:
    host = Watched(from_second(6, replace(UP, console="booting\nlogin: "), before=UP), answers_after=8)
    await await_ready(host, wait_for(Ready(min_seconds=1, tcp="10.0.0.9:22", console="^login:")))
    assert host.seconds == 8
    assert set(host.probes) == {"10.0.0.9:22"}


async def test_a_paused_guest_is_not_ready_yet() -> None:
    host = Watched(from_second(3, UP, before=replace(UP, power=Power.PAUSED)))
    await await_ready(host, wait_for(Ready(min_seconds=2)))
    assert host.seconds == 5


@pytest.mark.parametrize(
    ("look", "sentence"),
    [
        (Look(power=Power.ABSENT), "it is gone"),
        (replace(UP, power=Power.CRASHED), "it crashed"),
        (replace(UP, power=Power.REBOOTING), "it reboots"),
        (replace(UP, power=Power.SHUTDOWN), "it shut itself down"),
        (replace(UP, power=Power.DYING), "it is being destroyed"),
        (replace(UP, power=Power.SUSPENDED), "it was suspended"),
        (replace(UP, uuid="other"), "another domain has its name"),
        (replace(UP, boot="8"), "boot loop"),
    ],
)
async def test_what_no_waiting_mends_is_said_at_once(look: Look, sentence: str) -> None:
    host = Watched(from_second(3, look))
    with pytest.raises(ReconcilerError, match=sentence):
        await await_ready(host, wait_for(Ready()))
    assert host.seconds == 3


@pytest.mark.parametrize(
    ("look", "ready", "sentence"),
    [
        (replace(UP, devices_connected=False), Ready(timeout_seconds=20), "disks and interfaces are not connected"),
        (UP, Ready(timeout_seconds=20, tcp="10.0.0.9:22"), "10.0.0.9:22 does not answer"),
        (UP, Ready(timeout_seconds=20, console="login:"), 'console has not shown "login:"'),
        (UP, Ready(timeout_seconds=20, min_seconds=60), "not stayed connected for 60 s"),
    ],
)
async def test_what_is_still_missing_at_the_end_is_named(look: Look, ready: Ready, sentence: str) -> None:
    host = Watched(lambda _: look, answers_after=999)
    with pytest.raises(ReconcilerError, match=f"after 20 s .*{sentence}"):
        await await_ready(host, wait_for(ready))
    assert host.seconds == 20


async def test_the_end_of_the_console_is_shown_without_its_escape_sequences() -> None:
    noise = "".join(f"line {number}\r\n" for number in range(100))
    console = f"{noise}\x1b[2J\x1b]0;evil\x07Kernel panic\x1b[31m!\n"
    host = Watched(lambda _: replace(UP, power=Power.CRASHED, console=console))
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(host, wait_for(Ready()))
    detail = caught.value.diagnostics[0].detail
    assert detail.endswith("Kernel panic!")
    assert "line 99" in detail
    assert "line 50" not in detail
    assert "\x1b" not in detail
    assert "\x07" not in detail


async def test_the_reason_of_a_linux_panic_is_shown_although_it_comes_before_the_trace() -> None:
    reason = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
    trace = "".join(f"[   17.72{number:02}] frame {number}\r\n" for number in range(15))
    host = Watched(lambda _: replace(UP, power=Power.CRASHED, console=f"booting\r\n[   17.7] {reason}\r\n{trace}"))
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(host, wait_for(Ready()))
    assert reason in str(caught.value.diagnostics[0].detail)


async def test_a_host_without_console_logs_says_how_to_get_them() -> None:
    host = Watched(lambda _: replace(UP, power=Power.CRASHED, console=None))
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(host, wait_for(Ready()))
    assert "XENCONSOLED_ARGS" in str(caught.value.diagnostics[0].hint)


async def test_a_look_that_fails_says_nothing_about_the_guest() -> None:
    def at(second: float) -> Look:
        if 2 <= second < 5:
            raise world_error("connection lost")
        return UP

    host = Watched(at)
    await await_ready(host, wait_for(Ready(min_seconds=8)))
    assert host.seconds == 8


async def test_a_host_that_stays_away_is_reported_as_such() -> None:
    def at(second: float) -> Look:
        raise world_error("connection lost")

    host = Watched(at)
    with pytest.raises(ReconcilerError, match="connection lost"):
        await await_ready(host, wait_for(Ready(timeout_seconds=20)))
    assert host.seconds == 20


@pytest.mark.parametrize(
    "after", [replace(UP, boot="1", host_boot="second"), Look(power=Power.ABSENT, host_boot="second")]
)
async def test_a_reboot_of_the_host_says_nothing_about_the_guest(after: Look) -> None:
    host = Watched(from_second(3, after, before=replace(BOOTING, host_boot="first")))
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(host, wait_for(Ready()))
    assert caught.value.diagnostics[0].transient
    assert "The host of web was rebooted" in caught.value.diagnostics[0].detail


@pytest.mark.parametrize(
    ("console", "ending"),
    [
        (
            "[ 1.0] Kernel panic - not syncing: VFS: no root\r\n[ 1.1] CPU: 0\n",
            "[ 1.0] Kernel panic - not syncing: VFS",
        ),
        ("panic: cannot mount root\nrebooting...\n", "panic: cannot mount root"),
    ],
)
async def test_a_panic_is_named(console: str, ending: str) -> None:
    host = Watched(lambda _: Look(power=Power.ABSENT, console=console))
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(host, wait_for(Ready()))
    assert f"it is gone after a panic: {ending}" in caught.value.diagnostics[0].detail


async def test_a_guest_that_goes_without_a_word_of_panic_is_only_gone() -> None:
    host = Watched(lambda _: Look(power=Power.ABSENT, console="reboot: Power down, don't panic\n"))
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(host, wait_for(Ready()))
    assert "it is gone.\n" in caught.value.diagnostics[0].detail


@pytest.mark.parametrize(
    ("look", "blamed"),
    [
        (replace(UP, power=Power.PAUSED), False),
        (replace(UP, power=Power.SUSPENDED), False),
        (replace(UP, uuid="of another"), False),
        (BOOTING, True),
        (replace(UP, power=Power.CRASHED), True),
        (Look(power=Power.ABSENT), True),
    ],
)
async def test_only_a_boot_that_was_given_its_time_is_held_against_what_it_boots(look: Look, blamed: bool) -> None:
    with pytest.raises(ReconcilerError) as caught:
        await await_ready(Watched(lambda _: look), wait_for(Ready(timeout_seconds=9)))
    problem = caught.value.diagnostics[0]
    assert (problem.boot_failed, problem.transient) == (blamed, not blamed)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+$", "(.*a){20}", "(?:a?){27}a{27}b"])
async def test_no_pattern_holds_the_loop_whatever_a_guest_writes(pattern: str) -> None:
    line = "a" * 27 + "!\n"
    host = Watched(lambda _: replace(UP, console=line * 500))
    turns = [time.perf_counter()]

    async def look(domain: str) -> Look:
        turns.append(time.perf_counter())
        return replace(UP, console=line * 500)

    host.look = look  # type: ignore[method-assign]
    try:
        await await_ready(host, wait_for(Ready(min_seconds=0, timeout_seconds=5, console=pattern)))
    except ReconcilerError as error:
        assert "has not shown" in error.diagnostics[0].detail
    turns.append(time.perf_counter())
    assert max(after - before for before, after in pairwise(turns)) < 0.1


async def test_a_console_full_of_panics_is_read_at_once() -> None:
    host = Watched(lambda _: Look(power=Power.ABSENT, console="panic " * 2700))
    began = time.perf_counter()
    with pytest.raises(ReconcilerError):
        await await_ready(host, wait_for(Ready()))
    assert time.perf_counter() - began < 0.1


async def test_a_pattern_that_cannot_be_followed_says_nothing_about_the_guest() -> None:
    with pytest.raises(ReconcilerError, match="cannot be searched for") as caught:
        await await_ready(Watched(lambda _: UP), wait_for(Ready(console="(?=login)")))
    assert caught.value.diagnostics[0].transient


async def test_what_is_still_missing_is_told_until_it_is_there() -> None:
    news: list[str] = []
    host = Watched(lambda s: replace(UP, devices_connected=s >= 2, console="login:" if s >= 5 else ""), answers_after=4)
    await await_ready(host, wait_for(Ready(min_seconds=7, tcp="10.0.0.9:22", console="login:")), news.append)
    assert news == [
        'still missing: devices, tcp 10.0.0.9:22, console "login:"',
        'still missing: tcp 10.0.0.9:22, console "login:"',
        'still missing: console "login:"',
        *(f"connected for {seconds} s of 7 s" for seconds in (3, 4, 5, 6)),
    ]
