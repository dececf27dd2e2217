"""The safety rules, and what each does about what it does not know: nothing, and it says so. One row a case.

The rules are numbered as in docs/safety.md. Those that are kept on a dom0 are in test_not_known_on_a_dom0.py. What a
whole tool of a dom0 that fails does is in tests/xl/test_observe.py.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.apply.evidence import with_evidence
from reconciler.apply.history import History
from reconciler.decide.changes import Action, Consent
from reconciler.decide.unusable import complete
from reconciler.model.claims import Unseen, mac_claim, noted_claims, uuid_claim
from reconciler.model.domain import Domain, Image, Policy
from reconciler.model.fleet import Brake, Desired, DesiredHost, HostSettings
from reconciler.model.host import Devices, FileFact, Guest, Host, Owner, Power
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.stale import moved
from reconciler.plan.verify import verify
from reconciler.texts.config_file import render_file
from reconciler.texts.guests import LiveDomain, assemble_guests
from reconciler.toolstack import Observer
from tests.worlds import MIB, NEW, OLD, desired, disk, domain, guest, host, kernel, stopped, unmanaged, vif

ALPHA = HostSettings(name="alpha", toolstack="simulated", max_unavailable=9)
BETA = replace(ALPHA, name="beta")
WEB = domain("web", uuid="00000000-0000-4000-8000-000000000001")
NOBODY = Consent()
FIRST = Policy(wave=-1)
MAC = vif("00:16:3e:00:00:09")
LUN = disk("/dev/disk/by-id/wwn-0x5000", kind="device", size_bytes=None)
VOLUME = disk("/dev/vg/web", kind="lv", size_bytes=1 << 30)


@dataclass(frozen=True)
class Row:
    """A rule, what is not known, and the world in which nothing of this may happen. `says` is told of it."""

    rule: int
    unknown: str
    world: Host | None  # None: it does not answer
    wanted: Desired
    says: str
    consent: Consent = NOBODY
    unseen: Unseen = field(default_factory=Unseen)


def with_lun(world: Host) -> Host:
    fact = FileFact(kind="block", size_bytes=4096, key="8:0", real_path="/dev/sda")
    return replace(world, files={**world.files, LUN.target: fact})


def new(name: str, **changes: Any) -> Domain:
    return replace(WEB if name == "web" else domain(name), kernel=kernel(name, NEW), **changes)


def wanted(*domains: Domain, **changes: object) -> Desired:
    return desired(*domains, settings=ALPHA, **changes)


def beside_beta(made: Desired, *domains: Domain) -> Desired:
    """The same with a second host, which does not answer."""
    beta = DesiredHost(settings=BETA, domains={one.name: one for one in domains})
    return replace(made, hosts={**made.hosts, "beta": beta})


def written(text: str, name: str = "web", uuid: str = WEB.uuid, candidate: str | None = None) -> Host:
    """A host where this text is the config file of a domain that runs as WEB."""
    runs = LiveDomain(name="web", uuid=uuid, power=Power.RUNNING, actual_kib=WEB.memory_kib, definition=WEB)
    guests, _ = assemble_guests(
        fleet="default",
        configs={name: text},
        candidates={} if candidate is None else {name: candidate},
        instances=[runs],
        images={image.path: image.sha256 for image in WEB.images},
        autostart={},
    )
    return replace(host(), guests=guests, images={image.path: image.sha256 for image in WEB.images})


OURS = render_file(WEB, "default", None)
MARK, BODY = OURS.split("}\n", 1)
TO_BE_KEPT = render_file(replace(WEB, prevent_destroy=True), "default", None)
ELSEWHERE = replace(
    wanted(),
    hosts={
        "alpha": DesiredHost(settings=ALPHA, domains={}),
        "beta": DesiredHost(settings=BETA, domains={"b": domain("b")}),
    },
)
UNTOLD = Guest(name="ghost", owner=Owner.UNMANAGED, power=Power.DYING, actual_kib=64 * MIB, uuid="u-ghost")
UNREAD = stopped(domain("gone"), config=None, problem="it cannot be parsed")
GONE = domain("gone", disks=(disk("/srv/gone", on_delete="delete"),))
KEPT = guest(GONE)
NEWER = stopped(domain("later"), config=None, newer="its config file (format 7)")

ROWS = [
    # 2: whose it is
    Row(2, "its mark was cut short", written(OURS[: len(MARK) // 2]), wanted(new("web")), "not managed by"),
    Row(2, "its mark is gone", written(BODY), wanted(new("web")), "not managed by"),
    Row(2, "its config file cannot be read", written(""), wanted(new("web")), "not managed by"),
    Row(2, "its file is a copy of another's", written(OURS, name="copy"), wanted(), "not"),
    Row(2, "another uuid runs under its name", written(OURS, uuid="other"), wanted(new("web")), "not managed by"),
    Row(
        2, "a newer version wrote its file", host(guest(WEB, newer="its file (format 7)")), wanted(new("web")), "newer"
    ),
    Row(2, "xl does not tell what it runs", host(guest(WEB, running=None)), wanted(new("web")), "xl does not tell"),
    # 3: what must be kept
    Row(3, "its config file cannot be read", host(guest(WEB), UNREAD), wanted(WEB), "nobody knows what must be kept"),
    Row(3, "its body was edited to nonsense", written(f"{TO_BE_KEPT}memory ("), ELSEWHERE, "prevent_destroy is kept"),
    Row(
        3,
        "its mark was edited to nonsense, too",
        written(TO_BE_KEPT.replace("memory =", "memory (")),
        ELSEWHERE,
        "nobody knows what must be kept",
    ),
    Row(
        3,
        "whether its last spec said to leave it alone",
        host(guest(WEB), replace(KEPT, edited=True)),
        wanted(WEB, left_alone=frozenset({"alpha/gone"})),
        "nobody could read",
    ),
    # 4: how much is asked for
    Row(
        4,
        "a spec file cannot be read",
        host(guest(WEB), guest(domain("gone"))),
        wanted(WEB, prune=False),
        "cannot be read",
    ),
    Row(4, "the tree is empty", host(guest(WEB)), wanted(), "names no domain at all"),
    Row(
        4,
        "how many domains a silent host has",
        host(guest(WEB), guest(domain("a")), guest(domain("b"))),
        beside_beta(wanted(WEB), *(domain(f"b{n}") for n in range(20))),
        "the brake holds: 2 to destroy",
    ),
    # 5: what a silent host has
    Row(5, "what is there", None, wanted(new("web")), "alpha could not be observed"),
    Row(
        5,
        "whether a domain is there",
        host(),
        beside_beta(wanted(WEB)),
        "last seen on beta",
        unseen=Unseen(names={"web": "beta"}),
    ),
    Row(
        5,
        "whether a domain of a silent host still has a mac",
        host(guest(WEB)),
        beside_beta(wanted(replace(WEB, vifs=(MAC,)))),
        "00:16:3e:00:00:09 was a mac of beta/b when beta was last seen",
        unseen=Unseen(claims={"beta/b": {("mac", MAC.mac): mac_claim(MAC)}}),
    ),
    Row(
        5,
        "whether a domain of a silent host still has the uuid of one to be started",
        host(stopped(WEB)),
        beside_beta(wanted(WEB)),
        "was the uuid of beta/b when beta was last seen",
        unseen=Unseen(claims={"beta/b": {("uuid", WEB.uuid): uuid_claim(WEB.uuid)}}),
    ),
    Row(
        5,
        "whether a domain of a silent host still has a disk that any host can reach",
        with_lun(host()),
        beside_beta(wanted(replace(WEB, disks=(LUN,)))),
        "was a disk of beta/b when beta was last seen",
        unseen=Unseen(claims={"beta/b": noted_claims([("world-wide disk", LUN.target)])}),
    ),
    Row(
        5,
        "what was last seen on a silent host, as a disk is to be attached that any host can reach",
        with_lun(host(guest(WEB))),
        beside_beta(wanted(replace(WEB, disks=(LUN,)))),
        "may be a disk of a domain on beta",
        unseen=Unseen(untold=("beta",)),
    ),
    Row(
        5,
        "what was last seen on a silent host, as a domain is to be made",
        host(),
        beside_beta(wanted(WEB)),
        "may be the uuid of a domain on beta",
        unseen=Unseen(untold=("beta",)),
    ),
    Row(
        5,
        "what was last seen on a silent host, as a mac is to be given",
        host(guest(WEB)),
        beside_beta(wanted(replace(WEB, vifs=(MAC,)))),
        "may be a mac of a domain on beta",
        unseen=Unseen(untold=("beta",)),
    ),
    Row(
        5,
        "how its canary is",
        host(guest(WEB)),
        beside_beta(wanted(new("web")), new("low", policy=FIRST)),
        "beta/low cannot be seen",
    ),
    Row(
        5,
        "which wave its canary is in, whose file has errors",
        host(guest(WEB)),
        replace(beside_beta(wanted(new("web"))), frozen=frozenset({"beta/low"}), prune=False),
        "beta/low is frozen",
    ),
    Row(
        5,
        "how the canary is of a host whose host.toml has errors",
        host(guest(WEB)),
        wanted(new("web"), frozen=frozenset({"beta"}), waves_of_frozen={"beta/low": -1}, prune=False),
        "beta has errors in its host.toml",
    ),
    Row(
        5,
        "and nobody can read the file of that canary",
        host(guest(WEB)),
        wanted(new("web"), frozen=frozenset({"beta", "beta/low"}), waves_of_frozen={"beta/low": None}, prune=False),
        "beta has errors in its host.toml",
    ),
    # 6: who has a disk or a mac, and what is free
    Row(6, "how much is free in a volume group", host(), wanted(replace(WEB, disks=(VOLUME,))), "how much is free"),
    Row(
        6,
        "who has a disk, beside a domain that tells nothing",
        replace(host(UNTOLD), files=host(KEPT).files),
        wanted(replace(WEB, disks=(disk("/srv/gone"),))),
        "may be in use by ghost",
    ),
    Row(
        6,
        "who has a mac",
        host(UNTOLD),
        wanted(replace(WEB, vifs=(vif("00:16:3e:00:00:09"),))),
        "may be in use by ghost",
    ),
    Row(6, "what a file of a newer version names", host(guest(WEB), KEPT, NEWER), wanted(WEB), "may belong to later"),
    Row(
        6,
        "what a ghost has, as a disk is to go",
        host(guest(WEB), stopped(GONE), UNTOLD),
        wanted(WEB),
        "may be in use by ghost",
    ),
    Row(
        6,
        "what a disk held that is gone",
        replace(host(stopped(GONE)), files={}),
        wanted(GONE),
        "would hide the loss",
    ),
    Row(
        6,
        "what a path is",
        replace(host(), files={"/srv/x": replace(next(iter(host(KEPT).files.values())), kind="other")}),
        wanted(replace(WEB, disks=(disk("/srv/x"),))),
        "not a disk",
    ),
    # 7: how much memory there is
    Row(7, "what a ghost holds of it", host(UNTOLD, free_mib=100), wanted(WEB), "not enough memory"),
    Row(
        7,
        "which bridges there are",
        replace(host(), bridges=frozenset()),
        wanted(replace(WEB, vifs=(vif("00:16:3e:00:00:09"),))),
        "does not exist",
    ),
    # 10, 13: what runs, and what is proven
    Row(
        13,
        "what it boots: its staged kernel is gone",
        host(stopped(WEB), images={}),
        wanted(replace(WEB, kernel=replace(kernel("web"), source=""))),
        "nothing has its bytes",
    ),
    Row(
        13,
        "a kernel source that is not there",
        host(unmanaged(WEB)),
        wanted(replace(WEB, kernel=Image(sha256="", source="/boot/x"))),
        "is not there",
        consent=Consent(adopt=frozenset({"alpha/web"})),
    ),
    *(
        Row(13, f"what becomes of it: it is {power}", host(guest(WEB, power=power)), wanted(new("web")), says)
        for power, says in {
            Power.PAUSED: "xl unpause",
            Power.STARTING: "xl is making it",
            Power.REBOOTING: "no state to act on",
            Power.SUSPENDED: "no state to act on",
            Power.DYING: "no state to act on",
            Power.MIGRATING: "a migration of it by hand",
            Power.SAVED: "waits to be restored",
        }.items()
    ),
]


def made(row: Row) -> Plan:
    hosts = {} if row.world is None else {"alpha": row.world}
    wanted, problems = complete(row.wanted, hosts)
    plan = build_plan(wanted, hosts, row.consent, unseen=row.unseen, diagnostics=problems)
    verify(plan, hosts, wanted)
    return plan


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule}: {row.unknown}")
def test_what_is_not_known_is_not_done(row: Row) -> None:
    plan = made(row)
    assert plan.steps == ()
    told = [f"{one.summary} {one.detail}" for one in plan.diagnostics]
    for change in (*plan.changes, *plan.undecided):
        told += [change.reason, change.blocked or "", change.hint or "", *change.waits_for]
    assert any(row.says in one for one in [*told, *(f"not ours: {address}" for address in plan.unmanaged)])


def test_every_row_would_be_done_were_it_known() -> None:
    """Otherwise the table would prove nothing."""
    known = host(guest(WEB), guest(domain("gone")))
    for asked in (wanted(new("web")), wanted(WEB, brake=Brake(max_destroy=1))):
        assert build_plan(asked, {"alpha": known}, Consent()).steps


def test_1_who_makes_plans_is_given_nothing_that_could_change_a_host() -> None:
    offered = {name for name in vars(Observer) if not name.startswith("_")}
    assert offered == {"observe", "events", "examine", "close"}


def test_8_a_plan_that_is_bound_to_nothing_is_stale() -> None:
    now = {"boot of the dom0": "", "total memory": "1"}
    assert moved({}, now) == ("boot of the dom0", "total memory")


def test_11_a_candidate_that_was_cut_short_is_written_anew() -> None:
    """What stands in its mark says nothing about its body."""
    candidate = render_file(new("web"), "default", None)
    there = written(OURS, candidate=candidate[: len(candidate) - 40])
    down = replace(there.guests["web"], running=None, power=Power.ABSENT, unproven=False)
    world = replace(there, guests={"web": down}, images={**there.images, kernel("web", NEW).path: NEW})
    plan = build_plan(wanted(new("web")), {"alpha": world}, Consent())
    assert [step.step.kind for step in plan.steps][:2] == ["write_config", "start"]


@pytest.mark.parametrize("past", ["no git", "no commit", "damaged git", "git is not installed", "shallow"])
def test_3_what_no_history_shows_to_be_of_this_tree_is_not_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "web.toml").touch()
    if past != "no git":
        git(tree, "init", "--quiet")
    if past in ("shallow", "git is not installed"):
        for message in ("one", "two"):
            git(tree, "add", "--all")
            git(tree, "commit", "--quiet", "--allow-empty", "--message", message)
    if past == "shallow":
        git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tree}", "clone")
        tree = tmp_path / "clone"
    if past == "damaged git":
        (tree / ".git/HEAD").write_text("nonsense")
    if past == "git is not installed":
        monkeypatch.setenv("PATH", str(tmp_path))
    world = {"alpha": host(guest(WEB), guest(domain("gone"), commit="5" * 40))}
    damaged = tmp_path / "state/history.sqlite"
    damaged.parent.mkdir()
    damaged.write_bytes(b"nonsense" * 100)
    judged = with_evidence(wanted(WEB, brake=Brake(max_destroy=1)), world, tree, History(damaged.parent), ())
    plan = build_plan(judged, world, Consent())
    assert plan.steps == ()
    gone = next(change for change in plan.changes if change.domain == "gone")
    assert "nothing shows that this tree ever asked for it: its mark is of commit 555555555555" in gone.reason
    assert (gone.would, gone.waits_for) == (Action.DESTROY, ("commit: 555555555555",))
    assert "reconciler apply --adopt alpha" in (gone.hint or "")


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_what_devices_a_domain_has_is_taken_from_its_backends_where_xl_tells_nothing() -> None:
    held = replace(UNTOLD, devices=Devices(disks=(("/srv/gone", "rw"),)))
    world = replace(host(held), files=host(KEPT).files)
    plan = build_plan(wanted(replace(WEB, disks=(disk("/srv/gone"),))), {"alpha": world}, Consent())
    assert (plan.steps, OLD) == ((), OLD)
