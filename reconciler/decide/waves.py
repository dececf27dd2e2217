"""Decides which restarts wait since a lower wave is not through, or what they boot has failed. Called by `together`.

Domains of lower waves are ready before higher ones begin. `plan` orders what this run brings through. Here it is found
what this run will not bring through, or what nobody knows, and which restarts wait for that. `plan`, `apply` and
`watch` all go by this one rule, so no run of any of them walks a bad kernel, ramdisk or cmdline through a fleet.

>>> from tests.worlds import NEW, change_of, desired, domain, guest, host, kernel, plan
>>> from reconciler.model.domain import Policy
>>> db = domain("db", kernel=kernel("db", NEW), policy=Policy(wave=0, restart="defer"))
>>> web = domain("web", kernel=kernel("web", NEW), policy=Policy(wave=1))
>>> change_of(plan(host(guest(domain("db")), guest(domain("web"))), desired(db, web)), "web").reason
'wave 0 is not through: alpha/db is deferred'
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.decide.changes import DEFERRED, Action, Change, Consent
from reconciler.decide.dependencies import recorded_wave, wave_of
from reconciler.decide.diff import Effect, align_vifs, compare
from reconciler.decide.ownership import as_adopted, with_identity_of
from reconciler.decide.partial import restart_later, without_boot
from reconciler.decide.unusable import why_unusable
from reconciler.model.boot import ROLLED_BACK
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import Desired, HostSettings
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.records import dataclass

# states that end by themselves, or by somebody else's hand, and nobody can tell how
_UNKNOWN = (
    Power.PAUSED,
    Power.STARTING,
    Power.UNFINISHED,
    Power.REBOOTING,
    Power.SUSPENDED,
    Power.MIGRATING,
    Power.DYING,
    Power.SAVED,
)

Novelty = tuple[str, str]
"""Something that a domain is to boot and has not proven: the key of its spec, and its digest or its text."""

WAITS_FOR = ("wave: ", "host: ", "kernel: ", "ramdisk: ", "cmdline: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A domain (or a host) that is to restart and does not, or about which nobody can tell."""

    address: str
    wave: int
    why: str
    way_out: str
    novelties: frozenset[Novelty] | None = None  # it holds only restarts that bring one of these; None: all of them


def held_by_waves(
    changes: Sequence[Change],
    closed: Iterable[Change],
    desired: Desired,
    hosts: Mapping[str, Host],
    consent: Consent,
    elsewhere: Collection[str] = (),
) -> dict[str, Change]:
    """Return the restarts that wait, by address, each as what of it can be done for now.

    `closed` are the changes after all that depends_on does to them; `elsewhere` are names that other hosts hold.
    """
    restarts = [change for change in changes if change.action is Action.RESTART and not _leads_back(change, consent)]
    if not restarts:
        return {}
    order = _Order(closed, desired, hosts, consent, elsewhere)
    waits = ((change, order.wait(change)) for change in restarts)
    return {change.address: _waiting(change, hosts[change.host], wait) for change, wait in waits if wait is not None}


def with_waves(
    closed: Sequence[Change],
    desired: Desired,
    hosts: Mapping[str, Host],
    consent: Consent,
    elsewhere: Collection[str] = (),
) -> list[Change]:
    """Return the changes with the wave told also of those restarts that something else holds as well."""
    held = [change for change in closed if _is_held_already(change, desired) and not _leads_back(change, consent)]
    if not held:
        return list(closed)
    order = _Order(closed, desired, hosts, consent, elsewhere)
    waits = {change.address: wait for change in held if (wait := order.wait(change)) is not None}
    return [
        replace(change, waits_for=tuple(dict.fromkeys((*change.waits_for, waits[change.address].waits_for))))
        if change.address in waits
        else change
        for change in closed
    ]


def _is_held_already(change: Change, desired: Desired) -> bool:
    part = desired.hosts[change.host]
    wanted = part.domains.get(change.domain)
    if change.would is not Action.RESTART or wanted is None:
        return False
    return wanted.policy.reconcile and part.settings.reconcile


class _Order:
    """Knows which domains are behind, so which restarts wait for one of them."""

    def __init__(
        self,
        closed: Iterable[Change],
        desired: Desired,
        hosts: Mapping[str, Host],
        consent: Consent,
        elsewhere: Collection[str],
    ) -> None:
        closed = list(closed)
        behind = sorted(_all_behind(closed, desired, hosts, elsewhere), key=lambda one: (one.wave, one.address))
        self._lowest = next((one for one in behind if one.novelties is None), None)
        self._rolled_back: dict[Novelty, Behind] = {}
        for one in behind:
            for novelty in one.novelties or ():
                self._rolled_back.setdefault(novelty, one)
        self._failed = _failed(closed, desired)
        self._desired, self._consent = desired, consent

    def wait(self, change: Change) -> _Wait | None:
        """Return what a restart waits for; None when nothing of lower waves, or of what it boots, holds it."""
        wave, brings = wave_of(change, self._desired), sorted(_brought(change))
        lower = [self._lowest, *(self._rolled_back.get(novelty) for novelty in brings)]
        behind = next((one for one in lower if one and one.wave < wave and one.address != change.address), None)
        if behind is not None:
            return _for_wave(behind)
        failed = self._failed
        same = next((novelty for novelty in brings if failed.get(novelty, change.address) != change.address), None)
        if same is None or change.address in self._consent.retry:
            return None
        return _for_boot(same[0], failed[same], change)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    reason: str
    waits_for: str
    hint: str


