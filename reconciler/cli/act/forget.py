"""`reconciler forget`: give up a host that left the specs, or is lost."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.asking import ask_consent
from reconciler.cli.cluster.option import ask, cluster_option
from reconciler.cli.output import print_text
from reconciler.cli.session import open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import refused, usage_error
from reconciler.show.escape import plain
from reconciler.specs import TreeReading, read_tree
from reconciler.specs.schema_errors import near_miss
from reconciler.state_dir import sightings


@click.command(short_help="Give up a host that left the specs, or is lost.")
@click.argument("host")
@specs_option
@cluster_option("Give back what is reserved for HOST in this etcd as well.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(settings: Settings, host: str, specs: Path, endpoints: tuple[str, ...], yes: bool) -> None:
    """Give up HOST, which left the specs or does not answer any more: nothing waits for it, and nobody tells of it,
    until it answers again. Lists what may still run there, and asks. Nothing is done on the host.
    """
    reading = read_tree(specs)
    seen = sightings.recall(settings.state_dir, reading.desired.hosts)
    known = {*seen, *reading.desired.hosts, *([host] if endpoints else [])}  # another controller may have seen it
    if host not in known:
        hint = near_miss(host, sorted(known)) or "`reconciler status` lists the hosts"
        raise usage_error("no such host", f'Neither the specs nor the state directory know a host "{host}".', hint)
    if host in reading.desired.hosts and _answers(reading, specs, settings.state_dir, host):
        hint = f"to give it up, remove {specs / host} from the specs first"
        raise refused("the host answers", f"{host} is in the specs and answers, so there is nothing to forget.", hint)
    sighting = seen.get(host) or sightings.Sighting()
    domains = sorted({*sighting.ours, *_declared(reading, host)})
    for name in domains:
        print_text(plain(f"{host}/{name} may still run there") + "\n")
    if not domains:
        print_text(plain(f"No domain of ours was seen on {host}.") + "\n")
    if not yes:
        ask_consent(f"Give up {host}?", "look at what may still run there, then run it")
    sightings.forget(settings.state_dir, host, reading.desired.hosts)
    if endpoints:
        from reconciler.cluster import report

        count = ask(endpoints, lambda etcd: report.forget(etcd, reading.desired.fleet, host))
        print_text(plain(f"{count} places that were reserved for it are given back.") + "\n")
    print_text(plain(f"{host} is forgotten until it answers again.") + "\n")


def _declared(reading: TreeReading, host: str) -> tuple[str, ...]:
    part = reading.desired.hosts.get(host)
    return tuple(part.domains) if part is not None else ()


def _answers(reading: TreeReading, specs: Path, state_dir: Path, host: str) -> bool:
    with open_session(reading, specs, state_dir) as session:
        hosts, _ = session.wait_for(session.reconciler.observe(frozenset({host})))
    return host in hosts
