"""What a change is: the action, why, what differs, and what it leads to. `decide` makes them, `plan` orders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.core.diff import FieldChange
from reconciler.core.state import Domain, Guest, Quarantined, address_of


class Action(StrEnum):
    """What a change does, in Terraform's and xl's words."""

    CREATE = "create"
    UPDATE = "update"
    RESTART = "restart"
    DESTROY = "destroy"
    START = "start"
    STOP = "stop"
    ADOPT = "adopt"
    MIGRATE = "migrate"
    BLOCKED = "blocked"
    NO_OP = "no-op"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What the user allowed for this run, by address."""

    adopt: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()
    retry: frozenset[str] = frozenset()
    rollback: frozenset[str] = frozenset()
    allow_destroy: int | None = None
    allow_restart: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What differs for one domain, why, and what will be done about it.

    `target` is the definition the steps lead to (the desired one, less what has to wait); None after a destroy.
    """

    host: str
    domain: str
    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()
    blocked: str | None = None
    hint: str | None = None
    pending: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    downtime_seconds: float | None = 0
    guest: Guest | None = field(default=None, repr=False)
    target: Domain | None = field(default=None, repr=False)
    writes_config: bool = False
    parked: bool = False  # not among what this run is about: it acts only if it goes down with what it depends on
    quarantine: tuple[Quarantined, ...] | None = None  # to be kept on the host first; (): lifted; None: as it is
    quarantined: Quarantined | None = None  # why what the spec asks for is not tried

    @property
    def address(self) -> str:
        return address_of(self.host, self.domain)

    @property
    def restarts(self) -> bool:
        """Whether a running domain goes down and comes back."""
        return self.action is Action.RESTART

    @property
    def resumes(self) -> bool:
        """Whether this goes on with an update that was cut short, so that nobody knows if it works."""
        guest = self.guest
        if guest is None:
            return False
        return (self.action is Action.UPDATE and guest.unproven) or (
            self.action is Action.START and guest.candidate is not None
        )

    @property
    def acts(self) -> bool:
        return self.action not in (Action.BLOCKED, Action.NO_OP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What a decision about one host has to know of the others: where else names are declared or held."""

    declared: Mapping[str, str]  # domain name -> host whose specs declare it
    managed: Mapping[str, tuple[str, ...]]  # domain name -> hosts that hold it as ours
    unseen: Mapping[str, str] = field(default_factory=dict)  # domain name -> unobserved host it was last seen on
    postponed: Mapping[str, str] = field(default_factory=dict)  # addresses left alone in this run -> why
    prune: bool = True
    any_specs: bool = True