def _for_wave(one: Behind) -> _Wait:
    return _Wait(
        reason=f"wave {one.wave} is not through: {one.address} {one.why}",
        waits_for=f"wave: {one.address}",
        hint=f"{one.way_out}, or give it another wave, or reconcile = false, in a commit",
    )


def _for_boot(what: str, culprit: str, change: Change) -> _Wait:
    return _Wait(
        reason=f"its restart waits, since the {what} failed to boot in {culprit}",
        waits_for=f"{what}: {culprit}",
        hint=f"change the {what}, or try it in this domain all the same: reconciler apply --retry {change.address}",
    )


def _waiting(change: Change, host: Host, wait: _Wait) -> Change:
    """Return what is left of a restart that waits: live changes, and what has to be kept on the host."""
    return restart_later(
        change,
        without_boot(host, change),
        reason=wait.reason,
        waits_for=wait.waits_for,
        hint=wait.hint,
        pending_why=f"waits for {wait.waits_for}",
    )


def waits_for_another(change: Change) -> bool:
    """Return whether what is to be done with a domain waits until another one has got through."""
    is_held = change.would is not None and change.blocked is None
    return is_held and any(what.startswith(WAITS_FOR) for what in change.waits_for)


def _leads_back(change: Change, consent: Consent) -> bool:
    """Return whether a change is a rollback, or a restart into what last worked. No wave holds these."""
    return change.parked or change.quarantined is not None or change.address in consent.rollback


def _all_behind(
    changes: Iterable[Change], desired: Desired, hosts: Mapping[str, Host], elsewhere: Collection[str]
) -> Iterator[Behind]:
    waves = [domain.policy.wave for part in desired.hosts.values() for domain in part.domains.values()]
    waves += [wave for wave in desired.waves_of_frozen.values() if wave is not None]
    below_all = min(waves, default=0) - 1  # where one may be whose wave nobody knows
    for host in sorted(host for host in desired.frozen if "/" not in host):
        found = [below_all if wave is None else wave for wave in _waves_on(host, desired)]
        if found:
            yield Behind(address=host, wave=min(found), why="has errors in its host.toml", way_out="mend that file")
    for address in sorted(address for address in desired.frozen if "/" in address):
        host, name = address.split("/", 1)
        guest = hosts[host].guests.get(name) if host in hosts else None
        if host not in hosts or (guest is not None and guest.owner is Owner.OURS and _is_to_reconcile(guest)):
            why = "is frozen, since its spec file has errors"
            recorded = recorded_wave(guest) if guest is not None else None
            wave = below_all if recorded is None else recorded
            yield Behind(address=address, wave=wave, why=why, way_out="mend that file")
    for host in sorted(desired.hosts.keys() - hosts.keys() - desired.forgotten):
        for name, domain in sorted(desired.hosts[host].domains.items()):
            if domain.policy.reconcile and desired.hosts[host].settings.reconcile:
                why = f"cannot be seen, since {host} could not be observed"
                way_out = f"wait until {host} answers, or give it up: reconciler forget {host}"
                yield Behind(address=address_of(host, name), wave=domain.policy.wave, why=why, way_out=way_out)
    for change in changes:
        part = desired.hosts[change.host]
        wanted = part.domains.get(change.domain)
        if wanted is not None and wanted.policy.reconcile and part.settings.reconcile:
            yield from _behind(change, wanted, elsewhere)
            yield from _not_ours_yet(change, wanted, hosts[change.host], part.settings)
            if change.address in desired.unusable:  # whether it would restart, nobody can tell
                why = f"cannot be brought to its spec: {why_unusable(desired.unusable[change.address])}"
                yield Behind(
                    address=change.address, wave=wanted.policy.wave, why=why, way_out="put the right file there"
                )


def _waves_on(host: str, desired: Desired) -> list[int | None]:
    """Return the waves of the domains of a host whose host.toml has errors; None for one that nobody knows."""
    return [wave for address, wave in desired.waves_of_frozen.items() if address.partition("/")[0] == host]


def _is_to_reconcile(guest: Guest) -> bool:
    return guest.config is None or guest.config.policy.reconcile


