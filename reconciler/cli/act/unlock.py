"""`reconciler unlock`: end the lock of a host whose holder says nothing any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from reconciler.cli.names import HOST
from reconciler.cli.output import print_text
from reconciler.cli.session import check_host, specs_option
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.host import LockHolder
from reconciler.open import open_host
from reconciler.show.escape import plain
from reconciler.specs import TreeReading, read_tree


@click.command(short_help="End the lock of a host whose holder is silent.")
@click.argument("host", type=HOST)
@specs_option
@click.pass_obj
def unlock(settings: Settings, host: str, specs: Path) -> None:
    """End the lock of HOST, which keeps every other apply off it. Refused while its holder speaks: an apply or a watch
    that is at work is ended where it runs. A lock ends by itself when its holder dies or was silent for 30 s.

    What that run had begun may be half done; the next run looks, and goes on from there.
    """
    reading = read_tree(specs)
    check_host(reading.desired, host)
    if host not in reading.desired.hosts:  # its host.toml has errors, so nobody knows how to reach it
        raise ReconcilerError(*reading.diagnostics)
    ended = asyncio.run(_unlocked(reading, specs, settings.state_dir, host))
    if ended is None:
        told = f"{host} is not locked."
    else:
        silence = f"which was silent for {ended.silent_seconds:.0f} s"
        told = f"The lock of {host} is ended. It was held by {ended.by}, since {ended.since}, {silence}."
    print_text(plain(told) + "\n")


async def _unlocked(reading: TreeReading, specs: Path, state_dir: Path, host: str) -> LockHolder | None:
    opened = open_host(reading.desired.hosts[host].settings, reading.desired.fleet, state_dir)
    try:
        return await opened.executor(reading.desired.commit, specs).unlock()
    finally:
        await opened.observer.close()
