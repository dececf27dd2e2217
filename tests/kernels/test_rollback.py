"""`reconciler rollback`: a plan like any other, which stays until the spec changes, and says why when it cannot be."""

from __future__ import annotations

import json

import pytest

from reconciler.model.boot import ROLLED_BACK
from reconciler.simulated.store import Store

from .fleet import BETTER, GOOD, WEB, Fleet, watched_by
from .test_cut_short import Killed, Saboteur


@pytest.fixture
def updated(running: Fleet) -> Fleet:
    """web was good, and is better now."""
    running.kernel("web", BETTER)
    assert running.apply().code == 0
    return running


def rollback(fleet: Fleet, *options: str) -> tuple[int, str]:
    ran = fleet.run("rollback", "alpha/web", *options)
    return ran.code, ran.out + ran.err


def test_it_is_shown_and_asked_for(updated: Fleet) -> None:
    code, text = rollback(updated)
    assert code == 3
    assert "± alpha/web  restart: rolled back to what it booted before" in text
    assert "no consent" in text
    assert updated.runs() == BETTER


def test_it_leads_back_and_stays(updated: Fleet) -> None:
    neighbour = updated.boot("db")
    assert rollback(updated, "--yes")[0] == 0
    assert updated.runs() == GOOD
    assert updated.boot("db") == neighbour
    back = updated.boot()
    assert updated.apply().code == 3
    assert updated.boot() == back
    status = updated.run("status").out
    assert "alpha/web  drifted" in status
    assert "rolled back: what its spec asks for is quarantined until the spec changes" in status
    assert f"its boot inputs are quarantined: {ROLLED_BACK}" in updated.run("plan").out


def test_reverting_the_spec_ends_it(updated: Fleet) -> None:
    rollback(updated, "--yes")
    back = updated.boot()
    updated.kernel("web", GOOD)
    assert updated.run("plan", "--detailed-exitcode").code == 0
    assert "alpha/web  ready" in updated.run("status").out
    updated.kernel("web", 'console = "a third one"')
    assert updated.apply().code == 0
    assert updated.boot() != back


def test_retry_goes_forward_again(updated: Fleet) -> None:
    rollback(updated, "--yes")
    assert updated.apply("--retry", "alpha/web").code == 0
    assert updated.runs() == BETTER
    assert rollback(updated, "--yes")[0] == 0
    assert updated.runs() == GOOD


def test_it_keeps_all_else_as_the_spec_says(updated: Fleet) -> None:
    updated.write("alpha/web.toml", WEB.replace("256", "320"))
    assert rollback(updated, "--yes")[0] == 0
    running = updated.guest().running
    assert running is not None
    assert (updated.runs(), running.memory_kib) == (GOOD, 320 * 1024)


def test_a_dom0_that_reboots_starts_what_it_was_rolled_back_to(updated: Fleet) -> None:
    rollback(updated, "--yes")
    updated.run("sim", "alpha", "reboot")
    assert updated.apply().code == 0
    assert (updated.runs("web"), updated.runs("db")) == (GOOD, GOOD)


