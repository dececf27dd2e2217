"""A dom0 that is as it should be, on this machine: what a test makes of it is the only thing that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.doctor.case import Finding, Verdict
from reconciler.doctor.facts import Examination
from reconciler.doctor.judge import judge
from reconciler.model.domain import Domain
from reconciler.model.fleet import DesiredHost, HostSettings
from reconciler.toolstack import question_for
from reconciler.xl.dialect import XL, Dialect
from reconciler.xl.observe import XlObserver
from tests.fake_dom0 import write_tool

ROOM = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 9000000 1000 {free} 1% /"


@dataclass
class Dom0:
    """`root` has the folders of the system, `tools` the commands; `domains` are what the specs ask for."""

    root: Path
    tools: Path
    settings: HostSettings
    domains: dict[str, Domain] = field(default_factory=dict)
    dialect: Dialect = XL

    def write(self, path: str, text: str = "") -> Path:
        """A file of the system, with the folders above it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def tool(self, name: str, body: str) -> None:
        write_tool(self.tools, name, body)

    def has_room(self, free_kib: int, kind: str = "ext2/ext3") -> None:
        self.tool("df", f"echo '{ROOM.format(free=free_kib)}'")
        self.tool("stat", f"""case "$1 $2" in "-f -c") echo {kind} ;; *) exec /usr/bin/stat "$@" ;; esac""")

    async def examined(self) -> Examination:
        observer = XlObserver(self.settings, "default", None, dialect=self.dialect)
        part = DesiredHost(settings=self.settings, domains=self.domains)
        try:
            return await observer.examine(question_for(part))
        finally:
            await observer.close()

    async def verdict(self) -> Verdict:
        return judge(self.settings, self.domains, await self.examined())

    async def findings(self) -> Mapping[str, list[Finding]]:
        """What was found, by check."""
        found: dict[str, list[Finding]] = {}
        for finding in (await self.verdict()).findings:
            found.setdefault(finding.check, []).append(finding)
        return found

    async def only(self, check: str) -> Finding:
        """The one finding there is, which has to be of this check."""
        found = await self.findings()
        assert list(found) == [check], found
        (finding,) = found[check]
        return finding
