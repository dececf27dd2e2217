"""Steps on running domains, against a fake `xl` that keeps its domains in files and misbehaves as real ones did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.apply.follow import carry_out
from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.domain import Domain, Ready, Vif
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Power
from reconciler.plan.steps import AttachVif, AwaitReady, DetachVif, SetMemory, SetScheduler, SetVcpus, Shutdown, Start
from reconciler.xl import execute, lifecycle
from reconciler.xl.execute import XlExecutor
from reconciler.xl.look import CONSOLE_LOG, LOOK
from tests.fake_dom0 import INFO, TABLE_HEAD, UUID, FastClock, running_json, table_row, write_tool

pytestmark = pytest.mark.anyio

OTHER_UUID = "11111111-1111-2222-3333-444444444444"


@pytest.fixture
def executor(xen: Path, settings: HostSettings, tmp_path: Path) -> XlExecutor:
    return XlExecutor(settings, "default", None, tmp_path, clock=FastClock())


class Guests:
    """The domains of the fake host. `on` says what a command does, in sh, run in the host's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def show(self, *rows: str) -> None:
        (self._folder / "list").write_text(TABLE_HEAD + "".join(rows))

    def on(self, command: str, body: str) -> None:
        write_tool(self._folder, command, body)

    def later(self, name: str, *rows: str) -> str:
        """sh that makes these the domains from now on."""
        (self._folder / name).write_text(TABLE_HEAD + "".join(rows))
        return f"cp {name} list.new; mv list.new list"

    @property
    def calls(self) -> list[str]:
        return [
            call for call in (self._folder / "calls").read_text().splitlines() if not call.startswith(("list", "info"))
        ]


@pytest.fixture
def guests(xen: Path) -> Guests:
    return Guests(xen)


def ignore(text: str) -> None:
    """Progress is of no interest here."""


