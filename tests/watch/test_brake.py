"""The brake of watch counts for each accepted commit, or each digest of the tree, and not for each pass."""

from __future__ import annotations

import pytest

from reconciler.decide.changes import Action
from reconciler.fleet import specs_of
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from reconciler.specs import read_tree
from reconciler.state_dir.brake_count import BrakeCount
from reconciler.watch.loop import Watcher
from tests.transcript import write_files
from tests.watch.authors import Author, follow
from tests.watch.conftest import HOST, World, look

DOMAIN = 'kernel = "/boot/vmlinuz"\nmemory = 64\n'
NAMES = {host: [f"{host}{number}" for number in range(3)] for host in ("alpha", "beta")}


def tree(max_destroy: int, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    files = {"specs/reconciler.toml": f"[brake]\nmax_destroy = {max_destroy}\n"}
    for host, names in NAMES.items():
        files |= {f"specs/{host}/host.toml": HOST}
        files |= {f"specs/{host}/{name}.toml": DOMAIN for name in names if name not in without}
    return files


@pytest.fixture
def fleet(world: World) -> World:
    """Two hosts with three domains each, of which one commit may destroy two."""
    for name in ("web", "db"):
        (world.specs / f"alpha/{name}.toml").unlink()
    write_files(tree(2), world.folder)
    look(world.watcher())
    return world


def remove(world: World, *names: str) -> None:
    for name in names:
        (world.specs / f"{name[:-1]}/{name}.toml").unlink()


def there(world: World) -> set[str]:
    return {name for names in NAMES.values() for name in names if world.guest(name, name[:-1]) is not None}


def with_beta_silent(world: World, watcher: Watcher) -> None:
    world.hand_of("beta").fault("unreachable", 1)
    look(watcher)


def test_what_one_pass_destroyed_counts_for_the_next_passes_of_the_same_specs(fleet: World) -> None:
    remove(fleet, "alpha0", "alpha1", "beta0")
    watcher = fleet.watcher()
    with_beta_silent(fleet, watcher)
    assert {"alpha0", "alpha1"}.isdisjoint(there(fleet))
    for one in (watcher, fleet.watcher()):  # and for a watch that begins again
        outcome = look(one)
        assert not outcome.result.done
        (told,) = [problem for problem in outcome.problems if "brake" in problem.summary]
        assert told.detail == (
            "This run would destroy 1 of 6 domains, after 2 for the same specs, and [brake] allows 2: beta/beta0"
        )
    assert "beta0" in there(fleet)
    (fleet.specs / "README").write_text("no spec")
    assert not look(fleet.watcher()).result.done, "the digest of what is read is the same"
    write_files({"specs/alpha/alpha2.toml": DOMAIN + "vcpus = 1\n"}, fleet.folder)
    look(fleet.watcher())
    assert "beta0" not in there(fleet), "other specs begin anew"


def test_the_next_commit_begins_anew_and_none_before_it(fleet: World, author: Author) -> None:
    author.push(tree(2))
    watcher = follow(fleet, author)
    look(watcher)
    author.run("rm", "-r", "--quiet", "specs")
    author.push(tree(2, without=("alpha0", "alpha1", "beta0")))
    with_beta_silent(fleet, watcher)
    look(watcher)
    assert there(fleet) == {"alpha2", "beta0", "beta1", "beta2"}
    author.push({"README": "the same specs"})
    look(watcher)
    assert there(fleet) == {"alpha2", "beta1", "beta2"}


def test_a_domain_that_is_tried_again_counts_once(fleet: World) -> None:
    write_files({"specs/reconciler.toml": "[brake]\nmax_restart = 1\n"}, fleet.folder)
    write_files({"specs/alpha/alpha0.toml": DOMAIN.replace("vmlinuz", "other")}, fleet.folder)
    watcher = fleet.watcher()
    fleet.hand.fault("create-fails", 2)
    assert look(watcher).result.failed
    fleet.clock.seconds += 60
    look(watcher)
    assert fleet.condition("alpha/alpha0") == "Ready"


def test_what_was_never_begun_is_given_back(fleet: World) -> None:
    remove(fleet, "alpha0")
    with SimulatedLock(Store(fleet.state_dir, "alpha")).taken():
        assert look(fleet.watcher()).result.skipped
    specs = specs_of(read_tree(fleet.specs).desired)
    assert BrakeCount(fleet.state_dir).used(specs).of(Action.DESTROY) == frozenset()
    look(fleet.watcher())
    assert BrakeCount(fleet.state_dir).used(specs).of(Action.DESTROY) == {"alpha/alpha0"}


def test_a_count_that_is_lost_allows_nothing_until_somebody_saw_to_it(fleet: World) -> None:
    file = fleet.state_dir / "brake.json"
    file.write_text("{")
    remove(fleet, "alpha0")
    outcome = look(fleet.watcher())
    assert not outcome.result.done
    (told,) = [problem for problem in outcome.problems if "brake" in problem.summary]
    assert str(file) in (told.hint or "")
    file.unlink()
    look(fleet.watcher())
    assert "alpha0" not in there(fleet)
