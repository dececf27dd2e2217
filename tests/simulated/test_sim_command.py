"""`reconciler sim HOST …`: what a person does to a simulated host, and what it says when it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.act.sim import sim_group
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import Diagnostic, ReconcilerError
from reconciler.model.host import Owner, Power
from tests.simulated.world import GIB_KIB, World, domain, make_world, shutdown

HOST_TOML = 'toolstack = "simulated"\n[simulated]\nmemory = "4GiB"\ncpus = 2\n'


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for host, text in (("alpha", HOST_TOML), ("real", 'toolstack = "xl"\nconnect = "ssh://root@example.net"\n')):
        (root / host).mkdir(parents=True)
        (root / host / "host.toml").write_text(text)
    return root


class Sim:
    """`reconciler sim`, run in process on one state directory."""

    def __init__(self, specs: Path, state_dir: Path) -> None:
        self._specs = specs
        self._state_dir = state_dir

    def run(self, *args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(
            sim_group,
            list(args),
            obj=Settings(given_state_dir=self._state_dir, given_specs=self._specs),
            input=stdin,
        )

    def __call__(self, *args: str, stdin: bytes | None = None) -> Result:
        result = self.run(*args, stdin=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def refused(self, *args: str) -> Diagnostic:
        result = self.run(*args)
        assert isinstance(result.exception, ReconcilerError), (result.output, result.exception)
        return result.exception.diagnostics[0]

    def domains(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(self("alpha", "list", "--json").stdout)["domains"]}


@pytest.fixture
def sim(specs: Path, tmp_path: Path) -> Sim:
    return Sim(specs, tmp_path)


def test_an_empty_host_is_listed_with_its_size(sim: Sim, tmp_path: Path) -> None:
    listed = json.loads(sim("alpha", "list", "--json").stdout)
    assert (listed["memory_kib"], listed["free_kib"], listed["domains"]) == (4 * GIB_KIB, 4 * GIB_KIB - (128 << 10), [])
    assert not (tmp_path / "hosts").exists()


def test_a_domain_made_by_hand_is_unmanaged_and_holds_memory(sim: Sim, world: World) -> None:
    result = sim("alpha", "create", "legacy", "--memory", "1GiB")
    assert result.stdout == "", "messages go to stderr"
    assert sim.domains()["legacy"]["memory_kib"] == GIB_KIB
    assert sim.domains()["legacy"]["managed"] is False
    assert world.guest("legacy").owner is Owner.UNMANAGED
    table = sim("alpha", "list").stdout.splitlines()
    assert table[0].split() == ["Name", "ID", "Mem", "VCPUs", "State", "Managed"]
    assert table[1].split() == ["legacy", "1", "1024", "1", "running", "no"]
    assert table[2].endswith("of 4096 MiB free")


def test_a_managed_domain_is_listed_as_such_and_started_again_from_its_config(sim: Sim, world: World) -> None:
    world.start(domain())
    assert sim.domains()["web"]["managed"] is True
    sim("alpha", "destroy", "web")
    assert sim.domains() == {}
    assert world.guest().config == domain()
    sim("alpha", "create", "web")
    assert world.guest().running == domain()
    assert sim.domains()["web"]["boot"] == "2.0"


def test_a_guest_that_rebooted_is_listed_under_another_number(sim: Sim, world: World) -> None:
    world.start(domain())
    before = sim.domains()["web"]["domid"]
    sim("alpha", "reboot", "web")
    world.wait(60)
    after = sim.domains()["web"]["domid"]
    assert isinstance(after, int)
    assert after != before == 1
    assert sim("alpha", "list").stdout.splitlines()[1].split()[1] == str(after)


def test_put_copies_a_file_or_standard_input(sim: Sim, world: World, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"#!simulated-kernel\nboot = 'panic'\n")
    sim("alpha", "put", "/boot/k", str(tmp_path / "kernel"))
    sim("alpha", "put", "/etc/xen/hand.cfg", "-", stdin=b'name = "hand"\nmemory = 64\nkernel = "/boot/k"\n')
    sim("alpha", "create", "hand")
    world.wait(5)
    assert sim.domains() == {}, "its kernel panicked"
    guest = world.guest("hand")
    assert (guest.owner, guest.power, guest.config_exists) == (Owner.UNMANAGED, Power.ABSENT, True)


def test_crash_obeys_on_crash(sim: Sim, world: World) -> None:
    world.start(domain(on_crash="preserve"))
    sim("alpha", "crash", "web")
    assert sim.domains()["web"]["power"] == "crashed"
    assert sim.refused("alpha", "crash", "web").summary == "does not run"


def test_set_changes_what_runs_and_not_what_is_written(sim: Sim, world: World) -> None:
    world.start(domain(maxvcpus=4))
    sim("alpha", "set", "web", "memory=1024", "vcpus=3", "cmdline=quiet splash", "cap=50", "kernel=/boot/other")
    running = world.guest().running
    assert running is not None
    assert running.kernel is not None
    assert (running.memory_kib, running.vcpus, running.cmdline, running.cap) == (GIB_KIB, 3, "quiet splash", 50)
    assert running.kernel.path == "/boot/other"
    assert world.guest().config == domain(maxvcpus=4)


def test_set_changes_the_behaviour_of_the_running_guest(sim: Sim, world: World) -> None:
    world.start(domain())
    sim("alpha", "set", "web", "shutdown=ignore", "boot_seconds=2.5", "console=odd = signs")
    assert world.fail(shutdown(domain(), seconds=5)).summary == "did not shut down"
    assert "odd = signs" in (world.look().console or "")
    sim("alpha", "set", "web", "boot=panic")
    assert sim.domains() == {}


def test_set_power_makes_the_states_that_a_host_can_show(sim: Sim, world: World) -> None:
    world.start(domain())
    for power in Power:
        if power is not Power.ABSENT:
            sim("alpha", "set", "web", f"power={power}")
            assert world.guest().power is power


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("memory=4096", "maxmem, which is 1024 MiB"),
        ("memory=0", "more than 0"),
        ("memory=-5", 'not "-5"'),
        ("memory=1GB", "must be"),
        ("vcpus=9", "maxvcpus, which is 1"),
        ("vcpus=two", "it is a number"),
        ("cap=²", "it is a number"),
        ("kernel=boot", "absolute path"),
        ("power=off", "it can be running, paused"),
        ("boot=sideways", "boot:"),
        ("boot_seconds=soon", "could not convert"),
        ("boot_seconds=-1", "negative"),
        ("colour=red", "no key 'colour'"),
    ],
)
def test_set_refuses_what_cannot_be_and_changes_nothing(sim: Sim, world: World, assignment: str, words: str) -> None:
    world.start(domain())
    before = world.guest()
    problem = sim.refused("alpha", "set", "web", "cmdline=changed", assignment)
    assert words in problem.detail
    assert problem.address == "alpha/web"
    assert world.guest() == before


def test_what_does_not_exist_is_answered_with_what_does(sim: Sim) -> None:
    sim("alpha", "create", "one")
    sim("alpha", "create", "two")
    for verb in (["destroy"], ["crash"], ["set"]):
        problem = sim.refused("alpha", *verb, "three", *(["memory=64"] if verb == ["set"] else []))
        assert problem.hint == "The domains there are one, two."
    assert sim.refused("beta", "list").hint == "The hosts there are alpha, real."
    assert "toolstack xl" in sim.refused("real", "list").detail
    assert sim.refused("alpha", "fault", "gremlins").summary == "unknown fault"


@pytest.mark.parametrize(
    ("args", "summary"),
    [
        (["create", "7"], "no name for a domain"),
        (["create", "Domain-0"], "no name for a domain"),
        (["create", "big", "--memory", "4096"], "not enough memory"),
        (["put", "relative/path", "-"], "not an absolute path"),
        (["put", "/etc/../boot", "-"], "not an absolute path"),
        (["put", "/etc/", "-"], "not an absolute path"),
    ],
)
def test_what_cannot_be_done_is_refused(sim: Sim, args: list[str], summary: str) -> None:
    assert sim.refused("alpha", *args).summary == summary


def test_a_name_that_is_taken_is_refused(sim: Sim) -> None:
    sim("alpha", "create", "web")
    assert sim.refused("alpha", "create", "web").summary == "name taken"
    sim("alpha", "put", "/etc/xen/other.cfg", "-", stdin=b'name = "web"\nmemory = 64\nkernel = "/k"\n')
    assert sim.refused("alpha", "create", "other").summary == "name taken"


def test_a_config_file_that_xl_cannot_read_is_refused(sim: Sim) -> None:
    sim("alpha", "put", "/etc/xen/web.cfg", "-", stdin=b"memory = [")
    assert "xl cannot read the file" in sim.refused("alpha", "create", "web").detail


def test_a_config_file_without_a_uuid_gets_a_new_one_each_time(sim: Sim) -> None:
    sim("alpha", "put", "/etc/xen/web.cfg", "-", stdin=b'name = "web"\nmemory = 64\nkernel = "/k"\n')
    sim("alpha", "create", "web")
    first = sim.domains()["web"]["uuid"]
    sim("alpha", "destroy", "web")
    sim("alpha", "create", "web")
    assert len({first, sim.domains()["web"]["uuid"], ""}) == 3


@pytest.mark.parametrize(
    "args",
    [
        ["alpha", "create", "web", "--memory", "1GB"],
        ["alpha", "create", "web", "--memory", "0"],
        ["alpha", "set", "web", "memory"],
        ["alpha", "set", "web"],
        ["alpha", "put", "/boot/k", "/no/such/file"],
        ["alpha", "fault", "slow", "--times", "-1"],
        ["alpha", "explode"],
    ],
)
def test_wrong_usage_is_a_usage_error(sim: Sim, args: list[str]) -> None:
    result = sim.run(*args)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_faults_are_listed_until_they_are_met(sim: Sim, world: World) -> None:
    sim("alpha", "fault", "unreachable", "--times", "2")
    assert "faults to come: unreachable (2)" in sim("alpha", "list").stdout
    for _ in range(2):
        with pytest.raises(ReconcilerError):
            world.observe()
    assert "faults" not in sim("alpha", "list").stdout


def test_help_needs_no_specs(tmp_path: Path) -> None:
    result = Sim(tmp_path / "missing", tmp_path)("alpha", "list", "--help")
    assert "as `xl list` does" in result.stdout


def test_a_broken_tree_is_said_instead_of_an_unknown_host(sim: Sim, specs: Path) -> None:
    (specs / "alpha" / "host.toml").write_text("toolstack = 'simulated'\nmemory = 3\n")
    assert "host.toml" in str(sim.refused("alpha", "list").source)
    assert Sim(specs / "missing", specs).refused("alpha", "list").summary != "no such host"


def test_a_broken_domain_file_does_not_hinder_reaching_the_host(sim: Sim, specs: Path) -> None:
    (specs / "alpha" / "web.toml").write_text("memory = [")
    sim("alpha", "create", "legacy")
    assert set(sim.domains()) == {"legacy"}


def test_the_same_host_has_the_same_uuids_in_each_run(tmp_path: Path) -> None:
    def uuid_of(folder: str, seed: int) -> str:
        (tmp_path / folder).mkdir()
        world = make_world(tmp_path / folder, seed=seed)
        world.hand.create("web")
        running = world.guest().running
        assert running is not None
        return running.uuid

    assert uuid_of("a", 1) == uuid_of("b", 1) != uuid_of("c", 2)
