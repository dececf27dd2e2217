# Reads a Xen dom0 in one go and changes nothing there. Linux and NetBSD; POSIX sh, few processes.
#
# `observe.py` sends this text after assignments of: boundary (unguessable, closes each section), config_dir (empty:
# as usual on this system), kernel_dir, images and files (paths to ask for, one a line), known (lines of the section
# `images` whose digests the controller has already), want_lvm (1: disks on volume groups are in use), root (empty; where
# the tests have the folders of the system), secrets (files of passwords, one a line: domain|key|path), pointer and pointer_begins (what is told of a Git LFS pointer, and how one
# begins), tool (xl or xm; xl if it is not given).

nl='
'
tab='	'

# Closes a section: its name and the exit status of what wrote it. One that failed is taken for nothing but that; of
# two of one name the later one counts. Returns that status.
close() { printf '\n%s %s %s\n' "$boundary" "$1" "$2" && return "$2"; }

# Looks once more where a tool fails: a file may have vanished between two glances, or been replaced just then, and xl
# itself crashes now and then.
twice() { "$@" || "$@"; }

# The arguments of `stat` for one line a file: kind|size|device:inode|device number|modified|changed|path
system=$(uname -s)
case $system in
NetBSD)
    stat_format() { stat -f '%HT|%z|%d:%i|%Hr:%Lr|%Fm|%Fc|%N' "$@"; }
    digests() { cksum -n -a sha256 "$@"; }
    boot_id() { sysctl -n kern.boottime; }
    xen_dir=$root/usr/pkg/etc/xen suffix='' ;;
*)
    stat_format() { stat -c '%F|%s|%d:%i|%t:%T|%y|%z|%n' "$@"; }
    digests() { sha256sum "$@"; }
    boot_id() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.boottime 2>/dev/null; }
    xen_dir=$root/etc/xen suffix=.cfg ;;
esac
config_dir=${config_dir:-$xen_dir}

printf '%s\n' "$system" "$(id -u)" "$config_dir" "$(boot_id)"
close system 0
look_at_commands # before all that such a command may change

# How to ask each toolstack, and find the disks and images in what it tells of the domains that run.
case ${tool:=xl} in
xm)
    table=--long long_option=--long
    atoms() { tr '() \t' '\n\n\n\n'; }
    running_disks() {
        atoms | awk '/^(tap2?|tapdisk|aio|sync|file|phy|raw|qcow2?|vhd):/ {
            while (sub(/^(tap2?|tapdisk|aio|sync|file|phy|raw|qcow2?|vhd):/, "")) continue
            if ($0 != "") print (substr($0, 1, 1) == "/" ? $0 : "/dev/" $0)
        }'
    }
    running_images() {
        atoms | awk 'NF { if ((last == "kernel" || last == "ramdisk") && /^\// && !seen[$0]++) print; last = $0 }'
    } ;;
*)
    table=-v long_option=-l
    running_disks() { awk -F '"' '$2 == "pdev_path" { print $4 }'; }
    running_images() { awk -F '"' '($2 == "kernel" || $2 == "ramdisk") && !seen[$4]++ { print $4 }'; } ;;
esac

look_at_info() {
    "$tool" info
    close info "$?"
}
look_at_list() {
    list=$("$tool" list "$table"; echo "=$?") # with its last newline, without which it would be taken for cut short
    printf '%s' "${list%=*}"
    close list "${list##*=}"
}
look_at_long() {
    long=$("$tool" list "$long_option")
    status=$?
    printf '%s\n' "$long"
    close long "$status"
}
twice look_at_info
twice look_at_list
twice look_at_long

# When the domains booted, what the clock says now, and the devices of all domains with the states of both ends. libxl
# writes the time anew at each boot of a guest. Listing the whole store takes seconds, so that only its record of the
# domains is listed, and from elsewhere the nodes are read that this leads to.
wanted='^(/vm/[^/]*/start_time|/libxl/[0-9]+/(type|device/v[bi][df]/.*)|/libxl/pci/[^/]*/name|/[^ ]*/state) = '
[ "$tool" = xl ] ||
    wanted='^(/vm/[^/]*/(start_time|image/ostype)|/local/domain/(0/backend/(vbd|tap2?|vif)/.*|[0-9]+/vm|[0-9]+/device/vbd/[0-9]+/device-type)|/[^ ]*/state) = '
