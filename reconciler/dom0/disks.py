"""Makes, grows and deletes disks on a dom0, as files or logical volumes.

Called by `execute` for CreateDisk, GrowDisk and DeleteDisk. A disk is made under another name and gets its own only
when it is whole, in a way that cannot replace an existing one. Nothing is ever made smaller.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from functools import partial

from reconciler.copying import Copied, Report, telling
from reconciler.dom0.shell import Dom0Shell, assigned
from reconciler.model.diagnostics import refused
from reconciler.model.domain import Disk, address_of
from reconciler.plan.steps import CreateDisk, DeleteDisk, GrowDisk

_COPY_SECONDS = 4 * 3600  # cloning a large image, or writing every block of one
_QUICK_SECONDS = 300

# Symbolic links must not lead out of the folders that host.toml names.
_INSIDE_ROOTS = """
inside_roots() {
    real=$(cd -P -- "$1" && pwd -P) || fail "The folder $1 cannot be entered."
    set -f
    IFS=$nl
    for root in $roots; do
        case $root in /*) ;; *) continue ;; esac
        root=$(cd -P -- "$root" 2>/dev/null && pwd -P) || continue
        case $real/ in "${root%/}"/*) unset IFS; set +f; return ;; esac
    done
    refuse "$1 is really $real, which is in none of the disk_roots of this host." \\
        "Name the real folder in disk_roots of host.toml."
}
"""

_CHECK_SOURCE = """
if [ "$from" ]; then
    [ -e "$from" ] || fail "The source $from is not there."
    case $from in
    /dev/*) ;;
    *) from=$(readlink -f -- "$from") && inside_roots "${from%/*}" ;;
    esac
    if [ -b "$from" ]; then
        from_size=$(if command -v blockdev >/dev/null; then blockdev --getsize64 "$from"; else echo 0; fi)
    else
        from_size=$(size_of "$from")
    fi
fi
"""

# Neither NetBSD nor POSIX has truncate(1).
_EXTEND = """
extend() {
    dd if=/dev/null of="$1" bs=1 seek="$size" 2>/dev/null || fail "$1 could not be made $size bytes large."
}
"""

_CREATE_FILE = (
    _INSIDE_ROOTS
    + _EXTEND
    + _CHECK_SOURCE
    + """
parent=${target%/*}
[ -d "$parent" ] || fail "The folder $parent, in which the disk is to be made, does not exist." "mkdir -p '$parent'"
inside_roots "$parent"
if [ -e "$target" ] || [ -L "$target" ]; then fail "$target exists already, and a disk is never overwritten."; fi
# Left by a run that was cut short. If a command of it still goes on, it has nothing to give the name of the disk to.
rm -f -- "$parent/.$name".reconciler-*
trap 'rm -f -- "$unfinished"' EXIT

if [ "$format" != raw ]; then
    command -v qemu-img >/dev/null || fail "A $format disk is made by qemu-img, which is missing on the host." \\
        "Debian: apt install qemu-utils. NetBSD: pkg_add qemu."
    if [ "$from" ]; then
        qemu-img convert -O "$format" -- "$from" "$unfinished"
        [ -z "$size" ] || qemu-img resize -q -- "$unfinished" "$size"
    else
        qemu-img create -q -f "$format" -- "$unfinished" "$size"
    fi
else
    if [ "$from" ] && [ "$size" ] && [ "$from_size" -gt "$size" ]; then
        fail "The source $from has $from_size bytes, more than the disk's size of $size." "Raise the disk's size."
    fi
    if [ "$allocate" = full ]; then
        free=$(df -Pk -- "$parent" | awk 'NR == 2 { print $4 }')
        [ "$free" -gt $((${size:-$from_size} / 1024)) ] ||
            fail "$parent has $free KiB free, too few for a disk of ${size:-$from_size} bytes."
    fi
    if [ -z "$from" ]; then
        : >"$unfinished"
    elif [ "$system" = Linux ] && cp --help 2>&1 | grep -q -e --sparse; then
        cp --reflink=auto --sparse=always -- "$from" "$unfinished"
    else
        cp -- "$from" "$unfinished"
    fi
    [ -z "$size" ] || extend "$unfinished"
    if [ "$allocate" = full ]; then
        # Where there is no such call, every block is written; a copy has its blocks already.
        if ! fallocate -l "$(size_of "$unfinished")" "$unfinished" 2>/dev/null && [ -z "$from" ]; then
            dd if=/dev/zero of="$unfinished" bs=1048576 count=$((size / 1048576)) conv=notrunc 2>/dev/null ||
                fail "$parent has no room for a disk of $size bytes, or cannot be written."
        fi
    fi
fi
chmod 0600 "$unfinished"
persist "$unfinished"
ln -- "$unfinished" "$target" # unlike mv, this cannot replace anything
persist "$parent"
[ -f "$target" ] || fail "$target is not there after it was made."
"""
)

# NetBSD has the commands of LVM only as words of lvm(8), and those of 2009: lvcreate knows neither -y nor -W there,
# without which a newer one does not make the volume where it recognizes an old file system.
_LVM = """
if ! command -v lvs >/dev/null && command -v lvm >/dev/null; then
    lvs() { lvm lvs "$@"; }
    lvcreate() { lvm lvcreate "$@"; }
    lvrename() { lvm lvrename "$@"; }
    lvextend() { lvm lvextend "$@"; }
    lvremove() { lvm lvremove "$@"; }
fi
"""

_CREATE_VOLUME = (
    _INSIDE_ROOTS
    + _LVM
    + _CHECK_SOURCE
    + """
command -v lvcreate >/dev/null || fail "The host has no LVM." "Debian: apt install lvm2"
if lvs "$group/$name" >/dev/null 2>&1; then fail "$target exists already, and a disk is never overwritten."; fi
if lvs "$group/$partial" >/dev/null 2>&1; then # from a cut-short run
    lvremove -f "$group/$partial" >/dev/null
fi
: "${size:=$from_size}"
if [ "$from" ] && [ "$from_size" -gt "$size" ]; then
    fail "The source $from has $from_size bytes, more than the disk's size of $size." "Raise the disk's size."
fi
if [ "$size" = 0 ]; then fail "Nobody can tell how large $from is on this host." "Give the disk a size."; fi
case $(lvcreate --help 2>&1) in *--wipesignatures*) clean='-y -W y' ;; *) clean='' ;; esac
lvcreate $clean -L "${size}b" -n "$partial" "$group" </dev/null >/dev/null
if [ "$from" ]; then
    dd if="$from" of="/dev/$group/$partial" bs=1048576 2>/dev/null || fail "$from could not be copied to $target."
    persist "/dev/$group/$partial"
fi
lvrename "$group" "$partial" "$name" >/dev/null
lvs "$group/$name" >/dev/null || fail "$target is not there after it was made."
"""
)

# BusyBox's losetup cannot be asked for a file; the kernel tells its path, as it was when it was attached.
_LOOPS = """
loops_of() {
    losetup -n -O NAME -j "$1" 2>/dev/null || {
        path=$(readlink -f -- "$1") || return
        for told in /sys/block/loop*/loop/backing_file; do
            read -r file <"$told" && [ "$file" = "$path" ] || continue
            told=${told#/sys/block/}
            printf '/dev/%s\\n' "${told%%/*}"
        done 2>/dev/null
        :
    }
}
"""

_GROW_FILE = (
    _INSIDE_ROOTS
    + _EXTEND
    + _LOOPS
    + """
