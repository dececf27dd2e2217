"""What is remembered of hosts costs a look what its own host holds, and outlives an upgrade."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.model.host import Host
from reconciler.plan.steps import PlannedStep, WriteConfig
from reconciler.state_dir import sightings
from tests.worlds import disk, domain, guest, host

OLD = {"alpha": ["web"], "beta": {"ours": ["db"], "claims": {"db": [["mac", "00:16:3e:00:00:01"]]}}}


def seen(name: str) -> dict[str, Host]:
    return {name: host(guest(domain("web")), name=name)}


def test_a_look_at_one_host_reads_and_writes_nothing_of_others(tmp_path: Path) -> None:
    sightings.remember(tmp_path, seen("alpha") | seen("beta"), ())
    others = tmp_path / "sightings/beta.json"
    others.write_bytes(b"damaged")
    sightings.remember(tmp_path, seen("alpha"), ())
    assert others.read_bytes() == b"damaged"
    recalled = sightings.recall(tmp_path, ())
    assert recalled["beta"] is None
    assert recalled["alpha"] is not None
    assert recalled["alpha"].ours == {"web"}
    assert sightings.recall(tmp_path, (), {"alpha"}) == {"beta": None}


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    sightings.remember(tmp_path, seen("alpha"), ())
    written = (tmp_path / "sightings/alpha.json").stat()
    sightings.remember(tmp_path, seen("alpha"), ())
    assert (tmp_path / "sightings/alpha.json").stat() == written


def test_a_host_that_was_given_up_and_answers_as_before_is_noted_again(tmp_path: Path) -> None:
    sightings.remember(tmp_path, seen("alpha"), ())
    noted = sightings.recall(tmp_path, ())
    sightings.forget(tmp_path, "alpha", ())
    assert sightings.recall(tmp_path, ()) == {}
    sightings.remember(tmp_path, seen("alpha"), (), {"alpha"})
    assert sightings.recall(tmp_path, ()) == noted
    assert sightings.forgotten(tmp_path) == frozenset()


def test_what_was_noted_and_cannot_be_read_is_noted_again(tmp_path: Path) -> None:
    sightings.remember(tmp_path, seen("alpha"), ())
    noted = sightings.recall(tmp_path, ())
    (tmp_path / "sightings/alpha.json").write_bytes(b"damaged")
    sightings.remember(tmp_path, seen("alpha"), (), {"alpha"})
    assert sightings.recall(tmp_path, ()) == noted


def test_what_an_earlier_version_noted_is_taken_over(tmp_path: Path) -> None:
    old = tmp_path / "sightings.json"
    old.write_text(json.dumps(OLD))
    before = sightings.recall(tmp_path, ())
    sightings.remember(tmp_path, seen("gamma"), ())
    after = sightings.recall(tmp_path, ())
    assert not old.exists()
    assert {name: after[name] for name in OLD} == before
    assert after["gamma"] is not None


def test_where_it_cannot_be_taken_over_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    (tmp_path / "sightings.json").write_text(json.dumps(OLD))
    before = sightings.recall(tmp_path, ())
    monkeypatch.setattr(sightings, "replace_file", full)
    sightings.remember(tmp_path, seen("gamma"), ())
    assert sightings.recall(tmp_path, ()) == before


def test_one_that_cannot_be_read_says_so_of_each_host_until_that_answers(tmp_path: Path) -> None:
    (tmp_path / "sightings.json").write_text("{")
    sightings.remember(tmp_path, seen("alpha"), ("alpha", "beta"))
    recalled = sightings.recall(tmp_path, ("alpha", "beta"))
    assert recalled["beta"] is None
    assert recalled["alpha"] is not None


LUN = "/dev/disk/by-id/wwn-0x5000"


@pytest.mark.parametrize("access", ["ro", "rw"])
def test_who_only_reads_a_disk_is_noted_as_a_reader(access: str, tmp_path: Path) -> None:
    definition = domain("web", disks=(disk(LUN, kind="device", access=access),))
    sightings.remember(tmp_path, {"alpha": host(guest(definition))}, ())
    claims = sightings.unseen(tmp_path, (), ()).claims["alpha/web"]
    assert {claim.reads_only for claim in claims.values() if claim.value == LUN} == {access == "ro"}
    writes = WriteConfig(definition=domain("web", disks=(disk(LUN, kind="device"),)))
    sightings.remember_steps(tmp_path, [PlannedStep(id="s1", host="alpha", step=writes, needs=())], ())
    claims = sightings.unseen(tmp_path, (), ()).claims["alpha/web"]
    assert {claim.reads_only for claim in claims.values() if claim.value == LUN} == {False}
