"""A host that a newer version of reconciler has worked on: every command shows it, and none changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.simulated.store import Store
from reconciler.texts.mark import FORMAT, MARK_PREFIX
from tests.cli.conftest import Ran, Run

WEB = 'kernel = "/boot/vmlinuz"\nmemory = 256\ndisk = [{ vdev = "xvda", path = "/srv/web", size = "1GiB" }]\n'
REASON = f"a newer version of reconciler manages it and wrote its config file (format {FORMAT + 1})"
HINT = "upgrade reconciler on this controller"
CONFIG, CANDIDATE = "/etc/xen/web.cfg", "/var/lib/xen/kernels/web/candidate.cfg"
PREVIOUS, QUARANTINE = "/var/lib/xen/kernels/web/previous.cfg", "/var/lib/xen/kernels/web/quarantine.json"


@dataclass(frozen=True)
class Site:
    """The tree, its host's files, and the command."""

    tree: Path
    run: Run

    @property
    def store(self) -> Store:
        return Store(self.tree / ".state", "alpha")

    def text(self, path: str = CONFIG) -> str:
        return self.store.content(self.store.read(), path).decode()

    def put(self, path: str, text: str) -> None:
        with self.store.change() as stored:
            self.store.put(stored, path, text.encode())

    def upgrade(self, path: str = CONFIG, of: str = CONFIG, **more: object) -> None:
        """As a newer version would have written the file."""
        head, rest = self.text(of).split(MARK_PREFIX, 1)
        line, body = rest.split("\n", 1)
        said = {**json.loads(line), "format": FORMAT + 1, "more": {"of": "it"}, **more}
        self.put(path, f"{head}{MARK_PREFIX}{json.dumps(said)}\n{body}")

    def spec(self, text: str) -> None:
        (self.tree / "specs/alpha/web.toml").write_text(text)

    def forget(self) -> None:
        (self.tree / "specs/alpha/web.toml").unlink()

    def state(self) -> object:
        """All that the host holds."""
        stored = self.store.read()
        return dict(stored.files), dict(stored.instances), dict(stored.autostart)


@pytest.fixture
def site(tree: Path, run: Run) -> Site:
    """Both domains run, and a newer version has written the config file of web."""
    host = tree / "specs/alpha/host.toml"
    host.write_text(host.read_text() + 'disk_roots = ["/srv"]\n')
    made = Site(tree, run)
    made.spec(WEB)
    assert run("apply", "--yes").code == 0
    made.upgrade()
    return made


def changes(ran: Ran) -> dict[str, dict[str, object]]:
    return {change["address"]: change for change in json.loads(ran.out)["changes"]}


def test_plan_and_status_and_why_show_it(site: Site) -> None:
    plan = changes(site.run("plan", "--json"))
    assert plan["alpha/db"]["action"] == "no-op"
    assert (plan["alpha/web"]["action"], plan["alpha/web"]["blocked"]) == (
        "blocked",
        f"{REASON}, which this version does not know",
    )
    for ran in (site.run("plan"), site.run("status"), site.run("why", "alpha/web")):
        assert REASON in ran.out
        assert HINT in ran.out + ran.err
    assert "alpha/web  stalled" in site.run("status").out


SPECS: dict[str, Callable[[Site], None]] = {
    "as it was": lambda site: None,
    "another kernel": lambda site: site.spec(WEB.replace("vmlinuz", "vmlinuz-6")),
    "more memory": lambda site: site.spec(WEB.replace("256", "300")),
    "to be stopped": lambda site: site.spec('state = "stopped"\n' + WEB),
    "left alone": lambda site: site.spec("reconcile = false\n" + WEB),
    "another wave": lambda site: site.spec("wave = 3\n" + WEB),
    "file gone": lambda site: site.forget(),
    "file broken": lambda site: site.spec("memory = ["),
}
COMMANDS = [
    ("apply", "--yes"),
    ("apply", "--yes", "--adopt", "alpha/web"),
    ("apply", "--yes", "--restart", "alpha/web"),
    ("apply", "--yes", "--retry", "alpha/web", "--allow-destroy", "9"),
    ("rollback", "alpha/web", "--yes"),
    ("watch", "--once"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
@pytest.mark.parametrize("change", SPECS)
def test_no_command_changes_anything(site: Site, change: str, command: tuple[str, ...]) -> None:
    SPECS[change](site)
    before = site.state()
    ran = site.run(*command)
    assert site.state() == before
    assert "Traceback" not in ran.err


def beside(site: Site, path: str) -> None:
    site.put(CONFIG, site.text().replace(f'"format": {FORMAT + 1}', f'"format": {FORMAT}'))
    if path == QUARANTINE:
        site.put(path, '{"format": 2, "entries": []}')
    else:
        site.upgrade(path)


@pytest.mark.parametrize("path", [CANDIDATE, PREVIOUS, QUARANTINE])
@pytest.mark.parametrize("change", ["another kernel", "more memory", "file gone"])
def test_a_newer_file_beside_the_config_file_counts_as_well(site: Site, path: str, change: str) -> None:
    beside(site, path)
    SPECS[change](site)
    before = site.state()
    assert "a newer version of reconciler manages it" in site.run("plan").out
    site.run("apply", "--yes")
    assert site.state() == before


def test_another_fleets_newer_domain_is_not_adopted(site: Site) -> None:
    site.upgrade(fleet="other")
    before = site.state()
    assert "a newer version" in site.run("apply", "--yes", "--adopt", "alpha/web").out
    assert site.state() == before


def test_its_disk_is_neither_given_away_nor_deleted(site: Site) -> None:
    site.forget()
    site.run("sim", "alpha", "destroy", "web")
    thief = 'kernel = "/boot/vmlinuz"\nmemory = 128\ndisk = [{ vdev = "xvda", path = "/srv/web" }]\n'
    (site.tree / "specs/alpha/thief.toml").write_text(thief)
    before = site.state()
    plan = changes(site.run("plan", "--json"))
    assert (plan["alpha/thief"]["action"], plan["alpha/web"]["action"]) == ("blocked", "blocked")
    site.run("apply", "--yes")
    assert site.state() == before


def test_the_others_go_on(site: Site) -> None:
    (site.tree / "specs/alpha/db.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 300\nmaxmem = 512\n')
    assert "Complete: alpha/db" in site.run("apply", "--yes").out


def test_it_goes_on_when_it_is_ours_again(site: Site) -> None:
    site.put(CONFIG, site.text().replace(f'"format": {FORMAT + 1}', f'"format": {FORMAT}'))
    assert site.run("plan", "--detailed-exitcode").code == 0


def test_a_plan_that_was_saved_before_is_stale(site: Site) -> None:
    newer = site.text()
    site.put(CONFIG, newer.replace(f'"format": {FORMAT + 1}', f'"format": {FORMAT}'))
    site.spec(WEB.replace("256", "300"))
    site.run("plan", "--out", "saved.json")
    site.put(CONFIG, newer)
    before = site.state()
    assert site.run("apply", "saved.json", "--yes").code == 3
    assert site.state() == before
