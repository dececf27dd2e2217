"""Observes a host whose toolstack is xl or xm: one script there and back, and its output becomes a `Host`.

Called by `reconcile` through the Observer protocol. The script (`observe.sh`) changes nothing, and this object is given
nothing that could.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files as resources
from pathlib import Path

from reconciler.decide.holds import read_hold
from reconciler.doctor.facts import Examination
from reconciler.doctor.reading import autoballoon
from reconciler.dom0 import autostart, examine, rc_conf
from reconciler.dom0.answer import Answer, fields_of, file_facts, pci_devices, texts_of, vg_free_bytes
from reconciler.dom0.connection import Connection, Result
from reconciler.dom0.layout import Dom0, dom0_of
from reconciler.dom0.lock import look_at_lock, read_holder
from reconciler.dom0.rehearsals.seen import leftovers_of, look_at_rehearsals, paused_for_snapshots, snapshots_of
from reconciler.dom0.sending.fence import look_at_commands, read_commands
from reconciler.dom0.shell import SECRET_LINES_SH
from reconciler.expressions import expression
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, world_error
from reconciler.model.domain import address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Hold, Host, Owner, Power
from reconciler.specs.resolve.images import POINTER, POINTER_BEGINS
from reconciler.specs.secret_files import told_by_files
from reconciler.texts.config_file import read_file
from reconciler.texts.daemons import Daemons, read_daemons
from reconciler.texts.guests import LiveDomain, assemble_guests, live_domains_of, with_past
from reconciler.texts.listing import XlOutputError, parse_info
from reconciler.texts.running import without_unplugged
from reconciler.texts.xenstore import read_store
from reconciler.toolstack import Question
from reconciler.waiting import Clock, MachineClock
from reconciler.xl import last_look
from reconciler.xl.commands import not_understood, refused_to_run, toolstack_fails, toolstack_missing
from reconciler.xl.dialect import XL, Dialect
from reconciler.xl.digest_cache import DigestCache
from reconciler.xl.events import listen
from reconciler.xl.processes import functions

_OBSERVE_SECONDS = 120
_HASH_SECONDS = 600  # the first pass over a host may have many images to read
_SECOND_LOOK_SECONDS = 3
_TOOL_MISSING = 127
_SAID_MAX = 200  # characters of what an error says of an answer
_STAGED = expression(r".*/[^/]+\.(?P<digest>[0-9a-f]{12})")
_ROOT = ""  # of the system's folders on the dom0
_TOOLS = {  # section -> what writes it
    "store": "xenstore-ls",
    "texts": "tar",
    "files": "stat",
    "real_paths": "readlink or realpath",
    "images": "stat",
    "digests": "sha256sum or cksum",
    "daemons": "ps",
    "autostart": "find or ls",
    "bridges": "ifconfig or ovs-vsctl",
    "groups": "vgs",
}


class XlObserver:
    """Reads one host. It keeps file digests from one pass to the next, in `state_dir` or in memory."""

    def __init__(
        self,
        settings: HostSettings,
        fleet: str,
        state_dir: Path | None,
        connection: Connection | None = None,
        *,
        clock: Clock | None = None,
        dialect: Dialect = XL,
    ) -> None:
        self.name = settings.name
        self.connection = connection or Connection(settings.name, settings.connect)
        self._settings = settings
        self._fleet = fleet
        self._dialect = dialect
        self._clock = clock or MachineClock()
        self._missing: frozenset[str] | None = None  # at the last look; None: this process has not looked yet
        kept = None if state_dir is None else state_dir / "cache"
        self._seen = None if kept is None else kept / "looks" / f"{settings.name}.json"
        self._cache = DigestCache(None if kept is None else kept / "digests" / f"{settings.name}.json")

    async def observe(self, question: Question) -> Host:
        """Return the host as it is. If a domain of ours that should run is missing or rebooting, look again after 3 s.

        One that was missing at the last look already gets no second one: it stays down, or nobody has started it yet.
        Where that look was another process's, longer ago, it also has to be seen that no process of xl brings it back.
        """
        host, daemons = await self._look(question)
        known = self._missing
        if known is None:
            recalled = last_look.recall(self._seen, host.boot_id)
            known = frozenset(name for name in recalled if not daemons.may_bring_back(name))
        if any(_deserves_a_second_look(guest, known) for guest in host.guests.values()):
            await self._clock.sleep(_SECOND_LOOK_SECONDS)
            host, _ = await self._look(question)
        self._missing = frozenset(name for name, guest in host.guests.items() if guest.power is Power.ABSENT)
        last_look.remember(self._seen, host.boot_id, self._missing)
        return host

    async def events(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        await listen(self.connection, heard, tell)

    async def close(self) -> None:
        await self.connection.close()

    async def examine(self, question: Question) -> Examination:
        """Return the host and what its dom0 tells of itself, from one look and one script."""
        result, boundary = await self._ask(question, examine.script(self.connection, self._settings))
        now = time.time()
        return await asyncio.to_thread(lambda: self._examined(question, Answer(self.name, result, boundary), now))

    def _examined(self, question: Question, answer: Answer, now: float) -> Examination:
        dom0 = dom0_of(answer.lines("system")[0], self._settings)
        facts = examine.facts_of(answer, dom0, self.connection, now, self._dialect.rows, self._dialect.tool)
        try:
            return Examination(host=self._understood(question, answer)[0], facts=facts)
        except ReconcilerError as error:
            return Examination(host=replace(error.diagnostics[0], address=self.name), facts=facts)

    async def _look(self, question: Question) -> tuple[Host, Daemons]:
        result, boundary = await self._ask(question)
        return await asyncio.to_thread(lambda: self._understood(question, Answer(self.name, result, boundary)))

    async def _ask(self, question: Question, more: str = "") -> tuple[Result, str]:
        """Run the script, and `more` behind it; return its output, and what closes the sections in it."""
        boundary = secrets.token_hex(16)
        timeout_seconds = _OBSERVE_SECONDS if self._cache.known() else _HASH_SECONDS
        rehearsals = look_at_rehearsals(rehearses=bool(question.rehearsed) and self._dialect is XL)
        script = self._script(question, boundary) + look_at_lock(self._settings) + rehearsals + more
        return await self.connection.script(script, timeout_seconds=timeout_seconds), boundary

    def _understood(self, question: Question, answer: Answer) -> tuple[Host, Daemons]:
        """Make a Host of the output, and tell of the processes of xl. Runs in a thread, since it may be much."""
        try:
            _check_toolstack(self.name, self._dialect.tool, answer)
            _check_tools(self.name, answer)
            return self._host(question, answer), read_daemons(answer.lines("daemons"))
        except XlOutputError as error:
            raise not_understood(self.name, self._dialect.tool, error) from error
        except (LookupError, ValueError) as error:  # a host may say anything
            what = f"A part is missing, or is not what it should be ({type(error).__name__}: {str(error)[:_SAID_MAX]})."
            raise not_understood(self.name, self._dialect.tool, XlOutputError(what)) from error

    def _script(self, question: Question, boundary: str) -> str:
        roots = self._settings.disk_roots
        given = {
            "boundary": boundary,
            "tool": self._dialect.tool,
            "config_dir": (self._settings.config_dir or "").rstrip("/"),
            "kernel_dir": self._settings.kernel_dir.rstrip("/"),
            "images": "\n".join(question.images),
            "files": "\n".join(question.files),
            "known": "\n".join(self._cache.known()),
            "root": _ROOT,
            "secrets": "\n".join(map("|".join, question.secrets)),
            "pointer": POINTER,
            "pointer_begins": POINTER_BEGINS.decode(),
            "want_lvm": "1" if any(root.startswith("/dev") or "/" not in root for root in roots) else "0",
        }
        assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
        script = resources("reconciler.xl").joinpath("observe.sh").read_text()
        return f"{assignments}{functions()}{SECRET_LINES_SH}{look_at_commands(self._settings)}{script}"

    def _host(self, question: Question, answer: Answer) -> Host:
        dom0 = dom0_of(answer.lines("system")[0], self._settings)
        info = parse_info(answer.text("info"))
        texts = texts_of(answer)
        digests = self._digests(answer)
        staged = {path: digest for path, digest in digests.items() if _is_staged(path, digest, dom0.kernel_dir)}
        leftovers = leftovers_of(answer)
        under_way, stuck = read_commands(answer.lines("commands") if answer.has("commands") else [])
        throwaways = {left.name: left.uuid for left in leftovers}
        paused = paused_for_snapshots(answer)
        names = [*answer.lines("config_names"), *answer.lines("unread_names")]
        configs, candidates = _configs_and_candidates(names, texts, dom0)
        guests, nameless_kib = assemble_guests(
            fleet=self._fleet,
            configs=configs,
            candidates=candidates,
            instances=[
                replace(one, power=Power.RUNNING) if one.power is Power.PAUSED and one.domid in paused else one
                for one in _instances(answer, self._dialect)
                if one.uuid not in throwaways.values()
            ],
            images=staged,
            present=digests,
            autostart=_autostart(answer, texts, dom0),
            started=_started(names, answer.boot_id, texts, dom0),
            saved={
                path.rpartition("/")[2]: path
                for path in answer.lines("saved")
                if path.rpartition("/")[2] not in throwaways
            },
            words=self._dialect.words,
        )
        guests = told_by_files(guests, question.secrets, answer.has_password)
        files = file_facts(answer)
        return Host(
            name=self.name,
            total_kib=info.total_kib,
            free_kib=info.free_kib,
            cpus=info.cpus,
            flavour=dom0.flavour,
            xen_version=info.xen_version,
            boot_id=answer.boot_id,
            autoballoon=_autoballoon(texts, info.dom0_mem, self._dialect.tool),
            bridges=frozenset(answer.lines("bridges")),
            pci=pci_devices(answer) if dom0.flavour == "debian" else None,
            guests={name: self._with_past(guest, texts, digests, dom0) for name, guest in guests.items()},
            nameless_kib=nameless_kib,
            images=staged,
            digests={path: digests[path] for path in question.images if path in digests},
            unstaged={
                path: digest
                for path, digest in digests.items()
                if digest != POINTER and not path.startswith(f"{dom0.kernel_dir}/")
            },
            files=files,
            snapshots=snapshots_of(answer, files, dom0.flavour) if self._dialect is XL else None,
            leftovers=leftovers,
            vg_free_bytes=vg_free_bytes(answer),
            holds=_holds(answer, texts, dom0),
            locked=read_holder(answer.lines("lock")) if answer.has("lock") else None,
            under_way=under_way,
            stuck=stuck,
            notes=(
                *_started_besides(self.name, answer, texts, dom0, guests),
                *_list_is_strange(self.name, texts, dom0),
            ),
        )

    def _with_past(self, guest: Guest, texts: Mapping[str, str], images: Mapping[str, str], dom0: Dom0) -> Guest:
        previous, quarantine = texts.get(dom0.previous_path(guest.name)), texts.get(dom0.quarantine_path(guest.name))
        return with_past(guest, previous=previous, quarantine=quarantine, images=images, words=self._dialect.words)

    def _digests(self, answer: Answer) -> dict[str, str]:
        """Map every image on the host to its sha256: read just now, or known since it has not changed."""
        fresh = {line[64:].lstrip(): line[:64] for line in answer.lines("digests")}
        known = self._cache.known()
        kept: dict[str, str] = {}
        digests: dict[str, str] = {}
        for line in answer.lines("images"):
            path = fields_of(line)[-1]
            digest = fresh.get(path) or known.get(line)
            if digest is not None:
                kept[line] = digests[path] = digest
        self._cache.remember(kept)
        return digests


def _deserves_a_second_look(guest: Guest, known_missing: frozenset[str]) -> bool:
    """Return whether a guest may only be rebooting: that takes about two seconds, and then it is back."""
    if guest.owner is not Owner.OURS or guest.config is None:
        return False
    missing = guest.power is Power.ABSENT and guest.config.state == "running" and guest.name not in known_missing
    return missing or guest.power is Power.REBOOTING


def _check_toolstack(host: str, tool: str, answer: Answer) -> None:
    """Raise when xl (or xm) is missing, when we may not use it, or when it fails."""
    failed = next((answer.status(section) for section in ("info", "list", "long") if answer.status(section) != 0), None)
    if failed == _TOOL_MISSING:
        raise toolstack_missing(host, tool)
    if answer.lines("system")[1] != "0":
        raise refused_to_run(host, tool)
    if failed is not None:
        raise toolstack_fails(host, tool, failed, answer.errors)


def _check_tools(host: str, answer: Answer) -> None:
    """Raise when a tool of the dom0 failed: what it left out would look as if it did not exist."""
    failed = next((section for section in _TOOLS if answer.status(section) != 0), None)
    unread = set(answer.lines("config_names")) - answer.files("texts").keys() if failed is None else set()
    if failed is None and not unread:
        return
    what = _TOOLS[failed] if failed is not None else "tar"
    said = answer.errors.rpartition("\n")[2] or (f"it did not read {min(unread)}" if unread else "it gave no reason")
    raise world_error(
        "a tool of the dom0 failed",
        f"{what} failed on {host}, so what is there is not known: {said}",
        f"Look whether {what} works there; a file that was just being replaced is there at the next look.",
        host,
        transient=True,
    )


def _is_staged(path: str, digest: str, kernel_dir: str) -> bool:
    """Return whether an image holds the bytes that its name says. One that is damaged or half written does not."""
    name = _STAGED.fullmatch(path)
    return path.startswith(f"{kernel_dir}/") and name is not None and digest.startswith(name["digest"])


def _configs_and_candidates(
    paths: Sequence[str], texts: Mapping[str, str], dom0: Dom0
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of config files and candidates by domain.

    A config file that cannot be read has the text "", since its name is taken all the same.
    """
    configs: dict[str, str] = {}
    candidates: dict[str, str] = {}
    for path in paths:
        config_of, candidate_of = dom0.domain_of_config(path), dom0.domain_of_candidate(path)
        if config_of is not None:
            configs[config_of] = texts.get(path, "")
        elif candidate_of is not None and path in texts:
            candidates[candidate_of] = texts[path]
    return configs, candidates


