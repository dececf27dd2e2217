"""`reconciler validate`: read and check everything that needs no host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from reconciler.cli.output import kept, paint_for, print_data, print_text
from reconciler.cli.session import specs_argument
from reconciler.model.diagnostics import exit_code
from reconciler.show import diagnostics
from reconciler.specs import TreeReading, read_tree


@click.command(short_help="Check everything in the specs that needs no host.")
@specs_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "github", "junit"]),
    default="text",
    show_default=True,
    help="github: annotations for the lines of a pull request; junit: a report, in XML.",
)
def validate(specs: Path, as_json: bool, form: Literal["text", "github", "junit"]) -> int:
    """Read the spec tree SPECS (default: $RECONCILER_SPECS, else ./specs) and report every problem of every file.

    No host is asked anything. Exits with 4 when a spec is invalid.
    """
    if as_json and form != "text":
        raise click.UsageError(f"--json and --format {form} exclude each other.")
    reading = read_tree(specs, needs_fleet=True)
    problems = kept(reading.diagnostics)
    if as_json:
        from reconciler.show.documents import as_text, validate_document

        print_data(as_text(validate_document(reading.desired, problems)))
    elif form == "github":
        print_data(diagnostics.github(problems))
    elif form == "junit":
        files = (str(specs / file) for file in reading.digests if file.endswith(".toml"))
        print_data(diagnostics.junit(files, problems))
    else:
        print_text(diagnostics.text(problems, paint_for(sys.stdout)) + _headline(reading))
    return exit_code(problems)


def _headline(reading: TreeReading) -> str:
    domains = sum(len(host.domains) for host in reading.desired.hosts.values())
    hosts = len(reading.desired.hosts)
    of_hosts = f"{hosts} {'host' if hosts == 1 else 'hosts'}"
    valid = f"{domains} {'domain' if domains == 1 else 'domains'} on {of_hosts}"
    if not exit_code(reading.diagnostics):
        return f"Valid: {valid}.\n"
    problems = len(reading.diagnostics)
    return f"{problems} {'problem' if problems == 1 else 'problems'}. Valid so far: {valid}.\n"
