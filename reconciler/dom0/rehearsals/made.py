"""Makes the snapshots of a rehearsal on a dom0, and takes down all that its record names. Called by `xl.rehearse`.

The record is there before anything else and goes last, so whatever cuts a rehearsal short, a later run knows what to
take down. Each script begins with a look whether the record is still the one that it was made for: a controller that
comes back after another one took its host over is refused. Linux only.
"""

from __future__ import annotations

import math

from reconciler.dom0.rehearsals.scripts import BRIDGE, MAKE_SNAPSHOTS, NOTE, PUT_CONFIG, TAKE_DOWN, TROUBLE
from reconciler.dom0.shell import Dom0Shell, assigned
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.rehearsal import Clone, Leftover, NotMadeError, Rehearsal, Way, leftover_of, record_text

_ROOT = ""  # where tests have the folders of the system
_BEYOND_SECONDS = 10  # a domain that is paused is let go by itself so long after it was expected to be
_LVM_SECONDS = 60  # of one command of LVM; udev may hang it
_LET_GO_SECONDS = 60  # for as long it is tried to let a domain go on
_TAKE_DOWN_SECONDS = 900
_SILENT_SECONDS = 120  # for which nobody looks at a throwaway before its host ends it; a look may take a minute


async def note(shell: Dom0Shell, rehearsal: Rehearsal, nonce: str) -> None:
    """Write down what will be made. Raises where another rehearsal of the same domain is noted."""
    given = noted_at(shell, rehearsal.uuid, nonce) | {"text": record_text(rehearsal, nonce)}
    await shell.act(rehearsal.of, "noting the rehearsal failed", NOTE, given)


async def make_snapshots(shell: Dom0Shell, rehearsal: Rehearsal, nonce: str, domid: int | None) -> float:
    """Make all snapshots, with the domain `domid` paused meanwhile if it is given; return for how long it was.

    Raises ReconcilerError; NotMadeError where it was paused in vain.
    """
    clones = [_clone_line(clone) for clone in rehearsal.clones]
    limit = math.ceil(rehearsal.pause_seconds) + _BEYOND_SECONDS
    given = noted_at(shell, rehearsal.uuid, nonce) | {
        "clones": "\n".join(clones),
        "rooms": "\n".join(_rooms(rehearsal)),
        "of": rehearsal.of,
        "domid": "" if domid is None else str(domid),
        "limit": str(limit),
        "tool": "xl",
        "lvm_seconds": str(_LVM_SECONDS),
    }
    bound = limit + _LVM_SECONDS * (2 * len(clones) + 1) + _LET_GO_SECONDS
    try:
        said = await shell.act(rehearsal.of, "taking snapshots failed", MAKE_SNAPSHOTS, given, timeout_seconds=bound)
    except ReconcilerError as error:
        was = await shell.connection.script(assigned({"folder": given["folder"]}) + 'cat -- "$folder/was_paused"\n')
        raise NotMadeError(*error.diagnostics, paused_seconds=float(was.text or 0)) from error
    paused = next((line for line in said.splitlines() if line.startswith("paused ")), "paused 0")
    return float(paused.split()[1])


async def make_bridge(shell: Dom0Shell, rehearsal: Rehearsal, nonce: str) -> None:
    if rehearsal.bridge is not None:
        given = noted_at(shell, rehearsal.uuid, nonce) | {"bridge": rehearsal.bridge}
        await shell.act(rehearsal.of, "making a bridge failed", BRIDGE, given)


async def put_config(shell: Dom0Shell, rehearsal: Rehearsal, nonce: str, text: str) -> str:
    """Put its config file beside its record, and return the path."""
    given = noted_at(shell, rehearsal.uuid, nonce)
    await shell.act(rehearsal.of, "writing the config file failed", PUT_CONFIG, given, input=[text.encode()])
    return f"{given['folder']}/domain.cfg"


async def take_down(shell: Dom0Shell, left: Leftover) -> None:
    """Destroy the domain of this uuid, in whatever state it is, then remove what is noted: the record goes last."""
    summary = "taking the rehearsal down failed"
    await shell.act(left.of, summary, TAKE_DOWN, _to_take_down(shell, left), timeout_seconds=_TAKE_DOWN_SECONDS)


def watched(shell: Dom0Shell, rehearsal: Rehearsal, nonce: str) -> dict[str, str]:
    """Return what a dom0 is given to end a throwaway by itself, where nobody looks at it any more."""
    left = leftover_of(rehearsal, nonce)
    return {
        "silent_seconds": str(_SILENT_SECONDS),
        "trouble": assigned({"clones": looked_at(rehearsal)}) + TROUBLE,
        "end": shell.whole(TAKE_DOWN, _to_take_down(shell, left)),
    }


def looked_at(rehearsal: Rehearsal) -> str:
    """Return the lines of the snapshots whose room is looked at."""
    return "\n".join(f"{one.way}|{one.keep_free_bytes}|{one.target}|{one.room}" for one in rehearsal.clones)


def _to_take_down(shell: Dom0Shell, left: Leftover) -> dict[str, str]:
    return noted_at(shell, left.uuid, left.nonce) | {
        "clones": "\n".join(f"{way}|{target}|{origin}" for way, origin, target in left.clones),
        "bridge": left.bridge or "",
        "of": left.of,
        "of_uuid": left.of_uuid,
        "name": left.name,
        "root": _ROOT,
        "tool": "xl",
        "lvm_seconds": str(_LVM_SECONDS),
    }


def folder_of(shell: Dom0Shell, uuid: str) -> str:
    """Return the folder of what lies beside a record: the config file, what the console said."""
    return f"{shell.dom0.kernel_dir}/.rehearsals/{uuid}.d"


def noted_at(shell: Dom0Shell, uuid: str, nonce: str) -> dict[str, str]:
    """Return what each script is given, to know whose rehearsal it works on."""
    record = f"{shell.dom0.kernel_dir}/.rehearsals/{uuid}"
    return {"record": record, "folder": folder_of(shell, uuid), "uuid": uuid, "nonce": nonce}


def _clone_line(clone: Clone) -> str:
    return f"{clone.way}|{clone.room_bytes}|{clone.target}|{clone.origin}"


def _rooms(rehearsal: Rehearsal) -> list[str]:
    """Write for each room in which nothing can be reserved what its snapshots may take together, and what is kept."""
    takes: dict[tuple[Way, str], list[Clone]] = {}
    for clone in rehearsal.clones:
        if clone.way != "lvm":
            where = clone.room if clone.way == "thin" else clone.target.rpartition("/")[0]
            takes.setdefault((clone.way, where), []).append(clone)
    return [
        f"{way}|{sum(clone.size_bytes for clone in clones)}|{max(clone.keep_free_bytes for clone in clones)}|{where}"
        for (way, where), clones in takes.items()
    ]
