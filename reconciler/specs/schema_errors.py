"""Problems of spec files: what pydantic or resolve found, in sentences, and in which key of which file.

Core knows no line numbers: a problem names the file and the path of keys (`loc`); `reconciler.specs` turns that into a
line and a column. Called by resolve.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic_core import ErrorDetails, ValidationError

from reconciler.model.quantities import Unfit, kind_of, number_shown, quoted
from reconciler.records import dataclass
from reconciler.specs.schema import DomainSpec
from reconciler.specs.spec import Spec, keys_of
from reconciler.specs.value_types import PATTERN_SENTENCES

Loc = tuple[str | int, ...]
S = TypeVar("S", bound=Spec)

SALVAGE_ROUNDS_MAX = 3  # a required key with a wrong value is missing in the second round, its table gone in the third


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Something wrong at one path of keys. `at_key`: the key itself, or its absence, is wrong rather than its value."""

    loc: Loc = ()
    summary: str
    detail: str
    hint: str | None = None
    at_key: bool = False
    trace: str | None = None  # of an error nobody foresaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A complaint about a file (its path relative to the tree). `address` is set when it is about one domain only."""

    file: str
    complaint: Complaint
    address: str | None = None


def validate(model: type[S], table: Mapping[str, Any]) -> tuple[S | None, tuple[Complaint, ...]]:
    """Return the spec that a table holds, and what is wrong with its values one by one."""
    complaints: list[Complaint] = []
    for _ in range(SALVAGE_ROUNDS_MAX):
        try:
            return model.model_validate(table), tuple(complaints)
        except ValidationError as error:
            found = error.errors(include_url=False)
        if not complaints:
            complaints = [_complaint(details, model) for details in found]
        for details in found:
            loc: Loc = details["loc"]
            loc = loc[:-1] if loc[-1] == "[key]" and len(loc) > 1 else loc
            table = _without(table, loc, whole=details["type"] == "missing")
    return None, tuple(complaints)


def _without(table: Mapping[str, Any], loc: Loc, *, whole: bool) -> Mapping[str, Any]:
    """Copy without the value at `loc`; without the array that it is in, if that would lose an element.

    What is missing takes along all below the first key.
    """
    while isinstance(loc[-1], int):
        loc = loc[:-1]
    first = str(loc[0])
    if first not in table:
        return table
    rest = {key: value for key, value in table.items() if key != first}
    if len(loc) == 1 or whole:
        return rest
    inner, steps = table[first], loc[1:]
    if isinstance(steps[0], int):
        items = list(inner)
        items[steps[0]] = _without(items[steps[0]], steps[1:], whole=False)
        return {**rest, first: items}
    return {**rest, first: _without(inner, steps, whole=False)}


