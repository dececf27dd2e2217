"""The numbers of each host, and of the windows that changes wait for, as Prometheus reads them. Called by `metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from reconciler.decide.windows import Shut
from reconciler.fleet import LastSeen
from reconciler.plan.plan import Plan
from reconciler.show.escape import plain
from reconciler.watch.view import Metrics

_KIB: Final = 1024


class _PerHost:
    """A gauge with a value for each host of which it is known."""

    def __init__(self, name: str, help_: str) -> None:
        self.family = GaugeMetricFamily(f"reconciler_host_{name}", help_, labels=["host"])

    def add(self, host: str, value: float) -> None:
        self.family.add_metric([plain(host)], value)


def hosts(numbers: Metrics, seen: Mapping[str, LastSeen], plan: Plan | None, now: float) -> Iterator[Metric]:
    observed = _PerHost("observed", "Whether the host told something when it was last asked (1), or not (0).")
    age = _PerHost("last_look_age_seconds", "How long ago the host last told something.")
    memory = _PerHost("memory_bytes", "Memory of the host.")
    capacity = _PerHost("memory_capacity_bytes", "Memory that its domains can have.")
    used = _PerHost("memory_used_bytes", "Memory that is promised to its domains.")
    waiting = _PerHost("changes_waiting", "Domains that are to be changed, or whose change something holds back.")
    families = (observed, age, memory, capacity, used, waiting)
    planned = plan.hosts if plan is not None else {}
    left = (
        Counter(change.host for change in plan.changes if change.whole is not None) if plan is not None else Counter()
    )
    for host in sorted({*planned, *seen}):
        last, summary = seen.get(host), planned.get(host)
        answers = last.answers if last is not None else summary is not None and summary.observed
        observed.add(host, answers)
        if last is not None:
            age.add(host, max(0.0, now - last.at))
        if summary is not None:
            waiting.add(host, left[host])
        if summary is not None and summary.observed:
            memory.add(host, summary.memory_kib * _KIB)
            capacity.add(host, summary.capacity_kib * _KIB)
            used.add(host, summary.used_kib * _KIB)
    yield from (one.family for one in families)
    yield _domains(numbers)


def _domains(numbers: Metrics) -> Metric:
    domains = GaugeMetricFamily("reconciler_host_domains", "Domains of the host.", labels=["host", "condition"])
    for host, counts in sorted(numbers.domains_by_host.items()):
        for condition in sorted({*numbers.domains_by_condition, *counts}):
            domains.add_metric([plain(host), plain(condition)], counts.get(condition, 0))
    return domains


def windows(plan: Plan | None, now: float) -> Iterator[Metric]:
    """Yield what waits for which window, and when that opens."""
    waiting = GaugeMetricFamily("reconciler_window_changes_waiting", "Domains that wait for it.", labels=["window"])
    opens = GaugeMetricFamily(
        "reconciler_window_opens_timestamp_seconds",
        "When it opens for the first of them (Unix time).",
        labels=["window"],
    )
    held, first = Counter[str](), dict[str, float]()
    shut = Shut(plan.windows, datetime.fromtimestamp(now, UTC)) if plan is not None and plan.windows else None
    for change in plan.changes if plan is not None and shut is not None else ():
        wait = shut.wait(change.address, change.would) if shut and change.awaits_window and change.would else None
        if wait is not None:
            held[wait.name] += 1
            if wait.opens is not None:
                first[wait.name] = min(wait.opens.timestamp(), first.get(wait.name, float("inf")))
    for name in sorted(held):
        waiting.add_metric([plain(name)], held[name])
        if name in first:
            opens.add_metric([plain(name)], first[name])
    yield from (waiting, opens)
