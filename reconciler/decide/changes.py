"""Defines a change: the action, why, what differs, and what it leads to. `decide` makes changes, `plan` orders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from dataclasses import fields as dataclass_fields
from enum import StrEnum

from reconciler.decide.diff import FieldChange, Pending, noted_fields
from reconciler.decide.safety_rules import Block
from reconciler.decide.windows import WINDOW, Shut
from reconciler.model.claims import Unseen
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import Doubt
from reconciler.model.host import Guest, Host, Quarantined
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.rehearsal import Rehearsal
from reconciler.records import dataclass

FROZEN = "its spec file has errors, so it is left alone"
"""Why nothing is done about a domain whose file cannot be read."""

SPEC_CHANGED, DRIFTED = "spec changed", "drifted from the spec"
"""Why a domain whose config file nobody edited differs: its spec asks for something else, or somebody changed it."""

HELD_UNTIL = "reconcile = true"
"""What a change waits for that its spec or host.toml holds back."""

DEFERRED = "restart: defer"
"""What the restart waits for of a domain whose spec defers it."""


class Action(StrEnum):
    """The actions of changes, in the words of Terraform and xl."""

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
    """The consent that the user gave for this run, by address."""

    adopt: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()
    retry: frozenset[str] = frozenset()
    unpause: frozenset[str] = frozenset()
    rollback: frozenset[str] = frozenset()
    allow_destroy: int | None = None
    allow_restart: int | None = None
    ignore_holds: bool = False
    ignore_windows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of one domain: what differs, why, and what will be done about it.

    `target` is the definition the steps lead to (the desired one, less what has to wait); None after a destroy.
    """

    host: str
    domain: str
    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()
    blocked: str | None = None
    hint: str | None = None
    pending: tuple[Pending, ...] = ()
    waits_for: tuple[str, ...] = ()
    downtime_seconds: float | None = 0
    guest: Guest | None = field(default=None, repr=False)
    target: Domain | None = field(default=None, repr=False)
    writes_config: bool = False
    notes: bool = False  # nothing is done but to note in its config file that it is to be left alone
    parked: bool = False  # not among what this run is about: it acts only if it goes down with what it depends on
    quarantine: tuple[Quarantined, ...] | None = None  # to be kept on the host first; (): lifted; None: as it is
    quarantined: Quarantined | None = None  # why what the spec asks for is not tried
    rehearsal: Rehearsal | None = None  # its restart begins only if this has got ready
    control: Rehearsal | None = None  # the same with the boot inputs that run now
    no_verdict: Quarantined | None = None  # what is noted where the rehearsal says nothing
    unrehearsed: str | None = None  # why it restarts without a rehearsal although its spec asks for one
    hold: str | None = None  # the words of a hold on its host, which forbids to begin anything with it
    would: Action | None = None  # the action it would have, all or its rest, were it not held back
    wave: int = 0
    outings: tuple[int, ...] = ()  # waves in which it goes down with what it depends on and comes back as it was
    alone: Action | None = None  # what is done besides that, in its own wave; None: what `action` says

    @property
    def address(self) -> str:
        return address_of(self.host, self.domain)

    @property
    def own(self) -> Action:
        """Return what is done with the domain for its own sake, and not because another one goes down."""
        return self.action if self.alone is None else self.alone

    @property
    def whole(self) -> Action | None:
        """Return the action it would have were nothing held back, also where a part of it is; None: nothing is to do.

        A domain that is to restart, and changes live meanwhile, is still to restart where that is held as well.
        """
        own = self.own if self.own not in (Action.BLOCKED, Action.NO_OP) else None
        return own or self.would if self.would in (None, Action.UPDATE) else self.would

    @property
    def restarts(self) -> bool:
        """Return whether a running domain goes down and comes back."""
        return self.action is Action.RESTART

    @property
    def awaits_window(self) -> bool:
        """Return whether a window holds it back, all or its rest."""
        return any(what.startswith(WINDOW) for what in self.waits_for)

    @property
    def leads_back(self) -> bool:
        """Return whether this is a rollback, or leads into what last worked. No window holds it."""
        is_brought_back = self.quarantined is not None and self.action is not Action.UPDATE  # which is its live part
        return is_brought_back or bool(self.quarantine)

    @property
    def resumes(self) -> bool:
        """Return whether this goes on with an update that was cut short, so that nobody knows if it works."""
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
    """Holds what a decision about one host has to know of the others: where else names are declared or held."""

    name: str = "default"
    declared: Mapping[str, str]  # domain name -> host whose specs declare it
    managed: Mapping[str, tuple[str, ...]]  # domain name -> hosts that hold it as ours
    unseen: Unseen = field(default_factory=Unseen)
    postponed: Mapping[str, str] = field(default_factory=dict)  # addresses left alone in this run -> why
    twice: Mapping[str, str] = field(default_factory=dict)  # address -> where else its uuid is
    left_alone: frozenset[str] = frozenset()  # addresses that their last spec, which is gone, said to leave alone
    kept: frozenset[str] = frozenset()  # and those that it said not to destroy
    doubts: Mapping[str, Doubt] = field(default_factory=dict)  # addresses that this tree may never have asked for
    heirs: Mapping[str, str] = field(default_factory=dict)  # uuid -> address of the spec that asks for it
    keepers: Mapping[str, str] = field(default_factory=dict)  # uuid -> address of the domain of ours that has it
    renamed_from: Mapping[str, str] = field(default_factory=dict)  # address -> name that its spec says it had
    prune: bool = True
    any_specs: bool = True
    shut: Shut | None = None  # the windows, at the moment of this run


