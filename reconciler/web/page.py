"""The page at `/`: hosts, domains, why, and the current plan. Called by `app`; works without JavaScript,
where it renews itself; with it, `page.js` puts what `feed` tells in the place of what was rendered.

Names, reasons and plans come from specs, hosts and guests, so none of them is trusted: whatever the template prints
goes through `_spelt_out` first, and is then escaped by Jinja2.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime
from importlib.resources import files as resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reconciler.records import dataclass
from reconciler.show.escape import plain_lines
from reconciler.show.text import plan_text
from reconciler.show.values import duration
from reconciler.watch.view import Metrics, WatchView
from reconciler.web.live import problems_of

_RENEWED_EVERY_SECONDS: Final = 30
_TONES: Final = {"Ready": "good", "Reconciling": "busy", "Stalled": "bad", "Held": "held"}  # a class of page.css each
_CALM: Final = frozenset({"Ready", None})  # conditions that ask for nobody; None: a domain that is not ours

SCRIPT: Final = resources("reconciler.web").joinpath("page.js").read_text()
"""What keeps the page up to date, served beside it."""

_STYLE: Final = resources("reconciler.web").joinpath("page.css").read_text()
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: only the page's own script and style apply, and it speaks with nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A host and the entries of its domains in the status document; those that need somebody come first."""

    host: str
    observed: bool
    domains: list[Mapping[str, Any]] = field(default_factory=list)


def login(*, refused: bool) -> str:
    """Render the page that asks for the token."""
    return _LOGIN.render(style=Markup(_STYLE), refused=refused)


def page(view: WatchView, *, acts: bool = False) -> str:
    """Render the page as of now. `acts`: who has the token may act by it."""
    document, metrics, plan = view.status_document(), view.metrics(), view.plan()
    return _TEMPLATE.render(
        style=Markup(_STYLE),  # our own file; escaping it would change its digest
        acts="yes" if acts else "no",
        renewed_every_seconds=_RENEWED_EVERY_SECONDS,
        healthy=view.is_healthy(),
        ready=view.is_ready(),
        summary=_summary(metrics),
        last_pass=_last_pass(metrics),
        problems=problems_of(document),
        parts=list(_parts(document)),
        plan=plan_text(plan) if plan is not None else None,
    )


def _parts(document: Mapping[str, Any]) -> Iterator[_Part]:
    by_host = {
        name: _Part(host=name, observed=bool(host["observed"])) for name, host in document.get("hosts", {}).items()
    }
    for domain in document.get("domains", ()):
        host = domain["address"].partition("/")[0]
        by_host.setdefault(host, _Part(host=host, observed=False)).domains.append(domain)
    for host in sorted(by_host):
        by_host[host].domains.sort(key=lambda domain: (domain.get("condition") in _CALM, domain["address"]))
        yield by_host[host]


def _summary(metrics: Metrics) -> str:
    counted = [f"{count} {condition}" for condition, count in metrics.domains_by_condition.items() if count]
    drifted = f" {metrics.drifted} drifted." if metrics.drifted else ""
    return f"{', '.join(counted) or 'No domain'}.{drifted}"


def _last_pass(metrics: Metrics) -> str:
    if metrics.last_pass_ended is None:
        return "No pass has ended yet."
    ended = _moment(datetime.fromtimestamp(metrics.last_pass_ended, UTC))
    took = f", and took {duration(metrics.last_pass_seconds)}" if metrics.last_pass_seconds is not None else ""
    commit = f" Commit {metrics.last_commit[:12]}." if metrics.last_commit is not None else ""
    return f"The last pass ended on {ended}{took}.{commit}"


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


def _since(text: str) -> str:
    """Write a moment of the status document for people. What cannot be read is shown as it is."""
    try:
        return _moment(datetime.fromisoformat(text).astimezone(UTC))
    except ValueError:
        return text


def _tone(condition: str | None) -> str:
    return _TONES.get(condition or "", "other")


def _spelt_out(value: object) -> object:
    """Show as an escape what would reorder letters or break the encoding; line breaks stay."""
    return "\n".join(plain_lines(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT: Final = Environment(
    autoescape=True, undefined=StrictUndefined, finalize=_spelt_out, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {"since": _since, "tone": _tone}
_LOGIN: Final = _ENVIRONMENT.from_string(resources("reconciler.web").joinpath("login.html").read_text())
_TEMPLATE: Final = _ENVIRONMENT.from_string(resources("reconciler.web").joinpath("page.html").read_text())
