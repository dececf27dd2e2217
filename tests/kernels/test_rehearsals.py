"""A new kernel is booted beside the running domain first: one that does not boot costs no down time."""

from __future__ import annotations

import json
from threading import Thread
from typing import Any

import pytest

from reconciler.apply.result import StepResult
from reconciler.plan.steps import PlannedStep
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedExecutor
from reconciler.simulated.store import Store

from .fleet import BETTER, DB, GOOD, SETTINGS, WEB, Fleet, Watcher, watched_by
from .test_cut_short import Killed

REQUIRED, IF_POSSIBLE = WEB + 'rehearse = "required"\n', WEB + 'rehearse = "if-possible"\n'
PANICS = 'boot = "panic"'


@pytest.fixture
def rehearsed(running: Fleet) -> Fleet:
    """web is to be rehearsed before each restart for new boot inputs."""
    running.write("alpha/web.toml", REQUIRED)
    return running


def held(fleet: Fleet) -> tuple[dict[str, str], list[str]]:
    """What the host holds: its domains with their states, and its files of rehearsals and in /srv."""
    store = Store(fleet.folder / ".state", "alpha")
    look = Hand(settings=SETTINGS, fleet="default", state_dir=fleet.folder / ".state").look()
    files = [path for path in store.read().files if path.startswith("/srv/") or "/.rehearsals/" in path]
    return {one["name"]: one["power"] for one in look["domains"]}, sorted(files)


def plan(fleet: Fleet) -> Any:
    return json.loads(fleet.run("plan", "--json").out)


def test_a_kernel_that_panics_costs_its_domain_nothing(rehearsed: Fleet) -> None:
    boot = rehearsed.boot()
    rehearsed.kernel("web", PANICS)
    failed = rehearsed.apply()
    assert failed.code == 1
    assert "In its rehearsal web did not get ready: it crashed after a panic" in failed.out
    assert "alpha/web runs as before: it failed its rehearsal, and never went down." in failed.out
    assert rehearsed.boot() == boot
    assert held(rehearsed) == ({"db": "running", "web": "running"}, ["/srv/web"])
    assert [entry.reason[:16] for entry in rehearsed.guest().quarantine] == ["In its rehearsal"]

    again = rehearsed.apply()
    assert (again.code, rehearsed.boot()) == (3, boot)
    assert "quarantined" in again.out


@pytest.mark.parametrize("behaviour", ['boot = "hang"', 'boot = "reboot-loop"'])
def test_one_that_hangs_or_reboots_itself_does_not_either(rehearsed: Fleet, behaviour: str) -> None:
    boot = rehearsed.boot()
    rehearsed.kernel("web", behaviour)
    assert rehearsed.apply().code == 1
    assert (rehearsed.boot(), rehearsed.runs()) == (boot, GOOD)
    assert held(rehearsed)[1] == ["/srv/web"]


def test_a_kernel_that_boots_is_rehearsed_and_then_run(rehearsed: Fleet) -> None:
    rehearsed.kernel("web", BETTER)
    made = plan(rehearsed)
    steps = [step for step in made["steps"] if step["address"] == "alpha/web"]
    kinds = [step["kind"] for step in steps]
    assert kinds[:5] == ["stage_image", "rehearse", "rehearse_end", "write_config", "shutdown"]
    rehearse, end = steps[1:3]
    assert rehearse["memory_kib"] == -end["memory_kib"] == 260 * 1024
    assert [one["way"] for one in rehearse["snapshots"]] == ["reflink"]
    change = next(one for one in made["changes"] if one["address"] == "alpha/web")
    assert (change["rehearsal"]["name"], change["rehearsal"]["without"]) == ("web.rehearsal", None)
    applied = rehearsed.apply()
    assert (applied.code, rehearsed.runs()) == (0, BETTER)
    assert "alpha/web was rehearsed first: what it was to boot got ready beside it." in applied.out
    assert held(rehearsed) == ({"db": "running", "web": "running"}, ["/srv/web"])
    assert plan(rehearsed)["steps"] == []


def test_what_is_live_takes_no_rehearsal(rehearsed: Fleet) -> None:
    rehearsed.write("alpha/web.toml", REQUIRED.replace("memory = 256", "memory = 200"))
    assert [step["kind"] for step in plan(rehearsed)["steps"]] == ["set_memory", "write_config"]


