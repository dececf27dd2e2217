"""What is fuzzed: each target takes one text from somewhere we do not trust, and raises where a law is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.fuzz import hosts, requests, shown, trees


@dataclass(frozen=True, slots=True)
class Target:
    seeds: Callable[[], Sequence[str]]
    check: Callable[[str], None]


TARGETS = {
    "specs": Target(lambda: trees.TREES, trees.check_tree),
    "cfg": Target(lambda: hosts.CONFIGS, hosts.check_config),
    "host": Target(lambda: hosts.ANSWERS, hosts.check_answer),
    "xl": Target(lambda: hosts.OUTPUTS, hosts.check_output),
    "plan": Target(trees.plan_seeds, trees.check_plan_file),
    "http": Target(lambda: requests.REQUESTS, requests.check_request),
    "shown": Target(lambda: shown.CONSOLES, shown.check_shown),
    "shell": Target(lambda: shown.VALUES, shown.check_shell),
}
