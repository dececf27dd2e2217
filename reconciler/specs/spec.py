"""What the tables of spec files are made of: a `Spec` is a class whose annotations say what each key may hold.

The annotations are read as pydantic reads those of a `BaseModel`, and it is pydantic's core that checks values: the
outcome is the same (`shapes` says why the rest of pydantic is not loaded). Used by `schema` and `schema_errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic_core import SchemaValidator

from reconciler.records import dataclass
from reconciler.shapes import NOTHING, Core, FieldSaid, annotations_of, called, core_of, with_default


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecKey:
    """One key of a kind of table."""

    alias: str  # in the file
    kind: Any  # its annotation
    default: Any = NOTHING
    default_factory: Callable[[], Any] | None = None

    @property
    def is_required(self) -> bool:
        return self.default is NOTHING and self.default_factory is None


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

    @classmethod
    def core(cls) -> Core:
        """Return this kind of table as pydantic's core takes it."""
        fields = {name: _core_of_key(key, name) for name, key in keys_of(cls).items()}
        core: Core = {"type": "model-fields", "fields": fields, "model_name": cls.__name__, "computed_fields": []}
        if "lift" in vars(cls):
            core = called("function-before", cls.lift, core)
        return {
            "type": "model",
            "cls": cls,
            "schema": core,
            "custom_init": False,
            "root_model": False,
            "config": {"extra_fields_behavior": "forbid", "strict": True, "title": cls.__name__},
            "ref": f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
        }

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
        for attribute, kind in annotations_of(owner):
            said = vars(owner).get(attribute, NOTHING)
            field = said if isinstance(said, FieldSaid) else FieldSaid(default=said)
            keys[attribute] = SpecKey(
                alias=field.alias or attribute,
                kind=kind,
                default=field.default,
                default_factory=field.default_factory,
            )
    return keys


def json_schema(model: type[Spec]) -> dict[str, Any]:
    """Return the JSON Schema of a kind of table."""
    from pydantic.json_schema import GenerateJsonSchema

    return GenerateJsonSchema().generate(model.core())


def validator_of(model: type[Spec]) -> SchemaValidator:
    """Return what checks a kind of table. It is built once it is needed."""
    if model not in _VALIDATORS:
        _VALIDATORS[model] = SchemaValidator(model.core())
    return _VALIDATORS[model]


def _core_of_key(key: SpecKey, attribute: str) -> Core:
    core = with_default(core_of(key.kind), key)
    named = {} if key.alias == attribute else {"validation_alias": key.alias, "serialization_alias": key.alias}
    return {"type": "model-field", "schema": core, **named}
