"""The keys of a fleet in etcd, and what their values say. Pure.

Keys stand under the fleet's name, so several fleets share an etcd. `member/` and `claim/` go with a controller's lease;
`facts/` and `fleet` outlive it. What another version or a person wrote is read as far as it is understood; a value that
is not understood is nobody's, and is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

VALUE_BYTES = 256 * 1024
FACTS_BYTES = 1024 * 1024
"""As much as the facts of a host, and what is counted over the fleet, may have; etcd takes 1.5 MiB."""

FACTS_A_PAGE = 16  # keys, of which an answer tells a third more than each has, and it may have 32 MiB

FORMAT = 1
_LAST_MOMENT = 253_402_214_400  # the last day of the year 9999


class _Value(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int = FORMAT


class Member(_Value):
    """A controller that is there."""

    session: str
    name: str  # by which hosts are divided: the same after it was started again
    who: str = ""  # for people
    version: str = ""
    specs: str = ""  # the commit, or the digest of the tree, that it goes by
    cannot_reach: frozenset[str] = frozenset()
    lags: bool = False  # it does not have the accepted commit
    fetches: bool = True  # its last try to have newer specs went well


class Claim(_Value):
    """The controller that has a host, and since when, in Unix seconds."""

    session: str
    who: str = ""
    since: float = 0.0


class Facts(_Value):
    """What the controller that has a host last knew of it. It outlives that controller."""

    who: str = ""
    version: str = ""  # of that controller
    # when it was told, in Unix seconds that a calendar has: no part of what makes it another
    at: float = Field(default=0.0, ge=0, le=_LAST_MOMENT)
    specs: str = ""
    token: int = 0
    domains: Mapping[str, tuple[str, str]] = Field(default_factory=dict)  # address -> condition, reason
    stuck: tuple[str, ...] = ()  # commands there that neither end nor can be killed, and since when
    problem: str = ""  # why the host could not be seen, where that is so
    seen: str = ""  # as it was seen last (`facts.packed_of`): names, uuids, macs, waves and all else that plans heed


class Reserved(_Value):
    """A place of the fleet's `max_unavailable`, which one domain has while it is down for a restart."""

    session: str = ""
    who: str = ""
    since: float = 0.0


class Fleet(_Value):
    """What counts over the whole fleet: the specs that all go by, the places that are taken, and the brake's count."""

    specs: str = ""
    made: str = ""  # another one each time that the key is made, as where etcd has lost it
    reserved: Mapping[str, Reserved] = Field(default_factory=dict)
    counted: Mapping[str, frozenset[str]] = Field(default_factory=dict)  # action -> addresses, since these specs
    given_up: frozenset[str] = frozenset()  # hosts, until they answer again


V = TypeVar("V", bound=_Value)


def read(kind: type[V], text: str, at_most: int = VALUE_BYTES) -> V | None:
    """Return a value; None where it is not understood, as where a newer version or a person wrote it.

    >>> read(Claim, '{"session": "a1", "colour": "green"}').session
    'a1'
    >>> read(Claim, "mine!"), read(Claim, '{"format": 2, "session": "a1"}')
    (None, None)
    """
    if len(text) > at_most:
        return None
    try:
        value = kind.model_validate_json(text)
    except (ValidationError, ValueError):
        return None
    return value if value.format == FORMAT else None


class Names:
    """The names of the keys of one fleet.

    >>> names = Names("prod")
    >>> names.claim("alpha"), names.host_of(names.claim("alpha")), names.host_of(names.fleet)
    ('/reconciler/prod/claim/alpha', 'alpha', None)
    """

    def __init__(self, fleet: str) -> None:
        self.of = fleet
        self.prefix = f"/reconciler/{fleet}/"
        self.fleet = f"{self.prefix}fleet"
        self.members = f"{self.prefix}member/"
        self.claims = f"{self.prefix}claim/"
        self.facts_of_all = f"{self.prefix}facts/"

    def member(self, session: str) -> str:
        return f"{self.members}{session}"

    def claim(self, host: str) -> str:
        return f"{self.claims}{host}"

    def facts(self, host: str) -> str:
        return f"{self.facts_of_all}{host}"

    def host_of(self, key: str) -> str | None:
        """Return the host that a claim is for; None for any other key."""
        return key.removeprefix(self.claims) if key.startswith(self.claims) else None
