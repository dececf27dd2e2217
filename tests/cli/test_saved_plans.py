"""`plan --out` and `apply FILE`: followed wholly and once, or refused with what moved, and nothing done."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler import reconcile
from reconciler.cli import saved_plan
from tests.cli.conftest import Run

DONE, FAILED, REFUSED = 0, 1, 3
Change = Callable[[Path, Run], object]


def domains(run: Run) -> list[str]:
    found = json.loads(run("sim", "alpha", "list", "--json").out)
    return [domain["name"] for domain in found["domains"]]


def save(run: Run, *options: str) -> None:
    assert run("plan", "--out", "plan.json", *options).code == DONE


def edit(tree: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the saved plan as somebody with an editor would."""
    document = json.loads((tree / "plan.json").read_text())
    change(document)
    (tree / "plan.json").write_text(json.dumps(document))


def test_a_saved_plan_is_followed_and_nothing_is_planned_anew(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a saved plan is planned anew")

    monkeypatch.setattr(reconcile, "build_plan", refuse)
    monkeypatch.setattr(reconcile, "complete", refuse)
    assert run("apply", "plan.json", "--yes").code == DONE
    assert domains(run) == ["db", "web"]


def test_the_file_is_the_document_of_json_and_what_binds_it(run: Run, tree: Path) -> None:
    printed = json.loads(run("plan", "--out", "plan.json", "--json").out)
    saved = json.loads((tree / "plan.json").read_text())
    assert {key: saved[key] for key in printed} == printed
    assert set(saved) - set(printed) == {"saved", "seal"}


def test_a_saved_plan_is_shown_as_it_was_when_it_was_made(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 300\nvcpus = 2\n')
    shown = run("plan", "--out", "plan.json").out
    assert "restart" in shown
    assert run("apply", "plan.json", "--yes").out.startswith(shown)


def test_a_saved_plan_can_be_used_once(run: Run, tree: Path) -> None:
    save(run)
    assert run("apply", "plan.json", "--yes").code == DONE
    again = run("apply", "plan.json", "--yes")
    assert again.code == REFUSED
    assert "can be applied once" in again.err


def test_a_saved_plan_with_nothing_to_do_can_be_used_once_too(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    save(run)
    first = run("apply", "plan.json")
    assert (first.code, first.err) == (DONE, "")
    assert run("apply", "plan.json").code == REFUSED


def test_a_copy_of_a_used_plan_is_used_too_and_a_new_plan_is_not(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    save(run)
    (tree / "copy.json").write_bytes((tree / "plan.json").read_bytes())
    save(run)
    assert run("apply", "copy.json").code == DONE
    assert run("apply", "plan.json").code == DONE


def test_without_consent_a_saved_plan_is_neither_followed_nor_used(run: Run, tree: Path) -> None:
    save(run)
    assert run("apply", "plan.json").code == REFUSED
    assert domains(run) == []
    assert run("apply", "plan.json", "--yes").code == DONE


def spec_edited(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/web.toml").write_text('kernel = "kernels/linux"\nmemory = 300\n')


def spec_added(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/new.toml").write_text('kernel = "kernels/linux"\nmemory = 64\n')


def spec_removed(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/db.toml").unlink()


def kernel_of_the_tree_replaced(tree: Path, run: Run) -> None:
    (tree / "specs/kernels/linux").write_text("other bytes")


def kernel_on_the_host_replaced(tree: Path, run: Run) -> None:
    (tree / "bytes").write_text("other bytes")
    run("sim", "alpha", "put", "/boot/vmlinuz", "bytes")


def host_settings_edited(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/host.toml").write_text('toolstack = "simulated"\nparallel = 1\n')


def drifted(tree: Path, run: Run) -> None:
    run("sim", "alpha", "set", "db", "memory=200")


def unmanaged_domain_came(tree: Path, run: Run) -> None:
    run("sim", "alpha", "create", "legacy")


def rebooted(tree: Path, run: Run) -> None:
    run("sim", "alpha", "reboot")


@pytest.mark.parametrize(
    ("move", "named"),
    [
        (spec_edited, "alpha/web.toml"),
        (spec_added, "alpha/new.toml"),
        (spec_removed, "alpha/db.toml"),
        (kernel_of_the_tree_replaced, "kernels/linux"),
        (kernel_on_the_host_replaced, "file /boot/vmlinuz"),
        (host_settings_edited, "alpha/host.toml"),
        (drifted, "domain db"),
        (unmanaged_domain_came, "domain legacy"),
        (rebooted, "boot of the dom0"),
    ],
)
@pytest.mark.parametrize("anything_to_do", [True, False])
def test_a_stale_plan_is_refused_naming_what_moved(
    run: Run, tree: Path, move: Change, named: str, anything_to_do: bool
) -> None:
    (tree / "specs/kernels").mkdir()
    (tree / "specs/kernels/linux").write_text("bytes")
    (tree / "specs/alpha/web.toml").write_text('kernel = "kernels/linux"\nmemory = 256\n')
    assert run("apply", "--yes").code == DONE
    if anything_to_do:
        (tree / "specs/alpha/more.toml").write_text('kernel = "kernels/linux"\nmemory = 64\n')
    save(run)
    move(tree, run)
    before = domains(run)
    refused = run("apply", "plan.json", "--yes")
    assert refused.code == REFUSED
    assert named in refused.err
    assert "reconciler plan" in refused.err
    assert domains(run) == before
    assert not list((tree / ".state/plans-used").glob("*"))


def test_a_refused_plan_has_a_document_of_what_was_not_done(run: Run, tree: Path) -> None:
    save(run)
    steps = len(json.loads((tree / "plan.json").read_text())["steps"])

    def refusal(*options: str) -> tuple[str, set[str]]:
        refused = run("apply", "plan.json", "--json", *options)
        assert refused.code == REFUSED
        document = json.loads(refused.out)
        assert document["summary"] == {"done": 0, "failed": 0, "skipped": steps}
        (problem,) = document["diagnostics"]
        return problem["summary"], {entry["reason"] for entry in document["skipped"]}

    assert refusal() == ("no consent", {"no consent"})
    spec = tree / "specs/alpha/web.toml"
    text = spec.read_text()
    spec.write_text(text + "# more\n")
    assert refusal("--yes") == ("the plan is stale", {"the plan is stale"})
    spec.write_text(text)
    assert run("apply", "plan.json", "--yes").code == DONE
    assert refusal("--yes") == ("the plan was used before", {"the plan was used before"})


def test_one_host_that_moved_holds_the_whole_saved_plan(run: Run, tree: Path) -> None:
    (tree / "specs/beta").mkdir()
    (tree / "specs/beta/host.toml").write_text('toolstack = "simulated"\n')
    (tree / "specs/beta/mail.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\n')
    save(run)
    run("sim", "beta", "create", "legacy")
    refused = run("apply", "plan.json", "--yes", "--json")
    assert refused.code == REFUSED
    document = json.loads(refused.out)
    assert document["done"] == document["failed"] == []
    assert {entry["address"] for entry in document["skipped"]} == {"alpha/db", "alpha/web", "beta/mail"}
    assert domains(run) == []


def test_a_host_that_does_not_answer_leaves_the_saved_plan_unused(run: Run, tree: Path) -> None:
    save(run)
    run("sim", "alpha", "fault", "unreachable")
    assert run("apply", "plan.json", "--yes").code == FAILED
    assert run("apply", "plan.json", "--yes").code == DONE


def cut_short(tree: Path) -> None:
    whole = (tree / "plan.json").read_bytes()
    (tree / "plan.json").write_bytes(whole[: len(whole) // 2])


def emptied(tree: Path) -> None:
    (tree / "plan.json").write_text("")


def made_binary(tree: Path) -> None:
    (tree / "plan.json").write_bytes(b"\xff\xfe\x00plan")


def made_a_list(tree: Path) -> None:
    (tree / "plan.json").write_text("[1, 2]")


def nested_deeply(tree: Path) -> None:
    (tree / "plan.json").write_text("[" * 100_000)


def only_printed(tree: Path) -> None:
    edit(tree, lambda document: (document.pop("saved"), document.pop("seal")))


def of_another_version(tree: Path) -> None:
    edit(tree, lambda document: document["saved"].update(version=saved_plan.VERSION + 1))


def of_another_format(tree: Path) -> None:
    edit(tree, lambda document: document.update(format=2))


@pytest.mark.parametrize(
    "spoil",
    [
        cut_short,
        emptied,
        made_binary,
        made_a_list,
        nested_deeply,
        only_printed,
        of_another_version,
        of_another_format,
    ],
)
def test_a_file_that_is_no_saved_plan_is_refused_with_a_sentence(
    run: Run, tree: Path, spoil: Callable[[Path], None]
) -> None:
    save(run)
    spoil(tree)
    refused = run("apply", "plan.json", "--yes")
    assert refused.code == REFUSED
    assert "plan.json cannot be applied: it is" in refused.err
    assert domains(run) == []
    document = json.loads(run("apply", "plan.json", "--yes", "--json").out)
    assert document["done"] == document["failed"] == document["skipped"] == []
    assert [problem["kind"] for problem in document["diagnostics"]] == ["refused"]


def less_memory(document: dict[str, Any]) -> None:
    for step in document["saved"]["plan"]["steps"]:
        if "definition" in step["step"]:
            step["step"]["definition"]["memory_kib"] = 65536


def a_step_removed(document: dict[str, Any]) -> None:
    document["saved"]["plan"]["steps"].pop()


def another_summary(document: dict[str, Any]) -> None:
    document["summary"]["create"] = 0


def another_id(document: dict[str, Any]) -> None:
    document["saved"]["id"] = "0" * 32


def no_seal(document: dict[str, Any]) -> None:
    del document["seal"]


def a_lone_surrogate(document: dict[str, Any]) -> None:
    document["digest"] = "\ud800"


@pytest.mark.parametrize(
    "change", [less_memory, a_step_removed, another_summary, another_id, no_seal, a_lone_surrogate]
)
def test_an_edited_plan_is_refused(run: Run, tree: Path, change: Callable[[dict[str, Any]], None]) -> None:
    save(run)
    edit(tree, change)
    refused = run("apply", "plan.json", "--yes")
    assert refused.code == REFUSED
    assert "changed after it was saved" in refused.err
    assert domains(run) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "alpha"],
        ["--target", "alpha/web"],
        ["--adopt", "alpha/web"],
        ["--restart", "alpha/web"],
        ["--retry", "alpha/web"],
        ["--allow-destroy", "0"],
        ["--allow-restart", "1"],
    ],
)
def test_options_that_would_change_the_plan_are_wrong_usage(run: Run, tree: Path, options: list[str]) -> None:
    save(run)
    refused = run("apply", "plan.json", "--yes", *options)
    assert refused.code == FAILED
    assert options[0] in refused.err
    assert domains(run) == []


def test_a_tree_that_moved_away_is_looked_for_where_specs_usually_are(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run)
    (tree / "specs").rename(tree / "elsewhere")
    monkeypatch.setenv("RECONCILER_SPECS", "elsewhere")
    followed = run("apply", "plan.json", "--yes")
    assert followed.code == DONE
    assert "which is gone; the specs are read from elsewhere instead" in followed.err


def test_a_plan_whose_specs_are_nowhere_is_refused(run: Run, tree: Path) -> None:
    save(run)
    (tree / "specs").rename(tree / "elsewhere")
    refused = run("apply", "plan.json", "--yes")
    assert refused.code == REFUSED
    assert "neither that nor specs is there" in refused.err


def test_a_plan_of_another_tree_is_refused(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(run)
    (tree / "specs").rename(tree / "elsewhere")
    (tree / "elsewhere/alpha/db.toml").unlink()
    monkeypatch.setenv("RECONCILER_SPECS", "elsewhere")
    refused = run("apply", "plan.json", "--yes")
    assert refused.code == REFUSED
    assert "alpha/db.toml" in refused.err


def git(tree: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(tree), *identity, *arguments], check=True, capture_output=True)


def test_committing_the_very_bytes_that_a_plan_was_made_from_changes_nothing(run: Run, tree: Path) -> None:
    (tree / ".gitignore").write_text(".state\nplan.json\n")
    git(tree, "init", "--quiet")
    save(run)
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message=First")
    head = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    applied = run("apply", "plan.json", "--yes", "--json")
    assert applied.code == 0
    assert json.loads(applied.out)["commit"] == head.stdout.strip()
    assert json.loads(run("history", "--json").out)["applies"][0]["commit"] == head.stdout.strip()


def test_a_plan_of_a_commit_is_not_saved_among_its_specs(run: Run, tree: Path) -> None:
    (tree / ".gitignore").write_text(".state\n")
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message=First")
    refused = run("plan", "--out", "specs/plan.json")
    assert refused.code == FAILED
    assert "lies in the spec tree" in refused.err
    assert not (tree / "specs/plan.json").exists()


@pytest.mark.parametrize("out", ["/dev/null", "missing/plan.json", "specs", ""])
def test_a_plan_that_cannot_be_saved_says_so_and_prints_no_plan(run: Run, tree: Path, out: str) -> None:
    failed = run("plan", "--out", out)
    assert (failed.code, failed.out) == (FAILED, "")
    assert "--out" in failed.err
    assert not [path for path in tree.iterdir() if path.name.startswith("..") or "plan" in path.name]


def test_what_was_blocked_when_the_plan_was_made_still_counts(run: Run, tree: Path) -> None:
    run("sim", "alpha", "create", "web")
    assert run("plan", "--out", "plan.json").code == REFUSED
    followed = run("apply", "plan.json", "--yes")
    assert followed.code == REFUSED
    assert domains(run) == ["db", "web"]


def test_a_saved_plan_falls_back_as_it_said(run: Run, tree: Path) -> None:
    assert run("apply", "--yes").code == DONE
    (tree / "specs/kernels").mkdir()
    (tree / "specs/kernels/linux").write_text('#!simulated-kernel\nboot = "panic"\n')
    (tree / "specs/alpha/web.toml").write_text('kernel = "kernels/linux"\nmemory = 256\n')
    save(run)
    assert run("apply", "plan.json", "--yes").code == FAILED
    assert domains(run) == ["db", "web"]


def test_of_two_that_use_a_plan_at_once_one_is_refused(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    save(run)
    command = [sys.executable, "-c", "from reconciler.cli import main; main()", "apply", "plan.json"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(process.wait() for process in both) == [DONE, REFUSED]
