"""Sees how a dom0 can make snapshots of disks, and what records of rehearsals there are. Part of the one look.

The script stands behind `observe.sh`, whose functions and variables it uses; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from reconciler.dom0.answer import Answer
from reconciler.dom0.rehearsals.scripts import IN_TIME
from reconciler.model.host import FileFact
from reconciler.model.rehearsal import Leftover, SnapshotFact, Way, read_record

_METADATA_MOST = 90.0  # percent of a thin pool's metadata that may be in use

# A record is one line of JSON; what belongs to it lies in a folder beside it. One that was never finished is none. Of a
# domain that is paused for its snapshots the boot of the dom0 and its domid are told.
RECORDS = """
for file in "$kernel_dir"/.rehearsals/*; do
    case $file in *.unfinished) continue ;; esac
    [ -f "$file" ] && cat -- "$file" 2>/dev/null && echo
    if [ -f "$file.d/paused" ]; then echo "paused $(cat -- "$file.d/paused" 2>/dev/null)"; fi
done
"""

_SNAPSHOTS = """
look_at_volumes() {
    status=0
    if [ "$system" != NetBSD ] && { command -v lvs >/dev/null || command -v lvm >/dev/null; }; then
        lvm_in_time 20 lvs --noheadings --nosuffix --units b --separator '|' -o \\
vg_name,lv_name,lv_attr,lv_size,pool_lv,vg_free,vg_size,lv_kernel_major,lv_kernel_minor,data_percent,metadata_percent \\
            2>/dev/null || status=$?
    fi
    close volumes "$status"
    # Disks in which a guest keeps volumes of its own, on a dom0 that looks into them: by whatever lies between.
    status=0 physical=''
    if [ "$system" != NetBSD ] && { command -v pvs >/dev/null || command -v lvm >/dev/null; }; then
        physical=$(lvm_in_time 20 pvs --noheadings -o pv_name 2>/dev/null) || status=$?
    fi
    for volume in $physical; do
        [ -b "$volume" ] || continue
        number=$(stat -L -c '%t:%T' -- "$volume")
        lies_on "$((0x${number%:*})):$((0x${number#*:}))"
    done
    close physical "$status"
}
lies_on() { # MAJOR:MINOR: names it and all below it, as files are named
    printf 'device %x:%x\\n' "${1%:*}" "${1#*:}"
    if [ -f "$devices/$1/loop/backing_file" ]; then
        stat -L -c 'inode %d:%i' -- "$(cat "$devices/$1/loop/backing_file")" 2>/dev/null || :
    fi
    if [ -f "$devices/$1/partition" ]; then lies_on "$(cat "$devices/$1/../dev")"; fi
    for below in "$devices/$1"/slaves/*/dev; do
        if [ -f "$below" ]; then lies_on "$(cat "$below")"; fi
    done
}
devices=$root/sys/dev/block
look_at_systems() {
    [ "$system" = NetBSD ] || printf '%s\\n' "$named" "$files" | sort -u | while read -r file; do
        [ -f "$file" ] || continue
        kind=$(stat -f -c '%T' -- "$file") && room=$(df -P -- "$file" | awk 'NR == 2 { print $6 }') || continue
        case $kind in
        xfs) xfs_info "$room" 2>/dev/null | grep -q reflink=1 || kind=plain ;;
        btrfs) ;;
        *) kind=plain ;;
        esac
        printf '%s|%s|%s|%s\\n' "$kind" "$(stat -f -c '%S|%a|%b' -- "$file")" "$room" "$file"
    done
    close systems 0
}
twice look_at_volumes
look_at_systems
"""


def look_at_rehearsals(*, rehearses: bool) -> str:
    """Return the script that prints the records and, where anything is to be rehearsed, what snapshots can be made."""
    return RECORDS + "close rehearsals 0\n" + (IN_TIME + _SNAPSHOTS if rehearses else "")


def leftovers_of(answer: Answer) -> tuple[Leftover, ...]:
    """Return what the records name. What is no record, or is half written, names nothing."""
    return leftovers_in(answer.lines("rehearsals") if answer.has("rehearsals") else [])


def paused_for_snapshots(answer: Answer) -> frozenset[int]:
    """Return the domids of domains that are paused by a rehearsal, which lets them go by itself: that is no drift."""
    told = (line.split() for line in (answer.lines("rehearsals") if answer.has("rehearsals") else []))
    return frozenset(
        int(words[2]) for words in told if words[:2] == ["paused", answer.boot_id] and words[2:3] and words[2].isdigit()
    )


def leftovers_in(lines: Iterable[str]) -> tuple[Leftover, ...]:
    return tuple(record for line in lines if (record := read_record(line)) is not None)


def snapshots_of(
    answer: Answer, files: Mapping[str, FileFact], flavour: Literal["debian", "netbsd"]
) -> dict[str, SnapshotFact]:
    """Say of each disk that is there how it can be snapshot."""
    if not answer.has("systems"):
        return {}
    if flavour == "netbsd":
        why = "NetBSD has no snapshot that a domain could write to"
        return {path: SnapshotFact(way=None, why_not=why) for path in files}
    if answer.status("physical") != 0:
        return dict.fromkeys(files, SnapshotFact(way=None, why_not="LVM does not tell what it keeps volumes in (pvs)"))
    volumes, physical = _volumes(answer), set(answer.lines("physical"))
    found = {}
    for path, fact in files.items():
        number = fact.key.removeprefix("device ")
        if fact.kind == "block":
            found[path] = volumes.get(number) or SnapshotFact(way=None, why_not="it is a device, and no logical volume")
    for line in answer.lines("systems"):
        kind, block, free, total, room, path = line.split("|", 5)
        if path in files:
            found[path] = SnapshotFact(
                way="copy" if kind == "plain" else "reflink",
                room=room,
                size_bytes=files[path].size_bytes,
                free_bytes=int(free) * int(block),
                total_bytes=int(total) * int(block),
            )
    scanned = SnapshotFact(way=None, why_not="its domain keeps volumes of its own in it, which the dom0 sees")
    return found | {path: scanned for path, fact in files.items() if fact.key in physical}


def _volumes(answer: Answer) -> dict[str, SnapshotFact]:
    """Return what is known of logical volumes, by their device numbers as stat writes them."""
    told = answer.lines("volumes") if answer.status("volumes") == 0 else []
    rows = [[cell.strip() for cell in line.split("|")] for line in told]
    pools = {(row[0], row[1]): row for row in rows if row[2].startswith("t")}
    found = {}
    for group, _name, attributes, size, pool, vg_free, vg_size, major, minor, *_ in rows:
        if not (major.isdigit() and minor.isdigit()):
            continue
        number = f"{int(major):x}:{int(minor):x}"
        way: Way = "thin" if attributes.startswith("V") else "lvm"
        if attributes[:1] not in ("-", "o", "V", "O"):
            found[number] = SnapshotFact(way=None, why_not="LVM makes no snapshots of volumes of its kind")
        elif way == "thin":
            found[number] = _thin(f"{group}/{pool}", int(size), pools.get((group, pool)))
        else:
            found[number] = SnapshotFact(
                way=way, room=group, size_bytes=int(size), free_bytes=int(vg_free), total_bytes=int(vg_size)
            )
    return found


def _thin(room: str, size_bytes: int, pool: list[str] | None) -> SnapshotFact:
    if pool is None or not pool[9]:
        return SnapshotFact(way=None, why_not="nobody knows how full its thin pool is")
    total, used, metadata = int(pool[3]), float(pool[9]), float(pool[10] or 0)
    if metadata > _METADATA_MOST:
        return SnapshotFact(way=None, why_not=f"{metadata:g} % of the metadata of its thin pool {room} are in use")
    free = int(total * (100 - used) / 100)
    return SnapshotFact(way="thin", room=room, size_bytes=size_bytes, free_bytes=free, total_bytes=total)
