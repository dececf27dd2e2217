"""The loop's numbers as Prometheus reads them. Called by `app` for each `GET /metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler.show.escape import plain
from reconciler.watch.view import Metrics

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _LoopCollector(Collector):
    """Asks the loop at each scrape, so that no number is kept twice."""

    def __init__(self, ask: Callable[[], Metrics]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        numbers = self._ask()
        yield from _domains(numbers)
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


def metrics_text(ask: Callable[[], Metrics]) -> Callable[[], bytes]:
    """Return a function that gives the numbers of the moment as text."""
    registry = CollectorRegistry()
    registry.register(_LoopCollector(ask))
    return lambda: generate_latest(registry)
