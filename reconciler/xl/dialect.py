"""Says how xl and xm differ, for all that speaks to a host through either: the same commands under another name.

`open` chooses the dialect of a host; `observe`, `execute` and what they call are given it. xm is the toolstack of Xen
4.1, behind which xend does what for xl a process of each domain does. Facts: tools/python/xen/xm/main.py, xend's
DevController.py and XendDomainInfo.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from reconciler.dom0.toolstack_sh import XL_SH, XM_SH
from reconciler.model.domain import Disk, Vif
from reconciler.records import dataclass
from reconciler.texts.cfg_words import XL_WORDS, XM_WORDS, Words, xm_disk_parts, xm_vif_parts
from reconciler.texts.devices import disk_spec, vif_spec
from reconciler.texts.listing import Row, parse_list_long, parse_whole_list
from reconciler.texts.xenstore import backends_as_libxl_has_them
from reconciler.texts.xm_listing import parse_xm_configs, parse_xm_rows
from reconciler.xl.processes import EVERY_PROCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One of the two. `scripts` are functions for sh: what a script of ours asks of a toolstack without a command.

    `comes_back`: whether the domain `$name`, which is not listed, will be there again by itself.
    `domid_in LIST`: prints the domid of `$name`, if the list has it.
    `devices DOMID`: prints "type hvm" of an hvm domain; "state DEVICE S" of both ends of each disk and interface, and
    "params DEVICE WHAT-IT-OPENS"; "cdrom DEVICE" of a CD drive. A DEVICE is any word that no other device has.
    `states DOMID KIND DEVID MAC`: prints the states of one device, front end and back end, or "absent".
    """

    tool: str
    listing: tuple[str, ...]  # after `list`, so that each domain is told with its UUID
    long: tuple[str, ...]  # after `list`, so that all is told of each
    rows: Callable[[str], tuple[Row, ...]]
    configs: Callable[[str], tuple[tuple[int, dict[str, Any]], ...]]
    words: Words
    store: Callable[[Iterable[str]], Iterable[str]]  # of xenstore, as libxl would have it there
    leaves_processes: bool  # one for each domain
    tells_actual_memory: bool  # else only what a domain was asked to have
    log: str  # the path of what tells why the domain {name} did not start
    shutdown: tuple[str, ...]
    vcpu_set: tuple[str, ...]
    disk: Callable[[Disk], tuple[str, ...]]
    vif: Callable[[Vif], tuple[str, ...]]
    vif_name: Callable[[Vif], str]  # by which it is detached
    scripts: str
    dom0_scripts: str  # the same for disks and images


# xl leaves a process behind for each domain, which carries out what on_reboot and on_crash ask for. While there is one,
# a domain that is not listed is only between two lives. It is named by what made the domain: us, a person or xendomains
# (by a link of ours, NNN-NAME, or from a saved image), or by a migration, which tells nothing but its log.
_XL_SCRIPTS = (
    EVERY_PROCESS
    + """
comes_back() {
    found=$(every_process -o pid= -o args= | awk -v name="$name" '
        $2 !~ /(^|\\/)xl$/ { next }
        / migrate-receive( |$)/ { print $1; next }
        / (create|restore) / {
            count = split($NF, part, "/")
            file = part[count]
            folder = part[count - 1]
            if (folder == "auto") sub(/^[0-9]+-/, "", file)
            if (file == name || file == name ".cfg" || (file == "candidate.cfg" && folder == name)) print "it"
        }')
    for each in $found; do
        if [ "$each" = it ]; then return 0; fi
        case $(readlink "/proc/$each/fd/1" 2>/dev/null) in
        */xl-"$name".log | */xl-"$name"--incoming.log) return 0 ;;
        esac
    done
    return 1
}
domid_in() { printf '%s\\n' "$1" | awk -v name="$name" '$1 == name { print $2; exit }'; }
devices() {
    paths=$(xenstore-ls -f "/libxl/$1" 2>/dev/null |
        sed -n -e 's/^[^ ]*\\/type = "\\(.*\\)"$/type \\1/p' \\
            -e 's/^[^ ]*\\/device\\/\\(vbd\\/[0-9]*\\)\\/device-type = "cdrom"$/cdrom \\1/p' \\
            -e 's/^[^ ]*\\/device\\/\\(vbd\\/[0-9]*\\)\\/params = "\\(.*\\)"$/params \\1 \\2/p' \\
            -e 's/^[^ ]*\\/device\\/\\(v[bi][df]\\/[0-9]*\\)\\/frontend = "\\(.*\\)"$/state \\1 \\2/p' \\
            -e 's/^[^ ]*\\/device\\/\\(v[bi][df]\\/[0-9]*\\)\\/backend = "\\(.*\\)"$/state \\1 \\2/p')
    printf '%s\\n' "$paths" | while read -r what device value; do
        case $what in
        state) echo "state $device $(xenstore-read "$value/state" 2>/dev/null || echo none)" ;;
        ?*) echo "$what $device $value" ;;
        esac
    done
}
states() {
    record=/libxl/$1/device/$2/$3
    if ! xenstore-read "$record/backend" >/dev/null 2>&1; then echo absent; return; fi
    for end in frontend backend; do
        xenstore-read "$(xenstore-read "$record/$end")/state" 2>/dev/null || echo none
    done
}
"""
)

