"""Sums a plan up: counts, the one-line summary, and what is left out because it says nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from reconciler.decide.changes import Action, Change
from reconciler.decide.diff import FieldChange
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.plan.plan import Plan
from reconciler.show import values

AS_SPECIFIED = "as specified"

_ORDER = ("create", "update", "restart", "destroy", "start", "stop", "adopt", "migrate", "blocked", "pending", "no-op")
_PHRASES = {"blocked": "blocked", "pending": "pending"}
_DEFAULTS = {key.name: key.unset if key.default is None else key.default for key in DOMAIN_KEYS}
_SAME_AS = {key.name: key.floor for key in DOMAIN_KEYS}


def counts(plan: Plan) -> dict[str, int]:
    """Count changes by action. `pending` counts those with something that waits, whatever their action is."""
    by_action = Counter(change.action.value for change in (*plan.changes, *plan.undecided))
    by_action["pending"] = sum(bool(change.pending) for change in plan.changes)
    return {key: by_action[key] for key in _ORDER}


def headline(plan: Plan) -> str:
    """Write `Plan: 1 to create, 1 blocked. 5 as specified.`, or why there is nothing to do."""
    numbers = counts(plan)
    del numbers[Action.NO_OP.value]
    parts = [f"{number} {_PHRASES.get(key, f'to {key}')}" for key, number in numbers.items() if number]
    parts += [f"at most {plan.most_down_at_once} down at once"] if plan.most_down_at_once else []
    every = (*plan.changes, *plan.undecided)
    quiet = sum(is_quiet(change) for change in every)
    alone = sum(change.action is Action.NO_OP and not change.pending for change in every) - quiet
    rest = [f"{quiet} as specified"] if quiet else []
    rest += [f"{alone} left alone"] if alone else []
    if plan.steps:
        return ". ".join(filter(None, (f"Plan: {', '.join(parts)}", ", ".join(rest)))) + "."
    if parts or (alone and any(summary.observed for summary in plan.hosts.values())):
        return f"Nothing to do: {', '.join((*parts, *rest))}."
    return f"Nothing to do: {_why_nothing(plan)}."


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