[ -f "$target" ] || fail "$target is not there."
inside_roots "$(dirname "$(readlink -f -- "$target")")"
before=$(size_of "$target")
if [ "$before" -lt "$size" ]; then
    if [ "$allocate" = full ] && [ "$system" = Linux ]; then
        fallocate -l "$size" "$target"
    else
        extend "$target"
    fi
    persist "$target"
fi
[ "$(size_of "$target")" -ge "$size" ] || fail "$target could not be grown to $size bytes."
if [ "$attached" ] && [ "$system" = Linux ]; then
    for loop in $(loops_of "$target"); do losetup -c "$loop"; done # the guest sees it from now on
fi
if [ "$attached" ] && [ "$system" = NetBSD ]; then
    echo "The guest sees the new size after its next restart: a vnd keeps the size it was opened with."
fi
"""
)

_GROW_VOLUME = (
    _LVM
    + """
before=$(lvs --noheadings --nosuffix --units b -o lv_size "$group/$name" | tr -d ' ')
if [ "$before" -lt "$size" ]; then lvextend -L "${size}b" "$group/$name" </dev/null >/dev/null; fi
after=$(lvs --noheadings --nosuffix --units b -o lv_size "$group/$name" | tr -d ' ')
[ "$after" -ge "$size" ] || fail "$target could not be grown to $size bytes."
"""
)

# Nobody else may have the disk: no running domain, by whatever path, and no other domain's config file.
_UNUSED = """
unused() {
    identity=$(identity_of "$target")
    own=$(identity_of "$own_config")
    paths=$(disks_that_run)
    set -f
    IFS=$nl
    for path in $paths; do
        if [ "$path" = "$target" ] || [ "$(identity_of "$path")" = "$identity" ]; then
            refuse "A running domain has $target, so it is not deleted."
        fi
    done
    unset IFS
    set +f
    for config in "$config_dir"/* "$auto_dir"/* "$kernel_dir"/*/candidate.cfg; do
        case $config in "$own_config" | "$own_candidate") continue ;; esac
        [ -f "$config" ] || continue
        status=0
        grep -qF -- "$target" "$config" || status=$?
        if [ "$status" -eq 1 ] || [ "$(identity_of "$config")" = "$own" ]; then continue; fi # a link to ours
        [ "$status" -ne 0 ] || refuse "The config file $config names $target, so it is not deleted."
        refuse "The config file $config cannot be read, and may name $target, so it is not deleted."
    done
}
"""

_DELETE_FILE = (
    _INSIDE_ROOTS
    + _LOOPS
    + _UNUSED
    + """
