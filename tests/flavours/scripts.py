"""Which scripts the package has for a dom0, and which of them were never sent to one."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from types import ModuleType
from typing import Literal

from tests.flavours.dom0 import Flavour

_ROOMS = ("reconciler.dom0", "reconciler.dom0.sending", "reconciler.xl")
_REHEARSALS = "reconciler.dom0.rehearsals"
_SENDING = {"script", "process", "act"}
# What one kind of dom0, or of toolstack, is never asked.
_ONLY = {
    "netbsd": {"reconciler.dom0.config_files._EDIT"},
    "alpine": {"reconciler.dom0.config_files._LINK"},
    "xm": {"reconciler.dom0.toolstack_sh.XM_SH", "reconciler.xl.dialect._XM_SCRIPTS"},
}


def unsent(sent: Iterable[str], flavour: Flavour, of: Literal["xl", "xm"] = "xl") -> list[str]:
    """The names of the scripts that should be among what was sent, and are not."""
    everything = "\n".join(sent)
    elsewhere = {name for where, names in _ONLY.items() if where not in (flavour, of) for name in names}
    wanted = _ONLY["xm"] if of == "xm" else {name for name, _ in scripts()} - elsewhere
    return sorted(name for name, text in scripts() if name in wanted and text.strip() not in everything)


def unsent_of_rehearsals(sent: Iterable[str]) -> list[str]:
    everything = "\n".join(sent)
    return sorted(name for name, text in scripts((_REHEARSALS,)) if text.strip() not in everything)


def scripts(rooms: Iterable[str] = _ROOMS) -> Iterator[tuple[str, str]]:
    """All of them: each text of several lines that a module has a name for, each file, each line sent as it stands."""
    for room in rooms:
        for file in files(room).iterdir():
            if file.name.endswith(".sh"):
                yield f"{room}/{file.name}", file.read_text()
            elif file.name.endswith(".py"):
                module = importlib.import_module(f"{room}.{file.name.removesuffix('.py')}")
                yield from _named(module, file.read_text())
                yield from _unnamed(module, file.read_text())


def _named(module: ModuleType, source: str) -> Iterator[tuple[str, str]]:
    for name, value in vars(module).items():
        is_at_home = re.search(rf"^{name}\b.*=", source, re.MULTILINE) is not None
        if isinstance(value, str) and "\n" in value and not name.startswith("__") and is_at_home:
            yield f"{module.__name__}.{name}", value


def _unnamed(module: ModuleType, source: str) -> Iterator[tuple[str, str]]:
    for call in ast.walk(ast.parse(source)):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _SENDING):
            continue
        for part in (part for argument in call.args for part in ast.walk(argument)):
            if isinstance(part, ast.Constant) and re.match(r"(rm|persist|command|uname) ", str(part.value)):
                yield f"{module.__name__}:{call.lineno}", str(part.value)
