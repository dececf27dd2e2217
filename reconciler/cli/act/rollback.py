"""`reconciler rollback`: back to what a domain booted before, as a plan like any other. Shown, asked for, followed."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.act.apply import carry_out, following
from reconciler.cli.consent import for_a_person
from reconciler.cli.names import ADDRESS
from reconciler.cli.session import find_domain, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.decide.changes import Consent
from reconciler.model.diagnostics import refused
from reconciler.model.domain import address_of
from reconciler.plan.plan import Plan
from reconciler.reconcile import Selection
from reconciler.specs import read_tree


@click.command(short_help="Bring a domain back to what it booted before.")
@click.argument("address", type=ADDRESS)
@specs_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def rollback(settings: Settings, address: str, specs: Path, yes: bool, as_json: bool) -> int:
    """Restart ADDRESS (host/domain) onto the kernel, ramdisk and command line that it booted before the last update.

    What it leaves is quarantined, so that no apply undoes this until the spec changes, or `apply --retry`. Exits as
    apply does.
    """
    reading = read_tree(specs)
    host, domain = find_domain(reading, address)
    address = address_of(host.name, domain.name)
    with open_session(reading, specs, settings.state_dir) as session:
        selection, consent = Selection(targets=frozenset({address})), Consent(rollback=frozenset({address}))
        plan = session.wait_for(session.reconciler.make_plan(selection, consent))
        _check_leads_back(plan, address)
        session.reconciler.fencing = for_a_person(reading.desired, plan, None)
        return carry_out(plan, following(session, plan), yes=yes, as_json=as_json)


def _check_leads_back(plan: Plan, address: str) -> None:
    """Refuse a plan that leaves the domain alone, or does something else to it, without saying that it is blocked."""
    change = next((change for change in plan.changes if change.address == address), None)
    if change is None or change.blocked is not None:
        return
    if not change.acts or change.quarantine is None:
        raise refused(
            "cannot be rolled back",
            f"{address} is not rolled back: {change.reason}.",
            f"`reconciler why {address}` tells more about it",
            address=address,
        )
