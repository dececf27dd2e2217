"""Files that certainly are no kernel: an empty one, and what git keeps in place of a file that is in Git LFS."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import cli
from tests.transcript import write_files

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daa\n"
NONE = [pytest.param("", "is empty", id="empty"), pytest.param(POINTER, "is a Git LFS pointer", id="pointer")]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECONCILER_STATE_DIR", str(tmp_path / ".state"))
    write_files({"specs/alpha/host.toml": 'toolstack = "simulated"\n', "specs/kernels/good": "a kernel\n"}, tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", ["kernel", "ramdisk"])
@pytest.mark.parametrize(("content", "what"), NONE)
def test_one_of_the_tree_is_an_error_of_the_spec_and_nothing_is_staged(
    tree: Path, capsys: pytest.CaptureFixture[str], key: str, content: str, what: str
) -> None:
    other = 'kernel = "kernels/good"\n' if key == "ramdisk" else ""
    write_files({"specs/alpha/web.toml": f'{other}{key} = "kernels/web"\nmemory = 64\n'}, tree)
    (tree / "specs/kernels/web").write_text(content)
    assert cli.run(["validate"]) == 4
    said = capsys.readouterr().out
    line = 2 if key == "ramdisk" else 1
    assert f"specs/alpha/web.toml:{line}:" in said
    assert f"kernels/web {what}" in said
    assert "git lfs pull" in said
    assert cli.run(["apply", "--yes"]) == 4
    said = capsys.readouterr().out
    assert "stage" not in said
    assert "+ alpha/web  create, held: kernels/web is not there" in said


@pytest.mark.parametrize(("content", "what"), NONE)
def test_one_of_the_host_blocks_its_domain_and_a_proven_one_goes_on(
    tree: Path, capsys: pytest.CaptureFixture[str], content: str, what: str
) -> None:
    write_files({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n', "file": content, "ok": "ok"}, tree)
    cli.run(["sim", "alpha", "put", "/boot/vmlinuz", "file"])
    assert cli.run(["validate"]) == 0
    capsys.readouterr()
    assert cli.run(["plan"]) == 4
    said = capsys.readouterr()
    assert f"/boot/vmlinuz on alpha {what}" in said.err
    assert "git lfs pull" in said.err
    assert "alpha/web" in said.out
    cli.run(["sim", "alpha", "put", "/boot/vmlinuz", "ok"])
    assert cli.run(["apply", "--yes"]) == 0
    cli.run(["sim", "alpha", "put", "/boot/vmlinuz", "file"])
    capsys.readouterr()
    assert cli.run(["plan"]) == 4
    assert "restart" not in capsys.readouterr().out
    cli.run(["sim", "alpha", "destroy", "web"])
    assert cli.run(["apply", "--yes"]) == 4
    capsys.readouterr()
    cli.run(["sim", "alpha", "list"])
    assert "running" in capsys.readouterr().out, "from its staged bytes"
    cli.run(["status"])
    assert "alpha/web  stalled" in capsys.readouterr().out
