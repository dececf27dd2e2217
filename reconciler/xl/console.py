"""Says how to attach to the console of a domain, here or through ssh. Behind `reconciler console`, by way of `open`."""

from __future__ import annotations

import shlex

from reconciler.dom0.connection import SBIN


def attach(tool: str, connect: str, name: str) -> list[str]:
    """Return the command that attaches to a console. It takes over the terminal of who runs it."""
    if connect == "local":
        return [tool, "console", name]
    # ssh takes the whole ssh:// address; -t, since a console without a terminal cannot be left. A login without a shell
    # of its own may not have the folder of xl on its PATH, and may be any shell.
    script = f'PATH="$PATH:{SBIN}"; export PATH; exec {shlex.join([tool, "console", name])}'
    return ["ssh", "-t", connect, shlex.join(["/bin/sh", "-c", script])]
