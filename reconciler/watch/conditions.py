"""Judges how each domain fares under watch: Ready, Reconciling, Stalled or Held, with the reason and since when.

The conditions are kept as one JSON file in the state directory, which is replaced as a whole after each pass. So they
outlive a restart of watch, and `reconciler status` can read them whether watch runs or not. When the file is lost, only
the "since" of each condition is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import ValidationError

from reconciler.decide.changes import Change
from reconciler.decide.waves import waits_for_another
from reconciler.inspect.status import Condition, Status, judge
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Power
from reconciler.plan.plan import Plan
from reconciler.records import dataclass
from reconciler.show import diagnostics
from reconciler.state_dir.files import replace_file
from reconciler.watch.backoff import Failure
from reconciler.watch.logs import moment

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_FILE = "watch.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCondition:
    condition: Condition
    reason: str
    since: str  # UTC, ISO 8601: when the condition became this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A problem that belongs to no single domain, but to the source of the specs, to a host or to the whole run."""

    summary: str
    detail: str
    hint: str | None
    address: str | None = None
    path: str | None = None
    line: int | None = None
    column: int | None = None

    @property
    def place(self) -> str | None:
        """Return where to look: PATH:LINE:COLUMN in a file, else the host or domain."""
        return self.address if self.path is None else f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRecord:
    """All that watch writes down after a pass."""

    format: Literal[1] = 1
    process: int
    source: str
    commit: str | None = None
    signer: str | None = None
    last_pass: str | None = None  # UTC, ISO 8601
    stopped: str | None = None  # None: it runs, or was killed
    problems: tuple[Told, ...] = ()
    domains: Mapping[str, DomainCondition] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Return whether the process of watch is there. Its number may belong to another process by now."""
        if self.stopped is not None:
            return False
        try:
            os.kill(self.process, 0)
        except PermissionError:  # another user's
            return True
        except (OSError, OverflowError):
            return False
        return True


_UNKNOWN = ("hint", "state", "kernel", "running_seconds")  # what only a look at its host tells of a domain
_OF_STATUS = {
    Status.READY: Condition.READY,
    Status.RECONCILING: Condition.RECONCILING,
    Status.STALLED: Condition.STALLED,
    Status.PENDING_RESTART: Condition.HELD,
    Status.DRIFTED: Condition.HELD,  # one that is acted on was judged before
    Status.UNMANAGED: Condition.STALLED,  # declared, and another's
    Status.QUARANTINED: Condition.STALLED,
}


@cache  # not at once, since a status without any record needs none
def _record() -> TypeAdapter[WatchRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(WatchRecord)


def load(state_dir: Path) -> WatchRecord | None:
    """Read what watch last wrote; None when no file is there or it cannot be read."""
    try:
        kept = (state_dir / _FILE).read_bytes()
        return _record().validate_json(kept)
    except (OSError, ValidationError):
        return None


def kept(state_dir: Path) -> dict[str, DomainCondition]:
    """Load the conditions that an earlier watch left, so that "since" survives a restart."""
    record = load(state_dir)
    return dict(record.domains) if record is not None else {}


def of_hosts(hosts: Collection[str], known: Mapping[str, DomainCondition]) -> dict[str, tuple[Condition, str]]:
    """Return what is known of the domains of these hosts."""
    return {
        address: (one.condition, one.reason) for address, one in known.items() if address.partition("/")[0] in hosts
    }


def store(state_dir: Path, record: WatchRecord) -> None:
    """Write the record. Raises OSError, for example when the disk is full."""
    state_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_record().dump_python(record, mode="json"), ensure_ascii=False)
    content = text.encode(errors="replace")  # what hosts and file names say need not be UTF-8
    replace_file(
        state_dir / _FILE, content, durable=False, mode=0o600
    )  # it quotes the specs, and what git and hosts say


def judge_domains(
    plan: Plan,
    desired: Desired,
    failures: Mapping[str, Failure],
    known: Iterable[str],
    *,
    detect_only: bool,
) -> dict[str, tuple[Condition, str]]:
    """Map the address of every declared or managed domain to its condition and the reason for it.

    `failures` are those whose next try is not due yet. `known` are addresses to judge even if a tree with errors does
    not name them.
    """
    statuses = {status.address: status for status in judge(plan, {})}
    found: dict[str, tuple[Condition, str]] = {}
    for change in plan.changes:
        status = statuses[change.address]
        is_held = (change.hold is not None or change.awaits_window) and not change.acts and change.blocked is None
        host = plan.hosts.get(change.host)
        if host is not None and host.stuck and status.status is Status.STALLED:
            found[change.address] = Condition.STALLED, status.reason
        elif is_held or not _reconciles(desired, change):
            found[change.address] = Condition.HELD, status.reason
        elif change.address in failures and not change.blocked:
            found[change.address] = _failed(failures[change.address])
        elif waits_for_another(change):
            found[change.address] = Condition.HELD, change.reason
        elif change.acts:
            why = f"{change.action.value}: {change.reason}"
            found[change.address] = (Condition.HELD if detect_only else Condition.RECONCILING), why
        elif status.state is Power.PAUSED and status.status is Status.DRIFTED and not detect_only:
            found[change.address] = Condition.RECONCILING, f"{status.reason}; it goes on if it stays paused"
        else:
            found[change.address] = _OF_STATUS[status.status], status.reason
    return dict(sorted({**_unseen(plan, desired), **_unreadable(desired, found, known), **found}.items()))


def is_no_tree(desired: Desired, problems: Iterable[Diagnostic]) -> bool:
    """Return whether there are no specs, or none that can be read."""
    return not (desired.hosts or desired.frozen) and any(problem.kind is Kind.SPEC for problem in problems)


def judge_elsewhere(
    desired: Desired, known: Iterable[str], problems: Sequence[Diagnostic]
) -> dict[str, tuple[Condition, str]]:
    """Judge those of these domains that are on no host that the specs describe."""
    known = {address for address in known if address.partition("/")[0] not in desired.hosts}
    return judge_unseen(known, problems) if is_no_tree(desired, problems) else judge_unreadable(desired, known)


def _reconciles(desired: Desired, change: Change) -> bool:
    part = desired.hosts[change.host]
    domain = part.domains.get(change.domain)
    if domain is None and change.guest is not None and change.guest.config is not None:
        return part.settings.reconcile and change.guest.config.policy.reconcile
    return part.settings.reconcile and (domain is None or domain.policy.reconcile)


def _failed(failure: Failure) -> tuple[Condition, str]:
    tries = "1 try" if failure.count == 1 else f"{failure.count} tries"
    why = f"{failure.problem} ({tries}; the next one at {moment(failure.retry_at)})"
    return (Condition.RECONCILING if failure.transient else Condition.STALLED), why


def _unseen(plan: Plan, desired: Desired) -> dict[str, tuple[Condition, str]]:
    """Judge the declared domains of hosts that did not answer."""
    why = {problem.address: problem for problem in plan.diagnostics if problem.address in desired.hosts}
    found = {}
    for host, part in desired.hosts.items():
        if host in plan.hosts and plan.hosts[host].observed:
            continue
        problem = why.get(host)
        told = problem.detail or problem.summary if problem is not None else "it did not answer"
        condition = Condition.RECONCILING if problem is None or problem.transient else Condition.STALLED
        for name in part.domains:
            found[address_of(host, name)] = condition, f"{host} could not be observed: {told}"
    return found


def _unreadable(
    desired: Desired, found: Mapping[str, tuple[Condition, str]], known: Iterable[str]
) -> dict[str, tuple[Condition, str]]:
    """Judge the domains that are in no plan, since their own spec file or that of their host has errors."""
    files = [address for address in desired.frozen if "/" in address and address not in found]
    hosts = {address: address.partition("/")[0] for address in known}
    left = {
        address: (Condition.STALLED, f"the specs of {host} have errors, so nothing is done there")
        for address, host in hosts.items()
        if host in desired.frozen
    }
    return {**left, **dict.fromkeys(files, (Condition.STALLED, "its spec file has errors"))}


def judge_unreadable(desired: Desired, known: Iterable[str]) -> dict[str, tuple[Condition, str]]:
    """Judge, of the addresses `known` and of those whose file has errors, the ones on hosts that cannot be read."""
    found = _unreadable(desired, {}, known)
    return {address: told for address, told in found.items() if address.partition("/")[0] not in desired.hosts}


def judge_unseen(addresses: Iterable[str], problems: Sequence[Diagnostic]) -> dict[str, tuple[Condition, str]]:
    """Judge all domains after a pass without a plan: they count as not looked at, for the first problem met."""
    problem = next((one for one in problems if one.kind is not Kind.NOTE), None)
    told = f"{problem.summary}: {problem.detail}" if problem is not None else "no plan could be made"
    condition = Condition.RECONCILING if problem is not None and problem.transient else Condition.STALLED
    return dict.fromkeys(addresses, (condition, f"not looked at, since {told}"))


def with_since(
    judged: Mapping[str, tuple[Condition, str]], before: Mapping[str, DomainCondition], now: float
) -> dict[str, DomainCondition]:
    """Add to each condition since when it holds. A change of the reason alone keeps the old date."""
    return {
        address: DomainCondition(
            condition=condition,
            reason=reason,
            since=before[address].since
            if address in before and before[address].condition is condition
            else moment(now),
        )
        for address, (condition, reason) in judged.items()
    }


def told(problems: Sequence[Diagnostic]) -> tuple[Told, ...]:
    return tuple(_told(problem) for problem in dict.fromkeys(problems))


def _told(problem: Diagnostic) -> Told:
    about = diagnostics.document(problem)
    return Told(**{field: value for field, value in about.items() if field != "kind"})


def with_conditions(document: dict[str, Any], record: WatchRecord) -> dict[str, Any]:
    """Add to the document of `status --json` what watch knows, and the domains of hosts that were not observed."""
    seen = {domain["address"] for domain in document["domains"]}
    observed = {host for host, about in document["hosts"].items() if about["observed"]}
    unseen = [
        {"address": address, "status": None, "reason": known.reason, **dict.fromkeys(_UNKNOWN)}
        for address, known in record.domains.items()
        if address not in seen and address.partition("/")[0] not in observed
    ]
    domains = []
    for domain in sorted((*document["domains"], *unseen), key=lambda domain: domain["address"]):
        known = record.domains.get(domain["address"])
        about: dict[str, str | None] = {"condition": None, "condition_reason": None, "since": None}
        if known is not None:
            about = {"condition": known.condition.value, "condition_reason": known.reason, "since": known.since}
        domains.append({**domain, **about})
    summary = _record().dump_python(replace(record, domains={}), mode="json", exclude={"domains"})
    return {**document, "domains": domains, "watch": {**summary, "runs": record.runs}}
