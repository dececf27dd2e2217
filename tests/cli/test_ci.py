"""What has a forge check a tree: the jobs of docs/ci.md are those that `init` writes, their scripts run, and so does
the hook of pre-commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.ci import JOBS, PRE_COMMIT_FILE, filled
from tests.cli.conftest import Run
from tests.transcript import UPDATE

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/ci.md"
BESIDE = str(Path(sys.executable).parent)
TEMPLATES = ("github.yml", "gitlab.yml", "forgejo.yml", "pre-commit.yaml")
_BLOCK = re.compile(r"(?<=^```yaml\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_TOLD = """#!/bin/sh
printf '%s ' "$@" >> told
echo >> told
case "$*" in *-X*) cp plan.md sent.md ;; *notes*|*comments*) echo "${FOUND-[]}" ;; esac
"""


def test_the_page_shows_what_init_writes() -> None:
    text = PAGE.read_text()
    templates = iter(TEMPLATES)

    def shown(match: re.Match[str]) -> str:
        template = next(templates, None)
        return match[0] if template is None else filled(template, "specs")

    made = _BLOCK.sub(shown, text)
    if UPDATE:
        PAGE.write_text(made)
    assert made == text


@pytest.mark.parametrize("forge", JOBS)
def test_init_writes_a_job_and_a_hook_beside_the_tree(run: Run, tree: Path, forge: str) -> None:
    ran = run("init", "first", "--ci", forge)
    assert f"Wrote {JOBS[forge]}.\n" in ran.err
    assert "reconciler validate first" in (tree / JOBS[forge]).read_text()
    (hook,) = yaml.safe_load((tree / PRE_COMMIT_FILE).read_text())["repos"][0]["hooks"]
    assert (hook["entry"], hook["files"]) == ("reconciler validate first", "^first/")


def test_init_leaves_what_is_there_and_writes_at_the_root_of_the_repository(run: Run, tree: Path) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "remote", "add", "origin", "https://gitlab.example.org/x.git"], check=True)
    (tree / PRE_COMMIT_FILE).write_text("# mine\n")
    (tree / "below").mkdir()
    os.chdir("below")
    ran = run("init", "first")
    assert f"Left {tree / PRE_COMMIT_FILE} as it is" in ran.err
    assert (tree / PRE_COMMIT_FILE).read_text() == "# mine\n"
    assert "reconciler validate below/first" in (tree / ".gitlab-ci.yml").read_text()
    third = run("init", "third", "--ci", "none").err
    assert [line.split(",")[0].removesuffix(".") for line in third.splitlines()] == [
        f"Wrote third/{name}" for name in ("alpha/host.toml", "alpha/example.toml", "reconciler.toml", ".schema")
    ]


def scripts_of(forge: str) -> list[str]:
    """The shell scripts of a job that begin with a plan."""
    job = yaml.safe_load(filled(f"{forge}.yml", "specs"))
    if forge == "gitlab":
        return list(job["reconciler"]["script"])
    return [step["run"] for step in job["jobs"]["plan"]["steps"] if step.get("name") in ("plan", "comment")]


@pytest.mark.parametrize("forge", JOBS)
@pytest.mark.parametrize("found", ["", "77"])
def test_the_scripts_plan_and_send_one_comment(tree: Path, run: Run, forge: str, found: str) -> None:
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 999999\n')  # does not fit
    (tree / "stubs").mkdir()
    for name in ("curl", "gh"):
        (tree / "stubs" / name).write_text(_TOLD)
        (tree / "stubs" / name).chmod(0o755)
    known = f'[{{"id": {found}, "body": "<!-- reconciler plan -->"}}]' if found else "[]"
    environment: dict[str, Any] = {
        **os.environ,
        "PATH": f"{tree / 'stubs'}:{BESIDE}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": "summary.md",
        "COMMENTS": "comments",
        "COMMENT": "comment",
        "NUMBER": "1",
        "HEADER": "h",
        "API": "api",
        "FOUND": found if forge == "github" else known,
        "RECONCILER_PACKAGE": "--version",  # pip is not asked to install anything
        "RECONCILER_TOKEN": "t",
        **dict.fromkeys(("CI_API_V4_URL", "CI_PROJECT_ID", "CI_MERGE_REQUEST_IID"), "x"),
    }
    (tree / "stubs/python").write_text('#!/bin/sh\n[ "$1" = -m ] || exec python3 "$@"\n')
    (tree / "stubs/python").chmod(0o755)
    codes = [
        subprocess.run(["bash", "-e", "-c", script], env=environment, capture_output=True, check=False).returncode
        for script in scripts_of(forge)
    ]
    assert codes == ([3] if forge == "gitlab" else [3, 0])
    sent = (tree / "sent.md").read_text()
    assert sent.startswith("<!-- reconciler plan -->\n")
    assert "does not fit" in sent or "do not fit" in sent or "Refused" in sent
    last = (tree / "told").read_text().splitlines()[-1]
    assert ("77" in last) is bool(found)
    assert ("POST" in last) is not bool(found)


def test_a_report_for_ci_has_a_case_for_each_file(run: Run, tree: Path) -> None:
    (tree / "specs/alpha/web.toml").write_text('memroy = 1\nmemory = "<&>\\u001b"\n')
    ran = run("validate", "--format", "junit")
    assert ran.code == 4
    suite = ElementTree.fromstring(ran.out)[0]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    cases = {case.get("file"): case for case in suite}
    assert set(cases) == {f"specs/alpha/{name}.toml" for name in ("db", "host", "web")}
    (failure,) = cases["specs/alpha/web.toml"]
    assert "specs/alpha/web.toml:1:1: error: This file has no key" in (failure.text or "")
    assert "hint: Did you mean" in (failure.text or "")
    assert len(cases["specs/alpha/db.toml"]) == 0
    assert run("validate", "--format", "junit", "--json").code == 1


def test_the_hook_that_others_install_checks_a_tree(run: Run, tree: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("reconciler-validate", "python", False)
    command = hook["entry"].split()[1:]
    assert run(*command).code == 0
    (tree / "specs/alpha/web.toml").write_text("memroy = 1\n")
    assert run(*command).code == 4


def test_the_hook_that_init_writes_runs_under_pre_commit(run: Run, tree: Path) -> None:
    if shutil.which("pre-commit", path=BESIDE) is None or shutil.which("git") is None:
        pytest.skip("pre-commit is not installed")
    environment = {
        **os.environ,
        "PATH": f"{BESIDE}:{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(tree / ".pre-commit"),
    }

    def checked() -> int:
        subprocess.run(["git", "add", "first", PRE_COMMIT_FILE], check=True)
        ran = subprocess.run(["pre-commit", "run"], env=environment, capture_output=True, check=False)
        return ran.returncode

    subprocess.run(["git", "init", "-q"], check=True)
    run("init", "first")
    assert checked() == 0
    (tree / "first/alpha/example.toml").write_text("memroy = 1\n")
    assert checked() == 1
