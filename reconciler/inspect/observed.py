"""What hosts are, as a document: written by `observe` and by `watch`, read by `plan --from`.

A secret is in it as a digest with a key, by which a change of it can be seen and no more: a guess costs what scrypt
takes, and two domains with one password do not look alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from reconciler.model.boot import boot_digest
from reconciler.model.diagnostics import Diagnostic, Kind, refused
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired
from reconciler.model.host import Devices, Guest, Host
from reconciler.records import dataclass
from reconciler.specs.secrets import concealed_text, without_secrets
from reconciler.toolstack import Question

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
_COST = {"n": 1 << 13, "r": 8, "p": 1, "dklen": 16}
_OTHER = "have it written anew by `reconciler observe --out FILE` of this version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A host as it was last observed, what it was asked for, and when.

    With `told_by` another controller of the cluster has observed it, and its secrets are digests with this `key`.
    """

    host: Host
    question: Question
    at: datetime
    told_by: str = ""
    key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Hosts of one fleet as they were seen. `key` is that of the digests of their secrets, where a host has no own."""

    fleet: str
    key: bytes
    hosts: Mapping[str, Seen]


def observed_document(observed: Observed, problems: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """Make the document of `observe`. `problems` are the diagnostics of hosts that did not answer, as documents."""
    return {
        "format": FORMAT,
        "version": _version(),
        "fleet": observed.fleet,
        "key": observed.key.hex(),
        "hosts": {name: _entry(seen, observed.key) for name, seen in sorted(observed.hosts.items())},
        "diagnostics": list(problems),
    }


def _entry(seen: Seen, key: bytes) -> dict[str, Any]:
    entry = {
        "observed_at": _text_of(seen.at),
        "asked": _adapter(Question).dump_python(seen.question, mode="json"),
        "host": _host(seen.host if seen.key else _sealed(seen.host, key)),
    }
    return {**entry, "told_by": seen.told_by, "key": seen.key.hex()} if seen.key else entry


def _host(host: Host) -> dict[str, Any]:
    """Dump a host, guest by guest: in one call, those of 10,000 would let no other thread get on for 0.1 s."""
    guests, dump = host.guests, _adapter(Guest).dump_python
    about: dict[str, Any] = _adapter(Host).dump_python(replace(host, guests={}), mode="json", exclude_defaults=True)
    if guests:
        about["guests"] = {name: dump(guest, mode="json", exclude_defaults=True) for name, guest in guests.items()}
    return about


def read_observed(document: object, fleet: str) -> Observed:
    """Read the document again. Raises ReconcilerError (refused) for one that is none, or of another fleet."""
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != _version():
        raise refused(
            "not what hosts were observed to be", "It is nothing that this version of `observe` wrote.", _OTHER
        )
    if document.get("fleet") != fleet:
        raise refused(
            "hosts of another fleet",
            f"It is about the fleet {document.get('fleet')!r}, and the specs are of the fleet {fleet!r}.",
            "name the specs of that fleet with --specs",
        )
    try:
        hosts = {
            str(name): Seen(
                host=_adapter(Host).validate_python(entry["host"]),
                question=_adapter(Question).validate_python(entry["asked"]),
                at=datetime.fromisoformat(entry["observed_at"]),
                told_by=str(entry.get("told_by", "")),
                key=bytes.fromhex(entry.get("key", "")),
            )
            for name, entry in document["hosts"].items()
        }
        return Observed(fleet=fleet, key=bytes.fromhex(document["key"]), hosts=hosts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # pydantic's errors are ValueErrors
        detail = f"It is not as `observe` wrote it ({type(error).__name__})."
        raise refused("not what hosts were observed to be", detail, _OTHER) from error


def comparable(desired: Desired, observed: Observed) -> tuple[Desired, dict[str, Host]]:
    """Return the desired state and the hosts so that they can be compared, with the same digests for equal secrets.

    What is remembered of failed boots is a digest over all that they read, so it goes from one form to the other.
    """
    parts, hosts = dict(desired.hosts), {name: seen.host for name, seen in observed.hosts.items()}
    for name, part in desired.hosts.items():
        key = (observed.hosts[name].key if name in hosts else b"") or observed.key
        domains = {domain: _sealed_definition(definition, key) for domain, definition in part.domains.items()}
        parts[name] = replace(part, domains=domains)
        changed = {domain for domain in domains if domains[domain] != part.domains[domain]}
        if name in hosts and changed:
            guests = dict(hosts[name].guests)
            for domain in changed & guests.keys():
                was, now = boot_digest(part.domains[domain]), boot_digest(domains[domain])
                entries = (
                    replace(entry, boot=now if entry.boot == was else entry.boot) for entry in guests[domain].quarantine
                )
                guests[domain] = replace(guests[domain], quarantine=tuple(entries))
            hosts[name] = replace(hosts[name], guests=guests)
    return replace(desired, hosts=parts), hosts


def never_asked(name: str, seen: Seen, question: Question) -> Diagnostic | None:
    """Say what the specs name on a host that nobody asked about when it was observed; None when there is nothing."""
    asked = {*seen.question.files, *seen.question.images, *seen.question.sources}
    missing = sorted({*question.files, *question.images, *question.sources} - asked)
    if not missing:
        return None
    return Diagnostic(
        kind=Kind.NOTE,
        summary="not all is known of the host",
        detail=f"When {name} was observed, nobody asked about {', '.join(missing)}: whether it is there, and what it "
        "holds, is not known.",
        hint="observe it by these specs to know",
        address=name,
    )


def with_unknown_images(seen: Seen, question: Question) -> Host:
    """Return the host with a digest for images that nobody asked about, so that they are shown as unknown."""
    unknown = dict.fromkeys(set(question.images) - set(seen.question.images), "unknown")
    return replace(seen.host, digests={**seen.host.digests, **unknown})


def _sealed(host: Host, key: bytes) -> Host:
    return replace(host, guests={name: _sealed_guest(guest, key) for name, guest in host.guests.items()})


def _sealed_guest(guest: Guest, key: bytes) -> Guest:
    def sealed(definition: Domain | None) -> Domain | None:
        return definition and _sealed_definition(definition, key)

    return replace(
        guest,
        config=sealed(guest.config),
        candidate=sealed(guest.candidate),
        running=sealed(guest.running),
        previous=sealed(guest.previous),
        devices=guest.devices and _sealed_devices(guest.devices),
        unsaid=tuple(map(concealed_text, guest.unsaid)),
        ignored=tuple(map(concealed_text, guest.ignored)),
        comments={},  # a person's own words, which no plan reads
    )


def _sealed_devices(devices: Devices) -> Devices:
    if devices.disks is None:
        return devices
    return replace(devices, disks=tuple((concealed_text(target), access) for target, access in devices.disks))


def _sealed_definition(definition: Domain, key: bytes) -> Domain:
    return without_secrets(definition, lambda secret: _digest(key + definition.uuid.encode(), secret))


@cache
def _version() -> str:
    """Return what tells by what fields a host is told: it is read by those that wrote it alone.

    Else what another version left out would be taken for what a field is when nothing is said.
    """
    return shape_of(Host, Question)


def shape_of(*kinds: object) -> str:
    """Return a digest of the fields of these dataclasses, and of those that they are made of."""
    shapes: dict[str, list[tuple[str, str]]] = {}
    left = list(kinds)
    while left:
        kind = left.pop()
        left += get_args(kind)
        if isinstance(kind, type) and is_dataclass(kind) and kind.__qualname__ not in shapes:
            shapes[kind.__qualname__] = [(one.name, str(one.type)) for one in fields(kind)]
            left += get_type_hints(kind).values()
    return hashlib.sha256(repr(sorted(shapes.items())).encode()).hexdigest()[:12]


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@lru_cache(maxsize=4096)
def _digest(key: bytes, secret: str) -> str:
    digest = hashlib.scrypt(secret.encode(errors="surrogatepass"), salt=key, **_COST)
    return f"secret-{digest.hex()}"


def _text_of(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
