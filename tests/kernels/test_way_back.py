"""New kernels that fail, each in its own way: the domain is back on the old one, and nobody tries the new one again."""

from __future__ import annotations

import pytest

from .fleet import BETTER, GOOD, WEB, Fleet

PANICS, HANGS, LOOPS = 'boot = "panic"', 'boot = "hang"', 'boot = "reboot-loop"'
FAILURES = [
    pytest.param(PANICS, "destroy", "it is gone", id="panic, destroyed"),
    pytest.param(PANICS, "preserve", "it crashed", id="panic, preserved"),
    pytest.param(PANICS, "restart", "boot loop", id="panic, restarted"),
    pytest.param(HANGS, "destroy", "are not connected", id="hang"),
    pytest.param(f'{HANGS}\nshutdown = "ignore"', "destroy", "are not connected", id="hang that ignores shutdown"),
    pytest.param(LOOPS, "destroy", "boot loop", id="reboot loop"),
    pytest.param("boot = 3", "destroy", "The simulated kernel", id="no kernel"),
]


@pytest.mark.parametrize(("behaviour", "on_crash", "named"), FAILURES)
def test_an_update_that_fails_leaves_the_old_kernel_running(
    fleet: Fleet, behaviour: str, on_crash: str, named: str
) -> None:
    fleet.write("alpha/web.toml", f'{WEB}on_crash = "{on_crash}"\n')
    fleet.apply()
    neighbour = fleet.boot("db")
    fleet.kernel("web", behaviour)
    failed = fleet.apply()
    assert failed.code == 1
    assert named in failed.out
    assert "fell back: alpha/web runs its last proven definition again, down for " in failed.out
    assert fleet.runs() == GOOD
    assert fleet.boot("db") == neighbour

    back = fleet.boot()
    again = fleet.apply()
    assert again.code == 3
    assert "quarantined" in again.out
    assert fleet.boot() == back
    assert "alpha/web  quarantined" in fleet.run("status").out

    assert fleet.apply("--retry", "alpha/web").code == 1
    assert fleet.boot() != back
    assert fleet.runs() == GOOD
    assert fleet.boot("db") == neighbour

    fleet.kernel("web", GOOD)  # nothing has to be cleaned
    assert fleet.run("plan", "--detailed-exitcode").code == 0
    fleet.kernel("web", BETTER)
    assert fleet.apply().code == 0
    assert fleet.runs() == BETTER


def test_the_old_kernel_is_not_asked_for_the_signs_of_the_new_one(fleet: Fleet) -> None:
    fleet.kernel("web", 'console = "Linux 6.1"')
    fleet.write("alpha/web.toml", f'{WEB}ready = {{ console = "6\\\\.1" }}\n')
    assert fleet.apply().code == 0
    fleet.kernel("web", PANICS)
    fleet.write("alpha/web.toml", f'{WEB}ready = {{ console = "6\\\\.6" }}\n')
    failed = fleet.apply()
    assert failed.code == 1
    assert "fell back: alpha/web runs its last proven definition again" in failed.out
    assert fleet.runs() == 'console = "Linux 6.1"'
    assert "alpha/web  quarantined" in fleet.run("status").out


@pytest.mark.parametrize("behaviour", [PANICS, HANGS])
def test_a_kernel_that_came_while_its_domain_was_stopped_is_no_proven_one(fleet: Fleet, behaviour: str) -> None:
    fleet.write("alpha/web.toml", f"{WEB}autostart = true\n")
    fleet.apply()
    fleet.write("alpha/web.toml", f'{WEB}autostart = true\nstate = "stopped"\n')
    assert fleet.apply().code == 0
    proven = fleet.guest().config
    assert proven is not None
    fleet.kernel("web", behaviour)
    fleet.write("alpha/web.toml", f'{WEB}autostart = true\nstate = "stopped"\nprevent_destroy = true\n')
    assert fleet.apply().code == 0
    kept = fleet.guest().config
    assert kept is not None
    assert (kept.kernel, kept.prevent_destroy) == (proven.kernel, True), "a dom0 that boots starts what worked"
    assert fleet.run("plan", "--detailed-exitcode").code == 0
    fleet.write("alpha/web.toml", f"{WEB}autostart = true\nprevent_destroy = true\n")
    assert fleet.apply().code == 1
    assert fleet.boot() is None
    assert "alpha/web  stalled" in fleet.run("status").out
    assert fleet.apply().code == 3
    fleet.kernel("web", GOOD)
    assert fleet.apply().code == 0
    assert fleet.runs() == GOOD