def make_change(
    host: Host,
    name: str,
    action: Action,
    reason: str,
    *,
    fields: tuple[FieldChange, ...] = (),
    guest: Guest | None = None,
    target: Domain | None = None,
    waits_for: tuple[str, ...] = (),
    downtime_seconds: float | None = 0,
    writes_config: bool = False,
) -> Change:
    return Change(
        host=host.name,
        domain=name,
        action=action,
        reason=reason,
        fields=fields,
        guest=guest,
        target=target,
        waits_for=waits_for,
        downtime_seconds=downtime_seconds,
        writes_config=writes_config,
    )


def make_blocked(
    host: Host,
    name: str,
    block: Block,
    guest: Guest | None,
    fields: tuple[FieldChange, ...] = (),
    would: Action | None = None,
) -> Change:
    change = make_change(host, name, Action.BLOCKED, block.reason, fields=fields, guest=guest)
    return replace(change, blocked=block.reason, hint=block.hint, would=would)


def block(change: Change, reason: str) -> Change:
    """Return the change as blocked, for a reason that another domain or the whole run gives."""
    return replace(
        change,
        action=Action.BLOCKED,
        blocked=reason,
        reason=change.reason if change.acts else reason,
        downtime_seconds=0,
        would=change.whole,
        outings=(),
        alone=None,
    )


def blocked_by(change: Change, held: Block) -> Change:
    """Return the change as blocked by a rule that another domain breaks, with the way out where there is one."""
    return replace(block(change, held.reason), hint=held.hint or change.hint)


def make_acting(
    host: Host, guest: Guest, action: Action, reason: str, target: Domain, fields: tuple[FieldChange, ...]
) -> Change:
    """Make a change that acts, or a no-op when an update has nothing to do."""
    waits = guest.unproven or (not guest.exists and target.state == "stopped")  # in a candidate, for the next start
    written = (guest.candidate if waits else None) or guest.config
    writes = written is None or guest.edited or not same_config(written, target)
    noted = () if written is None else noted_fields(written, target)
    writes, fields = writes or bool(noted), tuple(sorted({*fields, *noted}, key=lambda field: field.path))
    unstaged = any(host.images.get(image.path) != image.sha256 for image in target.images if image.sha256)
    if action is Action.UPDATE and not (fields or writes or unstaged or guest.unproven):
        return make_change(host, guest.name, Action.NO_OP, "as specified", guest=guest, target=target)
    if action is Action.UPDATE and not fields and written is not None and not (guest.edited or guest.unproven):
        reason = f"its config file has another {', '.join(_differing(written, target))}" if writes else reason
    if action is Action.UPDATE and unstaged and not fields:
        reason = "a staged kernel or ramdisk is missing on the host"
    return make_change(
        host, guest.name, action, reason, fields=fields, guest=guest, target=target, writes_config=writes
    )


def _differing(one: Domain, other: Domain) -> list[str]:
    """Name the keys of which a config file carries another value."""
    names = {key.attribute: key.name for key in DOMAIN_KEYS if key.of is not None}
    differing = (part.name for part in dataclass_fields(Domain) if part.compare and part.name != "autostart")
    return sorted(names.get(name, name) for name in differing if getattr(one, name) != getattr(other, name))


def same_config(one: Domain, other: Domain) -> bool:
    """Return whether a config file would be the same for both. (It does not carry autostart.)"""
    return one == other or replace(one, autostart=None) == replace(other, autostart=None)


def left_alone(change: Change, reason: str, waits_for: str) -> Change:
    """Do nothing about a domain, but still tell what differs."""
    return replace(
        change,
        action=Action.NO_OP,
        reason=reason,
        waits_for=tuple(dict.fromkeys((*change.waits_for, waits_for))),
        blocked=None,
        hint=None,
        target=None,
        downtime_seconds=0,
        would=change.whole,
    )
