"""The metrics as a real Prometheus reads them: alerts are raised, and every query of the dashboard finds something."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services.beside import WATCH, free_port, get, running, tool, until
from tests.transcript import write_files

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]

ROOT = Path(__file__).parents[2]
RULES = ROOT / "contrib/prometheus/reconciler.rules.yml"
DASHBOARD = ROOT / "contrib/grafana/reconciler.json"
HOST = 'toolstack = "simulated"\n'
WEB = 'kernel = "/boot/vmlinuz"\nmemory = 256\n'
WINDOW = '[[window]]\nkind = "allow"\nschedule = "0 0 29 2 *"\nduration = "1h"\nreason = "leap days"\n'
RECEIVERS = '[[notify]]\nurl = "http://127.0.0.1:RECEIVER/"\n[[notify]]\nurl = "http://127.0.0.1:1/"\n'
TREE = {
    "specs/reconciler.toml": RECEIVERS,
    "specs/alpha/host.toml": HOST,
    "specs/alpha/web.toml": WEB,
    "specs/beta/host.toml": HOST,
    "specs/beta/db.toml": WEB,
}


def test_the_alerts_are_raised_when_they_should_be(tmp_path: Path) -> None:
    tests = (Path(__file__).parent / "alerts.test.yml").read_text()
    (tmp_path / "alerts.yml").write_text(tests.replace("RULES", str(RULES)))
    ran = subprocess.run(
        [tool("promtool"), "test", "rules", "alerts.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    names = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    tested = {name for name in names if f"alertname: {name}\n" in tests}
    assert tested == names


@dataclass
class Prometheus:
    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        said = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{said}", timeout=10) as answer:
            about = json.load(answer)
        assert about["status"] == "success", about
        found: list[dict[str, Any]] = about["data"]["result"]
        return found

    def value(self, query: str) -> float | None:
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def prometheus(folder: Path, receiver_port: int) -> Iterator[Prometheus]:
    """A watch over two simulated hosts, one of which falls silent, and a Prometheus that reads its metrics."""
    write_files({name: text.replace("RECEIVER", str(receiver_port)) for name, text in TREE.items()}, folder)
    with running([*WATCH, "watch", "specs", "--interval", "1s", "--listen", "0"], folder, "watch.log") as log:
        until(lambda: "url=" in log.read_text())
        (port,) = re.findall(r"url=http://127\.0\.0\.1:(\d+)/", log.read_text())
        until(lambda: b"No pass" not in get(f"http://127.0.0.1:{port}/readyz"))
        own = free_port()
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{RULES}]\n"
            f"scrape_configs: [{{job_name: reconciler, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
        )
        command = [tool("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        with running([*command, f"--web.listen-address=127.0.0.1:{own}"], folder, "prometheus.log"):
            asked = Prometheus(f"http://127.0.0.1:{own}")
            until(lambda: asked.value("count_over_time(reconciler_passes_total[1m])"))
            kernel(folder, "/boot/second")
            until(lambda: asked.value("reconciler_restart_downtime_seconds"))
            with (folder / "specs/reconciler.toml").open("a") as settings:
                settings.write(WINDOW)
            kernel(folder, "/boot/third")
            fault = ["sim", "beta", "fault", "unreachable", "--times", "999"]
            subprocess.run([*WATCH, *fault], cwd=folder, check=True, capture_output=True)
            until(lambda: asked.value('reconciler_host_observed{host="beta"}') == 0)
            until(lambda: asked.value("reconciler_window_changes_waiting"))
            yield asked


def kernel(folder: Path, path: str) -> None:
    (folder / "specs/alpha/web.toml").write_text(f'kernel = "{path}"\nmemory = 256\n')


def test_what_prometheus_knows_of_hosts_windows_and_receivers(prometheus: Prometheus, receiver_port: int) -> None:
    assert prometheus.value('reconciler_host_observed{host="alpha"}') == 1
    assert prometheus.value('reconciler_host_memory_bytes{host="alpha"}') == 8 << 30
    assert prometheus.value('reconciler_host_changes_waiting{host="alpha"}') == 1
    assert prometheus.value('reconciler_window_changes_waiting{window="leap days"}') == 1
    opens = prometheus.value('reconciler_window_opens_timestamp_seconds{window="leap days"}')
    assert opens is not None
    assert time.gmtime(opens)[1:3] == (2, 29)
    taken = f'reconciler_notifications_total{{receiver="json http://127.0.0.1:{receiver_port}",result="delivered"}}'
    until(lambda: (prometheus.value(taken) or 0) >= 2)
    down = 'reconciler_notifications_waiting{receiver="json http://127.0.0.1:1"}'
    assert (prometheus.value(down) or 0) >= 2
    until(lambda: (prometheus.value('reconciler_host_last_look_age_seconds{host="beta"}') or 0) > 2)


def test_the_alerts_are_loaded_and_one_is_pending(prometheus: Prometheus) -> None:
    pending = 'ALERTS{alertname="ReconcilerHostSilent",alertstate="pending",host="beta"}'
    until(lambda: prometheus.ask(pending))


def queries() -> list[tuple[str, str]]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


WITHOUT_GIT = {"reconciler_commit_info"}  # what a folder of specs has no value for


@pytest.mark.parametrize(("title", "query"), queries())
def test_each_query_of_the_dashboard_finds_something(prometheus: Prometheus, title: str, query: str) -> None:
    asked = query.replace("$__rate_interval", "1m").replace("$host", ".*")
    assert "$" not in asked
    if query in WITHOUT_GIT:
        assert prometheus.ask(asked) == []
    else:
        until(lambda: prometheus.ask(asked))


def test_the_dashboard_names_only_metrics_that_the_documentation_has() -> None:
    text = (ROOT / "docs/metrics.md").read_text() + "\n"
    named = {name for _, query in queries() for name in re.findall(r"reconciler_\w+", query)}
    assert named
    assert sorted(name for name in named if f"`{name}" not in text) == []
