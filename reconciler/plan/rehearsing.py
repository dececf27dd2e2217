"""Makes the steps of a rehearsal, and what follows one that fails. Called by `chains` and `plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reconciler.decide.changes import Change
from reconciler.model.boot import with_quarantined
from reconciler.model.memory import needed_kib
from reconciler.plan.steps import PlannedStep, Rehearse, RehearseEnd, SetQuarantine, Step, WayBack


def rehearsal_steps(change: Change) -> Iterator[Step]:
    """Boot what is new beside the running domain first. Nothing is written for the restart before that got ready."""
    rehearsal, control, target = change.rehearsal, change.control, change.target
    if rehearsal is None or control is None or target is None:
        return
    kib = max(needed_kib(one.definition, one.definition.memory_kib) for one in (rehearsal, control))
    yield Rehearse(
        domain=change.domain,
        rehearsal=rehearsal,
        control=control,
        required=target.policy.rehearse == "required",
        needed_kib=kib,
    )
    yield RehearseEnd(domain=change.domain, rehearsal=rehearsal, control=control, needed_kib=kib)


def after_rehearsals(steps: Sequence[PlannedStep], changes: Sequence[Change]) -> Iterator[WayBack]:
    """Return what is noted after each rehearsal that fails: first of a kernel that failed, then of one unjudged.

    `ways_back` in `apply` chooses. Nothing else has to be done, since nothing was done to the running domain.
    """
    rehearsed = {step.address: step for step in steps if isinstance(step.step, Rehearse)}
    for change in changes if rehearsed else ():
        step, guest = rehearsed.get(change.address), change.guest
        if step is None or guest is None or change.target is None or change.no_verdict is None:
            continue
        if change.quarantine is not None:
            guest = replace(guest, quarantine=change.quarantine)
        failed = with_quarantined(guest, change.target, reason="")
        unjudged = (*(one for one in guest.quarantine if one.holds_boot), change.no_verdict)
        notes = tuple(
            PlannedStep(
                id=f"{step.id}.f{number}",
                host=step.host,
                step=SetQuarantine(domain=change.domain, entries=entries),
                wave=step.wave,
            )
            for number, entries in enumerate((failed, unjudged), start=1)
        )
        yield WayBack(address=change.address, after=(step.id,), steps=notes)