def test_a_good_kernel_is_not_condemned_where_the_one_that_runs_fails_as_well(rehearsed: Fleet) -> None:
    rehearsed.write("alpha/web.toml", REQUIRED + '[ready]\nconsole = "a peer that no rehearsal has"\ntimeout = "20s"\n')
    rehearsed.kernel("web", BETTER)
    boot = rehearsed.boot()
    failed = rehearsed.apply()
    assert failed.code == 1
    assert "what runs now did not get ready in the same way" in failed.out
    assert rehearsed.boot() == boot
    assert not [entry for entry in rehearsed.guest().quarantine if entry.holds_boot]

    blocked = rehearsed.run("plan")
    assert blocked.code == 3  # it is not made again for the same
    assert "its rehearsal said nothing about the kernel" in blocked.out
    assert "--retry alpha/web" in blocked.out
    assert rehearsed.apply("--retry", "alpha/web").code == 1  # made once more
    rehearsed.write("alpha/web.toml", REQUIRED)
    assert (rehearsed.apply().code, rehearsed.runs()) == (0, BETTER)


def test_if_possible_restarts_all_the_same_and_says_so(running: Fleet) -> None:
    running.write("alpha/web.toml", IF_POSSIBLE + '[ready]\nconsole = "better"\ntimeout = "20s"\n')
    running.kernel("web", BETTER + "\nwrites_mib = 500.0")  # its snapshot fills up, so the rehearsal says nothing
    running.write(
        "alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n[rehearsal]\nkeep_free = "1022GiB"\n'
    )
    applied = running.apply()
    assert applied.code == 0
    assert "alpha/web restarts without a rehearsal, which said nothing" in applied.out
    assert "which are kept free" in applied.out
    assert running.guest().quarantine == ()


def test_a_snapshot_that_fills_up_is_the_hosts_fault(running: Fleet) -> None:
    running.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv", "vg0"]\n')
    lv = REQUIRED.replace('path = "/srv/web"', 'lv = "vg0/web"') + "[ready]\nmin_seconds = 30\n"
    running.write("alpha/w2.toml", lv)
    running.kernel("web", GOOD)
    assert running.apply().code == 0
    boot = running.boot("w2")
    running.kernel("web", BETTER + "\nwrites_mib = 100.0")
    failed = running.apply("--target", "alpha/w2")
    assert failed.code == 1
    assert "the snapshot /dev/vg0/w2.rehearsal-xvda is full" in failed.out
    assert running.boot("w2") == boot
    assert running.guest("w2").quarantine == ()
    assert held(running)[1] == ["/srv/web"]


def test_without_memory_for_it_required_blocks_and_if_possible_goes_on(running: Fleet) -> None:
    small = 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n[simulated]\nmemory = 800\n'
    running.write("alpha/host.toml", small)
    running.write("alpha/web.toml", REQUIRED)
    running.kernel("web", BETTER)
    blocked = running.run("plan")
    assert blocked.code == 3
    assert "its rehearsal needs 260 MiB of memory" in blocked.out
    running.write("alpha/web.toml", IF_POSSIBLE)
    shown = running.run("plan")
    assert "is restarted without a rehearsal: its rehearsal needs 260 MiB of memory" in shown.out
    assert (running.apply().code, running.runs()) == (0, BETTER)


def test_several_disks_are_of_one_instant_only_while_their_domain_is_paused(running: Fleet) -> None:
    second = '[[disk]]\nvdev = "xvdb"\npath = "/srv/more"\nsize = "1GiB"\n'
    two = 'kernel = "kernels/web"\nmemory = 256\nrehearse = "required"\n[[disk]]\nvdev = "xvda"\npath = "/srv/web"\n'
    running.write("alpha/web.toml", two + second)
    assert running.apply().code == 0
    running.kernel("web", BETTER)
    assert "can be snapshot at one instant only while it is paused" in running.run("plan").out
    running.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n[rehearsal]\npause = true\n')
    step = next(step for step in plan(running)["steps"] if step["kind"] == "rehearse")
    assert (step["pause_seconds"], len(step["snapshots"])) == (2, 2)
    running.kernel("web", PANICS)
    failed = json.loads(running.run("apply", "--yes", "--json").out)
    assert [(one["outcome"], one["paused_seconds"]) for one in failed["outages"]] == [("untouched", 4.0)]  # twice
    assert "was paused for 4.0 s" in failed["failed"][0]["problem"]["hint"]
    past = json.loads(running.run("history", "--json", "--target", "alpha/web").out)["applies"][0]
    assert [one["paused_seconds"] for one in past["steps"] if one["kind"] == "rehearse"] == [4.0]

    running.kernel("web", BETTER + "\n")
    applied = running.apply()
    assert "alpha/web was paused for 2.0 s, for its snapshots" in applied.out


def killed_amid_a_rehearsal(rehearsed: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedExecutor, "look_at_rehearsal", dies)
        patch.setattr(SimulatedExecutor, "end_rehearsal", dies)
        with pytest.raises(Killed):
            rehearsed.apply()


