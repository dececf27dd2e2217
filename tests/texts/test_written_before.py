"""Hosts whose files earlier versions wrote: what they recorded keeps its meaning, and unchanged specs ask for nothing.

`written_by_0_1/` holds a spec tree and what 0.1 wrote of it on a host (config files with their marks, quarantines),
with what `xl list -l` of Xen 4.17 says of these config files. `written_in_format_1/` has the same config files as they
were written when marks began to say their format. None of them is ever written anew; a new format brings a new folder.
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
from reconciler.texts.mark import FORMAT

FOLDER = Path(__file__).with_name("written_by_0_1")
FILES = {0: FOLDER / "hosts", 1: FOLDER.with_name("written_in_format_1")}  # by the format of the marks
DESIRED = read_tree(FOLDER / "specs").desired
DOMAINS = DESIRED.hosts["alpha"].domains
NAMES = ("db", "desk", "web")
GIB = 1024 * 1024


@pytest.fixture(params=FILES)
def of_format(request: pytest.FixtureRequest) -> int:
    made: int = request.param
    return made


def test_there_are_files_of_every_format() -> None:
    assert set(FILES) == set(range(FORMAT + 1))


def written(of_format: int, name: str) -> str:
    return (FILES[of_format] / f"{name}.cfg").read_text()


def guests(of_format: int, *, running: bool, quarantine: bool = False) -> dict[str, Guest]:
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
        configs={name: written(of_format, name) for name in NAMES},
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
def test_what_was_written_is_the_domain_that_the_specs_ask_for(of_format: int, name: str) -> None:
    file = read_file(written(of_format, name), {})
    assert file.problem is None
    assert file.mark is not None
    assert file.mark.format == of_format
    assert file.intact
    assert (file.ignored, file.unsaid) == ((), ())
    assert file.domain == DOMAINS[name]
    assert file.domain.policy.ready == DOMAINS[name].policy.ready


@pytest.mark.parametrize("name", NAMES)
def test_what_failed_to_boot_is_still_known(of_format: int, name: str) -> None:
    guest = guests(of_format, running=True, quarantine=True)[name]
    entry = quarantined(guest, DOMAINS[name])
    assert entry is not None
    assert entry.reason == "it did not get ready"


def test_nothing_is_to_be_done(of_format: int) -> None:
    found = guests(of_format, running=True)
    assert {guest.owner for guest in found.values()} == {Owner.OURS}
    assert {name: guest.running for name, guest in found.items()} == dict(DOMAINS)
    plan = build_plan(DESIRED, {"alpha": host(found)}, Consent())
    assert [(change.action, change.reason) for change in plan.changes] == [(Action.NO_OP, "as specified")] * len(NAMES)


def test_what_does_not_run_is_started_from_what_is_there(of_format: int) -> None:
    plan = build_plan(DESIRED, {"alpha": host(guests(of_format, running=False))}, Consent())
    assert {(change.action, change.fields) for change in plan.changes} == {(Action.START, ())}
    assert {step.step.kind for step in plan.steps} == {"start", "await_ready"}


def test_what_must_outlive_the_spec_is_kept(of_format: int) -> None:
    kept: Domain | None = guests(of_format, running=True)["web"].config
    assert kept is not None
    assert kept.prevent_destroy
    assert (kept.shutdown_timeout_seconds, kept.on_shutdown_timeout) == (300, "destroy")
    assert kept.depends_on == ("db",)
    assert [disk.on_delete for disk in kept.disks] == ["delete", "keep"]
    assert [disk.kind for disk in kept.disks] == ["lv", "file"]
