"""The fleet as last known, and the one plan over it that the passes of all hosts share. Used by `watch`.

A host is looked at by its own pass. What is decided, about whichever host, is decided on the last known state of all of
them, by the same rules as for one run of `apply`. A host that was not seen, or not since its settings changed or its
specs name other kernels or disks, is one that could not be observed. The plan is made anew only when something in it
changed, and once for all who wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler.apply.result import Progress, StepResult
from reconciler.cluster.sharing import Sharing, Unshared
from reconciler.decide.changes import Action, Consent
from reconciler.inspect import observed
from reconciler.inspect.observed import Observed, comparable
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, refused
from reconciler.model.fleet import Desired, DesiredHost
from reconciler.model.host import Host, is_same
from reconciler.plan.parts import Beside, parts_of, rehearsed_together, restarts_of, within
from reconciler.plan.places import FleetLimit, fleet_limit
from reconciler.plan.plan import Plan
from reconciler.plan.refusals import Used
from reconciler.plan.steps import AwaitReady, PlannedStep, Rehearse, Shutdown, Start, is_of_way_back
from reconciler.reconcile import Reconciler, Selection
from reconciler.records import dataclass
from reconciler.specs import TreeReading
from reconciler.state_dir import sightings
from reconciler.toolstack import Question, question_for

_HELD_SECONDS = 30.0  # a plan that holds something back is made anew after that

_Acting = frozenset[tuple[str, str]]  # addresses, each with the kind of a step there


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The last look at a host, at a time in Unix seconds. With `host` None it told nothing, for these problems.

    It tells only of what was `asked`: of a kernel that specs name since then nobody knows whether it is there.
    """

    host: Host | None
    asked: Question = field(default_factory=Question)
    part: DesiredHost | None = None  # of the specs by which it was asked
    problems: tuple[Diagnostic, ...] = ()
    at: float = 0.0
    era: int = 0  # of the cluster, when it began (`Sharing.era`)
    key: bytes = b""  # with which its secrets are told as digests, where another controller has looked at it
    told_by: str = ""  # that one


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeen:
    """A host as it was when it last told something, at a time in Unix seconds. `answers` says whether it still does."""

    host: Host
    at: float
    answers: bool
    told_by: str = ""  # the controller that has looked at it, where that is another one


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Holds what is known of the fleet: the specs in force, what each host was last seen as, and what is under way.

    `told` is the last look at each host that told something, however long ago; nothing is decided by it. `under_way`
    maps hosts to the addresses that an apply works on there; `failing` to one whose restart has failed in it, until a
    look shows what became of that. `growing` are hosts on which an apply makes domains, until a look shows them.
    """

    reading: TreeReading | None = None
    root: Path = Path()
    seen: Mapping[str, Seen] = field(default_factory=dict)
    told: Mapping[str, Seen] = field(default_factory=dict)
    under_way: Mapping[str, frozenset[str]] = field(default_factory=dict)
    failing: Mapping[str, str] = field(default_factory=dict)
    growing: frozenset[str] = frozenset()

    def desired_of(self, address: str) -> Desired:
        """Return the specs in force. Raises ReconcilerError where neither they nor a host tell of it."""
        host, _, domain = address.partition("/")
        desired = self.reading.desired if self.reading is not None else None
        told = self.told[host].host if host in self.told else None
        if desired is not None and host in desired.hosts:
            known = {"", *desired.hosts[host].domains, *(told.guests if told is not None else ())}
            if domain in known:
                return desired
        raise refused("nothing of that name", f"Neither the specs nor their hosts tell of {address}.")

    def last_seen(self) -> dict[str, LastSeen]:
        """Return the hosts that told something, also those that are silent by now."""
        return {
            name: LastSeen(host=told.host, at=told.at, answers=self.seen.get(name) is told, told_by=told.told_by)
            for name, told in self.told.items()
            if told.host is not None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan depends on besides the fleet: what is left alone for now and why, and what counts for the brake."""

    postponed: Mapping[str, str]
    unpause: frozenset[str]
    used: Used
    given_up: frozenset[str] = frozenset()  # hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    version: int
    asked: Asked
    at: float
    opens: float | None  # when the next window does that something waits for, in Unix seconds
    is_calm: bool  # nothing is to be done, and nothing is held back that time alone might let go
    plan: Plan
    limit: FleetLimit | None  # for domains that are down for a restart, over all hosts
    parts: Mapping[str, Plan]
    acting: Mapping[str, _Acting]  # what each part has its host do
    unseen: bool  # whether a host was not looked at yet
    broken: Mapping[str, ReconcilerError]  # hosts that were left out, since a plan with them failed its proof

    def holds(self, version: int, asked: Asked, now: float) -> bool:
        """Return whether the plan is still what would be made."""
        opened = self.opens is not None and now >= self.opens
        fresh = self.is_calm or (now - self.at < _HELD_SECONDS and not opened)
        return self.version >= version and self.asked == asked and fresh


