"""The scripts of a rehearsal: notes, snapshots with a pause, a bridge, and the way down. POSIX sh, on Linux."""

from __future__ import annotations

_OURS = """
still_ours() {
    [ -f "$record" ] && grep -q -F "\\"nonce\\": \\"$nonce\\"" "$record" ||
        refuse "The rehearsal is not noted on the host any more, so it is another run's by now." "Run it again."
}
lvm_command() { # within a time of its own, since udev may hang it for ever
    tool_=$1
    shift
    command -v "$tool_" >/dev/null || { set -- "$tool_" "$@"; tool_=lvm; }
    if command -v timeout >/dev/null; then timeout "$lvm_seconds" "$tool_" "$@"; else "$tool_" "$@"; fi
}
told_of() { # FIELDS VOLUME: nothing of what is not there, of which LVM says so by an exit of 5
    status_=0
    told_=$(lvm_command lvs --noheadings --separator '|' -o "$1" "${2#/dev/}" 2>/dev/null) || status_=$?
    case $status_ in 0 | 5) ;; *) fail "LVM does not tell of $2 (lvs: exit $status_)." ;; esac
    printf '%s' "$told_" | tr -d ' '
}
"""

NOTE = """
umask 077
mkdir -p -- "${record%/*}"
if [ -e "$record" ]; then
    fail "A rehearsal of this domain is noted on the host already." "The next run takes it down first: run it again."
fi
printf '%s' "$text" >"$record.unfinished"
persist "$record.unfinished"
mv -f -- "$record.unfinished" "$record"
persist "${record%/*}"
mkdir -p -- "$folder"
"""

PUT_CONFIG = (
    _OURS
    + """
still_ours
umask 077
cat >"$folder/domain.cfg"
"""
)

# A bridge of that name is ours by its record; one that has ports is none that we made.
BRIDGE = (
    _OURS
    + """
still_ours
if [ -e "/sys/class/net/$bridge" ]; then fail "There is an interface $bridge on the host already."; fi
ip link add name "$bridge" type bridge && ip link set "$bridge" up || fail "The bridge $bridge could not be made."
"""
)

