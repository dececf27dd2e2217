"""Explains one domain: which file, line and commit ask for what, what differs, and what was last done about it.

Called by `commands.why`. Reads specs, git and the history; what differs and what it waits for, the plan has told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.apply.history import ApplyRecord, History
from reconciler.decide.changes import Change
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, Source
from reconciler.plan.plan import Plan
from reconciler.records import dataclass
from reconciler.specs import TreeReading
from reconciler.specs.commit import commit_for
from reconciler.specs.declared import Declarations
from reconciler.state_dir import consoles
from reconciler.state_dir.consoles import KeptConsole


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All that is known about one address. `change` None: its host holds it and it is not ours, or did not answer."""

    address: str
    change: Change | None
    is_unmanaged: bool
    file: str  # where its spec is, or would be
    is_declared: bool
    sources: Mapping[str, Source]  # path of a field that differs -> where the specs say it
    commits: Mapping[str, str]  # the files that ask for it -> the last commit that changed them, where git knows
    host_commit: str | None  # the commit that its config file on the host was written for
    last_apply: ApplyRecord | None  # with the steps of this domain only; None also when the history is broken
    console: KeptConsole | None  # of its last boot that failed
    problems: tuple[Diagnostic, ...]  # of the domain, its host, or the whole run


def explain(address: str, plan: Plan, reading: TreeReading, specs: Path, state_dir: Path) -> Explanation:
    """Gather all of it; `plan` is one of the whole fleet."""
    change = next((change for change in plan.changes if change.address == address), None)
    declared = reading.files.get(address)
    relative = declared or f"{address}.toml"
    file = str(specs / relative)
    sources = {}
    if declared is not None and change is not None:
        declarations = Declarations(specs, declared)
        found = {field.path: declarations.source_of(field.path) for field in change.fields}
        sources = {path: source for path, source in found.items() if source is not None}
    files = dict.fromkeys((file, *(source.path for source in sources.values())))
    commits = {path: commit_for(Path(path)) for path in files}
    return Explanation(
        address=address,
        change=change,
        is_unmanaged=address in plan.unmanaged,
        file=file,
        is_declared=declared is not None,
        sources=sources,
        commits={path: commit for path, commit in commits.items() if commit is not None},
        host_commit=change.guest.commit if change is not None and change.guest is not None else None,
        last_apply=_last_apply(address, state_dir),
        console=consoles.recall(state_dir, address),
        problems=tuple(problem for problem in plan.diagnostics if _concerns(problem, address, change)),
    )


def _last_apply(address: str, state_dir: Path) -> ApplyRecord | None:
    try:
        return History(state_dir).last_of(address)
    except ReconcilerError:
        return None  # the plan's diagnostics say already that the history is broken


def _concerns(problem: Diagnostic, address: str, change: Change | None) -> bool:
    """Keep what concerns the domain, its host or the whole run, but not once more that the domain is blocked."""
    if problem.address == address:
        return change is None or problem.kind is not Kind.REFUSED or change.blocked is None
    return problem.address in (None, address.partition("/")[0])
