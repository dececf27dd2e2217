"""Looks for evidence that this tree once asked for a domain of our fleet that no spec names any more.

Two trees may have one fleet's name by accident, and a clone may lack the past. What nothing tells of is not destroyed.
Called by `reconcile` before a plan is made; `decide` holds what is in doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.apply.history import History
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired, Doubt
from reconciler.model.host import Guest, Host, Owner
from reconciler.specs.commit import Past, is_in_git, past_of


def with_evidence(
    desired: Desired, hosts: Mapping[str, Host], tree: Path, history: History, adopting: Collection[str]
) -> Desired:
    """Return the desired state with the addresses of ours that nothing shows this tree to have asked for.

    On hosts that are being adopted, these are also domains that a spec names, by their marks alone.
    """
    asked = {
        address_of(host.name, guest.name): guest
        for host in hosts.values()
        for guest in host.guests.values()
        if guest.owner is Owner.OURS and (guest.name not in desired.hosts[host.name].domains or host.name in adopting)
    }
    if not asked:
        return desired
    past = past_of(tree, desired)
    in_git = past is not None or is_in_git(tree)
    made = _made(history, tree, desired)
    doubts = {}
    for address, guest in asked.items():
        host, name = address.split("/", 1)
        declared = name in desired.hosts[host].domains
        if not _is_shown(address, guest, past, made, in_git=in_git, declared=declared):
            doubts[address] = _doubt(host, guest, past, in_git=in_git)
    return replace(desired, doubts=doubts)


def _is_shown(
    address: str, guest: Guest, past: Past | None, made: Collection[str], *, in_git: bool, declared: bool
) -> bool:
    if not in_git and guest.commit is None:
        return True
    if past is not None and guest.commit is not None and past.has(guest.commit):
        return True
    if declared:  # the tree asks for it now; its mark is to say so
        return False
    return address in made or (past is not None and past.named(f"{address}.toml"))


def _made(history: History, tree: Path, desired: Desired) -> frozenset[str]:
    try:
        return history.made_for(place_of(tree, desired))
    except ReconcilerError:
        return frozenset()  # the plan says already that the history is broken


def place_of(tree: Path, desired: Desired) -> str:
    """Return what the history knows a tree by: where it is, or the repository that it was laid out from."""
    if desired.origin is None:
        return str(tree.resolve())
    return f"{desired.origin.repository}:{desired.origin.folder}"


def _doubt(host: str, guest: Guest, past: Past | None, *, in_git: bool) -> Doubt:
    mark = "its mark names no commit" if guest.commit is None else f"its mark is of commit {guest.commit[:12]}"
    if past is None:
        rest = "git cannot be asked about" if in_git else "this tree, which is in no git repository, cannot know"
    elif guest.commit is None:
        rest = "nothing here tells of it"
    elif past.shallow:
        rest = "this shallow clone does not hold"
    else:
        rest = "this repository does not hold"
    why = f"{mark}, which {rest}" if guest.commit is not None else f"{mark}, and {rest}"
    if guest.commit is None and past is None:
        why = f"{mark}, and git cannot be asked"
    take = f"if it is this tree's: reconciler apply --adopt {host}, and apply again"
    return Doubt(
        why=f"nothing shows that this tree ever asked for it: {why}",
        waits_for=f"commit: {(guest.commit or 'none')[:12]}",
        hint=f"git fetch --unshallow; or, {take}" if past is not None and past.shallow else take,
    )
