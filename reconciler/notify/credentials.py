"""Reads what must not stand in a spec: the secret, the token or the URL of a receiver, from a file of its own.

It is read for each sending, so that a new one counts at once. No text here ever holds what is in the file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from reconciler.model.quantities import Unfit
from reconciler.specs.urls import receiver_url

_LONGEST: Final = 4096


class CredentialError(Exception):
    """The sentence that says what is wrong with a file, without its content; `hint` can be copied."""

    def __init__(self, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.hint = hint


def read_secret(named: str, root: Path) -> bytes:
    """Read the secret of a signature: all of the file's one line."""
    return _line(named, root, "secret_file")


def read_token(named: str, root: Path) -> str:
    """Read a token, which has to be fit for an HTTP header."""
    line = _line(named, root, "token_file")
    if any(not 0x21 <= byte <= 0x7E for byte in line):
        raise CredentialError(
            f"The token_file {named} holds blanks or characters that no HTTP header can carry.",
            f"write the token alone, as one line, into {named}",
        )
    return line.decode("ascii")


def read_url(named: str, root: Path) -> str:
    """Read a secret URL."""
    try:
        return receiver_url(_line(named, root, "url_file").decode("ascii", "replace"))
    except Unfit as error:
        raise CredentialError(
            f"What the url_file {named} holds {error}.", f"write the URL alone into {named}"
        ) from None


def _line(named: str, root: Path, key: str) -> bytes:
    hint = f"write it as one line into {named}"
    path = root / named
    try:
        if not named.startswith("/") and not path.resolve().is_relative_to(root.resolve()):
            raise CredentialError(f"The {key} {named} leads out of the tree.", "name it by its absolute path")
        content = _content(path)
    except (OSError, RuntimeError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is no regular file"
        raise CredentialError(f"The {key} {named} cannot be read: {said}.", hint) from None
    line = content.rstrip(b"\r\n")  # editors and echo end a file with a newline
    if not line.strip():
        raise CredentialError(f"The {key} {named} is empty.", hint)
    if len(content) > _LONGEST:
        raise CredentialError(f"The {key} {named} is longer than {_LONGEST} bytes.", hint)
    if any(byte in line for byte in b"\r\n\0"):
        raise CredentialError(f"The {key} {named} holds several lines.", hint)
    return line


def _content(path: Path) -> bytes:
    """Read a regular file: to open a pipe would wait for its other end."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ValueError(str(path))
        return file.read(_LONGEST + 1)
