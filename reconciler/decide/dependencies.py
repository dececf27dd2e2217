"""Decides what depends_on asks: who goes down with whom, and what may not stop or start. Called by `together`.

A restart takes the running domains that depend on it down as well. If one of them may not go down, the restart is
blocked, and nobody goes down for it. A stop or destroy under a domain that runs, and a start on top of one that will
not run, are blocked.

>>> from tests.worlds import NEW, desired, domain, guest, host, kernel, plan
>>> from reconciler.model.fleet import HostSettings
>>> app, two = domain("app", depends_on=("db",)), HostSettings(name="alpha", toolstack="simulated", max_unavailable=2)
>>> wanted = desired(domain("db", kernel=kernel("db", NEW)), app, settings=two)
>>> made = plan(host(guest(domain("db")), guest(app)), wanted)
>>> [f"{step.step.kind} {step.address}" for step in made.steps if step.step.kind in ("shutdown", "start")]
['shutdown alpha/app', 'shutdown alpha/db', 'start alpha/db', 'start alpha/app']
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from reconciler.decide.changes import Action, Change, block
from reconciler.model.boot import boot_digest
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Owner, Power

_GOES_UP = (Action.CREATE, Action.START, Action.RESTART)
_GOES_DOWN = (Action.RESTART, Action.STOP, Action.DESTROY)
_ENDS = (Action.STOP, Action.DESTROY)
_ENDED = (Power.CRASHED, Power.SHUTDOWN)


def close_dependencies(
    changes: Iterable[Change], desired: Desired, waves: Mapping[str, int], kept_up: Mapping[str, str] | None = None
) -> list[Change]:
    """Return the changes after all that depends_on blocks and all that it takes down with others.

    Who is blocked is found first, from what each domain would do by itself, so nobody goes down for a restart that
    turns out to be blocked. Say `app` and `zed` depend on `db`, whose kernel changes, and zed says reconcile = false.
    Then db is blocked, naming zed, and app stays up.

    `waves` says in which wave each domain is, and `kept_up` of domains why they may not go down for others.
    """
    graph = _Graph(changes, desired, kept_up or {})
    graph.refuse_all()
    return graph.with_outings(dict(waves))


def is_live(change: Change) -> bool:
    """Return whether a domain of ours runs, or is in a state that may become running by itself."""
    guest = change.guest
    return guest is not None and guest.owner is Owner.OURS and guest.power.holds and guest.power not in _ENDED


def depends_on(change: Change) -> tuple[str, ...]:
    """Return the names that a domain depends on: by what it will be, else by what the host keeps."""
    definition = change.target or (change.guest.definition if change.guest is not None else None)
    return definition.depends_on if definition is not None else ()


class _Graph:
    """Changes, and who depends on whom.

    Each domain is looked at a bounded number of times, however long a chain of dependencies is.
    """

    def __init__(self, changes: Iterable[Change], desired: Desired, forbidden: Mapping[str, str]) -> None:
        self._forbidden = forbidden
        self._changes = {change.address: change for change in changes}
        self._desired = desired
        self._bases: dict[str, list[str]] = defaultdict(list)
        self._dependents: dict[str, list[str]] = defaultdict(list)
        for change in self._changes.values():
            for base in dict.fromkeys(address_of(change.host, name) for name in depends_on(change)):
                if base in self._changes:
                    self._bases[change.address].append(base)
                    self._dependents[base].append(change.address)
        self._roots: dict[str, str] = {}  # a domain that cannot start -> the one at the bottom that does not run
        self._kept_up = set[str]()  # addresses of what runs and may not go down
        self._todo: list[tuple[Callable[[str], None], str]] = []  # rules to heed, each with its address

    def refuse_all(self) -> None:
        """Block the changes that cannot be, and those that this makes impossible in turn."""
        for address, change in list(self._changes.items()):
            if not _will_run(change):
                self._todo += [(self._heed_down, address)]
            if is_live(change) and change.action not in _GOES_DOWN:
                self._todo += [(self._heed_stay, address)]
        self._todo.reverse()
        while self._todo:
            heed, address = self._todo.pop()
            heed(address)

    def _heed_down(self, address: str) -> None:
        """Block the start and the restart of domains that depend on one that will not run."""
        base = self._changes[address]
        root = self._changes[self._roots.get(address, address)]
        since = "" if root is base else f", since {root.domain} does not"
        why = f"it depends on {base.domain}, which does not run{since}: {_why_down(root)}"
        for dependent in self._dependents[address]:
            change = self._changes[dependent]
            if change.action in _GOES_UP and _is_to_run(change):
                self._roots[dependent] = root.address
                change = self._refuse(dependent, why)
            if is_live(change) and change.action not in _GOES_DOWN and base.action not in _ENDS:
                self._keep_up(dependent, why)

    def _heed_stay(self, address: str) -> None:
        """Block the stop of what a running domain depends on, and the restart for which it may not go down."""
        change = self._changes[address]
        for base in self._bases[address]:
            if self._changes[base].action in _ENDS:
                self._refuse(base, f"{change.domain} depends on it and runs")
        why = self._forbidden.get(address) or _why_not_down(change, self._desired)
        if why is not None:
            self._keep_up(address, why)

    def _keep_up(self, address: str, why: str) -> None:
        """Keep a running domain up, and with it all that it depends on, directly or through others."""
        name, todo = _name(address), [address]
        while todo:
            at = todo.pop()
            if at in self._kept_up:
                continue
            self._kept_up.add(at)
            through = "" if at == address else f" through {_name(at)}"
            for base in filter(lambda one: is_live(self._changes[one]), self._bases[at]):
                todo.append(base)
                if self._changes[base].action in _GOES_DOWN:
                    self._refuse(base, f"{name} depends on it{through} and may not restart: {why}")

    def _refuse(self, address: str, why: str) -> Change:
        before, change = self._changes[address], block(self._changes[address], why)
        self._changes[address] = change
        if _will_run(before) and not _will_run(change):
            self._todo.append((self._heed_down, address))
        if is_live(change):
            self._todo.append((self._heed_stay, address))
        return change

    def with_outings(self, waves: dict[str, int]) -> list[Change]:
        """Return each change with the waves in which its domain goes down for others, and comes back.

        A domain of wave 1 that depends on one of wave 0 goes down twice when both get another kernel: in wave 0, to
        come back as it was, and in wave 1 for its own change. Where both fall into one wave, it goes down once.
        """
        first: dict[int, list[str]] = defaultdict(list)
        for address, change in self._changes.items():
            if change.action in _GOES_DOWN:
                first[waves[address]].append(address)
        outings: dict[str, dict[int, str]] = defaultdict(dict)  # address -> wave -> name of who takes it down
        for wave in sorted(first):
            seen, todo = set(first[wave]), list(first[wave])
            while todo:
                cause = todo.pop()
                for address in self._dependents[cause]:
                    change = self._changes[address]
                    comes_back = change.action not in _ENDS
                    if address in seen or not is_live(change) or (comes_back and self._changes[cause].action in _ENDS):
                        continue
                    seen.add(address)
                    todo.append(address)
                    if not comes_back:
                        waves[address] = min(waves[address], wave)  # it stops early rather than twice
                    else:
                        outings[address][wave] = _name(cause)
        return [
            _with_outings(_in_wave(change, waves[address]), outings.get(address, {}))
            for address, change in self._changes.items()
        ]


def _in_wave(change: Change, wave: int) -> Change:
    return change if change.wave == wave else replace(change, wave=wave)


def wave_of(change: Change, desired: Desired) -> int:
    """Return the wave of a domain by its spec; of a frozen one, that which its mark recorded. Else it is in wave 0."""
    wanted = desired.hosts[change.host].domains.get(change.domain)
    if wanted is not None:
        return wanted.policy.wave
    guest = change.guest if change.address in desired.frozen else None
    return (recorded_wave(guest) or 0) if guest is not None else 0


def recorded_wave(guest: Guest) -> int | None:
    """Return the wave that the marks of a domain recorded; None when nobody can tell."""
    waves = [one.policy.wave for one in (guest.config, guest.candidate) if one is not None]
    return min(waves) if waves and guest.wave_noted and guest.newer is None else None


def _with_outings(change: Change, causes: Mapping[int, str]) -> Change:
    """Return a change whose domain also goes down with others in these waves."""
    if not causes:
        return change
    guest = change.guest
    assert guest is not None
    reason = f"{', '.join(dict.fromkeys(causes.values()))}, which it depends on, restarts"
    wave = min(change.wave, *causes) if change.acts and _is_half_done(guest, change) else change.wave
    merged = change.acts and wave in causes
    alone = Action.RESTART if merged else change.action
    if not change.parked and (change.acts or change.blocked is not None or change.would is not None):
        reason = f"{change.reason}; {reason}"
    return replace(
        change,
        action=Action.RESTART,
        reason=reason,
        downtime_seconds=None,
        wave=wave,
        outings=tuple(sorted(set(causes) - ({wave} if merged else set()))),
        alone=alone,
        target=change.target if alone not in (Action.NO_OP, Action.BLOCKED) else as_it_is(change),
    )


def _is_half_done(guest: Guest, change: Change) -> bool:
    """Return whether what runs is not what the config file would bring back, though no restart is asked for.

    Then its own change is done with the first restart, since its live changes expect what runs now.
    """
    if change.action is not Action.UPDATE or guest.running is None or guest.config is None:
        return False
    return guest.unproven or boot_digest(guest.running) != boot_digest(as_it_is(change))


def _why_not_down(change: Change, desired: Desired) -> str | None:
    """Return why a running domain of ours may not go down and come back as it was; None when it may."""
    guest, part = change.guest, desired.hosts[change.host]
    wanted = part.domains.get(change.domain)
    assert guest is not None
    if change.hold is not None:
        return change.hold
    if guest.renamed_from is not None and not change.acts:
        return f"it is still called {guest.renamed_from} on its host"
    if wanted is None:  # its spec may forbid it, and cannot be asked
        return change.reason
    if guest.newer is not None:
        return change.reason
    if not (wanted.policy.reconcile and part.settings.reconcile):
        return f"{'host.toml' if wanted.policy.reconcile else 'its spec'} says reconcile = false"
    if guest.power is not Power.RUNNING:
        return f"it is {guest.power.value}"
    if guest.running is None or guest.config is None:
        return guest.problem or "nobody knows what it would come back with"
    return None


def as_it_is(change: Change) -> Domain:
    """Return what a running domain comes back with when it only goes down with others: its proven config.

    If its config file was edited by hand, that is what runs instead. The ready signs are those of its spec if it runs
    what the spec asks for, else those of the definition itself.
    """
    guest = change.guest
    assert guest is not None
    assert guest.running is not None
    assert guest.config is not None
    kept = guest.running if guest.edited else guest.config
    as_specified = change.target is not None and not change.fields and change.blocked is None
    return replace(kept, policy=change.target.policy) if as_specified and change.target is not None else kept


def _will_run(change: Change) -> bool:
    if change.action in _GOES_UP:
        return change.target is None or _is_to_run(change)
    guest = change.guest
    if guest is None or not guest.exists or change.action in _ENDS:
        return False
    return guest.power is Power.RUNNING or change.action is Action.UPDATE  # which lets a paused one run on


def _is_to_run(change: Change) -> bool:
    return change.target is not None and change.target.state == "running"


def _why_down(change: Change) -> str:
    stopped = change.target is not None and change.target.state == "stopped"
    return 'its spec says state = "stopped"' if stopped else change.reason


def _name(address: str) -> str:
    return address.split("/", 1)[1]
