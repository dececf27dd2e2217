"""`reconciler render`: the config file that would be written. Asks its host only for a kernel that lies there."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.names import ADDRESS
from reconciler.cli.output import print_data
from reconciler.cli.session import find_domain, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.decide.unusable import complete
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import Domain
from reconciler.open import words_of
from reconciler.specs import TreeReading, read_tree
from reconciler.texts.config_file import render_file


@click.command(short_help="Print the xl.cfg that would be written for a domain.")
@click.argument("address", type=ADDRESS)
@specs_option
@click.pass_obj
def render(settings: Settings, address: str, specs: Path) -> None:
    """Print the xl.cfg that would be written for ADDRESS (host/domain), with the mark that makes it ours.

    A kernel or ramdisk that lies on the host is asked for there, since its staged name carries its digest.
    """
    reading = read_tree(specs)
    host, domain = find_domain(reading, address)
    if any(not image.sha256 for image in domain.images):
        domain = _completed(reading, specs, settings.state_dir, host.name, domain.name)
    try:
        text = render_file(domain, reading.desired.fleet, reading.desired.commit, words=words_of(host))
    except ValueError as error:
        raise world_error("no config file can say this", str(error), address=address) from None
    print_data(text)


def _completed(reading: TreeReading, specs: Path, state_dir: Path, host: str, name: str) -> Domain:
    with open_session(reading, specs, state_dir) as session:
        hosts, problems = session.wait_for(session.reconciler.observe(frozenset({host})))
    if problems:
        raise ReconcilerError(*problems)
    desired, missing = complete(reading.desired, hosts)
    own = tuple(problem for problem in missing if problem.address == f"{host}/{name}")
    if own:
        raise ReconcilerError(*own)
    return desired.hosts[host].domains[name]
