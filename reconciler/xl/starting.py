"""Starts domains, and confirms each start by looking.

Called by `execute` for Start. xl's exit codes prove nothing: `xl create` can end with 0 and no domain, with 139 and
one, and with 3 for any reason. Who starts may be down for it, so what can be asked together is one round trip.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

from reconciler.dom0.connection import Result
from reconciler.dom0.shell import assigned
from reconciler.model.boot import boots_the_same
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import Domain, address_of
from reconciler.model.host import Power
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.memory import needed_kib
from reconciler.plan.steps import Start
from reconciler.texts.create_failures import Cause, cause_of, hint_of
from reconciler.texts.listing import Row, XlOutputError
from reconciler.texts.running import overlay
from reconciler.waiting import NotYet, wait_until
from reconciler.xl import remnants
from reconciler.xl.commands import Xl, reason_of
from reconciler.xl.ending import destroy, elsewhere
from reconciler.xl.look import CONSOLE_LOG
from reconciler.xl.patience import HALF_MADE_SECONDS, MEMORY_FREE_SECONDS, NAME_FREE_SECONDS, REMNANT_SECONDS

_CREATE_SECONDS = 300  # hotplug scripts may take their time, too
_SIGNALS = 128  # an exit status beyond it tells that a signal ended a command
_NOT_BEGUN, _LISTED = "---not begun---", "---listed---"

# Unless it is to create `anyway`, it looks first whether name, uuid and `needed` KiB are free; else it does nothing but
# to say so, and all is asked and waited for one by one. The daemon that xl leaves behind for each domain must not hold
# our pipes (it makes a session of its own); and xl must not die of a broken pipe, with a domain half made, when our
# connection does. So it writes to a file there.
_CREATE = (
    CONSOLE_LOG
    + f"""
said=$(mktemp "${{TMPDIR:-/tmp}}/reconciler.XXXXXX") || exit
is_clear() {{
    "$tool" info </dev/null >"$said" 2>/dev/null &
    list=$("$tool" list $listing 2>/dev/null) || list=''
    wait "$!"
    [ "$list" ] || return
    case $list in *"$uuid"*) return 1 ;; esac
    [ -z "$(domid_in "$list")" ] || return
    awk -v needed="$needed" '/^free_memory *:/ {{ free = $NF * 1024 }} END {{ exit !(free >= needed) }}' "$said"
}}
[ "$anyway" ] || is_clear || {{ rm -f "$said"; echo '{_NOT_BEGUN}'; exit 0; }}
"""
    + r"""
{ mkdir -p -- "${mark%/*}" && if [ "$log" ]; then wc -c <"$log"; else echo 0; fi >"$mark"; } 2>/dev/null
started=${mark%/*}/started # from what, and in which boot of the dom0: xl does not list all that a file says
rm -f -- "$started" && (
    umask 077 # it may hold passwords
    { cat /proc/sys/kernel/random/boot_id || sysctl -n kern.boottime; cat -- "$file"; } >"$started"
) 2>/dev/null
exec 5>"$said" 6<"$said"
rm -f "$said" # at once, since whoever is killed removes nothing
"$tool" create "$file" </dev/null >/dev/null 2>&5 5>&- 6<&- # in the group that is killed when it takes too long
status=$?
said=$(cat <&6)
printf '%s\n' "$said" >&2
if [ "$status" -ne 0 ]; then # why a boot loader or a device model failed is in a log of its own
    log=$(printf '%s\n' "$said" | sed -n 's/.*consult logfile \([^ ]*\).*/\1/p' | tail -n 1)
    case $said in *'device model'*) log=/var/log/xen/qemu-dm-$name.log ;; esac
    [ ! -f "$log" ] || tail -c 2000 "$log" | tr -cd '\n\040-\176' | tail -n 2 >&2
fi
"""
    + f"""
"$tool" list $listing 2>/dev/null && echo '{_LISTED}'
exit "$status"
"""
)


async def start(xl: Xl, step: Start, file: str, mark: str, report: Callable[[str], None]) -> None:
    """Create the domain from its file. The length of its console's log is noted in the file `mark`, for later looks.

    If the domain runs already, since xendomains was first, that is success. A candidate has to prove itself, so another
    definition that runs in its place is an error.
    """
    domain = step.definition
    created = await _create(xl, domain, file, mark)
    if created is None:
        if await _wait_for_name(xl, domain, report):
            if step.candidate:
                await _see_that_it_runs(xl, domain)
            return
        await _wait_for_memory(xl, domain, report)
        created = await _create(xl, domain, file, mark, anyway=True)
    assert created is not None
    row = await _find(xl, domain, created)
    if created.exit_code == 0 and row is not None:
        return
    if row is None:
        raise did_not_start(xl, domain, created)
    await _judge_remnant(xl, domain, created)


async def _create(xl: Xl, domain: Domain, file: str, mark: str, *, anyway: bool = False) -> Result | None:
    """Have it created, and listed then, in one round trip. Returns None where something is in its way."""
    given = {"tool": xl.tool, "listing": shlex.join(xl.dialect.listing), "name": domain.name, "uuid": domain.uuid}
    given |= {"file": file, "mark": mark, "anyway": "yes" if anyway else ""}
    given |= {"needed": str(needed_kib(domain, domain.memory_kib))}
    result = await xl.connection.change(
        assigned(given) + xl.dialect.scripts + _CREATE,
        what=f"{xl.tool} create {domain.name}",
        timeout_seconds=_CREATE_SECONDS,
    )
    return None if result.text.strip() == _NOT_BEGUN else result


async def _find(xl: Xl, domain: Domain, created: Result) -> Row | None:
    """Find the domain in what was listed after a create or, if that tells nothing, in a new list."""
    listed, mark, _ = created.text.rpartition(_LISTED)
    try:
        rows = xl.dialect.rows(listed) if mark else None
    except XlOutputError:
        rows = None
    return await xl.find(domain.name, domain.uuid, rows)


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
            raise elsewhere(xl, domain.name, row)
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
