"""Plans against hosts as a file says they were: `plan --from FILE`. No host is asked, and nothing is remembered."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler.inspect.observed import (
    Observed,
    comparable,
    never_asked,
    read_observed,
    with_unknown_images,
)
from reconciler.model.diagnostics import Diagnostic, Kind, refused, world_error
from reconciler.model.host import Host
from reconciler.reconcile import Reconciler
from reconciler.show import values
from reconciler.specs import TreeReading
from reconciler.toolstack import question_for
from reconciler.waiting import Stop, never

_MAX_BYTES = 512 * 1024 * 1024
STDIN = Path("-")


class FromFile(Reconciler):
    """Looks into a file instead of at hosts. A host that is not in it was not observed."""

    def __init__(self, reading: TreeReading, specs: Path, state_dir: Path, observed: Observed) -> None:
        seen = {name: one for name, one in observed.hosts.items() if name in reading.desired.hosts}
        asked = {name: question_for(reading.desired.hosts[name]) for name in seen}
        unknown = [never_asked(name, one, asked[name]) for name, one in seen.items()]
        known = {name: replace(one, host=with_unknown_images(one, asked[name])) for name, one in seen.items()}
        desired, self._hosts = comparable(reading.desired, replace(observed, hosts=known))
        notes = (_origin(observed), *(note for note in unknown if note is not None))
        super().__init__(
            replace(reading, desired=desired, diagnostics=(*reading.diagnostics, *notes)), specs, state_dir
        )

    async def observe(
        self, names: frozenset[str], stop: Stop = never
    ) -> tuple[dict[str, Host], tuple[Diagnostic, ...]]:
        """Return the hosts that are in the file, and that the others are not."""
        found = {name: host for name, host in self._hosts.items() if name in names}
        return found, tuple(_not_in_it(name) for name in sorted(names - found.keys()))


def load_observed(path: Path, fleet: str) -> Observed:
    """Read what `observe` wrote, or what a running watch answers. Raises ReconcilerError."""
    try:
        if path != STDIN and path.stat().st_size > _MAX_BYTES:
            raise refused("not what hosts were observed to be", f"{path} is too large for that.")
        document = json.loads(sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise world_error("the file cannot be read", f"{path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise refused("not what hosts were observed to be", f"{path} is not JSON, or was cut short.") from error
    return read_observed(document, fleet)


def age_in_words(observed: Observed) -> str:
    """Say how old it is, by the host that was observed longest ago."""
    now = datetime.now(UTC)
    oldest = min((seen.at for seen in observed.hosts.values()), default=now)
    return f"What is known of the hosts is {values.duration(max(0, int((now - oldest).total_seconds())))} old."


def _origin(observed: Observed) -> Diagnostic:
    """Tell in every form of the plan what it is made by. When that was written is part of it, and its age is not."""
    moments = sorted(seen.at.strftime("%Y-%m-%d %H:%M:%S UTC") for seen in observed.hosts.values())
    when = " and ".join(dict.fromkeys((moments[0], moments[-1]))) if moments else "no time"
    when = f"between {when}" if " and " in when else f"at {when}"
    return Diagnostic(
        kind=Kind.NOTE,
        summary="no host was asked",
        detail=f"The hosts are taken to be as a file says that they were {when}. This plan cannot be applied.",
    )


def _not_in_it(name: str) -> Diagnostic:
    return Diagnostic(
        kind=Kind.WORLD,
        summary="host not observed",
        detail=f"The file says nothing of {name}, so nothing is planned there.",
        hint="leave it out with --host, or have it observed",
        address=name,
    )