# The pause, the snapshots and the end of the pause are one script. Whatever ends it unpauses; if it is killed, a
# process of its own does so after the limit. A file's inode is noted before anything is copied into it.
MAKE_SNAPSHOTS = (
    _OURS
    + """
still_ours
uptime() { cut -d ' ' -f 1 /proc/uptime; }
snapshot() { # WAY ROOM KEEP SIZE TARGET ORIGIN
    target=$5 origin=$6
    case $1 in
    lvm | thin)
        there=$(told_of lv_name "$target") || exit
        [ -z "$there" ] || fail "There is a volume $target already."
        if [ "$1" = lvm ]; then set -- -L "${2}b"; else set -- -kn; fi
        said=$(lvm_command lvcreate -y -s "$@" -n "${target##*/}" --addtag reconciler.rehearsal --addtag "of=$of" \\
            "${origin#/dev/}" 2>&1 </dev/null) || :
        made=$(told_of origin "$target") || exit
        [ "$made" = "${origin##*/}" ] ||
            fail "No snapshot of $origin could be made: $(printf '%s' "$said" | tail -n 1)" ;;
    reflink | copy)
        free=$(stat -f -c '%S %a' -- "$origin" | awk '{ printf "%.0f", $1 * $2 }')
        [ "$(awk -v free="$free" -v size="$4" -v keep="$3" 'BEGIN { print (free >= size && free >= keep) }')" = 1 ] ||
            fail "There is too little room beside $origin for a snapshot of it."
        (umask 077; set -C; : >"$target") 2>/dev/null || fail "There is a file $target already."
        printf '%s %s\\n' "$(identity_of "$target")" "$target" >>"$folder/files"
        if [ "$1" = reflink ]; then how=--reflink=always; else how=--sparse=always; fi
        cp "$how" -- "$origin" "$target" || fail "No snapshot of $origin could be made at $target." ;;
    esac
}
all_snapshots() {
    printf '%s\\n' "$clones" | while IFS='|' read -r way room keep size target origin; do
        [ -z "$way" ] || snapshot "$way" "$room" "$keep" "$size" "$target" "$origin" || exit
    done
}
if [ -z "$domid" ]; then
    all_snapshots
    exit
fi
[ -z "$("$tool" list -v | awk -v domid="$domid" '$2 == domid && $5 ~ /^..p/')" ] ||
    fail "$of is paused already, so somebody needs it as it is."
# Not tied to us: it outlives this script, and the connection.
setsid sh -c 'sleep "$1"; exec "$2" unpause "$3"' guard "$limit" "$tool" "$domid" </dev/null >/dev/null 2>&1 &
guard=$!
let_go() {
    rm -f -- "$folder/paused"
    "$tool" unpause "$domid" >/dev/null 2>&1 || :
    kill -- "-$guard" 2>/dev/null || kill "$guard" 2>/dev/null || :
}
trap let_go EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
began=$(uptime)
: >"$folder/paused"
"$tool" pause "$domid" || fail "The domain could not be paused."
all_snapshots
let_go
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
still_ours
domids() { "$tool" list -v | awk -v uuid="$uuid" '{ for (i = 3; i <= NF; i++) if ($i == uuid) print $2 }'; }
wait_until() { # SECONDS COMMAND...
    tries=$1
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 1
    done
}
gone() { [ -z "$(domids)" ]; }
no_backends() {
    for kind in vbd qdisk vif; do
        if xenstore-list "/local/domain/0/backend/$kind/$1" >/dev/null 2>&1; then return 1; fi
    done
}
[ ! -f "$folder/console.pid" ] || kill "$(cat "$folder/console.pid")" 2>/dev/null || :
if [ "$of_uuid" ]; then # a pause that was cut short has ended by itself, or ends here
    "$tool" list -v | awk -v uuid="$of_uuid" '{ for (i = 3; i <= NF; i++) if ($i == uuid && $5 ~ /^..p/) print $2 }' |
        while read -r paused; do [ ! -f "$folder/paused" ] || "$tool" unpause "$paused"; done
fi
for domid in $(domids); do
    "$tool" destroy "$domid" >/dev/null 2>&1 || :
    wait_until 120 gone || fail "The domain $name (domid $domid) of a rehearsal could not be destroyed."
    wait_until 30 no_backends "$domid" || fail "Devices of $name (domid $domid) are still there after it was destroyed."
done
for save in /var/lib/xen/save/"$name"; do # one that xendomains saved: the image tells the uuid
    if [ -f "$save" ] && head -c 65536 -- "$save" | grep -a -q -F "$uuid"; then rm -f -- "$save"; fi
done
printf '%s\\n' "$clones" | while IFS='|' read -r way target origin; do
    case $way in
    lvm | thin)
        told=$(told_of origin,lv_tags "$target") || exit
        [ "$told" ] || continue
        case $told in
        "${origin##*/}|"*reconciler.rehearsal*) ;;
        *) continue ;; # somebody else's
        esac
        lvm_command lvremove -y -f "${target#/dev/}" </dev/null >/dev/null 2>&1 || :
        told=$(told_of lv_name "$target") || exit
        [ -z "$told" ] || fail "The snapshot $target of a rehearsal could not be removed." \\
            "See what uses it (lvs, losetup -a); the next run tries again." ;;
    reflink | copy)
        [ -f "$target" ] && grep -q -x -F "$(identity_of "$target") $target" "$folder/files" 2>/dev/null || continue
        unused() { [ -z "$(losetup -j "$target" 2>/dev/null)" ]; }
        wait_until 10 unused || losetup -j "$target" | cut -d : -f 1 | while read -r loop; do losetup -d "$loop"; done
        wait_until 5 unused || fail "$target is still in use by a loop device." "losetup -j $target"
        rm -f -- "$target" ;;
    esac
done
if [ "$bridge" ] && [ -d "/sys/class/net/$bridge/bridge" ] && [ -z "$(ls "/sys/class/net/$bridge/brif")" ]; then
    ip link del "$bridge" || :
fi
rm -rf -- "$folder"
rm -f -- "$record"
"""
)

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
still_ours
setsid "$tool" create -p "$file" </dev/null >/dev/null 2>"$folder/said" && status=0 || status=$?
cat "$folder/said" >&2
[ "$status" -eq 0 ] || exit "$status"
domid=$("$tool" list -v | awk -v uuid="$uuid" '{ for (i = 3; i <= NF; i++) if ($i == uuid) print $2 }')
[ "$domid" ] || exit 1
: >"$folder/console"
mkfifo "$folder/input"
setsid "$tool" console "$domid" <>"$folder/input" >"$folder/console" 2>/dev/null &
echo $! >"$folder/console.pid"
sleep 1 # until it is attached
"$tool" unpause "$domid"
"""
)

# Why the host is the reason if the throwaway does not get ready: a sentence, or nothing.
TROUBLE = """
lvs_of() { # FIELDS VOLUME
    if command -v lvs >/dev/null; then set -- lvs --noheadings --separator '|' --nosuffix --units b -o "$@"
    else set -- lvm lvs --noheadings --separator '|' --nosuffix --units b -o "$@"; fi
    if command -v timeout >/dev/null; then timeout 20 "$@" 2>/dev/null; else "$@" 2>/dev/null; fi | tr -d ' '
}
printf '%s\\n' "$clones" | while IFS='|' read -r way keep target room; do
    case $way in
    lvm)
        case $(lvs_of lv_attr "${target#/dev/}") in
        ????I* | ????S*) echo "trouble the snapshot $target is full, and not valid any more" ;;
        '') echo "trouble the snapshot $target is gone" ;;
        esac ;;
    thin)
        lvs_of lv_size,data_percent,metadata_percent "$room" | awk -F '|' -v keep="$keep" -v room="$room" '
            $1 * (100 - $2) / 100 < keep { print "trouble the thin pool " room " has less left than is kept free" }
            $3 > 90 { print "trouble the metadata of the thin pool " room " is nearly full" }' ;;
    reflink | copy)
        stat -f -c '%S %a' -- "${target%/*}" 2>/dev/null | awk -v keep="$keep" -v room="$room" '
            $1 * $2 < keep { print "trouble " room " has less left than is kept free" }' ;;
    esac
done
"""
