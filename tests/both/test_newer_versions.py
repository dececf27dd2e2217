"""What a newer version wrote on a host is seen, and refused by every step on its files, on real and simulated hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.host import Quarantined
from reconciler.plan.steps import PromoteConfig, RemoveConfig, SetQuarantine, Step, WriteConfig
from reconciler.simulated.store import Store
from reconciler.texts.mark import FORMAT, MARK_PREFIX
from tests.both.passes import look
from tests.both.sides import Side, SimulatedSide, make_domain, make_sides, outcome_of, started

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["xl", "simulated"])
def side(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    real, simulated = make_sides(tmp_path, monkeypatch)
    return real if request.param == "xl" else simulated


def read(side: Side, path: str) -> bytes:
    if isinstance(side, SimulatedSide):
        store = Store(side.folder / ".state", side.settings.name)
        return store.content(store.read(), path)
    return Path(path).read_bytes()


def write(side: Side, path: str, content: bytes) -> None:
    if isinstance(side, SimulatedSide):
        store = Store(side.folder / ".state", side.settings.name)
        with store.change() as stored:
            store.put(stored, path, content)
    else:
        Path(path).write_bytes(content)


def upgraded(text: bytes) -> bytes:
    head, rest = text.decode().split(MARK_PREFIX, 1)
    line, body = rest.split("\n", 1)
    return f"{head}{MARK_PREFIX}{json.dumps({**json.loads(line), 'format': FORMAT + 1})}\n{body}".encode()


@pytest.mark.parametrize("kind", ["write", "adopt", "promote", "remove"])
async def test_no_step_writes_over_a_config_file_of_a_newer_version(side: Side, kind: str) -> None:
    web = make_domain(side.settings)
    assert not (await outcome_of(side, started(web))).failed
    path = f"{side.settings.config_dir}/web.cfg"
    newer = upgraded(read(side, path))
    write(side, path, newer)
    steps: dict[str, Step] = {
        "write": WriteConfig(definition=web),
        "adopt": WriteConfig(definition=web, adopt=True),
        "promote": PromoteConfig(domain="web", first_boot=True),
        "remove": RemoveConfig(domain="web"),
    }
    outcome = await outcome_of(side, (steps[kind],))
    assert "a newer version" in outcome.why
    assert read(side, path) == newer


@pytest.mark.parametrize("entries", [(), (Quarantined(boot="1" * 64),)], ids=["lifted", "set"])
async def test_no_step_writes_over_a_list_of_failed_boots_of_a_newer_version(
    side: Side, entries: tuple[Quarantined, ...]
) -> None:
    web = make_domain(side.settings)
    assert not (await outcome_of(side, started(web))).failed
    path, newer = f"{side.settings.kernel_dir}/web/quarantine.json", b'{"format": 2, "entries": []}\n'
    write(side, path, newer)
    outcome = await outcome_of(side, (SetQuarantine(domain="web", entries=entries),))
    assert "a newer version" in outcome.why
    assert read(side, path) == newer


@pytest.mark.parametrize("name", ["config", "candidate.cfg", "previous.cfg", "quarantine.json"])
async def test_it_is_seen_and_left_alone_with_and_without_a_spec(side: Side, name: str) -> None:
    web = make_domain(side.settings)
    assert not (await outcome_of(side, started(web))).failed
    config = f"{side.settings.config_dir}/web.cfg"
    path = config if name == "config" else f"{side.settings.kernel_dir}/web/{name}"
    write(side, path, b'{"format": 2}' if name == "quarantine.json" else upgraded(read(side, config)))
    other = make_domain(side.settings, "other", 2)
    for specs in ({"web": web, "other": other}, {"other": other}):
        for consent in (Consent(), Consent(adopt=frozenset({"alpha/web"}))):
            plan = (await look(side, specs, consent)).plan
            change = next(change for change in plan.changes if change.domain == "web")
            assert change.action is Action.BLOCKED
            assert "a newer version of reconciler manages it" in change.reason
            assert not [step for step in plan.steps if step.address == "alpha/web"]
