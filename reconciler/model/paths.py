"""Normalises and compares paths as texts. Nothing here reads a disk."""

from __future__ import annotations

import posixpath
import re

from reconciler.expressions import expression
from reconciler.model.quantities import Unfit, quoted

_MAPPER = expression(r"/dev/mapper/(?P<group>.*[^-])-(?P<volume>[^-].*)")
_GROUP = expression(r"[a-zA-Z0-9+_][a-zA-Z0-9+_.-]*", re.ASCII)


def absolute(path: str) -> str:
    """Return the normal spelling of a path on a host; raises Unfit if it is relative or goes upwards."""
    if not path.startswith("/"):
        raise Unfit(f"must be an absolute path on the host, not {quoted(path)}")
    if ".." in path.split("/"):
        raise Unfit('must not contain ".."')
    return posixpath.normpath("/" + path.lstrip("/"))


def is_normal(path: str) -> bool:
    """Return whether `absolute` accepts a path."""
    return path.startswith("/") and ".." not in path.split("/")


def relative(path: str) -> str:
    """Return the normal spelling of a path inside the tree; raises Unfit if it goes upwards."""
    if ".." in path.split("/"):
        raise Unfit('must not contain "..": files outside the spec tree cannot be named')
    return posixpath.normpath(path)


def folder_of(path: str) -> str:
    return posixpath.dirname(path)


def file_name(path: str) -> str:
    return posixpath.basename(path)


def disk_root(root: str) -> str:
    """Return an entry of `disk_roots` as a folder: a volume group `vg0` is `/dev/vg0`."""
    return f"/dev/{root}" if _GROUP.fullmatch(root) else absolute(root)


def is_inside(path: str, folder: str) -> bool:
    """Return whether a path lies somewhere below a folder (the folder itself does not)."""
    return path.startswith(folder.rstrip("/") + "/") and path != folder


def disk_identity(target: str) -> str:
    """Return one path for the two of a logical volume: `/dev/mapper/vg0-a--b` is `/dev/vg0/a-b`."""
    match = _MAPPER.fullmatch(target)
    if match is None:
        return target
    return f"/dev/{match['group'].replace('--', '-')}/{match['volume'].replace('--', '-')}"
