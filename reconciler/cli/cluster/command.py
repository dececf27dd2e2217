"""`reconciler cluster`: who acts on which host, and what is counted over the fleet."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from reconciler.cli.cluster.option import ask, cluster_option
from reconciler.cli.output import print_data, print_text
from reconciler.cli.session import read_decided, specs_argument
from reconciler.show.escape import plain


@click.command(short_help="Tell which controller has which host, and what is reserved.")
@specs_argument
@cluster_option("The etcd of the fleet's controllers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def cluster(specs: Path, endpoints: tuple[str, ...], as_json: bool) -> None:
    """Tell which controllers of the fleet of SPECS (default: $RECONCILER_SPECS, else ./specs) are there, who has which
    host since when and with what token, whom each cannot reach, and what is reserved over the fleet. It asks etcd, and
    no host.
    """
    if not endpoints:
        raise click.UsageError("Name the etcd with --cluster or RECONCILER_CLUSTER.")
    from reconciler.cluster.report import report

    desired = read_decided(specs).desired
    found = ask(endpoints, lambda etcd: report(etcd, desired.fleet))
    hosts = frozenset(desired.hosts)
    if as_json:
        print_data(json.dumps(found.document(hosts), indent=2) + "\n")
    else:
        print_text("".join(plain(line) + "\n" for line in found.text(hosts, time.time()).splitlines()))
