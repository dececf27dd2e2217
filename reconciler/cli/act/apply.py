"""`reconciler apply`: show the plan, ask, follow it with progress, and tell what came of it.

The plan is made here, from the specs, or was made before and comes from a file; from there on the way is the same.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from reconciler.apply.outages import outages_of
from reconciler.apply.result import ApplyResult, Progress, StepResult
from reconciler.cli import asking, saved_plan
from reconciler.cli.cluster.option import cluster_option
from reconciler.cli.consent import Allowed, consent_options, for_a_person
from reconciler.cli.look.plan import beside_the_plan
from reconciler.cli.output import paint_for, print_data, print_diagnostics, print_message, print_text
from reconciler.cli.progress import show_progress
from reconciler.cli.session import (
    Session,
    check_targets,
    open_session,
    read_decided,
    select,
    selection_options,
)
from reconciler.cli.settings import Settings
from reconciler.cli.stopping import LeftAtOnce, heeding_signals
from reconciler.leaving import leave
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, exit_code, refused, usage_error
from reconciler.person import person
from reconciler.plan.plan import Plan
from reconciler.plan.steps import PlannedStep
from reconciler.show.documents import apply_document, as_text
from reconciler.show.escape import plain
from reconciler.show.results import apply_text
from reconciler.show.text import plan_text

_FAILED = 1
_JUDGED_AGAIN = ("--ignore-windows", "--ignore-holds")  # holds and windows change while a plan waits to be used
_LEFT = "Left at once. What was under way may be half done: the next run looks, and goes on from there."
Follow = Callable[[Progress, Callable[[], str | None]], ApplyResult]
_INTERRUPTED = Diagnostic(
    kind=Kind.WORLD,
    summary="interrupted",
    detail="It had begun and may be half done; the next run looks, and goes on from there.",
    transient=True,
)


@click.command(short_help="Make the hosts what the specs say.")
@click.argument("source", metavar="[SPECS|PLANFILE]", required=False, type=click.Path(path_type=Path))
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@consent_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@cluster_option("Reserve in this etcd what the fleet's controllers count.")
@click.pass_obj
def apply(
    settings: Settings,
    source: Path | None,
    hosts: tuple[str, ...],
    targets: tuple[str, ...],
    yes: bool,
    allowed: Allowed,
    as_json: bool,
    endpoints: tuple[str, ...],
) -> int:
    """Make the hosts what SPECS says (default: $RECONCILER_SPECS, else ./specs), or follow a saved plan: SPECS can
    be the file of `plan --out`. Its specs are then read from where they were, or from --specs.

    Shows the plan and asks before anything is changed. Exits with 1 when a step failed, with 3 when something was
    refused, with 4 when a spec is invalid; what these do not concern is done. A saved plan is followed as a whole, and
    once, or refused when anything moved since.
    """
    if source is not None and source.is_file():
        given = [option for option, values in (("--host", hosts), ("--target", targets)) if values]
        _refuse_with_plan([*given, *(option for option in allowed.given() if option not in _JUDGED_AGAIN)])
        return _apply_saved(settings, source, allowed, endpoints, yes=yes, as_json=as_json)
    if source is not None and source.suffix and not source.exists():
        raise usage_error(
            "no such plan",
            f"{source} is neither a saved plan nor a folder of specs.",
            f"save one with: reconciler plan --out {shlex.quote(str(source))}",
        )
    specs = settings.tree(source)
    reading = read_decided(specs)
    selection = select(reading.desired, hosts, targets)
    consent = allowed.consent(reading.desired)
    with open_session(reading, specs, settings.state_dir) as session:
        plan = session.wait_for(session.reconciler.make_plan(selection, consent))
        check_targets(plan, reading.desired, selection.targets)
        session.reconciler.fencing = for_a_person(reading.desired, plan, allowed.allow_restart, endpoints)
        return carry_out(plan, following(session, plan), yes=yes, as_json=as_json)


def _refuse_with_plan(options: list[str]) -> None:
    if options:
        raise click.UsageError(
            f"A saved plan is followed as it is, so {' and '.join(options)} cannot be given with it. "
            "Make another plan, or apply the specs."
        )


def _apply_saved(
    settings: Settings, path: Path, allowed: Allowed, endpoints: tuple[str, ...], *, yes: bool, as_json: bool
) -> int:
    """Follow the plan of a file. Nothing of it is computed anew; that it still fits is checked, and nothing else."""
    plan: Plan | None = None
    try:
        saved = saved_plan.load(path)
        plan = saved.plan
        if allowed.ignore_windows:
            plan = replace(plan, windows=())
        if allowed.ignore_holds:
            plan = replace(plan, ignore_holds=True)
        specs = settings.read_instead(settings.given_specs or _specs_of(saved, settings.specs))
        reading = read_decided(specs)
        saved_plan.check_specs(saved, reading)
        saved_plan.check_unused(saved, settings.state_dir)
        plan = approved = replace(plan, commit=reading.desired.commit)  # as it is recorded
        use = partial(saved_plan.use_once, saved, settings.state_dir)
        with open_session(reading, specs, settings.state_dir) as session:
            session.reconciler.fencing = for_a_person(reading.desired, approved, allowed.allow_restart, endpoints)

            def follow(progress: Progress, stop: Callable[[], str | None]) -> ApplyResult:
                return session.wait_for(session.reconciler.apply_saved(approved, progress, use, stop=stop), tells=False)

            return carry_out(plan, follow, yes=yes, as_json=as_json)
    except ReconcilerError as error:
        if not as_json:
            raise
        print_diagnostics(error.diagnostics)
        result = _nothing_done(plan, error.diagnostics[0])
        problems = (*(plan.diagnostics if plan else ()), *error.diagnostics)
        commit = plan.commit if plan else None
        print_data(as_text(apply_document(result, problems, by=person(), commit=commit)))
        return exit_code(error.diagnostics)


def _specs_of(saved: saved_plan.SavedPlan, usual: Path) -> Path:
    """Return the tree that the plan was made from; where it is gone (another machine or checkout), the usual one."""
    if saved.specs.is_dir():
        return saved.specs
    gone, instead = plain(str(saved.specs)), plain(str(usual))
    if not usual.is_dir():
        raise refused(
            "the specs of the plan are gone",
            f"The plan was made from {gone}, and neither that nor {instead} is there. Nothing was done.",
            "name the folder of the same specs with --specs",
        )
    print_message(f"The plan was made from {gone}, which is gone; the specs are read from {instead} instead.\n")
    return usual


def carry_out(plan: Plan, follow: Follow | None, *, yes: bool, as_json: bool) -> int:
    """Show the plan, ask, follow it and tell what came of it. `follow` None: there is nothing to be followed."""
    print_diagnostics(beside_the_plan(plan))
    shown = plan_text(plan, paint=paint_for(sys.stderr if as_json else sys.stdout))
    (print_message if as_json else print_text)(shown)
    if follow is None:
        return _tell(plan, ApplyResult(), as_json=as_json)
    refusal = None if yes or not plan.steps else _ask()
    if refusal is None:
        return _follow(plan, follow, as_json=as_json)
    return _tell(plan, _nothing_done(plan, refusal), as_json=as_json)


def following(session: Session, plan: Plan) -> Follow | None:
    """Return the function that carries out a plan that was just made, or None when there is nothing to do."""
    if not plan.acts:
        return None
    return lambda progress, stop: session.wait_for(session.reconciler.apply(plan, progress, stop=stop), tells=False)


def _follow(plan: Plan, follow: Follow, *, as_json: bool) -> int:
    """Follow a plan with progress, heeding signals. What was done is told also when a second one has us leave."""
    with heeding_signals() as stopping:
        with show_progress(sys.stderr, total=len(plan.steps)) as progress:
            noted = _Noted(progress)
            try:
                result, left_at_once = follow(noted, stopping.reason), False
            except LeftAtOnce:
                result, left_at_once = noted.interrupted(plan), True
        code = _tell(plan, result, as_json=as_json, followed=True)
        if left_at_once:
            print_message(f"{_LEFT}\n")
            leave(stopping.exit_code or code)
    return stopping.exit_code or code


def _tell(plan: Plan, result: ApplyResult, *, as_json: bool, followed: bool = False) -> int:
    """Print what came of a plan, for people or as the document, and give the exit code."""
    print_diagnostics(result.diagnostics)
    if as_json:
        _print_document(plan, result)
    elif followed and plan.steps:
        print_text("\n" + apply_text(result, outages_of(plan, result), paint_for(sys.stdout)))
    return _FAILED if result.failed else exit_code((*plan.diagnostics, *result.diagnostics))


def _print_document(plan: Plan, result: ApplyResult) -> None:
    problems = (*plan.diagnostics, *result.diagnostics)
    document = apply_document(result, problems, outages_of(plan, result), by=person(), commit=plan.commit)
    print_data(as_text(document))


def _nothing_done(plan: Plan | None, refusal: Diagnostic) -> ApplyResult:
    steps = plan.steps if plan is not None else ()
    skipped = tuple(StepResult(step=step, reason=refusal.summary) for step in steps)
    return ApplyResult(skipped=skipped, diagnostics=(refusal,))


class _Noted:
    """Progress that is kept as well, for the case that no result comes of it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begun: dict[str, PlannedStep] = {}
        self._ended: dict[str, StepResult] = {}

    def started(self, step: PlannedStep) -> None:
        self._begun[step.id] = step
        self._progress.started(step)

    def noted(self, step: PlannedStep, text: str) -> None:
        self._progress.noted(step, text)

    def finished(self, result: StepResult) -> None:
        self._ended[result.step.id] = result
        self._progress.finished(result)

    def interrupted(self, plan: Plan) -> ApplyResult:
        ended = self._ended.values()
        in_flight = [step for step_id, step in self._begun.items() if step_id not in self._ended]
        left = [step for step in plan.steps if step.id not in self._begun.keys() | self._ended.keys()]
        return ApplyResult(
            done=tuple(one for one in ended if one.problem is None and one.reason is None),
            failed=(
                *(one for one in ended if one.problem is not None),
                *(StepResult(step=step, problem=_INTERRUPTED) for step in in_flight),
            ),
            skipped=(
                *(one for one in ended if one.reason is not None),
                *(StepResult(step=step, reason="not begun, since apply was interrupted") for step in left),
            ),
        )


def _ask() -> Diagnostic | None:
    return asking.refusal("\nDo this?", "look at the plan, then run the same command")