look_at_store() {
    date +%s
    status=0
    if [ "$tool" = xm ] && command -v xenstore-ls >/dev/null; then # xend has no record but the back ends
        store=$(xenstore-ls -f) || status=$?
        printf '%s\n' "$store" | grep -E "$wanted"
    elif command -v xenstore-ls >/dev/null; then
        store=$(xenstore-ls -f /libxl) || status=$?
        if [ "$status" -ne 0 ] && names=$(xenstore-list / 2>/dev/null); then
            case $nl$names$nl in *"${nl}libxl$nl"*) ;; *) status=0 ;; esac # there was no domain yet
        fi
        printf '%s\n' "$store" | grep -E "$wanted"
        nodes=$(printf '%s\n' "$store" "$list" | awk '
            { known[$1] }
            $1 ~ /^\/libxl\/[0-9]+\/device\/v[bi][df]\/[0-9]+\/(frontend|backend)$/ {
                gsub(/"/, "", $3)
                nodes[++count] = $3 "/state"
            }
            !/^\// && match($0, /[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+/) && $2 != 0 {
                nodes[++count] = "/vm/" substr($0, RSTART, RLENGTH) "/start_time"
            }
            END { for (i = 1; i <= count; i++) if (!(nodes[i] in known)) print nodes[i] }')
        read_nodes
    fi
    close store "$status"
}

