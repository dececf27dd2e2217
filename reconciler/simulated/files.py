"""Carries out steps on the files of a simulated host: staged images, disks, config files. Called by its executor."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import assert_never

from reconciler.model.copies import replace
from reconciler.model.disks import volume_group
from reconciler.model.domain import Domain, Image
from reconciler.model.host import Owner
from reconciler.plan.steps import (
    CreateDisk,
    DeleteDisk,
    GrowDisk,
    PromoteConfig,
    RemoveConfig,
    Rename,
    SetAutostart,
    SetQuarantine,
    StageImage,
    SweepImages,
    WriteConfig,
    domain_of,
)
from reconciler.simulated.draft import Draft
from reconciler.simulated.view import new_disk
from reconciler.specs.secret_files import secret_files, with_values
from reconciler.texts.config_file import as_proven, render_file
from reconciler.texts.quarantine_file import render_quarantine

FileStep = (
    StageImage
    | CreateDisk
    | GrowDisk
    | DeleteDisk
    | WriteConfig
    | Rename
    | PromoteConfig
    | RemoveConfig
    | SweepImages
    | SetAutostart
    | SetQuarantine
)


def change_files(draft: Draft, step: FileStep, *, commit: str | None, spec_root: Path) -> None:
    """Carry out a step that touches files only. Raises ReconcilerError and leaves the draft unfit to be stored."""
    _check_room(draft, step)
    match step:
        case StageImage():
            _stage_image(draft, step, spec_root)
        case CreateDisk():
            _create_disk(draft, step)
        case GrowDisk():
            _grow_disk(draft, step)
        case DeleteDisk():
            _delete_disk(draft, step)
        case WriteConfig():
            _write_config(draft, step, commit)
        case Rename():
            _rename(draft, step, commit)
        case PromoteConfig():
            _promote_config(draft, step)
        case RemoveConfig():
            _remove_config(draft, step)
        case SweepImages():
            _sweep_images(draft, step)
        case SetAutostart():
            _set_autostart(draft, step)
        case SetQuarantine():
            _set_quarantine(draft, step)
        case _:
            assert_never(step)


def _check_room(draft: Draft, step: FileStep) -> None:
    needs_room = isinstance(step, StageImage | CreateDisk | GrowDisk | WriteConfig)
    if needs_room and draft.store.take_fault("disk-full"):
        host = draft.settings.name
        end = f"reconciler sim {host} fault disk-full --times 0"
        hint = f"The fault was asked for; it ends by itself, or at once with: {end}"
        raise draft.failed(domain_of(step), "no space left", f"No space left on device on {host}.", hint)
    if isinstance(step, CreateDisk | GrowDisk) and step.disk.kind == "lv":
        group, there = volume_group(step.disk), draft.stored.files.get(step.disk.target)
        needed = (step.disk.size_bytes or 0) - (there.size_bytes if there is not None else 0)
        free = draft.view().vg_free_bytes().get(group)
        if free is not None and needed > free:
            problem = f"Volume group {group} has {free} bytes free, too few for {needed} more."
            raise draft.failed(domain_of(step), "no space left", problem)


def _stage_image(draft: Draft, step: StageImage, spec_root: Path) -> None:
    image = step.image
    content = _image_bytes(draft, step.domain, image, spec_root)
    digest = hashlib.sha256(content).hexdigest()
    if digest != image.sha256:
        raise draft.failed(
            step.domain,
            "image changed since the plan",
            f"{image.source} has the sha256 {digest}, but the plan was made for {image.sha256}.",
            hint="Run plan and apply again.",
        )
    draft.store.put(draft.stored, image.path, content)


def _image_bytes(draft: Draft, domain: str, image: Image, spec_root: Path) -> bytes:
    if image.path in draft.stored.files and draft.store.digest(draft.stored, image.path) == image.sha256:
        return draft.store.content(draft.stored, image.path)  # staged already: its source may be gone by now
    if image.source.startswith("/"):
        return draft.store.content(draft.stored, image.source)
    try:
        return (spec_root / image.source).read_bytes()
    except OSError as error:
        problem = f"The image {image.source} of the spec tree cannot be read: {error.strerror}."
        raise draft.failed(domain, "image cannot be read", problem) from None


def _create_disk(draft: Draft, step: CreateDisk) -> None:
    disk, files = step.disk, draft.stored.files
    if disk.target in files:
        problem = f"{disk.target} exists already on {draft.settings.name}, and creation never overwrites."
        raise draft.failed(step.domain, "disk exists already", problem)
    if disk.source is None:
        files[disk.target] = new_disk(disk)
        return
    draft.store.put(draft.stored, disk.target, draft.store.content(draft.stored, disk.source))
    cloned = files[disk.target]
    blank = new_disk(disk)
    files[disk.target] = replace(cloned, size_bytes=max(cloned.size_bytes, blank.size_bytes), kind=blank.kind)


def _grow_disk(draft: Draft, step: GrowDisk) -> None:
    target, wanted_bytes = step.disk.target, step.disk.size_bytes or 0
    there = draft.stored.files.get(target)
    if there is None:
        raise draft.failed(step.domain, "no such disk", f"{target} does not exist on {draft.settings.name}.")
    if wanted_bytes < there.size_bytes:
        problem = f"{target} has {there.size_bytes} bytes and is never shrunk, so not to {wanted_bytes} bytes."
        raise draft.failed(step.domain, "disk would shrink", problem)
    draft.stored.files[target] = replace(there, size_bytes=wanted_bytes)


def _delete_disk(draft: Draft, step: DeleteDisk) -> None:
    users = draft.view().disk_users(step.disk.target)
    if users:
        problem = f"{step.disk.target} is in use by {', '.join(sorted(users))}, so it is not deleted."
        raise draft.failed(step.domain, "disk in use", problem)
    draft.stored.files.pop(step.disk.target, None)


def _write_config(draft: Draft, step: WriteConfig, commit: str | None) -> None:
    definition, paths = step.definition, draft.paths
    guest = draft.guest(definition.name)
    draft.refuse_newer(definition.name, guest)
    if not step.adopt:
        draft.refuse_foreign(definition.name, guest)
    elif guest is not None and guest.definition is not None and guest.owner is not Owner.OURS:
        draft.bring_disks(guest.definition)
    try:
        proven = step.proven or step.candidate
        text = render_file(definition, draft.fleet, commit, proven=proven, booted=step.booted)
    except ValueError as error:
        raise draft.failed(definition.name, "cannot be written as an xl.cfg", f"{error}.") from None
    text = _with_secrets(draft, definition, text, definition.name)
    if step.candidate:
        draft.store.put(draft.stored, paths.candidate(definition.name), text.encode())
        return
    draft.store.put(draft.stored, paths.config(definition.name), text.encode())
    draft.stored.files.pop(paths.candidate(definition.name), None)


def _with_secrets(draft: Draft, definition: Domain, text: str, earlier_name: str) -> str:
    """Put into a config file the secrets that its definition names by files of the host."""
    secret = draft.view().secret
    for _, path in secret_files(definition):
        if not secret(path):
            problem = f"{path}, which holds a password, is not there or is empty."
            raise draft.failed(definition.name, "writing the config file failed", problem)
    earlier = draft.paths.config(earlier_name)
    there = draft.store.content(draft.stored, earlier) if earlier in draft.stored.files else b""
    return with_values(text, there.decode(errors="replace"), secret)


def _rename(draft: Draft, step: Rename, commit: str | None) -> None:
    paths, files, stored = draft.paths, draft.stored.files, draft.stored
    draft.refuse_foreign(step.old, draft.guest(step.old))
    draft.refuse_foreign(step.domain, draft.guest(step.domain))
    instance = draft.our_instance(step.old, step.uuid)
    if draft.instance(step.domain) is not None:
        raise draft.failed(step.domain, "name is taken", f"Another domain is called {step.domain}.")
    text = render_file(step.definition, draft.fleet, commit, proven=step.proven)
    text = _with_secrets(draft, step.definition, text, step.old)
    draft.store.put(stored, paths.config(step.domain), text.encode())
    if instance is not None:
        definition = replace(instance.definition, name=step.domain)
        stored.instances[step.domain] = replace(instance, definition=definition, listed_as=None)
        stored.instances.pop(step.old)
    if step.old in stored.autostart:
        stored.autostart[step.domain] = stored.autostart.pop(step.old)
    for place in (paths.previous, paths.quarantine, paths.hold):
        if place(step.old) in files:
            files[place(step.domain)] = files.pop(place(step.old))
    for place in (paths.candidate, paths.config):
        files.pop(place(step.old), None)


def _promote_config(draft: Draft, step: PromoteConfig) -> None:
    paths, files = draft.paths, draft.stored.files
    guest = draft.guest(step.domain)
    draft.after(guest, step)  # an error when there is nothing to promote
    draft.refuse_foreign(step.domain, guest)
    if step.first_boot:
        text = draft.store.text(draft.stored, paths.config(step.domain))
        draft.store.put(draft.stored, paths.config(step.domain), as_proven(text).encode(errors="surrogateescape"))
        return
    old = files.get(paths.config(step.domain))
    if old is not None and step.replaces_previous and guest is not None and guest.config_proven:
        files[paths.previous(step.domain)] = old
    files[paths.config(step.domain)] = files.pop(paths.candidate(step.domain))


def _remove_config(draft: Draft, step: RemoveConfig) -> None:
    draft.refuse_foreign(step.domain, draft.guest(step.domain))
    paths = draft.paths
    ours = (paths.config, paths.candidate, paths.previous, paths.quarantine)
    for path in (place(step.domain) for place in ours):
        draft.stored.files.pop(path, None)
    if draft.instance(step.domain) is None:
        draft.stored.instances.pop(step.domain, None)


def _sweep_images(draft: Draft, step: SweepImages) -> None:
    guest = draft.guest(step.domain)
    kept = (guest.config, guest.candidate) if guest is not None and step.keep else ()  # nothing kept: it is destroyed
    definitions = (*kept, guest.running if guest is not None else None)
    in_use = {image.path for definition in definitions if definition is not None for image in definition.images}
    for path in draft.paths.images_of(step.domain, draft.stored):
        if path not in {*step.keep, *in_use}:
            del draft.stored.files[path]


def _set_autostart(draft: Draft, step: SetAutostart) -> None:
    draft.refuse_foreign(step.domain, draft.guest(step.domain))
    if step.order is None:
        draft.stored.autostart.pop(step.domain, None)
    else:
        draft.stored.autostart[step.domain] = step.order


def _set_quarantine(draft: Draft, step: SetQuarantine) -> None:
    draft.refuse_foreign(step.domain, draft.guest(step.domain))
    paths, files = draft.paths, draft.stored.files
    if not step.entries:
        files.pop(paths.quarantine(step.domain), None)
        return
    draft.store.put(draft.stored, paths.quarantine(step.domain), render_quarantine(step.entries).encode())
    files.pop(paths.candidate(step.domain), None)
