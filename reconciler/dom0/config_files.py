"""Writes config files, candidates and autostart on a dom0. Files, links and names that are not ours are never touched.

Called by `execute` for WriteConfig, PromoteConfig, RemoveConfig, SetQuarantine and SetAutostart.
"""

from __future__ import annotations

import hashlib

from reconciler.dom0 import rc_conf
from reconciler.dom0.shell import SECRET_LINES_SH, Dom0Shell
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.model.domain import address_of
from reconciler.plan.steps import PromoteConfig, RemoveConfig, Rename, SetAutostart, SetQuarantine, WriteConfig
from reconciler.specs.secret_files import SECRET_FILES, without_values
from reconciler.texts.cfg_words import XL_WORDS, Words
from reconciler.texts.config_file import as_proven, render_file
from reconciler.texts.mark import split_mark
from reconciler.texts.quarantine_file import is_newer, render_quarantine

# `expected` is the digest of the file that was judged before, so that nothing written since is lost.
_REPLACE = """
replace() { # FROM TO
    if [ -e "$2" ]; then found=$(sha256_of "$2"); else found=''; fi
    [ "$found" = "$expected" ] || refuse "$2 was changed by someone else just now." "Plan again."
    persist "$1"
    mv -f -- "$1" "$2"
    persist "${2%/*}"
    [ "$(sha256_of "$2")" = "$sha256" ] || fail "$2 does not hold what was written to it."
}
"""

_RECEIVE = """
trap 'rm -f -- "$unfinished" "$unfinished.filled"' EXIT
cat >"$unfinished"
[ "$(sha256_of "$unfinished")" = "$sha256" ] || fail "The transfer of $target was cut short."
"""

_WRITE = (
    _REPLACE
    + SECRET_LINES_SH
    + """
mkdir -p -- "${target%/*}"
umask 077
"""
    + _RECEIVE
    + """
fill_secrets "$unfinished" "${earlier:-$target}"
sha256=$(sha256_of "$unfinished")
replace "$unfinished" "$target"
if [ "$obsolete" ]; then rm -f -- "$obsolete"; fi
"""
)

# A file of the dom0 itself keeps its owner and its mode, and a link to it stays one.
_EDIT = (
    _REPLACE
    + """
if [ -L "$target" ]; then target=$(readlink -f -- "$target"); fi
unfinished=${target%/*}/${unfinished##*/}
umask 022
if [ -e "$target" ]; then cp -p -- "$target" "$unfinished"; fi
"""
    + _RECEIVE
    + """
replace "$unfinished" "$target"
"""
)

# Waits for no disk: a domain is down while what failed is noted, and a busy dom0 may take minutes to write its caches.
_WRITE_IN_HASTE = f"""
persist() {{ :; }}
{_WRITE}"""

_HASTE_SECONDS = 30
_PERSIST_SECONDS = 10

# In this order a cut at any point leaves the candidate in place until the config file holds it, and done twice it ends
# the same: the config file is kept as the previous one only if it is another.
_PROMOTE = (
    _REPLACE
    + """
if [ ! -f "$candidate" ]; then
    [ "$expected" ] || fail "There is neither a candidate nor a config file."
    exit 0 # promoted already
fi
sha256=$(sha256_of "$candidate")
umask 077
trap 'rm -f -- "$unfinished" "$previous.unfinished"' EXIT
if [ "$keeps" ] && [ "$expected" != "$sha256" ]; then
    cp -- "$config" "$previous.unfinished"
    persist "$previous.unfinished"
    mv -f -- "$previous.unfinished" "$previous"
fi
cp -- "$candidate" "$unfinished"
replace "$unfinished" "$config"
rm -f -- "$candidate"
"""
)

_REMOVE = """
rm -f -- "$candidate" "$previous" "$quarantine" "$mark" "$started"
rmdir -- "$folder" 2>/dev/null || :
if [ -e "$config" ]; then
    [ "$(sha256_of "$config")" = "$expected" ] || refuse "$config was changed by someone else just now." "Plan again."
    rm -f -- "$config"
    persist "${config%/*}"
fi
"""

