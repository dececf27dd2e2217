"""Paths as texts: nothing here reads a disk, so it can only normalise and compare what specs say."""

from __future__ import annotations

import posixpath
import re

from reconciler.model.units import Unfit, quoted

_MAPPER = re.compile(r"/dev/mapper/(?P<group>.*[^-])-(?P<volume>[^-].*)")
_GROUP = re.compile(r"[a-zA-Z0-9+_][a-zA-Z0-9+_.-]*", re.ASCII)


def absolute(path: str) -> str:
    """A path of a host in its one normal spelling; raises Unfit if it is relative or goes upwards."""
    if not path.startswith("/"):
        raise Unfit(f"must be an absolute path on the host, not {quoted(path)}")
    if ".." in path.split("/"):
        raise Unfit('must not contain ".."')
    return posixpath.normpath("/" + path.lstrip("/"))


def is_normal(path: str) -> bool:
    """Whether `absolute` takes it."""
    return path.startswith("/") and ".." not in path.split("/")


def relative(path: str) -> str:
    """A path inside the tree in its one normal spelling; raises Unfit if it goes upwards."""
    if ".." in path.split("/"):
        raise Unfit('must not contain "..": files outside the spec tree cannot be named')
    return posixpath.normpath(path)


def folder_of(path: str) -> str:
    return posixpath.dirname(path)


def file_name(path: str) -> str:
    return posixpath.basename(path)


def disk_root(root: str) -> str:
    """An entry of `disk_roots` as a folder: a volume group `vg0` is `/dev/vg0`."""
    return f"/dev/{root}" if _GROUP.fullmatch(root) else absolute(root)


def is_inside(path: str, folder: str) -> bool:
    """Whether a path lies somewhere below a folder (the folder itself does not)."""
    return path.startswith(folder.rstrip("/") + "/") and path != folder


def disk_identity(target: str) -> str:
    """One text for the two names of a logical volume: `/dev/mapper/vg0-a--b` is `/dev/vg0/a-b`."""
    match = _MAPPER.fullmatch(target)
    if match is None:
        return target
    return f"/dev/{match['group'].replace('--', '-')}/{match['volume'].replace('--', '-')}"
