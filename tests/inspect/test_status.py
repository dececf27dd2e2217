"""The one word that a plan comes to for a domain."""

from __future__ import annotations

from reconciler.inspect.status import Status, judge
from reconciler.model.fleet import HostSettings
from tests.worlds import desired, domain, guest, host, plan


def test_a_domain_that_no_spec_names_on_a_held_host_has_drifted() -> None:
    settings = HostSettings(name="alpha", toolstack="simulated", reconcile=False)
    made = plan(host(guest(domain("a")), guest(domain("b"))), desired(domain("b"), settings=settings))
    (a, b) = judge(made, {})
    assert (a.status, b.status) == (Status.DRIFTED, Status.READY)
    assert a.reason == "held: host.toml says reconcile = false"
