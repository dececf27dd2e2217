"""Holds what the scripts of `disks` and `images` ask of a toolstack: functions for sh, for xl and for xm.

`xl.dialect` says which ones a host gets; without a word they are xl's. They stand behind the prelude of `shell`.
`what_runs` prints all that the toolstack tells of the domains that run. `disks_that_run` prints the path of each disk
that one of them has, and refuses where that is not known; `$target` is the disk that it is asked for. It is called in
`$( )`, where NetBSD's sh forgets its `set -e`.
"""

from __future__ import annotations

# A domain that xl leaves out, such as a zombie, may hold a disk all the same: libxl's record tells.
XL_SH = """
asked() { "$@" || { echo "\\`$*\\` failed, so nobody knows what runs." >&2; return 1; }; }
what_runs() { asked xl list -l; }
disks_that_run() {
    long=$(what_runs) && rows=$(asked xl list -v) || exit
    printf '%s\\n' "$long" | sed -n 's/.*"pdev_path": "\\(.*\\)".*/\\1/p'
    told=$(printf '%s\\n' "$long" | sed -n 's/.*"domid": \\([0-9]*\\),.*/\\1/p')
    for domid in $(printf '%s\\n' "$rows" | awk 'NR > 1 {
        for (i = 4; i <= NF; i++) if ($i ~ /^[r-][b-][p-][s-][a-zA-Z?-][d-]$/) { print $(i - 3); break }
    }'); do
        case "$nl"0"$nl$told$nl" in *"$nl$domid$nl"*) continue ;; esac
        record=$(xenstore-ls -f "/libxl/$domid" 2>/dev/null) || record=''
        [ "$record" ] || refuse "Nothing tells which disks the domain with the id $domid has; $target may be one." \\
            "Look at xl list -v, and clear that domain away if nobody needs it."
        printf '%s\\n' "$record" | sed -n 's/^[^ ]*\\/params = "[a-z0-9]*:\\{0,1\\}\\(\\/.*\\)"$/\\1/p'
    done
}
"""

# xend leaves out what dies; the back ends of its disks are in xenstore as long as it holds them.
XM_SH = """
what_runs() { xm list --long || { echo "\\`xm list --long\\` failed, so nobody knows what runs." >&2; return 1; }; }
disks_that_run() {
    long=$(what_runs) || exit
    ends=$(xenstore-ls -f /local/domain/0/backend 2>/dev/null || :)
    {
        printf '%s\\n' "$long" | tr '() \\t' '\\n\\n\\n\\n'
        printf '%s\\n' "$ends" | sed -n 's/^[^ ]*\\/params = "\\(.*\\)"$/params:\\1/p'
    } | awk '
        /^(tap2?|tapdisk|aio|sync|file|phy|raw|qcow2?|vhd|params):/ {
            while (sub(/^(tap2?|tapdisk|aio|sync|file|phy|raw|qcow2?|vhd|params):/, "")) continue
            if ($0 != "") print (substr($0, 1, 1) == "/" ? $0 : "/dev/" $0)
        }'
}
"""
