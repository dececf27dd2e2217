"""Dataclasses of ours are those of Python in all that can be seen of them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any

import pytest
from pydantic import TypeAdapter

from reconciler import records


def _classes(dataclass: Any) -> dict[str, type[Any]]:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        """Some text."""

        size: int
        words: tuple[str, ...] = ()
        said: list[str] = field(default_factory=list, compare=False)
        hidden: str = field(default="", repr=False)

    @dataclass(frozen=True, slots=True)
    class Placed:
        first: int
        second: float = 2.0

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError("negative")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(Named):
        extra: bool = False

    @dataclass(frozen=True, slots=True)
    class Odd:
        value: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Odd) and self.value % 2 == other.value % 2

        def __hash__(self) -> int:
            return self.value % 2

        def __repr__(self) -> str:
            return "odd"

    @dataclass(slots=True)
    class Open:
        value: int
        names: list[str] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Empty:
        """Says nothing."""

    return {cls.__name__: cls for cls in (Named, Placed, More, Odd, Open, Empty)}


OURS, THEIRS = _classes(records.dataclass), _classes(dataclasses.dataclass)

TRIED: dict[str, Callable[[dict[str, type[Any]]], object]] = {
    "all given": lambda made: made["Named"](size=1, words=("a",), said=["b"], hidden="c"),
    "defaults": lambda made: made["Named"](size=1),
    "own defaults": lambda made: made["Named"](size=1).said is made["Named"](size=1).said,
    "equal": lambda made: made["Named"](size=1, said=["a"]) == made["Named"](size=1),
    "hidden counts": lambda made: made["Named"](size=1, hidden="a") == made["Named"](size=1),
    "another class": lambda made: made["More"](size=1) == made["Named"](size=1),
    "not itself a number": lambda made: made["Placed"](1, float("nan")) == made["Placed"](1, float("nan")),
    "hash": lambda made: hash(made["Named"](size=1, words=("a",), hidden="b")),
    "hash of one field": lambda made: hash(made["Odd"](3)),
    "inherited": lambda made: made["More"](size=1, extra=True),
    "inherited first": lambda made: (made["More"](size=1), made["Named"](size=2), made["More"](size=3)),
    "places": lambda made: made["Placed"](1, second=3.0),
    "own methods": lambda made: (made["Odd"](1) == made["Odd"](3), made["Odd"](1)),
    "nothing in it": lambda made: (made["Empty"](), made["Empty"]() == made["Empty"](), hash(made["Empty"]())),
    "open": lambda made: _changed(made["Open"](1)),
    "replaced": lambda made: dataclasses.replace(made["Named"](size=1), size=2),
    "as values": lambda made: dataclasses.asdict(made["Named"](size=1)),
    "copied": lambda made: copy.deepcopy(made["Named"](size=1, said=["a"])),
    "fields": lambda made: [(one.name, one.default, one.kw_only) for one in dataclasses.fields(made["More"])],
    "arguments": lambda made: (made["Placed"].__match_args__, made["Named"].__match_args__),
    "text": lambda made: made["Named"].__doc__,
    "checked": lambda made: TypeAdapter(made["Placed"]).validate_python({"first": 1}),
    "as JSON": lambda made: TypeAdapter(made["Open"]).dump_json(made["Open"](1, ["a"])),
    "not checked": lambda made: TypeAdapter(made["Placed"]).validate_python({"first": "x"}),
    "too few": lambda made: made["Named"](),
    "too many": lambda made: made["Placed"](1, 2.0, 3),
    "unknown": lambda made: made["Named"](size=1, colour="red"),
    "refused": lambda made: made["Placed"](-1),
    "frozen": lambda made: setattr(made["Named"](size=1), "size", 2),
    "not deleted": lambda made: delattr(made["Named"](size=1), "size"),
    "no other attribute": lambda made: setattr(made["Open"](1), "colour", 2),
    "no hash": lambda made: hash(made["Open"](1)),
}


def _changed(one: Any) -> Any:
    one.value = 2
    return one


@pytest.mark.parametrize("name", TRIED)
def test_it_does_what_pythons_own_does(name: str) -> None:
    assert _shown(TRIED[name], OURS) == _shown(TRIED[name], THEIRS)


def _shown(tried: Callable[[dict[str, type[Any]]], object], made: dict[str, type[Any]]) -> str:
    try:
        return repr(tried(made))
    except Exception as error:  # noqa: BLE001 -- whichever it is, both raise it
        return f"{type(error).__name__}: {error}"


@records.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    size: int
    words: tuple[str, ...] = ()


def test_a_pickle_comes_back() -> None:
    assert pickle.loads(pickle.dumps(Kept(size=1, words=("a",)))) == Kept(size=1, words=("a",))


def test_nothing_is_written_that_nobody_calls() -> None:
    cls = _classes(records.dataclass)["Named"]
    before = cls.__init__
    cls(size=1)
    assert cls.__init__ is not before
    assert cls.__eq__.__code__.co_filename != "<string>"
    assert cls.__init__.__code__.co_filename == "<string>"