if [ ! -e "$target" ] && [ ! -L "$target" ]; then exit 0; fi
[ -f "$target" ] && [ ! -L "$target" ] || refuse "$target is not a plain file, so it is not deleted."
inside_roots "${target%/*}"
unused
if [ "$system" = Linux ]; then
    loops=$(loops_of "$target")
    loops=$(printf '%s' "$loops" | tr '\\n' ' ')
    [ -z "$loops" ] || refuse "The loop device $loops still holds $target, so it is not deleted." \\
        "If nothing uses it: losetup -d $loops"
fi
rm -- "$target"
"""
)

_DELETE_VOLUME = (
    _LVM
    + _UNUSED
    + """
lvs "$group/$name" >/dev/null 2>&1 || exit 0
unused
lvremove -f "$group/$name" </dev/null >/dev/null
if lvs "$group/$name" >/dev/null 2>&1; then fail "$target is still there after it was removed."; fi
"""
)


# How much a disk has by now, and how much it will have, in bytes; nothing where nobody can tell. Of a volume that is
# Linux's to say: at which place the dd stands that writes it.
_COPIED = """
if [ "${partial:-}" ]; then
    for process in /proc/[0-9]*; do
        tr '\\0' '\\n' <"$process/cmdline" 2>/dev/null | grep -qxF -- "of=/dev/$group/$partial" || continue
        sed -n 's/^pos:[^0-9]*//p' "$process/fdinfo/1" 2>/dev/null
    done
elif [ -f "$unfinished" ]; then
    du -k "$unfinished" | awk '{ print $1 * 1024 }'
fi | sed -n 1p
if [ -z "$from" ]; then
    echo "$size"
