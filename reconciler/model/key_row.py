"""Defines the rows of the table of keys (`keys.py`)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Generic, TypeVar

from reconciler.model.domain import Disk, Domain, Image, Ready, Scalar, Vif
from reconciler.records import dataclass

Owner = TypeVar("Owner", Domain, Disk, Vif, Ready)
"""What the key is one of."""

Value = Scalar | Image | tuple[str, ...] | tuple[tuple[str, str], ...]
"""What a field of an owner holds, but for those that are tables themselves."""


class Kind(StrEnum):
    """The kind of a value, unless it is a whole number or a choice; in the words of the reference."""

    WORD = "string"
    LINE = "string, may be empty"  # xl lists an empty one for none
    FLAG = "boolean"
    ORDER = "boolean or integer"
    SIZE = "size"  # in xl.cfg, MiB
    DURATION = "duration"
    SECONDS = "number of seconds"
    FILE = "path of a file"  # an Image
    WORDS = "string or array of strings"
    NAMES = "array of names"
    PER_VCPU = "string, or array of strings with one entry a vcpu"
    DEVICES = "array of PCI addresses and tables"
    TABLE = "table"
    TABLES = "array of tables"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]


class Takes(Enum):
    """Says what it takes to give a running domain another value."""

    LIVE = "live"
    RESTART = "restart"
    CEILING = "restart to raise it, next start to lower it"  # less room than it could have is not worth a restart
    NOTHING = "nothing"  # it says how the domain is treated, not what it is


LATER = "xl"
"""The entry, in the digest of boot inputs, of what came after 0.1. It counts as it did when it stood in `[xl]`: under
its name, where it is given (of a device, behind what 0.1 knew). So the digests that 0.1 left on hosts keep their
meaning."""


@dataclass(frozen=True, slots=True)
class Key(Generic[Owner]):
    """One key of a spec. A spec without it gets `default`; `unset` is the value that xl uses when it is left to it."""

    name: str  # in a spec, and in xl.cfg
    kind: Kind | Whole | Choice
    doc: str
    of: Callable[[Owner], Value] | None = None  # None: it has no field of its own, or is a table
    field: str = ""  # of the owner; "": as the key
    also: tuple[str, ...] = ()  # other fields that it sets
    default: Value = None
    unset: Scalar = None
    unset_of: Callable[[Owner], Scalar] | None = None  # the same where it depends on the owner's other keys
    takes: Takes = Takes.RESTART
    boot: str | None = None  # its entry in the digest of boot inputs; "": none; None: LATER, if it takes a restart
    in_cfg: bool = True  # stands in xl.cfg
    spelled: tuple[str, str] | None = None  # of a flag of a device: how xl.cfg says true and false; "": by nothing
    listed: tuple[str, ...] = ()  # where `xl list -l` shows it; (): what the config file says counts
    kept: bool = False  # carried by the mark of the config file, so that it outlives the spec
    rolled_back: bool = False  # a rollback takes the value of before
    worked_out: bool = False  # more goes into it than its own text: the code that knows names it
    floor: str | None = None  # of a ceiling: the key that it bounds, whose value it has by default
    share_option: str | None = None  # with which `xl sched-credit` and `xl sched-credit2` set it
    needs: tuple[str, ...] = ()  # the keys without all of which it means nothing
    boots: bool = False  # a domain can boot from it
    in_spec: bool = True
    allowed_by: str | None = None  # the list in [allow] of host.toml that has to name its value
    example: str = ""  # a line of TOML
    since: str = "0.1"

    @property
    def attribute(self) -> str:
        """Return the name of the owner's field."""
        return self.field or self.name

    @property
    def is_ordinary(self) -> bool:
        """Return whether the value passes unchanged from the spec to xl.cfg and back."""
        return self.of is not None and not self.worked_out

    @property
    def boot_entry(self) -> str:
        """Return its entry in the digest of boot inputs; "" for what a boot does not read."""
        if self.boot is not None:
            return self.boot
        return LATER if self.of is not None and self.takes in (Takes.RESTART, Takes.CEILING) else ""

    def value(self, owner: Owner) -> Value:
        """Return the value that the owner has."""
        assert self.of is not None, self.name
        return self.of(owner)

    def meant(self, owner: Owner) -> Value:
        """Return the value that the owner has, or else what xl uses when it is left to it."""
        value = self.value(owner)
        if value is not None:
            return value
        return self.unset if self.unset_of is None else self.unset_of(owner)