@pytest.mark.parametrize("problem", ["gone", "other bytes than its pin"])
def test_a_domain_whose_kernel_file_cannot_be_used_is_started_from_its_staged_bytes(
    running: Fleet, problem: str
) -> None:
    if problem == "gone":
        (running.folder / "specs/kernels/web").unlink()
    else:
        running.write("alpha/web.toml", f'{WEB}kernel_sha256 = "{"0" * 64}"\n')
    assert running.run("plan").code == 4
    running.run("sim", "alpha", "crash", "web")
    assert running.boot() is None
    started = running.apply()
    assert started.code == 4, "the spec is still wrong"
    assert "specs/alpha/web.toml:" in started.err
    assert running.runs() == GOOD
    running.write("alpha/new.toml", WEB.replace("/srv/web", "/srv/new"))
    if problem == "gone":
        assert "kernels/web is not there, or not as pinned" in running.apply().out, "what has no staged bytes waits"
        assert running.boot("new") is None


def test_what_outlives_the_spec_is_kept_while_a_kernel_is_quarantined(running: Fleet) -> None:
    running.kernel("web", PANICS)
    assert running.apply().code == 1
    running.write("alpha/web.toml", f"{WEB}prevent_destroy = true\nvcpus = 1\ncpu_weight = 512\n")
    boot = running.boot()
    partly = running.apply()
    assert partly.code == 3, "the kernel still waits"
    assert "quarantined" in partly.out
    assert running.boot() == boot
    guest = running.guest()
    assert guest.config is not None
    assert guest.running is not None
    assert (guest.config.prevent_destroy, guest.running.cpu_weight) == (True, 512)
    (running.folder / "specs/alpha/web.toml").unlink()
    assert "prevent_destroy is kept with the domain" in running.run("plan").out
    assert running.apply("--allow-destroy", "1").code == 3
    assert running.boot() == boot


@pytest.mark.parametrize(("behaviour", "on_crash", "named"), FAILURES)
def test_a_first_boot_that_fails_leaves_its_disk_and_nothing_else(
    fleet: Fleet, behaviour: str, on_crash: str, named: str
) -> None:
    fleet.write("alpha/web.toml", f'{WEB}on_crash = "{on_crash}"\n')
    fleet.kernel("web", behaviour)
    failed = fleet.apply()
    assert failed.code == 1
    assert named in failed.out
    assert "stalled: alpha/web has nothing to fall back to" in failed.out
    assert fleet.boot() is None
    assert "/srv/web" in fleet.host().files
    assert fleet.runs("db") == GOOD
    assert "alpha/web  stalled" in fleet.run("status").out

    assert fleet.apply().code == 3
    assert fleet.boot() is None
    fleet.kernel("web", GOOD)
    assert fleet.apply().code == 0
    assert fleet.runs() == GOOD


def test_a_second_kernel_that_fails_after_a_failed_first_boot_falls_back_to_nothing(fleet: Fleet) -> None:
    fleet.kernel("web", PANICS)
    fleet.apply()
    fleet.kernel("web", f'{PANICS}\nconsole = "another"')
    failed = fleet.apply()
    assert failed.code == 1
    assert "way back failed" not in failed.out
    assert fleet.boot() is None
    assert len(fleet.guest().quarantine) == 2


def test_a_guest_that_ignores_shutdown_is_left_running(fleet: Fleet) -> None:
    fleet.kernel("web", f'{GOOD}\nshutdown = "ignore"')
    fleet.apply()
    before = fleet.boot()
    fleet.kernel("web", BETTER)
    failed = fleet.apply()
    assert failed.code == 1
    assert "after it was asked to shut down" in failed.out
    assert "fell back" not in failed.out
    assert fleet.boot() == before
    assert fleet.guest().quarantine == ()


def test_its_plug_is_pulled_when_that_was_asked_for(fleet: Fleet) -> None:
    fleet.write("alpha/web.toml", f'{WEB}on_shutdown_timeout = "destroy"\nshutdown_timeout = "30s"\n')
    fleet.kernel("web", f'{GOOD}\nshutdown = "ignore"')
    fleet.apply()
    fleet.kernel("web", BETTER)
    done = fleet.apply()
    assert done.code == 0
    assert fleet.runs() == BETTER
    assert "alpha/web was down for 3" in done.out  # the half minute that it was waited for, and the boot


SIGNLESS = f'{WEB}ready = {{ console = "never said", timeout = "9s" }}\nshutdown_timeout = "10m"\n'


def test_a_guest_that_serves_and_only_misses_a_sign_is_shut_down_as_its_spec_says(running: Fleet) -> None:
    """Its plug is not pulled: it may be writing to its disks."""
    running.kernel("web", f'{BETTER}\nshutdown = "ignore"')
    running.write("alpha/web.toml", SIGNLESS)
    plan = running.run("plan", "--steps").out
    assert "shut down (at most 10 min, then fail; 20 s, then destroy if no device connected)" in plan
    failed = running.apply()
    assert failed.code == 1
    assert "its console has not shown" in failed.out
    assert "The way back failed too: web is still running 600 s after it was asked to shut down" in failed.out
    still = running.boot()
    assert still is not None
    assert len(running.guest().quarantine) == 1
    assert running.apply().code == 1, "it is asked again, as its spec says"
    assert running.boot() == still