class Fleet:
    """Keeps the view, and makes the plan. `wake` is called with each host that can do more than when it last looked."""

    def __init__(
        self, state_dir: Path, now: Callable[[], float], wake: Callable[[str], None], sharing: Sharing | None = None
    ) -> None:
        self._sharing = sharing or Unshared()
        self._state_dir = state_dir
        self._now = now
        self._wake = wake
        self.view = FleetView()
        self._version = 0  # of all in the view that a plan depends on
        self._era = self._sharing.era  # looks from before tell nothing
        self._planning = asyncio.Lock()
        self._made: _Made | None = None
        self._given: dict[str, frozenset[str]] = {}  # host -> domains that the pass over it may take down
        self._failures = 0
        self._failed: dict[str, tuple[int, str]] = {}  # host -> the last failure of a restart there, by its number
        self._knows: dict[str, int] = {}  # host -> the last failure that its part heeds
        self._short: set[str] = set()  # hosts that lack a place of the fleet's max_unavailable
        self._acting: dict[str, _Acting] = {}  # host -> what the part it last got has it do

    @property
    def plan(self) -> Plan | None:
        """Return the plan over all hosts that was made last."""
        return self._made.plan if self._made is not None else None

    @property
    def limit(self) -> FleetLimit | None:
        """Return the places of the fleet as that plan saw them."""
        return self._made.limit if self._made is not None else None

    def renew(self, reading: TreeReading, root: Path) -> None:
        """Go on with other specs. What was seen of a host whose settings changed may be of another machine."""
        before = self.view.reading
        kept = {
            name: seen
            for name, seen in self.view.seen.items()
            if before is not None and _same_host(name, before.desired, reading.desired)
        }
        told = {name: seen for name, seen in self.view.told.items() if name in reading.desired.hosts}
        self._change(reading=reading, root=root, seen=kept, told=told)

    async def look(self, name: str, look: Seen) -> bool:
        """Compare a look at a host with the one before, beside the loop, and note it. Returns whether it is news."""
        before = self.view.seen.get(name)
        same = before is not None and await asyncio.to_thread(_shows_the_same, before, look)
        same = same and self.view.seen.get(name) is before  # the specs may have changed meanwhile
        seen = {**self.view.seen, name: look}
        told = {**self.view.told, name: look} if look.host is not None else self.view.told
        grown = {name} & self.view.growing - self.view.under_way.keys()
        if same and name not in self.view.failing and not grown:
            self.view = replace(self.view, seen=seen, told=told)
        else:
            failing = {other: address for other, address in self.view.failing.items() if other != name}
            self._change(seen=seen, told=told, failing=failing, growing=self.view.growing - grown)
        return not same

    def is_answered(self, name: str) -> bool:
        """Return whether the last look at a host asked all that the specs in force do."""
        part = self.view.reading.desired.hosts.get(name) if self.view.reading is not None else None
        return part is None or (name in self.view.seen and _answers(self.view.seen[name], part))

    def begins(self, name: str, plan: Plan) -> None:
        """Note that an apply begins on a host."""
        working = frozenset(step.address for step in plan.steps)
        makes = working & {change.address for change in plan.changes if change.action is Action.CREATE}
        growing = self.view.growing | ({name} if makes else set())
        self.view = replace(self.view, under_way={**self.view.under_way, name: working}, growing=growing)

    def fails(self, name: str, address: str) -> None:
        """Note that a restart has just failed, so that no other one begins until it is known why."""
        self._failures += 1
        self._failed[name] = self._failures, address
        self._change(failing={**self.view.failing, name: address})

    def ended(self, name: str) -> None:
        """Note that the apply on a host has ended."""
        left = {other: working for other, working in self.view.under_way.items() if other != name}
        self.view = replace(self.view, under_way=left)

    def fails_elsewhere(self, name: str) -> str | None:
        """Return the domain on another host whose restart failed after the part of this host was made, if there is one.

        What that means for the others is in the next part, once the other host was looked at.
        """
        failed = sorted((number, address) for host, (number, address) in self._failed.items() if host != name)
        return next((address for number, address in failed if number > self._knows.get(name, 0)), None)

    async def part(self, name: str, asked: Callable[[], Asked]) -> Plan | None:
        """Return what a host may do by itself now; None when the specs no longer describe it.

        Raises ReconcilerError where the plan for it fails its proof.
        """
        if self._era != self._sharing.era:
            self._era = self._sharing.era
            self._change()
        wanted, heeded = self._version, self._failures
        async with self._planning:
            made, now = self._made, asked()
            if made is None or not made.holds(wanted, now, self._now()):
                before, made = made, await asyncio.to_thread(self._make, self._of_era(), self._version, now)
                self._made = made
                self._wake_those_that_wait(made, name, all_seen=before is not None and before.unseen > made.unseen)
        if name in made.broken:
            raise made.broken[name]
        part = made.parts.get(name)
        if part is not None and self._sharing.why_not(name) is None:  # what another controller does counts in etcd
            part = self._with_places(name, part, made.limit)
            self._given[name] = restarts_of(part) - rehearsed_together(part).keys()
        if part is None or part is made.parts.get(name):
            self._acting[name] = made.acting.get(name, frozenset())
        else:
            self._acting[name] = _acting(part)
        self._knows[name] = heeded
        return part

    def takes(self, name: str, addresses: frozenset[str]) -> str | None:
        """Give more places to the pass over a host, all of these or none. Returns why that cannot be, if so."""
        limit, own = self.limit, self._given.get(name, frozenset())
        if limit is None:
            return None
        others = {address for given in self._given.values() for address in given} | set(self._sharing.reserved())
        if limit.left_beside(others | addresses) < 0:
            taken = sorted((others | {address for address, _ in limit.taken}) - addresses)
            return f"max_unavailable of the fleet leaves no place, while {(taken or sorted(addresses))[0]} is down"
        self._given[name] = own | addresses
        return None

    def takes_not(self, name: str, addresses: frozenset[str]) -> None:
        """Take these places back, since etcd did not give them."""
        self._given[name] = self._given.get(name, frozenset()) - addresses

    def release(self, name: str) -> None:
        """Give back the places that a pass over a host has of the fleet's max_unavailable, since it has ended."""
        if self._given.pop(name, None):
            waiting, self._short = self._short, set()
            for other in sorted(waiting - {name}):
                self._wake(other)

    def _with_places(self, name: str, part: Plan, limit: FleetLimit | None) -> Plan:
        """Return a part with no more restarts than the fleet has places for besides what passes do on other hosts."""
        if limit is None:
            return part
        given = {address for host, given in self._given.items() if host != name for address in given}
        reserved = {one for one in self._sharing.reserved() if not one.startswith(f"{name}/")}
        taken = sorted((given | reserved) - {address for address, _ in limit.taken})
        if not taken and not self._sharing.counts:  # where others count, what is to go down has its places before
            return part
        fitting = within(part, max(0, limit.left_beside(given | reserved)), taken or sorted(restarts_of(part)))
        if fitting is not part:
            self._short.add(name)
        return fitting

    def _of_era(self) -> FleetView:
        """Return the view less looks from before etcd was emptied: places that were taken since are not known."""
        seen = {name: one for name, one in self.view.seen.items() if one.era == self._era}
        return replace(self.view, seen=seen)

    def _change(self, **changes: object) -> None:
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]
        self._version += 1

    def _make(self, view: FleetView, version: int, asked: Asked) -> _Made:
        assert view.reading is not None
        parts = view.reading.desired.hosts
        seen = {name: one for name, one in view.seen.items() if name in parts and _answers(one, parts[name])}
        desired, hosts = _comparable(view.reading.desired, seen)
        reconciler = Reconciler(replace(view.reading, desired=desired), view.root, self._state_dir)
        problems = tuple(problem for _, one in sorted(seen.items()) for problem in one.problems)
        at, consent = datetime.fromtimestamp(self._now(), UTC), Consent(unpause=asked.unpause)
        selection = Selection(postponed=asked.postponed, used=asked.used, at=at)
        broken: dict[str, ReconcilerError] = {}
        while True:
            try:
                plan = reconciler.plan_as_seen(selection, consent, hosts, problems)
            except ReconcilerError as error:
                culprit = (error.diagnostics[0].address or "").partition("/")[0]
                if culprit not in hosts:
                    raise
                del hosts[culprit]
                broken[culprit] = error
            else:
                given_up = sightings.forgotten(self._state_dir) - hosts.keys()
                limit = fleet_limit(replace(desired, forgotten=given_up), hosts, plan.changes)
                braked = [Action.DESTROY, *([Action.RESTART] if desired.brake.max_restart is not None else [])]
                unseen = desired.hosts.keys() - (seen.keys() - view.growing)
                by_host = parts_of(plan, Beside(failing=view.failing, unseen=unseen, braked=braked))
                return _Made(
                    version=version,
                    asked=asked,
                    at=self._now(),
                    opens=plan.next_opening(at),
                    is_calm=not any(change.acts or change.waits_for or change.would for change in plan.changes),
                    plan=plan,
                    limit=limit,
                    parts=by_host,
                    acting={name: _acting(part) for name, part in by_host.items()},
                    unseen=bool(unseen),
                    broken=broken,
                )

    def _wake_those_that_wait(self, made: _Made, asking: str, *, all_seen: bool) -> None:
        for name, part in made.parts.items():
            if name == asking or name not in self._acting:
                continue
            acts_more = not made.acting[name] <= self._acting[name]
            if acts_more or (all_seen and any(change.waits_for for change in part.changes)):
                self._acting[name] = made.acting[name]
                self._wake(name)


