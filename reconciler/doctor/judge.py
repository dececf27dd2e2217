"""Makes the verdict on a host: every row of the table of checks is asked, and what cannot be found out is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.doctor.case import Case, Check, Finding, NotKnownError, State, Verdict
from reconciler.doctor.checks import CHECKS
from reconciler.doctor.facts import Examination
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Host

REACHABLE = "observed"
"""The check that every other one stands on: whether the host answers, and xl works there."""

_NOTHING_DONE = "nothing is known of its domains, so nothing is done there, and nothing is destroyed anywhere"


def judge(settings: HostSettings, domains: Mapping[str, Domain], answer: Examination | Diagnostic) -> Verdict:
    """Return the verdict on one host. One that does not answer is one finding, and that is all."""
    if isinstance(answer, Diagnostic):
        return Verdict(host=settings.name, observed=False, findings=(_not_observed(settings.name, answer),))
    host = answer.host if isinstance(answer.host, Host) else None
    findings = [] if isinstance(answer.host, Host) else [_not_observed(settings.name, answer.host)]
    ok = [REACHABLE] if host is not None else []
    case = Case(settings=settings, domains=domains, facts=answer.facts, host=host)
    for check in CHECKS:
        if case.facts.tool in check.not_of:
            continue
        found = list(_found(check, case))
        findings += found
        ok += [] if found else [check.id]
    return Verdict(host=settings.name, observed=host is not None, findings=tuple(findings), ok=tuple(ok))


def _found(check: Check, case: Case) -> Iterator[Finding]:
    host = case.settings.name
    try:
        for defect in check.judge(case):
            yield Finding(
                host=host,
                check=check.id,
                state=State.FOUND,
                what=defect.what,
                breaks=check.breaks,
                hint=check.hint(defect),
                address=None if defect.domain is None else address_of(host, defect.domain),
            )
    except NotKnownError as error:
        what = f"it is not known whether {check.looks_at}, since {error}"
        yield Finding(host=host, check=check.id, state=State.UNKNOWN, what=what, breaks=check.breaks)


def _not_observed(host: str, problem: Diagnostic) -> Finding:
    return Finding(
        host=host,
        check=REACHABLE,
        state=State.FOUND,
        what=problem.detail or problem.summary,
        breaks=_NOTHING_DONE,
        hint=problem.hint,
    )
