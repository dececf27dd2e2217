"""Takes apart what the script that observes a host printed: sections, each with the exit status of what wrote it."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Collection
from typing import Final

from reconciler.dom0.connection import Result
from reconciler.model.diagnostics import world_error
from reconciler.model.host import FileFact
from reconciler.specs.secret_files import without_values
from reconciler.texts.mark import MARK_PREFIX
from reconciler.texts.xenstore import pci_names

_KINDS: Final = {
    "regular file": "file",
    "regular empty file": "file",
    "block special file": "block",
    "block device": "block",
    "directory": "directory",
}


class Answer:
    """Holds the sections that `observe.sh` printed, by name. Raises ReconcilerError when it was cut short."""

    def __init__(self, host: str, result: Result, boundary: str) -> None:
        self._host = host
        self._boundary = boundary
        self.errors = result.errors
        self._sections: dict[str, tuple[bytes, int]] = {}
        *parts, _rest = re.split(rb"\n%s (\w+) (\d{1,9})\n" % boundary.encode(), result.stdout)
        for content, name, status in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            self._sections[name.decode()] = (content, int(status))
        if "groups" not in self._sections:  # the last one
            raise world_error(
                "observing was cut short",
                f"{host} did not answer whole (exit {result.exit_code}). {result.errors[-500:]}".rstrip(),
                None,
                host,
            )

    def has(self, name: str) -> bool:
        return name in self._sections

    def status(self, name: str) -> int:
        return self._sections[name][1]

    def text(self, name: str) -> str:
        return self._sections[name][0].decode(errors="surrogateescape")

    def lines(self, name: str) -> list[str]:
        return [line for line in self.text(name).split("\n") if line]

    @property
    def boot_id(self) -> str:
        """Return a name of this boot of the dom0; "" where neither Linux nor NetBSD has one."""
        return (self.lines("system")[3:] or [""])[0]

    def has_password(self, domain: str, key: str, value: str) -> bool:
        """Return whether the file that holds this key for a domain has this value; see `passwords` in observe.sh."""
        digest = hashlib.sha256(f"{self._boundary}{value}".encode(errors="surrogateescape")).hexdigest()
        return f"{domain}|{key}|{digest}" in self.lines("passwords")

    def files(self, name: str) -> dict[str, str]:
        """Return the texts in a tar, by absolute path. A file that could not be read is missing from it."""
        content = self._sections[name][0]
        if not content:
            return {}
        texts: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:", ignore_zeros=True) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file is not None:
                        path = "/" + member.name.lstrip("/")
                        texts[path] = file.read().decode(errors="surrogateescape")
        except (tarfile.TarError, EOFError) as error:
            raise world_error(
                "observing was cut short", f"The files of {self._host} did not arrive whole: {error}.", None, self._host
            ) from None
        return texts


def fields_of(line: str) -> list[str]:
    """Split a line of `stat`: kind, size, device:inode, device number, modified, changed, path."""
    return line.split("|", 6)


def file_facts(answer: Answer) -> dict[str, FileFact]:
    """Return what is known of disks and other paths that were asked for, or that domains name."""
    lines, real_paths = answer.lines("files"), answer.lines("real_paths")
    if len(real_paths) != len(lines):  # one of them vanished in between
        real_paths = [""] * len(lines)
    sectors = dict(line.split() for line in answer.lines("sectors"))
    facts: dict[str, FileFact] = {}
    for line, real_path in zip(lines, real_paths, strict=True):
        kind_text, size, inode, number, _modified, _changed, path = fields_of(line)
        kind = _KINDS.get(kind_text.lower(), "other")
        if kind == "block":
            size = str(int(sectors.get(_decimal(number), "0")) * 512)
        facts[path] = FileFact(
            kind=kind,  # type: ignore[arg-type]  # the values of _KINDS are FileFact's
            size_bytes=int(size),
            key=f"device {number}" if kind == "block" else f"inode {inode}",
            real_path=real_path,
        )
    return facts


def _decimal(number: str) -> str:
    """Turn "major:minor" from hex, as Linux's stat prints it, into decimals, by which /sys names devices."""
    return ":".join(str(int(part, 16)) for part in number.split(":"))


def vg_free_bytes(answer: Answer) -> dict[str, int]:
    """Return the free bytes of each volume group."""
    free: dict[str, int] = {}
    for line in answer.lines("groups"):
        name, _, number = line.strip().partition("|")
        if number.isdigit():
            free[name] = int(number)
    return free


def pci_devices(answer: Answer) -> dict[str, str]:
    """Return the addresses of the PCI devices of the machine, each with the name that xl gave it, or ""."""
    names = pci_names(answer.lines("store"))
    return {address: names.get(address, "") for address in answer.lines("pci")}


def texts_of(answer: Answer) -> dict[str, str]:
    """Return the texts of the config files and all else that was read, by path, without the secrets of ours."""
    changed: dict[str, set[str]] = {}
    for line in answer.lines("secrets"):
        key, _, path = line.partition(" ")
        changed.setdefault(f"/{path}", set()).add(key)
    return {path: _told(text, changed.get(path, ())) for path, text in answer.files("texts").items()}


def _told(text: str, changed: Collection[str]) -> str:
    """Leave alone what bears no mark: its lines are somebody else's."""
    return without_values(text, changed) if MARK_PREFIX in text else text
