"""A dom0 whose toolstack is xm, played by a fake one: the same cases as for both hosts, and whole passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.decide.changes import Consent
from reconciler.model.domain import Domain, Image, Policy, Ready
from reconciler.model.host import Owner, Power
from reconciler.xl.dialect import XM
from tests.both.passes import look, reconcile
from tests.both.sides import XenSide, make_domain, make_sides
from tests.both.test_both_hosts import CASES, play_on
from tests.fake_dom0 import write_tool

pytestmark = [pytest.mark.anyio, pytest.mark.flavours]

OTHERWISE = {
    "a balloon that refuses fails": "xm tells what a domain was asked to have, and not what it has",
    "an interface whose number another one has": "xm gives the next number by itself, so there is no clash",
    "another interface than the one that is to go": "an interface is known by its mac, so this one is gone already",
    **dict.fromkeys(
        (
            "what was left half made is cleared away",
            "what is being made is a state of its own",
            "what is being made is not cleared away",
        ),
        "xm tells of a half made domain as of one that is paused, and a paused one is left alone",
    ),
}
"""What cannot end as with xl, and why; docs/xm.md tells people."""


@pytest.mark.parametrize("title", [title for title in CASES if title not in OTHERWISE])
async def test_both_hosts(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await play_on(make_sides(tmp_path, monkeypatch, XM), CASES[title])


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> XenSide:
    side = make_sides(tmp_path, monkeypatch, XM)[0]
    write_tool(tmp_path / "bin", "ovs-vsctl", "echo xenbr0")  # the bridge that the domains are on
    return side


def wanted(side: XenSide, kernel: str = "vmlinuz") -> Domain:
    """The domain of these cases with a kernel of the host."""
    image = Image(sha256="", source=str(side.folder / "boot" / kernel))
    at_once = Policy(ready=Ready(min_seconds=0, timeout_seconds=5))
    return make_domain(side.settings, kernel=image, cmdline="root=xbd0a", cap=50, policy=at_once)


async def test_from_nothing_to_nothing_left_to_do(side: XenSide) -> None:
    specs = {"web": wanted(side)}
    first = await reconcile(side, specs)
    assert first.result is not None
    assert first.result.done
    assert not first.result.failed
    second = await look(side, specs)
    assert second.host.guests["web"].power is Power.RUNNING
    assert not second.plan.steps


async def test_a_new_kernel_goes_through_a_candidate(side: XenSide) -> None:
    await reconcile(side, {"web": wanted(side)})
    (side.folder / "boot" / "new").write_text("another kernel")
    specs = {"web": wanted(side, "new")}
    update = await reconcile(side, specs)
    assert "promote" in " ".join(step.step.kind for step in update.plan.steps)
    assert not (await look(side, specs)).plan.steps


async def test_a_kernel_that_panics_falls_back_and_is_not_tried_again(side: XenSide) -> None:
    await reconcile(side, {"web": wanted(side)})
    (side.folder / "boot" / "bad").write_text("BOOM")
    specs = {"web": wanted(side, "bad")}
    update = await reconcile(side, specs)
    assert update.result is not None
    assert update.result.failed
    web = (await look(side, specs)).host.guests["web"]
    assert web.power is Power.RUNNING
    assert web.running is not None
    assert web.running.kernel is not None
    assert "vmlinuz" in web.running.kernel.path
    assert len(web.quarantine) == 1
    assert not (await look(side, specs)).plan.steps


async def test_a_domain_that_a_person_made_is_adopted(side: XenSide) -> None:
    uuid = make_domain(side.settings).uuid
    (side.folder / "disks" / "web.img").write_bytes(bytes(1 << 20))
    file = side.folder / "etc" / "web.cfg"
    file.write_text(
        f"""name = 'web'
uuid = '{uuid}'
kernel = '{side.folder}/boot/vmlinuz'
extra = 'root=xbd0a'
memory = 128
maxmem = 512
vcpus = 1
maxvcpus = 4
cpu_cap = 50
disk = ['file:{side.folder}/disks/web.img,xvda,w']
vif = ['mac=00:16:3e:00:00:01,bridge=xenbr0']
"""
    )
    connection = side.executor().connection
    assert (await connection.run(["xm", "create", str(file)])).exit_code == 0
    found = (await look(side, {})).host.guests["web"]
    assert found.owner is Owner.UNMANAGED
    assert found.running is not None
    specs = {"web": replace(wanted(side), on_crash="restart")}
    adopted = await reconcile(side, specs, Consent(adopt=frozenset({"alpha/web"})))
    assert adopted.result is not None
    assert not adopted.result.failed
    assert not adopted.plan.diagnostics
    after = (await look(side, specs)).host.guests["web"]
    assert after.owner is Owner.OURS
    assert file.read_text().isascii()
    assert "file:" in file.read_text()


async def test_shutdown_destroy_and_removal(side: XenSide) -> None:
    db = make_domain(side.settings, "db", 2, kernel=wanted(side).kernel, policy=wanted(side).policy)
    await reconcile(side, {"web": wanted(side), "db": db})
    stopped = await reconcile(side, {"web": replace(wanted(side), state="stopped"), "db": db})
    assert stopped.result is not None
    assert not stopped.result.failed
    assert (await look(side, {"db": db})).host.guests["web"].power is Power.ABSENT
    await reconcile(side, {"db": db})
    assert set((await look(side, {"db": db})).host.guests) == {"db"}
