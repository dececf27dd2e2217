"""Reading the files of a spec tree, whatever they turn out to be: a pipe, a link that leads out, 10 MB, latin-1.

Called by tree. Nothing here raises for what lies in the tree: each file gives its text or the sentence why not.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from reconciler.records import dataclass
from reconciler.specs.resolve import TreeFile
from reconciler.specs.resolve.images import digest_told, why_no_image

SPEC_BYTES_MAX = 1 << 20
_CHUNK_BYTES = 1 << 20
_LINE_SHOWN_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The reason why a file gives no text. `line` and `column` are set when a place in it is to blame."""

    summary: str
    detail: str
    hint: str | None = None
    line: int = 1
    column: int = 1
    text: str = ""
    trace: str | None = None  # of an error nobody foresaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    text: str
    sha256: str


class TreeRoot:
    """The folder that specs may name files in, and no other."""

    def __init__(self, root: str) -> None:
        self.path = root
        self._real = os.path.realpath(root)

    def holds(self, path: str) -> bool:
        """Return whether a path, all links followed, lies in the tree."""
        real = os.path.realpath(path)
        return real == self._real or real.startswith(self._real.rstrip("/") + "/")

    def read_spec(self, relative: str, *, is_link: bool) -> Content | Unreadable:
        """Read the text of a TOML file."""
        path = f"{self.path}/{relative}"
        if is_link and not self.holds(path):
            return _leads_out(relative)
        try:
            raw = _read_at_most(path, SPEC_BYTES_MAX + 1)
        except OSError as error:
            return _unreadable(relative, error)
        if len(raw) > SPEC_BYTES_MAX:
            return Unreadable(
                summary="File too large",
                detail=f"{relative} is larger than 1 MiB, which no spec needs.",
                hint="If this is no spec, give it another name than .toml.",
            )
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return _not_utf8(relative, raw, error.start)
        return Content(text=text, sha256=hashlib.sha256(raw).hexdigest())

    def digest(self, relative: str) -> TreeFile:
        """Return the sha256 of a kernel or ramdisk of the tree, however large it is."""
        path = f"{self.path}/{relative}"
        if "\0" in relative or not self.holds(path):
            return TreeFile(problem=f"{relative} lies outside the spec tree, or is a link that leads out of it.")
        try:
            told = _digest_told(path)
        except OSError as error:
            return TreeFile(problem=_unreadable(relative, error).detail)
        if (why := why_no_image(told)) is not None:
            return TreeFile(problem=f"{relative} {why[0]}.", hint=why[1])
        return TreeFile(sha256=told)


def line_shown(line: str) -> str:
    """Return a line of a file as a terminal may show it, column for column; "" if it would fill the screen."""
    if len(line) > _LINE_SHOWN_MAX:
        return ""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)


def _open(path: str) -> int:
    """Open a regular file; O_NONBLOCK, because opening a pipe would wait for its other end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "not a regular file")


def _read_at_most(path: str, size: int) -> bytes:
    fd = _open(path)
    try:
        raw = os.read(fd, size)
        while len(raw) < size and (more := os.read(fd, size - len(raw))):
            raw += more
        return raw
    finally:
        os.close(fd)


def _digest_told(path: str) -> str:
    digest = hashlib.sha256()
    fd = _open(path)
    try:
        head = chunk = os.read(fd, _CHUNK_BYTES)
        while chunk:
            digest.update(chunk)
            chunk = os.read(fd, _CHUNK_BYTES)
    finally:
        os.close(fd)
    return digest_told(digest.hexdigest(), head)


def _unreadable(relative: str, error: OSError) -> Unreadable:
    reasons = {
        errno.ENOENT: "does not exist",
        errno.EACCES: "may not be read by this user",
        errno.EISDIR: "is a directory, not a file",
        errno.EINVAL: "is not a regular file",
        errno.ELOOP: "is a link that leads back to itself",
    }
    reason = reasons.get(error.errno or 0, f"cannot be read: {error.strerror}")
    return Unreadable(summary="Unreadable file", detail=f"{relative} {reason}.")


def _leads_out(relative: str) -> Unreadable:
    detail = f"{relative} is a link that leads out of the spec tree."
    return Unreadable(summary="Link out of the tree", detail=detail, hint="Copy the file into the tree instead.")


def _not_utf8(relative: str, raw: bytes, offset: int) -> Unreadable:
    lines = raw[:offset].split(b"\n")
    end = raw.find(b"\n", offset)
    text = (lines[-1] + raw[offset : end if end >= 0 else None]).decode(errors="replace")
    return Unreadable(
        summary="Not UTF-8",
        detail=f"{relative} is not UTF-8: byte {raw[offset]:#04x} cannot stand here.",
        hint=f"Convert it, for example with: iconv -f latin1 -t utf-8 {relative}",
        line=len(lines),
        column=len(lines[-1].decode(errors="replace")) + 1,
        text=text.rstrip("\r"),
    )
