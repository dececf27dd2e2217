"""A plan for people at a terminal. Readable without colour, and still readable when it is large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reconciler.decide.changes import Action, Change
from reconciler.decide.diff import Effect, FieldChange
from reconciler.plan.plan import Plan
from reconciler.plan.steps import PlannedStep, SetQuarantine, Start
from reconciler.show import values
from reconciler.show.escape import plain
from reconciler.show.paint import Paint, no_paint
from reconciler.show.rehearsals import rehearsal_lines
from reconciler.show.steps import in_words
from reconciler.show.summary import (
    headline,
    in_brief,
    is_default,
    is_new,
    is_quiet,
    left_to_others,
    memory_by_host,
    shown_action,
)

SYMBOLS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.RESTART: "±",
    Action.DESTROY: "-",
    Action.START: "~",
    Action.STOP: "~",
    Action.ADOPT: "~",
    Action.MIGRATE: "~",
    Action.BLOCKED: "!",
    Action.NO_OP: " ",
}
_COLOURS = {
    Action.CREATE: "green",
    Action.RESTART: "magenta",
    Action.DESTROY: "red",
    Action.BLOCKED: "red",
    Action.NO_OP: "bright_black",
}
_OTHER_COLOUR = "yellow"
_LARGE_PLAN_CHANGES = 60  # more than this: what new domains consist of is not listed
_LISTED_UNMANAGED = 20


def plan_text(plan: Plan, *, steps: bool = False, paint: Paint = no_paint) -> str:
    """Write the whole plan; `steps` adds the steps in their order."""
    every = sorted((*plan.changes, *plan.undecided), key=lambda change: change.address)
    shown = [change for change in every if not is_quiet(change)]
    large = len(shown) > _LARGE_PLAN_CHANGES
    back = {way.address for way in plan.ways_back if any(isinstance(s.step, Start) for s in way.steps)}
    blocks = [
        _change(change, brief=large and is_new(change), falls_back=change.address in back, paint=paint)
        for change in shown
    ]
    sections = [_join_blocks(blocks)] if blocks else []
    if large and any(is_new(change) for change in shown):
        sections.append("What new domains consist of is left out here: --target ADDRESS shows one of them.")
    if steps and plan.steps:
        sections.append("\n".join(_steps(plan)))
    sections += ["\n".join(lines) for lines in (_memory(plan), list(_unmanaged(left_to_others(plan)))) if lines]
    sections.append(paint(headline(plan), "bold"))
    return "\n\n".join(sections) + "\n"


def _join_blocks(blocks: Sequence[str]) -> str:
    """Put one-line changes close together, and those with fields apart."""
    text = ""
    for before, block in zip(("", *blocks), blocks, strict=False):
        gap = "" if not text else "\n\n" if "\n" in block or "\n" in before else "\n"
        text += gap + block
    return text


def _change(change: Change, *, brief: bool, falls_back: bool, paint: Paint) -> str:
    action = shown_action(change)
    title = paint(f"{SYMBOLS[action]} {plain(change.address)}", _COLOURS.get(action, _OTHER_COLOUR))
    lines = [f"{title}  {plain(in_brief(change))}"]
    fields = () if brief else [field for field in change.fields if not is_default(change, field)]
    matters = not is_new(change) and action not in (Action.START, Action.STOP)
    lines += _fields(fields, with_effect=matters, paint=paint)
    lines += [_downtime(change)] if change.restarts else []
    lines += map(plain, rehearsal_lines(change))
    lines += ["falls back to the last proven definition if it does not get ready"] if falls_back else []
    lines += [f"waits for {plain(what)}" for what in change.waits_for]
    lines += [f"pending: {values.pending(waiting)}" for waiting in change.pending]
    if change.hint is not None:
        lines.append(f"{paint('hint:', 'cyan')} {plain(change.hint)}")
    return "\n    ".join(lines)


def _downtime(change: Change) -> str:
    times = len(change.outings) + (change.own is Action.RESTART)
    often = f" {times} times" if times > 1 else ""
    if change.downtime_seconds is None:
        return f"goes down and comes back{often}, nobody knows for how long"
    return f"goes down and comes back{often}, for about {values.duration(change.downtime_seconds)}"


def _fields(fields: Sequence[FieldChange], *, with_effect: bool, paint: Paint) -> Iterator[str]:
    """Align the fields: `memory  512 MiB → 1 GiB  (live)`. A field of something new has no left side."""
    rows = []
    for field in fields:
        before, after = values.before_and_after(field)
        shown = after if field.before is None and not with_effect else f"{before} → {after}"
        rows.append((plain(field.path), shown, _effect(field) if with_effect else ""))
    path_width = max((len(path) for path, _, _ in rows), default=0)
    value_width = min(max((len(shown) for _, shown, _ in rows), default=0), 60)
    for path, shown, effect in rows:
        if not effect:
            yield f"{path:<{path_width}}  {shown}"
            continue
        colour = "magenta" if effect == "(restart)" else "green"
        yield f"{path:<{path_width}}  {shown:<{value_width}}  {paint(effect, colour)}"


def _effect(field: FieldChange) -> str:
    if field.waits:
        return "(at the next start)"
    return "(restart)" if field.effect is Effect.RESTART else "(live)"


def _steps(plan: Plan) -> Iterator[str]:
    yield "Steps, each as soon as what it needs is done:"
    yield from _step_lines(plan.steps)
    for way in plan.ways_back:
        falls = f"so {plain(way.address)} does not get ready"
        if all(isinstance(noting.step, SetQuarantine) for noting in way.steps):  # after a rehearsal
            falls = f"{plain(way.address)} goes on as it is; one of these is noted, unless its host was the reason"
        yield f"\nIf {' or '.join(way.after)} fails, {falls}:"
        yield from _step_lines(way.steps)


def _step_lines(steps: Sequence[PlannedStep]) -> Iterator[str]:
    rows = [
        (step.id, plain(step.address), in_words(step.step), _signed(step.delta_kib), ", ".join(step.needs))
        for step in steps
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for identity, address, words, memory, needs in rows:
        after = f"after {needs}" if needs else ""
        line = (
            f"  {identity:<{widths[0]}}  {address:<{widths[1]}}  {words:<{widths[2]}}  {memory:>{widths[3]}}  {after}"
        )
        yield line.rstrip()


def _signed(kib: int) -> str:
    return ("+" if kib > 0 else "") + values.exact_memory(kib) if kib else ""


def _memory(plan: Plan) -> list[str]:
    return [f"{plain(host)}: {sentence}" for host, sentence in memory_by_host(plan)]


def _unmanaged(addresses: Sequence[str]) -> Iterator[str]:
    if not addresses:
        return
    more = len(addresses) - _LISTED_UNMANAGED
    listed: Iterable[str] = map(plain, addresses[:_LISTED_UNMANAGED])
    yield f"Not ours, never changed: {', '.join(listed)}" + (f" and {more} more" if more > 0 else "")
