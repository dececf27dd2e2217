"""Rehearsals on a simulated host: snapshots, the room for them, and a throwaway whose guest may write to its copies.

All that a rehearsal makes is named by a record that is written before, as on a dom0. Called by the executor.
"""

from __future__ import annotations

import secrets

from reconciler.model.copies import replace
from reconciler.model.memory import needed_kib
from reconciler.model.rehearsal import Clone, Rehearsal, read_record, record_text
from reconciler.simulated.domains import check_create, start_instance
from reconciler.simulated.draft import Draft
from reconciler.simulated.guest import brought_up_to
from reconciler.simulated.view import file_system_free

_MIB = 1 << 20


def begin(draft: Draft, rehearsal: Rehearsal) -> None:
    """Make the record, the snapshots and the throwaway. Raises ReconcilerError where something is in the way."""
    if draft.instance(rehearsal.name) is not None:
        problem = f"A domain {rehearsal.name} is there already; it is left alone."
        raise draft.failed(rehearsal.of, "name taken", problem, passing=True)
    short_kib = needed_kib(rehearsal.definition, rehearsal.definition.memory_kib) - draft.view().free_kib()
    if short_kib > 0:
        problem = f"{draft.settings.name} lacks {-(-short_kib // 1024)} MiB of memory for {rehearsal.name}."
        raise draft.failed(rehearsal.of, "not enough memory", problem, passing=True)
    if draft.store.take_fault("disk-full"):
        problem = f"No space left on device on {draft.settings.name}."
        raise draft.failed(rehearsal.of, "no space left", problem, passing=True)
    text = record_text(rehearsal, secrets.token_hex(8))
    draft.store.put(draft.stored, draft.paths.rehearsal(rehearsal.uuid), text.encode())
    for clone in rehearsal.clones:
        _snapshot(draft, rehearsal, clone)
    check_create(draft, rehearsal.definition)
    start_instance(draft, rehearsal.definition)


def trouble_of(draft: Draft, rehearsal: Rehearsal) -> str | None:
    """Say why the host is the reason if the throwaway does not get ready: what was written to its snapshots."""
    stored = draft.stored.instances.get(rehearsal.name)
    if stored is None:
        return None
    instance = brought_up_to(stored, draft.now)
    written = int((draft.now - instance.booted_at) * instance.behaviour.writes_mib * _MIB)
    free, vg_free = file_system_free(draft.stored), draft.view().vg_free_bytes()
    for clone in rehearsal.clones:
        used = min(written, clone.size_bytes)
        left = (vg_free.get(clone.room, 0) if clone.origin.startswith("/dev/") else free) - used
        if clone.way == "lvm" and used > clone.room_bytes:
            return f"the snapshot {clone.target} is full"
        if clone.way != "lvm" and left < clone.keep_free_bytes:
            return f"{clone.room} has less than {clone.keep_free_bytes // _MIB} MiB left, which are kept free"
    return None


def end(draft: Draft, uuid: str) -> None:
    """Take down what the record of a rehearsal names: its domain by its uuid, then its snapshots, then the record."""
    path = draft.paths.rehearsal(uuid)
    if path not in draft.stored.files:
        return
    record = read_record(draft.store.content(draft.stored, path).decode(errors="replace"))
    if record is not None:
        instance = draft.stored.instances.get(record.name)
        if instance is not None and instance.definition.uuid == record.uuid:
            del draft.stored.instances[record.name]
        for _, _, target in record.clones:
            draft.stored.files.pop(target, None)
    draft.stored.files.pop(path)


def clear_all(draft: Draft) -> None:
    for path in list(draft.paths.rehearsals(draft.stored)):
        end(draft, path.rpartition("/")[2])


def _snapshot(draft: Draft, rehearsal: Rehearsal, clone: Clone) -> None:
    files = draft.stored.files
    origin = files.get(clone.origin)
    if origin is None or clone.target in files:
        problem = f"{clone.target} cannot be made a snapshot of {clone.origin}: "
        problem += "that is gone." if origin is None else "something is there."
        raise draft.failed(rehearsal.of, "no snapshot", problem, passing=True)
    taken = clone.room_bytes if clone.way == "lvm" else 0  # a reflink takes room as it is written to
    files[clone.target] = replace(origin, size_bytes=taken)
