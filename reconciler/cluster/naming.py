"""The name by which hosts are divided: a controller that is started again has the same, and its hosts again."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.model.diagnostics import world_error

_MOST = 64  # controllers with one state directory


@contextmanager
def own_name(state_dir: Path) -> Iterator[str]:
    """Hold a name that no other controller on this machine has. It is that of a place in the state directory."""
    folder = state_dir / "controllers"
    machine = socket.gethostname().replace("/", "-") or "controller"
    short = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:6]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(_MOST):
            with (folder / f"{number}.lock").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield f"{machine}-{short}-{number}"
                return
    except OSError as error:
        raise world_error("no name for this controller", f"{folder} cannot be written: {error.strerror}.") from None
    raise world_error("too many controllers", f"{_MOST} controllers run with the state directory {state_dir} already.")
