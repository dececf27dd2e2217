"""Dataclasses that cost little to define: what they do is written once somebody asks for it.

`dataclasses.dataclass` compiles six functions for each class, in 0.7 ms, and most runs call none of them for most
classes. This one leaves fields, slots and order to it (0.05 ms), writes `__init__`, `__eq__` and `__hash__` at the
first call, and has one function for all classes for the rest. Nobody else sees a difference: neither `fields`,
`replace` and `asdict`, nor pydantic, nor pickles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # which type checkers know
else:

    def dataclass(*, frozen: bool = False, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
        """Make a class a dataclass. All have slots, which is how values get past what freezes them."""
        assert slots
        return partial(_made, frozen=frozen, kw_only=kw_only)


Written = tuple[str, dict[str, Any]]
"""A function as text, and what its names stand for."""


def _made(cls: type, *, frozen: bool, kw_only: bool) -> type:
    cls.__doc__ = cls.__doc__ or cls.__name__  # else it is made of the signature, which takes long
    made = _with_slots(cls, kw_only)
    written = {"__init__": _init, "__eq__": _eq} | ({"__hash__": _hash} if frozen else {})
    own = {name: _at_first_call(made, name, write) for name, write in written.items()} | (_FROZEN if frozen else _OPEN)
    for name, method in own.items():
        if vars(cls).get(name) is None:  # the class has none of its own
            setattr(made, name, method)
    return made


def _with_slots(cls: type, kw_only: bool) -> type:
    """Have Python do its part: fields, their order, slots. It need not look into annotations, which takes long."""
    said = dict(vars(cls).get("__annotations__", {}))
    cls.__annotations__ = {name: text if "ClassVar" in str(text) else object for name, text in said.items()}
    made: type = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    made.__annotations__ = said
    for field in dataclasses.fields(made):
        field.type = said.get(field.name, field.type)  # of a class below, which has said it
    return made


def _at_first_call(cls: type, name: str, write: Callable[[type], Written]) -> Callable[..., Any]:
    """Return a method that puts another one in its place, which is made of text."""

    def method(self: Any, *args: Any, **values: Any) -> Any:
        text, known = write(cls)
        exec(text, known)  # of names of fields alone
        written = known[name]
        written.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, written)
        return written(self, *args, **values)

    return method


def _init(cls: type) -> Written:
    known: dict[str, Any] = {}
    first: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for field in dataclasses.fields(cls):
        name = field.name
        known[f"put_{name}"] = getattr(cls, name).__set__
        value = name
        if field.default_factory is not dataclasses.MISSING:
            known[f"make_{name}"] = field.default_factory
            known["absent"] = dataclasses.MISSING
            value = f"make_{name}() if {name} is absent else {name}"
            default = "=absent"
        elif field.default is not dataclasses.MISSING:
            known[f"usual_{name}"] = field.default
            default = f"=usual_{name}"
        else:
            default = ""
        assert field.init, f"{cls.__name__}.{name}: not needed so far"
        (named if field.kw_only else first).append(name + default)
        lines.append(f" put_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    arguments = ["self", *first, *(["*", *named] if named else [])]
    return f"def __init__({', '.join(arguments)}):\n" + "\n".join(lines or [" pass"]), known


def _eq(cls: type) -> Written:
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    mine, theirs = _tuple_of("self", names), _tuple_of("other", names)
    return (
        "def __eq__(self, other):\n"
        " if other.__class__ is self.__class__:\n"
        f"  return self is other or {mine} == {theirs}\n"
        " return NotImplemented"
    ), {}


def _hash(cls: type) -> Written:
    names = [field.name for field in dataclasses.fields(cls) if (field.compare if field.hash is None else field.hash)]
    return f"def __hash__(self):\n return hash({_tuple_of('self', names)})", {}


def _tuple_of(owner: str, names: Sequence[str]) -> str:
    return f"({''.join(f'{owner}.{name},' for name in names)})"


@recursive_repr("...")
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _not_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _not_deleted(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[object]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: Sequence[object]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_OPEN = {"__repr__": _repr, "__hash__": None}
_FROZEN = {
    "__repr__": _repr,
    "__setattr__": _not_set,
    "__delattr__": _not_deleted,
    "__getstate__": _state,
    "__setstate__": _set_state,
}
