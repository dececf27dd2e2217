"""By what a document of `observe` tells whether it says all that this version would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass

import pytest

from reconciler.inspect import observed
from reconciler.inspect.observed import read_observed, shape_of
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.host import Host
from reconciler.toolstack import Question


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
