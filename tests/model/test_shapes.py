"""A `Shape` makes of JSON what pydantic makes of it, says the same of what is wrong, and writes the same."""

from __future__ import annotations

import json
from dataclasses import field
from enum import StrEnum
from typing import Any, ClassVar, Literal

import pydantic
import pytest

from reconciler.expressions import expression
from reconciler.records import dataclass
from reconciler.shapes import Shape


class Power(StrEnum):
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    seconds: float = 1.0
    word: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise ValueError("negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Base):
    format: Literal[1] = 1
    power: Power = Power.ON
    parts: dict[str, Part | None] = field(default_factory=dict)
    pairs: tuple[tuple[str, str | int | tuple[str, ...]], ...] = ()
    size: int | None = None
    nothing: dict[str, None] = field(default_factory=dict)
    flag: bool = field(default=False, compare=False)


OURS: Shape[Whole] = Shape(Whole)
THEIRS: pydantic.TypeAdapter[Whole] = pydantic.TypeAdapter(Whole)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "a"},
        {"name": "a", "power": "off", "parts": {"x": {"seconds": 2.5, "word": "b"}, "y": None}, "flag": "yes"},
        {"name": "a", "pairs": [["k", 1], ["l", "m"], ["n", ["o"]]], "size": "7", "nothing": {"z": None}, "more": 1},
        {"name": 1, "power": "high", "parts": {"x": {"seconds": -1.0}, "y": {"colour": 1}, "z": {"seconds": "2"}}},
        {"format": 2, "pairs": [["k"]], "size": 1.5, "nothing": {"y": None, "z": 1}, "parts": [1]},
        [],
    ],
)
def test_a_text_is_what_pydantic_would_make_of_it(value: object) -> None:
    text = json.dumps(value)
    assert _outcome(OURS, text) == _outcome(THEIRS, text)


def _outcome(kind: Any, text: str) -> object:
    try:
        made = kind.validate_json(text)
    except pydantic.ValidationError as error:
        return error.title, error.errors(include_url=False, include_context=False)
    assert made == kind.validate_python(json.loads(text))
    return made, kind.dump_json(made)


def test_a_number_that_is_none_is_refused_where_the_class_says_so() -> None:
    with pytest.raises(pydantic.ValidationError):
        OURS.validate_python({"name": "a", "parts": {"x": {"seconds": float("nan")}}})


def test_a_regular_expression_is_compiled_once_it_is_used() -> None:
    one = expression("(a)+")
    assert "fullmatch" not in vars(one)
    assert one.fullmatch("aa") is not None
    assert "fullmatch" in vars(one)
    assert one.groups == 1
