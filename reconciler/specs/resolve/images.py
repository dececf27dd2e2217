"""Kernels and ramdisks: where they are staged, what is known of them once their bytes are, and which are refused.

By its content only what certainly is no kernel is refused, whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import Domain, Image, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.paths import file_name

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
POINTER = "git-lfs-pointer".ljust(64, "-")
"""Stands where a host tells the sha256 of a file: it is a Git LFS pointer. As long as one, and no sha256 itself."""

POINTER_BEGINS = b"version https://git-lfs.github.com/spec/"


def digest_told(sha256: str, head: bytes) -> str:
    """Return what a host tells of a file that begins with `head`: its sha256, or that it is a pointer."""
    return POINTER if head.startswith(POINTER_BEGINS) else sha256


def why_no_image(sha256: str) -> tuple[str, str] | None:
    """Say what such a file is, as the end of a sentence, with a hint; None when it may boot."""
    if sha256 == EMPTY_SHA256:
        return "is empty", "Put the whole file there; one that is kept in Git LFS comes with: git lfs pull"
    if sha256 == POINTER:
        return "is a Git LFS pointer, and not the file that it stands for", "Fetch the file itself with: git lfs pull"
    return None


def staged_path(kernel_dir: str, domain: str, source: str, sha256: str) -> str:
    """Return the path where the bytes of an image are kept for one domain; other bytes get another path."""
    return f"{kernel_dir.rstrip('/')}/{domain}/{file_name(source)}.{sha256[:12]}"


def complete_images(
    domain: Domain, settings: HostSettings, digests: Mapping[str, str]
) -> tuple[Domain, tuple[Diagnostic, ...]]:
    """Fill in digest and path of the images that lie on the host, from the digests that the host gave.

    Called by the planner after observing. A file that is not there, or has other bytes than its pin says, is a problem
    of the spec: the domain must then be left alone.
    """
    diagnostics: list[Diagnostic] = []
    completed: dict[str, Image] = {}
    for key, image in (("kernel", domain.kernel), ("ramdisk", domain.ramdisk)):
        if image is None or image.sha256 or not image.source.startswith("/"):
            continue
        problem = _problem(key, image, digests.get(image.source), domain.name, settings.name)
        if problem is not None:
            diagnostics.append(problem)
        else:
            sha256 = digests[image.source]
            path = staged_path(settings.kernel_dir, domain.name, image.source, sha256)
            completed[key] = replace(image, sha256=sha256, path=path)
    if not completed:
        return domain, tuple(diagnostics)
    kernel, ramdisk = completed.get("kernel", domain.kernel), completed.get("ramdisk", domain.ramdisk)
    return replace(domain, kernel=kernel, ramdisk=ramdisk), tuple(diagnostics)


def _problem(key: str, image: Image, sha256: str | None, domain: str, host: str) -> Diagnostic | None:
    if sha256 is None:
        summary = f"{key.capitalize()} file not found on the host"
        detail = f"{image.source} does not exist on {host}, or cannot be read there."
        hint = "Copy it there, or put it in the spec tree and name it by its path in the tree."
    elif (why := why_no_image(sha256)) is not None:
        summary = f"Unusable {key}"
        detail = f"{image.source} on {host} {why[0]}."
        hint = why[1]
    elif image.pin and image.pin != sha256:
        summary = f"{key.capitalize()} has other bytes than its pin"
        detail = f"{image.source} on {host} has the sha256 {sha256}, but {key}_sha256 says {image.pin}."
        hint = f'If these bytes are the right ones, write {key}_sha256 = "{sha256}".'
    else:
        return None
    return Diagnostic(kind=Kind.SPEC, summary=summary, detail=detail, hint=hint, address=address_of(host, domain))
