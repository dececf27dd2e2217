"""Starting and shutting down domains, each confirmed by looking.

Called by `execute` for Start and Shutdown. xl's exit codes prove nothing: `xl create` can end with 0 and no domain,
with 139 and one, and with 3 for any reason; `xl shutdown` ends with 0 for a guest that ignores it.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from reconciler.dom0.connection import Result
from reconciler.model.boot import boots_the_same
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.model.domain import Domain, address_of
from reconciler.model.host import Power
from reconciler.model.memory import needed_kib
from reconciler.plan.steps import Shutdown, Start
from reconciler.texts.listing import Row
from reconciler.texts.running import overlay
from reconciler.xl.commands import Xl, reason_of
from reconciler.xl.look import CONSOLE_LOG

_CREATE_SECONDS = 300  # hotplug scripts may take their time, too

# The daemon that xl leaves behind for each domain must neither hold our pipes nor end with our session; and xl itself
# must not die of a broken pipe, with a domain half made, when our connection does. So it writes to a file there.
_CREATE = (
    CONSOLE_LOG
    + """
{ mkdir -p -- "${mark%/*}" && if [ "$log" ]; then wc -c <"$log"; else echo 0; fi >"$mark"; } 2>/dev/null
said=$(mktemp) || exit
begin() { if command -v setsid >/dev/null; then setsid xl create "$1"; else xl create "$1"; fi; }
begin "$file" </dev/null >/dev/null 2>"$said"
status=$?
cat "$said" >&2
rm -f "$said"
exit "$status"
"""
)


async def start(xl: Xl, step: Start, file: str, mark: str, report: Callable[[str], None]) -> None:
    """Create the domain from its file; `mark` is where the length of its console's log is noted for who looks later.

    That it runs already (xendomains was first) is success, but not that another definition runs in place of a
    candidate, which is to prove itself.
    """
    domain = step.definition
    if await _wait_for_name(xl, domain, report):
        if step.candidate:
            await _see_that_it_runs(xl, domain)
        return
    await _wait_for_memory(xl, domain, report)
    given = f"name={shlex.quote(domain.name)} file={shlex.quote(file)} mark={shlex.quote(mark)}\n"
    result = await xl.connection.script(given + _CREATE, timeout_seconds=_CREATE_SECONDS)
    row = await xl.find(domain.name, domain.uuid)
    if result.exit_code == 0 and row is not None:
        return
    if row is None:
        said = reason_of(result) if result.exit_code else "it was created and was gone at once."
        raise xl.failed(domain.name, "domain did not start", f"{domain.name} did not start: {said}")
    await _judge_remnant(xl, domain, result)


async def _wait_for_name(xl: Xl, domain: Domain, report: Callable[[str], None]) -> bool:
    """Whether the domain runs already; returns False once nothing holds its name or its UUID."""
    deadline = monotonic() + xl.patience.name_free_seconds
    while True:
        rows = await xl.rows()
        if any(row.name == domain.name and row.uuid != domain.uuid for row in rows):
            raise xl.name_taken(domain.name)
        row = next((row for row in rows if row.uuid == domain.uuid), None)
        if row is None:
            return False
        if row.name == domain.name and row.power in (Power.RUNNING, Power.PAUSED):
            report(f"{domain.name} runs already")
            return True
        if monotonic() > deadline:
            raise xl.failed(
                domain.name,
                "name is still held",
                f"What is left of {domain.name} (domid {row.domid}, {row.power}) has held its name or UUID "
                f"for {xl.patience.name_free_seconds:g} s.",
                f"Look at `xl list -v` on {xl.host}; `xl destroy {row.domid}` clears it away if it can be.",
            )
        report(f"waiting for what is left of {domain.name} ({row.power})")
        await asyncio.sleep(xl.patience.poll_seconds)


async def _see_that_it_runs(xl: Xl, domain: Domain) -> None:
    """Raise unless what runs boots what this definition does: somebody may have started the old one meanwhile."""
    row = await xl.find(domain.name, domain.uuid)
    config = (await xl.configs(row.domid)).get(row.domid) if row is not None else None
    if config is not None and not boots_the_same(overlay(config, domain, {}), domain):
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
    """Return once `needed` KiB are free. With autoballoon xl itself takes them from dom0, later than this."""
    deadline = monotonic() + xl.patience.memory_free_seconds
    while True:
        info = await xl.info()
        if info.free_kib >= needed or not info.dom0_mem:
            return
        if monotonic() > deadline:
            raise xl.failed(
                domain,
                "not enough free memory",
                f"{domain} needs {needed // 1024} MiB and {xl.host} has {info.free_kib // 1024} MiB free, "
                f"{xl.patience.memory_free_seconds:g} s after they should have been given back.",
                "Someone else may have taken memory meanwhile: plan again.",
            )
        report(f"waiting for memory: {info.free_kib // 1024} of {needed // 1024} MiB are free")
        await asyncio.sleep(xl.patience.poll_seconds)


async def _judge_remnant(xl: Xl, domain: Domain, result: Result) -> None:
    """`xl create` failed and yet the domain is there: whole (xl crashed after its work), or half made.

    A domain is unpaused last of all, so one that is not paused is whole. What is half made is cleared away.
    """
    await asyncio.sleep(xl.patience.remnant_seconds)
    row = await xl.find(domain.name, domain.uuid)
    if row is not None and row.power is Power.RUNNING:
        return
    if row is not None:
        await destroy(xl, domain.name, row)
    raise xl.failed(domain.name, "domain did not start", f"{domain.name} did not start: {reason_of(result)}")


@dataclass(slots=True)
class _Watch:
    """What was seen of a domain that is being shut down; times by the controller's clock."""

    domid: int | None = None
    power: Power | None = None
    since: float = 0.0
    request: asyncio.Task[Result] | None = None  # `xl shutdown`, under way or done
    requested: int | None = None  # the domid that was asked

    def asked(self, domid: int) -> bool:
        """Whether this domain was asked, and has not refused to listen yet."""
        if self.request is None or self.requested != domid:
            return False
        return not self.request.done() or self.request.result().exit_code == 0

    def note(self, row: Row) -> None:
        if (row.domid, row.power) != (self.domid, self.power):
            self.domid, self.power, self.since = row.domid, row.power, monotonic()

    def stable_for(self, seconds: float) -> bool:
        return monotonic() - self.since >= seconds