class TestStart:
    @pytest.fixture
    def step(self, make_domain: Callable[..., Domain]) -> Start:
        return Start(definition=make_domain())

    async def test_it_creates_from_the_config_or_the_candidate(
        self, executor: XlExecutor, guests: Guests, step: Start, settings: HostSettings
    ) -> None:
        files = (f"{settings.config_dir}/web.cfg", f"{settings.kernel_dir}/web/candidate.cfg")
        for candidate, file in zip((False, True), files, strict=True):
            guests.show()
            guests.on("create", guests.later("up", table_row("web", 5)))
            await executor.execute(replace(step, candidate=candidate), ignore)
            assert guests.calls[-1] == f"create {file}"

    async def test_losing_the_race_to_xendomains_is_success(
        self, executor: XlExecutor, guests: Guests, step: Start
    ) -> None:
        guests.show(table_row("web", 5))
        await executor.execute(step, ignore)
        guests.show()
        guests.on("create", f"{guests.later('up', table_row('web', 6))}; echo 'already exists' >&2; exit 3")
        await executor.execute(step, ignore)
        assert len(guests.calls) == 1

    async def test_only_what_the_console_shows_since_the_start_counts_whoever_looks(
        self,
        executor: XlExecutor,
        guests: Guests,
        step: Start,
        settings: HostSettings,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        log = tmp_path / "console.log"
        log.write_text("an earlier life: login:\n")
        find_log = f"log={log}\n"
        monkeypatch.setattr(lifecycle, "_CREATE", lifecycle._CREATE.replace(CONSOLE_LOG, find_log))
        monkeypatch.setattr(execute, "LOOK", LOOK.replace(CONSOLE_LOG, find_log))
        guests.show()
        guests.on("create", guests.later("up", table_row("web", 5)))
        await executor.execute(step, ignore)
        with log.open("a") as console:
            console.write("this life\n")
        for each in (executor, XlExecutor(settings, "default", None, tmp_path)):  # the second one did not start it
            assert (await each.look("web")).console == "this life\n"

    @pytest.mark.parametrize("runs", ["the candidate", "what was before"])
    async def test_what_runs_in_place_of_a_candidate_has_to_be_it(
        self, executor: XlExecutor, guests: Guests, xen: Path, step: Start, runs: str
    ) -> None:
        running = step.definition if runs == "the candidate" else replace(step.definition, cmdline="of before")
        guests.show(table_row("web", 5))
        (xen / "long").write_text(json.dumps([running_json(5, running)]))
        if runs == "the candidate":
            await executor.execute(replace(step, candidate=True), ignore)
        else:
            with pytest.raises(ReconcilerError, match="not what was to be started") as caught:
                await executor.execute(replace(step, candidate=True), ignore)
            assert caught.value.diagnostics[0].transient

    async def test_a_segfault_after_the_work_is_done_is_success(
        self, executor: XlExecutor, guests: Guests, step: Start
    ) -> None:
        guests.on("create", f"{guests.later('up', table_row('web', 6))}; kill -SEGV $$")
        await executor.execute(step, ignore)
        assert [call.split()[0] for call in guests.calls] == ["create"], "it was made once, and is left alone"

    async def test_exit_0_without_a_domain_is_a_failure(
        self, executor: XlExecutor, guests: Guests, step: Start
    ) -> None:
        guests.on("create", "exit 0")
        with pytest.raises(ReconcilerError, match="gone at once"):
            await executor.execute(step, ignore)

    async def test_a_half_made_remnant_is_cleared_and_xl_s_words_are_kept(
        self, executor: XlExecutor, guests: Guests, step: Start
    ) -> None:
        half = guests.later("half", table_row("web", 6, "--p---"))
        said = [
            "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: vif-bridge online [374] exited with 1",
            "libxl: error: libxl_device.c:1337:hotplug_death_cb: script: Could not find bridge device nobr",
            *["libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 6:Non-existant domain"] * 5,
        ]
        guests.on("create", f"{half}; cat >&2 <<'E'\n{chr(10).join(said)}\nE\nexit 3")
        guests.on("destroy", guests.later("empty"))
        with pytest.raises(ReconcilerError, match="with 1 / script: Could not find bridge device nobr"):
            await executor.execute(step, ignore)
        assert guests.calls[-1] == "destroy 6"

    async def test_the_name_of_another_domain_is_never_touched(
        self, executor: XlExecutor, guests: Guests, step: Start
    ) -> None:
        guests.show(table_row("web", 5, uuid=OTHER_UUID))
        with pytest.raises(ReconcilerError) as caught:
            await executor.execute(step, ignore)
        assert caught.value.diagnostics[0].summary == "name is taken"
        assert guests.calls == []

    async def test_it_waits_for_what_is_left_of_its_predecessor(
        self, executor: XlExecutor, guests: Guests, step: Start
    ) -> None:
        guests.show(table_row("web", 5, "--ps-d"))
        guests.on("create", guests.later("up", table_row("web", 6)))
        said: list[str] = []
        waiting = asyncio.create_task(executor.execute(step, said.append))
        while not said:
            await asyncio.sleep(0.01)
        guests.show()
        await waiting
        assert said[0] == "waiting for what is left of web (dying)"

    async def test_memory_that_does_not_come_free_is_said_in_figures(
        self, executor: XlExecutor, guests: Guests, step: Start, xen: Path
    ) -> None:
        (xen / "info").write_text(INFO.replace(": 1132", ": 50"))
        with pytest.raises(ReconcilerError, match="needs 100 MiB and alpha has 50 MiB free"):
            await executor.execute(step, ignore)
        assert guests.calls == []


class TestShutdown:
    @pytest.fixture
    def step(self) -> Shutdown:
        return Shutdown(domain="web", uuid=UUID, timeout_seconds=60, on_timeout="fail")

    async def test_a_guest_that_obeys_is_gone_afterwards(
        self, executor: XlExecutor, guests: Guests, step: Shutdown
    ) -> None:
        guests.show(table_row("web", 5))
        cleaning, gone = guests.later("cleaning", table_row("web", 5, "--ps--")), guests.later("gone")
        guests.on("shutdown", f"{cleaning}; sleep 0.1; {gone}")
        await executor.execute(step, ignore)
        assert guests.calls == ["shutdown -F 5"]

    async def test_gone_already_is_success(self, executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
        await executor.execute(step, ignore)
        guests.show(table_row("web", 5, uuid=OTHER_UUID))  # somebody else's by now
        await executor.execute(step, ignore)
        assert guests.calls == [], "nobody was asked to go"

    async def test_a_deaf_guest_fails_the_step_and_lives_on(
        self, executor: XlExecutor, guests: Guests, step: Shutdown
    ) -> None:
        guests.show(table_row("web", 5))
        guests.on("shutdown", "exit 0")
        with pytest.raises(ReconcilerError, match="still runs after 60 s"):
            await executor.execute(step, ignore)
        assert guests.calls == ["shutdown -F 5"]

    async def test_pulling_the_plug_has_to_be_asked_for(
        self, executor: XlExecutor, guests: Guests, step: Shutdown
    ) -> None:
        guests.show(table_row("web", 5, "--p---"))
        guests.on("shutdown", "sleep 60; exit 1")  # as for a paused guest
        guests.on("destroy", guests.later("gone"))
        await executor.execute(replace(step, on_timeout="destroy"), ignore)
        assert guests.calls == ["shutdown -F 5", "destroy 5"]

    @pytest.mark.parametrize("state", ["---sc-", "---s--"])
    async def test_what_nobody_clears_away_is_destroyed(
        self, executor: XlExecutor, guests: Guests, step: Shutdown, state: str
    ) -> None:
        guests.show(table_row("web", 5, state))
        guests.on("destroy", guests.later("gone"))
        await executor.execute(step, ignore)
        assert guests.calls == ["destroy 5"]

    async def test_a_guest_that_reboots_meanwhile_is_asked_again(
        self, executor: XlExecutor, guests: Guests, step: Shutdown
    ) -> None:
        guests.show(table_row("web", 5, "---sr-"))
        guests.on("shutdown", guests.later("gone"))
        shutting = asyncio.create_task(executor.execute(step, ignore))
        await asyncio.sleep(0.1)
        guests.show(table_row("web", 6))
        await shutting
        assert guests.calls == ["shutdown -F 6"]

    async def test_a_guest_between_two_lives_is_not_gone(
        self, executor: XlExecutor, guests: Guests, tools: Path, step: Shutdown
    ) -> None:
        write_tool(tools, "ps", "echo /usr/lib/xen-4.17/bin/xl create /etc/xen/web.cfg")
        guests.on("shutdown", f"{guests.later('gone')}; echo true >{tools}/ps")
        shutting = asyncio.create_task(executor.execute(step, ignore))
        await asyncio.sleep(0.1)
        guests.show(table_row("web", 6))
        await shutting
        assert guests.calls == ["shutdown -F 6"]

    async def test_a_zombie_is_reported_not_hammered(
        self, executor: XlExecutor, guests: Guests, step: Shutdown
    ) -> None:
        guests.show(table_row("(null)", 5, "--ps-d"))
        with pytest.raises(ReconcilerError) as caught:
            await executor.execute(step, ignore)
        assert caught.value.diagnostics[0].summary == "domain is a zombie"
        assert not (guests._folder / "calls").read_text().count("destroy")

    async def test_without_a_uuid_nothing_is_shut_down(
        self, executor: XlExecutor, guests: Guests, step: Shutdown
    ) -> None:
        guests.show(table_row("web", 5))
        with pytest.raises(ReconcilerError) as caught:
            await executor.execute(replace(step, uuid=""), ignore)
        assert caught.value.diagnostics[0].kind is Kind.REFUSED


class TestMemory:
    step = SetMemory(domain="web", uuid=UUID, before_kib=96 * 1024, memory_kib=128 * 1024)

    async def test_it_waits_until_the_guest_is_there(self, executor: XlExecutor, guests: Guests) -> None:
        guests.show(table_row("web", 5))
        guests.on(
            "mem-set",
            f"{guests.later('half', table_row('web', 5, mib=110))}\n"
            f"(sleep 0.2; {guests.later('all', table_row('web', 5, mib=128))}) >/dev/null 2>&1 &",
        )
        await executor.execute(self.step, ignore)
        assert guests.calls == ["mem-set 5 128m"]
        assert "128" in (guests._folder / "list").read_text()

    async def test_a_guest_that_always_shows_a_little_less_gets_there_too(
        self, executor: XlExecutor, guests: Guests
    ) -> None:
        guests.show(table_row("web", 5, mib=91))
        guests.on("mem-set", guests.later("all", table_row("web", 5, mib=123)))
        await executor.execute(self.step, ignore)
        assert guests.calls == ["mem-set 5 128m"]

    async def test_a_balloon_that_gets_stuck_fails_with_what_was_reached(
        self, executor: XlExecutor, guests: Guests
    ) -> None:
        guests.show(table_row("web", 5))
        guests.on("mem-set", guests.later("stuck", table_row("web", 5, mib=110)))
        with pytest.raises(ReconcilerError, match="should have 128 MiB and has 110 MiB"):
            await executor.execute(self.step, ignore)

    async def test_growth_waits_for_free_memory(self, executor: XlExecutor, guests: Guests, xen: Path) -> None:
        guests.show(table_row("web", 5))
        (xen / "info").write_text(INFO.replace(": 1132", ": 10"))
        with pytest.raises(ReconcilerError, match="needs 32 MiB"):
            await executor.execute(self.step, ignore)
        assert guests.calls == []

    async def test_a_domain_that_does_not_run_is_not_changed(self, executor: XlExecutor, guests: Guests) -> None:
        for state in ("---s--", "---sc-", "--ps-d"):
            guests.show(table_row("web", 5, state))
            with pytest.raises(ReconcilerError, match="cannot be changed while it runs"):
                await executor.execute(self.step, ignore)


def shown(xen: Path, **config: object) -> None:
    (xen / "long").write_text(json.dumps([{"domid": 5, "config": {"c_info": {"name": "web"}, **config}}]))


class TestLiveChanges:
    @pytest.fixture(autouse=True)
    def running(self, guests: Guests, tools: Path) -> None:
        guests.show(table_row("web", 5))
        write_tool(tools, "xenstore-read", "case $1 in */state) echo 4 ;; *) echo /path ;; esac")

    async def test_vcpus_are_what_xl_says_was_asked(self, executor: XlExecutor, guests: Guests, xen: Path) -> None:
        shown(xen, b_info={"avail_vcpus": [0, 1]})
        guests.on("vcpu-set", "exit 0")
        said: list[str] = []
        await executor.execute(SetVcpus(domain="web", uuid=UUID, vcpus=2), said.append)
        assert "uses 1 of its 2 vcpus" in said[0]
        guests.on("vcpu-set", "echo 'maxcpus is 2!' >&2; exit 1")
        with pytest.raises(ReconcilerError, match="maxcpus is 2!"):
            await executor.execute(SetVcpus(domain="web", uuid=UUID, vcpus=3), ignore)

    async def test_weights_are_set_for_the_scheduler_that_runs(
        self, executor: XlExecutor, guests: Guests, xen: Path
    ) -> None:
        step = SetScheduler(domain="web", uuid=UUID, cpu_weight=512, cap=50)
        guests.on("sched-credit2", "echo 'Name  ID Weight  Cap'; echo 'web    5    512   50'")
        await executor.execute(step, ignore)
        assert guests.calls == ["sched-credit2 -d 5 -w 512 -c 50", "sched-credit2 -d 5"]
        with pytest.raises(ReconcilerError, match="weight 256 and cap 0"):
            await executor.execute(replace(step, cpu_weight=256, cap=0), ignore)
        (xen / "info").write_text(INFO.replace("credit2", "null"))
        with pytest.raises(ReconcilerError, match="scheduler 'null'"):
            await executor.execute(step, ignore)

    async def test_a_nic_left_behind_by_a_failed_attach_is_taken_away(
        self, executor: XlExecutor, guests: Guests, xen: Path
    ) -> None:
        vif = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="nobr")
        shown(xen, nics=[])
        left = json.dumps([{"domid": 5, "config": {"nics": [{"devid": 1, "mac": vif.mac, "bridge": "nobr"}]}}])
        guests.on("network-attach", f"echo '{left}' >long; echo 'Could not find bridge device nobr' >&2; exit 1")
        guests.on("network-detach", "echo '[]' >long")
        with pytest.raises(ReconcilerError, match="Could not find bridge"):
            await executor.execute(AttachVif(domain="web", uuid=UUID, vif=vif), ignore)
        assert guests.calls == [f"network-attach 5 mac={vif.mac} devid=1 bridge=nobr", "network-detach 5 1"]

    async def test_an_interface_that_is_there_already_is_not_attached_twice(
        self, executor: XlExecutor, guests: Guests, xen: Path
    ) -> None:
        vif = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="xenbr0")
        shown(xen, nics=[{"devid": 1, "mac": vif.mac, "bridge": "xenbr0"}])
        await executor.execute(AttachVif(domain="web", uuid=UUID, vif=vif), ignore)
        assert guests.calls == []

    async def test_only_the_very_interface_is_detached(self, executor: XlExecutor, guests: Guests, xen: Path) -> None:
        vif = Vif(devid=1, mac="00:16:3e:00:00:77")
        shown(xen, nics=[{"devid": 1, "mac": "00:16:3e:00:00:78"}])
        with pytest.raises(ReconcilerError) as caught:
            await executor.execute(DetachVif(domain="web", uuid=UUID, vif=vif), ignore)
        assert caught.value.diagnostics[0].kind is Kind.REFUSED
        shown(xen, nics=[])
        await executor.execute(DetachVif(domain="web", uuid=UUID, vif=vif), ignore)  # gone already
        assert guests.calls == []


