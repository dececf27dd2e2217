"""The scripts of a rehearsal: notes, snapshots with a pause, a bridge, and the way down. POSIX sh, on Linux."""

from __future__ import annotations

IN_TIME = """
in_time() { # SECONDS COMMAND...: killed with all of our group, and by itself when its time is over
    if timeout --foreground -k 1 1 true 2>/dev/null; then timeout --foreground -k 10 "$@"
    elif timeout -k 1 1 true 2>/dev/null; then timeout -k 10 "$@"
    elif command -v timeout >/dev/null; then timeout "$@"
    else shift; "$@"; fi
}
lvm_in_time() { # SECONDS TOOL..., since udev may hang it for ever
    seconds_=$1 tool_=$2
    shift 2
    if command -v "$tool_" >/dev/null; then in_time "$seconds_" "$tool_" "$@"
    else in_time "$seconds_" lvm "$tool_" "$@"; fi
}
"""

# The record is the lock of its rehearsal, too: a script that goes on although nobody hears its answer is waited for.
# When the record goes, whoever waits for it finds it gone. What outlives a script (8<&-) must not hold it.
_OURS = (
    IN_TIME
    + """
export LVM_SUPPRESS_FD_WARNINGS=1
nothing_else_goes_on() {
    command -v flock >/dev/null || fail "There is no flock command on the host."
    exec 8<"$record"
    flock -x 9 9<&8 || fail "The lock of the rehearsal could not be had."
}
still_ours() {
    [ -f "$record" ] && grep -q -F "\\"nonce\\": \\"$nonce\\"" "$record" ||
        refuse "The rehearsal is not noted on the host any more, so it is another run's by now." "Run it again."
}
ours_alone() {
    [ ! -f "$record" ] || nothing_else_goes_on
    still_ours
}
told_of() { # FIELDS VOLUME: nothing of what is not there; LVM's exit of 5 may mean anything
    name_=${2##*/} group_=${2#/dev/}
    told_=$(lvm_in_time "$lvm_seconds" lvs --noheadings --nosuffix --units b --separator '|' -o "$1" \\
        -S "lv_name=\\"$name_\\"" "${group_%/*}" 2>/dev/null) || fail "LVM does not tell of $2 (lvs: exit $?)."
    printf '%s' "$told_" | tr -d ' '
}
boot_of_dom0() { cat /proc/sys/kernel/random/boot_id; }
rows() { # what xl lists; nothing is concluded from a list that failed, or that has not even the dom0
    rows_=$("$tool" list -v 2>/dev/null) && printf '%s\\n' "$rows_" | awk '$2 == 0 { seen = 1 } END { exit !seen }' &&
        printf '%s\\n' "$rows_"
}
domids_of() { # UUID
    of_=$(rows || rows) || return
    printf '%s\\n' "$of_" | awk -v uuid="$1" '{ for (i = 3; i <= NF; i++) if ($i == uuid) print $2 }'
}
pause_of() { # DOMID: paused or not
    of_=$(rows || rows) || return
    printf '%s\\n' "$of_" | awk -v domid="$1" '
        $2 == domid && $5 ~ /^..p/ { paused = 1 }
        END { print (paused ? "paused" : "not") }'
}
let_go() { # DOMID: until it is seen to go on; only then its guard ends
    tries_=10
    until "$tool" unpause "$1" >/dev/null 2>&1 || :; [ "$(pause_of "$1")" = not ]; do
        tries_=$((tries_ - 1))
        [ "$tries_" -gt 0 ] || return 1
        sleep 2
    done
    rm -f -- "$folder/paused"
    [ -s "$folder/guard" ] || return 0
    read -r guard_ <"$folder/guard" || return 0
    case $guard_ in *[!0-9]*) return 0 ;; esac
    ! tr '\\000' ' ' 2>/dev/null <"/proc/$guard_/cmdline" | grep -q -F "$nonce" ||
        kill -TERM "-$guard_" 2>/dev/null || :
}
# A file that we made is ours by its inode and its birth; the number of its device may be another after a boot.
mark_of() { stat -c '%i %W' -- "$1"; }
"""
)