async def shut_down(xl: Xl, step: Shutdown, report: Callable[[str], None]) -> None:
    """Ask the guest to power off and wait until name, memory and devices are free; gone already is success."""
    if not step.uuid:
        raise refused(
            "domain has no known UUID",
            f"{step.domain} cannot be told from another domain of its name, so it is left alone.",
            None,
            address_of(xl.host, step.domain),
        )
    deadline = monotonic() + step.timeout_seconds
    watch = _Watch()
    try:
        while not await _is_gone(xl, step):
            row = await _row(xl, step)
            if row is not None:
                watch.note(row)
                await _press_on(xl, step, row, watch, deadline, report)
            await asyncio.sleep(xl.patience.poll_seconds)
    finally:
        if watch.request is not None:
            watch.request.cancel()
            with suppress(asyncio.CancelledError, ReconcilerError):
                await watch.request
    report(f"{step.domain} is down")


async def _row(xl: Xl, step: Shutdown) -> Row | None:
    """The domain, also when it has lost its name already on its way out."""
    return next((row for row in await xl.rows() if row.uuid == step.uuid and row.name in (step.domain, None)), None)


async def _is_gone(xl: Xl, step: Shutdown) -> bool:
    """Gone for good: one that is only between two lives would come back beside what is started in its place."""
    deadline = monotonic() + xl.patience.reboot_gap_seconds
    while await _row(xl, step) is None:
        if not await xl.comes_back(step.domain) or monotonic() > deadline:
            return True
        await asyncio.sleep(xl.patience.poll_seconds)
    return False


async def _press_on(
    xl: Xl, step: Shutdown, row: Row, watch: _Watch, deadline: float, report: Callable[[str], None]
) -> None:
    """What a domain in this state needs so that it goes."""
    if row.power is Power.DYING:
        if watch.stable_for(xl.patience.destroy_seconds):
            raise xl.failed(
                step.domain,
                "domain is a zombie",
                f"{step.domain} (domid {row.domid}) has been dying for {xl.patience.destroy_seconds:g} s "
                "and still holds memory.",
                f"Something in dom0 holds its pages, often a disk backend; look at `xl list -v` on {xl.host}.",
            )
        return
    if row.power in (Power.CRASHED, Power.SHUTDOWN):
        if watch.stable_for(xl.patience.stable_seconds):
            report(f"clearing away {step.domain}, which is {row.power}")
            await destroy(xl, step.domain, row)
        return
    if row.power is Power.REBOOTING and not watch.stable_for(xl.patience.destroy_seconds):
        return  # a destroy now would race its daemon, and leave a zombie
    if monotonic() > deadline:
        await _after_timeout(xl, step, row, report)
    elif row.power in (Power.RUNNING, Power.PAUSED) and not watch.asked(row.domid):
        report(f"asking {step.domain} to shut down")
        # It blocks for up to a minute when the guest does not answer, so it runs beside the looking.
        watch.request = asyncio.create_task(xl.run("shutdown", "-F", str(row.domid)))
        watch.requested = row.domid


async def _after_timeout(xl: Xl, step: Shutdown, row: Row, report: Callable[[str], None]) -> None:
    if step.on_timeout == "destroy":
        report(f"{step.domain} did not shut down in {step.timeout_seconds:g} s and is destroyed")
        await destroy(xl, step.domain, row)
        return
    paused = " It is paused, so it cannot react." if row.power is Power.PAUSED else ""
    raise xl.failed(
        step.domain,
        "domain did not shut down",
        f"{step.domain} was asked to shut down and still runs after {step.timeout_seconds:g} s.{paused}",
        'Give it more time with `shutdown_timeout`, or allow pulling the plug: on_shutdown_timeout = "destroy".',
    )


async def destroy(xl: Xl, name: str, row: Row) -> None:
    """Destroy a domain that was just looked up, and wait until it is gone."""
    result = await xl.run("destroy", str(row.domid), timeout_seconds=xl.patience.destroy_seconds * 3)
    deadline = monotonic() + xl.patience.destroy_seconds
    while any(found.domid == row.domid and found.uuid == row.uuid for found in await xl.rows()):
        if monotonic() > deadline:
            raise xl.failed(
                name,
                "domain could not be destroyed",
                f"{name} (domid {row.domid}) is still there after `xl destroy`: {reason_of(result)}",
            )
        await asyncio.sleep(xl.patience.poll_seconds)