def _instances(answer: Answer, dialect: Dialect) -> list[LiveDomain]:
    """Make the list of live domains: what is listed, with age, devices and processes where these are known."""
    instances = live_domains_of(dialect.rows(answer.text("list")), dict(dialect.configs(answer.text("long"))))
    now, *lines = answer.lines("store") or ("",)
    store, daemons = read_store(dialect.store(lines)), read_daemons(answer.lines("daemons"))
    return [
        replace(
            instance,
            config=without_unplugged(instance.config, store.unplugged.get(instance.domid or 0, frozenset())),
            running_seconds=_seconds_since(now, store.booted.get(instance.uuid)),
            devices=store.devices.get(instance.domid if instance.domid is not None else -1),
            served=_served(instance, daemons) if dialect.leaves_processes else None,
            power=_power(instance, daemons),
        )
        for instance in instances
    ]


def _power(instance: LiveDomain, daemons: Daemons) -> Power:
    made = instance.power is Power.UNFINISHED and daemons.make(instance.name)
    return Power.STARTING if made else instance.power


def _served(instance: LiveDomain, daemons: Daemons) -> bool | None:
    return daemons.serve(instance.name, is_at_rest=instance.power in (Power.REBOOTING, Power.SHUTDOWN))


def _seconds_since(now: str, then: int | None) -> float | None:
    return None if then is None or not now.isdecimal() else float(max(0, int(now) - then))


