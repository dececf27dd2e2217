"""Judges windows again while a plan is followed: one may have closed meanwhile. What is begun is finished."""

from __future__ import annotations

from datetime import UTC, datetime

from reconciler.decide.windows import Shut
from reconciler.model.diagnostics import Diagnostic, moved_on
from reconciler.plan.plan import Plan


class ClosingWindows:
    """The windows of a plan, and which of its changes they may hold."""

    def __init__(self, plan: Plan) -> None:
        self._windows = plan.windows
        held = (change for change in plan.changes if change.acts and not (change.resumes or change.leads_back))
        self._actions = {change.address: change.action for change in held} if plan.windows else {}

    def closed(self, address: str, at: datetime | None = None) -> Diagnostic | None:
        """Return why nothing of the change at an address may begin now; None if it may."""
        action = self._actions.get(address)
        if action is None:
            return None
        wait = Shut(self._windows, at or datetime.now(UTC)).wait(address, action)
        if wait is None:
            return None
        return moved_on(
            "a window has closed",
            f"The {action.value} of {address} may not begin any more: {wait.told}.",
            "wait until it opens, or: reconciler apply --ignore-windows",
            address,
        ).diagnostics[0]

    def all_closed(self, at: datetime | None = None) -> dict[str, Diagnostic]:
        """Return the hosts of changes that may not begin now, with why of the first."""
        closed = ((address, self.closed(address, at)) for address in sorted(self._actions, reverse=True))
        return {address.split("/", 1)[0]: problem for address, problem in closed if problem is not None}
