"""A plan with nothing to do is told again while all that it was made of is as it was, and by nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import cli
from reconciler.cli.session import read_decided
from reconciler.state_dir import quiet_plan
from tests.cli.conftest import Run
from tests.transcript import write_files

KEPT = "quiet-plan.json"
FORMS = ((), ("--json",), ("--markdown",), ("--steps",))


@pytest.fixture
def state(tree: Path, run: Run) -> Path:
    """The state directory of a tree with a kernel of its own, once there is nothing to do."""
    (tree / "specs/kernels").mkdir()
    (tree / "specs/kernels/linux").write_text("a kernel" * 100_000)  # too large for the journal
    web = tree / "specs/alpha/web.toml"
    web.write_text(web.read_text().replace("/boot/vmlinuz", "kernels/linux"))
    assert run("apply", "--yes").code == 0
    return Path(os.environ["RECONCILER_STATE_DIR"])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The trees that were read for a plan, one by one."""
    found: list[Path] = []

    def noting(specs: Path) -> object:
        found.append(specs)
        return read_decided(specs)

    monkeypatch.setattr("reconciler.cli.look.plan.read_decided", noting)
    return found


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_it_is_the_same_bytes_with_and_without(form: tuple[str, ...], state: Path, run: Run, reads: list[Path]) -> None:
    run("plan", *form)  # notes what it sees on the hosts
    made, told = run("plan", *form), run("plan", *form)
    assert len(reads) == 2
    (state / KEPT).unlink()
    again = run("plan", *form)
    assert len(reads) == 3
    assert made == told == again
    assert made.out


def pipe_for(kernel: Path) -> None:
    kernel.unlink()
    os.mkfifo(kernel)


def link_out_for(kernel: Path, elsewhere: Path) -> None:
    kernel.rename(elsewhere)
    kernel.symlink_to(elsewhere)


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "a spec": lambda tree, state: (tree / "specs/alpha/web.toml").write_text(
        'kernel = "kernels/linux"\nmemory = 257\n'
    ),
    "a comment": lambda tree, state: (tree / "specs/alpha/db.toml").open("a").write("# another\n"),
    "a kernel": lambda tree, state: (tree / "specs/kernels/linux").write_text("b kernel"),
    "a file more": lambda tree, state: (tree / "specs/alpha/new.toml").write_text('kernel = "/k"\nmemory = 64\n'),
    "a file less": lambda tree, state: (tree / "specs/alpha/db.toml").unlink(),
    "a tree's settings": lambda tree, state: (tree / "specs/reconciler.toml").write_text('fleet = "other"\n'),
    "a profile": lambda tree, state: write_files({"specs/profiles/a.toml": "memory = 64\n"}, tree),
    "a link": lambda tree, state: (tree / "specs/alpha/to.toml").symlink_to("web.toml"),
    "a spec where none is read": lambda tree, state: write_files({"specs/alpha/new/db.toml": "memory = 64\n"}, tree),
    "a folder called as a spec": lambda tree, state: (tree / "specs/alpha/new.toml").mkdir(),
    "a folder called as the settings": lambda tree, state: (tree / "specs/reconciler.toml").mkdir(),
    "a link to a folder": lambda tree, state: (tree / "specs/alpha/x").symlink_to("/etc"),
    "a pipe for a kernel": lambda tree, state: pipe_for(tree / "specs/kernels/linux"),
    "a link out of the tree for a kernel": lambda tree, state: link_out_for(tree / "specs/kernels/linux", tree / "k"),
    "a linked folder": lambda tree, state: (tree / "specs/beta").symlink_to("alpha"),
    "a domain": lambda tree, state: cli.run(["sim", "alpha", "destroy", "web"]),
    "a fault": lambda tree, state: cli.run(["sim", "alpha", "fault", "unreachable"]),
    "a hold": lambda tree, state: cli.run(["hold", "alpha/web"]),
    "a host given up": lambda tree, state: (state / "forgotten.json").write_text('["beta"]'),
    "a host that was seen": lambda tree, state: write_files({"sightings/beta.json": "{}"}, state),
    "a blob": lambda tree, state: next((state / "hosts/alpha/blobs").iterdir()).unlink(),
    "what is kept": lambda tree, state: (state / KEPT).write_text('{"key": "", "images": [], "text": "no"}'),
    "what is kept, cut short": lambda tree, state: os.truncate(state / KEPT, 20),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_made_anew_after_a_change_of(change: str, tree: Path, state: Path, run: Run, reads: list[Path]) -> None:
    for _ in range(3):
        run("plan")
    before = len(reads)
    CHANGES[change](tree, state)
    told = run("plan")
    assert len(reads) == before + 1
    if change == "a spec":
        assert "256 MiB → 257 MiB" in told.out


def test_it_is_made_anew_by_another_version(state: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        run("plan")
    key = quiet_plan.state_of(state)
    asked = ("text", False, False, None)
    assert quiet_plan.recall(state, Path("specs"), key, asked) is not None
    monkeypatch.setattr(quiet_plan, "_program", lambda: ["another"])
    assert quiet_plan.recall(state, Path("specs"), key, asked) is None


@pytest.mark.parametrize("name", ["git", "consoles", "plans-used", "blobs"])
def test_a_host_may_be_called_as_a_folder_that_is_not_read(name: str, tmp_path: Path) -> None:
    told = set()
    for text in ("one", "two"):
        write_files({f"hosts/{name}/journal": text}, tmp_path)
        told.add(quiet_plan.state_of(tmp_path))
    assert len(told) == 2


def test_the_program_is_told_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet_plan, "_PROGRAM", tmp_path)
    found = []
    for text in ("a = 1\n", "a = 22\n"):
        (tmp_path / "module.py").write_text(text)
        quiet_plan._program.cache_clear()
        found.append(quiet_plan._program())
    quiet_plan._program.cache_clear()
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "arguments", [["--host", "alpha"], ["--target", "web"], ["--ignore-holds"], ["--format", "github"]], ids=" ".join
)
def test_what_asks_for_something_else_is_made_anew(
    arguments: list[str], state: Path, run: Run, reads: list[Path]
) -> None:
    for _ in range(3):
        run("plan")
    before = len(reads)
    run("plan", *arguments)
    assert len(reads) == before + 1


def test_a_plan_that_has_something_to_do_is_not_kept(tree: Path, run: Run, reads: list[Path]) -> None:
    for _ in range(3):
        run("plan")
    assert len(reads) == 3
