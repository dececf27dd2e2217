"""A real Alertmanager takes the alerts of a watch, and ends them when the domain has recovered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.services.beside import WATCH, free_port, get, running, tool, until
from tests.transcript import write_files

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]

GOOD, BAD = 'kernel = "/boot/vmlinuz"\nmemory = 256\n', 'kernel = "kernels/bad"\nmemory = 256\n'
TREE = {
    "alertmanager.yml": "{route: {receiver: nobody}, receivers: [{name: nobody}]}\n",
    "specs/alpha/host.toml": 'toolstack = "simulated"\n',
    "specs/alpha/web.toml": GOOD,
    "specs/kernels/bad": '#!simulated-kernel\nboot = "panic"\n',
}


def test_a_stalled_domain_is_an_alert_until_it_has_recovered(tmp_path: Path) -> None:
    port = free_port()
    settings = f'[[notify]]\nurl = "http://127.0.0.1:{port}"\nformat = "alertmanager"\n'
    write_files({**TREE, "specs/reconciler.toml": settings}, tmp_path)
    command = [tool("prometheus-alertmanager"), "--config.file=alertmanager.yml", "--storage.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]

    def active() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(get(f"http://127.0.0.1:{port}/api/v2/alerts"))
        return [one for one in found if one["status"]["state"] != "resolved"]

    with (
        running(command, tmp_path, "alertmanager.log"),
        running([*WATCH, "watch", "specs", "--interval", "1s"], tmp_path, "watch.log") as log,
    ):
        until(lambda: "domain ready" in log.read_text())
        write_files({"specs/alpha/web.toml": BAD}, tmp_path)
        until(active)
        (alert,) = active()
        assert alert["labels"]["address"] == "alpha/web"
        until(lambda: "quarantined" in active()[0]["annotations"]["description"])
        write_files({"specs/alpha/web.toml": GOOD}, tmp_path)
        until(lambda: active() == [])
