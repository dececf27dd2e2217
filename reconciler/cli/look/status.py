"""`reconciler status`: how each domain is, and why. Looks and plans, and changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reconciler.apply.history import History
from reconciler.cli.output import paint_for, print_data, print_diagnostics, print_text
from reconciler.cli.session import open_session, specs_argument
from reconciler.cli.settings import Settings
from reconciler.decide.changes import Consent
from reconciler.inspect.status import Condition, judge
from reconciler.model.diagnostics import Kind, ReconcilerError, exit_code
from reconciler.plan.plan import Plan
from reconciler.reconcile import Selection
from reconciler.show.documents import as_text
from reconciler.show.escape import plain
from reconciler.show.status import status_document, status_text
from reconciler.specs import read_tree
from reconciler.watch import conditions
from reconciler.watch.conditions import WatchRecord


@click.command(short_help="Tell how each domain is, and why.")
@specs_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def status(settings: Settings, specs: Path, as_json: bool) -> int:
    """Tell how each domain of SPECS (default: $RECONCILER_SPECS, else ./specs) is, in one word, and why.

    Exits with 1 when a host could not be observed, and with 4 when a spec is invalid.
    """
    reading = read_tree(specs)
    with open_session(reading, specs, settings.state_dir) as session:
        plan = session.wait_for(session.reconciler.make_plan(Selection(), Consent()))
    # What apply would refuse is the state of single domains here, not a failure of looking.
    problems = [problem for problem in plan.diagnostics if problem.kind is not Kind.REFUSED]
    statuses = judge(plan, _failed_ways_back(plan, settings.state_dir))
    print_diagnostics(problems)
    record = conditions.load(settings.state_dir)
    if as_json:
        document = status_document(statuses, plan, problems)
        print_data(as_text(document if record is None else conditions.with_conditions(document, record)))
    else:
        print_text(status_text(statuses, plan, paint_for(sys.stdout)))
        print_text("" if record is None else "\n" + _watch_text(record))
    return exit_code(problems)


def _watch_text(record: WatchRecord) -> str:
    """Render what watch last said of itself, and of the domains that it does not call ready."""
    state = "it has made no pass" if record.last_pass is None else f"its last pass ended {record.last_pass}"
    if record.stopped is not None:
        state += f", and it was stopped {record.stopped}"
    elif not record.runs:
        state += ", and it no longer runs, although nobody stopped it"
    lines = [f"Watch (process {record.process}, {plain(record.source)}): {state}."]
    if record.commit is not None:
        lines.append(
            f"  commit {record.commit[:12]}" + (f", signed by {plain(record.signer)}" if record.signer else "")
        )
    for problem in record.problems:
        place = f"{plain(problem.place)}: " if problem.place is not None else ""
        lines.append(f"  {place}{plain(problem.summary)}: {plain(problem.detail)}")
        lines += [f"    hint: {plain(problem.hint)}"] if problem.hint else []
    for address, known in sorted(record.domains.items()):
        if known.condition is not Condition.READY:
            lines.append(f"  {plain(address)}  {known.condition} since {known.since}: {plain(known.reason)}")
    return "\n".join(lines) + "\n"


def _failed_ways_back(plan: Plan, state_dir: Path) -> dict[str, str]:
    """Map each address to why its way back failed in the last apply that was about it."""
    history = History(state_dir)
    found = {}
    for change in plan.changes:
        if change.quarantined is None:
            continue
        try:
            last = history.last_of(change.address)
        except ReconcilerError:
            return {}  # the plan's diagnostics say already that the history is broken
        problem = last.way_back_problem if last is not None else None
        if problem is not None:
            found[change.address] = problem
    return found
