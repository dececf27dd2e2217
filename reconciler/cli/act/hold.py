"""`reconciler hold` and `unhold`: leave a domain, or all of a host, alone for a while, without a commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from reconciler import holding
from reconciler.cli.durations import Duration
from reconciler.cli.names import ADDRESS_OR_HOST
from reconciler.cli.output import print_text
from reconciler.cli.session import check_host, check_known, only_address, specs_option
from reconciler.cli.settings import Settings
from reconciler.decide.holds import in_words
from reconciler.model.diagnostics import ReconcilerError
from reconciler.show.escape import plain
from reconciler.specs import TreeReading, read_tree

_SHORTEST_SECONDS = 1.0


@click.command(short_help="Leave a domain, or all of a host, alone for a while.")
@click.argument("what", metavar="ADDRESS|HOST", type=ADDRESS_OR_HOST)
@specs_option
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    type=Duration(at_least_seconds=_SHORTEST_SECONDS, at_most_days=holding.LONGEST_DAYS, may_be_days=True),
    help="End by itself after this, such as 30m, 2h or 7d.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why; plans, status and the page show it.")
@click.pass_obj
def hold(settings: Settings, what: str, specs: Path, seconds: float | None, reason: str) -> None:
    """Begin nothing with ADDRESS (host/domain), or with any domain of HOST, whoever runs: apply, watch, another
    controller. What was begun is finished: a domain that is down for a restart comes back first.

    It is one small file on the host, and ends after --for by the host's clock, or with `reconciler unhold`.
    """
    reading = read_tree(specs)
    what = _meant(reading, what)
    _check_place(reading, specs, settings.state_dir, what)
    making = holding.hold(reading.desired, specs, settings.state_dir, what, seconds=seconds, reason=reason)
    made = asyncio.run(making)
    end = f", unless lifted before: reconciler unhold {what}" if seconds else f". To lift it: reconciler unhold {what}"
    print_text(plain(f"{what} is {in_words(made)}{end}") + "\n")


@click.command(short_help="Lift the hold of a domain, or that of a host.")
@click.argument("what", metavar="ADDRESS|HOST", type=ADDRESS_OR_HOST)
@specs_option
@click.pass_obj
def unhold(settings: Settings, what: str, specs: Path) -> None:
    """Lift the hold of ADDRESS (host/domain), or that of all of HOST. Each is lifted by itself."""
    reading = read_tree(specs)
    what = _meant(reading, what)
    _check_place(reading, specs, settings.state_dir, what, may_be_gone=True)
    lifted = asyncio.run(holding.unhold(reading.desired, specs, settings.state_dir, what))
    print_text(plain(f"{what} is held no longer." if lifted else f"{what} was not held.") + "\n")


def _meant(reading: TreeReading, what: str) -> str:
    """Return a host's name or a whole address as they are; of a name that only one domain has, its address."""
    desired = reading.desired
    return what if what in desired.hosts or what in desired.frozen else only_address(desired, what) or what


def _check_place(reading: TreeReading, specs: Path, state_dir: Path, what: str, *, may_be_gone: bool = False) -> None:
    """Raise where nobody knows the host or domain that is meant."""
    host, slash, _ = what.partition("/")
    if not slash:
        check_host(reading.desired, host)
    else:
        check_known(reading, specs, state_dir, what, may_be_gone=may_be_gone)
    if host not in reading.desired.hosts:  # its host.toml has errors, so nobody knows how to reach it
        raise ReconcilerError(*reading.diagnostics)
