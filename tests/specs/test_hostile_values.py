"""Whatever TOML can say in whatever key: a domain or diagnostics with a place, never a traceback."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.specs import read_tree, toml
from reconciler.specs.resolve import HostFolder, SpecFile, SpecTree, TreeFile, resolve
from reconciler.specs.schema import MODELS, DomainSpec, schema
from reconciler.specs.spec import keys_of

_scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.dates()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(["xvda", "/srv/a", "../a", "a", "1GiB", "90s", "hvm", "ro", "vg0/x", "00:16:3e:00:00:01", "true"])
)


def tables(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables whose keys are mostly those that some model knows."""
    known = {key.alias for model in MODELS.values() for key in keys_of(model).values()}
    keys = st.sampled_from(
        sorted(known | {"vdev", "path", "lv", "device", "size", "mac", "timeout", "console", "[key]"})
    )
    return st.dictionaries(keys | st.text(max_size=3), values, max_size=6)


_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | tables(inner), max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(tree=tables(_values), profile=tables(_values), host=tables(_values), domain=tables(_values))
def test_any_tree_resolves_or_is_told_why_not(
    tree: dict[str, Any], profile: dict[str, Any], host: dict[str, Any], domain: dict[str, Any]
) -> None:
    host = {**host, "toolstack": "simulated"}
    raw = SpecTree(
        settings=SpecFile(path="reconciler.toml", data=tree),
        profiles={"a": SpecFile(path="profiles/a.toml", data=profile)},
        hosts={
            "alpha": HostFolder(
                name="alpha",
                settings=SpecFile(path="alpha/host.toml", data=host),
                domains={"web": SpecFile(path="alpha/web.toml", data=domain)},
            )
        },
    )
    files = {path: TreeFile(sha256="ab" * 32) for path in raw.image_paths()}
    full = SpecTree(settings=raw.settings, profiles=raw.profiles, hosts=raw.hosts, files=files)
    resolution = resolve(full)
    told = {problem.file for problem in resolution.problems}
    assert told <= {"reconciler.toml", "profiles/a.toml", "alpha/host.toml", "alpha/web.toml"}
    resolved = "alpha" in resolution.desired.hosts and "web" in resolution.desired.hosts["alpha"].domains
    assert resolved or resolution.problems
    assert resolved or resolution.desired.frozen & {"alpha", "alpha/web"}
    assert resolution.desired.prune == (not resolution.problems)


@settings(max_examples=60, deadline=None)
@given(domain=tables(_values))
def test_every_problem_has_a_place_in_its_file(domain: dict[str, Any]) -> None:
    text = tomli_w.dumps(domain) or "# nothing\n"
    lines = text.split("\n")
    with tempfile.TemporaryDirectory() as folder:
        host = Path(folder, "alpha")
        host.mkdir()
        (host / "host.toml").write_text('toolstack = "simulated"\n')
        (host / "web.toml").write_bytes(text.encode())
        reading = read_tree(folder)
    for diagnostic in reading.diagnostics:
        source = diagnostic.source
        assert source is not None
        assert 1 <= source.line <= len(lines)
        assert 1 <= source.column <= len(lines[source.line - 1]) + 1
        assert diagnostic.detail.isprintable()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="[]{}=\"'.,#\n\t a1-\\", max_size=40))
def test_any_text_parses_or_gives_a_place(text: str) -> None:
    try:
        assert isinstance(toml.parse_toml(text), dict)
    except toml.TomlError as error:
        assert error.line >= 1
        assert error.column >= 1
        assert str(error)


def test_the_standard_library_stands_in_for_the_fast_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml, "toml_rs", None)
    assert toml.parse_toml("a = 1\n[b]\n") == {"a": 1, "b": {}}
    for text, line, column in (("a = 1\nb = \n", 2, 5), ("a = [1,", 1, 8), ("a = " + "[" * 900, 1, 1)):
        with pytest.raises(toml.TomlError) as raised:
            toml.parse_toml(text)
        assert (raised.value.line, raised.value.column) == (line, column)


def test_the_schemas_name_the_keys_of_the_files() -> None:
    assert "memory" in schema("domain")["properties"]
    assert "memory_kib" not in schema("domain")["properties"]
    assert schema("domain")["additionalProperties"] is False
    assert schema("host")["required"] == ["toolstack"]
    assert "defaults" in schema("tree")["properties"]


def test_a_spec_does_not_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(DomainSpec(), "vcpus", 2)  # noqa: B010 - mypy knows it is frozen, too
