"""`reconciler status`: how each domain is, and why. Looks and plans, and changes nothing."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from reconciler.apply.history import History
from reconciler.cli.cluster.option import ask, cluster_option
from reconciler.cli.durations import Duration
from reconciler.cli.output import is_terminal, paint_for, print_data, print_diagnostics, print_message, print_text
from reconciler.cli.session import Session, check_targets, open_session, select, selection_options, specs_argument
from reconciler.cli.settings import Settings
from reconciler.decide.changes import Consent
from reconciler.inspect.status import Condition, DomainStatus, Status, judge
from reconciler.leaving import leave
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, exit_code
from reconciler.plan.plan import Plan
from reconciler.reconcile import Selection
from reconciler.records import dataclass
from reconciler.show.documents import as_text
from reconciler.show.escape import plain
from reconciler.show.paint import Paint
from reconciler.show.status import status_document, status_text
from reconciler.specs import read_tree
from reconciler.specs.tree import TreeCache
from reconciler.waiting import Stop, never
from reconciler.watch import conditions
from reconciler.watch.conditions import WatchRecord

_LOOK_AGAIN_SECONDS = 2.0
_WAITS_FOR_SECONDS = 300.0
_FAILED, _INTERRUPTED = 1, 130
_NAMED = 5  # of those that are waited for
_CLEAR = "\x1b[H\x1b[2J"


@click.command(short_help="Tell how each domain is, and why.")
@specs_argument
@selection_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--exit-code", "wants_ready", is_flag=True, help="Exit with 1 unless all domains of ours are ready.")
@click.option("--wait", is_flag=True, help="Wait until they all are; exit with 1 if they are not in time.")
@click.option(
    "--timeout", metavar="TIME", type=Duration(), help="With --wait: for how long, such as 90s or 1h.  [default: 5m]"
)
@click.option("--watch", is_flag=True, help="Look again and again, and show what changed, until Ctrl-C.")
@cluster_option("Tell also what the controllers in this etcd say.")
@click.pass_obj
def status(
    settings: Settings,
    specs: Path,
    hosts: tuple[str, ...],
    targets: tuple[str, ...],
    as_json: bool,
    wants_ready: bool,
    wait: bool,
    timeout: float | None,
    watch: bool,
    endpoints: tuple[str, ...],
) -> int:
    """Tell how each domain of SPECS (default: $RECONCILER_SPECS, else ./specs) is, in one word, and why.

    Exits with 1 when a host could not be observed, and with 4 when a spec is invalid.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait.")
    if watch and (wait or wants_ready):
        raise click.UsageError("--watch ends with Ctrl-C alone, so --wait and --exit-code cannot be given with it.")
    with _looking(settings, specs, hosts, targets) as looking:
        if watch:
            with _leaving_quietly():
                _watch(looking, as_json=as_json)
        if wait:
            with _leaving_quietly():
                seen = _wait(looking, _WAITS_FOR_SECONDS if timeout is None else timeout)
        else:
            seen = looking.look()
    print_diagnostics(seen.problems)
    shared = _of_cluster(endpoints, specs) if endpoints else None
    if as_json:
        more = {"cluster": shared[0]} if shared is not None else {}
        print_data(as_text({**seen.document(), **more}))
    else:
        print_text(seen.text(paint_for(sys.stdout)) + (f"\n{shared[1]}" if shared is not None else ""))
    code = exit_code(seen.problems)
    return code if code or not (wait or wants_ready) else _FAILED if seen.not_ready() else 0


def _of_cluster(endpoints: tuple[str, ...], specs: Path) -> tuple[dict[str, Any], str]:
    """Return what etcd says of the controllers, for programs and for people."""
    from reconciler.cluster.report import report

    desired = read_tree(specs).desired
    found, hosts = ask(endpoints, lambda etcd: report(etcd, desired.fleet)), frozenset(desired.hosts)
    text = "".join(plain(line) + "\n" for line in found.text(hosts, time.time()).splitlines())
    return found.document(hosts), text


