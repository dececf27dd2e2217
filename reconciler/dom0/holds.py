"""Keeps and lifts the holds of a dom0, and looks at them before a step. Each is one small file, written without a lock,
by whoever asks for it (hence `looks`: nothing of it needs the host to be ours).

Called by `execute`. What a hold says and does is in `decide.holds`.
"""

from __future__ import annotations

from reconciler.decide.holds import begun_meanwhile, read_hold, render_hold
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.host import WHOLE_HOST, Hold

_LOOK = """
date +%s
for file in "$own" "$all"; do
    if [ -e "$file" ]; then printf 'held %s\n' "$(tr -d '\n' <"$file")"; else echo free; fi
done
"""
_KEEP = """
mkdir -p -- "${target%/*}"
umask 022
trap 'rm -f -- "$unfinished"' EXIT
cat >"$unfinished"
persist "$unfinished"
mv -f -- "$unfinished" "$target"
persist "${target%/*}"
"""
_LIFT = """
[ -e "$target" ] || exit 0
rm -f -- "$target"
persist "${target%/*}"
echo lifted
"""


async def refuse_held(shell: Dom0Shell, domain: str) -> None:
    """Raise ReconcilerError (moved) where a domain, or all of the host, is held now."""
    given = {"own": shell.dom0.hold_path(domain), "all": shell.dom0.hold_path(WHOLE_HOST)}
    now, *found = (await shell.act(domain, "looking for holds failed", _LOOK, given, looks=True)).splitlines()
    for name, line in zip((domain, WHOLE_HOST), found, strict=True):
        word, _, text = line.partition(" ")
        hold = read_hold(text, float(now)) if word == "held" else None
        if hold is not None:
            raise begun_meanwhile(shell.host, domain, hold, name)


async def keep(shell: Dom0Shell, domain: str, *, seconds: float | None, by: str, reason: str, token: str) -> Hold:
    """Write the file of a hold that begins now, by the host's clock."""
    now = float(await shell.act(domain, "asking for the time failed", "date +%s", {}, looks=True))
    hold = Hold(begins=now, ends=None if seconds is None else now + seconds, by=by, reason=reason)
    target = shell.dom0.hold_path(domain)
    folder, _, name = target.rpartition("/")
    given = {"target": target, "unfinished": f"{folder}/.{name}.reconciler-{token}"}
    await shell.act(domain, "writing the hold failed", _KEEP, given, input=[render_hold(hold).encode()], looks=True)
    return hold


async def lift(shell: Dom0Shell, domain: str) -> bool:
    """Remove the file of a hold; return whether there was one."""
    given = {"target": shell.dom0.hold_path(domain)}
    return bool(await shell.act(domain, "lifting the hold failed", _LIFT, given, looks=True))