NOTE = """
umask 077
mkdir -p -- "${record%/*}"
noted() {
    fail "A rehearsal of this domain is noted on the host already." \\
        "The next run takes it down first: run it again. If that says nothing of it, look at $record there."
}
[ ! -e "$record" ] || noted
mkdir -p -- "$folder"
printf '%s' "$text" >"$record.unfinished"
persist "$record.unfinished"
ln -- "$record.unfinished" "$record" || noted
rm -f -- "$record.unfinished"
persist "${record%/*}"
"""

PUT_CONFIG = (
    _OURS
    + """
ours_alone
umask 077
cat >"$folder/domain.cfg"
"""
)

# A bridge of that name is ours by its record; one that has ports is none that we made.
BRIDGE = (
    _OURS
    + """
ours_alone
if [ -e "/sys/class/net/$bridge" ]; then fail "There is an interface $bridge on the host already."; fi
ip link add name "$bridge" type bridge || fail "The bridge $bridge could not be made."
quiet=/proc/sys/net/ipv6/conf/$bridge/disable_ipv6 # or the dom0 would have an address on it
[ ! -e "$quiet" ] || echo 1 >"$quiet" || fail "The bridge $bridge would have an address of the dom0."
ip link set "$bridge" up || fail "The bridge $bridge could not be made."
"""
)

# The pause, the snapshots and the end of the pause are one script. Whatever ends it unpauses; if it is killed, a
# process of its own does so after the limit. A file's mark is on the disk before anything is copied into it.
MAKE_SNAPSHOTS = (
    _OURS
    + """
ours_alone
uptime() { cut -d ' ' -f 1 /proc/uptime; }
enough() { # FREE
    awk -v free="$1" -v sum="$sum" -v keep="$keep" -v way="$way" 'BEGIN {
        exit !(free ~ /^[0-9.]+$/ && free >= sum && (way == "copy" ? free - sum : free) >= keep)
    }' || fail "There is too little room in $where for snapshots."
}
look_for_room() { # of all snapshots together, before anybody is paused
    printf '%s\\n' "$rooms" | while IFS='|' read -r way sum keep where; do
        case $way in
        thin)
            told=$(told_of lv_size,data_percent,metadata_percent "$where") || exit
            [ "$told" ] || fail "LVM does not tell of the thin pool $where."
            printf '%s\\n' "$told" | awk -F '|' '{ exit !($3 ~ /^[0-9]/ && $3 <= 90) }' ||
                fail "The metadata of the thin pool $where is nearly full."
            enough "$(printf '%s\\n' "$told" | awk -F '|' '$2 ~ /^[0-9]/ { printf "%.0f", $1 * (100 - $2) / 100 }')" ;;
        reflink | copy) enough "$(stat -f -c '%S %a' -- "$where" | awk '{ printf "%.0f", $1 * $2 }')" ;;
        esac || exit
    done
}
copied() { # HOW ORIGIN TARGET: within the pause, if there is one
    if [ -z "$domid" ]; then cp ${1:+"$1"} -- "$2" "$3"; return; fi
    left=$(awk -v now="$(uptime)" -v began="$began" -v limit="$limit" 'BEGIN { printf "%d", began + limit - now - 1 }')
    [ "$left" -gt 0 ] && in_time "$left" cp ${1:+"$1"} -- "$2" "$3"
}
snapshot() { # WAY ROOM TARGET ORIGIN
    target=$3 origin=$4
    case $1 in
    lvm | thin)
        there=$(told_of lv_name "$target") || exit
        [ -z "$there" ] || fail "There is a volume $target already."
        if [ "$1" = lvm ]; then set -- -L "${2}b"; else set -- -kn; fi
        said=$(lvm_in_time "$lvm_seconds" lvcreate -y -s "$@" -n "${target##*/}" --addtag reconciler.rehearsal \\
            --addtag "of=$of" "${origin#/dev/}" 2>&1 </dev/null) || :
        made=$(told_of origin "$target") || exit
        [ "$made" = "${origin##*/}" ] ||
            fail "No snapshot of $origin could be made: $(printf '%s' "$said" | tail -n 1)" ;;
    reflink | copy)
        if [ -e "$target" ] || [ -L "$target" ]; then
            printf '%s %s\\n' foreign "$target" >>"$folder/files" || fail "$folder/files cannot be written."
            fail "There is a file $target already."
        fi
        (umask 077; set -C; : >"$target") 2>/dev/null || fail "The file $target could not be made."
        mark=$(mark_of "$target") && printf '%s %s\\n' "$mark" "$target" >>"$folder/files" &&
            persist "$folder/files" && persist "$folder" ||
            { rm -f -- "$target"; fail "$folder/files cannot be written."; }
        how=--sparse=always
        if [ "$1" = reflink ]; then how=--reflink=always
        elif ! cp --help 2>&1 | grep -q -e --sparse; then how=''; fi # BusyBox
        copied "$how" "$origin" "$target" || fail "No snapshot of $origin could be made at $target." ;;
    esac
}
all_snapshots() {
    printf '%s\\n' "$clones" | while IFS='|' read -r way room target origin; do
        [ -z "$way" ] || { still_ours && snapshot "$way" "$room" "$target" "$origin"; } || exit
    done
}
look_for_room
if [ -z "$domid" ]; then
    all_snapshots
    exit
fi
pause=$(pause_of "$domid") || fail "$tool does not list its domains."
[ "$pause" = not ] || fail "$of is paused already, so somebody needs it as it is."
command -v setsid >/dev/null || fail "There is no setsid command on the host, so nothing is paused."
# Not tied to us: it outlives this script, and the connection. It ends when it sees that the domain goes on.
rm -f -- "$folder/guarded" "$folder/was_paused"
began=$(uptime)
setsid sh -c '
: >"$4/guarded"
bound=
! command -v timeout || bound="timeout 20" # of an xl that hangs
sleep "$1"
until $bound "$2" unpause "$3"; rows=$($bound "$2" list -v) && printf "%s\\n" "$rows" | awk -v domid="$3" "
    \\$2 == 0 { seen = 1 }
    \\$2 == domid && \\$5 ~ /^..p/ { paused = 1 }
    END { exit !(seen && !paused) }"; do sleep 1; done
rm -f -- "$4/paused"' "guard-$nonce" "$limit" "$tool" "$domid" "$folder" </dev/null >/dev/null 2>&1 8<&- &
guard=$!
echo "$guard" >"$folder/guard" && echo "$(boot_of_dom0) $domid" >"$folder/paused" || fail "$folder cannot be written."
tries=0
until [ -e "$folder/guarded" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 10 ] && kill -0 "$guard" || fail "Nothing would end the pause, so nothing is paused."
    sleep 1
done
held=''
ends() { # its guard goes on trying
    let_go "$domid" || :
    [ -z "$held" ] || awk -v began="$began" -v ended="$(uptime)" 'BEGIN { print ended - began }' >"$folder/was_paused"
}
trap ends EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"$tool" pause "$domid" || fail "The domain could not be paused."
held=yes
all_snapshots
ended=$(uptime)
[ "$(pause_of "$domid")" = paused ] &&
    awk -v began="$began" -v ended="$ended" -v limit="$limit" 'BEGIN { exit !(ended - began < limit) }' ||
    fail "The pause of $of was over before its snapshots were made, so they are of no one moment."
let_go "$domid" || fail "$of is still paused: $tool does not let it go." "$tool unpause $domid"
trap - EXIT
awk -v began="$began" -v ended="$(uptime)" 'BEGIN { printf "paused %.2f\\n", ended - began }'
"""
)

