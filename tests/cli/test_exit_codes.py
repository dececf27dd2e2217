"""The exit codes of the contract, each reached in the ways that scripts will meet it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run

DONE, FAILED, STEPS_TO_RUN, REFUSED, INVALID = 0, 1, 2, 3, 4

Prepare = Callable[[Path, Run], object]


def nothing(tree: Path, run: Run) -> None:
    """The tree as it is."""


def applied(tree: Path, run: Run) -> None:
    assert run("apply", "--yes").code == DONE


def invalid(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/web.toml").write_text("memroy = 1")


def unreachable(tree: Path, run: Run) -> None:
    run("sim", "alpha", "fault", "unreachable")


def blocked(tree: Path, run: Run) -> None:
    run("sim", "alpha", "create", "web")


def invalid_and_blocked(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/db.toml").write_text("memroy = 1")
    blocked(tree, run)


def invalid_and_unreachable(tree: Path, run: Run) -> None:
    invalid(tree, run)
    unreachable(tree, run)


def failing(tree: Path, run: Run) -> None:
    run("sim", "alpha", "fault", "create-fails", "--times", "9")


def failing_and_invalid(tree: Path, run: Run) -> None:
    (tree / "specs/alpha/db.toml").write_text("memroy = 1")
    failing(tree, run)


@pytest.mark.parametrize(
    ("prepare", "command", "code"),
    [
        (nothing, "validate", DONE),
        (invalid, "validate", INVALID),
        (nothing, "plan", DONE),
        (nothing, "plan --detailed-exitcode", STEPS_TO_RUN),
        (applied, "plan --detailed-exitcode", DONE),
        (blocked, "plan", REFUSED),
        (blocked, "plan --detailed-exitcode", REFUSED),
        (invalid, "plan --detailed-exitcode", INVALID),
        (unreachable, "plan --detailed-exitcode", FAILED),
        (invalid_and_blocked, "plan", INVALID),
        (invalid_and_unreachable, "plan", FAILED),
        (nothing, "apply", REFUSED),  # no terminal to ask at
        (nothing, "apply --yes", DONE),
        (applied, "apply", DONE),  # nothing to do needs no consent
        (applied, "apply --yes", DONE),
        (blocked, "apply --yes", REFUSED),
        (invalid, "apply --yes", INVALID),
        (invalid_and_blocked, "apply --yes", INVALID),
        (unreachable, "apply --yes", FAILED),
        (failing, "apply --yes", FAILED),
        (failing_and_invalid, "apply --yes", FAILED),
        (nothing, "status", DONE),
        (blocked, "status", DONE),
        (invalid, "status", INVALID),
        (unreachable, "status", FAILED),
        (nothing, "render alpha/web", DONE),
        (invalid, "render alpha/web", INVALID),
        (unreachable, "render alpha/web", FAILED),  # its kernel lies on the host
        (nothing, "schema host", DONE),
        (applied, "console alpha/web", DONE),
        (nothing, "console alpha/web", FAILED),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_exit_code(tree: Path, run: Run, prepare: Prepare, command: str, code: int) -> None:
    prepare(tree, run)
    assert run(*command.split()).code == code


@pytest.mark.parametrize(
    ("prepare", "command"),
    [
        (nothing, "validate --json"),
        (nothing, "plan --json"),
        (nothing, "apply --json"),
        (nothing, "apply --yes --json"),
        (applied, "apply --json"),
        (invalid_and_blocked, "apply --yes --json"),
        (failing, "apply --yes --json"),
        (unreachable, "apply --yes --json"),
        (nothing, "status --json"),
        (nothing, "plan --json --host nowhere"),
        (nothing, "plan --json --no-such-option"),
        (nothing, "plan --json no-such-tree"),
        (nothing, "sim alpha list --json"),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_with_json_stdout_is_one_document(tree: Path, run: Run, prepare: Prepare, command: str) -> None:
    prepare(tree, run)
    assert isinstance(json.loads(run(*command.split()).out), dict)


def test_without_consent_the_plan_is_shown_and_nothing_done(tree: Path, run: Run) -> None:
    ran = run("apply")
    assert "Plan: 2 to create." in ran.out
    assert "--yes" in ran.err
    assert "No domain" in run("console", "alpha/web").err


def test_what_an_invalid_file_does_not_concern_is_done(tree: Path, run: Run) -> None:
    invalid(tree, run)
    document = json.loads(run("apply", "--yes", "--json").out)
    assert {step["address"] for step in document["done"]} == {"alpha/db"}
    assert document["diagnostics"][0]["path"] == "specs/alpha/web.toml"


def test_plan_changes_nothing_on_the_host(tree: Path, run: Run) -> None:
    applied(tree, run)
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 512\n')

    def stored() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in sorted((tree / ".state/hosts").rglob("*")) if file.is_file()}

    before = stored()
    for command in ("validate", "plan", "status", "render alpha/web"):
        run(*command.split())
    assert before
    assert stored() == before


def test_a_plan_that_went_stale_while_it_was_read_is_refused(
    tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_late() -> None:
        run("sim", "alpha", "create", "web")

    monkeypatch.setattr("reconciler.cli.act.apply._ask", answer_late)
    ran = run("apply")
    assert ran.code == REFUSED
    assert run("status").out.count("ready") == 0


def test_a_host_that_another_apply_holds_is_refused(tree: Path, run: Run) -> None:
    from reconciler.simulated.lock import SimulatedLock
    from reconciler.simulated.store import Store

    with SimulatedLock(Store(tree / ".state", "alpha")).taken():
        ran = run("apply", "--yes")
    assert ran.code == REFUSED
    assert "0 steps done" in ran.out
    assert run("apply", "--yes").code == DONE


def test_a_domain_that_xl_is_making_is_waited_for_and_runs_at_the_next_apply(tree: Path, run: Run) -> None:
    """As after an apply that was killed: its `xl create` goes on."""
    applied(tree, run)
    run("sim", "alpha", "set", "web", "power=starting")
    status = next(one for one in json.loads(run("status", "--json").out)["domains"] if one["address"] == "alpha/web")
    assert (status["status"], status["state"]) == ("reconciling", "starting")
    assert status["reason"].startswith("xl is making it just now")
    waits = run("apply", "--yes", "--json")
    assert waits.code == REFUSED
    assert json.loads(waits.out)["summary"] == {"done": 0, "failed": 0, "skipped": 0}
    run("sim", "alpha", "set", "web", "power=running")
    assert run("apply", "--yes").code == DONE
    assert run("plan", "--detailed-exitcode").code == DONE
