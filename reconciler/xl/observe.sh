# Reads a Xen dom0 in one go and changes nothing there. Linux and NetBSD; POSIX sh, few processes.
#
# `observe.py` sends this text after assignments of: boundary (unguessable, closes each section), config_dir (empty:
# as usual on this system), kernel_dir, images and files (paths to ask for, one a line), known (lines of the section
# `images` whose digests the controller has already), want_lvm (1: disks on volume groups are in use).

nl='
'
tab='	'

# Closes a section: its name and the exit status of what wrote it.
close() { printf '\n%s %s %s\n' "$boundary" "$1" "$2"; }

# The arguments of `stat` for one line a file: kind|size|device:inode|device number|modified|changed|path
system=$(uname -s)
case $system in
NetBSD)
    stat_format() { stat -f '%HT|%z|%d:%i|%Hr:%Lr|%Fm|%Fc|%N' "$@" 2>/dev/null; }
    digests() { cksum -n -a sha256 "$@"; }
    boot_id() { sysctl -n kern.boottime; }
    xen_dir=/usr/pkg/etc/xen suffix='' ;;
*)
    stat_format() { stat -c '%F|%s|%d:%i|%t:%T|%y|%z|%n' "$@" 2>/dev/null; }
    digests() { sha256sum "$@"; }
    boot_id() { read -r boot </proc/sys/kernel/random/boot_id && printf '%s\n' "$boot"; }
    xen_dir=/etc/xen suffix=.cfg ;;
esac
config_dir=${config_dir:-$xen_dir}

printf '%s\n' "$system" "$(id -u)" "$config_dir" "$(boot_id)"
close system 0

xl info
close info "$?"
xl list -v
close list "$?"
long=$(xl list -l)
status=$?
printf '%s\n' "$long"
close long "$status"

# When the domains booted, and what the clock says now. libxl writes the time anew at each boot of a guest.
date +%s
command -v xenstore-ls >/dev/null && xenstore-ls -f /vm 2>/dev/null | grep '/start_time = '
close booted 0

# Texts: config files, candidates and the settings of the dom0 that matter, in one tar. What is too large for a config,
# or is no file at all, is only named: its name is taken all the same.
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
printf '%s' "$configs$others"
close config_names 0
for file in "$xen_dir/xl.conf" /etc/rc.conf /etc/rc.conf.d/xendomains \
    "$kernel_dir"/*/previous.cfg "$kernel_dir"/*/quarantine.json; do
    [ -f "$file" ] && [ -r "$file" ] && set -- "$@" "$file"
done
[ $# -gt 0 ] && tar -chPf - -- "$@" 2>/dev/null
close texts 0

# Disks that config files and running domains name, for the question who uses what: of each quoted text what follows
# target=, else what looks like the path of an old disk specification.
set -f
IFS=$nl
set -- $configs
named=$(
    {
        printf '%s\n' "$long"
        [ $# -gt 0 ] && cat -- "$@" 2>/dev/null
    } | awk -F "['\"]" '
        $2 == "pdev_path" { print $4; next }
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
set --
for file in $files $named; do
    [ -e "$file" ] && set -- "$@" "$file"
done
unset IFS
set +f
facts=''
if [ $# -gt 0 ]; then
    facts=$(stat_format -L -- "$@")
    printf '%s\n' "$facts"
fi
close files 0
[ $# -gt 0 ] && readlink -f -- "$@"
close real_paths 0

# Sizes of block devices, in sectors of 512 bytes.
printf '%s\n' "$facts" | while IFS='|' read -r kind _ _ number _; do
    [ "$kind" = 'block special file' ] || continue
    number=$((0x${number%:*})):$((0x${number#*:}))
    [ -r "/sys/dev/block/$number/size" ] && read -r sectors <"/sys/dev/block/$number/size" && printf '%s %s\n' "$number" "$sectors"
done
close sectors 0

# Staged images and asked ones; only those that changed since the controller looked last are read.
set -f
IFS=$nl
set --
for file in $images; do [ -f "$file" ] && set -- "$@" "$file"; done
unset IFS
set +f
for file in "$kernel_dir"/*/*.????????????; do
    case $file in *"$nl"*) continue ;; esac
    [ -f "$file" ] && set -- "$@" "$file"
done
facts=''
[ $# -gt 0 ] && facts=$(stat_format -L -- "$@") && printf '%s\n' "$facts"
close images 0
set -f
IFS=$nl
set --
for line in $facts; do
    case $nl$known$nl in
    *"$nl$line$nl"*) ;;
    *) set -- "$@" "${line#*|*|*|*|*|*|}" ;;
    esac
done
unset IFS
set +f
[ $# -gt 0 ] && digests "$@"
close digests 0

# Autostart, bridges, volume groups.
if [ "$system" = NetBSD ]; then
    close autostart 0
    ifconfig -l | tr ' ' "$nl" | grep '^bridge'
    close bridges 0
else
    [ -d "$xen_dir/auto" ] && find "$xen_dir/auto" -type l -printf "%f$tab%l\n"
    close autostart 0
    for bridge in /sys/class/net/*/bridge; do
        [ -d "$bridge" ] && bridge=${bridge%/bridge} && printf '%s\n' "${bridge##*/}"
    done
    command -v ovs-vsctl >/dev/null && ovs-vsctl list-br 2>/dev/null
    close bridges 0
fi
if [ "$want_lvm" = 1 ] && command -v vgs >/dev/null; then
    vgs --noheadings --nosuffix --units b --separator '|' -o vg_name,vg_free
fi
close groups "$?"
