"""Keeps the key of the digests that stand for secrets in what `observe` writes, so that equal secrets stay equal."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from reconciler.state_dir.files import make_folder, replace_file

_FILE = "observed.key"
_BYTES = 32


def digest_key(state_dir: Path) -> bytes:
    """Return the key of this state directory. Where none can be kept it is another one each time."""
    path = state_dir / _FILE
    with suppress(OSError):
        if len(key := path.read_bytes()) == _BYTES:
            return key
    key = secrets.token_bytes(_BYTES)
    with suppress(OSError):
        make_folder(state_dir)
        replace_file(path, key, durable=False, mode=0o600)
    return key