# The config file, whose mark makes the domain ours under its old name, goes last.
_MOVE = """
printf '%s\n' "$moved" | while read -r to && read -r from <&3; do
    [ -e "$from" ] || continue
    mkdir -p -- "${to%/*}"
    mv -f -- "$from" "$to"
done 3<<END
$kept
END
rm -f -- "$candidate"
rmdir -- "$folder" 2>/dev/null || :
if [ -e "$config" ]; then
    [ "$(sha256_of "$config")" = "$expected" ] || refuse "$config was changed by someone else just now." "Plan again."
    persist "${config%/*}"
    rm -f -- "$config"
    persist "${config%/*}"
fi
"""

# The new link is there before an old one goes. Only links to our config file are ours.
_LINK = """
if [ "$link" ]; then
    mkdir -p -- "$auto_dir"
    if [ -e "$auto_dir/$link" ] || [ -L "$auto_dir/$link" ]; then
        [ "$(readlink -f -- "$auto_dir/$link")" = "$(readlink -f -- "$config")" ] ||
            refuse "$auto_dir/$link is there and is not ours."
    else
        ln -s -- "$config" "$auto_dir/$link"
    fi
fi
for other in "$auto_dir"/*; do
    [ -L "$other" ] || continue
    [ "${other##*/}" != "$link" ] || continue
    case $(readlink -- "$other") in
    "$config" | "../${config##*/}") rm -f -- "$other" ;;
    esac
done
"""


async def write(
    shell: Dom0Shell, step: WriteConfig, fleet: str, commit: str | None, token: str, words: Words = XL_WORDS
) -> None:
    """Write the config file, or the candidate beside it. A config file that is not ours stays, unless adopted."""
    domain, dom0 = step.definition.name, shell.dom0
    target = dom0.candidate_path(domain) if step.candidate else dom0.config_path(domain)
    before = await _read_ours(shell, domain, target, fleet, anyone=step.adopt or step.candidate)
    proven = step.proven or step.candidate
    content = render_file(step.definition, fleet, commit, proven=proven, booted=step.booted, words=words).encode()
    # a candidate beside a definition that is written directly would be about an older one
    obsolete = "" if step.candidate else dom0.candidate_path(domain)
    given = _replacing(target, before, content, token, obsolete) | {"earlier": dom0.config_path(domain)}
    await shell.act(domain, "writing the config file failed", _WRITE, given, input=[content])


async def promote(shell: Dom0Shell, step: PromoteConfig, fleet: str, token: str) -> None:
    """Make the candidate the config file. The old one is kept as the previous one if it was proven."""
    dom0 = shell.dom0
    config = dom0.config_path(step.domain)
    before = await _read_ours(shell, step.domain, config, fleet, anyone=False)
    if step.first_boot:
        await _mark_proven(shell, step, before or b"", token)
        return
    mark, _body = split_mark((before or b"").decode(errors="surrogateescape"))
    given = {
        "config": config,
        "candidate": dom0.candidate_path(step.domain),
        "previous": dom0.previous_path(step.domain),
        "unfinished": _beside(config, token),
        "expected": _digest(before),
        "keeps": "yes" if step.replaces_previous and mark is not None and mark.proven else "",
    }
    await shell.act(step.domain, "promoting the candidate failed", _PROMOTE, given)


async def _mark_proven(shell: Dom0Shell, step: PromoteConfig, before: bytes, token: str) -> None:
    """Mark the config file as proven, after a first boot that got ready."""
    config = shell.dom0.config_path(step.domain)
    kept = without_values(before.decode(errors="surrogateescape"), SECRET_FILES.values())  # which stay on the host
    content = as_proven(kept).encode(errors="surrogateescape")
    given = _replacing(config, before, content, token)
    await shell.act(step.domain, "marking the config file as proven failed", _WRITE, given, input=[content])


