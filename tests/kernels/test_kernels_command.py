"""`reconciler kernels`: each file under its role, what failed with its reason, and where the specs want other bytes."""

from __future__ import annotations

import json
from typing import Any

from .fleet import BETTER, PANICKED, WEB, Fleet


def kernels(fleet: Fleet, address: str = "alpha/web") -> dict[str, Any]:
    """The entry of one address."""
    ran = fleet.run("kernels", address, "--json")
    assert ran.code == 0, ran.err
    (entry,) = json.loads(ran.out)["domains"]
    assert entry["address"] == address
    return dict(entry)


def roles(fleet: Fleet, address: str = "alpha/web") -> list[list[str]]:
    return [file["roles"] for file in kernels(fleet, address)["files"]]


def test_before_and_after_an_update(running: Fleet) -> None:
    assert roles(running) == [["running", "config"]]
    running.kernel("web", BETTER)
    (other,) = kernels(running)["other_bytes"]
    assert (other["kind"], other["source"]) == ("kernel", "kernels/web")
    assert other["sha256"] != other["running_sha256"] == kernels(running)["files"][0]["sha256"]
    running.apply()
    assert roles(running) == [["running", "config"], ["previous"]]
    assert kernels(running)["other_bytes"] == []


def test_a_file_that_is_both_kernel_and_ramdisk_has_each_role_once(running: Fleet) -> None:
    running.write("alpha/web.toml", f'{WEB}ramdisk = "kernels/web"\n')
    running.apply()
    assert roles(running) == [["running", "config", "previous"]]


def test_a_failed_update(running: Fleet) -> None:
    running.kernel("web", 'boot = "panic"')
    running.apply()
    entry = kernels(running)
    assert [file["roles"] for file in entry["files"]] == [["running", "config"], ["quarantined"]]
    (failed,) = entry["quarantined"]
    assert failed["kernel"] == entry["files"][1]["path"]
    assert failed["reason"] == f"web did not get ready: {PANICKED}"
    text = running.run("kernels").out
    assert f"quarantined: {failed['kernel'].rpartition('/')[2]}: web did not get ready: {PANICKED}" in text
    assert "kernel kernels/web is " in text


def test_a_command_line_that_fails_does_not_blame_the_kernel_that_runs(running: Fleet) -> None:
    running.write(
        "alpha/web.toml", f'{WEB}cmdline = "init=/bin/false"\nready = {{ console = "login:", timeout = "9s" }}\n'
    )
    running.apply()
    entry = kernels(running)
    assert [file["roles"] for file in entry["files"]] == [["running", "config"]]
    assert len(entry["quarantined"]) == 1
    assert entry["other_bytes"] == []


def test_what_fell_out_of_use_is_swept_with_the_next_update(running: Fleet) -> None:
    for word in ("second", "third", "fourth"):
        running.kernel("web", f'console = "{word}"')
        running.apply()
        assert roles(running) == [["running", "config"], ["previous"]]


def test_an_adopted_domain_runs_from_where_it_was(fleet: Fleet) -> None:
    fleet.run("sim", "alpha", "create", "web", "--memory", "256")
    found = fleet.guest().running
    assert found is not None
    fleet.write("alpha/web.toml", f'{WEB}uuid = "{found.uuid}"\n')
    assert fleet.apply("--adopt", "alpha/web").code == 0
    entry = kernels(fleet)
    running = next(file for file in entry["files"] if "running" in file["roles"])
    assert (running["path"], running["staged"]) == ("/vmlinuz", False)
    assert "(not staged)" in fleet.run("kernels", "alpha/web").out


def test_all_domains_and_a_domain_that_is_not_there_yet(fleet: Fleet) -> None:
    assert fleet.run("kernels").out == "No domain of ours has a kernel there.\n"
    fleet.apply()
    assert [line for line in fleet.run("kernels").out.splitlines() if line.startswith("alpha/")] == [
        "alpha/db",
        "alpha/web",
    ]


def test_a_host_that_does_not_answer(running: Fleet) -> None:
    running.run("sim", "alpha", "fault", "unreachable")
    ran = running.run("kernels")
    assert (ran.code, ran.out) == (1, "")
    assert "host unreachable" in ran.err


def test_an_address_that_nobody_knows(running: Fleet) -> None:
    for address in ("alpha/wbe", "beta/web", "wbe"):
        ran = running.run("kernels", address)
        assert (ran.code, ran.out) == (1, "")


def test_a_broken_spec_of_another_domain_is_told_and_does_not_hinder(running: Fleet) -> None:
    running.write("alpha/db.toml", "memroy = 1\n")
    ran = running.run("kernels")
    assert ran.code == 4
    assert "alpha/web" in ran.out


def test_a_source_that_vanished_is_told(running: Fleet) -> None:
    running.write("alpha/web.toml", WEB.replace("kernels/web", "kernels/gone"))
    assert running.run("kernels").code == 4  # an error of the spec
    assert "running" in running.run("kernels").out
