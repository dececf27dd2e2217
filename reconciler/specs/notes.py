"""What is right in specs, and worth telling all the same. Called by `tree` for `validate` and every plan."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired


def notes_on(desired: Desired) -> Iterator[Diagnostic]:
    """Warn of rehearsals that are required and prove little: without `console` nobody sees what a guest comes to."""
    for host, part in sorted(desired.hosts.items()):
        for name, domain in sorted(part.domains.items()):
            if domain.policy.rehearse == "required" and domain.policy.ready.console is None:
                yield Diagnostic(
                    kind=Kind.NOTE,
                    summary="A required rehearsal that proves little",
                    detail=f"{address_of(host, name)} is to be rehearsed, and [ready] has no console: that proves only "
                    "that its kernel starts, finds its devices, and does not panic, reboot or power off at once.",
                    hint='Write under [ready] what its console shows when it is up, such as: console = "login:"',
                    address=address_of(host, name),
                )