# In this order nothing is busy when it goes: the domain, its back ends, its loop devices; then volumes and files. A
# name alone is never a reason to remove anything: a domain goes by its uuid, a volume if it is a snapshot of that
# origin with our tag, a file if it is the one that was made.
TAKE_DOWN = (
    _OURS
    + """
[ -f "$record" ] || exit 0
nothing_else_goes_on
[ -f "$record" ] || exit 0
still_ours
wait_until() { # SECONDS COMMAND...
    tries=$1
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 1
    done
}
gone() { ids_=$(domids_of "$uuid") && [ -z "$ids_" ]; }
no_backends() {
    below_=$(xenstore-list /local/domain/0) || return
    printf '%s\\n' "$below_" | grep -q -x backend || return 0
    kinds_=$(xenstore-list /local/domain/0/backend) || return
    for kind_ in $kinds_; do
        case $kind_ in vbd | qdisk | tap | vif) ;; *) continue ;; esac # others use no disk and no bridge
        with_=$(xenstore-list "/local/domain/0/backend/$kind_") || return
        ! printf '%s\\n' "$with_" | grep -q -x "$1" || return
    done
}
if [ -f "$folder/paused" ]; then # a pause that was cut short ends here; somebody's pause of another life does not
    live=$(domids_of "$of_uuid") || fail "$tool does not list its domains."
    for domid in $live; do
        [ "$(cat -- "$folder/paused")" != "$(boot_of_dom0) $domid" ] || let_go "$domid" ||
            fail "$of is still paused: $tool does not let it go." "$tool unpause $domid"
    done
fi
mkdir -p -- "$folder"
live=$(domids_of "$uuid") || fail "$tool does not list its domains."
for domid in $live; do
    echo "$(boot_of_dom0) $domid" >>"$folder/domids"
    "$tool" destroy "$domid" >/dev/null 2>&1 8<&- || :
    wait_until 120 gone || fail "The domain $name (domid $domid) of a rehearsal could not be destroyed."
done
if [ -f "$folder/domids" ]; then
    while read -r boot domid; do
        [ "$boot" = "$(boot_of_dom0)" ] || continue
        wait_until 30 no_backends "$domid" ||
            fail "Devices of $name (domid $domid) are still there after it was destroyed, or xenstore does not tell."
    done <"$folder/domids"
fi
if [ -s "$folder/console.pid" ]; then # it ends with its domain; one that does not is known by what it writes to
    read -r console <"$folder/console.pid"
    [ ! "/proc/$console/fd/1" -ef "$folder/console" ] || kill "$console" || :
fi
saves=$root/var/lib/xen/save
for file in "$root/etc/default/xendomains" "$root/etc/sysconfig/xendomains"; do # as observe.sh has it
    [ -f "$file" ] || continue
    named=$(sed -n "s/^[ \t]*XENDOMAINS_SAVE=[\\"']\\{0,1\\}\\([^\\"' \t]*\\).*/=\\1/p" "$file" | tail -n 1)
    [ -z "$named" ] || saves=${named#=}
done
for save in ${saves:+"$saves/$name"}; do # one that xendomains saved: the image tells the uuid
    if [ -f "$save" ] && head -c 65536 -- "$save" | grep -a -q -F "$uuid"; then rm -f -- "$save"; fi
done
loops_of() { # FILE: the loop devices that have it
    if loops_=$(losetup -j "$1" 2>/dev/null); then printf '%s\n' "$loops_" | cut -d : -f 1; return; fi
    for backing_ in "$root"/sys/block/loop*/loop/backing_file; do # as with BusyBox
        [ ! -f "$backing_" ] || [ ! "$(cat -- "$backing_")" -ef "$1" ] ||
            echo "$backing_" | sed 's,.*/\\(loop[0-9]*\\)/loop/.*,/dev/\\1,'
    done
}
remove_file() { # TARGET, if it is the one that was made
    if [ ! -e "$1" ] || grep -q -s -x -F "foreign $1" "$folder/files"; then return; fi
    mark=$(mark_of "$1") && grep -q -s -x -F "$mark $1" "$folder/files" ||
        fail "Nobody knows whether $1 is a snapshot of a rehearsal, so it stays." "Remove it there, if it is nobody's."
    unused() { devices_=$(loops_of "$target") && [ -z "$devices_" ]; }
    wait_until 10 unused || loops_of "$target" | while read -r loop; do losetup -d "$loop" || :; done
    wait_until 5 unused || fail "$target is still in use by a loop device." "losetup -j $target"
    rm -f -- "$target"
}
printf '%s\\n' "$clones" | while IFS='|' read -r way target origin; do
    case $way in
    lvm | thin)
        told=$(told_of origin,lv_tags "$target") || exit
        [ "$told" ] || continue
        case $told in
        "${origin##*/}|"*reconciler.rehearsal*) ;;
        *) continue ;; # somebody else's
        esac
        lvm_in_time "$lvm_seconds" lvremove -y -f "${target#/dev/}" </dev/null >/dev/null 2>&1 || :
        told=$(told_of lv_name "$target") || exit
        [ -z "$told" ] || fail "The snapshot $target of a rehearsal could not be removed." \\
            "See what uses it (lvs, losetup -a); the next run tries again." ;;
    reflink | copy) remove_file "$target" ;;
    esac
done
no_ports() { [ -z "$(ls "$root/sys/class/net/$bridge/brif")" ]; }
if [ "$bridge" ] && [ -d "$root/sys/class/net/$bridge/bridge" ]; then
    wait_until 10 no_ports || fail "The bridge $bridge of a rehearsal still has ports." "ls /sys/class/net/$bridge/brif"
    ip link del "$bridge" || fail "The bridge $bridge of a rehearsal could not be removed." "ip link del $bridge"
fi
rm -rf -- "$folder"
rm -f -- "$record"
"""
)

