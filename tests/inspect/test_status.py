"""The one word that a plan comes to for a domain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.inspect.status import DomainStatus, Status, judge
from reconciler.model.domain import Domain
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Devices, Power
from tests.worlds import desired, domain, guest, host, kernel, plan

WEB = domain("web")


def status_of(asked: Domain, **seen: Any) -> DomainStatus:
    (status,) = judge(plan(host(guest(WEB, **seen)), desired(asked)), {})
    return status


def test_a_domain_that_no_spec_names_on_a_held_host_has_drifted() -> None:
    settings = HostSettings(name="alpha", toolstack="simulated", reconcile=False)
    made = plan(host(guest(domain("a")), guest(domain("b"))), desired(domain("b"), settings=settings))
    (a, b) = judge(made, {})
    assert (a.status, b.status) == (Status.DRIFTED, Status.READY)
    assert a.reason == "held: host.toml says reconcile = false"


@pytest.mark.parametrize(
    ("connected", "running_seconds", "status"),
    [
        (True, 600.0, Status.READY),
        (None, 600.0, Status.READY),  # it has no devices, or does not touch them
        (False, 5.0, Status.RECONCILING),
        (False, 600.0, Status.STALLED),
        (False, None, Status.STALLED),  # nobody knows how long it has been so
    ],
)
def test_a_proven_domain_that_was_started_again_is_not_ready_without_its_devices(
    connected: bool | None, running_seconds: float | None, status: Status
) -> None:
    """`[ready]` gives it 120 s."""
    seen = status_of(WEB, devices=Devices(connected=connected), running_seconds=running_seconds)
    assert seen.status is status


@pytest.mark.parametrize(
    ("asked", "seen", "status"),
    [
        (WEB, {}, Status.READY),
        (replace(WEB, kernel=kernel("web", "3" * 64)), {}, Status.DRIFTED),
        (WEB, {"power": Power.PAUSED}, Status.DRIFTED),
        (WEB, {"devices": Devices(connected=False), "running_seconds": 600.0}, Status.STALLED),
    ],
    ids=["as specified", "to be restarted", "paused", "without its devices"],
)
def test_that_the_process_of_xl_for_a_domain_is_gone_is_told_whatever_else_is_to_be_told(
    asked: Domain, seen: dict[str, Any], status: Status
) -> None:
    lost = status_of(asked, served=False, **seen)
    assert lost.status is status
    assert "xl's process for it is gone" in lost.reason
    for served in (True, None):
        assert "process" not in status_of(asked, served=served, **seen).reason
