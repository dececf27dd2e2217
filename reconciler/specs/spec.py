"""What the tables of spec files are made of: a `Spec` is a class whose annotations say what each key may hold.

They are read as pydantic reads those of its models, with the same words, and it is pydantic's core that checks values:
the outcome is that of a `BaseModel`. Only what our specs need is understood, so that a command which reads some specs
need not load the rest of pydantic, which takes longer than all specs together. Used by `schema` and `value_types`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic_core import SchemaValidator

from reconciler.records import dataclass

_NOTHING: Any = object()
_CORE_KINDS: Mapping[object, str] = {str: "str", int: "int", float: "float", bool: "bool"}
Core = Any
"""A type as pydantic's core takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One key of a table: its default, or the bounds of its value."""

    default: Any = _NOTHING
    default_factory: Callable[[], Any] | None = None
    alias: str | None = None  # the key in the file, if it is not the attribute
    bounds: tuple[tuple[str, object], ...] = ()


def Field(
    default: Any = _NOTHING,
    *,
    default_factory: Callable[[], Any] | None = None,
    alias: str | None = None,
    **bounds: object,
) -> Any:
    """Say the default and the name of a key, or (in an annotation) the bounds of a value, as the core names them."""
    return _Field(default=default, default_factory=default_factory, alias=alias, bounds=tuple(bounds.items()))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecKey:
    """One key of a kind of table."""

    alias: str  # in the file
    kind: Any  # its annotation
    default: Any = _NOTHING
    default_factory: Callable[[], Any] | None = None

    @property
    def is_required(self) -> bool:
        return self.default is _NOTHING and self.default_factory is None


class Spec:
    """Strict, so that `memory = true` or `vcpus = "2"` is an error and not a guess; a key nobody knows is one too."""

    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")
    __pydantic_fields_set__: set[str] | frozenset[str]
    model_config: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}  # for the JSON Schema

    def __init__(self, **given: Any) -> None:
        """Check the values of the keys that are given. Raises ValidationError."""
        validator_of(type(self)).validate_python(given, self_instance=self)

    @classmethod
    def model_validate(cls, table: Mapping[str, Any]) -> Self:
        """Check a table, and return the spec that it holds. Raises ValidationError."""
        spec: Self = validator_of(cls).validate_python(table)
        return spec

    @classmethod
    def usual(cls) -> Self:
        """Return the spec of a table of which the file says nothing. It is made without a look at the types."""
        if cls not in _USUAL:  # they are frozen, so one will do
            _USUAL[cls] = spec = cls.__new__(cls)
            for name, key in keys_of(cls).items():
                assert not key.is_required, f"{cls.__name__} needs {name}"
                vars(spec)[name] = key.default if key.default_factory is None else key.default_factory()
            object.__setattr__(spec, "__pydantic_fields_set__", frozenset[str]())
        usual: Self = _USUAL[cls]
        return usual

    @classmethod
    def lift(cls, table: Any) -> Any:
        """Return a table as it is to be checked."""
        return table

    @property
    def given(self) -> set[str] | frozenset[str]:
        """Return the attributes that the file has, rather than their defaults."""
        return self.__pydantic_fields_set__

    def but(self, **changes: Any) -> Self:
        """Return a copy with other values, which are not checked."""
        copy = self.__class__.__new__(self.__class__)
        vars(copy).update(vars(self) | changes)
        object.__setattr__(copy, "__pydantic_fields_set__", self.given | changes.keys())
        return copy

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


_USUAL: dict[type[Spec], Any] = {}
_KEYS: dict[type[Spec], Mapping[str, SpecKey]] = {}
_VALIDATORS: dict[type[Spec], SchemaValidator] = {}


def keys_of(model: type[Spec]) -> Mapping[str, SpecKey]:
    """Return the keys of a kind of table, by attribute."""
    if model not in _KEYS:
        _KEYS[model] = _keys_said(model)
    return _KEYS[model]


