"""Files that a newer version wrote: read as far as they go, and known for what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.domain import Disk, Policy
from reconciler.model.host import Guest, Owner, Quarantined
from reconciler.texts.config_file import read_file, render_file
from reconciler.texts.guests import assemble_guests, with_past
from reconciler.texts.mark import FORMAT, MARK_PREFIX, split_mark
from reconciler.texts.quarantine_file import parse_quarantine, render_quarantine
from tests.texts.test_guests import LIVE, NEW, assembled
from tests.texts.test_live import FILE

KEPT = replace(
    FILE,
    prevent_destroy=True,
    shutdown_timeout_seconds=300,
    on_shutdown_timeout="destroy",
    depends_on=("db",),
    policy=Policy(wave=-1, reconcile=False),
    disks=(Disk(vdev="xvda", devid=51712, kind="file", target="/srv/g2.img", on_delete="delete"),),
)
NEWER = FORMAT + 1


def marked(text: str, /, **changes: Any) -> str:
    """The text with other values in its mark; a value of None takes the key out."""
    head, rest = text.split(MARK_PREFIX, 1)
    line, body = rest.split("\n", 1)
    said = {key: value for key, value in {**json.loads(line), **changes}.items() if value is not None}
    return f"{head}{MARK_PREFIX}{json.dumps(said)}\n{body}"


OURS = render_file(KEPT, "default", "c0ffee")


def test_what_is_written_says_its_format_and_all_that_outlives_the_spec() -> None:
    mark, _ = split_mark(OURS)
    assert mark is not None
    assert (mark.format, mark.newer) == (FORMAT, None)
    read = read_file(OURS, {}).domain
    assert read == KEPT
    assert read.policy == KEPT.policy


def test_a_mark_without_a_format_is_one_of_0_1() -> None:
    mark, _ = split_mark(marked(OURS, format=None, wave=None, reconcile=None))
    assert mark is not None
    assert (mark.format, mark.newer) == (0, None)
    guest = assembled(configs={"g2": marked(OURS, format=None, wave=None, reconcile=None)})["g2"]
    assert guest.config is not None
    assert (guest.owner, guest.newer, guest.wave_noted) == (Owner.OURS, None, False)
    assert guest.config.policy == Policy()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (NEWER, f"format {NEWER}"),
        (10**40, f"format {10**40}"),
        (-1, "an unknown format"),
        ("2", "an unknown format"),
        (1.5, "an unknown format"),
        (True, "an unknown format"),
        ([], "an unknown format"),
        ({}, "an unknown format"),
    ],
)
def test_what_is_no_format_of_ours_is_a_newer_one(number: object, words: str) -> None:
    guest = assembled(LIVE, configs={"g2": marked(OURS, format=number)})["g2"]
    assert (guest.owner, guest.newer) == (Owner.OURS, f"its config file ({words})")
    assert guest.config is not None
    assert guest.config.disks == KEPT.disks
    assert guest.config.policy == KEPT.policy
    assert (guest.config.prevent_destroy, guest.config.depends_on) == (True, ("db",))


STRANGE = (None, "text", 10**400, {"a": 1}, ["x", ["y"]], True)


@pytest.mark.parametrize("value", STRANGE, ids=[type(one).__name__ for one in STRANGE])
@pytest.mark.parametrize(
    "key", ["name", "uuid", "spec", "body", "text", "commit", "kinds", "proven", "ready", "booted", "wave", "on_delete"]
)
def test_a_field_that_has_another_shape_there_does_not_hide_the_rest(key: str, value: object) -> None:
    guest = assembled(LIVE, configs={"g2": marked(OURS, **{"format": NEWER, "more": {}, key: value})})["g2"]
    assert guest.newer == f"its config file (format {NEWER})"
    assert guest.config_exists
    assert guest.owner is Owner.OURS or key in ("name", "uuid")


@pytest.mark.parametrize("value", STRANGE, ids=[type(one).__name__ for one in STRANGE])
@pytest.mark.parametrize("key", ["fleet", "format", "wave", "reconcile", "ready", "shutdown_timeout_seconds"])
def test_a_mark_with_odd_values_is_never_an_accident(key: str, value: object) -> None:
    file = read_file(marked(OURS, **{key: value}), {})
    assert file.domain is not None or file.problem


@pytest.mark.parametrize("key", ["fleet", "name"])
def test_one_that_does_not_tell_whose_it_is_is_nobodys_and_newer_all_the_same(key: str) -> None:
    guest = assembled(configs={"g2": marked(OURS, **{"format": NEWER, key: {"is": "new"}})})["g2"]
    assert guest.owner is not Owner.OURS
    assert (guest.newer, guest.problem) == (f"its config file (format {NEWER})", None)


def test_its_body_may_say_what_nobody_can_read() -> None:
    text = OURS.replace("vcpus =", "vcpus ==")
    guest = assembled(configs={"g2": marked(text, format=NEWER, text=None, body=None)})["g2"]
    assert (guest.owner, guest.config, guest.newer) == (Owner.OURS, None, f"its config file (format {NEWER})")


def newer_candidate() -> Guest:
    candidate = marked(render_file(NEW, "default", None), format=NEWER)
    return assembled(LIVE, configs={"g2": OURS}, candidates={"g2": candidate})["g2"]


def newer_candidate_of_nobody() -> Guest:
    candidate = marked(render_file(NEW, "default", None), format=NEWER, fleet="")
    return assemble_guests(
        fleet="default", configs={}, candidates={"g2": candidate}, instances=(), images={}, autostart={}
    )[0]["g2"]


def newer_previous() -> Guest:
    guest = assembled(LIVE, configs={"g2": OURS})["g2"]
    return with_past(guest, previous=marked(OURS, format=NEWER), quarantine=None, images={})


def newer_quarantine() -> Guest:
    guest = assembled(LIVE, configs={"g2": OURS})["g2"]
    return with_past(guest, previous=None, quarantine='{"format": 2, "entries": []}', images={})


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (newer_candidate, f"its candidate (format {NEWER})"),
        (newer_candidate_of_nobody, f"its candidate (format {NEWER})"),
        (newer_previous, f"its previous config file (format {NEWER})"),
        (newer_quarantine, "its list of failed boots (an unknown format)"),
    ],
)
def test_any_file_of_a_domain_counts(make: Callable[[], Guest], what: str) -> None:
    assert make().newer == what


def test_what_else_is_said_of_a_failed_boot_is_no_reason_to_forget_it() -> None:
    entries = (Quarantined(boot="1" * 64, kernel="/k/a", reason="it panicked"), Quarantined(boot="2" * 64))
    said = [{**entry, "since": 7} for entry in json.loads(render_quarantine(entries))]
    assert parse_quarantine(json.dumps([*said, {"boot": 5}, {"boot": ""}, "odd", None])) == entries
