"""The loop's numbers as Prometheus reads them; those of hosts are in `host_metrics`. Called for each `GET /metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler.notify import Fared
from reconciler.show.escape import plain
from reconciler.watch.view import Metrics, WatchView
from reconciler.web.host_metrics import hosts, windows

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _LoopCollector(Collector):
    """Asks the loop at each scrape, so that no number is kept twice."""

    def __init__(self, view: WatchView, now: Callable[[], float]) -> None:
        self._view = view
        self._now = now

    def collect(self) -> Iterator[Metric]:
        numbers, plan, now = self._view.metrics(), self._view.plan(), self._now()
        yield from _domains(numbers)
        yield from hosts(numbers, self._view.fleet().last_seen(), plan, now)
        yield from windows(plan, now)
        yield from _receivers(self._view.notifications.fared())
        yield from _passes(numbers)
        steps = CounterMetricFamily("reconciler_steps", "Steps that came to their end.", labels=["result"])
        steps.add_metric(["done"], numbers.steps_done_total)
        steps.add_metric(["failed"], numbers.steps_failed_total)
        yield steps


def _domains(numbers: Metrics) -> Iterator[Metric]:
    domains = GaugeMetricFamily("reconciler_domains", "Domains by condition.", labels=["condition"])
    for condition, count in sorted(numbers.domains_by_condition.items()):
        domains.add_metric([plain(condition)], count)
    yield domains
    yield GaugeMetricFamily(
        "reconciler_drifted_domains", "Domains that differ from their spec after the last pass.", numbers.drifted
    )
    downtime = GaugeMetricFamily(
        "reconciler_restart_downtime_seconds",
        "How long a restart of a domain usually keeps it down.",
        labels=["address"],
    )
    for address, seconds in sorted(numbers.downtime_seconds_by_address.items()):
        downtime.add_metric([plain(address)], seconds)
    yield downtime


def _passes(numbers: Metrics) -> Iterator[Metric]:
    yield CounterMetricFamily("reconciler_passes", "Passes that came to their end.", numbers.passes_total)
    yield CounterMetricFamily(
        "reconciler_pass_failures",
        "Passes that met a problem: a host, a spec, the source or a step.",
        numbers.pass_failures_total,
    )
    if numbers.last_pass_seconds is not None:
        yield GaugeMetricFamily(
            "reconciler_last_pass_duration_seconds", "How long the last pass took.", numbers.last_pass_seconds
        )
    if numbers.last_pass_ended is not None:
        yield GaugeMetricFamily(
            "reconciler_last_pass_end_timestamp_seconds",
            "When the last pass ended (Unix time).",
            numbers.last_pass_ended,
        )
    if numbers.last_commit is not None:
        yield InfoMetricFamily("reconciler_commit", "The commit in force.", {"commit": plain(numbers.last_commit)})


def _receivers(fared: Mapping[str, Fared]) -> Iterator[Metric]:
    label = ["receiver"]
    sent = CounterMetricFamily(
        "reconciler_notifications",
        "Sendings to a receiver, and events that were given up.",
        labels=["receiver", "result"],
    )
    waiting = GaugeMetricFamily("reconciler_notifications_waiting", "Events that wait for a receiver.", labels=label)
    last = GaugeMetricFamily(
        "reconciler_notifications_last_delivery_timestamp_seconds",
        "When a receiver last took an event (Unix time).",
        labels=label,
    )
    for name, one in sorted(fared.items()):
        sent.add_metric([plain(name), "delivered"], one.delivered)
        sent.add_metric([plain(name), "failed"], one.failed)
        sent.add_metric([plain(name), "dropped"], one.dropped)
        waiting.add_metric([plain(name)], one.waiting)
        if one.last_delivery is not None:
            last.add_metric([plain(name)], one.last_delivery)
    yield from (sent, waiting, last)


def metrics_text(view: WatchView, now: Callable[[], float] = time.time) -> Callable[[], bytes]:
    """Return a function that gives the numbers of the moment as text."""
    registry = CollectorRegistry()
    registry.register(_LoopCollector(view, now))
    return lambda: generate_latest(registry)
