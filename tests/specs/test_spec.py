"""A `Spec` holds what a pydantic model of the same annotations would, and says the same of what is wrong."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pydantic
import pytest

from reconciler.shapes import AfterValidator, BeforeValidator, Field, Strict, StringConstraints, WithJsonSchema
from reconciler.specs import spec
from reconciler.specs.spec import Spec

Even = Annotated[int, AfterValidator(lambda value: value // 2 * 2), WithJsonSchema({"type": "integer"})]


class Part(Spec):
    name: Annotated[str, StringConstraints(pattern="^[a-z]+$", max_length=5)]
    size_kib: Annotated[int, Field(ge=1, le=9)] | None = Field(default=None, alias="size")


class Rest(Spec):
    size: int = 1


class Whole(Spec):
    rest: Rest = Field(default_factory=Rest.usual)
    parts: Annotated[tuple[Part, ...], Strict(False)] = ()
    word: Literal["a", "b"] = "a"
    words: Annotated[tuple[str, ...], BeforeValidator(lambda value: tuple(value.split()))] = ()
    pair: Annotated[tuple[str, int], Strict(False)] | None = None
    either: int | str = 0
    share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.5
    flag: bool = False
    even: Even = 0
    free: dict[Annotated[str, StringConstraints(pattern="^x")], int] = Field(default={})


class Same(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class TheirPart(Same):
    name: Annotated[str, pydantic.StringConstraints(pattern="^[a-z]+$", max_length=5)]
    size_kib: Annotated[int, pydantic.Field(ge=1, le=9)] | None = pydantic.Field(default=None, alias="size")


class TheirRest(Same):
    size: int = 1


class TheirWhole(Same):
    rest: TheirRest = pydantic.Field(default_factory=lambda: TheirRest.model_construct())
    parts: Annotated[tuple[TheirPart, ...], pydantic.Strict(False)] = ()
    word: Literal["a", "b"] = "a"
    words: Annotated[tuple[str, ...], pydantic.BeforeValidator(lambda value: tuple(value.split()))] = ()
    pair: Annotated[tuple[str, int], pydantic.Strict(False)] | None = None
    either: int | str = 0
    share: Annotated[float, pydantic.Field(ge=0, lt=1, allow_inf_nan=False)] = 0.5
    flag: bool = False
    even: Annotated[
        int,
        pydantic.AfterValidator(lambda value: value // 2 * 2),
        pydantic.WithJsonSchema({"type": "integer"}),
    ] = 0
    free: dict[Annotated[str, pydantic.StringConstraints(pattern="^x")], int] = pydantic.Field(default={})


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"parts": [{"name": "a"}, {"name": "b", "size": 3}], "words": "a b", "pair": ["a", 1], "even": 5},
        {"either": "x", "share": 0.25, "flag": True, "free": {"x1": 1}, "word": "b", "rest": {"size": 2}},
        {"parts": [{"name": "A"}, {"size": 3}, {"name": "abcdef", "size": 0, "colour": 1}], "word": "c"},
        {"pair": ["a"], "either": 1.5, "share": 1, "flag": 1, "even": "2", "free": {"y": 1, "x": "1"}},
        {"parts": {"name": "a"}, "size_kib": 1, "rest": []},
    ],
)
def test_a_table_is_what_pydantic_would_make_of_it(table: dict[str, Any]) -> None:
    assert _outcome(Whole.model_validate, table) == _outcome(TheirWhole.model_validate, table)


def _outcome(check: Any, table: dict[str, Any]) -> object:
    try:
        return _values(check(table))
    except pydantic.ValidationError as error:
        return [{**one, "ctx": None, "msg": one["msg"].replace("Their", "")} for one in error.errors(include_url=False)]


def _values(value: Any) -> object:
    if isinstance(value, Spec | pydantic.BaseModel):
        given = value.given if isinstance(value, Spec) else value.model_fields_set
        return {name: _values(part) for name, part in vars(value).items()}, set(given)
    return [_values(part) for part in value] if isinstance(value, tuple) else value


def test_the_json_schema_is_that_of_pydantic() -> None:
    theirs = json.dumps(TheirWhole.model_json_schema()).replace("Their", "")
    assert json.dumps(spec.json_schema(Whole)) == theirs


def test_specs_are_values() -> None:
    one = Part.model_validate({"name": "a", "size": 1})
    assert one == Part(name="a", size=1) != Part(name="a")
    assert hash(one) == hash(Part(name="a", size=1))
    assert one.but(size_kib=2).size_kib == 2
    assert one.size_kib == 1
    assert Whole.usual() is Whole.usual() == Whole()
    with pytest.raises(ValueError, match="frozen"):
        one.size_kib = 2
