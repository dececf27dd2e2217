"""Starts and shuts down domains, and confirms each by looking.

Called by `execute` for Start and Shutdown. xl's exit codes prove nothing: `xl create` can end with 0 and no domain,
with 139 and one, and with 3 for any reason; `xl shutdown` ends with 0 for a guest that ignores it.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable

from reconciler.dom0.connection import Result
from reconciler.model.boot import boots_the_same
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.model.domain import Domain, address_of
from reconciler.model.host import Look, Power
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.memory import needed_kib
from reconciler.plan.steps import Shutdown, Start
from reconciler.records import dataclass
from reconciler.texts.create_failures import Cause, cause_of, hint_of
from reconciler.texts.listing import Row, is_migrating
from reconciler.texts.running import overlay
from reconciler.waiting import Clock, NotYet, wait_until
from reconciler.xl import remnants
from reconciler.xl.commands import Xl, reason_of
from reconciler.xl.look import CONSOLE_LOG
from reconciler.xl.patience import (
    ASK_AGAIN_SECONDS,
    DESTROY_SECONDS,
    HALF_MADE_SECONDS,
    MEMORY_FREE_SECONDS,
    NAME_FREE_SECONDS,
    REBOOT_GAP_SECONDS,
    REMNANT_SECONDS,
    STABLE_SECONDS,
)

See = Callable[[str], Awaitable[Look]]
"""How a domain is looked at, devices and all."""

_CREATE_SECONDS = 300  # hotplug scripts may take their time, too
_SIGNALS = 128  # an exit status beyond it tells that a signal ended a command

# The daemon that xl leaves behind for each domain must not hold our pipes (it makes a session of its own); and xl must
# not die of a broken pipe, with a domain half made, when our connection does. So it writes to a file there.
_CREATE = (
    CONSOLE_LOG
    + """
{ mkdir -p -- "${mark%/*}" && if [ "$log" ]; then wc -c <"$log"; else echo 0; fi >"$mark"; } 2>/dev/null
started=${mark%/*}/started # from what, and in which boot of the dom0: xl does not list all that a file says
rm -f -- "$started" && (
    umask 077 # it may hold passwords
    { cat /proc/sys/kernel/random/boot_id || sysctl -n kern.boottime; cat -- "$file"; } >"$started"
) 2>/dev/null
said=$(mktemp "${TMPDIR:-/tmp}/reconciler.XXXXXX") || exit
"$tool" create "$file" </dev/null >/dev/null 2>"$said" # in the group that is killed when it takes too long
status=$?
cat "$said" >&2
rm -f "$said"
exit "$status"
"""
)


async def start(xl: Xl, step: Start, file: str, mark: str, report: Callable[[str], None]) -> None:
    """Create the domain from its file. The length of its console's log is noted in the file `mark`, for later looks.

    If the domain runs already, since xendomains was first, that is success. A candidate has to prove itself, so another
    definition that runs in its place is an error.
    """
    domain = step.definition
    if await _wait_for_name(xl, domain, report):
        if step.candidate:
            await _see_that_it_runs(xl, domain)
        return
    await _wait_for_memory(xl, domain, report)
    given = f"tool={xl.tool} name={shlex.quote(domain.name)} file={shlex.quote(file)} mark={shlex.quote(mark)}\n"
    result = await xl.connection.change(
        given + _CREATE, what=f"{xl.tool} create {domain.name}", timeout_seconds=_CREATE_SECONDS
    )
    row = await xl.find(domain.name, domain.uuid)
    if result.exit_code == 0 and row is not None:
        return
    if row is None:
        raise did_not_start(xl, domain, result)
    await _judge_remnant(xl, domain, result)


def did_not_start(xl: Xl, domain: Domain, result: Result, rest: str = "") -> ReconcilerError:
    """Make the error of a start that failed, in xl's words. It says whether what was to boot is to blame.

    `rest` is a sentence about what could not be cleared away.
    """
    at_once = result.exit_code == 0
    said = "it was created and was gone at once." if at_once and not result.errors else reason_of(result)
    cause = cause_of(result.errors)
    if at_once and cause is Cause.UNKNOWN and not _outlives_its_guest(domain):
        cause = Cause.BOOT  # it was created, so it booted, and did not live for a second
    hints = {
        Cause.HOST: "That is the host's, and nothing is held against the kernel: mend it and run the command again; "
        f"`watch` tries again by itself. {hint_of(result.errors) or ''}".rstrip(),
        Cause.UNKNOWN: "Nobody can tell from this whether it is the kernel's, so it is not held against that: look at "
        f"{xl.log_of(domain.name)} on {xl.host}, and run the command again.",
    }
    return world_error(
        "domain did not start",
        f"{domain.name} did not start: {said}{rest}",
        hints.get(cause),
        address_of(xl.host, domain.name),
        transient=cause is Cause.HOST,
        later=True,
        boot_failed=cause is Cause.BOOT,
    )


def _outlives_its_guest(domain: Domain) -> bool:
    """Return whether a domain stays whatever its guest does, as that of a rehearsal: then somebody else ended it."""
    return all(key.value(domain) == "preserve" for key in DOMAIN_KEYS if key.boot_entry == "on")


async def _wait_for_name(xl: Xl, domain: Domain, report: Callable[[str], None]) -> bool:
    """Wait until nothing holds the name or the UUID, and return False; True if the domain runs already."""

    async def look() -> bool | NotYet:
        rows = await xl.rows()
        if any(row.name == domain.name and row.uuid != domain.uuid for row in rows):
            raise xl.name_taken(domain.name)
        row = next((row for row in rows if row.uuid == domain.uuid), None)
        if row is None:
            return False
        if row.name == domain.name and row.power in (Power.RUNNING, Power.PAUSED):
            report(f"{domain.name} runs already")
            return True
        if row.name not in (domain.name, None):
            raise _elsewhere(xl, domain.name, row)
        return NotYet(
            f"waiting for what is left of {domain.name} ({row.power})",
            lambda: xl.failed(
                domain.name,
                "name is still held",
                f"What is left of {domain.name} (domid {row.domid}, {row.power}) has held its name or UUID "
                f"for {NAME_FREE_SECONDS} s.",
                f"Look at `{xl.list_command}` on {xl.host}; "
                f"`{xl.tool} destroy {row.domid}` clears it away if it can be.",
                passing=True,
            ),
        )

    return await wait_until(look, clock=xl.clock, seconds=NAME_FREE_SECONDS, report=report)


async def _see_that_it_runs(xl: Xl, domain: Domain) -> None:
    """Raise unless what runs boots the same as this definition: somebody may have started the old one."""
    row = await xl.find(domain.name, domain.uuid)
    config = (await xl.configs(row.domid)).get(row.domid) if row is not None else None
    if config is not None and not boots_the_same(
        overlay(config, domain, {image.path: image.sha256 for image in domain.images}), domain
    ):
        raise world_error(
            "another definition was started",
            f"{domain.name} runs already on {xl.host}, but not what was to be started.",
            "Somebody, or the dom0 itself, was first. Plan again.",
            address_of(xl.host, domain.name),
            transient=True,  # it says nothing about the new definition
        )


async def _wait_for_memory(xl: Xl, domain: Domain, report: Callable[[str], None]) -> None:
    await wait_for_free(xl, domain.name, needed_kib(domain, domain.memory_kib), report)


async def wait_for_free(xl: Xl, domain: str, needed: int, report: Callable[[str], None]) -> None:
    """Wait until `needed` KiB are free.

    With autoballoon this returns at once, since xl itself takes the memory from dom0 later.
    """

    async def look() -> NotYet | None:
        info = await xl.info()
        if info.free_kib >= needed or not info.dom0_mem:
            return None
        return NotYet(
            f"waiting for memory: {info.free_kib // 1024} of {needed // 1024} MiB are free",
            lambda: xl.failed(
                domain,
                "not enough free memory",
                f"{domain} needs {needed // 1024} MiB and {xl.host} has {info.free_kib // 1024} MiB free, "
                f"{MEMORY_FREE_SECONDS} s after they should have been given back.",
                "Someone else may have taken memory meanwhile: plan again.",
                passing=True,
            ),
        )

    await wait_until(look, clock=xl.clock, seconds=MEMORY_FREE_SECONDS, report=report)


async def _judge_remnant(xl: Xl, domain: Domain, result: Result) -> None:
    """Judge a domain that is there although `xl create` failed: it is whole (xl crashed after its work), or half made.

    xl unpauses a domain last of all, so one that is not paused is whole. A half made one is cleared away, unless
    another `xl create` has made or is making it, which is why ours failed: that one is left alone.
    """
    await xl.clock.sleep(REMNANT_SECONDS)
    row = await xl.find(domain.name, domain.uuid)
    if row is not None and not remnants.is_named(row, result) and row.power is not Power.RUNNING:
        row = await _still_left(xl, domain, row, result)
    if row is None:
        raise did_not_start(xl, domain, result)
    if row.power is Power.RUNNING:
        return
    try:
        await destroy(xl, domain.name, row)
    except ReconcilerError as error:
        raise did_not_start(xl, domain, result, f"\nWhat is left of it: {error.diagnostics[0].detail}") from error
    raise did_not_start(xl, domain, result)


async def _still_left(xl: Xl, domain: Domain, row: Row, result: Result) -> Row | None:
    """Look again, some seconds later, at a remnant that may be another's. Raises unless it runs or is ours to clear."""
    await xl.clock.sleep(HALF_MADE_SECONDS)
    now = await xl.find(domain.name, domain.uuid)
    if now is None or now.power is Power.RUNNING:
        return now
    is_same = (now.domid, now.power) == (row.domid, Power.PAUSED)
    if is_same and await remnants.is_abandoned(xl, now, maker_died=result.exit_code > _SIGNALS):
        return now
    raise remnants.is_anothers(xl, domain.name, now, reason_of(result))


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
        row = await _row(xl, step)
        watch.note(row)
        if row is not None:
            if await _is_hopeless(xl, step, row, watch, xl.clock.now() - began, see):
                report(f"{step.domain} has no connected device after {step.unconnected_seconds:g} s and is destroyed")
                await destroy(xl, step.domain, row)
            else:
                await _press_on(xl, step, row, watch, deadline, report)
            return NotYet()
        # gone for good: one that is only between two lives would come back beside what is started in its place
        gone = not await xl.comes_back(step.domain) or watch.stable_for(REBOOT_GAP_SECONDS)
        return None if gone else NotYet()

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


async def _row(xl: Xl, step: Shutdown) -> Row | None:
    """Find the domain, also if it has lost its name on its way out. Raises where it goes by another name by now."""
    rows = sorted((row for row in await xl.rows() if row.uuid == step.uuid), key=lambda row: row.name != step.domain)
    if rows and rows[0].name not in (step.domain, None):
        raise _elsewhere(xl, step.domain, rows[0])
    return rows[0] if rows else None


def _elsewhere(xl: Xl, domain: str, row: Row) -> ReconcilerError:
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
