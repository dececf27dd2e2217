"""Finds what running domains booted from files that are not staged: it is known when they are adopted, and copied then.

Called by `decide` and by `chains`. A domain that was made without us runs from any file of its host. The bytes that
the file holds when the domain is adopted are taken for what it booted. They are staged, and recorded in the mark; what
the file holds later proves nothing.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.domain import Domain, Image
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Host, Owner
from reconciler.specs.resolve.images import staged_path


def as_adopted(host: Host, settings: HostSettings, running: Domain) -> Domain:
    """Return what runs, with the kernel and ramdisk that it booted as files that can be staged."""

    def staged(image: Image | None) -> Image | None:
        if image is None or image.path in host.images:
            return image
        now = host.unstaged.get(image.path, "")
        sha256 = image.sha256 or now
        if not sha256 or sha256 != now:  # nobody has its bytes any more
            return replace(image, sha256=sha256)
        path = staged_path(settings.kernel_dir, running.name, image.path, sha256)
        return Image(sha256=sha256, path=path, source=image.path)

    return replace(running, kernel=staged(running.kernel), ramdisk=staged(running.ramdisk))


def booted_unstaged(host: Host, guest: Guest | None) -> tuple[tuple[str, str], ...]:
    """Return path and sha256 of each file that a running domain booted and that is not staged, for its mark."""
    if guest is None or guest.running is None:
        return ()
    now = {} if guest.owner is Owner.OURS else host.unstaged
    found = (
        (image.path, image.sha256 or now.get(image.path, ""))
        for image in guest.running.images
        if image.path not in host.images
    )
    return tuple((path, sha256) for path, sha256 in found if path and sha256)


def as_staged(definition: Domain, guest: Guest) -> Domain:
    """Name the same bytes by their staged paths: a config file of ours names no other file."""
    config = guest.config

    def staged(image: Image | None, kept: Image | None) -> Image | None:
        same = image is not None and kept is not None and image.sha256 != "" and image.sha256 == kept.sha256
        return kept if same else image

    if config is None or guest.owner is not Owner.OURS:
        return definition
    return replace(
        definition,
        kernel=staged(definition.kernel, config.kernel),
        ramdisk=staged(definition.ramdisk, config.ramdisk),
    )
