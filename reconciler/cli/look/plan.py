"""`reconciler plan`: show what apply would do. Works with observers only, so it cannot change a host."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from reconciler.cli import saved_plan
from reconciler.cli.consent import Allowed, consent_options
from reconciler.cli.observed_file import FromFile, age_in_words, load_observed
from reconciler.cli.output import kept, paint_for, print_data, print_diagnostics, print_message, print_text, wants_color
from reconciler.cli.session import (
    check_targets,
    open_session,
    read_decided,
    select,
    selection_options,
    specs_argument,
)
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import Diagnostic, Kind, Source, exit_code
from reconciler.open import lies_in_the_state_dir
from reconciler.plan.plan import Plan
from reconciler.show import diagnostics
from reconciler.show.documents import as_text, plan_document
from reconciler.show.escape import plain
from reconciler.show.markdown import plan_markdown
from reconciler.show.summary import is_quiet
from reconciler.show.text import plan_text
from reconciler.specs import TreeReading
from reconciler.specs.commit import commit_of
from reconciler.specs.declared import Declarations
from reconciler.state_dir import quiet_plan

STEPS_TO_RUN = 2


@click.command(short_help="Show what apply would do.")
@specs_argument
@selection_options
@consent_options
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the plan to this file too, for `reconciler apply FILE`.",
)
@click.option(
    "--from",
    "observed",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Ask no host: plan by what `reconciler observe` wrote, or - for standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for a merge request.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "github"]),
    default="text",
    show_default=True,
    help="github: annotations for the files of a pull request.",
)
@click.option("--steps", is_flag=True, help="Also list the steps, in their order.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when at least one step would run.")
@click.pass_obj
def plan(
    settings: Settings,
    specs: Path,
    hosts: tuple[str, ...],
    targets: tuple[str, ...],
    allowed: Allowed,
    out: Path | None,
    observed: Path | None,
    as_json: bool,
    as_markdown: bool,
    form: Literal["text", "github"],
    steps: bool,
    detailed_exitcode: bool,
) -> int:
    """Show what apply would do to make the hosts what SPECS says (default: $RECONCILER_SPECS, else ./specs).

    Nothing is changed on any host. A plan saved with --out is followed as it is, or not at all when anything moved;
    what options allow it, such as --adopt, it keeps.
    """
    if as_json + as_markdown + (form != "text") > 1:
        raise click.UsageError("--json, --markdown and --format github exclude each other.")
    if observed is not None and out is not None:
        raise click.UsageError("A plan of --from is no plan of the hosts as they are, so --out cannot save it.")
    answer = _Answer(specs, settings.state_dir, "json" if as_json else "markdown" if as_markdown else "text", steps)
    is_plain = not (hosts or targets or allowed.given() or out or observed or form != "text")
    if is_plain and (told := answer.recalled()) is not None:
        answer.tell(told)
        return 0
    reading = read_decided(specs)
    all_is_here = all(lies_in_the_state_dir(part.settings) for part in reading.desired.hosts.values())
    if is_plain and all_is_here:
        answer.note_state()
    selection = select(reading.desired, hosts, targets)
    instead = None if observed is None else _by_file(observed, reading, specs, settings.state_dir)
    with open_session(reading, specs, settings.state_dir, instead) as session:
        made = session.wait_for(session.reconciler.make_plan(selection, allowed.consent(reading.desired)))
    check_targets(made, reading.desired, selection.targets)
    if out is not None:
        saved_plan.save(out, made, reading, specs)
    if form == "github":
        found = diagnostics.of_plan(made, _places(made, reading, specs))
        print_data(diagnostics.github(kept(found)))
    else:
        print_diagnostics(made.diagnostics if as_json else beside_the_plan(made))
        text = answer.of(made)
        answer.tell(text)
        if is_plain and all_is_here and _is_worth_remembering(made, reading):
            answer.remember(text, made, reading)
    if out is not None:
        print_message(f"Saved to {plain(str(out))}; `reconciler apply {plain(shlex.quote(str(out)))}` follows it.\n")
    code = exit_code(made.diagnostics)
    return STEPS_TO_RUN if detailed_exitcode and code == 0 and made.steps else code


def _by_file(path: Path, reading: TreeReading, specs: Path, state_dir: Path) -> FromFile:
    observed = load_observed(path, reading.desired.fleet)
    print_message(f"{age_in_words(observed)}\n")
    return FromFile(reading, specs, state_dir, observed)


class _Answer:
    """What is told of a plan, in the form that was asked for; it may be the one that was told before."""

    def __init__(self, specs: Path, state_dir: Path, form: str, steps: bool) -> None:
        self._specs = specs
        self._state_dir = state_dir
        self._form = form
        self._steps = steps
        self._state: str | None = None

    def recalled(self) -> str | None:
        """Return what was told when all was as it is now. It is asked before anything is looked at."""
        if not quiet_plan.is_there(self._state_dir):
            return None
        self.note_state()
        return quiet_plan.recall(self._state_dir, self._specs, self._state, self._asked(commit_of(self._specs)))

    def note_state(self) -> None:
        """Note what lies in the state directory, before anything is looked at. Without that, nothing is remembered."""
        if self._state is None:
            self._state = quiet_plan.state_of(self._state_dir)

    def remember(self, text: str, made: Plan, reading: TreeReading) -> None:
        asked = self._asked(made.commit)
        quiet_plan.remember(self._state_dir, self._specs, self._state, asked, reading.digests, text)

    def _asked(self, commit: str | None) -> object:
        return self._form, self._steps, wants_color(sys.stdout), commit

    def of(self, made: Plan) -> str:
        if self._form == "json":
            return as_text(plan_document(made))
        if self._form == "markdown":
            return plan_markdown(made)
        return plan_text(made, steps=self._steps, paint=paint_for(sys.stdout))

    def tell(self, text: str) -> None:
        if self._form == "text":
            print_text(text)
        else:
            print_data(text)


def _is_worth_remembering(made: Plan, reading: TreeReading) -> bool:
    """Return whether a plan is the same as long as the tree and the state directory are: nothing waits for a moment."""
    says_nothing = not (made.steps or made.diagnostics or made.undecided or made.windows or reading.diagnostics)
    return says_nothing and all(is_quiet(one) and one.hold is None for one in made.changes)


def _places(made: Plan, reading: TreeReading, specs: Path) -> dict[str, Source]:
    """Find where the specs ask for what a plan changes first in each domain; else the beginning of its file."""
    places = {}
    for change in (*made.changes, *made.undecided):
        file = reading.files.get(change.address)
        if file is not None and not is_quiet(change):
            declared = Declarations(specs, file)
            found = (declared.source_of(field.path) for field in change.fields)
            places[change.address] = next(filter(None, found), Source(path=str(specs / file)))
    return places


def beside_the_plan(made: Plan) -> Sequence[Diagnostic]:
    """Return the diagnostics that the plan's text does not tell by itself, as it does why a domain is blocked."""
    told = {change.address for change in made.changes if change.blocked is not None}
    return [problem for problem in made.diagnostics if not (problem.kind is Kind.REFUSED and problem.address in told)]
