"""`reconciler`, run so that simulated hosts keep a log of whose commands they carried out, beside the line.

A line of `commands.log` is written while the host is locked for that command, as a dom0 would write it.
"""

from __future__ import annotations

from reconciler.cli import main
from reconciler.fence import Line
from reconciler.simulated import host
from reconciler.simulated.line import check
from reconciler.simulated.store import Store


def _logged(store: Store, line: Line) -> None:
    check(store, line)
    with (store.folder / "commands.log").open("a") as log:
        log.write(f"{line.number} {line.session}\n")


if __name__ == "__main__":
    host.check = _logged  # type: ignore[attr-defined]
    main()