class Heeding:
    """Passes progress on, and tells at once of a restart that fails."""

    def __init__(self, progress: Progress, restarts: Collection[str], failed: Callable[[str], None]) -> None:
        self._progress, self._restarts, self._failed = progress, restarts, failed

    def started(self, step: PlannedStep) -> None:
        self._progress.started(step)

    def noted(self, step: PlannedStep, text: str) -> None:
        self._progress.noted(step, text)

    def finished(self, result: StepResult) -> None:
        step = result.step
        goes_down = step.address in self._restarts and isinstance(step.step, Shutdown | Start | AwaitReady | Rehearse)
        if result.problem is not None and goes_down and not is_of_way_back(step.id):
            self._failed(step.address)
        self._progress.finished(result)


def about(desired: Desired, name: str) -> Desired:
    """Return what a tree says of one host, and of the whole fleet."""
    mine = {name: desired.hosts[name]} if name in desired.hosts else {}
    frozen = frozenset(address for address in desired.frozen if address.partition("/")[0] == name)
    left_alone = frozenset(address for address in desired.left_alone if address.partition("/")[0] == name)
    kept = frozenset(address for address in desired.kept if address.partition("/")[0] == name)
    return replace(desired, hosts=mine, frozen=frozen, left_alone=left_alone, kept=kept)


