"""What a host that does not answer may have is given to nobody else: names, uuids and macs, of whatever domain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.transcript import write_files

MAC = "00:16:3e:00:00:77"
UUID = "11111111-1111-4111-8111-111111111111"
VIF = f'[[vif]]\nbridge = "xenbr0"\nmac = "{MAC}"\n'
B = 'kernel = "/boot/vmlinuz"\nmemory = 256\n'


@pytest.fixture
def two(run: Run, tree: Path) -> Path:
    """A second host, beta, whose `b` has a mac and a uuid that its spec asks for no more. It is silent."""
    host = 'toolstack = "simulated"\n'
    write_files({"specs/beta/host.toml": host, "specs/beta/b.toml": f'{B}uuid = "{UUID}"\n{VIF}'}, tree)
    write_files({"specs/reconciler.toml": "[brake]\nmax_destroy = 9\n"}, tree)
    assert run("apply", "--yes").code == 0
    write_files({"specs/beta/b.toml": B}, tree)
    silence(run)
    return tree


def silence(run: Run) -> None:
    run("sim", "beta", "fault", "unreachable", "--times", "99")


def let_answer(run: Run) -> None:
    run("sim", "beta", "fault", "unreachable", "--times", "0")


def noted(tree: Path) -> Path:
    return next((tree / ".state").rglob("sightings/beta.json"))


def blocked(run: Run, address: str, *options: str) -> str | None:
    changes = json.loads(run("plan", "--json", *options).out)["changes"]
    found: str | None = next(one["blocked"] for one in changes if one["address"] == address)
    return found


def add(tree: Path, name: str, text: str) -> None:
    file = tree / f"specs/alpha/{name}.toml"
    file.write_text((file.read_text() if file.exists() else B) + text)


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [("web", VIF, ("--host", "alpha")), ("new", VIF, ()), ("new", f'uuid = "{UUID}"\n', ("--host", "alpha"))],
)
def test_it_keeps_its_macs_and_its_uuids(run: Run, two: Path, name: str, text: str, options: tuple[str, ...]) -> None:
    add(two, name, text)
    assert "of beta/b when beta was last seen" in (blocked(run, f"alpha/{name}", *options) or "")
    assert "reconciler forget beta" in run("plan", *options).out
    assert run("forget", "beta", "--yes").code == 0
    assert blocked(run, f"alpha/{name}", *options) is None


def test_what_is_none_of_it_goes_on(run: Run, two: Path) -> None:
    add(two, "new", VIF.replace("77", "78"))
    assert blocked(run, "alpha/new") is None


def test_a_domain_that_is_not_ours_keeps_its_mac_too(run: Run, two: Path) -> None:
    let_answer(run)
    config = two / "legacy.cfg"
    config.write_text('name = "legacy"\nmemory = 128\nkernel = "/boot/vmlinuz"\nvif = ["mac=00:16:3e:00:00:79"]\n')
    run("sim", "beta", "put", "/etc/xen/legacy.cfg", str(config))
    run("sim", "beta", "create", "legacy")
    run("status")
    silence(run)
    add(two, "web", VIF.replace("77", "79"))
    assert "a mac of beta/legacy when beta was last seen" in (blocked(run, "alpha/web") or "")


def test_a_host_that_was_not_asked_is_looked_at_before_a_mac_is_given(run: Run, two: Path) -> None:
    let_answer(run)
    add(two, "web", VIF)
    ran = run("plan", "--host", "alpha")
    assert "is still a mac of beta/b" in ran.out


@pytest.mark.parametrize(
    ("damage", "looks"),
    [("", 1), ("{", 2), ("7", 1), ("null", 1), ('{"ours": ["b"]}', 2), ("\udcff", 1)],
)
def test_where_nobody_knows_what_it_has_nothing_new_is_made(run: Run, two: Path, damage: str, looks: int) -> None:
    """The first look notes what others have; what is lost stays lost until it answers."""
    noted(two).write_bytes(damage.encode(errors="surrogateescape"))
    for _ in range(looks - 1):
        run("plan")
    add(two, "new", "")
    add(two, "web", VIF)
    run("sim", "alpha", "destroy", "db")
    assert "what was last seen there cannot be read any more" in (blocked(run, "alpha/new") or "")
    assert "may be a mac of a domain on beta" in (blocked(run, "alpha/web") or "")
    assert blocked(run, "alpha/db") is None, "what has its uuid by its config file is started"
    let_answer(run)
    assert blocked(run, "alpha/new") is None


def test_where_it_cannot_be_read_at_all_nothing_new_is_made(run: Run, two: Path) -> None:
    file = noted(two)
    file.unlink()
    file.mkdir()
    add(two, "new", "")
    assert "cannot be read any more" in (blocked(run, "alpha/new") or "")


def test_a_controller_that_never_saw_it_holds_nobody_up(run: Run, two: Path) -> None:
    noted(two).unlink()
    add(two, "new", "")
    assert blocked(run, "alpha/new") is None


def test_what_an_earlier_version_noted_is_read(run: Run, two: Path) -> None:
    by_host = noted(two).parent
    shutil.rmtree(by_host)
    by_host.with_suffix(".json").write_text('{"alpha": ["web", "db"], "beta": ["b", "new"]}')
    add(two, "new", "")
    assert "last seen on beta" in (blocked(run, "alpha/new") or "")
