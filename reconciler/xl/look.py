"""Looks at one domain: the scripts that do so, and how their output becomes a `Look`.

Used by `execute`. The ready gate asks again and again, so a look is one round trip and few processes.
"""

from __future__ import annotations

from reconciler.dom0.connection import Result
from reconciler.model.diagnostics import world_error
from reconciler.model.host import Look, Power
from reconciler.texts.listing import XlOutputError, parse_whole_list
from reconciler.texts.xenstore import CONNECTED, are_connected
from reconciler.xl.commands import COMES_BACK

PROBE_SECONDS = 5
_DAEMON_ENDS_SECONDS = 2  # xl's process outlives its domain for a moment, and the gap between two lives is longer
_CONSOLE_BYTES = 16 * 1024
_MARK = "---reconciler---"

CONSOLE_LOG = """
for log in "/var/log/xen/console/guest-$name.log" "/var/log/xen/guest-$name.log" ''; do
    [ ! -f "$log" ] || break
done
"""

# Of a device both ends are asked for their state; where they are is read from libxl's own record, which a guest cannot
# write to. The log of a console goes on from one life of a domain to the next: only what came since it was started, by
# this or an earlier run, counts.
LOOK = (
    COMES_BACK
    + f"""
list=$(xl list -v) || exit
printf '%s\\n{_MARK}\\n' "$list"
echo "host $(cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.boottime)"
domid=$(printf '%s\\n' "$list" | awk -v name="$name" '$1 == name {{ print $2; exit }}')
if [ "$domid" ]; then
    paths=$(xenstore-ls -f "/libxl/$domid" 2>/dev/null |
        sed -n -e 's/^[^ ]*\\/type = "\\(.*\\)"$/type \\1/p' \\
            -e 's/^[^ ]*\\/device\\/\\(vbd\\|vif\\)\\/[0-9]*\\/\\(frontend\\|backend\\) = "\\(.*\\)"$/state \\3/p')
    printf '%s\\n' "$paths" | while read -r what value; do
        case $what in
        type) echo "type $value" ;;
        state) echo "state $(xenstore-read "$value/state" 2>/dev/null || echo none)" ;;
        esac
    done
elif comes_back && sleep {_DAEMON_ENDS_SECONDS} && comes_back; then
    echo reboots
fi
echo {_MARK}
"""
    + CONSOLE_LOG
    + f"""
if [ "$log" ]; then
    begins=$({{ tr -dc 0-9 <"$mark"; }} 2>/dev/null) # some `wc` put blanks before the number
    : "${{begins:=0}}"
    size=$(wc -c <"$log")
    [ "$size" -ge "$begins" ] || begins=0 # the log was rotated
    echo log
    tail -c "+$((begins + 1))" "$log" | tail -c {_CONSOLE_BYTES}
fi
"""
)

# bash is there on every Linux dom0, since Xen's own scripts need it; NetBSD has nc.
PROBE_TCP = f"""
if command -v bash >/dev/null && command -v timeout >/dev/null; then
    timeout {PROBE_SECONDS} bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null
else
    nc -z -w {PROBE_SECONDS} "$host" "$port" 2>/dev/null
fi
"""


def read_look(host: str, domain: str, result: Result) -> Look:
    """Make a Look of what LOOK printed. Raises ReconcilerError (world) when xl failed."""
    parts = result.text.split(f"{_MARK}\n", 2)
    if len(parts) < 3:
        said = result.errors.rpartition("\n")[2] or f"exit {result.exit_code}"
        raise world_error("xl fails", f"`xl list -v` failed on {host}: {said}", None, host)
    table, devices, log = parts
    try:
        row = next((row for row in parse_whole_list(table) if row.name == domain), None)
    except XlOutputError as error:
        raise world_error("xl is not understood", f"{host}: {error}", None, host) from error
    console = log.removeprefix("log\n") if log.startswith("log\n") else None
    host_boot = next((line for line in devices.splitlines() if line.startswith("host ")), "")
    if row is None:
        power = Power.REBOOTING if "reboots" in devices.split() else Power.ABSENT
        return Look(power=power, host_boot=host_boot, console=console)
    return Look(
        power=row.power,
        host_boot=host_boot,
        uuid=row.uuid,
        boot=str(row.domid),
        devices_connected=_connected(devices),
        any_connected=_any_connected(devices),
        actual_kib=row.memory_kib,
        console=console,
    )


def _connected(devices: str) -> bool | None:
    """Return whether all disks and interfaces are connected on both ends; None when none of them has to be."""
    words = [line.split() for line in devices.splitlines() if line]
    return are_connected((word[1] for word in words if word[0] == "state"), is_hvm=["type", "hvm"] in words)


def _any_connected(devices: str) -> bool | None:
    """Return whether at least one of them is connected; None when there is none, or none has to be."""
    if _connected(devices) is None:
        return None
    return any(line.split() == ["state", CONNECTED] for line in devices.splitlines())
