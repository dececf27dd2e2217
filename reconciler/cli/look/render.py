"""`reconciler render`: the config file that would be written. Asks its host only for a kernel that lies there."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import click

from reconciler.cli.names import ADDRESS
from reconciler.cli.output import print_data
from reconciler.cli.session import find_domain, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.decide.diff import align_vifs
from reconciler.decide.unusable import complete
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import Domain
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Host
from reconciler.open import words_of
from reconciler.specs import TreeReading, read_tree
from reconciler.texts.config_file import render_body, render_file


@click.command(short_help="Print the xl.cfg that would be written for a domain.")
@click.argument("address", type=ADDRESS)
@specs_option
@click.option("--diff", is_flag=True, help="Compare it with the config file that is there, without the marks.")
@click.pass_obj
def render(settings: Settings, address: str, specs: Path, diff: bool) -> None:
    """Print the xl.cfg that would be written for ADDRESS (host/domain), with the mark that makes it ours.

    A kernel or ramdisk that lies on the host is asked for there, since its staged name carries its digest.
    """
    reading = read_tree(specs)
    host, domain = find_domain(reading, address)
    if diff:
        print_data(_difference(reading, specs, settings.state_dir, host, domain.name))
        return
    if any(not image.sha256 for image in domain.images):
        domain = _completed(reading, specs, settings.state_dir, host.name, domain.name)
    try:
        text = render_file(domain, reading.desired.fleet, reading.desired.commit, words=words_of(host))
    except ValueError as error:
        raise world_error("no config file can say this", str(error), address=address) from None
    print_data(text)


def _difference(reading: TreeReading, specs: Path, state_dir: Path, host: HostSettings, name: str) -> str:
    """Return a unified diff from what the config file of a domain says to what its spec asks for; "" for none."""
    observed = _observed(reading, specs, state_dir, host.name)
    domain = _completed_by(observed, reading, name)
    guest = observed.guests.get(name)
    there = guest.config if guest is not None else None
    words, before, after = words_of(host), "", ""
    try:
        before = "" if there is None else render_body(there, words)
        after = render_body(domain if there is None else align_vifs(domain, there), words)
    except ValueError as error:
        raise world_error("no config file can say this", str(error), address=f"{host.name}/{name}") from None
    names = (f"{host.name}/{name} as it is", f"{host.name}/{name} as its spec asks")
    return "".join(unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), *names))


def _completed(reading: TreeReading, specs: Path, state_dir: Path, host: str, name: str) -> Domain:
    return _completed_by(_observed(reading, specs, state_dir, host), reading, name)


def _observed(reading: TreeReading, specs: Path, state_dir: Path, host: str) -> Host:
    with open_session(reading, specs, state_dir) as session:
        hosts, problems = session.wait_for(session.reconciler.observe(frozenset({host})))
    if problems:
        raise ReconcilerError(*problems)
    return hosts[host]


def _completed_by(host: Host, reading: TreeReading, name: str) -> Domain:
    desired, missing = complete(reading.desired, {host.name: host})
    own = tuple(problem for problem in missing if problem.address == f"{host.name}/{name}")
    if own:
        raise ReconcilerError(*own)
    return desired.hosts[host.name].domains[name]
