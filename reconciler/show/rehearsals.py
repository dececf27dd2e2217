"""Rehearsals in words and in documents: what one takes, and why there is none where a spec asks for one."""

from __future__ import annotations

from typing import Any

from reconciler.decide.changes import Change
from reconciler.model.rehearsal import Rehearsal
from reconciler.plan.steps import Rehearse, Step
from reconciler.show import values

_WAYS = {"lvm": "by LVM snapshot", "thin": "by thin snapshot", "reflink": "by reflink", "copy": "by a copy"}


def rehearsal_words(rehearsal: Rehearsal, needed_kib: int) -> str:
    """Say what a rehearsal takes: memory, snapshots and their room, and a pause."""
    parts = [f"{values.exact_memory(needed_kib)} of memory"]
    for clone in rehearsal.clones:
        size = values.size(clone.room_bytes)
        parts.append(f"{clone.vdev} {_WAYS[clone.way]} ({'' if clone.way in ('lvm', 'copy') else 'at most '}{size})")
    if rehearsal.pause_seconds:
        parts.append(f"it is paused for about {values.duration(rehearsal.pause_seconds)}")
    return f"rehearse beside the running domain: {', '.join(parts)}"


def rehearsal_lines(change: Change) -> list[str]:
    """Say of a restart that it is rehearsed, and what that proves; or why it is not."""
    if change.restarts and change.unrehearsed is not None:
        return [f"is restarted without a rehearsal: {change.unrehearsed}"]
    if not change.restarts or change.rehearsal is None:
        return []
    signs = "until its console shows what [ready] asks for"
    if change.rehearsal.ready.console is None:
        signs = "which proves that the kernel starts, finds its devices and does not panic ([ready] has no console)"
    pause = change.rehearsal.pause_seconds
    paused = [f"is paused for about {values.duration(pause)} while its disks are snapshot"] if pause else []
    again = change.control.pause_seconds if change.control is not None else 0
    if again:
        what = f"is paused for about {values.duration(again)}, too, if what runs now has to be booted to compare"
        paused.append(what)
    lacks = []
    if change.target is not None and change.target.pci:
        lacks.append("is rehearsed without its PCI devices: a kernel that does not boot without them is not judged")
    return [f"is rehearsed first, beside the running domain, {signs}", *lacks, *paused]


def rehearsal_document(change: Change) -> dict[str, Any]:
    """Say of a change how it is rehearsed; nothing where no spec asks for a rehearsal, or nothing restarts."""
    if not change.restarts or (change.rehearsal is None and change.unrehearsed is None):
        return {}
    rehearsal = change.rehearsal if change.unrehearsed is None else None
    said = {
        "name": rehearsal.name if rehearsal is not None else None,
        "uuid": rehearsal.uuid if rehearsal is not None else None,
        "without": change.unrehearsed,
        "pause_seconds": rehearsal.pause_seconds if rehearsal is not None else 0,
        "control_pause_seconds": change.control.pause_seconds if rehearsal is not None and change.control else 0,
        "console": rehearsal.ready.console if rehearsal is not None else None,
        "snapshots": _snapshots(rehearsal) if rehearsal is not None else [],
    }
    return {"rehearsal": said}


def step_document(step: Step) -> dict[str, Any]:
    """Make what the document of a step says of a rehearsal; nothing for any other step."""
    if not isinstance(step, Rehearse):
        return {}
    return {
        "pause_seconds": step.rehearsal.pause_seconds,
        "control_pause_seconds": step.control.pause_seconds,
        "snapshots": _snapshots(step.rehearsal),
    }


def _snapshots(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    return [
        {
            "vdev": clone.vdev,
            "way": clone.way,
            "origin": clone.origin,
            "target": clone.target,
            "room": clone.room,
            "room_bytes": clone.room_bytes,
            "keep_free_bytes": clone.keep_free_bytes,
        }
        for clone in rehearsal.clones
    ]
