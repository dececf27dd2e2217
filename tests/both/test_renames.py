"""A rename, on a real host and on a simulated one: killed at any step, the next run ends it; a second one is empty."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.decide.changes import Action
from reconciler.dom0 import config_files
from reconciler.model.domain import Domain
from reconciler.model.host import Power, Quarantined
from reconciler.plan.steps import SetAutostart, SetQuarantine
from reconciler.xl import live_changes
from tests.both.passes import Pass, look, reconcile
from tests.both.sides import Side, make_domain, make_sides, outcome_of, started

pytestmark = pytest.mark.anyio
FAILED = Quarantined(boot="1" * 64, kernel="vmlinuz", reason="it panicked")


@pytest.fixture(params=["xl", "simulated"])
def side(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    real, simulated = make_sides(tmp_path, monkeypatch)
    return real if request.param == "xl" else simulated


async def mail(side: Side) -> tuple[Domain, dict[str, Domain]]:
    """A domain that runs as `mail`, and the specs that call it `post`."""
    old = make_domain(side.settings, "mail", vifs=())
    more = (SetQuarantine(domain="mail", entries=(FAILED,)),)
    outcome = await outcome_of(side, (*started(old), *more))
    assert not outcome.failed, outcome.why
    new = make_domain(side.settings, "post", vifs=(), disks=old.disks)
    await side.executor().hold("mail", seconds=None, by="", reason="")
    await side.executor().unhold("mail")
    return old, {"post": new}


def check(seen: Pass, before: Pass) -> None:
    """It is called post, and it is the same domain: it never went down."""
    assert seen.plan.steps == ()
    guest, was = seen.host.guests["post"], before.host.guests["mail"]
    assert "mail" not in seen.host.guests
    assert (guest.uuid, guest.domid, guest.power) == (was.uuid, was.domid, Power.RUNNING)
    assert guest.running is not None
    assert guest.running.disks == was.running.disks if was.running is not None else False
    assert guest.quarantine == (FAILED,)
    assert guest.listed_as is None


async def test_it_keeps_uuid_disks_and_what_is_remembered_of_it(side: Side) -> None:
    old, wanted = await mail(side)
    before = await look(side, {"mail": old})
    done = await reconcile(side, wanted)
    (change,) = done.plan.changes
    assert (change.address, change.action) == ("alpha/post", Action.UPDATE)
    assert done.result is not None
    assert not done.result.failed
    check(await look(side, wanted), before)


@pytest.mark.parametrize("cut", ["after the config", "after xl rename", "before the old config goes"])
async def test_killed_at_any_step_the_next_run_ends_it(
    cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side, _ = make_sides(tmp_path, monkeypatch)
    old, wanted = await mail(side)
    before = await look(side, {"mail": old})

    async def killed(*_: object) -> str:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        match cut:
            case "after the config":
                patch.setattr(live_changes, "rename", killed)
            case "after xl rename":
                patch.setattr(config_files, "end_rename", killed)
            case _:
                whole = config_files._MOVE
                assert "if [ -e" in whole
                patch.setattr(
                    config_files, "_MOVE", whole.replace('if [ -e "$config" ]', 'exit 1; if [ -e "$config" ]')
                )
        done = await reconcile(side, wanted)
    assert done.result is not None
    assert done.result.failed
    (tmp_path / "etc/mail.cfg").stat()
    (tmp_path / "etc/post.cfg").stat()
    half = await look(side, wanted)
    assert [change.address for change in half.plan.changes] == ["alpha/post"]
    ended = await reconcile(side, wanted)
    assert ended.result is not None
    assert not ended.result.failed, ended.result.failed
    check(await look(side, wanted), before)


async def test_a_stranger_that_has_the_new_name_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side, _ = make_sides(tmp_path, monkeypatch)
    old, wanted = await mail(side)
    seen = await look(side, wanted)
    stranger = make_domain(side.settings, "post", 9, vifs=(), disks=())
    await side.executor().execute(started(stranger)[0], lambda _: None)  # type: ignore[arg-type]  # it stages
    (tmp_path / "etc/post.cfg").write_text("somebody's")
    (rename,) = (step.step for step in seen.plan.steps if step.step.kind == "rename")
    with pytest.raises(Exception, match="bears no mark"):
        await side.executor().execute(rename, lambda _: None)
    assert (tmp_path / "etc/post.cfg").read_text() == "somebody's"
    assert (await look(side, {"mail": old})).host.guests["mail"].power is Power.RUNNING


async def test_it_is_started_at_boot_under_its_new_name(side: Side) -> None:
    if side.settings.toolstack == "xl":
        pytest.skip("the links lie in /etc/xen/auto itself")
    _, wanted = await mail(side)
    await side.executor().execute(SetAutostart(domain="mail", order=30), lambda _: None)
    wanted = {"post": replace(wanted["post"], autostart=30)}
    await reconcile(side, wanted)
    seen = await look(side, wanted)
    assert seen.host.guests["post"].autostart == 30
    assert seen.plan.steps == ()
