"""Says who runs this: the user and the machine, as it is kept in the history and in what is left on hosts."""

from __future__ import annotations

import getpass
import os
import socket


def person() -> str:
    """Return user@machine; a user without a name is shown by number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def this_process() -> str:
    """Return who runs this, with the number of the process: as the holder of a lock is told to others."""
    return f"{person()} (process {os.getpid()})"