def test_a_guest_that_misses_a_sign_has_its_own_time_before_its_plug_is_pulled(running: Fleet) -> None:
    running.kernel("web", f'{BETTER}\nshutdown = "ignore"')
    running.write("alpha/web.toml", f'{SIGNLESS}on_shutdown_timeout = "destroy"\n')
    failed = running.apply()
    assert failed.code == 1
    assert "fell back: alpha/web runs its last proven definition again, down for 10 min" in failed.out
    assert running.runs() == GOOD


def test_a_way_back_that_fails_tells_both_reasons(running: Fleet) -> None:
    running.kernel("web", BETTER)
    running.run("sim", "alpha", "fault", "create-fails", "--times", "2")
    failed = running.apply()
    assert failed.code == 1
    assert "stalled: alpha/web: xl create of web failed" in failed.out
    assert "The way back failed too: xl create of web failed" in failed.out
    assert "alpha/web  drifted" in running.run("status").out, "it is down, and the next run starts it"
    assert running.guest().quarantine == (), "the host failed, and not the kernel"
    assert running.apply().code == 0
    assert running.runs() == BETTER


def test_a_failure_of_the_host_is_not_held_against_the_kernel(running: Fleet) -> None:
    running.kernel("web", BETTER)
    running.run("sim", "alpha", "fault", "create-fails")
    failed = running.apply()
    assert failed.code == 1
    assert "Failed to find an unused loop device" in failed.out
    assert "nothing is held against the kernel" in failed.out
    assert "fell back: alpha/web runs its last proven definition again" in failed.out
    assert (running.runs(), running.guest().quarantine) == (GOOD, ())
    again = running.apply()
    assert "± alpha/web  restart: spec changed" in again.out
    assert (again.code, running.runs()) == (0, BETTER)


def test_a_first_boot_that_the_host_fails_is_tried_again(fleet: Fleet) -> None:
    fleet.run("sim", "alpha", "fault", "create-fails", "--times", "2")
    assert fleet.apply().code == 1
    assert "alpha/web" in fleet.run("plan", "--detailed-exitcode").out
    assert fleet.guest().quarantine == ()
    assert fleet.apply().code == 0
    assert fleet.runs() == GOOD


@pytest.mark.parametrize("change", ["", "maxmem = 512\n", 'on_crash = "preserve"\n'])
def test_a_proven_kernel_is_never_quarantined_for_a_failure_of_the_host(fleet: Fleet, change: str) -> None:
    """It goes down with what it depends on, or for a change that leaves its kernel as it is."""
    fleet.write("alpha/web.toml", f'{WEB}depends_on = ["db"]\n')
    fleet.apply()
    fleet.kernel("db", BETTER)
    fleet.write("alpha/web.toml", f'{WEB}depends_on = ["db"]\n{change}')
    fleet.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nmax_unavailable = 2\n')
    fleet.run("sim", "alpha", "fault", "create-fails", "--times", "3")
    assert fleet.apply().code == 1
    fleet.run("sim", "alpha", "fault", "create-fails", "--times", "0")
    assert (fleet.guest("web").quarantine, fleet.guest("db").quarantine) == ((), ())
    assert fleet.apply().code == 0
    assert (fleet.runs("web"), fleet.runs("db")) == (GOOD, BETTER)
    assert fleet.run("plan", "--detailed-exitcode").code == 0


def test_a_domain_that_is_down_is_started_as_it_last_worked(running: Fleet) -> None:
    running.kernel("web", PANICS)
    running.apply()
    running.run("sim", "alpha", "destroy", "web")
    started = running.apply()
    assert started.code == 0
    assert "start: it does not run" in started.out
    assert running.runs() == GOOD


def test_what_depends_on_a_domain_that_falls_back_runs_again_too(fleet: Fleet) -> None:
    fleet.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nmax_unavailable = 2\n')
    fleet.write("alpha/db.toml", 'kernel = "kernels/db"\nmemory = 256\ndepends_on = ["web"]\n')
    fleet.apply()
    fleet.kernel("web", PANICS)
    failed = fleet.apply()
    assert failed.code == 1
    assert "fell back: alpha/web" in failed.out
    assert "alpha/db runs again as it was, down for " in failed.out
    assert (fleet.runs("web"), fleet.runs("db")) == (GOOD, GOOD)
    assert fleet.guest("db").quarantine == ()
