"""Explains the complaints of ssh to a person. Pure. `connection` asks when ssh itself has failed (exit 255)."""

from __future__ import annotations

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True)
class _Complaint:
    """A complaint of ssh, known by one of `phrases`, in our words. `{try_it}` is the ssh command to run by hand."""

    phrases: tuple[str, ...]
    summary: str
    detail: str
    hint: str | None
    transient: bool


# The first match counts, so what names its cause exactly stands before what only follows from it.
_COMPLAINTS = (
    _Complaint(
        ("REMOTE HOST IDENTIFICATION HAS CHANGED",),
        "host key changed",
        "{host} shows another ssh host key than the one that is known for it.",
        "If the host was installed anew, remove the old key with `ssh-keygen -R NAME`, "
        "then connect once by hand: `{try_it}`.",
        False,
    ),
    _Complaint(
        ("Host key verification failed",),
        "host key unknown",
        "The ssh host key of {host} is not known on this machine.",
        "Connect once by hand and compare the key: `{try_it}`.",
        False,
    ),
    _Complaint(
        ("Permission denied (",),
        "permission denied",
        "{host} accepts none of the ssh keys offered to it.",
        "Load a key with `ssh-add`, or install yours with `ssh-copy-id`; "
        "this must work without a question: `{try_it}`.",
        False,
    ),
    _Complaint(
        ("Temporary failure in name resolution",),
        "name not resolved",
        "The name service could not be asked for the address of {host}.",
        None,
        True,
    ),
    _Complaint(
        ("Could not resolve hostname",),
        "host name unknown",
        "No address is known for {host} ({target}).",
        "Correct `connect` in the host's host.toml, or give the name a HostName in your ssh_config.",
        False,
    ),
    _Complaint(
        ("Connection refused",),
        "connection refused",
        "Nothing accepts ssh connections at {target}, which is {host}.",
        "Is sshd running there, and is the port right? Try `{try_it}`.",
        True,
    ),
    _Complaint(
        ("timed out", "Timeout, server"),
        "connection timed out",
        "{host} ({target}) does not answer.",
        "Is it up and reachable from here? Try `{try_it}`.",
        True,
    ),
    _Complaint(
        ("No route to host", "Network is unreachable", "Host is down"),
        "host unreachable",
        "There is no way through the network to {host} ({target}).",
        "Is it up and reachable from here? Try `{try_it}`.",
        True,
    ),
    _Complaint(
        (
            "Broken pipe",
            "Connection reset",
            "closed by",
            "Connection closed",
            "disconnected",
            "read from master failed",
            "kex_exchange_identification",
        ),
        "connection lost",
        "The ssh connection to {host} broke off.",
        None,
        True,
    ),
)


def explain(host: str, target: str, try_it: str, stderr: str) -> Diagnostic:
    """Make the diagnostic of an ssh that failed by itself. Its detail keeps ssh's last line."""
    words = [line.strip() for line in stderr.splitlines() if line.strip(" @\r\n")]
    for complaint in _COMPLAINTS:
        if any(phrase in stderr for phrase in complaint.phrases):
            said = next((line for line in words if any(p in line for p in complaint.phrases)), words[-1])
            return Diagnostic(
                kind=Kind.WORLD,
                summary=complaint.summary,
                detail=f"{complaint.detail.format(host=host, target=target)} ssh says: {said}",
                hint=complaint.hint.format(try_it=try_it) if complaint.hint else None,
                address=host,
                transient=complaint.transient,
            )
    # Also when the remote command was killed by a signal: ssh then exits with 255 and says nothing.
    said = f" ssh says: {words[-1]}" if words else ""
    return Diagnostic(
        kind=Kind.WORLD,
        summary="ssh failed",
        detail=f"The ssh connection to {host} ({target}) failed.{said}",
        hint=f"Try `{try_it}`.",
        address=host,
        transient=not words,
    )
