"""Shuts domains down, destroys those that have to go, and confirms each by looking.

Called by `execute` for Shutdown. xl's exit codes prove nothing: `xl shutdown` ends with 0 for a guest that ignores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from reconciler.dom0.connection import Result
from reconciler.model.diagnostics import ReconcilerError, refused
from reconciler.model.domain import address_of
from reconciler.model.host import Look, Power
from reconciler.plan.steps import Shutdown
from reconciler.records import dataclass
from reconciler.texts.listing import Row, is_migrating
from reconciler.waiting import POLL_SECONDS, Clock, NotYet, wait_until
from reconciler.xl import remnants
from reconciler.xl.commands import Xl, reason_of
from reconciler.xl.patience import (
    ASK_AGAIN_SECONDS,
    DESTROY_SECONDS,
    HALF_MADE_SECONDS,
    REBOOT_GAP_SECONDS,
    STABLE_SECONDS,
)

See = Callable[[str], Awaitable[Look]]
"""How a domain is looked at, devices and all."""


@dataclass(slots=True)
class _Watch:
    """Remembers what was seen of a domain that is being shut down. Times are seconds by `clock`."""

    clock: Clock
    since: float
    domid: int | None = None  # None: it is not listed
    power: Power | None = None
    request: asyncio.Task[Result] | None = None  # `xl shutdown`, under way or done
    requested: int | None = None  # the domid that was asked
    asked_at: float = 0.0
    connected: bool = False  # whether its guest has, or may have, got hold of a device

    def is_to_be_asked(self, domid: int) -> bool:
        """Return whether to ask this domain to shut down: it was not asked yet, or refused some time ago."""
        if self.request is None or self.requested != domid:
            return True
        return self.refusal is not None and self.clock.now() - self.asked_at >= ASK_AGAIN_SECONDS

    @property
    def refusal(self) -> Result | None:
        """Return the result of an `xl shutdown` that failed; None if none did."""
        if self.request is None or not self.request.done() or self.request.result().exit_code == 0:
            return None
        return self.request.result()

    def note(self, row: Row | None) -> None:
        found = (row.domid, row.power) if row is not None else (None, None)
        if found != (self.domid, self.power):
            (self.domid, self.power), self.since = found, self.clock.now()

    def stable_for(self, seconds: float) -> bool:
        return self.clock.now() - self.since >= seconds


async def shut_down(xl: Xl, step: Shutdown, see: See, report: Callable[[str], None]) -> None:
    """Ask the guest to power off, and wait until its name, memory and devices are free.

    If the domain is gone already, that is success.
    """
    if not step.uuid:
        raise refused(
            "domain has no known UUID",
            f"{step.domain} cannot be told from another domain of its name, so it is left alone.",
            None,
            address_of(xl.host, step.domain),
        )
    began = xl.clock.now()
    deadline = began + step.timeout_seconds
    watch = _Watch(clock=xl.clock, since=began, connected=await _may_be_connected(step, see))

    async def look() -> NotYet | None:
        looked = xl.clock.now()
        row, comes_back = await _row(xl, step, watch.requested)
        watch.note(row)
        asked = watch.request
        if row is not None:
            if await _is_hopeless(xl, step, row, watch, xl.clock.now() - began, see):
                report(f"{step.domain} has no connected device after {step.unconnected_seconds:g} s and is destroyed")
                await destroy(xl, step.domain, row)
            else:
                await _press_on(xl, step, row, watch, deadline, report)
        # gone for good: one that is only between two lives would come back beside what is started in its place
        elif not comes_back or watch.stable_for(REBOOT_GAP_SECONDS):
            return None
        # each second of a domain that is down counts: the next look waits by itself where it was asked just now
        just_asked = watch.request is not asked
        return NotYet(poll_seconds=0 if just_asked else POLL_SECONDS - (xl.clock.now() - looked))

    try:
        await wait_until(look, clock=xl.clock)
    finally:
        if watch.request is not None:
            watch.request.cancel()
            await asyncio.gather(watch.request, return_exceptions=True)  # how it ends is of no interest any more
    report(f"{step.domain} is down")


async def _is_hopeless(xl: Xl, step: Shutdown, row: Row, watch: _Watch, seconds: float, see: See) -> bool:
    """Return whether the plug may be pulled early: the boot failed, and the guest never connected a device.

    Such a guest has written nothing to a disk, so nothing can be lost.
    """
    short = step.unconnected_seconds
    if short is None or watch.connected or seconds <= short or row.power not in (Power.RUNNING, Power.PAUSED):
        return False
    if row.power is Power.PAUSED and not row.has_run and not await remnants.is_abandoned(xl, row):
        return False  # somebody makes it, and will let it run
    watch.connected = await _may_be_connected(step, see)
    return not watch.connected


async def _may_be_connected(step: Shutdown, see: See) -> bool:
    """Return whether the guest of a failed boot may have connected a device. In doubt it has."""
    if step.unconnected_seconds is None:
        return True
    try:
        look = await see(step.domain)
    except ReconcilerError:
        return True
    between_two_lives = look.power in (Power.ABSENT, Power.REBOOTING)
    return look.any_connected is not False and not between_two_lives


async def _row(xl: Xl, step: Shutdown, asked: int | None) -> tuple[Row | None, bool]:
    """Find the domain, also if it has lost its name on its way out, and tell whether one that is gone comes back.

    Of one that was `asked` to go, by its domid, the end is waited for there for a while. Raises where it goes by
    another name by now.
    """
    listed, comes_back = await xl.rows_at_end(step.domain, step.uuid, asked)
    rows = sorted((row for row in listed if row.uuid == step.uuid), key=lambda row: row.name != step.domain)
    if rows and rows[0].name not in (step.domain, None):
        raise elsewhere(xl, step.domain, rows[0])
    return (rows[0] if rows else None), comes_back


def elsewhere(xl: Xl, domain: str, row: Row) -> ReconcilerError:
    what = "a migration of it by hand is under way or was cut short" if is_migrating(row.name) else "it was renamed"
    return xl.failed(
        domain,
        "it goes by another name",
        f"{domain} (domid {row.domid}) is listed as {row.name} by now: {what}. It is left alone.",
        f"Look at `{xl.list_command}` on {xl.host}, and run the command again when that has ended.",
    )


async def _press_on(
    xl: Xl, step: Shutdown, row: Row, watch: _Watch, deadline: float, report: Callable[[str], None]
) -> None:
    """Do what a domain in this state needs so that it goes away: ask it, wait, or destroy it."""
    if step.remnant and await remnants.runs(xl, row):
        raise remnants.runs_meanwhile(xl, step.domain)
    if row.power is Power.DYING:
        if watch.stable_for(DESTROY_SECONDS):
            raise xl.failed(
                step.domain,
                "domain is a zombie",
                f"{step.domain} (domid {row.domid}) has been dying for {DESTROY_SECONDS} s and still holds memory.",
                f"Something in dom0 holds its pages, often a disk backend; look at `{xl.list_command}` on {xl.host}.",
            )
        return
    if row.power in (Power.CRASHED, Power.SHUTDOWN):
        if watch.stable_for(STABLE_SECONDS):
            report(f"clearing away {step.domain}, which is {row.power}")
            await destroy(xl, step.domain, row)
        return
    lingers = row.power is Power.REBOOTING and step.remnant and watch.stable_for(STABLE_SECONDS)
    if lingers and not await xl.comes_back(step.domain):
        report(f"clearing away {step.domain}, which nobody starts again")
        await destroy(xl, step.domain, row)
        return
    if row.power is Power.REBOOTING and not watch.stable_for(DESTROY_SECONDS):
        return  # a destroy now would race its daemon, and leave a zombie
    if row.power is Power.PAUSED and step.remnant:
        if not watch.stable_for(HALF_MADE_SECONDS):
            return
        if await remnants.is_abandoned(xl, row):
            report(f"clearing away {step.domain}, which was left half made")
            await destroy(xl, step.domain, row)
        elif xl.clock.now() > deadline:
            raise remnants.is_being_made(xl, step.domain)
        return
    if xl.clock.now() > deadline:
        await _after_timeout(xl, step, row, watch.refusal, report)
    elif row.power in (Power.RUNNING, Power.PAUSED) and watch.is_to_be_asked(row.domid):
        report(f"asking {step.domain} to shut down")
        # It blocks for up to a minute when the guest does not answer, so it runs beside the looking.
        watch.request = asyncio.create_task(xl.ask("shutdown", *xl.dialect.shutdown, str(row.domid)))
        watch.requested, watch.asked_at = row.domid, xl.clock.now()


async def _after_timeout(
    xl: Xl, step: Shutdown, row: Row, refusal: Result | None, report: Callable[[str], None]
) -> None:
    why = "" if refusal is None else f"`{xl.tool} shutdown` fails: {reason_of(refusal)}"
    if step.on_timeout == "destroy":
        report(f"{step.domain} did not shut down in {step.timeout_seconds:g} s and is destroyed. {why}".rstrip())
        await destroy(xl, step.domain, row, failed_before=f"{why}\n" if why else "")
        return
    if why:
        raise xl.failed(
            step.domain,
            "domain did not shut down",
            f"{step.domain} could not be asked to shut down and still runs. {why}",
            "More time will not help. Shut it down from inside, or allow pulling the plug, which loses what it has "
            'not written: on_shutdown_timeout = "destroy".',
        )
    paused = " It is paused, so it cannot react." if row.power is Power.PAUSED else ""
    raise xl.failed(
        step.domain,
        "domain did not shut down",
        f"{step.domain} was asked to shut down and still runs after {step.timeout_seconds:g} s.{paused}",
        "Give it more time with `shutdown_timeout`, or allow pulling the plug, which loses what it has not written: "
        'on_shutdown_timeout = "destroy".',
    )


async def destroy(xl: Xl, name: str, row: Row, *, failed_before: str = "") -> None:
    """Destroy a domain that was just looked up, and wait until it is gone.

    `failed_before` is a sentence about why it has to go, which is told too if it does not.
    """
    result = await xl.change("destroy", str(row.domid), timeout_seconds=DESTROY_SECONDS * 3)

    async def look() -> NotYet | None:
        if not any(found.domid == row.domid and found.uuid == row.uuid for found in await xl.rows()):
            return None
        return NotYet(
            f"waiting until {name} (domid {row.domid}) is gone",
            lambda: xl.failed(
                name,
                "domain could not be destroyed",
                f"{failed_before}{name} (domid {row.domid}) is still there after `{xl.tool} destroy`: "
                f"{reason_of(result)}",
                f"Something in dom0 may hold its disks or its memory: look at `{xl.list_command}` on {xl.host}.",
            ),
        )

    await wait_until(look, clock=xl.clock, seconds=DESTROY_SECONDS)