async def begin_rename(
    shell: Dom0Shell, step: Rename, fleet: str, commit: str | None, token: str, words: Words = XL_WORDS
) -> None:
    """Write the config file under the new name. One that is there is ours, of a rename that was cut short."""
    target = shell.dom0.config_path(step.domain)
    before = await _read_ours(shell, step.domain, target, fleet, anyone=False)
    mark, _body = split_mark((before or b"").decode(errors="surrogateescape"))
    if mark is not None and mark.uuid != step.uuid:
        summary, detail = "name is taken", f"{target} is the config file of another domain of ours."
        raise refused(summary, detail, "Plan again.", address_of(shell.host, step.domain))
    content = render_file(step.definition, fleet, commit, proven=step.proven, words=words).encode()
    given = _replacing(target, before, content, token) | {"earlier": shell.dom0.config_path(step.old)}
    await shell.act(step.domain, "writing the config file failed", _WRITE, given, input=[content])


async def end_rename(shell: Dom0Shell, step: Rename, fleet: str, token: str) -> str:
    """Move what is kept of a domain to its new name, then remove its old config file. Returns a note, or ""."""
    dom0, said = shell.dom0, ""
    places = (dom0.previous_path, dom0.quarantine_path, dom0.console_mark_path, dom0.started_path, dom0.hold_path)
    config = dom0.config_path(step.old)
    order = step.definition.autostart
    if order is not None:
        said = await set_autostart(shell, SetAutostart(domain=step.domain, order=order), token)
    await set_autostart(shell, SetAutostart(domain=step.old, order=None), token)
    given = {
        "kept": "\n".join(place(step.old) for place in places),
        "moved": "\n".join(place(step.domain) for place in places),
        "candidate": dom0.candidate_path(step.old),
        "folder": f"{dom0.kernel_dir}/{step.old}",
        "config": config,
        "expected": _digest(await _read_ours(shell, step.old, config, fleet, anyone=False)),
    }
    await shell.act(step.domain, "moving what is kept of it failed", _MOVE, given)
    return said


async def remove(shell: Dom0Shell, step: RemoveConfig, fleet: str) -> None:
    """Remove the candidate, the previous file and, last, the config file, whose mark makes the domain ours."""
    dom0 = shell.dom0
    config = dom0.config_path(step.domain)
    given = {
        "config": config,
        "candidate": dom0.candidate_path(step.domain),
        "previous": dom0.previous_path(step.domain),
        "quarantine": dom0.quarantine_path(step.domain),
        "mark": dom0.console_mark_path(step.domain),
        "started": dom0.started_path(step.domain),
        "folder": f"{dom0.kernel_dir}/{step.domain}",
        "expected": _digest(await _read_ours(shell, step.domain, config, fleet, anyone=False)),
    }
    await shell.act(step.domain, "removing the config file failed", _REMOVE, given)


async def set_quarantine(shell: Dom0Shell, step: SetQuarantine, token: str) -> None:
    """Store the boots that failed, and drop the candidate, which was the last of them; () forgets them all."""
    dom0 = shell.dom0
    path = dom0.quarantine_path(step.domain)
    before = await _read(shell, step.domain, path, timeout_seconds=_HASTE_SECONDS)
    if before is not None and is_newer(before.decode(errors="replace")):
        raise _written_by_newer(shell, step.domain, path)
    if not step.entries:
        await shell.act(step.domain, "lifting the quarantine failed", 'rm -f -- "$path"', {"path": path})
        return
    failed = "writing the quarantine failed"
    content = render_quarantine(step.entries).encode()
    given = _replacing(path, before, content, token, dom0.candidate_path(step.domain))
    await shell.act(step.domain, failed, _WRITE_IN_HASTE, given, input=[content], timeout_seconds=_HASTE_SECONDS)
    try:
        await shell.act(step.domain, failed, 'persist "$path"', {"path": path}, timeout_seconds=_PERSIST_SECONDS)
    except ReconcilerError as error:
        if not error.diagnostics[0].transient:  # else a power cut may lose it, and what failed is tried once more
            raise


