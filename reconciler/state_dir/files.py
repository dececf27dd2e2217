"""Writes files so that nobody ever meets half of one: no reader, and no next start after a kill or a power cut.

Nothing else writes files here. Called by whoever keeps something on the controller's disk; files on a dom0 are written
there, by the scripts in `dom0`.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_NAME_SHOWN = 40  # of the file that a draft is for: names may be as long as the file system allows
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # of a file system that has none
_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)  # of a folder, which not all can do or may open


def replace_file(path: Path, content: bytes, *, durable: bool, mode: int = 0o666) -> None:
    """Give a file new content, so that at any instant it has all of the old or all of the new.

    With `durable`, the content is on the disk when this returns. Without, a power cut may leave the old content, or
    none: that is for what can be had again. Raises OSError, and then the file is as it was.
    """
    draft = _draft_of(path)
    try:
        _write_new(draft, content, durable=durable, mode=mode)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def create_file(path: Path, content: bytes) -> None:
    """Make a file that must not be there yet, whole or not at all, and on the disk when this returns.

    Of two who try, one succeeds; the other gets FileExistsError. Raises OSError when it cannot be written.
    """
    draft = _draft_of(path)
    try:
        _write_new(draft, content, durable=True, mode=0o666)
        _give_name(draft, path, content)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def create_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make a folder that must not be there yet with these files in it, all or none, and on the disk when this returns.

    Raises OSError when it cannot be written, FileExistsError among them.
    """
    make_folder(folder.parent)
    draft = _draft_of(folder)
    try:
        for name, content in contents.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            _write_new(draft / name, content, durable=True, mode=0o666)
        for inner in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            sync_folder(inner)
        if os.path.lexists(folder):  # a rename would take the place of an empty one
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_folder(folder.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing, on the disk when this returns."""
    if folder.is_dir():
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names of the files in a folder."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise


def _give_name(draft: Path, path: Path, content: bytes) -> None:
    """Give a file a name that nothing has. Where there are no hard links, a kill may leave part of it."""
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _write_new(path, content, durable=True, mode=0o666)


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name[:_NAME_SHOWN]}.{secrets.token_hex(4)}")


def _write_new(path: Path, content: bytes, *, durable: bool, mode: int) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(opened, "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
