"""The ready gate decides whether a domain that was started has come up.

Only `follow` calls it, for the step AwaitReady. It sees a host only through `Watched`, so real and simulated hosts are
judged by the same rules. A guest is ready when it runs, its devices have been connected on both ends for `min_seconds`,
and `tcp` and `console` answer if the spec asks for them, all within `timeout`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, assert_never

from reconciler.expressions import expression
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.host import Look, Power
from reconciler.model.quantities import quoted
from reconciler.plan.steps import AwaitReady
from reconciler.records import dataclass
from reconciler.specs.patterns import WAYS_OUT, UnusablePatternError, check_pattern, is_in
from reconciler.waiting import NotYet, wait_until

_CONSOLE_LINES = 24  # what Linux says of a panic goes on for some 16 lines, and begins with why
_PANIC = r"(?i)\bpanic(: | - |\b.*not syncing)"
_PANIC_MAX = 120  # characters of the console's line
_NOT_PRINTABLE = expression(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x20-\x7e\xa0-\U0010ffff]")


class Watched(Protocol):
    """The part of an Executor that the gate needs."""

    async def look(self, domain: str) -> Look: ...

    async def probe_tcp(self, address: str) -> bool: ...

    async def sleep(self, seconds: float) -> None: ...

    def now(self) -> float: ...


@dataclass(slots=True)
class _Signs:
    """The signs seen of one start so far. Times are seconds on the host's clock; None means not seen yet."""

    boot: str | None = None
    host_boot: str | None = None
    connected_since: float | None = None
    tcp_answered: bool = False
    console_matched: bool = False


async def await_ready(host: Watched, step: AwaitReady, report: Callable[[str], None] = lambda _: None) -> None:
    """Return when the domain is ready, and report what is missing until then.

    Raises ReconcilerError (world) naming the sign which failed or is missing.
    """
    ready = step.ready
    _refuse_an_unusable_pattern(step)
    signs = _Signs(tcp_answered=ready.tcp is None, console_matched=ready.console is None)

    async def gate() -> NotYet | None:
        try:
            look = await host.look(step.domain)
        except ReconcilerError as error:
            # A network or a toolstack that blinks says nothing about the guest, and must not cost it another restart.
            unseen = _unseen(error)
            return NotYet("its host does not answer", too_late=lambda: unseen)
        _refuse_a_reboot_of_the_host(step, look, signs)
        _refuse_what_cannot_get_ready(step, look, signs)
        await _note(host, step, look, signs)
        now = host.now()
        missing = _missing(step, signs, now)
        if missing is None:
            return None
        return NotYet(_still_missing(step, signs, now), too_late=lambda: _too_late(step, look, missing))

    await wait_until(gate, clock=host, seconds=ready.timeout_seconds, report=report)


def _refuse_an_unusable_pattern(step: AwaitReady) -> None:
    """Raise for a pattern that cannot be used. Plans and marks by others may hold one; it is no fault of the guest."""
    try:
        check_pattern(step.ready.console or "")
    except UnusablePatternError as error:
        raise world_error(
            "not known whether it is ready",
            f"The console of {step.domain} cannot be searched for {quoted(step.ready.console or '')}: {error}.",
            WAYS_OUT,
            transient=True,
        ) from None


def _refuse_a_reboot_of_the_host(step: AwaitReady, look: Look, signs: _Signs) -> None:
    """Raise when the host was rebooted: what runs then is not the start that is waited for."""
    if signs.host_boot is not None and look.host_boot != signs.host_boot:
        raise world_error(
            "the host was rebooted",
            f"The host of {step.domain} was rebooted before it got ready.",
            "Run the command again: it looks at the host first and goes on from there.",
            transient=True,
        )
    signs.host_boot = look.host_boot


def _refuse_what_cannot_get_ready(step: AwaitReady, look: Look, signs: _Signs) -> None:
    """Raise for signs that no waiting will mend, such as a crash."""
    match look.power:
        case Power.ABSENT | Power.SAVED:
            raise _not_ready(step, look, f"it is gone{_after_panic(look)}")
        case Power.DYING:
            raise _not_ready(step, look, "it is being destroyed")
        case Power.CRASHED:
            raise _not_ready(step, look, f"it crashed{_after_panic(look)}")
        case Power.SHUTDOWN:
            raise _not_ready(step, look, "it shut itself down")
        case Power.REBOOTING:
            raise _not_ready(step, look, "it reboots instead of coming up")
        case Power.SUSPENDED:
            raise _kept_from_booting(step, "it was suspended")
        case Power.MIGRATING:
            raise _kept_from_booting(step, "it is being migrated")
        case Power.RUNNING | Power.PAUSED | Power.STARTING | Power.UNFINISHED:
            pass
        case _:
            assert_never(look.power)
    if look.uuid is not None and look.uuid != step.uuid:
        raise _kept_from_booting(step, "it is gone, and another domain has its name")
    if signs.boot is not None and look.boot != signs.boot:
        raise _not_ready(step, look, "it is in a boot loop (it was started again meanwhile)")