# Where nobody looks any more (the controller is dead, or cut off), the throwaway is ended by the dom0 itself: at once
# where its host is in trouble, and after a while in any case. As long as somebody looks, that one judges.
_WATCH = """
silent=0
while sleep 2; do
    grep -q -s -F "\\"nonce\\": \\"$nonce\\"" "$record" || exit 0 # it is taken down, or another one by now
    if rm -- "$folder/heard" 2>/dev/null; then silent=0; continue; fi
    silent=$((silent + 2))
    [ "$silent" -gt 5 ] || continue
    [ "$silent" -gt "$silent_seconds" ] || [ "$(sh -c "$trouble")" ] || continue
    sh -c "$end" && exit 0
    sleep 60
done
"""

HEARD = """
{ : >"$heard"; } 2>/dev/null || : # it may be taken down by now
"""

# As for any domain, xl must not die of a broken pipe, and its daemon must hold nothing of ours. The console is read by
# a process that outlives us; its input is held open, or it would end at once.
START = (
    """
set -eu
fail() { printf 'problem: %s\\nhint: %s\\n' "$1" "${2:-}" >&2; exit 64; }
refuse() { fail "$@"; }
"""
    + _OURS
    + """
ours_alone
"$tool" create -p "$file" </dev/null >/dev/null 2>"$folder/said" 8<&- && status=0 || status=$?
cat "$folder/said" >&2
[ "$status" -eq 0 ] || exit "$status"
domid=$(domids_of "$uuid") || exit
[ "$domid" ] || exit 1
echo "$(boot_of_dom0) $domid" >>"$folder/domids"
: >"$folder/console"
mkfifo "$folder/input"
{ ulimit -f 32768 && exec setsid "$tool" console "$domid"; } <>"$folder/input" >"$folder/console" 2>/dev/null 8<&- &
echo $! >"$folder/console.pid"
sleep 1 # until it is attached
: >"$folder/heard"
watch='"""
    + _WATCH
    + """'
export nonce record folder silent_seconds trouble end
setsid sh -c "$watch" "watch-$nonce" </dev/null >/dev/null 2>&1 8<&- &
"$tool" unpause "$domid"
"""
)

