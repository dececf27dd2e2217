"""Options that all commands share, wherever they stand, and what `plan` may be allowed as `apply` may."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from reconciler import cli
from tests.cli.conftest import Run

RED = "\x1b[31m"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--specs", "other", "plan"),
        ("plan", "--specs", "other"),
        ("plan", "other"),
        ("status", "--specs", "other"),
        ("validate", "--specs", "other"),
        ("doctor", "--specs", "other"),
        ("why", "gamma/web", "--specs", "other"),
        ("sim", "gamma", "list", "--specs", "other"),
        ("sim", "--specs", "other", "gamma", "list"),
        ("--specs", "other", "sim", "gamma", "list"),
        ("apply", "--yes", "--specs", "other"),
        ("watch", "--once", "--specs", "other"),
    ],
    ids=" ".join,
)
def test_the_tree_is_named_anywhere(run: Run, tree: Path, arguments: tuple[str, ...]) -> None:
    (tree / "specs").rename(tree / "other")
    (tree / "other/alpha").rename(tree / "other/gamma")
    assert run(*arguments).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan",),
        ("apply", "--yes"),
        ("watch", "--once"),
        ("status",),
        ("sim", "alpha", "list"),
        ("render", "alpha/web"),
    ],
    ids=" ".join,
)
def test_the_environment_names_the_tree(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (tree / "specs").rename(tree / "other")
    monkeypatch.setenv("RECONCILER_SPECS", "other")
    assert run(*arguments).code == 0


def test_the_environment_names_where_a_first_tree_is_written(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILER_SPECS", "other")
    assert run("init").code == 0
    assert (tree / "other/reconciler.toml").exists()
    assert run("init", "--specs", "third").code == 0
    assert (tree / "third/reconciler.toml").exists()


@pytest.mark.parametrize("command", ["plan", "apply", "status", "validate", "watch", "init", "history"])
def test_a_tree_named_twice_is_refused(run: Run, command: str) -> None:
    ran = run(command, "specs", "--specs", "other")
    assert ran.code == 1
    assert "The specs are given twice" in ran.err


@pytest.mark.parametrize(
    "arguments", [("--state-dir", "there", "apply", "--yes"), ("apply", "--yes", "--state-dir=there")]
)
def test_the_state_directory_is_named_before_or_after_the_command(
    run: Run, tree: Path, arguments: tuple[str, ...]
) -> None:
    assert run(*arguments).code == 0
    assert (tree / "there/history.sqlite").exists()
    assert not (tree / ".state").exists()
    assert "web" in run("sim", "alpha", "list", "--state-dir", "there").out


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_tells_of_the_options_of_the_whole_program(run: Run, name: str) -> None:
    text = run(name, "--help").out
    assert all(option in text for option in ("--specs DIR", "--state-dir DIR", "--color [auto|always|never]"))


@pytest.mark.parametrize(
    ("environment", "arguments", "is_terminal", "coloured"),
    [
        ({}, (), True, True),
        ({}, (), False, False),
        ({"TERM": "dumb"}, (), True, False),
        ({"FORCE_COLOR": "1"}, (), False, True),
        ({"CLICOLOR_FORCE": "1"}, (), False, True),
        ({"CLICOLOR_FORCE": "0"}, (), False, False),
        ({"FORCE_COLOR": ""}, (), False, False),
        ({"NO_COLOR": "1"}, (), True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, (), True, False),
        ({"NO_COLOR": "1"}, ("--color", "always"), False, True),
        ({"FORCE_COLOR": "1"}, ("--color=never",), True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, ("--color", "auto"), True, False),
    ],
)
def test_colours(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: tuple[str, ...],
    is_terminal: bool,
    coloured: bool,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: is_terminal)
    assert (RED in run("plan", "nowhere", *arguments).err) is coloured  # said by the command
    assert (RED in run(*arguments, "plan", "--host", "nowhere").err) is coloured  # and after it has ended


def test_what_plan_is_allowed_it_plans_as_apply_does(run: Run, tree: Path) -> None:
    run("sim", "alpha", "create", "web")
    assert "hint: reconciler apply --adopt alpha/web" in run("plan").out
    hint = 'hint: put uuid = "074f3de6-62b2-5c0b-8792-4641174c95aa" into the spec'
    assert hint in run("plan", "--adopt", "alpha/web").out
    with (tree / "specs/alpha/web.toml").open("a") as spec:
        spec.write('uuid = "074f3de6-62b2-5c0b-8792-4641174c95aa"\n')
    assert run("plan", "--adopt", "alpha/web", "--out", "adopt.plan").code == 0
    assert "Complete: alpha/db, alpha/web." in run("apply", "adopt.plan", "--yes").out


def test_a_saved_plan_keeps_what_it_was_allowed(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    for name in ("web", "db"):
        (tree / f"specs/alpha/{name}.toml").unlink()
    (tree / "specs/alpha/new.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\n')
    assert run("plan", "--out", "refused.plan").code == 3
    assert run("plan", "--allow-destroy", "2", "--out", "allowed.plan").code == 0
    ran = run("apply", "allowed.plan", "--yes")
    assert (ran.code, "2 to destroy" in ran.out) == (0, True)
    assert run("plan", "--detailed-exitcode").code == 0


def test_a_saved_plan_keeps_a_restart_that_was_asked_for(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    spec = tree / "specs/alpha/web.toml"
    spec.write_text('kernel = "/boot/vmlinuz"\nmemory = 256\ncmdline = "single"\nrestart = "defer"\n')
    assert "± alpha/web" in run("plan", "--restart", "alpha/web", "--out", "web.plan").out
    assert run("apply", "web.plan", "--yes").code == 0
    assert "alpha/web  ready" in run("status").out


def test_specs_of_a_saved_plan_can_be_named(run: Run, tree: Path) -> None:
    run("plan", "--out", "all.plan")
    (tree / "specs").rename(tree / "moved")
    assert run("apply", "all.plan", "--yes").code == 3
    assert run("apply", "all.plan", "--yes", "--specs", "moved").code == 0


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("plan", "--no-such-option"), "usage"),
        (("plan", "--host", "nowhere"), "usage"),
        (("status", "--no-such-option"), "usage"),
        (("apply", "--adopt", "alpha/wbe"), "usage"),
        (("why", "nowhere/web"), "usage"),
        (("sim", "nowhere", "list"), "usage"),
        (("plan",), "world"),
        (("status",), "world"),
    ],
    ids=str,
)
def test_wrong_usage_is_no_host_that_is_down(run: Run, arguments: tuple[str, ...], kind: str) -> None:
    run("sim", "alpha", "fault", "unreachable", "--times", "9")
    ran = run(*arguments, "--json")
    assert ran.code == 1
    assert {problem["kind"] for problem in json.loads(ran.out)["diagnostics"]} == {kind}


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "--target", "web"),
        ("status", "--target", "web"),
        ("apply", "--yes", "--target", "web", "--retry", "web"),
        ("why", "web"),
        ("kernels", "web"),
        ("render", "web"),
        ("history", "--target", "web"),
    ],
    ids=" ".join,
)
def test_the_only_domain_of_a_name_needs_no_host(run: Run, arguments: tuple[str, ...]) -> None:
    run("apply", "--yes")
    ran, whole = run(*arguments), run(*(word.replace("web", "alpha/web") for word in arguments))
    assert ran.code == 0
    assert ran == whole


def test_of_two_of_a_name_neither_is_meant(run: Run, tree: Path) -> None:
    (tree / "specs/beta").mkdir()
    (tree / "specs/beta/host.toml").write_text('toolstack = "simulated"\n')
    (tree / "specs/beta/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\n')
    assert '"web" (--target) is not of the form host/domain.' in run("plan", "--target", "web").err