# xend itself starts a domain anew that reboots, and notes in xenstore that it is about to. It keeps no record of
# devices beside the back ends, which no guest can write to. It numbers interfaces as it likes: one is found by its mac.
_XM_SCRIPTS = """
comes_back() {
    for each in $(xenstore-list /vm 2>/dev/null); do
        [ "$(xenstore-read "/vm/$each/name" 2>/dev/null)" = "$name" ] || continue
        if [ "$(xenstore-read "/vm/$each/xend/restart_in_progress" 2>/dev/null)" ]; then return 0; fi
    done
    [ "$(domid_in)" ] # it may have come back while the others were asked
}
domid_in() { xm domid "$name" 2>/dev/null | awk '/^[0-9]+$/ { print; exit }'; }
ends() {
    for end in "$(xenstore-read "$1/frontend" 2>/dev/null)" "$1"; do
        printf '%s\\n' "$2$(xenstore-read "$end/state" 2>/dev/null || echo none)"
    done
}
devices() {
    if [ "$(xenstore-read "$(xenstore-read "/local/domain/$1/vm" 2>/dev/null)/image/ostype" 2>/dev/null)" = hvm ]; then
        echo 'type hvm'
    fi
    for kind in vbd tap tap2 vif; do
        for devid in $(xenstore-list "/local/domain/0/backend/$kind/$1" 2>/dev/null); do
            record=/local/domain/0/backend/$kind/$1/$devid
            ends "$record" "state $kind/$devid "
            type=$(xenstore-read "$(xenstore-read "$record/frontend" 2>/dev/null)/device-type" 2>/dev/null)
            if [ "$type" = cdrom ]; then
                echo "cdrom $kind/$devid"
                echo "params $kind/$devid $(xenstore-read "$record/params" 2>/dev/null)"
            fi
        done
    done
}
states() {
    case $2 in vbd) kinds='vbd tap tap2' ;; *) kinds=$2 ;; esac
    for kind in $kinds; do
        for devid in $(xenstore-list "/local/domain/0/backend/$kind/$1" 2>/dev/null); do
            record=/local/domain/0/backend/$kind/$1/$devid
            if [ "$4" ]; then
                [ "$(xenstore-read "$record/mac" 2>/dev/null)" = "$4" ] || continue
            else
                [ "$devid" = "$3" ] || continue
            fi
            ends "$record" ''
            return
        done
    done
    echo absent
}
"""

XL = Dialect(
    tool="xl",
    listing=("-v",),
    long=("-l",),
    rows=parse_whole_list,
    configs=parse_list_long,
    words=XL_WORDS,
    store=lambda lines: lines,
    leaves_processes=True,
    tells_actual_memory=True,
    log="/var/log/xen/xl-{name}.log",
    shutdown=("-F",),  # else a guest without the drivers for it is not even asked
    vcpu_set=("--ignore-host",),  # xl would refuse more than the host has; whether that is allowed the plan decided
    disk=lambda disk: (disk_spec(disk),),
    # one argument a key: xl takes the first key's value of "mac=…,devid=…" and silently drops the rest
    vif=lambda vif: tuple(vif_spec(vif).split(",")),
    vif_name=lambda vif: str(vif.devid),
    scripts=_XL_SCRIPTS,
    dom0_scripts=XL_SH,
)
XM = Dialect(
    tool="xm",
    listing=("--long",),
    long=("--long",),
    rows=parse_xm_rows,
    configs=parse_xm_configs,
    words=XM_WORDS,
    store=backends_as_libxl_has_them,
    leaves_processes=False,
    tells_actual_memory=False,
    log="/var/log/xen/xend.log",
    shutdown=(),
    vcpu_set=(),
    disk=xm_disk_parts,
    vif=xm_vif_parts,
    vif_name=lambda vif: vif.mac,
    scripts=_XM_SCRIPTS,
    dom0_scripts=XM_SH,
)
