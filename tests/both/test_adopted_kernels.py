"""An adopted domain runs from a file of its host, which may change or go: that is never taken for what runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Image, Policy, Ready
from reconciler.plan.steps import PromoteConfig, WriteConfig
from tests.both.passes import look, reconcile
from tests.both.sides import XenSide, make_domain, make_sides

pytestmark = pytest.mark.anyio
ADOPT = Consent(adopt=frozenset({"alpha/web"}))


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> XenSide:
    return make_sides(tmp_path, monkeypatch)[0]


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    return tmp_path / "boot" / "vmlinuz"


@pytest.fixture
def wanted(side: XenSide, kernel: Path) -> Domain:
    """A domain whose spec names the file that it was started from by hand."""
    web = make_domain(side.settings, disks=(), vifs=(), policy=Policy(ready=Ready(min_seconds=0)))
    return replace(web, kernel=Image(sha256="", source=str(kernel)))


@pytest.fixture
def by_hand(side: XenSide, kernel: Path) -> Callable[[Domain], None]:
    """Have the domain run from a config file that a person wrote."""

    def start(domain: Domain) -> None:
        lines = [f'name = "{domain.name}"', f'uuid = "{domain.uuid}"', f'kernel = "{kernel}"', "memory = 128"]
        Path(f"{side.settings.config_dir}/web.cfg").write_text("\n".join([*lines, "maxmem = 512", "maxvcpus = 4"]))
        built = {"max_vcpus": 4, "avail_vcpus": [0], "max_memkb": 512 << 10, "target_memkb": 128 << 10}
        created = {"type": "pv", "name": domain.name, "uuid": domain.uuid}
        config = {"c_info": created, "b_info": built | {"kernel": str(kernel)}, "on_reboot": "restart"}
        row = {"name": domain.name, "uuid": domain.uuid, "vcpus": 1, "domid": 1, "mib": 128, "state": "-b----"}
        side.write([row | {"config": config, "behaviour": {}}])

    return start


def short(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def shown(content: str) -> str:
    return f"vmlinuz ({short(content)})"


async def test_other_bytes_there_are_a_change_that_has_to_prove_itself(
    side: XenSide, kernel: Path, wanted: Domain, by_hand: Callable[[Domain], None]
) -> None:
    kernel.write_text("OLD")
    by_hand(wanted)
    adopted = await reconcile(side, {"web": wanted}, ADOPT)
    assert [change.action for change in adopted.plan.changes] == [Action.ADOPT]
    assert adopted.result is not None
    assert not adopted.result.failed
    (change,) = (await look(side, {"web": wanted})).plan.changes
    assert change.action is Action.NO_OP, change.reason

    kernel.write_text("NEW")
    seen = await look(side, {"web": wanted})
    (change,) = seen.plan.changes
    (field,) = change.fields
    assert (change.action, field.path) == (Action.RESTART, "kernel")
    assert (field.before, field.after) == (shown("OLD"), shown("NEW"))
    assert any(isinstance(step.step, PromoteConfig) for step in seen.plan.steps)
    assert all(step.step.candidate for step in seen.plan.steps if isinstance(step.step, WriteConfig))

    live = replace(wanted, cpu_weight=512, policy=replace(wanted.policy, restart="defer"))
    await reconcile(side, {"web": live})  # also after the config file was written anew
    (change,) = (await look(side, {"web": live})).plan.changes
    assert tuple(map(str, change.pending)) == ("kernel needs a restart",)
    kept = (await look(side, {"web": live})).host.guests["web"].config
    assert kept is not None
    assert kept.kernel is not None
    assert kept.kernel.path == f"{side.settings.kernel_dir}/web/vmlinuz.{short('OLD')}"

    done = await reconcile(side, {"web": wanted})
    assert done.result is not None
    assert not done.result.failed
    guest = (await look(side, {"web": wanted})).host.guests["web"]
    assert guest.running is not None
    assert guest.running.kernel == guest.config.kernel if guest.config is not None else None
    assert guest.previous is not None
    assert guest.previous.kernel is not None
    assert guest.previous.kernel.short == short("OLD")


async def test_a_file_that_vanishes_changes_nothing_and_the_staged_bytes_go_on(
    side: XenSide, kernel: Path, wanted: Domain, by_hand: Callable[[Domain], None]
) -> None:
    kernel.write_text("OLD")
    by_hand(wanted)
    await reconcile(side, {"web": wanted}, ADOPT)
    config = Path(f"{side.settings.config_dir}/web.cfg")
    before, staged = config.read_text(), Path(f"{side.settings.kernel_dir}/web/vmlinuz.{short('OLD')}")
    kernel.unlink()
    seen = await reconcile(side, {"web": wanted})
    assert [change.action for change in seen.plan.changes] == [Action.NO_OP]
    assert [problem.summary for problem in seen.plan.diagnostics] == ["Kernel file not found on the host"]
    assert (config.read_text(), staged.read_text()) == (before, "OLD")
    side.write([])
    assert [change.action for change in (await reconcile(side, {"web": wanted})).plan.changes] == [Action.START]
    running = (await look(side, {"web": wanted})).host.guests["web"].running
    assert running is not None
    assert running.kernel is not None
    assert running.kernel.path == str(staged)


async def test_what_was_never_recorded_is_unknown(
    side: XenSide, kernel: Path, wanted: Domain, by_hand: Callable[[Domain], None]
) -> None:
    """Of ours, started by hand from another file: what that holds now is not what runs."""
    kernel.write_text("OLD")
    done = await reconcile(side, {"web": wanted})
    assert done.result is not None
    assert not done.result.failed
    config = Path(f"{side.settings.config_dir}/web.cfg")
    ours = config.read_text()
    by_hand(wanted)
    config.write_text(ours)
    (change,) = (await look(side, {"web": wanted})).plan.changes
    (field,) = change.fields
    assert (change.action, field.before, field.after) == (Action.RESTART, str(kernel), shown("OLD"))


async def test_another_kernel_in_the_spec_waits_and_what_ran_is_staged(
    side: XenSide, kernel: Path, wanted: Domain, by_hand: Callable[[Domain], None]
) -> None:
    kernel.write_text("OLD")
    other = kernel.with_name("other")
    other.write_text("OTHER")
    by_hand(wanted)
    spec = replace(wanted, kernel=Image(sha256="", source=str(other)))
    adopted = await reconcile(side, {"web": spec}, ADOPT)
    assert tuple(map(str, adopted.plan.changes[0].pending)) == ("kernel needs a restart",)
    seen = await look(side, {"web": spec})
    config = seen.host.guests["web"].config
    assert config is not None
    assert config.kernel is not None
    assert config.kernel.path == f"{side.settings.kernel_dir}/web/vmlinuz.{short('OLD')}"
    (change,) = seen.plan.changes
    assert [(field.before, field.after) for field in change.fields] == [(shown("OLD"), f"other ({short('OTHER')})")]


@pytest.mark.parametrize("missing", ["what the spec asks for", "what it booted"])
async def test_nothing_is_taken_over_that_nobody_could_start_again(
    side: XenSide, kernel: Path, wanted: Domain, by_hand: Callable[[Domain], None], missing: str
) -> None:
    other = kernel.with_name("other")
    other.write_text("OTHER")
    by_hand(wanted)
    config = Path(f"{side.settings.config_dir}/web.cfg")
    before = config.read_text()
    (other if missing == "what the spec asks for" else kernel).unlink()
    spec = replace(wanted, kernel=Image(sha256="", source=str(other)))
    seen = await reconcile(side, {"web": spec}, ADOPT)
    (change,) = seen.plan.changes
    assert change.action is Action.BLOCKED
    gone = other if missing == "what the spec asks for" else kernel
    assert str(gone) in (change.blocked or "")
    assert (seen.plan.steps, config.read_text()) == ((), before)
