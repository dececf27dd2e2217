"""The numbers of each host, and of the windows that changes wait for, as Prometheus reads them. Called by `metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from reconciler.fleet import LastSeen
from reconciler.model.host import WHOLE_HOST
from reconciler.plan.plan import Plan
from reconciler.show.escape import plain
from reconciler.watch.view import Metrics
from reconciler.web.windows import waits_by_window

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
    held = _PerHost("held", "Whether somebody held all of the host when it last told something (1), or not (0).")
    families = (observed, held, age, memory, capacity, used, waiting)
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
            held.add(host, WHOLE_HOST in last.host.holds)
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
    for name, (count, first) in sorted(waits_by_window(plan, now).items()):
        waiting.add_metric([plain(name)], count)
        if first is not None:
            opens.add_metric([plain(name)], first)
    yield from (waiting, opens)
