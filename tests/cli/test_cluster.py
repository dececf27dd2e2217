"""What commands do on a host that belongs to a cluster of controllers, without the etcd of that cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.fence import Line
from tests.cli.conftest import Run

FAILED, REFUSED = 1, 3


@pytest.fixture
def shared(tree: Path, run: Run) -> Path:
    """A tree whose host, where all runs, was last acted on by a controller of a cluster."""
    assert run("apply", "--yes").code == 0
    line = tree / ".state/hosts/alpha/line"
    line.write_text(Line(number=4, session="aa", who="one:root@one:7", cluster="c1", lease_seconds=10).text)
    return tree


def edited(tree: Path, edit: Callable[[str], str]) -> None:
    file = tree / "specs/alpha/web.toml"
    file.write_text(edit(file.read_text()))


def test_apply_says_whose_host_it_takes(shared: Path, run: Run) -> None:
    run("sim", "alpha", "destroy", "web")
    ran = run("apply", "--yes")
    assert ran.code == 0
    assert "alpha is taken from one:root@one:7 (token 4) until this is done." in ran.err
    line = Line.parse((shared / ".state/hosts/alpha/line").read_text())
    assert (line.number, line.cluster) == (5, "c1")


def test_apply_refuses_restarts_that_the_cluster_counts_unless_a_person_allows_them(shared: Path, run: Run) -> None:
    settings = shared / "specs/reconciler.toml"
    settings.write_text((settings.read_text() if settings.exists() else "") + "max_unavailable = 1\n")
    edited(shared, lambda text: text + 'cmdline = "quiet"\n')
    ran = run("apply", "--yes")
    assert ran.code == REFUSED
    assert "The max_unavailable of the fleet counts the restart of alpha/web" in ran.out + ran.err
    assert "--allow-restart 1" in ran.out + ran.err
    assert run("apply", "--yes", "--allow-restart", "1").code == 0


def test_a_watch_without_a_cluster_leaves_such_a_host_alone(shared: Path, run: Run) -> None:
    run("sim", "alpha", "destroy", "web")
    ran = run("watch", "--once")
    assert ran.code == REFUSED
    assert "alpha is divided among the controllers of an etcd (cluster c1)" in ran.err
    assert "reconciler unlock alpha --cluster ENDPOINT" in ran.err


def test_an_etcd_that_does_not_answer_is_told(tree: Path, run: Run) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # nobody listens there
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        for words in (["cluster"], ["status"], ["forget", "alpha", "--yes"], ["accept", "0123456789"]):
            ran = run(*words, "--cluster", endpoint)
            assert (ran.code, "No member of the etcd" in ran.err) == (FAILED, True) or words[0] == "forget", ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cluster"], "Name the etcd with --cluster or RECONCILER_CLUSTER"),
        (["cluster", "--cluster", "ftp://etcd"], "is no address of an etcd member"),
        (["watch", "--once", "--cluster", "http://127.0.0.1:1"], "--once is for one controller"),
        (["watch", "--lease", "2s"], "it must be 3s at least"),
    ],
)
def test_what_cannot_be_meant_is_refused(tree: Path, run: Run, words: list[str], said: str) -> None:
    ran = run(*words)
    assert ran.code == FAILED
    assert said in ran.err


def test_a_host_is_not_taken_out_of_its_cluster_unasked(shared: Path, run: Run) -> None:
    ran = run("unlock", "alpha", "--cluster", "http://127.0.0.1:1")
    assert ran.code == REFUSED
    assert "There is no terminal to ask at" in ran.err
