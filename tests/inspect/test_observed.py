"""By what a document of `observe` tells whether it says all that this version would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass, replace
from datetime import UTC, datetime

import pytest

from reconciler.inspect import observed
from reconciler.inspect.observed import read_observed, shape_of
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.host import Host
from reconciler.toolstack import Question
from tests.worlds import desired, domain, guest, host


@dataclass
class Wheel:
    name: str


@dataclass
class Car:
    wheels: Mapping[str, tuple[Wheel, ...]]


def test_a_field_more_in_any_part_makes_it_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shape_of(Car)
    assert shape_of(Car) == before
    more = make_dataclass("Wheel", [("name", "str"), ("worn", "bool")])
    more.__qualname__ = Wheel.__qualname__
    monkeypatch.setitem(globals(), "Wheel", more)
    assert shape_of(Car) != before
    assert len(shape_of(Host, Question)) == len(before)


def test_what_other_fields_were_told_by_is_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what it does not tell would be taken for what a field is by itself."""
    document = observed.observed_document(observed.Observed(fleet="prod", key=b"k", hosts={}))
    assert read_observed(document, "prod").hosts == {}
    monkeypatch.setattr(observed, "_version", lambda: "another")
    with pytest.raises(ReconcilerError):
        read_observed(document, "prod")


def test_secrets_of_a_host_that_another_controller_has_seen_are_compared_by_its_own_key() -> None:
    web = domain("web", xl=(("vncpasswd", "word"),))
    told = observed.Seen(host=host(guest(web)), question=Question(), at=datetime(2026, 1, 2, tzinfo=UTC))
    document = observed.observed_document(observed.Observed(fleet="default", key=b"theirs", hosts={"alpha": told}))
    sealed = replace(read_observed(document, "default").hosts["alpha"], told_by="two", key=b"theirs")
    ours = observed.Observed(fleet="default", key=b"ours", hosts={"alpha": sealed})
    again = read_observed(observed.observed_document(ours), "default")
    assert again == ours
    asked, hosts = observed.comparable(desired(web), again)
    assert hosts["alpha"].guests["web"].running == asked.hosts["alpha"].domains["web"]
    assert "word" not in repr(document)
