"""A password that a spec names by a file of the host: it is put into config files there, and goes nowhere else."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.dom0.connection import Connection
from reconciler.model.domain import Domain, Policy, Ready, canonical_json
from reconciler.show.documents import plan_document
from reconciler.simulated.hand import Hand
from reconciler.simulated.store import Store
from tests.both.passes import NONE, Pass, look, reconcile
from tests.both.sides import FLEET, Side, SimulatedSide, make_domain, make_sides

pytestmark = pytest.mark.anyio

ADOPT = Consent(adopt=frozenset({"alpha/web"}))
FIRST, SECOND = 'hun"ter\\2', "swordfish"


class Screen:
    """A side with a domain `web` whose password lies in a file of the host."""

    def __init__(self, side: Side, folder: Path) -> None:
        self.side = side
        self.folder = folder
        self.file = str(folder / "web.vncpasswd")
        ready = Policy(ready=Ready(min_seconds=0))
        self.web = make_domain(side.settings, vifs=(), policy=ready, xl=(("vnc", 1), ("vncpasswd_file", self.file)))

    def put(self, secret: str) -> None:
        if isinstance(self.side, SimulatedSide):
            self._hand.put(self.file, f"{secret}\n".encode())
        else:
            Path(self.file).write_text(f"{secret}\n")

    @property
    def _hand(self) -> Hand:
        return Hand(settings=self.side.settings, fleet=FLEET, state_dir=self.folder / ".state")

    def config(self) -> str:
        """The text of the config file on the host."""
        if not isinstance(self.side, SimulatedSide):
            return (self.folder / "etc/web.cfg").read_text()
        store = Store(self.folder / ".state", "alpha")
        return store.content(store.read(), f"{self.side.settings.config_dir}/web.cfg").decode()

    async def reconcile(self, web: Domain | None = None, consent: Consent = NONE) -> Pass:
        return await reconcile(self.side, {"web": web or self.web}, consent)

    async def look(self) -> Pass:
        return await look(self.side, {"web": self.web})

    async def make_by_hand(self, secret: str) -> None:
        """Have the domain run from a config file that a person wrote, with the password in it."""
        written = (("vnc", 1), ("vncpasswd", secret))
        assert (await self.reconcile(replace(self.web, xl=written))).result is not None
        text = "".join(line for line in self.config().splitlines(keepends=True) if not line.startswith("#"))
        if isinstance(self.side, SimulatedSide):
            self._hand.put(f"{self.side.settings.config_dir}/web.cfg", text.encode())
        else:
            (self.folder / "etc/web.cfg").write_text(text)


@pytest.fixture(params=["xl", "simulated"])
def screen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Screen:
    xen, simulated = make_sides(tmp_path, monkeypatch)
    return Screen(xen if request.param == "xl" else simulated, tmp_path)


async def test_a_password_goes_from_its_file_into_the_config_file_and_nowhere_else(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    script = Connection.script

    async def listening(self: Connection, text: str, **more: object) -> object:
        result = await script(self, text, **more)  # type: ignore[arg-type]  # as it was given
        sent.extend([text.encode(), *(more.get("input") or ())])  # type: ignore[misc]  # bytes
        return result

    monkeypatch.setattr(Connection, "script", listening)
    screen.put(FIRST)
    made = await screen.reconcile()
    seen = await screen.look()

    assert made.result is not None
    assert not made.result.failed
    assert [change.action for change in seen.plan.changes] == [Action.NO_OP]
    assert 'vncpasswd = "hun\\"ter\\\\2"\n' in screen.config()
    told = canonical_json([sorted(seen.host.guests.items()), [str(step) for step in made.plan.steps]])
    told += canonical_json(plan_document(made.plan))
    assert "hun" not in told + b"".join(sent).decode(errors="replace")
    if not isinstance(screen.side, SimulatedSide):
        for name in ("etc/web.cfg", "kernels/web/started"):
            assert stat.S_IMODE((screen.folder / name).stat().st_mode) == 0o600, name


async def test_another_password_in_the_file_restarts_the_domain_through_a_candidate(screen: Screen) -> None:
    screen.put(FIRST)
    await screen.reconcile()
    screen.put(SECOND)

    (change,) = (await screen.look()).plan.changes
    (field,) = change.fields
    assert (change.action, field.path) == (Action.RESTART, "xl.vncpasswd_file")
    assert "as it was before" in str(field.before)

    done = await screen.reconcile()
    assert done.result is not None
    assert not done.result.failed
    assert f'vncpasswd = "{SECOND}"\n' in screen.config()
    (change,) = (await screen.look()).plan.changes
    assert change.action is Action.NO_OP, change.reason


async def test_what_is_changed_meanwhile_leaves_the_password_as_it_was_before(screen: Screen) -> None:
    """A config file that gained the new one without a restart would hide that the domain runs with the old one."""
    screen.put(FIRST)
    await screen.reconcile()
    screen.put(SECOND)
    deferred = replace(screen.web, memory_kib=256 * 1024, policy=replace(screen.web.policy, restart="defer"))

    await screen.reconcile(deferred)

    assert 'vncpasswd = "hun\\"ter\\\\2"\n' in screen.config()
    (change,) = (await screen.look()).plan.changes
    assert change.action is Action.RESTART


async def test_a_domain_that_runs_with_it_is_taken_over_without_a_restart(screen: Screen) -> None:
    screen.put(FIRST)
    await screen.make_by_hand(FIRST)
    adopted = await screen.reconcile(consent=ADOPT)

    (change,) = adopted.plan.changes
    assert (change.action, change.fields, change.pending) == (Action.ADOPT, (), ())
    assert adopted.result is not None
    assert not adopted.result.failed
    assert f"{screen.file}\nvncpasswd = " in screen.config()
    (change,) = (await screen.look()).plan.changes
    assert change.action is Action.NO_OP, change.reason

    screen.put(SECOND)
    (change,) = (await screen.look()).plan.changes
    assert change.action is Action.RESTART


async def test_a_file_in_place_of_the_password_in_the_spec_restarts_nothing(screen: Screen) -> None:
    screen.put(FIRST)
    await screen.reconcile(replace(screen.web, xl=(("vnc", 1), ("vncpasswd", FIRST))))
    (change,) = (await screen.reconcile()).plan.changes
    assert change.action is Action.UPDATE, change.reason
    assert f"{screen.file}\nvncpasswd = " in screen.config()
    (change,) = (await screen.look()).plan.changes
    assert change.action is Action.NO_OP, change.reason


async def test_one_that_runs_with_another_waits_for_a_restart(screen: Screen) -> None:
    screen.put(SECOND)
    await screen.make_by_hand(FIRST)
    (change,) = (await screen.reconcile(consent=ADOPT)).plan.changes
    assert (change.action, change.would) == (Action.ADOPT, Action.RESTART)
    assert FIRST not in str(change.fields)
    (change,) = (await screen.reconcile()).plan.changes
    assert change.action is Action.RESTART
    assert f'vncpasswd = "{SECOND}"\n' in screen.config()


async def test_a_password_that_is_not_there_blocks_its_domain(screen: Screen) -> None:
    if isinstance(screen.side, SimulatedSide):
        pytest.skip("a simulated host has each file that nobody put there")
    (change,) = (await screen.look()).plan.changes
    assert change.action is Action.BLOCKED
    assert f"{screen.file}, which holds a password of it, is not there" in (change.blocked or "")

    screen.put("")
    failed = (await screen.reconcile()).result
    assert failed is not None
    assert "is empty" in str(failed.failed)
    assert not (screen.folder / "etc/web.cfg").exists()