def asked_of_hosts(desired: Desired) -> dict[str, str]:
    """Map each host to a digest of what a tree says of it, and of the whole fleet. The commit makes no difference."""
    return {
        name: hashlib.sha256(
            repr(replace(about(desired, name), commit=None, tree_digest="")).encode(errors="surrogatepass")
        ).hexdigest()
        for name in desired.hosts
    }


def specs_of(desired: Desired) -> str:
    """Return what tells these specs from the ones before: the accepted commit and, where there is none, a digest."""
    return f"{desired.commit or 'no commit'} {desired.tree_digest}"


def _comparable(desired: Desired, seen: Mapping[str, Seen]) -> tuple[Desired, dict[str, Host]]:
    """Return the desired state and the hosts, with digests for the secrets of what others have looked at."""
    parts, hosts = dict(desired.hosts), {name: one.host for name, one in seen.items() if one.host is not None}
    for name, host in list(hosts.items()):
        if not seen[name].key:
            continue
        look = observed.Seen(host=host, question=seen[name].asked, at=datetime.fromtimestamp(seen[name].at, UTC))
        told = Observed(fleet=desired.fleet, key=seen[name].key, hosts={name: look})
        one, sealed = comparable(replace(desired, hosts={name: parts[name]}), told)
        parts[name], hosts[name] = one.hosts[name], sealed[name]
    return replace(desired, hosts=parts), hosts