class TestLook:
    @pytest.fixture
    def xenstore(self, tools: Path) -> Callable[[str], None]:
        def answer(states: str, kind: str = "pv") -> None:
            write_tool(
                tools,
                "xenstore-ls",
                f"""cat <<'E'
/libxl/5/device/vbd/51712/frontend = "/local/domain/5/device/vbd/51712"
/libxl/5/device/vbd/51712/backend = "/local/domain/0/backend/vbd/5/51712"
/libxl/5/device/vbd/51712/state = "1"
/libxl/5/device/console/0/frontend = "/local/domain/5/console"
/libxl/5/type = "{kind}"
E""",
            )
            front, back = states.split()
            write_tool(
                tools, "xenstore-read", f"case $1 in */5/device/*/state) echo {front} ;; */state) echo {back} ;; esac"
            )

        return answer

    @pytest.mark.parametrize(
        ("states", "kind", "connected"),
        [("4 4", "pv", True), ("3 4", "pv", False), ("1 2", "hvm", None), ("4 5", "hvm", False), ("4 4", "hvm", True)],
    )
    async def test_both_ends_of_every_device_count(
        self,
        executor: XlExecutor,
        guests: Guests,
        xenstore: Callable[..., None],
        states: str,
        kind: str,
        connected: bool | None,
    ) -> None:
        guests.show(table_row("web", 5))
        xenstore(states, kind)
        look = await executor.look("web")
        assert (look.power, look.uuid, look.boot, look.actual_kib) == (Power.RUNNING, UUID, "5", 96 * 1024)
        assert look.devices_connected is connected

    async def test_a_domain_that_is_not_there_is_absent(self, executor: XlExecutor) -> None:
        assert (await executor.look("web")).power is Power.ABSENT

    @pytest.mark.parametrize(
        ("process", "power"),
        [
            ("/usr/lib/xen-4.17/bin/xl create /etc/xen/web.cfg", Power.REBOOTING),
            ("xl create /var/lib/xen/kernels/web/candidate.cfg", Power.REBOOTING),
            ("xl create --quiet --defconfig /usr/pkg/etc/xen/web", Power.REBOOTING),
            ("xl create /etc/xen/web2.cfg", Power.ABSENT),
            ("xl console web", Power.ABSENT),
            ("vi /etc/xen/web.cfg", Power.ABSENT),
        ],
    )
    async def test_a_domain_that_xl_is_about_to_create_again_reboots(
        self, executor: XlExecutor, tools: Path, process: str, power: Power
    ) -> None:
        write_tool(tools, "ps", f"echo {process}")
        write_tool(tools, "sleep", "")
        assert (await executor.look("web")).power is power

    async def test_the_gate_stands_on_these_looks(
        self, executor: XlExecutor, guests: Guests, xenstore: Callable[..., None]
    ) -> None:
        guests.show(table_row("web", 5))
        gate = AwaitReady(domain="web", uuid=UUID, ready=Ready(min_seconds=0, timeout_seconds=0))
        xenstore("4 4")
        await carry_out(executor, gate, ignore)
        xenstore("4 2")
        with pytest.raises(ReconcilerError, match="not connected"):
            await carry_out(executor, gate, ignore)

    async def test_a_port_is_tried_from_the_dom0(self, executor: XlExecutor) -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert await executor.probe_tcp(f"127.0.0.1:{port}")
        server.close()
        await server.wait_closed()
        assert not await executor.probe_tcp(f"127.0.0.1:{port}")
