"""`plan --format github`: what a pull request shows beside its lines."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.transcript import write_files


def test_each_change_stands_beside_the_line_that_asks_for_it(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    write_files(
        {
            "specs/profiles/small.toml": "\ncmdline = 'a,b: 100%'\n",
            "specs/alpha/web.toml": 'profile = "small"\nkernel = "/boot/vmlinuz"\nmemory = 256\n',
            "specs/alpha/new.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n',
        },
        tree,
    )
    (tree / "specs/alpha/db.toml").unlink()
    ran = run("plan", "--format", "github")
    assert ran.code == 0
    plan, db, new, web = ran.out.splitlines()
    assert plan.startswith("::notice title=plan::Plan: 1 to create, 1 to restart, 1 to destroy")
    assert db.startswith("::notice title=alpha/db::destroy: ")
    assert new.startswith("::notice file=specs/alpha/new.toml,line=1,col=10,title=alpha/new::create: ")
    assert web.startswith("::notice file=specs/profiles/small.toml,line=2,col=11,title=alpha/web::restart: ")
    assert web.endswith("%0Acmdline: (none) → a,b: 100%25")


def test_what_is_wrong_or_refused_stands_beside_its_file(run: Run, tree: Path) -> None:
    run("sim", "alpha", "create", "web")
    (tree / "specs/alpha/db.toml").write_text("\nmemroy = 1\n")
    ran = run("plan", "--format", "github")
    assert (ran.code, ran.err) == (4, "")
    error, blocked, *_ = ran.out.splitlines()
    assert error.startswith("::error file=specs/alpha/db.toml,line=2,col=1,title=Unknown key::")
    assert blocked.startswith("::warning file=specs/alpha/web.toml,line=1,col=1,title=alpha/web is blocked::")
    assert "%0Ahint: reconciler apply --adopt alpha/web" in blocked


def test_forms_exclude_each_other(run: Run) -> None:
    assert run("plan", "--format", "github", "--json").code == 1
    assert run("plan", "--format", "github", "--markdown").code == 1