async def set_autostart(shell: Dom0Shell, step: SetAutostart, token: str) -> str:
    """Have the dom0 start the domain at boot, at its place among the others, or no longer.

    Returns a note for the user, or "".
    """
    dom0 = shell.dom0
    if dom0.flavour == "netbsd":
        return await _set_in_list(shell, step, token)
    given = {
        "auto_dir": dom0.auto_dir,
        "config": dom0.config_path(step.domain),
        "link": "" if step.order is None else f"{step.order:03d}-{step.domain}",
    }
    await shell.act(step.domain, "setting autostart failed", _LINK, given)
    return ""


async def _set_in_list(shell: Dom0Shell, step: SetAutostart, token: str) -> str:
    """Edit the list of a NetBSD host in the files that set it. Returns a note where it finds no config file of ours."""
    found = {path: await _read(shell, step.domain, path) for path in rc_conf.LISTS}
    texts = {path: content.decode(errors="surrogateescape") for path, content in found.items() if content is not None}
    try:
        written = rc_conf.write_lists(texts, step.domain, step.order)
    except rc_conf.NotUnderstoodError as error:
        raise world_error(
            "setting autostart failed",
            f"{error.path} on {shell.host} is not understood, so it is left alone: {error}",
            'Write one line of the form xendomains="foo bar".',
            address_of(shell.host, step.domain),
        ) from None
    for path, text in written.items():
        content = text.encode(errors="surrogateescape")
        given = _replacing(path, found[path], content, token)
        await shell.act(step.domain, "setting autostart failed", _EDIT, given, input=[content])
    config_dir = shell.dom0.config_dir
    elsewhere = None if step.order is None else rc_conf.looks_elsewhere(texts, config_dir)
    if elsewhere is None:
        return ""
    return (
        f"xendomains looks for {elsewhere.replace('%s', step.domain)}, where no config file of ours is; "
        f'in /etc/rc.conf: xendomains_config="{config_dir}/%s"'
    )


async def _read_ours(shell: Dom0Shell, domain: str, path: str, fleet: str, *, anyone: bool) -> bytes | None:
    """Read the file at `path`; None when there is none. Refuses a file without our mark, unless `anyone` may own it."""
    content = await _read(shell, domain, path)
    if content is None:
        return None
    mark, _body = split_mark(content.decode(errors="surrogateescape"))
    if mark is not None and mark.newer is not None:
        raise _written_by_newer(shell, domain, path)
    if not anyone and (mark is None or mark.fleet != fleet or mark.name != domain):
        whose = "bears no mark of reconciler" if mark is None else f"belongs to the fleet {mark.fleet!r}"
        address = address_of(shell.host, domain)
        raise refused(
            "config file is not ours",
            f"{path} {whose}, so it is left alone.",
            f"To take it over: reconciler apply --adopt {address}",
            address,
        )
    return content


def _written_by_newer(shell: Dom0Shell, domain: str, path: str) -> ReconcilerError:
    return refused(
        "a newer version manages it",
        f"A newer version of reconciler wrote {path}, so it is left alone.",
        "Upgrade reconciler on this controller.",
        address_of(shell.host, domain),
    )


def _replacing(path: str, before: bytes | None, content: bytes, token: str, obsolete: str = "") -> dict[str, str]:
    """Make the values for _WRITE, which puts `content` in place of what was read before.

    `obsolete` is a file that is removed after that.
    """
    return {
        "target": path,
        "expected": _digest(before),
        "sha256": _digest(content),
        "unfinished": _beside(path, token),
        "obsolete": obsolete,
    }


def _digest(content: bytes | None) -> str:
    """Return the sha256 of a file's content; "" for no file."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


async def _read(shell: Dom0Shell, domain: str, path: str, *, timeout_seconds: float = 120) -> bytes | None:
    script = 'if [ -e "$path" ]; then [ -f "$path" ] || fail "$path is no plain file."; echo file; cat -- "$path"; fi'
    answer = await shell.act(
        domain, "reading a file failed", script, {"path": path}, timeout_seconds=timeout_seconds, looks=True
    )
    found, _, content = answer.partition("\n")
    return content.encode(errors="surrogateescape") if found else None


def _beside(path: str, token: str) -> str:
    """Return a name in the same folder that no glob for config files matches."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.reconciler-{token}"
