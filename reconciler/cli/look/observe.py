"""`reconciler observe`: what the hosts are, as JSON, for `plan --from`. Looks, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.names import HOST
from reconciler.cli.output import print_data, print_diagnostics, print_message
from reconciler.cli.session import named_hosts, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.inspect.observed import observed_document
from reconciler.model.diagnostics import exit_code, world_error
from reconciler.show import diagnostics
from reconciler.show.documents import as_text
from reconciler.show.escape import plain
from reconciler.specs import read_tree
from reconciler.state_dir.files import replace_file


@click.command(short_help="Write down what the hosts are, for plan --from.")
@click.argument("hosts", metavar="[HOST]...", nargs=-1, type=HOST)
@specs_option
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of standard output.",
)
@click.option("--json", "_", is_flag=True, help="As it is without: it is always one JSON document.")
@click.pass_obj
def observe(settings: Settings, hosts: tuple[str, ...], specs: Path, out: Path | None, _: bool) -> int:
    """Look at each HOST (default: all hosts of the specs), and write down what it is: its memory and cpus, its domains
    with their config files, kernels and disks. `reconciler plan --from FILE` plans by it where no host can be asked.

    A password is in it as a digest: a change of it can be seen, and nothing else.
    """
    reading = read_tree(specs)
    names = named_hosts(reading.desired, hosts)
    with open_session(reading, specs, settings.state_dir) as session:
        found, silent = session.wait_for(session.reconciler.observe(names))
    problems = [*reading.diagnostics, *silent]
    text = as_text(observed_document(session.reconciler.observed(), diagnostics.documents(problems)))
    print_diagnostics(problems)
    if out is None:
        print_data(text)
    else:
        try:
            replace_file(out, text.encode(), durable=True)
        except OSError as error:
            raise world_error("the file cannot be written", f"{out}: {error.strerror}.") from error
        print_message(f"Wrote {len(found)} {'host' if len(found) == 1 else 'hosts'} to {plain(str(out))}.\n")
    return exit_code(problems)