elif [ -b "$from" ]; then
    blockdev --getsize64 "$from" 2>/dev/null || echo "$size"
else
    du -k "$from" | awk '{ print $1 * 1024 }'
fi
"""


async def create(shell: Dom0Shell, step: CreateDisk, token: str, report: Report = lambda _: None) -> None:
    """Make a disk. Raises when it exists already, or when its folder or its source does not exist."""
    disk = step.disk
    given = _given(shell, step.domain, disk)
    if disk.kind == "lv":
        script = _CREATE_VOLUME
        given["partial"] = f"{given['name']}.reconciler"
    else:
        script = _CREATE_FILE
        given["unfinished"] = f"{posixpath.dirname(disk.target)}/.{given['name']}.reconciler-{token}"
    making = shell.act(step.domain, "creating a disk failed", script, given, timeout_seconds=_COPY_SECONDS)
    await telling(making, partial(copied, shell, given), report)


async def copied(shell: Dom0Shell, given: Mapping[str, str]) -> Copied | None:
    """Return how far a disk has come that is being made of these values; None where nobody can tell."""
    said = await shell.connection.script(assigned(given) + _COPIED, timeout_seconds=_QUICK_SECONDS)
    match said.text.split():
        case [done, total] if done.isdigit() and total.isdigit():
            return Copied(int(done), int(total))
        case _:
            return None


async def grow(shell: Dom0Shell, step: GrowDisk) -> str:
    """Grow a disk to its size, in place. Returns a note for the user, or ""."""
    given = _given(shell, step.domain, step.disk) | {"attached": "1" if step.attached else ""}
    script = _GROW_VOLUME if step.disk.kind == "lv" else _GROW_FILE
    said = await shell.act(step.domain, "growing a disk failed", script, given, timeout_seconds=_QUICK_SECONDS)
    return said.strip()


async def delete(shell: Dom0Shell, step: DeleteDisk) -> None:
    """Delete a disk that nobody uses. If it is gone already, that is success."""
    dom0 = shell.dom0
    given = _given(shell, step.domain, step.disk) | {
        "config_dir": dom0.config_dir,
        "auto_dir": dom0.auto_dir,
        "kernel_dir": dom0.kernel_dir,
        "own_config": dom0.config_path(step.domain),
        "own_candidate": dom0.candidate_path(step.domain),
    }
    script = _DELETE_VOLUME if step.disk.kind == "lv" else _DELETE_FILE
    await shell.act(step.domain, "deleting a disk failed", script, given, timeout_seconds=_QUICK_SECONDS)


def _given(shell: Dom0Shell, domain: str, disk: Disk) -> dict[str, str]:
    """Make the values for the scripts.

    Specs cannot name a disk outside disk_roots; if a plan does all the same, it is refused here.
    """
    if disk.kind == "device":
        raise AssertionError(f"{disk.target} of {domain} is a device, which is neither made nor deleted")
    group, name = posixpath.split(disk.target)
    if not any(_is_inside(disk.target, root) for root in shell.settings.disk_roots):
        raise refused(
            "disk outside disk_roots",
            f"{disk.target} is in none of the disk_roots of {shell.host}.",
            f'Add "{group}" to disk_roots in host.toml.',
            address_of(shell.host, domain),
        )
    return {
        "target": disk.target,
        "group": posixpath.basename(group),
        "name": name,
        "size": "" if disk.size_bytes is None else str(disk.size_bytes),
        "format": disk.format,
        "allocate": disk.allocate,
        "from": disk.source or "",
        "roots": "\n".join(shell.settings.disk_roots),
    }


def _is_inside(target: str, root: str) -> bool:
    """Return whether a disk lies in a root: a folder, or a volume group written `vg` or `/dev/vg`."""
    folder = root.rstrip("/") if root.startswith("/") else f"/dev/{root}"
    return posixpath.normpath(target).startswith(f"{folder}/")