def _behind(change: Change, wanted: Domain, elsewhere: Collection[str]) -> Iterator[Behind]:
    """Yield a domain of ours that exists and is behind: it should restart or start, but does not, or nobody knows."""
    guest = change.guest
    ours = guest is not None and (guest.owner is Owner.OURS or change.action is Action.ADOPT)
    made = guest.definition is not None if guest is not None and ours else guest is None and change.domain in elsewhere
    told = _why_behind(change) if made else None
    if told is not None:
        why, way_out = told
        rolled_back = change.quarantined is not None and change.quarantined.reason == ROLLED_BACK
        novelties = _unproven(change, wanted) if rolled_back else None
        yield Behind(address=change.address, wave=wanted.policy.wave, why=why, way_out=way_out, novelties=novelties)


def _not_ours_yet(change: Change, wanted: Domain, host: Host, settings: HostSettings) -> Iterator[Behind]:
    """Yield a running domain that its spec asks to restart, or may, and that nobody has let us take over."""
    guest = change.guest
    if guest is None or guest.owner is Owner.OURS or not guest.exists or change.action is Action.ADOPT:
        return
    if wanted.state == "stopped":
        return
    if guest.running is not None:
        runs = as_adopted(host, settings, guest.running)
        keeps_identity = guest.owner is Owner.FOREIGN and runs.uuid != wanted.uuid
        adopted = with_identity_of(runs, wanted)[0] if keeps_identity else wanted
        fields = compare(runs, align_vifs(adopted, runs), host, running=True)
        if not any(field.effect is Effect.RESTART and not field.waits for field in fields):
            return
    why = "is not managed by reconciler, so it does not get what its spec asks for"
    way_out = f"reconciler apply --adopt {change.address}"
    yield Behind(address=change.address, wave=wanted.policy.wave, why=why, way_out=way_out)


def _why_behind(change: Change) -> tuple[str, str] | None:
    guest = change.guest
    if guest is not None and guest.power in _UNKNOWN and not change.acts:
        return f"is {guest.power.value}, so nobody can tell", change.hint or "wait until that has ended"
    if change.quarantined is not None:
        rolled_back = change.quarantined.reason == ROLLED_BACK
        why = "was rolled back by hand" if rolled_back else "is quarantined"
        return why, f"reconciler apply --retry {change.address}"
    if change.parked and change.would in (Action.RESTART, Action.START):
        return "is not selected in this run", f"reconciler apply --target {change.address}"
    if change.blocked is not None and change.would in (Action.RESTART, Action.START, None):
        return f"is blocked: {change.blocked}", change.hint or "do what its refusal says"
    if change.would in (Action.RESTART, Action.START):
        return _why_held(change)
    return None


def _why_held(change: Change) -> tuple[str, str]:
    if change.hold is not None:
        return f"is {change.hold}", change.hint or f"reconciler unhold {change.address}"
    if change.awaits_window:
        return "waits for a window", change.hint or "wait until it opens"
    if change.action is Action.ADOPT:
        return "is taken over first, and restarts after that", "plan again when that is done"
    if DEFERRED in change.waits_for:
        return "is deferred", f"reconciler apply --restart {change.address}"
    return f"is left alone: {change.reason}", f"see why: reconciler why {change.address}"


def _failed(changes: Iterable[Change], desired: Desired) -> dict[Novelty, str]:
    """Map what failed to boot, and is still asked for, to the address in which it did.

    What another domain has proven is not what failed, where something else was new as well.
    """
    changes = list(changes)
    found: dict[Novelty, str] = {}
    proven: frozenset[Novelty] | None = None
    for change in changes:
        wanted = desired.hosts[change.host].domains.get(change.domain)
        if wanted is not None and change.quarantined is not None and change.quarantined.reason != ROLLED_BACK:
            proven = _proven(changes) if proven is None else proven
            unproven = _unproven(change, wanted)
            for novelty in unproven - proven or unproven:
                found.setdefault(novelty, change.address)
    return found


def _proven(changes: Iterable[Change]) -> frozenset[Novelty]:
    """Return what any of our domains has got ready with."""
    guests = (change.guest for change in changes)
    configs = (guest.config for guest in guests if guest and guest.owner is Owner.OURS and guest.config_proven)
    return frozenset().union(*(_booted(config) for config in configs if config is not None))


def _unproven(change: Change, wanted: Domain) -> frozenset[Novelty]:
    """Return what the spec has a domain boot that it has never been ready with, as far as its host knows."""
    guest = change.guest
    proven = guest.config if guest is not None and guest.config_proven else None
    return _booted(wanted) - (_booted(proven) if proven is not None else frozenset())


def _brought(change: Change) -> frozenset[Novelty]:
    """Return what a restart has a domain boot that it does not run already."""
    running = change.guest.running if change.guest is not None else None
    if change.target is None:
        return frozenset()
    return _booted(change.target) - (_booted(running) if running is not None else frozenset())


def _booted(definition: Domain) -> frozenset[Novelty]:
    """Return what a definition boots of what several domains may share."""
    images = (("kernel", definition.kernel), ("ramdisk", definition.ramdisk))
    told = [(key, image.sha256) for key, image in images if image is not None and image.sha256]
    return frozenset([*told, *([("cmdline", definition.cmdline)] if definition.cmdline else [])])