def asked_for(desired: Desired, address: str) -> str:
    """Return a digest of all that the specs say about a domain and its host; "" when they do not name it."""
    host, _, name = address.partition("/")
    part = desired.hosts.get(host)
    if part is None or (name and name not in part.domains):
        return ""
    asked = (desired.fleet, part.settings, part.domains[name] if name else None)
    return hashlib.sha256(repr(asked).encode(errors="surrogatepass")).hexdigest()


def leads_to_the_same(plan: Plan, before: Plan | None) -> bool:
    """Return whether nothing is to be done or told of a part of the plan that was not already."""

    def told(plan: Plan) -> tuple[object, ...]:
        return plan.changes, plan.steps, plan.undecided, plan.unmanaged, plan.diagnostics

    return before is not None and told(plan) == told(before)


def drifted_in(plan: Plan) -> int:
    """Count the domains that differ from their specs."""
    return sum(bool(change.acts or change.fields) for change in plan.changes)


def _shows_the_same(before: Seen, look: Seen) -> bool:
    asked = before.problems, before.asked, before.key, before.era
    return asked == (look.problems, look.asked, look.key, look.era) and is_same(before.host, look.host)


def _same_host(name: str, before: Desired, after: Desired) -> bool:
    there = name in before.hosts and name in after.hosts
    return there and before.fleet == after.fleet and before.hosts[name].settings == after.hosts[name].settings


def _answers(seen: Seen, part: DesiredHost) -> bool:
    if seen.host is None or seen.part is part:
        return True
    asked, ask = seen.asked, question_for(part)
    known = {*asked.files, *asked.images, *asked.sources}
    known_of_domains = set(asked.rehearsed).issuperset(ask.rehearsed) and set(asked.secrets).issuperset(ask.secrets)
    return known_of_domains and known.issuperset((*ask.files, *ask.images, *ask.sources))


def _acting(part: Plan) -> _Acting:
    return frozenset((step.address, step.step.kind) for step in part.steps)
