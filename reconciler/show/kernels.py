"""The kernels of a fleet's domains: as text for people, as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.inspect.kernels import DomainKernels, KernelFile, OtherBytes, Role
from reconciler.model.diagnostics import Diagnostic
from reconciler.show import diagnostics
from reconciler.show.documents import FORMAT
from reconciler.show.escape import plain
from reconciler.show.paint import Paint, no_paint

_COLOURS = {Role.RUNNING: "green", Role.QUARANTINED: "red", Role.UNUSED: "bright_black"}
_UNKNOWN = "(unknown)"


def kernels_text(domains: Sequence[DomainKernels], paint: Paint = no_paint) -> str:
    """Write a block for each domain: a line for each file, what failed, and what the specs would change."""
    blocks = ["\n  ".join((paint(plain(domain.address), "bold"), *_lines(domain, paint))) for domain in domains]
    return "\n\n".join(blocks or ["No domain of ours has a kernel there."]) + "\n"


def _lines(domain: DomainKernels, paint: Paint) -> Iterator[str]:
    roles = [", ".join(file.roles) for file in domain.files]
    width = max(map(len, roles), default=0)
    for file, role in zip(domain.files, roles, strict=True):
        shown = f"{role:<{width}}"
        colour = _COLOURS.get(file.roles[0])
        note = "" if file.is_staged else "  (not staged)"
        digest = file.sha256[:12] or _UNKNOWN
        yield f"{digest:<12}  {paint(shown, colour) if colour else shown}  {plain(file.path)}{note}"
    if not domain.files:
        yield "nothing is staged"
    for entry in domain.quarantined:
        kernel = plain(entry.kernel.rpartition("/")[2]) or "a boot without a kernel file"
        yield f"{paint('quarantined:', 'red')} {kernel}: {plain(entry.reason) or 'it failed to boot'}"
    yield from (_other(other) for other in domain.other_bytes)


def _other(other: OtherBytes) -> str:
    now = "is not there" if not other.sha256 else f"is {other.sha256[:12]} now"
    runs = "none" if other.running_sha256 is None else other.running_sha256[:12] or _UNKNOWN
    return f"{other.kind} {plain(other.source)} {now}; the domain has {runs}"


def kernels_document(domains: Sequence[DomainKernels], problems: Sequence[Diagnostic]) -> dict[str, Any]:
    """Make the document of `kernels --json`."""
    return {
        "format": FORMAT,
        "domains": [
            {
                "address": domain.address,
                "files": [_file(file) for file in domain.files],
                "quarantined": [
                    {"boot": entry.boot, "kernel": entry.kernel, "reason": entry.reason} for entry in domain.quarantined
                ],
                "other_bytes": [
                    {
                        "kind": other.kind,
                        "source": other.source,
                        "sha256": other.sha256 or None,
                        "running_sha256": other.running_sha256,
                    }
                    for other in domain.other_bytes
                ],
            }
            for domain in domains
        ],
        "diagnostics": diagnostics.documents(problems),
    }


def _file(file: KernelFile) -> dict[str, Any]:
    return {
        "path": file.path,
        "sha256": file.sha256 or None,
        "roles": [role.value for role in file.roles],
        "staged": file.is_staged,
    }