def _keys_said(model: type[Spec]) -> Mapping[str, SpecKey]:
    keys: dict[str, SpecKey] = {}
    for owner in reversed(model.__mro__):
        if owner is Spec or not issubclass(owner, Spec):
            continue
        names = vars(sys.modules[owner.__module__])
        for attribute, kind in vars(owner).get("__annotations__", {}).items():
            said = vars(owner).get(attribute, _NOTHING)
            field = said if isinstance(said, _Field) else _Field(default=said)
            keys[attribute] = SpecKey(
                alias=field.alias or attribute,
                kind=eval(kind, names) if isinstance(kind, str) else kind,  # what stands in our own module
                default=field.default,
                default_factory=field.default_factory,
            )
    return keys


def json_schema(model: type[Spec]) -> dict[str, Any]:
    """Return the JSON Schema of a kind of table."""
    from pydantic.json_schema import GenerateJsonSchema

    return GenerateJsonSchema().generate(_core_of_spec(model))


def validator_of(model: type[Spec]) -> SchemaValidator:
    """Return what checks a kind of table. It is built once it is needed."""
    if model not in _VALIDATORS:
        _VALIDATORS[model] = SchemaValidator(_core_of_spec(model))
    return _VALIDATORS[model]


def _core_of_spec(model: type[Spec]) -> Core:
    fields = {name: _core_of_key(key, name) for name, key in keys_of(model).items()}
    core: Core = {"type": "model-fields", "fields": fields, "model_name": model.__name__, "computed_fields": []}
    if "lift" in vars(model):
        core = _called("function-before", model.lift, core)
    return {
        "type": "model",
        "cls": model,
        "schema": core,
        "custom_init": False,
        "root_model": False,
        "config": {"extra_fields_behavior": "forbid", "strict": True, "title": model.__name__},
        "ref": f"{model.__module__}.{model.__qualname__}:{id(model)}",
    }


def _core_of_key(key: SpecKey, attribute: str) -> Core:
    core = _core_of(key.kind)
    if key.default_factory is not None:
        core = {"type": "default", "schema": core, "default_factory": key.default_factory}
    elif not key.is_required:
        core = {"type": "default", "schema": core, "default": key.default}
    named = {} if key.alias == attribute else {"validation_alias": key.alias, "serialization_alias": key.alias}
    return {"type": "model-field", "schema": core, **named}


def _core_of(kind: Any) -> Core:
    """Return a type as the core takes it."""
    if kind in _CORE_KINDS:
        return {"type": _CORE_KINDS[kind]}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        core = _core_of(arguments[0])
        for said in arguments[1:]:
            core = _with(core, said)
        return core
    if origin is Literal:
        return {"type": "literal", "expected": list(arguments)}
    if origin in (Union, UnionType):
        return _core_of_choice(arguments)
    if origin is tuple and arguments[-1] is ...:
        return {"type": "tuple", "items_schema": [_core_of(arguments[0])], "variadic_item_index": 0}
    if origin is tuple:
        return {"type": "tuple", "items_schema": [_core_of(one) for one in arguments]}
    if origin is dict:
        return {"type": "dict", "keys_schema": _core_of(arguments[0]), "values_schema": _core_of(arguments[1])}
    assert issubclass(kind, Spec), f"{kind}: not needed so far"
    return _core_of_spec(kind)


def _core_of_choice(kinds: tuple[Any, ...]) -> Core:
    choices = [_core_of(kind) for kind in kinds if kind is not NoneType]
    core = choices[0] if len(choices) == 1 else {"type": "union", "choices": choices}
    return {"type": "nullable", "schema": core} if NoneType in kinds else core


def _with(core: Core, said: Any) -> Core:
    """Return a type with what an annotation says beside it."""
    if isinstance(said, BeforeValidator):
        return _called(said.core, said.function, core)
    if isinstance(said, _Field | StringConstraints):
        return {**core, **dict(said.bounds)}
    described = core.get("metadata", {}).get(_DESCRIBED, [])
    return {**core, "metadata": {_DESCRIBED: [*described, said.__get_pydantic_json_schema__]}}


_DESCRIBED = "pydantic_js_annotation_functions"


def _called(when: str, function: Callable[[Any], Any], core: Core) -> Core:
    return {"type": when, "function": {"type": "no-info", "function": function}, "schema": core}
