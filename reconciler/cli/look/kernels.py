"""`reconciler kernels`: what is staged, running, kept and quarantined. Looks, and changes nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from reconciler.cli.names import ADDRESS
from reconciler.cli.output import paint_for, print_data, print_diagnostics, print_text
from reconciler.cli.session import known_address, no_domain, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.decide.unusable import complete
from reconciler.inspect.kernels import DomainKernels, kernels_of
from reconciler.model.diagnostics import Kind, exit_code
from reconciler.model.host import Host
from reconciler.show.documents import as_text
from reconciler.show.kernels import kernels_document, kernels_text
from reconciler.specs import TreeReading, read_tree


@click.command(short_help="Tell which kernels are staged, running and quarantined.")
@click.argument("address", required=False, type=ADDRESS)
@specs_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def kernels(settings: Settings, address: str | None, specs: Path, as_json: bool) -> int:
    """Tell, for ADDRESS (host/domain) or for all domains, which kernels and ramdisks are staged on the host, which of
    them run, are kept to go back to, or are quarantined, and where the specs ask for other bytes.

    Exits with 1 when a host could not be observed, and with 4 when a spec is invalid.
    """
    reading = read_tree(specs)
    names = frozenset(reading.desired.hosts)
    if address is not None:
        address = known_address(reading.desired, address)
        names &= {address.partition("/")[0]}
    with open_session(reading, specs, settings.state_dir) as session:
        hosts, silent = session.wait_for(session.reconciler.observe(names))
    desired, missing = complete(reading.desired, hosts)
    found = [domain for name, host in sorted(hosts.items()) for domain in kernels_of(host, desired.hosts[name].domains)]
    # a source that is not there is the answer here, not a failure to find it
    problems = [*reading.diagnostics, *silent, *(replace(problem, kind=Kind.NOTE) for problem in missing)]
    if address is not None:
        found = _only(address, found, hosts, reading)
        problems = [problem for problem in problems if problem.address in (None, address, address.partition("/")[0])]
    print_diagnostics(problems)
    if as_json:
        print_data(as_text(kernels_document(found, problems)))
    elif hosts:
        print_text(kernels_text(found, paint_for(sys.stdout)))
    return exit_code(problems)


def _only(
    address: str, found: list[DomainKernels], hosts: dict[str, Host], reading: TreeReading
) -> list[DomainKernels]:
    """Return the entry of one address. Raises for a domain that neither the specs nor its host know."""
    host, _, name = address.partition("/")
    if host in hosts and name not in reading.desired.hosts[host].domains and name not in hosts[host].guests:
        raise no_domain(reading.desired, address)
    return [domain for domain in found if domain.address == address]
