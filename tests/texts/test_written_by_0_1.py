"""Hosts whose files version 0.1 wrote: what it recorded keeps its meaning, and unchanged specs ask for nothing.

`written_by_0_1/` holds a spec tree and what 0.1 wrote of it on a host (config files with their marks, quarantines),
with what `xl list -l` of Xen 4.17 says of these config files. It is never written anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.boot import quarantined
from reconciler.model.domain import Domain
from reconciler.model.host import FileFact, Guest, Host, Owner, Power
from reconciler.plan.plan import build_plan
from reconciler.specs import read_tree
from reconciler.texts.config_file import read_file
from reconciler.texts.guests import LiveDomain, assemble_guests, with_past

FOLDER = Path(__file__).with_name("written_by_0_1")
DESIRED = read_tree(FOLDER / "specs").desired
DOMAINS = DESIRED.hosts["alpha"].domains
NAMES = ("db", "desk", "web")
GIB = 1024 * 1024


def written(name: str) -> str:
    return (FOLDER / f"hosts/{name}.cfg").read_text()


def guests(*, running: bool, quarantine: bool = False) -> dict[str, Guest]:
    instances = [
        LiveDomain(
            name=name,
            uuid=domain.uuid,
            power=Power.RUNNING,
            actual_kib=domain.memory_kib,
            config=json.loads((FOLDER / f"hosts/{name}.json").read_text()),
        )
        for name, domain in DOMAINS.items()
    ]
    found, _ = assemble_guests(
        fleet="upgrade",
        configs={name: written(name) for name in NAMES},
        candidates={},
        instances=instances if running else (),
        images={},
        autostart={},
    )
    kept = {name: (FOLDER / f"hosts/{name}.quarantine.json").read_text() if quarantine else None for name in NAMES}
    return {name: with_past(found[name], previous=None, quarantine=kept[name], images={}) for name in NAMES}


def host(found: dict[str, Guest]) -> Host:
    disks = [disk for domain in DOMAINS.values() for disk in domain.disks]
    return Host(
        name="alpha",
        total_kib=16 * GIB,
        free_kib=8 * GIB,
        cpus=4,
        guests=found,
        images={image.path: image.sha256 for domain in DOMAINS.values() for image in domain.images},
        files={disk.target: FileFact(kind="block", size_bytes=disk.size_bytes or GIB) for disk in disks},
    )


def test_the_specs_are_as_they_were() -> None:
    assert tuple(sorted(DOMAINS)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_the_domain_that_the_specs_ask_for(name: str) -> None:
    file = read_file(written(name), {})
    assert file.problem is None
    assert file.mark is not None
    assert file.intact
    assert (file.ignored, file.unsaid) == ((), ())
    assert file.domain == DOMAINS[name]
    assert file.domain.policy.ready == DOMAINS[name].policy.ready


@pytest.mark.parametrize("name", NAMES)
def test_what_failed_to_boot_is_still_known(name: str) -> None:
    guest = guests(running=True, quarantine=True)[name]
    entry = quarantined(guest, DOMAINS[name])
    assert entry is not None
    assert entry.reason == "it did not get ready"


def test_nothing_is_to_be_done() -> None:
    found = guests(running=True)
    assert {guest.owner for guest in found.values()} == {Owner.OURS}
    assert {name: guest.running for name, guest in found.items()} == dict(DOMAINS)
    plan = build_plan(DESIRED, {"alpha": host(found)}, Consent())
    assert [(change.action, change.reason) for change in plan.changes] == [(Action.NO_OP, "as specified")] * len(NAMES)


def test_what_does_not_run_is_started_from_what_is_there() -> None:
    plan = build_plan(DESIRED, {"alpha": host(guests(running=False))}, Consent())
    assert {(change.action, change.fields) for change in plan.changes} == {(Action.START, ())}
    assert {step.step.kind for step in plan.steps} == {"start", "await_ready"}


def test_what_must_outlive_the_spec_is_kept() -> None:
    kept: Domain | None = guests(running=True)["web"].config
    assert kept is not None
    assert kept.prevent_destroy
    assert (kept.shutdown_timeout_seconds, kept.on_shutdown_timeout) == (300, "destroy")
    assert kept.depends_on == ("db",)
    assert [disk.on_delete for disk in kept.disks] == ["delete", "keep"]
    assert [disk.kind for disk in kept.disks] == ["lv", "file"]
