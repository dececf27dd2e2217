"""`reconciler accept`: let watch follow a branch whose history was rewound."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.cluster.option import ask, cluster_option
from reconciler.cli.output import print_text
from reconciler.cli.session import read_decided, specs_option
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.show.escape import plain
from reconciler.state_dir import rewound

_SHORTEST = 7


@click.command(short_help="Let watch follow a branch that was rewound.")
@click.argument("commit", metavar="COMMIT|DIGEST")
@specs_option
@cluster_option(
    "Have all controllers in this etcd go by COMMIT or, where there is no git, by DIGEST.", by_environment=False
)
@click.pass_obj
def accept(settings: Settings, commit: str, specs: Path, endpoints: tuple[str, ...]) -> None:
    """Let watch go on with COMMIT, the head of a branch whose history was rewound (reset, or rebased and pushed by
    force), which it has refused. COMMIT is all of its name, or its first 7 digits and more.

    A watch with this state directory takes it at its next pass. Its signatures are judged as ever. With --cluster, all
    controllers of the fleet go by it from then on; one of them has to have it.
    """
    if endpoints:
        from reconciler.cluster import report

        fleet = read_decided(specs).desired.fleet
        heads = {one.head for _, one in rewound.refused(settings.state_root)}
        whole = ask(endpoints, lambda etcd: report.accept(etcd, fleet, commit.lower(), heads))
        print_text(f"Accepted: all controllers go by {whole[:12]}.")
        if whole not in heads:
            return
    known = list(rewound.refused(settings.state_root))
    found = [one for one in known if len(commit) >= _SHORTEST and one[1].head.startswith(commit.lower())]
    if not found:
        raise _unknown(settings, commit, [one.head for _, one in known])
    for folder, one in found:
        try:
            rewound.accept(folder, one.head)
        except OSError as error:
            raise world_error("not accepted", f"{folder} cannot be written: {error.strerror}.") from error
        print_text(
            f"Accepted: from the next pass of watch on, {plain(one.source)} goes on with {one.head[:12]} after "
            f"{one.accepted[:12]}."
        )


def _unknown(settings: Settings, commit: str, heads: list[str]) -> ReconcilerError:
    known = ", ".join(head[:12] for head in heads) or "none"
    return refused(
        "no such rewound branch",
        f'No watch with the state directory {plain(str(settings.state_root))} has refused "{plain(commit)}" for being '
        f"rewound. It refused: {known}.",
        f"reconciler accept {heads[0][:12]}" if heads else "name the state directory of watch with --state-dir",
    )
