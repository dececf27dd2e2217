"""`reconciler doctor`: what on the hosts will hurt, what it would break, and how to mend it. Looks, changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reconciler.cli.names import HOST
from reconciler.cli.output import paint_for, print_data, print_diagnostics
from reconciler.cli.session import named_hosts, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.doctor.judge import judge
from reconciler.model.diagnostics import Diagnostic, Kind, exit_code
from reconciler.show.documents import as_text
from reconciler.show.status import doctor_document, doctor_text
from reconciler.specs import read_tree


@click.command(short_help="Tell what on the hosts will hurt, and how to mend it.")
@click.argument("hosts", metavar="[HOST]...", nargs=-1, type=HOST)
@specs_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def doctor(settings: Settings, hosts: tuple[str, ...], specs: Path, as_json: bool) -> int:
    """Tell what on each HOST (default: all hosts of the specs) will hurt sooner or later, what it would break, and the
    command that mends it. Nothing is changed, and what cannot be found out is said to be unknown.

    Exits with 0 whatever is found, with 1 when a host could not be observed, and with 4 when a spec is invalid.
    """
    reading = read_tree(specs)
    known = reading.desired.hosts
    names = named_hosts(reading.desired, hosts)
    with open_session(reading, specs, settings.state_dir) as session:
        answers = session.wait_for(session.reconciler.examine(names))
    verdicts = [judge(known[name].settings, known[name].domains, answer) for name, answer in answers.items()]
    problems = [problem for problem in reading.diagnostics if not hosts or _is_about(problem, hosts)]
    print_diagnostics(problems)
    if as_json:
        print_data(as_text(doctor_document(verdicts, problems)))
    else:
        print_data(doctor_text(verdicts, paint_for(sys.stdout)))
    return exit_code([*problems, *(_silent(one.host) for one in verdicts if not one.observed)])


def _is_about(problem: Diagnostic, hosts: tuple[str, ...]) -> bool:
    """Return whether a problem concerns these hosts; one of the whole tree concerns all."""
    return problem.address is None or problem.address.partition("/")[0] in hosts


def _silent(host: str) -> Diagnostic:
    """Stand for a host that was not observed, which is told among the findings."""
    return Diagnostic(kind=Kind.WORLD, summary="host not observed", address=host)