def near_miss(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return a hint that names the word which a misspelt one is close to: at least as much as `likeness`, of 1."""
    if len(word) < 3:  # close to too much
        return None
    matches = difflib.get_close_matches(word[:60], list(known), n=1, cutoff=likeness)
    return f'Did you mean "{matches[0]}"?' if matches else None


def _complaint(details: ErrorDetails, model: type[Spec]) -> Complaint:
    loc: Loc = details["loc"]
    value = details["input"]
    context: Mapping[str, Any] = details.get("ctx", {})
    if (
        loc[-1] == "[key]" and "pattern" in context
    ):  # how pydantic marks that the key of a free table is wrong, not its value
        return Complaint(
            loc=loc[:-1], summary="Wrong key", detail=f"{spell(loc[:-1])} {_pattern(context)}.", at_key=True
        )
    unfit = context.get("error")  # what a check of ours raised: pydantic hands it through
    if isinstance(unfit, Unfit):
        return Complaint(loc=loc, summary="Invalid value", detail=f"{spell(loc)} {unfit}.", hint=unfit.hint)
    match details["type"]:
        case "missing":
            return Complaint(loc=loc, summary="Missing key", detail=f"{_place(loc)} needs {loc[-1]}.", at_key=True)
        case "extra_forbidden":
            return _unknown_key(loc, model)
        case "literal_error":
            return _not_among(loc, value, context["expected"])
        case "string_pattern_mismatch":
            return Complaint(
                loc=loc, summary="Invalid value", detail=f"{spell(loc)} {_pattern(context)}, not {kind_of(value)}."
            )
        case "too_short":
            return Complaint(loc=loc, summary="Invalid value", detail=f"{spell(loc)} must not be empty.")
        case "string_too_long":
            detail = f"{spell(loc)} is longer than {context['max_length']} characters."
            return Complaint(loc=loc, summary="Invalid value", detail=detail)
        case "greater_than_equal" | "less_than_equal" | "less_than":
            return Complaint(
                loc=loc,
                summary="Value out of range",
                detail=f"{spell(loc)} must be {_bound(context)}, not {number_shown(value)}.",
            )
        case _:
            return _wrong_type(loc, details["type"], details["msg"], value)


def _pattern(context: Mapping[str, Any]) -> str:
    return PATTERN_SENTENCES[context["pattern"]]


def _bound(context: Mapping[str, Any]) -> str:
    words = {"ge": "at least", "le": "at most", "lt": "less than"}
    return " and ".join(
        f"{words[key]} {bound:g}" if isinstance(bound, float) else f"{words[key]} {bound}"
        for key, bound in context.items()
        if key in words
    )


_TYPE_NAMES = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "finite_number": "a finite number",
}


def _wrong_type(loc: Loc, error_type: str, message: str, value: object) -> Complaint:
    wanted = _TYPE_NAMES.get(error_type)
    if wanted is None:
        return Complaint(loc=loc, summary="Invalid value", detail=f"{spell(loc)}: {message}.")
    hint = None
    if error_type == "int_type" and isinstance(value, str) and value.isascii() and value.isdigit():
        hint = f"Write {loc[-1]} = {value[:20]} without quotes."
    elif error_type == "bool_type" and value in ("true", "false"):
        hint = f"Write {loc[-1]} = {value} without quotes."
    elif error_type == "tuple_type" and isinstance(value, dict):
        hint = f"Write [[{loc[-1]}]] with two brackets: there can be several."
    elif error_type == "tuple_type" and isinstance(value, str):
        hint = f'Write {loc[-1]} = ["{value[:60]}"].'
    return Complaint(
        loc=loc, summary="Wrong type", detail=f"{spell(loc)} must be {wanted}, not {kind_of(value)}.", hint=hint
    )


def _not_among(loc: Loc, value: object, expected: str) -> Complaint:
    allowed = expected.replace("'", '"')
    known = [part for part in expected.split("'") if part.strip(" ,") not in ("", "or")]
    hint = near_miss(value, known) if isinstance(value, str) else None
    detail = f"{spell(loc)} must be {allowed}, not {kind_of(value)}."
    return Complaint(loc=loc, summary="Value not allowed", detail=detail, hint=hint)


def _not_yet(loc: Loc, detail: str, hint: str | None, *, at_key: bool = False) -> Complaint:
    return Complaint(loc=loc, summary="Not supported yet", detail=detail, hint=hint, at_key=at_key)


_OTHER_WORDS = {
    "name": "The file's name is the domain's name: leave this key out.",
    "builder": 'Write type = "hvm", "pv" or "pvh".',
}


def _unknown_key(loc: Loc, model: type[Spec]) -> Complaint:
    key = str(loc[-1])
    owner = _model_at(model, loc[:-1])
    if owner is not None and owner.__name__ == "DiskSpec" and key == "shared":
        return _not_yet(loc, "Disks that several domains share are not supported yet.", None, at_key=True)
    known = [key.alias for key in keys_of(owner).values()] if owner else []
    hint = near_miss(key, known)
    if owner is DomainSpec and (hint is None or key in _OTHER_WORDS):
        hint = _OTHER_WORDS.get(key, "Other keys of xl.cfg go under [xl], where host.toml allows them.")
    elif hint is None:
        hint = "Known here: " + ", ".join(known) + "."
    place = _place(loc)
    return Complaint(
        loc=loc, summary="Unknown key", detail=f"{place} has no key {quoted(key)}.", hint=hint, at_key=True
    )


def _place(loc: Loc) -> str:
    """Name the table that holds the key at the end of `loc`, as the beginning of a sentence."""
    if len(loc) == 1:
        return "This file"
    return f"[{spell(loc[:-1])}]" if isinstance(loc[-2], str) else spell(loc[:-1])


def spell(loc: Loc) -> str:
    """Write a path of keys as people do: `disk[1].size`. It counts from 0, as plans and the toolstack do."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _model_at(model: type[Spec], loc: Loc) -> type[Spec] | None:
    """Return the model that describes the table at `loc`."""
    for part in loc:
        if isinstance(part, int):
            continue
        kinds = {key.alias: key.kind for key in keys_of(model).values()}
        inner = _model_in(kinds[part]) if part in kinds else None
        if inner is None:
            return None
        model = inner
    return model


def _model_in(annotation: object) -> type[Spec] | None:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _model_in(inner))), None)
