"""Whatever lies where a spec should be freezes its own domain, is said in a sentence, and nothing else stops for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.specs import read_tree

GOOD = 'kernel = "/netbsd"\nmemory = 64\n'


def only_problem(tree: Path, frozen: str | None = "alpha/web") -> Diagnostic:
    """The one diagnostic of a tree in which alpha/good is as it should be."""
    (tree / "alpha/good.toml").write_text(GOOD)
    reading = read_tree(tree)
    assert reading.desired.frozen == ({frozen} if frozen is not None else set())
    assert list(reading.desired.hosts["alpha"].domains) == (["good", "web"] if frozen is None else ["good"])
    assert reading.desired.prune is False
    (diagnostic,) = reading.diagnostics
    return diagnostic


@pytest.mark.parametrize(
    ("content", "summary", "line", "column"),
    [
        pytest.param(b"", "Empty file", 1, 1, id="empty"),
        pytest.param(b" \n\n", "Empty file", 1, 1, id="blank"),
        pytest.param(b'a = 1\nb = "\xc3\xa9\xe9"\n', "Not UTF-8", 2, 7, id="latin-1"),
        pytest.param(b'a = "\x00"\n', "Invalid TOML", 1, 6, id="nul"),
        pytest.param(b"\x00" * 10_000_000, "File too large", 1, 1, id="10 MB"),
        pytest.param(b"a = " + b"[" * 100_000, "Invalid TOML", 1, 1, id="deep arrays"),
        pytest.param(b"a = " + b"{a=" * 100_000, "Invalid TOML", 1, 1, id="deep tables"),
        pytest.param(b"a" + b".a" * 100_000 + b" = 1", "Invalid TOML", 1, 1, id="deep keys"),
        pytest.param(b"a" + b".a" * 8_000 + b" = 1", "Unknown key", 1, 1, id="rather deep keys"),
        pytest.param(b"a = " + b"[" * 400 + b"]" * 400, "Unknown key", 1, 1, id="rather deep arrays"),
        pytest.param(b'kernel = "/netbsd"\rmemory = 1', "Invalid TOML", 1, 20, id="carriage return"),
    ],
)
def test_bytes_that_are_no_spec(tree: Path, content: bytes, summary: str, line: int, column: int) -> None:
    (tree / "alpha/web.toml").write_bytes(content)
    diagnostic = only_problem(tree)
    assert diagnostic.summary == summary
    assert diagnostic.kind is Kind.SPEC
    assert diagnostic.source is not None
    assert (diagnostic.source.path, diagnostic.source.line) == (f"{tree}/alpha/web.toml", line)
    assert diagnostic.source.column in (column, column - 1, column + 1)  # the two parsers differ by one at times
    assert diagnostic.source.text.isprintable()
    assert diagnostic.detail.endswith((".", "in the tree"))


@pytest.mark.parametrize("key", ["vcpus", "memory", "autostart", "wave", "x"])
def test_a_number_of_4000_digits(tree: Path, key: str) -> None:
    (tree / "alpha/web.toml").write_text('kernel = "/netbsd"\n' + f"{key} = -{'9' * 4000}\n")
    reading = read_tree(tree)
    assert reading.desired.frozen == {"alpha/web"}
    assert all(len(diagnostic.detail) < 200 for diagnostic in reading.diagnostics)


def test_a_byte_order_mark_and_dos_line_ends_are_read(tree: Path) -> None:
    (tree / "alpha/web.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_tree(tree).diagnostics == ()


def test_a_directory_where_a_file_should_be(tree: Path) -> None:
    (tree / "alpha/web.toml").mkdir()
    assert only_problem(tree).detail == "alpha/web.toml is a directory, not a file."


def test_a_pipe_is_not_waited_for(tree: Path) -> None:
    os.mkfifo(tree / "alpha/web.toml")
    assert only_problem(tree).detail == "alpha/web.toml is not a regular file."


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(tree: Path) -> None:
    (tree / "alpha/web.toml").touch(mode=0)
    assert only_problem(tree).detail == "alpha/web.toml may not be read by this user."


def test_links_out_of_the_tree_are_not_followed(tree: Path) -> None:
    secret = tree.parent / "secret.toml"
    secret.write_text(GOOD)
    (tree / "alpha/web.toml").symlink_to(secret)
    assert only_problem(tree).summary == "Link out of the tree"


def test_links_to_nowhere_and_to_themselves(tree: Path) -> None:
    (tree / "alpha/web.toml").symlink_to("nowhere.toml")
    assert only_problem(tree).detail == "alpha/web.toml does not exist."
    (tree / "alpha/web.toml").unlink()
    (tree / "alpha/web.toml").symlink_to("web.toml")
    assert only_problem(tree).detail == "alpha/web.toml is a link that leads back to itself."


def test_links_within_the_tree_are_followed(tree: Path) -> None:
    (tree / "shared").mkdir()
    (tree / "shared/web").write_text(GOOD)
    (tree / "alpha/web.toml").symlink_to("../shared/web")
    reading = read_tree(tree)
    assert reading.diagnostics == ()
    assert list(reading.desired.hosts["alpha"].domains) == ["web"]


def test_a_host_folder_that_leads_out_freezes_the_host(tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "host.toml").write_text('toolstack = "simulated"\n')
    (tree / "beta").symlink_to(outside)
    assert only_problem(tree, frozen="beta").summary == "Link out of the tree"


def test_a_kernel_that_leads_out_of_the_tree(tree: Path) -> None:
    (tree / "kernels").mkdir()
    (tree / "kernels/linux").symlink_to("/etc/passwd")
    (tree / "alpha/web.toml").write_text('kernel = "kernels/linux"\nmemory = 64\n')
    diagnostic = only_problem(tree, frozen=None)  # what runs may go on from its staged bytes
    assert diagnostic.detail == (
        "kernels/linux lies outside the spec tree, or is a link that leads out of it. "
        "Domains that run go on as they last worked."
    )


def test_a_file_name_that_is_no_text_can_be_printed(tree: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tree) + b"/alpha/\xff.toml"))).write_text(GOOD)
    diagnostic = only_problem(tree, frozen="alpha/\ufffd")
    assert diagnostic.summary == "Invalid name"
    assert str(diagnostic.source).encode()


def test_a_missing_tree_is_a_diagnostic_and_prunes_nothing(tmp_path: Path) -> None:
    reading = read_tree(tmp_path / "nowhere")
    assert [diagnostic.summary for diagnostic in reading.diagnostics] == ["No spec tree"]
    assert reading.desired.prune is False


def test_a_tree_that_is_a_file_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "specs").write_text(GOOD)
    assert [diagnostic.summary for diagnostic in read_tree(tmp_path / "specs").diagnostics] == ["No spec tree"]


def test_paths_are_told_as_the_user_gave_them(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "alpha/web.toml").write_text("memroy = 1\n")
    monkeypatch.chdir(tree.parent)
    for given in ("specs", "./specs", "specs/", "../" + tree.parent.name + "/specs"):
        sources = {str(diagnostic.source) for diagnostic in read_tree(given).diagnostics}
        assert f"{given.rstrip('/')}/alpha/web.toml:1:1" in sources


def test_the_digest_of_a_tree_is_that_of_all_files_read(tree: Path) -> None:
    (tree / "kernels").mkdir()
    (tree / "kernels/linux").write_text("one")
    (tree / "alpha/web.toml").write_text('kernel = "kernels/linux"\nmemory = 64\n')
    first = read_tree(tree).desired.tree_digest
    assert first == read_tree(tree).desired.tree_digest
    (tree / "README").write_text("not read, so not counted")
    assert read_tree(tree).desired.tree_digest == first
    (tree / "kernels/linux").write_text("two")
    assert read_tree(tree).desired.tree_digest != first


def test_positions_cost_nothing_while_nothing_is_wrong(tree: Path) -> None:
    (tree / "alpha/web.toml").write_text(GOOD)
    script = "import sys, reconciler.specs as s; s.read_tree(sys.argv[1]); print('tree_sitter' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script, str(tree)], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("place", ["dc/alpha/web.toml", "alpha/old/web.toml", "dc/a/b/host.toml"])
def test_a_spec_in_a_deeper_folder_is_no_spec_and_nothing_is_destroyed_for_it(tree: Path, place: str) -> None:
    (tree / "alpha/good.toml").write_text(GOOD)
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    (tree / place).write_text(GOOD)
    reading = read_tree(tree)
    assert [problem.detail for problem in reading.diagnostics] == [f"{place} is no file of a spec tree."]
    assert not reading.desired.prune


def test_a_folder_without_specs_and_one_with_a_dot_may_hold_what_they_like(tree: Path) -> None:
    (tree / "alpha/good.toml").write_text(GOOD)
    for place in ("docs/notes.md", "docs/.cache/x.toml", "kernels/x/modules.toml"):
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_text("hello")
    assert read_tree(tree).diagnostics == ()


def test_a_folder_of_a_host_that_is_a_link_out_of_the_tree_is_told(tree: Path, tmp_path: Path) -> None:
    (tree / "alpha/good.toml").write_text(GOOD)
    (tmp_path / "elsewhere").mkdir()
    (tree / "alpha/more").symlink_to(tmp_path / "elsewhere")
    reading = read_tree(tree)
    assert [problem.summary for problem in reading.diagnostics] == ["Link out of the tree"]
    assert not reading.desired.prune
