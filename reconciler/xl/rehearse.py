"""Makes the throwaway of a rehearsal on a dom0 with xl, looks at it, and takes it down. Called by `execute`.

What is made of disks, and what is noted, is in `dom0.rehearsals`.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable

from reconciler.dom0.connection import Result
from reconciler.dom0.rehearsals import made
from reconciler.dom0.rehearsals.scripts import HEARD, START, TROUBLE
from reconciler.dom0.rehearsals.seen import RECORDS, leftovers_in
from reconciler.dom0.shell import Dom0Shell, assigned
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, world_error
from reconciler.model.domain import address_of
from reconciler.model.host import Power
from reconciler.model.memory import needed_kib
from reconciler.model.rehearsal import Rehearsal, leftover_of
from reconciler.texts.config_file import render_body
from reconciler.toolstack import RehearsalLook
from reconciler.xl.commands import Xl
from reconciler.xl.look import look_script, read_look
from reconciler.xl.starting import did_not_start, wait_for_free

_CREATE_SECONDS = 300
_LOOK_SECONDS = 60
_BEGINS_LOOK = "---look---"


class Rehearsals:
    """The rehearsals of one executor. Each has a nonce of its own, by which its commands know that it still is ours."""

    def __init__(self, xl: Xl) -> None:
        self._xl = xl
        self._nonces: dict[str, str] = {}

    async def begin(self, shell: Dom0Shell, rehearsal: Rehearsal, report: Callable[[str], None]) -> float:
        """Make all of it, and return for how long its domain was paused. What was made of it `end` takes down."""
        nonce = secrets.token_hex(8)
        live = await self._xl.find(rehearsal.of, rehearsal.of_uuid)
        if live is None or live.power is not Power.RUNNING:
            problem = f"{rehearsal.of} does not run any more, so nothing is rehearsed beside it."
            raise world_error("domain does not run", problem, "Plan again.", address_of(self._xl.host, rehearsal.of))
        await self._wait_for_memory(rehearsal, report)
        await made.note(shell, rehearsal, nonce)
        self._nonces[rehearsal.uuid] = nonce
        paused_seconds = await made.make_snapshots(
            shell, rehearsal, nonce, live.domid if rehearsal.pause_seconds else None
        )
        await made.make_bridge(shell, rehearsal, nonce)
        file = await made.put_config(shell, rehearsal, nonce, render_body(rehearsal.definition))
        await self._start(shell, rehearsal, nonce, file)
        return paused_seconds

    async def _wait_for_memory(self, rehearsal: Rehearsal, report: Callable[[str], None]) -> None:
        """Wait until it fits into free memory: where autoballoon is on, xl would take it from dom0 for good."""
        needed = needed_kib(rehearsal.definition, rehearsal.definition.memory_kib)
        await wait_for_free(self._xl, rehearsal.name, needed, report)
        free_kib = (await self._xl.info()).free_kib
        if free_kib < needed:
            problem = (
                f"{rehearsal.name} needs {needed // 1024} MiB, and {free_kib // 1024} MiB are free, without dom0's."
            )
            raise self._xl.failed(rehearsal.of, "not enough free memory", problem, passing=True)

    async def _start(self, shell: Dom0Shell, rehearsal: Rehearsal, nonce: str, file: str) -> None:
        """Create it paused, attach its console, and let it go, so that nothing that it says is lost."""
        given = made.noted_at(shell, rehearsal.uuid, nonce) | {"file": file, "tool": self._xl.tool}
        given |= made.watched(shell, rehearsal, nonce)
        text = assigned(given) + START
        what = f"{self._xl.tool} create {rehearsal.name}"
        result = await self._xl.connection.change(text, what=what, timeout_seconds=_CREATE_SECONDS)
        row = await self._xl.find(rehearsal.name, rehearsal.uuid)
        if result.exit_code != 0 or row is None:
            raise did_not_start(self._xl, rehearsal.definition, result)

    async def look(self, shell: Dom0Shell, rehearsal: Rehearsal) -> RehearsalLook:
        """Look at the throwaway, at what its console said since it was let go, and at its snapshots."""
        folder = made.folder_of(shell, rehearsal.uuid)
        given = assigned({"clones": made.looked_at(rehearsal), "heard": f"{folder}/heard"})
        script = f"{given}{HEARD}{TROUBLE}echo {_BEGINS_LOOK}\n"
        script += look_script(self._xl.dialect, rehearsal.name, f"{folder}/none", log=f"{folder}/console")
        result = await self._xl.connection.script(script, timeout_seconds=_LOOK_SECONDS)
        said, mark, rest = result.text.partition(f"{_BEGINS_LOOK}\n")
        trouble = next(
            (line.removeprefix("trouble ") for line in said.splitlines() if line.startswith("trouble ")), None
        )
        seen = Result(exit_code=result.exit_code, stdout=rest.encode(), stderr=result.stderr) if mark else result
        return RehearsalLook(look=read_look(self._xl.dialect, self._xl.host, rehearsal.name, seen), trouble=trouble)

    async def end(self, shell: Dom0Shell, rehearsal: Rehearsal) -> None:
        nonce = self._nonces.get(rehearsal.uuid)
        if nonce is None:  # it was never noted, or is taken down
            return
        await made.take_down(shell, leftover_of(rehearsal, nonce))
        del self._nonces[rehearsal.uuid]

    async def clear(self, shell: Dom0Shell) -> None:
        """Take down what every record names, whoever wrote it: with the lock of the host, none is under way."""
        records = await self._xl.connection.script(assigned({"kernel_dir": shell.dom0.kernel_dir}) + RECORDS)
        problems: list[Diagnostic] = []
        for left in leftovers_in(records.text.splitlines()):
            try:
                await made.take_down(shell, left)
            except ReconcilerError as error:  # the others are not to wait for it
                problems += error.diagnostics
        unfinished = f"{shlex.quote(shell.dom0.kernel_dir)}/.rehearsals"
        await shell.act("", "clearing up after rehearsals failed", f"rm -f -- {unfinished}/*.unfinished", {})
        if problems:
            raise ReconcilerError(*problems)
