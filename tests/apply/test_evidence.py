"""What shows that this tree once asked for a domain: git's past of it, or the history of this state directory."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciler.apply.evidence import place_of, with_evidence
from reconciler.apply.history import History
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.model.fleet import Desired, Origin
from reconciler.plan.steps import PlannedStep, WriteConfig
from reconciler.specs.commit import past_of
from tests.apply.recording_host import plan_of
from tests.worlds import desired, domain, guest, host

WEB, DB = domain("web"), domain("db")
ELSEWHERE = "0123456789" * 4


@dataclass(frozen=True)
class Tree:
    """A folder, perhaps in a git repository of its own."""

    folder: Path
    state: Path

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
        command = ["git", "-C", str(self.folder), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, *names: str, gone: str | None = None) -> str:
        for name in names:
            file = self.folder / f"specs/alpha/{name}.toml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"# {name}\n")
        if gone is not None:
            (self.folder / f"specs/alpha/{gone}.toml").unlink()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "specs")
        return self.git("rev-parse", "HEAD")

    def doubts(self, commit: str | None, wanted: Desired | None = None, adopting: str = "") -> dict[str, str]:
        """Why `web`, whose mark is of this commit, may not be this tree's."""
        world = host(guest(WEB, commit=commit), guest(DB, commit=commit))
        wanted = wanted or desired(DB)
        specs = self.folder / "specs"
        found = with_evidence(wanted, {"alpha": world}, specs, History(self.state), {adopting}).doubts
        return {address: f"{doubt.why} ({doubt.hint})" for address, doubt in found.items()}

    def note_that_it_made(self, specs: Path) -> None:
        step = PlannedStep(id="s1", host="alpha", step=WriteConfig(definition=WEB))
        with History(self.state).recording(plan_of([step]), None, place_of(specs, desired(DB))) as recording:
            recording.note(StepResult(step=step))
            recording.end(ApplyResult())


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree of two commits: the second one has no `web` any more."""
    made = Tree(tmp_path / "tree", tmp_path / "state")
    made.folder.mkdir()
    made.git("init", "--quiet")
    made.commit("web", "db")
    made.commit(gone="web")
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Tree:
    """A tree without git."""
    made = Tree(tmp_path / "bare", tmp_path / "state")
    (made.folder / "specs").mkdir(parents=True)
    return made


def test_the_commit_of_its_mark_or_one_that_had_its_file(tree: Tree) -> None:
    assert tree.doubts(tree.git("rev-parse", "HEAD~1")) == {}
    assert tree.doubts(ELSEWHERE) == {}  # a rebased clone: its file was there all the same
    assert tree.doubts(None) == {}


def test_another_repository_of_the_same_name_destroys_nothing(tree: Tree, tmp_path: Path) -> None:
    other = Tree(tmp_path / "other", tmp_path / "state of it")
    other.folder.mkdir()
    other.git("init", "--quiet")
    other.commit("db")
    (why,) = other.doubts(tree.git("rev-parse", "HEAD~1")).values()
    assert f"commit {tree.git('rev-parse', 'HEAD~1')[:12]}, which this repository does not hold" in why
    assert "reconciler apply --adopt alpha" in why
    assert "unshallow" not in why
    assert "its mark names no commit" in other.doubts(None)["alpha/web"]


def test_a_shallow_clone_is_told_how_to_see_more(tree: Tree, tmp_path: Path) -> None:
    clone = Tree(tmp_path / "clone", tmp_path / "state of it")
    tree.git("clone", "--quiet", "--depth", "1", f"file://{tree.folder}", str(clone.folder))
    (why,) = clone.doubts(tree.git("rev-parse", "HEAD~1")).values()
    assert "(git fetch --unshallow; or, if it is this tree's: reconciler apply --adopt alpha" in why
    clone.git("fetch", "--quiet", "--unshallow")
    assert clone.doubts(tree.git("rev-parse", "HEAD~1")) == {}


def test_what_was_made_from_here_without_a_commit_is_known_by_the_history(tree: Tree, tmp_path: Path) -> None:
    never = Tree(tmp_path / "never", tmp_path / "state")
    never.folder.mkdir()
    never.git("init", "--quiet")
    never.commit("db")
    assert never.doubts(None).keys() == {"alpha/web"}
    never.note_that_it_made(tree.folder / "specs")  # with one state directory, and yet another tree
    assert never.doubts(None).keys() == {"alpha/web"}
    never.note_that_it_made(never.folder / "specs")
    assert never.doubts(None) == {}


def test_a_tree_without_git_prunes_what_has_no_commit_and_what_it_made(bare: Tree) -> None:
    assert bare.doubts(None) == {}
    assert "this tree, which is in no git repository, cannot know" in bare.doubts(ELSEWHERE)["alpha/web"]
    bare.note_that_it_made(bare.folder / "specs")
    assert bare.doubts(ELSEWHERE) == {}


def test_a_tree_that_was_laid_out_is_judged_by_the_repository_it_came_from(tree: Tree, bare: Tree) -> None:
    origin = Origin(repository=str(tree.folder / ".git"), folder="specs")
    wanted = replace(desired(DB), origin=origin, commit=tree.git("rev-parse", "HEAD"))
    assert bare.doubts(tree.git("rev-parse", "HEAD~1"), wanted) == {}
    assert bare.doubts(ELSEWHERE, wanted) == {}
    assert bare.doubts(ELSEWHERE, replace(wanted, origin=replace(origin, folder="elsewhere"))).keys() == {"alpha/web"}


def test_a_mark_is_no_option_of_git(tree: Tree) -> None:
    other = Tree(tree.folder, tree.state)
    tree.git("rm", "-r", "-q", "--cached", "specs")
    assert other.doubts("--all").keys() == set()  # by its file; the mark itself is never given to git
    past = past_of(tree.folder / "specs", desired(DB))
    assert past is not None
    assert not past.has("--all")
    assert not past.has("HEAD")


def test_with_adopt_host_the_marks_of_what_specs_name_are_judged_too(tree: Tree) -> None:
    assert tree.doubts(ELSEWHERE, adopting="alpha").keys() == {"alpha/db"}