@dataclass(frozen=True, slots=True)
class _Asked:
    """The domains that were asked for; all, when nothing was."""

    hosts: frozenset[str]
    targets: frozenset[str]

    def has(self, address: str | None) -> bool:
        """Return whether an address is among them. A host is where one of its domains is, and None is the whole run."""
        if address is None or not (self.hosts or self.targets):
            return True
        host, slash, _ = address.partition("/")
        named = {target.partition("/")[0] for target in self.targets}
        return host in self.hosts or (address in self.targets if slash else host in named)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look found."""

    plan: Plan
    statuses: tuple[DomainStatus, ...]
    problems: tuple[Diagnostic, ...]
    record: WatchRecord | None
    asked: _Asked

    def not_ready(self) -> tuple[str, ...]:
        """Name the domains of ours that are not ready, and the hosts that did not answer."""
        ours = {change.address for change in (*self.plan.changes, *self.plan.undecided)}
        waits = [one for one in self.statuses if one.address in ours and one.status is not Status.READY]
        silent = [name for name, host in self.plan.hosts.items() if not host.observed and self.asked.has(name)]
        return (*(f"{one.address} ({one.status})" for one in waits), *(f"{name} (not observed)" for name in silent))

    def document(self) -> dict[str, Any]:
        document = status_document(self.statuses, self.plan, self.problems)
        if self.record is None:
            return document
        document = conditions.with_conditions(document, self.record)
        return {**document, "domains": [one for one in document["domains"] if self.asked.has(one["address"])]}

    def text(self, paint: Paint) -> str:
        watch = "" if self.record is None else "\n" + _watch_text(self.record, self.asked)
        return status_text(self.statuses, self.plan, paint) + watch

    def news(self) -> object:
        """Return what makes two looks differ to a person: not that all has run for some seconds more."""
        return [(one.address, one.status, one.reason) for one in self.statuses], self.problems


@dataclass(slots=True)
class _Looking:
    """Looks at the same hosts as often as it is asked to, by the specs as they are then."""

    session: Session
    specs: Path
    state_dir: Path
    asked: _Asked
    cache: TreeCache

    def look(self, stop: Stop = never) -> _Seen:
        reading = read_tree(self.specs, self.cache)
        self.session.wait_for(self.session.reconciler.renew(reading, self.specs, None))
        asked = self.asked
        names = asked.hosts | {target.partition("/")[0] for target in asked.targets}
        plan = self.session.wait_for(self.session.reconciler.make_plan(Selection(hosts=names), Consent(), stop))
        check_targets(plan, reading.desired, asked.targets)
        # What apply would refuse is the state of single domains here, not a failure of looking.
        problems = [one for one in plan.diagnostics if one.kind is not Kind.REFUSED and asked.has(one.address)]
        statuses = judge(plan, _failed_ways_back(plan, self.state_dir))
        shown = tuple(one for one in statuses if asked.has(one.address))
        return _Seen(plan, shown, tuple(problems), conditions.load(self.state_dir), asked)


@contextmanager
def _looking(settings: Settings, specs: Path, hosts: tuple[str, ...], targets: tuple[str, ...]) -> Iterator[_Looking]:
    cache = TreeCache()
    reading = read_tree(specs, cache)
    selection = select(reading.desired, hosts, targets)
    with open_session(reading, specs, settings.state_dir) as session:
        yield _Looking(session, specs, settings.state_dir, _Asked(selection.hosts, selection.targets), cache)


def _wait(looking: _Looking, timeout_seconds: float) -> _Seen:
    """Look until all is ready, until waiting is of no use since a spec is wrong, or until time is over."""
    end = time.monotonic() + timeout_seconds
    seen, told = looking.look(), ""
    while seen.not_ready() and not any(problem.kind is Kind.SPEC for problem in seen.problems):
        left = end - time.monotonic()
        if left <= 0:
            break
        waits_for = f"Waiting for {_listed(seen.not_ready())}.\n"
        if waits_for != told:
            told = waits_for
            print_message(plain(waits_for.rstrip()) + "\n")
        time.sleep(min(_LOOK_AGAIN_SECONDS, left))
        seen = looking.look(lambda: "the time-out is over" if time.monotonic() > end else None)
    return seen


def _watch(looking: _Looking, *, as_json: bool) -> NoReturn:
    """Show what is seen whenever it changed, one JSON document a line; a terminal is drawn anew at every look."""
    draws = is_terminal(sys.stdout) and not as_json
    shown: object = None
    while True:
        seen = looking.look()
        if draws or seen.news() != shown:
            if as_json:
                print_data(json.dumps(seen.document()) + "\n")
            else:
                print_text((_CLEAR if draws else "" if shown is None else "\n") + seen.text(paint_for(sys.stdout)))
            print_diagnostics(seen.problems)
            shown = seen.news()
        time.sleep(_LOOK_AGAIN_SECONDS)


@contextmanager
def _leaving_quietly() -> Iterator[None]:
    """Leave at Ctrl-C without a word in the block: nothing was begun that could be half done."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: leave(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _watch_text(record: WatchRecord, asked: _Asked) -> str:
    """Render what watch last said of itself, and of the domains that it does not call ready."""
    state = "it has made no pass" if record.last_pass is None else f"its last pass ended {record.last_pass}"
    if record.stopped is not None:
        state += f", and it was stopped {record.stopped}"
    elif not record.runs:
        state += ", and it no longer runs, although nobody stopped it"
    lines = [f"Watch (process {record.process}, {plain(record.source)}): {state}."]
    if record.commit is not None:
        lines.append(
            f"  commit {record.commit[:12]}" + (f", signed by {plain(record.signer)}" if record.signer else "")
        )
    for problem in filter(lambda problem: asked.has(problem.address), record.problems):
        place = f"{plain(problem.place)}: " if problem.place is not None else ""
        lines.append(f"  {place}{plain(problem.summary)}: {plain(problem.detail)}")
        lines += [f"    hint: {plain(problem.hint)}"] if problem.hint else []
    for address, known in sorted(record.domains.items()):
        if known.condition is not Condition.READY and asked.has(address):
            lines.append(f"  {plain(address)}  {known.condition} since {known.since}: {plain(known.reason)}")
    return "\n".join(lines) + "\n"


def _failed_ways_back(plan: Plan, state_dir: Path) -> dict[str, str]:
    """Map each address to why its way back failed in the last apply that was about it."""
    history = History(state_dir)
    found = {}
    for change in plan.changes:
        if change.quarantined is None:
            continue
        try:
            last = history.last_of(change.address)
        except ReconcilerError:
            return {}  # the plan's diagnostics say already that the history is broken
        problem = last.way_back_problem if last is not None else None
        if problem is not None:
            found[change.address] = problem
    return found