def test_what_a_killed_run_left_of_a_rehearsal_is_taken_down_by_the_next(
    rehearsed: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed.kernel("web", BETTER)
    killed_amid_a_rehearsal(rehearsed, monkeypatch)
    domains, files = held(rehearsed)
    assert domains["web.rehearsal"] == "running"
    assert "/srv/web.rehearsal-xvda" in files
    assert rehearsed.run("status").out.count("rehearsal") == 0  # nothing of it is a domain of the fleet
    assert plan(rehearsed)["unmanaged"] == []

    rehearsed.kernel("web", GOOD)  # nothing is to do but that
    assert rehearsed.apply().code == 0
    assert held(rehearsed) == ({"db": "running", "web": "running"}, ["/srv/web"])


def test_a_saved_plan_takes_down_what_is_left_first(rehearsed: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed.kernel("web", BETTER)
    killed_amid_a_rehearsal(rehearsed, monkeypatch)
    rehearsed.run("plan", "--out", "saved")
    assert rehearsed.run("apply", "--yes", "saved").code == 0
    assert rehearsed.runs() == BETTER
    assert held(rehearsed) == ({"db": "running", "web": "running"}, ["/srv/web"])


def test_a_domain_that_only_has_such_a_name_is_left_alone(rehearsed: Fleet) -> None:
    hand = Hand(settings=SETTINGS, fleet="default", state_dir=rehearsed.folder / ".state")
    hand.create("web.rehearsal")
    rehearsed.kernel("web", BETTER)
    assert plan(rehearsed)["unmanaged"] == ["alpha/web.rehearsal"]
    blocked = rehearsed.apply()
    assert blocked.code == 3
    assert "there is a domain web.rehearsal on alpha, which is none of our rehearsals" in blocked.out
    assert held(rehearsed)[0]["web.rehearsal"] == "running"


class _Witness(Watcher):
    """Looks at the host whenever something happens: which domain writes to which disk."""

    def __init__(self, fleet: Fleet) -> None:
        self.boots: set[str | None] = set()
        self.shared: list[str] = []
        self._fleet = fleet

    def started(self, step: PlannedStep) -> None:
        self.look()

    def noted(self, step: PlannedStep, text: str) -> None:
        self.look()

    def finished(self, result: StepResult) -> None:
        self.look()
        if result.step.step.kind == "rehearse" and result.problem is None:
            self.boots.clear()

    def look(self) -> None:
        self.boots.add(self._fleet.boot())
        instances = Store(self._fleet.folder / ".state", "alpha").read().instances
        live = [one.definition for one in instances.values() if one.exists]
        written = [disk.target for one in live for disk in one.disks if disk.access == "rw"]
        self.shared += [target for target in written if written.count(target) > 1]


def test_no_two_domains_ever_write_one_disk_and_the_live_one_stays_as_it_is(
    rehearsed: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = rehearsed.boot()
    rehearsed.kernel("web", PANICS)
    witness = _Witness(rehearsed)
    with watched_by(witness, monkeypatch):
        assert rehearsed.apply().code == 1
    assert (witness.boots, witness.shared) == ({boot}, [])


def test_a_hold_keeps_a_rehearsal_from_beginning(rehearsed: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed.kernel("web", BETTER)

    class Holds(Watcher):
        def finished(self, result: StepResult) -> None:
            if result.step.step.kind == "stage_image":
                holding = Thread(target=rehearsed.run, args=("hold", "alpha/web"))  # from another terminal
                holding.start()
                holding.join()

    with watched_by(Holds(), monkeypatch):
        assert rehearsed.apply().code == 3
    assert held(rehearsed)[0].keys() == {"web", "db"}
    assert rehearsed.runs() == GOOD


def test_a_rehearsal_that_fails_stops_its_wave(rehearsed: Fleet) -> None:
    rehearsed.write("alpha/web.toml", REQUIRED + "wave = -1\n")
    rehearsed.write("alpha/db.toml", DB + 'rehearse = "if-possible"\n')
    boots = rehearsed.boot(), rehearsed.boot("db")
    rehearsed.kernel("web", PANICS)
    rehearsed.kernel("db", BETTER)
    assert rehearsed.apply().code == 1
    assert (rehearsed.boot(), rehearsed.boot("db")) == boots


def test_a_note_on_what_a_rehearsal_proves_keeps_nothing_that_no_spec_names(running: Fleet) -> None:
    running.write("alpha/web.toml", REQUIRED)
    (running.folder / "specs/alpha/db.toml").unlink()
    shown = running.run("plan")
    assert "A required rehearsal that proves little" in shown.err + shown.out
    assert "cannot be read" not in shown.out
    assert "- alpha/db  destroy" in shown.out