def _started(names: Sequence[str], boot_id: str, texts: Mapping[str, str], dom0: Dom0) -> dict[str, str]:
    """Return the text that each domain was last started from, in this boot of the dom0."""
    domains = {dom0.domain_of_config(path) or dom0.domain_of_candidate(path) or "" for path in names}
    noted = {name: texts.get(dom0.started_path(name), "").partition("\n") for name in domains - {""}}
    return {name: text for name, (boot, _, text) in noted.items() if boot and boot == boot_id}


def _holds(answer: Answer, texts: Mapping[str, str], dom0: Dom0) -> dict[str, Hold]:
    """Return the holds that last now by the host's clock."""
    now = float(answer.lines("store")[0])
    held = {dom0.held_by(path): read_hold(text, now) for path, text in texts.items()}
    return {name: hold for name, hold in held.items() if name is not None and hold is not None}


def _autostart(answer: Answer, texts: Mapping[str, str], dom0: Dom0) -> dict[str, int]:
    if dom0.flavour == "debian":
        return autostart.read_links(answer.lines("autostart"), dom0)
    with suppress(rc_conf.NotUnderstoodError):  # which `_list_is_strange` tells
        return rc_conf.read_lists(_lists(texts))
    return {}


def _lists(texts: Mapping[str, str]) -> dict[str, str]:
    return {path: texts[f"{_ROOT}{path}"] for path in rc_conf.LISTS if f"{_ROOT}{path}" in texts}


