"""`reconciler unlock`: end the lock of a host whose holder says nothing any more, or take a host out of its cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from reconciler.cli.asking import ask_consent
from reconciler.cli.cluster.option import cluster_option, opened
from reconciler.cli.names import HOST
from reconciler.cli.output import print_text
from reconciler.cli.session import check_host, specs_option
from reconciler.cli.settings import Settings
from reconciler.fence import Alone, Line, new_session, whoami
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.host import LockHolder
from reconciler.open import executing
from reconciler.show.escape import plain
from reconciler.specs import TreeReading, read_tree


@click.command(short_help="End the lock of a host whose holder is silent.")
@click.argument("host", type=HOST)
@specs_option
@cluster_option("Take HOST out of the cluster of this etcd, for good.", by_environment=False)
@click.option("--yes", is_flag=True, help="With --cluster: do not ask.")
@click.pass_obj
def unlock(settings: Settings, host: str, specs: Path, endpoints: tuple[str, ...], yes: bool) -> None:
    """End the lock of HOST, which keeps every other apply off it. Refused while its holder speaks: an apply or a watch
    that is at work is ended where it runs. A lock ends by itself when its holder dies or was silent for 30 s.

    What that run had begun may be half done; the next run looks, and goes on from there.

    With --cluster, an apply or a watch without one may act on HOST from then on. That asks first, and is refused while
    a controller spoke to HOST within three leases, or etcd names one that has it.
    """
    reading = read_tree(specs)
    check_host(reading.desired, host)
    if host not in reading.desired.hosts:  # its host.toml has errors, so nobody knows how to reach it
        raise ReconcilerError(*reading.diagnostics)
    if endpoints:
        if not yes:
            ask_consent(f"Take {host} out of its cluster?", "look with `reconciler cluster` who has it, then run it")
        asyncio.run(_left(reading, specs, settings.state_dir, host, endpoints))
        print_text(plain(f"{host} is in no cluster any more.") + "\n")
        return
    ended = asyncio.run(_unlocked(reading, specs, settings.state_dir, host))
    if ended is None:
        told = f"{host} is not locked."
    else:
        silence = f"which was silent for {ended.silent_seconds:.0f} s"
        told = f"The lock of {host} is ended. It was held by {ended.by}, since {ended.since}, {silence}."
    print_text(plain(told) + "\n")


async def _unlocked(reading: TreeReading, specs: Path, state_dir: Path, host: str) -> LockHolder | None:
    async with executing(reading.desired, specs, state_dir, host, Alone()) as executor:
        return await executor.unlock()


async def _left(reading: TreeReading, specs: Path, state_dir: Path, host: str, endpoints: tuple[str, ...]) -> None:
    """Write another line for the host, of nobody in a cluster, under the lock of an apply."""
    from reconciler.cluster.report import Leaving

    with opened(endpoints) as etcd:
        leaving = Leaving(etcd, reading.desired.fleet, Line(session=new_session(), who=whoami()))
        async with executing(reading.desired, specs, state_dir, host, leaving) as executor, executor.lock():
            pass
