"""`reconciler history`: what was done when, for which commit. Asks no host, and writes nothing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from reconciler.apply.history import Asked, History
from reconciler.cli.durations import Duration
from reconciler.cli.output import paint_for, print_data, print_text
from reconciler.cli.session import select, selection_options, specs_argument, whole
from reconciler.cli.settings import Settings
from reconciler.show.documents import as_text
from reconciler.show.history import history_document, history_text

_SHOWN = 50


@click.command(short_help="Tell what was done when, for which commit.")
@specs_argument
@selection_options
@click.option(
    "--since",
    metavar="TIME",
    type=Duration(may_be_days=True),
    help="Only what began since then: 30m, 12h, 7d ago.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"Only the last N.  [default: {_SHOWN}; with --json all]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with every step.")
@click.pass_obj
def history(
    settings: Settings,
    specs: Path,
    hosts: tuple[str, ...],
    targets: tuple[str, ...],
    since: float | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Tell what was applied from here, newest first: when, for which commit and signer, and what came of it.

    It is kept in the state directory. Losing it loses nothing else: what is ours is known from the hosts. With --host
    or --target it is about their steps alone; SPECS says how hosts are called today.
    """
    targets = tuple(_whole(specs, target) for target in targets)
    shown = limit or _SHOWN
    asked = Asked(
        hosts=frozenset(hosts),
        targets=frozenset(targets),
        began_after=None if since is None else datetime.now(UTC) - timedelta(seconds=since),
        limit=limit if as_json else shown + 1,
    )
    records = History(settings.state_dir).records(asked)
    if not records and (hosts or targets):
        _check_spelling(specs, hosts, targets)
    if as_json:
        print_data(as_text(history_document(records)))
    elif records:
        print_text(history_text(records[:shown], paint_for(sys.stdout), more=len(records) > shown))
    else:
        print_text("Nothing of that was applied.\n" if hosts or targets or since else "Nothing was applied yet.\n")


def _whole(specs: Path, target: str) -> str:
    """Return an address with its host, by the specs; who writes it whole needs none."""
    from reconciler.specs import read_tree

    return target if "/" in target.strip("/") else whole(read_tree(specs).desired, "--target", target)


def _check_spelling(specs: Path, hosts: tuple[str, ...], targets: tuple[str, ...]) -> None:
    """Refuse a host that neither history nor specs know: it may be misspelt."""
    from reconciler.specs import read_tree

    desired = read_tree(specs).desired
    if desired.hosts:
        select(desired, hosts, targets)
