"""Deals with domains that do not run as they should: paused, half made, or ended with nobody to clear them away.

Called by `execute`, `starting` and `ending`. Each time the dom0 is asked whether something still works on such a
domain, so what a person or xl itself has begun there is never cut off.
"""

from __future__ import annotations

import re
import shlex

from reconciler.dom0.connection import Result
from reconciler.model.diagnostics import ReconcilerError, moved_on, world_error
from reconciler.model.domain import address_of
from reconciler.model.host import Power
from reconciler.plan.steps import Unpause
from reconciler.texts.daemons import read_daemons
from reconciler.texts.listing import Row
from reconciler.xl.commands import Xl, reason_of
from reconciler.xl.processes import EVERY_PROCESS, functions

# What needs a domain paused, or as it is: `xl dump-core NAME FILE` and the like, by its name or its domid.
_BUSY = """
every_process -o args= | awk -v name="$name" -v domid="$domid" -v tool="(^|/)$tool\\$" '
    $1 ~ tool || $2 ~ tool { # xm runs in Python
        works = 0
        for (i = 2; i <= NF; i++) {
            if ($i == "dump-core" || $i == "save" || $i == "migrate" || $i == "migrate-send") works = 1
            else if (works && ($i == name || $i == domid)) { print $0; exit }
        }
    }'
"""


async def unpause(xl: Xl, step: Unpause) -> None:
    """Let a paused domain go on. Raises while a dump, a save or a migration of it is under way."""
    row = await xl.live(step.domain, step.uuid)
    if row.power is not Power.PAUSED:
        return
    given = f"tool={xl.tool} name={shlex.quote(step.domain)} domid={row.domid}\n"
    busy = (await xl.connection.script(given + EVERY_PROCESS + _BUSY)).text.strip()
    if busy:
        raise world_error(
            "domain is paused for something",
            f"{step.domain} is paused while `{busy[:200]}` works on it on {xl.host}, so it is left alone.",
            "Wait until that has ended.",
            address_of(xl.host, step.domain),
            transient=True,
        )
    result = await xl.change("unpause", str(row.domid))
    if (await xl.live(step.domain, step.uuid)).power is Power.PAUSED:
        said = reason_of(result)
        raise xl.failed(step.domain, "domain is still paused", f"{step.domain} is still paused after unpause: {said}")


async def runs(xl: Xl, row: Row) -> bool:
    """Return whether a domain that looked like a remnant runs by now. A paused one counts if xl knows it."""
    match row.power:
        case Power.RUNNING:
            return True
        case Power.PAUSED:
            return row.has_run or row.domid in await xl.configs()
        case _:
            return False


async def is_abandoned(xl: Xl, row: Row, *, maker_died: bool = False) -> bool:
    """Return whether nobody is seen to be making this half-made domain, which xl does not know yet.

    With `maker_died` an xl of ours may have been killed when it only had to let the domain run: then xl knows it, and
    no process of xl serves it, as one would that had lived on.
    """
    is_known = row.domid in await xl.configs()
    if row.has_run or (is_known and not maker_died):
        return False
    result = await xl.connection.script(functions() + "xl_processes")
    daemons = read_daemons(result.text.splitlines())
    return result.exit_code == 0 and not (
        daemons.may_bring_back(row.name or "") if is_known else daemons.make(row.name)
    )


def is_named(row: Row, result: Result) -> bool:
    """Return whether a command of xl that failed speaks of this domain by its domid, so that it is its own."""
    return re.search(rf"\bDomain {row.domid}:", result.errors) is not None


def runs_meanwhile(xl: Xl, domain: str) -> ReconcilerError:
    return moved_on(
        "domain runs meanwhile",
        f"{domain} was to be cleared away, and runs by now on {xl.host}; it is left alone.",
        "Plan again.",
        address_of(xl.host, domain),
    )


def is_anothers(xl: Xl, domain: str, row: Row, why: str) -> ReconcilerError:
    return moved_on(
        "domain is there meanwhile",
        f"{domain} (domid {row.domid}, {row.power}) came to be on {xl.host} while it was to be started, maybe by "
        f"another `{xl.tool} create`, so it is left alone. Ours failed: {why}",
        f"Plan again when that has ended. If nobody needs what is there: {xl.tool} destroy {row.domid}",
        address_of(xl.host, domain),
    )


def is_being_made(xl: Xl, domain: str) -> ReconcilerError:
    return moved_on(
        "domain is being made",
        f"{domain} is half made on {xl.host}, and {xl.tool} seems to be at work there, so it is left alone.",
        f"Plan again when that has ended. See which `{xl.tool} create` runs there: ps -A -o args=",
        address_of(xl.host, domain),
    )
