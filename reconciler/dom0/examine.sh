# Looks at what of a Xen dom0 can hurt besides its domains, and changes nothing. Linux and NetBSD; POSIX sh.
#
# `examine.py` sends this text behind observe.sh, whose names it uses: close, every_process, nl, tab, root, system,
# tool, xen_dir, kernel_dir, has_lvm, lvm_tool, stat_format; over_ssh (1: the host is reached through ssh) and disk_roots.
# Nothing here fails the whole: what cannot be told is left out.

printf '%s\n' "$xen_dir"
close place 0
case $tool in
xm) conf=xend-config.sxp settings='enable-dom0-ballooning|dom0-min-mem' ;;
*) conf=xl.conf settings=autoballoon ;;
esac
if [ -f "$xen_dir/$conf" ]; then grep -E "$settings" "$xen_dir/$conf"; [ $? -le 1 ]; fi
close xl_conf "$?"

# What xendomains does at a shutdown, and what has it run.
status=0
for file in "$root/etc/default/xendomains" "$root/etc/sysconfig/xendomains"; do
    [ -f "$file" ] || continue
    printf 'file %s\n' "$file"
    sed -n 's/^[[:space:]]*XENDOMAINS_SAVE=/save /p' "$file" || status=$?
done
for file in "$root"/etc/rc[2-5].d/S[0-9][0-9]xendomains "$root"/etc/systemd/system/*.wants/xendomains.service; do
    if [ -e "$file" ] || [ -L "$file" ]; then printf 'run-by %s\n' "$file"; fi
done
close xendomains "$status"

# What it starts at boot: a link's name and where it leads, or the name of a file.
status=0
if [ "$system" != NetBSD ]; then
    for file in "$xen_dir/auto"/*; do
        case $file in *"$nl"* | *"$tab"*) continue ;; esac
        if [ -L "$file" ]; then
            target=$(readlink "$file") || status=$?
            printf '%s\t%s\n' "${file##*/}" "$target"
        elif [ -e "$file" ]; then
            printf '%s\t\n' "${file##*/}"
        fi
    done
fi
close at_boot "$status"

# Where kernels are staged, or the next folder above that is there.
folder=$kernel_dir
while [ -n "$folder" ] && [ ! -d "$folder" ]; do folder=${folder%/*}; done
folder=${folder:-/}
status=0
printf 'folder %s\n' "$folder"
df=$(df -kP "$folder" 2>/dev/null) || status=$?
printf 'room %s\n' "$(printf '%s\n' "$df" | tail -n 1)"
if [ "$system" != NetBSD ]; then printf 'kind %s\n' "$(stat -f -c %T "$folder" 2>/dev/null)"; fi
if [ -d "$kernel_dir" ]; then printf 'used %s\n' "$(du -sk "$kernel_dir" 2>/dev/null | tail -n 1)"; fi
[ -w "$folder" ] || echo 'read-only'
close room "$status"

# Processes of other toolstacks. (No list of processes is empty.)
if [ "$system" != NetBSD ] && [ -r "$root/proc/1/comm" ]; then
    names=$(cat "$root"/proc/[0-9]*/comm 2>/dev/null)
else
    names=$(every_process -o comm= 2>/dev/null)
fi
printf '%s\n' "$names" | sed 's,.*/,,' | grep -xE 'libvirtd|virtxend|xapi|xenopsd.*|squeezed|xend|qubesd' | sort -u
[ -n "$names" ]
close toolstacks "$?"

# Devices for disks in files. Xen's own script for them looks on NetBSD at the same two places.
total=0 used=0 status=0
if [ "$system" = NetBSD ]; then
    for node in "$root"/dev/vnd[0-9]*d; do [ ! -e "$node" ] || total=$((total + 1)); done
    disks=$(sysctl -n hw.disknames 2>/dev/null) || status=$?
    for disk in $disks; do case $disk in vnd[0-9]*) used=$((used + 1)) ;; esac done
else
    for node in "$root"/dev/loop[0-9]*; do
        case ${node##*/} in *[0-9]p*) continue ;; esac # a partition
        [ ! -e "$node" ] || total=$((total + 1))
    done
    for file in "$root"/sys/block/loop[0-9]*/loop/backing_file; do [ ! -e "$file" ] || used=$((used + 1)); done
    [ ! -e "$root/dev/loop-control" ] || echo 'more-on-demand'
fi
printf 'total %s\nused %s\n' "$total" "$used"
close file_devices "$status"

for letter in f n v d; do printf '%s %s\n' "$letter" "$(ulimit -"$letter" 2>/dev/null)"; done
close limits 0

if [ "$over_ssh" = 1 ] && sshd=$(command -v sshd); then "$sshd" -T 2>/dev/null | grep -i '^maxsessions '; fi
close sshd 0

if command -v vgs >/dev/null || command -v lvm >/dev/null; then echo vgs; fi
if command -v update-grub >/dev/null; then echo update-grub; fi
if [ -f "$root/etc/default/grub" ]; then echo 'grub'; fi
close tools 0

# What lies in the folders and volume groups for disks. Of volumes only those that stand for themselves.
look_at_roots() {
    set -f
    IFS=$nl
    set -- $disk_roots
    unset IFS
    set +f
    files='' status=0
    for place do
        case $place in
        /dev/*)
            has_lvm || continue
            volumes=$(lvm_tool lvs --noheadings --nosuffix --units b --separator '|' \
                -o lv_attr,lv_size,vg_name,lv_name "${place#/dev/}") || status=$?
            printf '%s\n' "$volumes" |
                awk -F '|' '{ gsub(/ /, "") } /^[-V]/ { print "volume|" $2 "|/dev/" $3 "/" $4 }'
            continue ;;
        esac
        for file in "$place"/* "$place"/.*.reconciler-* "$place"/*/* "$place"/*/.*.reconciler-*; do
            case $file in *"$nl"*) continue ;; esac
            if [ -f "$file" ] && [ ! -L "$file" ]; then files=$files$file$nl; fi
        done
    done
    set -f
    IFS=$nl
    set -- $files
    unset IFS
    set +f
    [ $# -eq 0 ] || stat_format -- "$@" || status=$?
    close roots "$status"
}
look_at_roots

date +%s # as late as can be: it is compared with when this arrives
close clock "$?"
