"""`reconciler schema`: JSON Schema for editors, from the same models that check the specs."""

from __future__ import annotations

import click

from reconciler.cli.output import print_data
from reconciler.show.documents import as_text
from reconciler.specs.schema import SpecKind
from reconciler.specs.schema import schema as schema_of


@click.command(short_help="Print the JSON Schema of a kind of spec file, for editors.")
@click.argument("kind", type=click.Choice(["domain", "host", "tree"]), default="domain")
def schema(kind: SpecKind) -> None:
    """Print the JSON Schema of a domain's file (the default), of host.toml, or of reconciler.toml (tree)."""
    print_data(as_text(schema_of(kind)))
