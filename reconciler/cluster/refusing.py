"""What is said where a controller may not act on a host."""

from __future__ import annotations

from reconciler.fence import SILENT_LEASES, Line
from reconciler.model.diagnostics import Diagnostic, Kind, refused


def held(host: str, why: str) -> Diagnostic:
    return Diagnostic(
        kind=Kind.REFUSED,
        summary="nothing is begun on the host",
        detail=f"Nothing is begun on {host}: {why}.",
        address=host,
        transient=True,
    )


def no_claim(host: str, key: str) -> str:
    """Say that the claim of a host is none, as where a person or a newer version wrote it."""
    return (
        f"the key {key} is not understood, or goes with no lease, so nobody acts on {host}; "
        f"if no newer version wrote it: etcdctl del {key}"
    )


def refuse_other_etcd(host: str, seen: Line, cluster: str, silent_seconds: float | None) -> None:
    """Raise where the controllers of another etcd act on a host: the two sides would take it from each other."""
    patience = SILENT_LEASES * seen.lease_seconds
    if seen.cluster not in ("", cluster) and silent_seconds is not None and silent_seconds < patience:
        raise refused(
            "another etcd divides the host",
            f"{seen.who} acted on {host} {silent_seconds:.0f} s ago, for the etcd with the id {seen.cluster}; "
            f"this controller is in that with the id {cluster}.",
            f"name one etcd to all controllers; where it was replaced, this ends by itself in {patience:.0f} s",
            host,
        )
