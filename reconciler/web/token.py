"""The secret of `--token-file`, without which nobody may act, nor read from elsewhere. Read at start, by `server`."""

from __future__ import annotations

import hmac
import os
import stat
from dataclasses import field
from pathlib import Path
from typing import Final

from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, world_error
from reconciler.records import dataclass
from reconciler.show.escape import plain

_LONGEST_BYTES: Final = 1024
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that can be compared and not printed."""

    secret: bytes = field(repr=False)

    def allows(self, authorization: str) -> bool:
        """Return whether this `Authorization` header carries the secret, in the same time for near and far misses."""
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.is_secret(given.strip())

    def is_secret(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", errors="replace"), self.secret)


def read_token(path: Path) -> tuple[Token, tuple[Diagnostic, ...]]:
    """Read the token, with notes about its file. A file that holds none is an error, not a server without a token."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise _bad_file(path, f"cannot be read: {error.strerror or error}") from None
    secret = content.rstrip(b"\r\n")  # editors and echo end a file with a newline
    if not secret.strip():
        raise _bad_file(path, "is empty")
    if len(content) > _LONGEST_BYTES:
        raise _bad_file(path, f"is longer than {_LONGEST_BYTES} bytes")
    if any(not 0x21 <= byte <= 0x7E for byte in secret):
        raise _bad_file(path, "holds blanks, several lines or characters that no HTTP header can carry")
    open_to_others = stat.S_ISREG(mode) and mode & _READABLE_BY_OTHERS
    return Token(secret), (_readable_by_others(path, mode),) if open_to_others else ()


def _bad_file(path: Path, problem: str) -> ReconcilerError:
    shown = plain(str(path))
    return world_error(
        "--token-file holds no token",
        f"The token file {shown} {problem}.",
        f"make one: (umask 077; openssl rand -hex 32 > {shown})",
    )


def _readable_by_others(path: Path, mode: int) -> Diagnostic:
    shown = plain(str(path))
    return Diagnostic(
        kind=Kind.NOTE,
        summary="others can read the token",
        detail=f"The token file {shown} has mode {stat.S_IMODE(mode):04o}, so other users of this machine can read it.",
        hint=f"chmod 600 {shown}, and make a new token if others are not trusted",
    )
