"""`reconciler why`: everything about one domain. Looks and plans as `plan` does, and changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reconciler.cli.names import ADDRESS
from reconciler.cli.output import paint_for, print_data, print_diagnostics, print_text
from reconciler.cli.session import check_targets, known_address, open_session, specs_argument
from reconciler.cli.settings import Settings
from reconciler.decide.changes import Consent
from reconciler.inspect.why import explain
from reconciler.model.diagnostics import Kind, exit_code
from reconciler.reconcile import Selection
from reconciler.show.documents import as_text
from reconciler.show.why import why_document, why_text
from reconciler.specs import read_tree


@click.command(short_help="Tell who asks for what in a domain, and what it waits for.")
@click.argument("address", type=ADDRESS)
@specs_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def why(settings: Settings, address: str, specs: Path, as_json: bool) -> int:
    """Tell about ADDRESS (host/domain): which file, line and commit of SPECS ask for what, what differs, what blocks it
    or what it waits for, and what was last done about it.

    Exits with 1 when its host could not be observed, and with 4 when its spec is invalid.
    """
    reading = read_tree(specs)
    address = known_address(reading.desired, address)
    with open_session(reading, specs, settings.state_dir) as session:
        # the whole fleet, since the brake and the waves are everybody's
        plan = session.wait_for(session.reconciler.make_plan(Selection(), Consent()))
    check_targets(plan, reading.desired, (address,))
    found = explain(address, plan, reading, specs, settings.state_dir)
    print_diagnostics(found.problems)
    if as_json:
        print_data(as_text(why_document(found)))
    else:
        print_text(why_text(found, paint_for(sys.stdout)))
    # that something is refused is the answer here, not a failure to find it
    return exit_code([problem for problem in found.problems if problem.kind is not Kind.REFUSED])
