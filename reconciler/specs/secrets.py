"""Knows which values are secret. Whatever shows values of definitions, or lines of their files, asks here.

A change of a secret is shown as one, and never what it was or will be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from reconciler.expressions import expression
from reconciler.model.domain import Domain, Scalar, XlValue

SENSITIVE = "(sensitive)"

_KEYS = frozenset({"vncpasswd", "spicepasswd"})
_NOTHING = (None, "", '""', "''")
# within the options of a vfb, of a disk's target (block-iscsi, rbd, a URL), of device_model_args
_WITHIN = (
    expression(r"(passw(?:or)?d=)(?:\\.|[^,\"\\])+", re.IGNORECASE),
    expression(r"(\brbd:(?:\\.|[^,\"\\])*?:key=)(?:\\.|[^:,\"\\])+"),
    expression(r"(\bsecret,(?:\\.|[^\"\\])*?\bdata=)(?:\\.|[^,\"\\])+"),
    expression(r"(://[^/@:\s\"]*:)[^/@\s\"]+(?=@)"),
)
_ON_COMMAND_LINE = (expression(r"((?:passw(?:or)?d|passphrase)=)\S+", re.IGNORECASE),)
_IN_A_LINE = expression(
    r"(?:passw(?:or)?d|\btoken|\bsecret)[\"']?\s*=\s*|://[^/@:\s\"]*:(?=[^/@\s\"]+@)", re.IGNORECASE
)


def is_secret(key: str) -> bool:
    """Return whether all of the value of an xl.cfg key is secret."""
    return key in _KEYS


def concealed(path: str, value: Scalar) -> Scalar:
    """Return the value of a field as it may be shown. `path` is that of a difference: `xl.vncpasswd`, `disk[xvda]`.

    >>> concealed("xl.vncpasswd", '"hunter2"'), concealed("xl.vfb", '["vnc=1,vncpasswd=hunter2,vnclisten=::"]')
    ('(sensitive)', '["vnc=1,vncpasswd=(sensitive),vnclisten=::"]')
    """
    if value in _NOTHING or not isinstance(value, str | int):
        return value
    key = path.rpartition(".")[2]
    if is_secret(key):
        return SENSITIVE
    return (
        concealed_text(value, on_command_line=key in ("cmdline", "root", "extra")) if isinstance(value, str) else value
    )


def concealed_text(text: str, *, on_command_line: bool = False) -> str:
    """Return a text with the secrets in it replaced."""
    return _replaced(text, _ON_COMMAND_LINE if on_command_line else _WITHIN, lambda _: SENSITIVE)


def holds_secret(text: str | None) -> bool:
    """Return whether a part of a text is secret, so that it may stand in no argument of a command.

    >>> holds_secret("iqn=a,user=u,password=p"), holds_secret("/srv/web.img")
    (True, False)
    """
    return text is not None and concealed_text(text) != text


def without_secrets(domain: Domain, stand_in: Callable[[str], str]) -> Domain:
    """Return a definition with each secret replaced by what stands for it."""

    def within(value: XlValue) -> XlValue:
        match value:
            case str():
                return _replaced(value, _WITHIN, stand_in)
            case tuple():
                return tuple(within(item) for item in value)  # type: ignore[misc]  # mypy loses the depth
            case _:
                return value

    xl = tuple(
        (key, stand_in(str(value)) if is_secret(key) and value not in _NOTHING else within(value))
        for key, value in domain.xl
    )
    disks = tuple(replace(disk, target=_replaced(disk.target, _WITHIN, stand_in)) for disk in domain.disks)
    cmdline = domain.cmdline and _replaced(domain.cmdline, _ON_COMMAND_LINE, stand_in)
    return replace(domain, xl=xl, disks=disks, cmdline=cmdline)


def has_secrets(domain: Domain) -> bool:
    """Return whether there is a secret in a definition."""
    return without_secrets(domain, lambda _: "") != domain


def _replaced(text: str, patterns: Iterable[re.Pattern[str]], stand_in: Callable[[str], str]) -> str:
    if "=" not in text and "://" not in text:  # then no pattern is in it
        return text
    for pattern in patterns:
        text = pattern.sub(lambda match: match[1] + stand_in(match[0][len(match[1]) :]), text)
    return text


def secret_at(line: str) -> int | None:
    """Return where in a line of a file a secret begins; None where there is none."""
    match = _IN_A_LINE.search(line)
    return match.end() if match is not None else None