def test_one_that_does_not_get_ready_falls_back_and_leaves_no_quarantine_on_what_runs(updated: Fleet) -> None:
    updated.run("sim", "alpha", "fault", "create-fails")
    code, text = rollback(updated, "--yes")
    assert code == 1
    assert "fell back: alpha/web runs its last proven definition again" in text
    assert updated.runs() == BETTER
    assert updated.guest().quarantine == (), "the host failed, and not what it was to be rolled back to"
    updated.run("sim", "alpha", "destroy", "web")
    assert updated.apply().code == 0
    assert updated.runs() == BETTER


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("when", ["killed before", "killed after"])
def test_one_that_is_cut_short_is_put_right(
    updated: Fleet, at: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched_by(Saboteur(updated, at, when), monkeypatch), pytest.raises(Killed):
        rollback(updated, "--yes")
    updated.apply()
    updated.apply()
    guest = updated.guest()
    assert updated.runs() in (GOOD, BETTER)
    assert not guest.unproven
    assert guest.config is not None
    assert guest.running is not None
    assert guest.config.kernel == guest.running.kernel


def refused(fleet: Fleet, *expected: str) -> None:
    before = fleet.boot()
    code, text = rollback(fleet, "--yes")
    assert code == 3
    for words in expected:
        assert words in text
    assert fleet.boot() == before


def test_nothing_is_kept_yet(running: Fleet) -> None:
    refused(running, "nothing that it booted before is kept on the host", "revert the commit")


def test_it_was_rolled_back_already(updated: Fleet) -> None:
    rollback(updated, "--yes")
    refused(updated, "it was rolled back already", "reconciler apply --retry alpha/web")


def test_it_never_booted_anything_else(running: Fleet) -> None:
    running.write("alpha/web.toml", f"{WEB}maxmem = 512\n")
    assert running.apply().code == 0
    refused(running, "nothing that it booted before is kept")


def test_a_restart_into_the_same_kernel_keeps_the_way_to_the_one_before(updated: Fleet) -> None:
    updated.write("alpha/web.toml", f"{WEB}maxmem = 512\n")
    assert updated.apply().code == 0
    assert rollback(updated, "--yes")[0] == 0
    assert updated.runs() == GOOD


def test_the_kernel_of_before_is_judged_by_the_signs_of_its_time(running: Fleet) -> None:
    running.kernel("web", 'console = "Linux 6.1"')
    running.write("alpha/web.toml", f'{WEB}ready = {{ console = "6\\\\.1" }}\n')
    assert running.apply().code == 0
    running.kernel("web", 'console = "Linux 6.6"')
    running.write("alpha/web.toml", f'{WEB}ready = {{ console = "6\\\\.6" }}\n')
    assert running.apply().code == 0
    assert rollback(running, "--yes")[0] == 0
    assert running.runs() == 'console = "Linux 6.1"'


def test_the_staged_file_is_gone(updated: Fleet) -> None:
    previous = updated.guest().previous
    assert previous is not None
    assert previous.kernel is not None
    with Store(updated.folder / ".state", "alpha").change() as stored:
        del stored.files[previous.kernel.path]
    refused(updated, f"{previous.kernel.path}, which it booted before, is gone from the host")


def test_a_domain_that_is_to_be_stopped(updated: Fleet) -> None:
    updated.write("alpha/web.toml", f'{WEB}state = "stopped"\n')
    refused(updated, "it is to be stopped")


def test_a_domain_that_is_held(updated: Fleet) -> None:
    updated.write("alpha/web.toml", f"{WEB}reconcile = false\n")
    refused(updated, "alpha/web is not rolled back: held: its spec says reconcile = false")


def test_a_domain_that_does_not_exist_yet(fleet: Fleet) -> None:
    refused(fleet, "alpha/web is not rolled back: it does not exist yet")


def test_a_domain_that_is_not_ours(fleet: Fleet) -> None:
    fleet.run("sim", "alpha", "create", "web")
    refused(fleet, "not managed by reconciler")


def test_a_domain_without_a_spec_is_never_destroyed_by_it(updated: Fleet) -> None:
    (updated.folder / "specs/alpha/web.toml").unlink()
    before = updated.boot()
    code, text = rollback(updated, "--yes")
    assert code == 1
    assert 'knows "alpha/web"' in text
    assert updated.boot() == before


@pytest.mark.parametrize(
    ("address", "words"),
    [("alpha/wbe", 'Did you mean "alpha/web"?'), ("beta/web", "no host"), ("wbe", "not of the form host/domain")],
)
def test_an_address_that_nobody_knows(updated: Fleet, address: str, words: str) -> None:
    ran = updated.run("rollback", address, "--yes")
    assert ran.code == 1
    assert words in ran.err


def test_a_host_that_does_not_answer(updated: Fleet) -> None:
    updated.run("sim", "alpha", "fault", "unreachable")
    assert rollback(updated, "--yes")[0] == 1
    assert updated.runs() == BETTER


def test_json(updated: Fleet) -> None:
    ran = updated.run("rollback", "alpha/web", "--yes", "--json")
    (outage,) = json.loads(ran.out)["outages"]
    assert (outage["address"], outage["outcome"]) == ("alpha/web", "restarted")
    assert outage["down_seconds"] > 0
