"""What a value looks like in JSON or TOML, read from the annotations of classes, and checked by pydantic's core.

They are read as pydantic reads them, with the same words, so that a value is what a model or a `TypeAdapter` would make
of it. Only what is needed here is understood: a command that reads some specs and what is stored of a host need not
load the rest of pydantic, which takes longer than all that it is to check. Called by `specs` and the simulated host.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic_core import SchemaSerializer, SchemaValidator

from reconciler.records import dataclass

T = TypeVar("T")
NOTHING: Any = object()
Core = Any
"""A type as pydantic's core takes it."""

_KINDS: Mapping[object, str] = {str: "str", int: "int", float: "float", bool: "bool", NoneType: "none", None: "none"}
_DESCRIBED = "pydantic_js_annotation_functions"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSaid:
    """One key of a table: its default, or the bounds of its value."""

    default: Any = NOTHING
    default_factory: Callable[[], Any] | None = None
    alias: str | None = None  # the key in the file, if it is not the attribute
    bounds: tuple[tuple[str, object], ...] = ()


def Field(
    default: Any = NOTHING,
    *,
    default_factory: Callable[[], Any] | None = None,
    alias: str | None = None,
    **bounds: object,
) -> Any:
    """Say the default and the name of a key, or (in an annotation) the bounds of a value, as the core names them."""
    return FieldSaid(default=default, default_factory=default_factory, alias=alias, bounds=tuple(bounds.items()))


class StringConstraints:
    """The form of a string."""

    def __init__(self, **bounds: object) -> None:
        self.bounds = tuple(bounds.items())


class Strict(StringConstraints):
    """Whether arrays count as tuples (where it is False)."""

    def __init__(self, strict: bool) -> None:
        super().__init__(strict=strict)


class BeforeValidator:
    """Makes a value of what the file has, or raises; the type is checked then."""

    core = "function-before"

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function


class AfterValidator(BeforeValidator):
    """Does so with a value whose type was checked."""

    core = "function-after"


class WithJsonSchema:
    """What a JSON Schema says of a value instead of what its type says."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._described = described

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return dict(self._described)


class Shape(Generic[T]):
    """What a value looks like; it is worked out once it is needed."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._made: tuple[SchemaValidator, SchemaSerializer] | None = None

    def validate_python(self, value: object) -> T:
        """Check plain values. Raises pydantic's ValidationError."""
        checked: T = self._parts()[0].validate_python(value)
        return checked

    def validate_json(self, text: str | bytes) -> T:
        """Check a JSON text. Raises pydantic's ValidationError."""
        checked: T = self._parts()[0].validate_json(text)
        return checked

    def dump_json(self, value: T) -> bytes:
        return self._parts()[1].to_json(value)

    def _parts(self) -> tuple[SchemaValidator, SchemaSerializer]:
        if self._made is None:
            core = core_of(self._kind)
            self._made = SchemaValidator(core), SchemaSerializer(core)
        return self._made


def annotations_of(owner: type) -> Iterator[tuple[str, Any]]:
    """Give the attributes that a class itself annotates, each with its type."""
    names = vars(sys.modules[owner.__module__])
    for attribute, kind in vars(owner).get("__annotations__", {}).items():
        yield attribute, eval(kind, names) if isinstance(kind, str) else kind  # what stands in our own module


def core_of(kind: Any) -> Core:
    """Return a type as the core takes it."""
    if kind in _KINDS:
        return {"type": _KINDS[kind]}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        core = core_of(arguments[0])
        for said in arguments[1:]:
            core = _with(core, said)
        return core
    if origin is Literal:
        return {"type": "literal", "expected": list(arguments)}
    if origin in (Union, UnionType):
        return _core_of_choice(arguments)
    if origin is tuple and arguments[-1] is ...:
        return {"type": "tuple", "items_schema": [core_of(arguments[0])], "variadic_item_index": 0}
    if origin is tuple:
        return {"type": "tuple", "items_schema": [core_of(one) for one in arguments]}
    if origin is dict:
        return {"type": "dict", "keys_schema": core_of(arguments[0]), "values_schema": core_of(arguments[1])}
    assert isinstance(kind, type), f"{kind}: not needed so far"
    if issubclass(kind, StrEnum):
        return {"type": "enum", "cls": kind, "members": list(kind), "sub_type": "str"}
    if dataclasses.is_dataclass(kind):
        return _core_of_dataclass(kind)
    return kind.core()  # type: ignore[attr-defined]  # of a kind that says it itself


def _core_of_choice(kinds: tuple[Any, ...]) -> Core:
    choices = [core_of(kind) for kind in kinds if kind is not NoneType]
    core = choices[0] if len(choices) == 1 else {"type": "union", "choices": choices}
    return {"type": "nullable", "schema": core} if NoneType in kinds else core


def _with(core: Core, said: Any) -> Core:
    """Return a type with what an annotation says beside it."""
    if isinstance(said, BeforeValidator):
        return called(said.core, said.function, core)
    if isinstance(said, FieldSaid | StringConstraints):
        return {**core, **dict(said.bounds)}
    described = core.get("metadata", {}).get(_DESCRIBED, [])
    return {**core, "metadata": {_DESCRIBED: [*described, said.__get_pydantic_json_schema__]}}


def _core_of_dataclass(kind: type) -> Core:
    types = {name: said for owner in reversed(kind.__mro__) for name, said in annotations_of(owner)}
    fields = [
        {"type": "dataclass-field", "name": field.name, "schema": with_default(core_of(types[field.name]), field)}
        for field in dataclasses.fields(kind)
    ]
    said = dict(getattr(kind, "__pydantic_config__", {}))
    if "extra" in said:
        said["extra_fields_behavior"] = said.pop("extra")
    return {
        "type": "dataclass",
        "cls": kind,
        "schema": {"type": "dataclass-args", "dataclass_name": kind.__name__, "fields": fields},
        "fields": [field["name"] for field in fields],
        "post_init": hasattr(kind, "__post_init__"),
        "slots": True,
        "config": {**said, "title": kind.__name__},
    }


def with_default(core: Core, said: Any) -> Core:
    """Return a type with the default that a field has, if it has one."""
    if said.default_factory is not None and said.default_factory is not dataclasses.MISSING:
        return {"type": "default", "schema": core, "default_factory": said.default_factory}
    if said.default is not NOTHING and said.default is not dataclasses.MISSING:
        return {"type": "default", "schema": core, "default": said.default}
    return core


def called(when: str, function: Callable[[Any], Any], core: Core) -> Core:
    """Return a type that a function of ours is asked about, too."""
    return {"type": when, "function": {"type": "no-info", "function": function}, "schema": core}
