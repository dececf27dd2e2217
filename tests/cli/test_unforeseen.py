"""An error nobody foresaw, in one host or one file: the others go on, people read a sentence, the log has the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver
from reconciler.specs import tree as specs_tree
from reconciler.specs.files import TreeRoot
from reconciler.specs.resolve import tree as resolving
from reconciler.specs.resolve.domain import build_domain
from reconciler.specs.toml import parse_toml
from tests.transcript import write_files

from .conftest import Ran, Run

ERRORS = [ValueError("odd"), OSError(24, "Too many open files"), RuntimeError("no\nway"), KeyError("x"), IndexError()]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> Exception:
    found = request.param
    assert isinstance(found, Exception)
    return found


@pytest.fixture
def two_hosts(tree: Path) -> Path:
    beta = {"host": 'toolstack = "simulated"\n', "far": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'}
    write_files({f"specs/beta/{name}.toml": text for name, text in beta.items()}, tree)
    return tree


def broken(original: Callable[..., Any], breaks: Callable[..., bool], error: Exception) -> Callable[..., Any]:
    """The same function, but that it raises where `breaks` says so."""

    def maybe(*given: Any, **named: Any) -> Any:
        if breaks(*given):
            raise error
        return original(*given, **named)

    return maybe


def check_told(ran: Ran, tree: Path, error: Exception) -> None:
    """In a sentence, with the log's name; the log has the traceback."""
    logged = (tree / ".state/errors.log").read_text()
    assert "Traceback (most recent call last)" in logged
    assert type(error).__name__ in logged
    told = ran.out + ran.err
    assert "Traceback" not in told
    assert "An error that nobody foresaw came up while" in told
    assert str(tree / ".state/errors.log") in told
    assert "has a bug" not in told


def test_in_the_look_at_one_host(two_hosts: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    looking = broken(SimulatedObserver.observe, lambda observer, question: observer.name == "alpha", error)
    monkeypatch.setattr(SimulatedObserver, "observe", looking)
    ran = run("apply", "--yes")
    assert ran.code == 1
    check_told(ran, two_hosts, error)
    assert "alpha: an error nobody foresaw" in ran.err
    assert "Complete: beta/far" in ran.out
    assert run("plan").code == 1
    assert run("status").code in (0, 1)


def test_in_the_lock_of_one_host(two_hosts: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(
        SimulatedExecutor, "lock", broken(SimulatedExecutor.lock, lambda executor: executor.name == "alpha", error)
    )
    ran = run("apply", "--yes")
    assert ran.code == 1
    check_told(ran, two_hosts, error)
    assert "beta/far" in ran.out.partition("Complete: ")[2]
    assert "far" in run("sim", "beta", "list").out


def test_in_one_step(two_hosts: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def starts_web(executor: SimulatedExecutor, step: Any, report: object) -> bool:
        return bool(step.kind == "start" and step.definition.name == "web")

    monkeypatch.setattr(SimulatedExecutor, "execute", broken(SimulatedExecutor.execute, starts_web, error))
    ran = run("apply", "--yes")
    assert ran.code == 1
    check_told(ran, two_hosts, error)
    assert "alpha/db, beta/far" in ran.out


@pytest.mark.parametrize("place", ["parse", "read", "judge"])
def test_in_the_reading_of_one_file(
    two_hosts: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    if place == "parse":
        reading = broken(parse_toml, lambda text: "256" in text, error)
        monkeypatch.setattr(specs_tree, "parse_toml", reading)
    elif place == "read":
        reading = broken(TreeRoot.read_spec, lambda root, path: path == "alpha/web.toml", error)
        monkeypatch.setattr(TreeRoot, "read_spec", reading)
    else:
        reading = broken(build_domain, lambda name, *_: name == "web", error)
        monkeypatch.setattr(resolving, "build_domain", reading)
    checked = run("validate")
    assert checked.code == 4
    check_told(checked, two_hosts, error)
    ran = run("apply", "--yes")
    assert ran.code == 4
    check_told(ran, two_hosts, error)
    assert "Complete: alpha/db, beta/far" in ran.out


def test_in_the_reading_of_one_kernel(
    two_hosts: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write_files({"specs/alpha/web.toml": 'kernel = "kernels/k"\nmemory = 256\n', "specs/kernels/k": "k"}, two_hosts)
    monkeypatch.setattr(TreeRoot, "digest", broken(TreeRoot.digest, lambda *given: True, error))
    ran = run("apply", "--yes")
    assert ran.code == 4
    assert "Traceback" not in ran.err
    assert "An error that nobody foresaw came up while kernels/k was read" in ran.err
    assert "alpha/db, beta/far" in ran.out


def test_the_log_is_bounded(tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tree / ".state/errors.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("x" * ((1 << 20) + 1))
    monkeypatch.setattr(SimulatedObserver, "observe", broken(SimulatedObserver.observe, lambda *_: True, KeyError()))
    assert run("plan").code == 1
    assert 0 < log.stat().st_size < 100_000
    assert (tree / ".state/errors.log.1").stat().st_size > 1 << 20