# Reads $nodes as `xenstore-ls -f` shows them, all at once. xenstore-read ends at the first that is not there, which is
# left out then; where that would take long, or it does not tell, the whole store is listed.
read_nodes() {
    for try in 1 2 3 4 5 6 7 8; do
        [ "$nodes" ] || return 0
        failed=''
        # shellcheck disable=SC2086 -- one argument a node
        told=$(xenstore-read -p $nodes 2>&1) || failed=$?
        printf '%s\n' "$told" | sed -n 's/^\(\/[^ ]*\): \(.*\)$/\1 = "\2"/p'
        [ "$failed" ] || return 0
        gone=$(printf '%s\n' "$told" | sed -n "s/^.*couldn't read path //p")
        [ "$gone" ] || break
        nodes=$(printf '%s\n' "$told" "$nodes" | awk -v gone="$gone" '
            /^\/[^ ]*: / { sub(/:$/, "", $1); told[$1] }
            /^\/[^ ]*$/ && $0 != gone && !($0 in told)')
    done
    store=$(xenstore-ls -f) || status=$?
    printf '%s\n' "$store" | grep -E "$wanted"
}
twice look_at_store

# Texts: config files, candidates and the settings of the dom0 that matter, in one tar. What is too large for a config,
# or is no file at all, is only named: its name is taken all the same.
look_at_texts() {
    large=$nl$(find -L "$config_dir" -maxdepth 1 -type f -size +512 2>/dev/null)$nl # over 256 KiB
    set --
    others=''
    for file in "$config_dir"/*"$suffix" "$kernel_dir"/*/candidate.cfg; do
        case $file in *"$nl"* | */xl.conf | */oxenstored.conf) continue ;; esac
        case $large in *"$nl$file$nl"*) others=$others$file$nl && continue ;; esac
        if [ -f "$file" ]; then
            set -- "$@" "$file"
        elif [ -d "$file" ] && [ -z "$suffix" ]; then
            continue # where configs have no suffix, a folder is no config
        elif [ -e "$file" ] || [ -L "$file" ]; then
            others=$others$file$nl
        fi
    done
    configs=''
    for file do configs=$configs$file$nl; done
    printf '%s' "$configs"
    close config_names 0
    printf '%s' "$others"
    close unread_names 0
    for file in "$xen_dir/xl.conf" "$xen_dir/xend-config.sxp" "$root/etc/rc.conf" "$root/etc/rc.conf.d/xendomains" \
        "$kernel_dir"/*/previous.cfg "$kernel_dir"/*/quarantine.json "$kernel_dir"/*/started "$kernel_dir"/.holds/*.json; do
        [ -f "$file" ] && set -- "$@" "$file"
    done
    for file in "$xen_dir/auto"/*; do # what the dom0 starts at boot and is no link to a config file of ours
        case $file in *"$nl"*) continue ;; esac
        [ -f "$file" ] && [ -z "$(find -L "$file" -size +512)" ] && set -- "$@" "$file"
    done
    # Without -P, which BusyBox's tar does not know, paths have to begin below /.
    texts=''
    for file do case $file in *"$nl"*) ;; *) texts=$texts${file#/}$nl ;; esac done
    set -f
    IFS=$nl
    set -- $texts
    unset IFS
    set +f
    status=0
    (cd / && changed_secrets "$@")
    close secrets 0
    [ $# -eq 0 ] || (cd / && tar -chf - -- "$@") || status=$?
    close texts "$status"
}
twice look_at_texts

# Digests of passwords that specs name by a file, for domains whose config file does not, so that what they run with can
# be compared: domain, key and digest. Each is made with the boundary before the password, so that it tells nothing later.
set -f
IFS=$nl
set -- $configs
[ -z "$secrets" ] || [ $# -eq 0 ] || filled=$nl$(grep -l '^# reconciler-secret: ' -- "$@" 2>/dev/null)$nl
for line in $secrets; do
    domain=${line%%\|*} path=/${line#*\|*\|/}
    case ${filled-} in *"$nl$config_dir/$domain$suffix$nl"*) continue ;; esac
    [ -f "$path" ] || continue
    digest=$({ printf '%s' "$boundary" && awk 'NR == 1 { sub(/\r$/, ""); printf "%s", $0 }' "$path"; } | digests)
    printf '%s|%s\n' "${line%\|*}" "${digest%% *}"
done
unset IFS
set +f
close passwords 0

# Disks that config files and running domains name, for the question who uses what: of each quoted text what follows
# target=, else what looks like the path of an old disk specification.
set -f
IFS=$nl
set -- $configs
named=$(
    printf '%s\n' "$long" | running_disks
    [ $# -gt 0 ] && cat -- "$@" 2>/dev/null | awk -F "['\"]" '
        {
            for (i = 2; i <= NF; i++) {
                text = $i
                if (at = index(text, "target=/")) {
                    print substr(text, at + 7)
                } else if (text ~ /^[a-z0-9:]*\/[^,]*,/) {
                    sub(/^[a-z0-9:]*/, "", text)
                    sub(/,.*/, "", text)
                    print text
                }
            }
        }'
)
unset IFS
set +f
look_at_files() {
    set -f
    IFS=$nl
    set --
    for file in $files $named; do
        [ -e "$file" ] && set -- "$@" "$file"
    done
    unset IFS
    set +f
    facts='' status=0
    if [ $# -gt 0 ]; then
        facts=$(stat_format -L -- "$@") || status=$?
        printf '%s\n' "$facts"
    fi
    close files "$status" || return
    if [ $# -gt 0 ]; then # BusyBox's readlink takes one file at a time, and NetBSD before 10 has no realpath
        real=$(readlink -f -- "$@" 2>/dev/null) || real=$(realpath "$@") || status=$?
        printf '%s\n' "$real"
    fi
    close real_paths "$status"
}
twice look_at_files

# Sizes of block devices, in sectors of 512 bytes. NetBSD tells only those of logical volumes.
lvm_tool() { tool_=$1 && shift && if command -v "$tool_" >/dev/null; then "$tool_" "$@"; else lvm "$tool_" "$@"; fi; }
has_lvm() { [ "$want_lvm" = 1 ] && { command -v vgs >/dev/null || command -v lvm >/dev/null; }; }
volumes=''
if [ "$system" = NetBSD ] && has_lvm; then
    volumes=$(lvm_tool lvs --noheadings --nosuffix --units s --separator '|' -o vg_name,lv_name,lv_size)
fi
printf '%s\n' "$facts" | while IFS='|' read -r kind _ _ number _ _ path; do
    case $kind in 'block special file' | 'Block Device') ;; *) continue ;; esac
    number=$((0x${number%:*})):$((0x${number#*:}))
    if [ "$system" = NetBSD ]; then
        sectors=$(printf '%s\n' "$volumes" | awk -F '|' -v path="$path" '
            { gsub(/ /, "") }
            "/dev/" $1 "/" $2 == path { print $3 }')
        [ -z "$sectors" ] || printf '%s %s\n' "$number" "$sectors"
    elif [ -r "/sys/dev/block/$number/size" ]; then
        read -r sectors <"/sys/dev/block/$number/size" && printf '%s %s\n' "$number" "$sectors"
    fi
done
close sectors 0

# Staged images, asked ones, and what running domains name elsewhere; only those that changed since the controller looked last are read.
look_at_images() {
    set -f
    IFS=$nl
    set --
    for file in $images; do [ -f "$file" ] && set -- "$@" "$file"; done
    for file in $(printf '%s\n' "$long" | running_images); do
        case $file in "$kernel_dir"/*) continue ;; esac
        case $nl$images$nl in *"$nl$file$nl"*) continue ;; esac
        [ -f "$file" ] && set -- "$@" "$file"
    done
    unset IFS
    set +f
    for file in "$kernel_dir"/*/*.????????????; do
        case $file in *"$nl"*) continue ;; esac
        [ -f "$file" ] && set -- "$@" "$file"
    done
    facts='' status=0
    if [ $# -gt 0 ]; then
        facts=$(stat_format -L -- "$@") || status=$?
        printf '%s\n' "$facts"
    fi
    close images "$status" || return
    set -f
    IFS=$nl
    set --
    for line in $facts; do
        case $nl$known$nl in
        *"$nl$line$nl"*) ;;
        *) set -- "$@" "${line#*\|*\|*\|*\|*\|*\|}" ;;
        esac
    done
    unset IFS
    set +f
    [ $# -eq 0 ] || digests "$@" || status=$?
    for file do # of what no domain has staged, a Git LFS pointer is told as such in place of its digest
        case $file in "$kernel_dir"/*) continue ;; esac
        dd if="$file" bs=64 count=1 2>/dev/null | grep -q "^$pointer_begins" && printf '%s  %s\n' "$pointer" "$file"
    done
    close digests "$status"
}
twice look_at_images

# Images of domains that xendomains saved when the dom0 went down, and will restore: one a line.
saves=$root/var/lib/xen/save
for file in "$root/etc/default/xendomains" "$root/etc/sysconfig/xendomains"; do
    [ -f "$file" ] || continue
    named=$(sed -n "s/^[ $tab]*XENDOMAINS_SAVE=[\"']\{0,1\}\([^\"' $tab]*\).*/=\1/p" "$file" | tail -n 1)
    [ -z "$named" ] || saves=${named#=}
done
for file in ${saves:+"$saves"/*}; do
    case $file in *"$nl"*) continue ;; esac
    [ -f "$file" ] && printf '%s\n' "$file"
done
close saved 0

# The process that xl leaves for each domain, by the log that it writes to; and the logs there are.
look_at_daemons() {
    status=0
    xl_processes || status=$?
    for file in "$root"/var/log/xen/xl-*.log; do
        case $file in *"$nl"*) continue ;; esac
        [ -f "$file" ] && printf 'log %s\n' "$file"
    done
    close daemons "$status"
}
twice look_at_daemons

# Autostart, bridges, volume groups.
links() { # name, tab, target; BusyBox's find knows no -printf
    if find "$xen_dir/auto" -maxdepth 0 -printf '' 2>/dev/null; then
        find "$xen_dir/auto" -type l -printf "%f$tab%l\n"
        return
    fi
    ls "$xen_dir/auto" >/dev/null || return
    for file in "$xen_dir/auto"/*; do
        case $file in *"$nl"*) continue ;; esac
        [ ! -L "$file" ] || printf '%s\t%s\n' "${file##*/}" "$(readlink "$file")"
    done
}
look_at_autostart() {
    status=0
    if [ "$system" != NetBSD ] && [ -d "$xen_dir/auto" ]; then
        links || status=$?
    fi
    close autostart "$status"
}
look_at_bridges() {
    status=0
    if [ "$system" = NetBSD ]; then
        interfaces=$(ifconfig -l) || status=$?
        printf '%s\n' "$interfaces" | tr ' ' "$nl" | grep '^bridge'
    else
        for bridge in /sys/class/net/*/bridge; do
            [ -d "$bridge" ] && bridge=${bridge%/bridge} && printf '%s\n' "${bridge##*/}"
        done
        if command -v ovs-vsctl >/dev/null; then
            ovs-vsctl list-br || [ ! -e /run/openvswitch/db.sock ] || status=1 # installed and never started: none
        fi
    fi
    close bridges "$status"
}
look_at_groups() {
    status=0
    if has_lvm; then
        lvm_tool vgs --noheadings --nosuffix --units b --separator '|' -o vg_name,vg_free || status=$?
    fi
    close groups "$status"
}
# PCI devices; the names that xl gave them are in xenstore. (NetBSD gives none to domains.)
for device in "$root"/sys/bus/pci/devices/*; do
    [ -e "$device" ] && printf '%s\n' "${device##*/}"
done
close pci 0

twice look_at_autostart
twice look_at_bridges
twice look_at_groups