def _after_panic(look: Look) -> str:
    """Quote a panic of Linux or NetBSD from the console, as the end of a sentence; "" when there is none."""
    lines = _printable(look.console or "").splitlines()
    panic = next((line.strip() for line in reversed(lines) if is_in(_PANIC, line)), None)
    return "" if panic is None else f" after a panic: {panic[:_PANIC_MAX].rstrip('.')}"


async def _note(host: Watched, step: AwaitReady, look: Look, signs: _Signs) -> None:
    signs.boot = look.boot
    if look.power is not Power.RUNNING or look.devices_connected is False:
        signs.connected_since = None
        return
    if signs.connected_since is None:
        signs.connected_since = host.now()
    if not signs.tcp_answered and step.ready.tcp is not None:
        signs.tcp_answered = await host.probe_tcp(step.ready.tcp)
    if not signs.console_matched and step.ready.console is not None and look.console is not None:
        signs.console_matched = is_in(step.ready.console, look.console)


def _missing(step: AwaitReady, signs: _Signs, now: float) -> str | None:
    """Name the first sign that is still missing, as the end of a sentence; None when the domain is ready."""
    if signs.connected_since is None:
        return "its disks and interfaces are not connected"
    if not signs.tcp_answered:
        return f"{step.ready.tcp} does not answer"
    if not signs.console_matched:
        return f"its console has not shown {quoted(step.ready.console or '')}"
    if now - signs.connected_since < step.ready.min_seconds:
        return f"its devices have not stayed connected for {step.ready.min_seconds:g} s"
    return None


def _still_missing(step: AwaitReady, signs: _Signs, now: float) -> str:
    """Name all signs that are still missing, for who waits for them."""
    missing = ["devices"] if signs.connected_since is None else []
    missing += [] if signs.tcp_answered else [f"tcp {step.ready.tcp}"]
    missing += [] if signs.console_matched else [f"console {quoted(step.ready.console or '')}"]
    if missing or signs.connected_since is None:
        return f"still missing: {', '.join(missing)}"
    return f"connected for {now - signs.connected_since:.0f} s of {step.ready.min_seconds:g} s"


def _too_late(step: AwaitReady, look: Look, missing: str) -> ReconcilerError:
    if look.power in (Power.PAUSED, Power.STARTING, Power.UNFINISHED):
        how = "paused" if look.power is Power.PAUSED else "half made"
        return _kept_from_booting(step, f"after {step.ready.timeout_seconds:g} s it is still {how}")
    return _not_ready(step, look, f"after {step.ready.timeout_seconds:g} s {missing}")


def _unseen(error: ReconcilerError) -> ReconcilerError:
    """Mark an error of looking as transient: nobody knows what became of the guest, so the next run looks again."""
    return ReconcilerError(*(replace(diagnostic, transient=True) for diagnostic in error.diagnostics))


def _kept_from_booting(step: AwaitReady, sentence: str) -> ReconcilerError:
    """Make the error for a domain that somebody paused, suspended or replaced.

    It says nothing about what the domain boots, so the domain is left as it is.
    """
    hint = f"Look at `xl list -v` on its host, and see who did that to {step.domain}; then run the command again."
    return world_error("not ready", f"{step.domain} did not get ready: {sentence}.", hint, transient=True)


def _not_ready(step: AwaitReady, look: Look, sentence: str) -> ReconcilerError:
    """Make the error for a guest that had its time and failed, which is held against what it boots."""
    if look.console is None:
        ending = "\nThe host keeps no log of its console."
        hint = "To see guests' consoles, let xenconsoled log them: XENCONSOLED_ARGS=--log=guest in its defaults file."
    else:
        lines = [line for line in _printable(look.console).splitlines() if line.strip()][-_CONSOLE_LINES:]
        ending = "\nIts console's last lines:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
        ending = ending or "\nIts console shows nothing."
        hint = None
    error = world_error("not ready", f"{step.domain} did not get ready: {sentence}.{ending}", hint, boot_failed=True)
    return ReconcilerError(replace(error.diagnostics[0], console=_printable(look.console or "") or None))


def _printable(text: str) -> str:
    """Drop escape sequences and control characters, which a guest could write to its console to trick a terminal."""
    return "\n".join(_NOT_PRINTABLE.sub("", line) for line in text.replace("\r", "\n").split("\n"))
