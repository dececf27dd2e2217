"""Sums a plan up: counts, the one-line summary, and what is left out because it says nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from reconciler.decide.changes import Action, Change
from reconciler.decide.diff import FieldChange
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.plan.plan import Plan
from reconciler.show import values

AS_SPECIFIED = "as specified"

_ORDER = tuple(Action)
_COUNTED = (*(action.value for action in _ORDER if action is not Action.NO_OP), "pending", Action.NO_OP.value)
_PHRASES = {Action.BLOCKED: "blocked"}
_DEFAULTS = {key.name: key.unset if key.default is None else key.default for key in DOMAIN_KEYS}
_SAME_AS = {key.name: key.floor for key in DOMAIN_KEYS}


def counts(plan: Plan) -> dict[str, int]:
    """Count changes by action. `pending` counts those with something that waits, whatever their action is."""
    by_action = Counter(change.action.value for change in (*plan.changes, *plan.undecided))
    by_action["pending"] = sum(bool(change.pending) for change in plan.changes)
    return {key: by_action[key] for key in _COUNTED}


def headline(plan: Plan) -> str:
    """Write `Plan: 1 to create. Refused: 3 to destroy, 1 allowed. 5 as specified.`, or why there is nothing to do."""
    every = (*plan.changes, *plan.undecided)
    acts = [*_phrases(change.action for change in every if change.acts)]
    acts += [f"at most {plan.most_down_at_once} down at once"] if plan.most_down_at_once else []
    pending = sum(bool(change.pending) and not is_held(change) for change in every)
    acts += [f"{pending} pending"] if pending else []
    held = _phrases(shown_action(change) for change in every if change.action is Action.NO_OP and is_held(change))
    quiet = sum(is_quiet(change) for change in every)
    idle = sum(change.action is Action.NO_OP and not (change.pending or is_held(change)) for change in every)
    rest = [f"{quiet} as specified"] if quiet else []
    rest += [f"{idle - quiet} left alone"] if idle > quiet else []
    said = {"Plan" if plan.steps else "Nothing to do": acts, "Refused": _refused(plan), "Held back": held}
    sentences = [f"{word}: {', '.join(phrases)}" for word, phrases in said.items() if phrases]
    is_seen = any(summary.observed for summary in plan.hosts.values())
    if not sentences and idle > quiet and is_seen:
        return f"Nothing to do: {', '.join(rest)}."
    if not sentences:
        return f"Nothing to do: {_why_nothing(plan)}."
    return ". ".join((*sentences, *([", ".join(rest)] if rest else []))) + "."


def _refused(plan: Plan) -> list[str]:
    """Count what is refused by what it would be, with what the brake allows of it."""
    allowed = {brake.action: f", {brake.allowed} allowed" for brake in plan.brakes}
    refused = [shown_action(change) for change in plan.changes if change.action is Action.BLOCKED]
    return _phrases(refused, allowed)


def _phrases(actions: Iterable[Action], more: Mapping[Action, str] = MappingProxyType({})) -> list[str]:
    """Count actions, each with what there is to add: `["3 to destroy, 1 allowed", "2 blocked"]`."""
    numbers = Counter(actions)
    return [
        f"{numbers[action]} {_PHRASES.get(action, f'to {action.value}')}{more.get(action, '')}"
        for action in _ORDER
        if numbers[action]
    ]


def is_held(change: Change) -> bool:
    """Return whether something holds all of a change back, so that nothing is done of what it would be."""
    return not change.acts and change.would is not None


def shown_action(change: Change) -> Action:
    """Return the action that a change is shown under: its own also where something holds it back."""
    return change.would if change.would is not None and not change.acts else change.action


def why_held(change: Change) -> str | None:
    """Say what holds a change back, and in brackets why it would be made; None when nothing holds it."""
    if change.acts:
        return None
    if change.blocked is not None:
        return change.blocked if change.reason == change.blocked else f"{change.blocked} ({change.reason})"
    return change.reason if change.would is not None else None


def in_brief(change: Change) -> str:
    """Write what will be done and why: `destroy: no spec names it any more`, `restart, held: …`."""
    held = why_held(change)
    if held is not None:
        action, held = shown_action(change), held.removeprefix("held: ").removeprefix("held ")
        return f"blocked: {held}" if action is Action.BLOCKED else f"{action.value}, held: {held}"
    if change.action is Action.NO_OP:
        return f"{change.reason}, but for what waits" if change.pending else change.reason
    if change.blocked is not None and change.blocked != change.reason:
        return f"{change.action.value}: {change.blocked} ({change.reason})"
    return f"{change.action.value}: {change.reason}"


def _why_nothing(plan: Plan) -> str:
    if not plan.hosts:
        return "the specs describe no host"
    if not any(summary.observed for summary in plan.hosts.values()):
        return "no host could be observed"
    if not plan.changes:
        return "no domain is declared or managed"
    total = len(plan.changes)
    return "the one domain is as specified" if total == 1 else f"all {total} domains are as specified"


def left_to_others(plan: Plan) -> tuple[str, ...]:
    """Return the addresses that are not ours and stay so: those that this plan takes over are its changes."""
    taken = {change.address for change in plan.changes if change.acts}
    return tuple(address for address in plan.unmanaged if address not in taken)


def memory_by_host(plan: Plan) -> Iterator[tuple[str, str]]:
    """Return (host, sentence) where memory moves: promised now, at most on the way, and at the end, of all."""
    used: dict[str, list[int]] = defaultdict(list)
    for entry in plan.ledger:
        used[entry.host].append(entry.used_kib)
    for name, summary in plan.hosts.items():
        if not summary.observed:
            yield name, "could not be observed, so nothing is planned there"
        elif name in used:
            now, capacity = values.memory(summary.used_kib), values.memory(summary.capacity_kib)
            peak, end = values.memory(max(summary.used_kib, *used[name])), values.memory(used[name][-1])
            yield name, f"memory {now} now, {peak} at most, {end} at the end, of {capacity}"


def is_quiet(change: Change) -> bool:
    """Return whether a change says nothing that people need to read."""
    return change.action is Action.NO_OP and change.reason == AS_SPECIFIED and not (change.pending or change.waits_for)


def is_new(change: Change) -> bool:
    """Return whether nothing of the domain exists yet, so that its fields list all it will have."""
    return any(field.path == "memory" and field.before is None for field in change.fields)


def is_default(change: Change, field: FieldChange) -> bool:
    """Return whether a field of a new domain only repeats a default."""
    if not is_new(change):
        return False
    twin = _SAME_AS.get(field.path)
    if twin is not None:
        return any(other.path == twin and other.after == field.after for other in change.fields)
    return _DEFAULTS.get(field.path) == field.after
