"""`reconciler apply`: show the plan, ask, follow it with progress, and tell what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reconciler.apply import ApplyResult
from reconciler.commands.output import is_terminal, paint_for, print_data, print_diagnostics, print_message
from reconciler.commands.plan import beside_the_plan
from reconciler.commands.session import (
    Session,
    check_consent,
    check_targets,
    open_session,
    select,
    selection_options,
    specs_argument,
)
from reconciler.commands.settings import Settings
from reconciler.core.changes import Consent
from reconciler.core.diagnostics import Diagnostic, Kind, exit_code
from reconciler.core.plan import Plan
from reconciler.progress import show_progress
from reconciler.render.documents import apply_document, as_text
from reconciler.render.results import apply_text
from reconciler.render.text import plan_text
from reconciler.specs import read_tree

_FAILED = 1


@click.command(short_help="Make the hosts what the specs say.")
@specs_argument
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--adopt", metavar="ADDRESS", multiple=True, help="Take over this domain, which is not ours yet; repeatable."
)
@click.option(
    "--restart",
    metavar="ADDRESS",
    multiple=True,
    help='Restart this domain although its spec says restart = "defer"; repeatable.',
)
@click.option(
    "--retry", metavar="ADDRESS", multiple=True, help="Try again what failed to boot in this domain; repeatable."
)
@click.option(
    "--allow-destroy",
    metavar="N",
    type=click.IntRange(min=0),
    help="Let this run destroy N domains, whatever [brake] says.",
)
@click.option(
    "--allow-restart",
    metavar="N",
    type=click.IntRange(min=0),
    help="Let this run restart N domains, whatever [brake] says.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def apply(
    settings: Settings,
    specs: Path,
    hosts: tuple[str, ...],
    targets: tuple[str, ...],
    yes: bool,
    adopt: tuple[str, ...],
    restart: tuple[str, ...],
    retry: tuple[str, ...],
    allow_destroy: int | None,
    allow_restart: int | None,
    as_json: bool,
) -> int:
    """Make the hosts what SPECS says (default: $RECONCILER_SPECS, else ./specs).

    Shows the plan and asks before anything is changed. Exits with 1 when a step failed, with 3 when something was
    refused, with 4 when a spec is invalid; what these do not concern is done.
    """
    reading = read_tree(specs)
    selection = select(reading.desired, hosts, targets)
    consent = Consent(
        adopt=check_consent(reading.desired, "--adopt", adopt),
        restart=check_consent(reading.desired, "--restart", restart),
        retry=check_consent(reading.desired, "--retry", retry),
        allow_destroy=allow_destroy,
        allow_restart=allow_restart,
    )
    with open_session(reading, specs, settings.state_dir) as session:
        plan = session.wait_for(session.reconciler.make_plan(selection, consent))
        check_targets(plan, reading.desired, targets)
        print_diagnostics(beside_the_plan(plan))
        shown = plan_text(plan, paint=paint_for(sys.stderr if as_json else sys.stdout))
        (print_message if as_json else print_data)(shown)
        result = ApplyResult()
        if plan.steps:
            refusal = None if yes else _ask()
            result = ApplyResult(diagnostics=(refusal,)) if refusal is not None else _follow(session, plan)
            print_diagnostics(result.diagnostics)
            if refusal is None and not as_json:
                print_data("\n" + apply_text(result, paint_for(sys.stdout)))
    problems = (*plan.diagnostics, *result.diagnostics)
    if as_json:
        print_data(as_text(apply_document(result, problems)))
    return _FAILED if result.failed else exit_code(problems)


def _follow(session: Session, plan: Plan) -> ApplyResult:
    with show_progress(sys.stderr, total=len(plan.steps)) as progress:
        return session.wait_for(session.reconciler.apply(plan, progress))


def _ask() -> Diagnostic | None:
    """None after a yes. Nothing else counts as one, an end of input and an empty line included."""
    if not is_terminal(sys.stdin):
        return Diagnostic(
            kind=Kind.REFUSED,
            summary="no consent",
            detail="There is no terminal to ask at, so nothing was done.",
            hint="look at the plan, then run the same command with --yes",
        )
    print_message("\nDo this? Only yes is taken as consent: ")
    if sys.stdin.readline().strip().lower() in ("yes", "y"):
        return None
    return Diagnostic(kind=Kind.REFUSED, summary="no consent", detail="Nothing was done.")
