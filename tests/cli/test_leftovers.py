"""`leftovers`: what lies on a host for domains and belongs to none, and the removal of one of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.model.diagnostics import world_error
from reconciler.simulated.host import SimulatedExecutor
from tests.cli.conftest import Run
from tests.transcript import write_files

DONE, FAILED, REFUSED = 0, 1, 3
KERNEL = 'kernel = "/boot/vmlinuz"\nmemory = 256\n'
DISK = '[[disk]]\nvdev = "xvda"\npath = "/srv/{name}.img"\nsize = "1GiB"\n'
STAGED = "/var/lib/xen/kernels/old"


@pytest.fixture
def gone(run: Run, tree: Path) -> Path:
    """A tree that had a domain `mail` with a disk, and that knows `web` under another name than it had."""
    write_files(
        {
            "specs/alpha/host.toml": 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n',
            "specs/alpha/mail.toml": KERNEL + DISK.format(name="mail"),
            "specs/alpha/web.toml": KERNEL + DISK.format(name="web"),
        },
        tree,
    )
    assert run("apply", "--yes").code == DONE
    (tree / "specs/alpha/mail.toml").unlink()
    assert run("apply", "--yes", "--allow-destroy", "1").code == DONE
    kernel = tree / "kernel"
    kernel.write_text("an old kernel")
    assert run("sim", "alpha", "put", f"{STAGED}/vmlinuz.0123456789ab", str(kernel)).code == DONE
    return tree


def listed(run: Run) -> list[tuple[str, str, int | None]]:
    found = json.loads(run("leftovers", "--json").out)["leftovers"]
    assert {one["host"] for one in found} <= {"alpha"}
    return [(one["kind"], one["path"], one["size_bytes"]) for one in found]


def test_what_nothing_names_is_listed_and_nothing_else(run: Run, gone: Path) -> None:
    assert listed(run) == [("disk", "/srv/mail.img", 1 << 30), ("staged", STAGED, None)]
    shown = run("leftovers", "alpha").out
    assert "alpha  disk    /srv/mail.img  1 GiB\nalpha  staged  /var/lib/xen/kernels/old\n" in shown


def test_one_is_removed_and_the_rest_stays(run: Run, gone: Path) -> None:
    refused = run("leftovers", "alpha", "--remove", "/srv/mail.img")
    assert (refused.code, "no consent" in refused.err) == (REFUSED, True)
    assert len(listed(run)) == 2
    assert run("leftovers", "alpha", "--remove", "/srv/mail.img", "--yes").out == "Removed /srv/mail.img of alpha.\n"
    assert listed(run) == [("staged", STAGED, None)]
    assert run("leftovers", "alpha", "--remove", STAGED, "--yes").code == DONE
    assert run("leftovers").out == "Nothing is left over.\n"
    assert run("plan", "--detailed-exitcode").code == DONE


@pytest.mark.parametrize("path", ["/srv/web.img", "/etc/xen/web.cfg", "/var/lib/xen/kernels/web", "/srv", "mail.img"])
def test_what_somebody_names_or_is_no_leftover_is_not_removed(run: Run, gone: Path, path: str) -> None:
    ran = run("leftovers", "alpha", "--remove", path, "--yes")
    assert (ran.code, "nothing that is left over" in ran.err) == (FAILED, True)
    assert len(listed(run)) == 2


def test_a_disk_that_only_an_unmanaged_domain_or_a_new_spec_names_is_none(run: Run, gone: Path) -> None:
    config = gone / "legacy.cfg"
    config.write_text('name = "legacy"\nmemory = 64\nkernel = "/boot/k"\ndisk = ["/srv/mail.img,raw,xvda,rw"]\n')
    run("sim", "alpha", "put", "/etc/xen/legacy.cfg", str(config))
    assert listed(run) == [("staged", STAGED, None)]
    write_files({"specs/alpha/old.toml": KERNEL}, gone)
    assert listed(run) == []


def test_nothing_is_removed_while_somebody_may_name_it(run: Run, gone: Path) -> None:
    write_files({"specs/alpha/db.toml": "memory = ["}, gone)
    ran = run("leftovers", "alpha", "--remove", "/srv/mail.img", "--yes")
    assert (ran.code, "Some specs cannot be read" in ran.err) == (REFUSED, True)
    write_files({"specs/alpha/db.toml": KERNEL, "bad.cfg": "disk = ["}, gone)
    run("sim", "alpha", "put", "/etc/xen/odd.cfg", str(gone / "bad.cfg"))
    ran = run("leftovers", "alpha", "--remove", "/srv/mail.img", "--yes")
    assert (ran.code, "What odd on alpha use cannot be read whole" in ran.err) == (REFUSED, True)
    assert ("disk", "/srv/mail.img", 1 << 30) in listed(run)


def test_a_host_that_does_not_answer_is_told(run: Run, gone: Path) -> None:
    run("sim", "alpha", "fault", "unreachable")
    assert run("leftovers").code == FAILED


def test_the_lock_of_the_host_keeps_it_off(run: Run, gone: Path) -> None:
    from reconciler.simulated.lock import SimulatedLock
    from reconciler.simulated.store import Store

    with SimulatedLock(Store(gone / ".state", "alpha")).taken():
        ran = run("leftovers", "alpha", "--remove", "/srv/mail.img", "--yes")
    assert (ran.code, "being changed" in ran.err) == (REFUSED, True)
    assert len(listed(run)) == 2


def test_what_is_left_of_a_rehearsal_and_stays_holds_up_nothing_else(
    run: Run, gone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = gone / "record"
    left = {"format": 1, "uuid": "u-1", "name": "web.rehearsal", "of": "web", "of_uuid": "u-2", "nonce": "n"}
    record.write_text(json.dumps({**left, "clones": [], "bridge": None}))
    assert run("sim", "alpha", "put", "/var/lib/xen/kernels/.rehearsals/u-1", str(record)).code == DONE

    async def cannot(_executor: SimulatedExecutor) -> None:
        raise world_error("taking the rehearsal down failed", "It stays.", None, "alpha/web")

    monkeypatch.setattr(SimulatedExecutor, "clear_leftovers", cannot)
    write_files({"specs/alpha/db.toml": KERNEL}, gone)
    ran = run("apply", "--yes")
    assert (ran.code, "It stays." in ran.out + ran.err) == (FAILED, True)
    actions = {one["address"]: one["action"] for one in json.loads(run("plan", "--json").out)["changes"]}
    assert actions["alpha/db"] == "no-op"
