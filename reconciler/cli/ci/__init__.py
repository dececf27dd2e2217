"""Files that have a forge check a spec tree: a job that validates and plans each change of it, and pre-commit's hook.

`init` writes them, docs/ci.md shows them. In each, SPECS stands for where the specs are in the repository, and FILES
for what their names begin with.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from reconciler.expressions import expression

PRE_COMMIT_FILE = ".pre-commit-config.yaml"
JOBS: Mapping[str, str] = {
    "github": ".github/workflows/reconciler.yml",
    "gitlab": ".gitlab-ci.yml",
    "forgejo": ".forgejo/workflows/reconciler.yml",
}
"""Where each forge has its jobs."""

_TEMPLATES = Path(__file__).parent
_PLAIN = expression(r"[A-Za-z0-9._/-]+")


def ci_files(folder: Path, forge: str | None) -> dict[Path, str]:
    """Return the files for the tree in a folder, by path. They stand at the root of its repository.

    Where there is none yet, that is the current folder, if the tree is below it, else the tree itself. A tree whose
    name would have to be quoted gets none.
    """
    top = _top(folder.absolute())
    root = top or (Path.cwd() if folder.absolute().is_relative_to(Path.cwd()) else folder.absolute())
    specs = folder.absolute().relative_to(root).as_posix()
    if _PLAIN.fullmatch(specs) is None:
        return {}
    shown = Path() if root == Path.cwd() else root
    forge = forge or _forge_of(root)
    files = {PRE_COMMIT_FILE: "pre-commit.yaml", JOBS[forge]: f"{forge}.yml"}
    return {shown / name: filled(template, specs) for name, template in files.items()}


def filled(template: str, specs: str) -> str:
    """Return a template for specs that lie there in the repository."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return text.replace("SPECS", specs).replace("FILES", "" if specs == "." else f"{specs}/")


def _top(folder: Path) -> Path | None:
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), None)


def _forge_of(root: Path) -> str:
    """Guess the forge by where the repository comes from; GitHub where nothing tells."""
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "config", "--get-regexp", r"^remote\..*\.url$"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.lower()
    except OSError:
        return "github"
    words = {"gitlab": "gitlab", "codeberg": "forgejo", "forgejo": "forgejo", "gitea": "forgejo"}
    return next((forge for word, forge in words.items() if word in told), "github")