def _list_is_strange(host: str, texts: Mapping[str, str], dom0: Dom0) -> Iterator[Diagnostic]:
    """Tell of a list of NetBSD's xendomains that is not understood: nothing is known of what the dom0 starts."""
    if dom0.flavour != "netbsd":
        return
    try:
        rc_conf.read_lists(_lists(texts))
    except rc_conf.NotUnderstoodError as error:
        yield Diagnostic(
            kind=Kind.NOTE,
            summary=f"what {host} starts at boot is not known",
            detail=f"{error.path} on {host} is not understood, so it is left alone: {error}",
            hint='for autostart in specs, write there one line of the form xendomains="foo bar"',
            address=host,
        )


def _started_besides(
    host: str, answer: Answer, texts: Mapping[str, str], dom0: Dom0, guests: Mapping[str, Guest]
) -> Iterator[Diagnostic]:
    """Tell of files that the dom0 starts at boot and that define a domain of ours, but are not its config."""
    folder = f"{_ROOT}{dom0.auto_dir}/"
    links = (line.partition("\t") for line in answer.lines("autostart"))
    known = {name for name, _, target in links if dom0.domain_of_config(posixpath.join(dom0.auto_dir, target))}
    for path in sorted(path for path in texts if path.startswith(folder)):
        domain = None if path.removeprefix(folder) in known else read_file(texts[path], {}).domain
        if domain is None or domain.name not in guests or guests[domain.name].owner is not Owner.OURS:
            continue
        yield Diagnostic(
            kind=Kind.NOTE,
            summary=f"{host}/{domain.name} is also started from another file",
            detail=f"At boot {host} starts {path}, which defines a domain {domain.name} too, beside its config file.",
            hint=f"set autostart in its spec, and on the host: rm {shlex.quote(path)}",
            address=address_of(host, domain.name),
        )


def _autoballoon(texts: Mapping[str, str], dom0_mem: bool, tool: str = "xl") -> bool:
    """Read `autoballoon` in xl.conf. Its default "auto" means off where Xen's command line has dom0_mem.

    xend has a word of its own for it; where that allows ballooning, it does so down to the least that dom0 may have.
    """
    if tool == "xm":
        xend = "\n".join(text for path, text in texts.items() if path.endswith("/xend-config.sxp"))
        return not dom0_mem and not re.search(r"^[ \t]*\(enable-dom0-ballooning[ \t]+(no|0)\)", xend, re.MULTILINE)
    setting = autoballoon("\n".join(text for path, text in texts.items() if path.endswith("/xl.conf")))
    return setting == "on" or (setting == "auto" and not dom0_mem)
