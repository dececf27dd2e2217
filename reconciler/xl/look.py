"""Looks at one domain: the scripts that do so, and how their output becomes a `Look`.

Used by `execute`. The ready gate asks again and again, so a look is one round trip and few processes.
"""

from __future__ import annotations

import shlex

from reconciler.dom0.connection import Result
from reconciler.model.diagnostics import world_error
from reconciler.model.host import Look, Power
from reconciler.texts.listing import XlOutputError
from reconciler.texts.xenstore import CONNECTED, are_connected, has_to_connect
from reconciler.xl.commands import not_understood
from reconciler.xl.dialect import Dialect

PROBE_SECONDS = 5
_DAEMON_ENDS_SECONDS = 2  # xl's process outlives its domain for a moment, and the gap between two lives is longer
_CONSOLE_BYTES = 16 * 1024
_MARK = "---reconciler---"

CONSOLE_LOG = """
for log in "/var/log/xen/console/guest-$name.log" "/var/log/xen/guest-$name.log" ''; do
    [ ! -f "$log" ] || break
done
"""

# Of a device both ends are asked for their state; where they are is read from what a guest cannot write to. The log of
# a console goes on from one life of a domain to the next: only what came since it was started, by this or an earlier
# run, counts. Before this text stand the scripts of the dialect.
LOOK = (
    f"""
list=$($tool list $listing) || exit
printf '%s\\n{_MARK}\\n' "$list"
echo "host $(cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.boottime)"
domid=$(domid_in "$list")
if [ "$domid" ]; then
    devices "$domid"
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


def look_script(dialect: Dialect, name: str, mark: str, *, log: str | None = None) -> str:
    """Return the script that looks at the domain `name`. `mark` notes where its console's log began.

    Where its console is kept in a file of its own, that is `log`.
    """
    look = LOOK if log is None else LOOK.replace(CONSOLE_LOG, f"log={shlex.quote(log)}\n[ -f \"$log\" ] || log=''\n")
    given = {"tool": dialect.tool, "listing": shlex.join(dialect.listing), "name": name, "mark": mark}
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in given.items()) + dialect.scripts + look


def read_look(dialect: Dialect, host: str, domain: str, result: Result) -> Look:
    """Make a Look of what the script printed. Raises ReconcilerError (world) when the toolstack failed."""
    parts = result.text.split(f"{_MARK}\n", 2)
    if len(parts) < 3:
        said = result.errors.rpartition("\n")[2] or f"exit {result.exit_code}"
        command = shlex.join([dialect.tool, "list", *dialect.listing])
        raise world_error(f"{dialect.tool} fails", f"`{command}` failed on {host}: {said}", None, host)
    table, devices, log = parts
    try:
        row = next((row for row in dialect.rows(table) if row.name == domain), None)
    except XlOutputError as error:
        raise not_understood(host, dialect.tool, error) from error
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
    return are_connected(_states(devices), is_hvm=_is_hvm(devices))


def _any_connected(devices: str) -> bool | None:
    """Return whether at least one of them is connected; None when there is none, or none has to be."""
    if _connected(devices) is None:
        return None
    return CONNECTED in _states(devices)


def _is_hvm(devices: str) -> bool:
    return "type hvm" in (line.strip() for line in devices.splitlines())


def _states(devices: str) -> list[str]:
    """Return the states of both ends of all devices that a guest that is up has connected."""
    told: dict[str, list[list[str]]] = {"state": [], "cdrom": [], "params": []}
    for line in devices.splitlines():
        word, *rest = line.split(maxsplit=2)
        if word in told and rest:
            told[word].append(rest)
    cdroms = {device for device, *_ in told["cdrom"]}
    opened = {device: "".join(what) for device, *what in told["params"]}
    waited_for = {
        device
        for device, *_ in told["state"]
        if has_to_connect(device in cdroms, opened.get(device), is_hvm=_is_hvm(devices))
    }
    return [state for device, state in told["state"] if device in waited_for]
