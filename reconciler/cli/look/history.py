"""`reconciler history`: what was done when, for which commit. Asks no host, and writes nothing."""

from __future__ import annotations

import sys

import click

from reconciler.apply.history import History
from reconciler.cli.output import paint_for, print_data, print_text
from reconciler.cli.settings import Settings
from reconciler.show.documents import as_text
from reconciler.show.history import history_document, history_text


@click.command(short_help="Tell what was done when, for which commit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with every step.")
@click.pass_obj
def history(settings: Settings, as_json: bool) -> None:
    """Tell what was applied from here, newest first: when, for which commit and signer, and what came of it.

    It is kept in the state directory. Losing it loses nothing else: what is ours is known from the hosts.
    """
    records = History(settings.state_dir).records()
    if as_json:
        print_data(as_text(history_document(records)))
    else:
        print_text(history_text(records, paint_for(sys.stdout)))
