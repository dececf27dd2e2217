"""The spool: what a restart, a full disk and a damaged file do to what waits."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from reconciler.model.fleet import Receiver
from reconciler.notify.events import Told
from reconciler.notify.spool import Spool, SpoolError
from tests.notify.conftest import event

HOOK = Receiver(url="https://hooks.example.org/", events=("stalled",))


def filled(folder: Path) -> Spool:
    spool = Spool(folder)
    spool.keep({"hook": HOOK, "other": HOOK})
    spool.add(Told(specs="c0ffee", stalled={"alpha/web": "gone"}), {"hook": [event(1), event(2)], "other": [event(1)]})
    return spool


def test_another_process_finds_all_of_it(tmp_path: Path) -> None:
    filled(tmp_path)
    spool = Spool(tmp_path)
    assert spool.told() == Told(specs="c0ffee", stalled={"alpha/web": "gone"})
    assert spool.receivers() == {"hook": HOOK, "other": HOOK}
    first = spool.first("hook")
    assert first is not None
    assert first.event == event(1)
    spool.sent("hook", first)
    second = spool.first("hook")
    assert second is not None
    assert second.event == event(2)
    assert spool.waiting() == {"hook": 1, "other": 1}
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600


def test_a_receiver_that_is_no_longer_named_takes_its_events_along(tmp_path: Path) -> None:
    spool = filled(tmp_path)
    assert spool.keep({"hook": HOOK}) == {"other": 1}
    assert spool.waiting() == {"hook": 2}


def test_a_write_that_fails_leaves_what_was(tmp_path: Path) -> None:
    spool = filled(tmp_path)
    with sqlite3.connect(spool.path) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(SpoolError, match="cannot be used: full"):
        spool.add(Told(specs="facade"), {"hook": [event(3)]})
    assert Spool(tmp_path).told().specs == "c0ffee"


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    spool = filled(tmp_path)
    spool.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(SpoolError, match="not a database"):
        spool.told()
    assert (tmp_path / "notify.sqlite.damaged").exists()
    assert spool.told() == Told()


def test_a_state_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be used"):
        Spool(tmp_path / "file").told()
