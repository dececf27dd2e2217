"""Every key that is passed on as it stands comes through each text as it was: specs, xl.cfg, what the real xl lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.diff import compare
from reconciler.model.boot import boot_digest
from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.host import Host
from reconciler.model.key_row import Key
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.parts import LATER_KEYS, given_later
from reconciler.specs.schema import LIFTED, DomainSpec
from reconciler.specs.toml import parse_toml
from reconciler.texts.config_file import read_file, render_file
from reconciler.texts.running import overlay
from tests.texts.oracle.real_xl import RealXl

BARE = Domain(
    name="web",
    uuid="5c5c6ea2-95de-5d2c-a1b5-bd5a5ad7c0a1",
    kernel=Image(sha256="3f2a" * 16, path="/var/lib/xen/kernels/web/vmlinuz.3f2a3f2a3f2a"),
    memory_kib=64 * 1024,
    maxmem_kib=64 * 1024,
)
HOST = Host(name="alpha", total_kib=1 << 24, free_kib=1 << 24, cpus=4)


def example(key: Key[Any]) -> Any:
    """The value that the example of a key gives a spec."""
    table = parse_toml(key.example)
    return getattr(DomainSpec.model_validate(table), key.attribute) if key in DOMAIN_KEYS else table[key.name]


def having(key: Key[Any], has: object) -> Domain:
    """A domain in which a key, its own or one of a device, has a value."""
    value: dict[str, Any] = {key.attribute: has}
    if key in DISK_KEYS:
        return replace(BARE, disks=(replace(Disk(vdev="xvda", devid=51712, kind="file", target="/srv/web"), **value),))
    if key in VIF_KEYS:
        return replace(BARE, type="hvm", vifs=(replace(Vif(devid=0, mac="00:16:3e:00:00:01"), **value),))
    bare = replace(BARE, kernel=None, type="hvm") if key.boots else BARE
    return replace(bare, **value)


EVERY_KEY: tuple[Key[Any], ...] = (*DOMAIN_KEYS, *DISK_KEYS, *VIF_KEYS)
PASSED_ON = [key for key in EVERY_KEY if key.is_ordinary and key.in_cfg]
each = pytest.mark.parametrize("key", PASSED_ON, ids=lambda key: key.name)


@each
def test_it_is_read_back_from_a_config_file(key: Key[Any]) -> None:
    domain = having(key, example(key))
    file = read_file(render_file(domain, "default", None), {})
    assert file.domain == domain
    assert (file.ignored, file.unsaid) == ((), ())


def known_to_4_17(key: Key[Any]) -> bool:
    """Whether the xl that judges here has it."""
    return key.name not in ("grant_usage", "vlan") and not (key.name == "trusted" and key in DISK_KEYS)


@pytest.mark.parametrize("key", [key for key in PASSED_ON if known_to_4_17(key)], ids=lambda key: key.name)
def test_the_real_xl_takes_it_and_what_it_lists_is_no_difference(xl: RealXl, key: Key[Any]) -> None:
    domain = having(key, example(key))
    verdict = xl.create(render_file(domain, "default", None))
    assert verdict.config is not None, verdict.said
    assert "warning" not in verdict.said.lower(), verdict.said
    assert overlay(verdict.config, domain, {}) == domain


@pytest.mark.parametrize(
    "key", [key for key in PASSED_ON if key.listed and key in DOMAIN_KEYS], ids=lambda key: key.name
)
def test_what_the_real_xl_lists_is_what_it_was_given(xl: RealXl, key: Key[Domain]) -> None:
    verdict = xl.create(render_file(having(key, example(key)), "default", None))
    assert verdict.config is not None, verdict.said
    assert key.value(overlay(verdict.config, None, {})) == example(key)


@each
def test_another_value_is_a_difference_that_names_the_key(key: Key[Any]) -> None:
    changes = compare(having(key, key.default), having(key, example(key)), HOST, running=True)
    place = {"path", "target"} if key.name == "script" else set()  # what a script is told is no path
    assert {change.path.rpartition(".")[2] for change in changes} - place == {key.name}


@pytest.mark.parametrize("key", LIFTED.values(), ids=lambda key: key.name)
def test_what_stood_in_xl_before_it_was_a_key_still_may(key: Key[Domain]) -> None:
    ((name, spelled),) = given_later(LATER_KEYS, having(key, example(key)))
    in_xl = DomainSpec.model_validate({"xl": {name: spelled, "nomigrate": 1}})
    assert getattr(in_xl, key.attribute) == example(key)
    assert in_xl.xl == {"nomigrate": 1}


@pytest.mark.parametrize("key", LIFTED.values(), ids=lambda key: key.name)
def test_a_boot_that_failed_with_it_in_xl_is_still_known(key: Key[Domain]) -> None:
    ((name, spelled),) = given_later(LATER_KEYS, having(key, example(key)))
    assert boot_digest(having(key, example(key))) == boot_digest(replace(BARE, xl=((name, spelled),)))
    assert boot_digest(having(key, example(key))) != boot_digest(BARE)
