"""The table of keys is whole and true, and what it says is said nowhere else."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

import reconciler
from reconciler.model.domain import Disk, Domain, Policy, Ready, Vif
from reconciler.model.key_row import Key, Takes
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, READY_KEYS, VIF_KEYS
from reconciler.specs.schema import DiskSpec, DomainSpec, ReadySpec, VifSpec, schema
from reconciler.specs.spec import Spec, keys_of
from reconciler.specs.toml import parse_toml

_OWNERS: dict[type, Sequence[Key[Any]]] = {Domain: DOMAIN_KEYS, Disk: DISK_KEYS, Vif: VIF_KEYS, Ready: READY_KEYS}
_SPECS: dict[type[Spec], Sequence[Key[Any]]] = {
    DomainSpec: DOMAIN_KEYS,
    DiskSpec: DISK_KEYS,
    VifSpec: VIF_KEYS,
    ReadySpec: READY_KEYS,
}
_EVERY_KEY = [(owner, key) for owner, keys in _OWNERS.items() for key in keys]
_PACKAGE = Path(reconciler.__file__).parent


def named(pair: tuple[type, Key[Any]]) -> str:
    return f"{pair[0].__name__}.{pair[1].name}"


@pytest.mark.parametrize("owner", _OWNERS)
def test_every_field_of_a_definition_has_a_row(owner: type) -> None:
    told = {name for key in _OWNERS[owner] for name in (key.attribute, *key.also)}
    assert {part.name for part in fields(owner)} - told <= {"chosen"}  # which only exists, and is never asked for


def test_every_field_of_the_policy_is_a_key() -> None:
    assert {part.name for part in fields(Policy)} <= {key.name for key in DOMAIN_KEYS}


@pytest.mark.parametrize("spec", _SPECS)
def test_every_key_of_a_spec_has_a_row_and_every_row_a_key(spec: type[Spec]) -> None:
    known = [key.alias for key in keys_of(spec).values()]
    assert sorted(known) == sorted(key.name for key in _SPECS[spec] if key.in_spec)


@pytest.mark.parametrize("keys", _OWNERS.values(), ids=[owner.__name__ for owner in _OWNERS])
def test_no_key_is_taught_twice(keys: Sequence[Key[Any]]) -> None:
    assert len({key.name for key in keys}) == len(keys)


@pytest.mark.parametrize("pair", _EVERY_KEY, ids=named)
def test_a_row_agrees_with_the_field(pair: tuple[type, Key[Any]]) -> None:
    owner, key = pair
    field = {part.name: part for part in fields(owner)}.get(key.attribute)
    if key.of is None or field is None:
        return
    marker = object()
    bare: object = object.__new__(owner)
    object.__setattr__(bare, key.attribute, marker)
    assert key.of(bare) is marker, "it reads another field"
    if field.default is not MISSING:
        assert field.default == key.default


@pytest.mark.parametrize("spec", _SPECS)
def test_a_row_agrees_with_the_spec(spec: type[Spec]) -> None:
    defaults = {key.alias: key.default for key in keys_of(spec).values()}
    for key in _SPECS[spec]:
        if key.in_spec and key.floor is None and key.of is not None and not spec_requires(spec, key):
            assert defaults[key.name] == key.default, key.name


def spec_requires(spec: type[Spec], key: Key[Any]) -> bool:
    return any(known.is_required for known in keys_of(spec).values() if key.name == known.alias)


@pytest.mark.parametrize("pair", [pair for pair in _EVERY_KEY if pair[1].in_spec], ids=named)
def test_a_row_has_a_sentence_and_an_example_that_is_valid(pair: tuple[type, Key[Any]]) -> None:
    owner, key = pair
    assert re.fullmatch(r"[A-Z].*\.", key.doc)
    spec = next(spec for spec, keys in _SPECS.items() if keys is _OWNERS[owner])
    table = parse_toml(key.example or f'{key.name} = "{"0" * 64}"')
    assert key.name in table
    if owner is Disk:
        table = {"vdev": "xvda", **table}
    spec.model_validate(table)


@pytest.mark.parametrize("pair", _EVERY_KEY, ids=named)
def test_what_takes_a_restart_is_in_the_digest_of_a_boot_and_nothing_else_is(pair: tuple[type, Key[Any]]) -> None:
    _, key = pair
    if key.of is not None and key.name not in ("name", "uuid"):  # who it is, not what it boots
        assert bool(key.boot_entry) == (key.takes in (Takes.RESTART, Takes.CEILING))


def test_the_json_schema_describes_every_key() -> None:
    described = schema("domain")
    tables: list[tuple[dict[str, Any], Sequence[Key[Any]]]] = [(described, DOMAIN_KEYS)]
    tables += [(described["$defs"][f"{name}Spec"], _OWNERS[owner]) for name, owner in
               (("Disk", Disk), ("Vif", Vif), ("Ready", Ready))]  # fmt: skip
    for table, keys in tables:
        for key in keys:
            if key.in_spec:
                assert table["properties"][key.name]["description"].startswith(key.doc)


MODULES_MAX = 4
_OF_OTHER_PROGRAMS = {  # a new key is a word of theirs, or none, whatever we call it
    "specs/resolve/xm.py": "what the config files of xm can say",
    "texts/cfg_words.py": "the words of xm's config files and of xl's",
    "texts/create_failures.py": "what libxl prints",
    "texts/listed_keys.py": "what libxl lists",
    "texts/refusals.py": "what xl refuses",
    "texts/xm_listing.py": "what xend lists",
}
_SAID_MORE_OFTEN = {
    "profile": "a layer, resolved before there is a domain",
    "type": "what rules, memory and devices depend on; and a word of the language",
    "kernel": "a file that is staged, hashed, kept and shown",
    "ramdisk": "as kernel",
    "cmdline": "put together from root and extra; a rollback and the simulated host speak of it",
    "pool": "also a thin pool of LVM, which a rehearsal asks about",
    "root": "also the folder of a tree",
    "extra": "a common word",
    "memory": "the ledger, the order of steps and the balloon are about it",
    "maxmem": "as memory",
    "vcpus": "set by a step of its own",
    "maxvcpus": "as vcpus, whose ceiling it is",
    "cpus": "also what a host has",
    "disk": "created, grown, attached and deleted by steps of their own",
    "vif": "attached and detached by steps of their own",
    "pci": "checked device by device",
    "state": "whether it is to run: every decision asks",
    "autostart": "the dom0's, set by a step of its own",
    "depends_on": "an order of steps",
    "wave": "an order of restarts",
    "reconcile": "the name of the program's work",
    "restart": "as reconcile",
    "rehearse": "steps, and what boots and judges a rehearsal",
    "shutdown_timeout": "part of a step, and what hints tell people to write",
    "on_shutdown_timeout": "as shutdown_timeout",
    "ready": "a table, and what every start waits for",
    "xl": "a table, and the toolstack",
    "uuid": "the identity of a domain",
    "renamed_from": "as uuid: it is found, judged and planned under both of its names",
}
"""The keys whose words may stand in more modules, each with the reason."""


def _words(module: Path) -> str:
    """The code of a module without comments and docstrings."""
    text = module.read_text()
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(
        token.string
        for token in tokens
        if token.type != tokenize.COMMENT and not (token.type == tokenize.STRING and token.start[0] in docstrings)
    )


@pytest.fixture(scope="module")
def modules() -> dict[str, str]:
    said = {path.relative_to(_PACKAGE).as_posix(): _words(path) for path in _PACKAGE.rglob("*.py")}
    return {path: text for path, text in said.items() if path not in _OF_OTHER_PROGRAMS}


def _saying(modules: dict[str, str], key: Key[Any]) -> list[str]:
    names: Iterable[str] = {key.name, key.attribute}
    word = re.compile(rf"(?<![a-zA-Z0-9_])({'|'.join(map(re.escape, names))})(?![a-zA-Z0-9_])")
    return sorted(path for path, text in modules.items() if word.search(text))


@pytest.mark.parametrize(
    "key", [key for key in DOMAIN_KEYS if key.in_spec and key.name not in _SAID_MORE_OFTEN], ids=lambda key: key.name
)
def test_the_word_of_a_key_stands_in_few_modules(modules: dict[str, str], key: Key[Any]) -> None:
    saying = _saying(modules, key)
    assert "model/keys.py" in saying
    assert len(saying) <= MODULES_MAX, saying


def test_no_exception_is_left_of_a_key_that_is_gone() -> None:
    assert set(_SAID_MORE_OFTEN) <= {key.name for key in DOMAIN_KEYS}
    assert all((_PACKAGE / path).exists() for path in _OF_OTHER_PROGRAMS)