# Why the host is the reason if the throwaway does not get ready: a sentence, or nothing. No answer is
# a reason, too.
TROUBLE = (
    IN_TIME
    + """
lvs_of() { # FIELDS VOLUME
    lvm_in_time 20 lvs --noheadings --separator '|' --nosuffix --units b -o "$@" 2>/dev/null | tr -d ' '
}
printf '%s\\n' "$clones" | while IFS='|' read -r way keep target room; do
    case $way in
    lvm | thin)
        case $(lvs_of lv_attr "${target#/dev/}") in
        ????I* | ????S* | ????????F*) echo "trouble the snapshot $target is full, and not valid any more" ;;
        '') echo "trouble the snapshot $target is gone, or LVM does not tell of it" ;;
        esac ;;
    esac
    case $way in
    thin)
        told=$(lvs_of lv_size,data_percent,metadata_percent "$room")
        printf '%s\\n' "$told" | awk -F '|' -v keep="$keep" -v room="$room" '
            $2 !~ /^[0-9]/ || $3 !~ /^[0-9]/ { print "trouble nobody knows how full the thin pool " room " is"; next }
            $1 * (100 - $2) / 100 < keep { print "trouble the thin pool " room " has less left than is kept free" }
            $3 > 90 { print "trouble the metadata of the thin pool " room " is nearly full" }' ;;
    reflink | copy)
        told=$(stat -f -c '%S %a' -- "${target%/*}" 2>/dev/null)
        printf '%s\\n' "$told" | awk -v keep="$keep" -v room="$room" '
            NF < 2 { print "trouble nobody knows how full " room " is"; next }
            $1 * $2 < keep { print "trouble " room " has less left than is kept free" }' ;;
    esac
done
"""
)
