"""A xenstore whose nodes are in a file, with the tools that read it; they note what each of them costs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.fake_dom0 import write_tool

# Asks as the tools of Xen do: two requests for each node that is listed, and one for each that is read.
_TOOL = """
import sys
tool, folder, *arguments = sys.argv[1:]
nodes = dict(line.rstrip("\\n").split(" = ", 1) for line in open(folder + "/store"))
requests, code = 0, 0
paths = [argument for argument in arguments if not argument.startswith("-")]
if tool == "ls":
    for path in paths or [""]:
        below = [node for node in nodes if node.startswith(path + "/")]
        requests += 2 * len(below)
        for node in below:
            print(node, "=", '"' + nodes[node] + '"')
        if not below and path not in nodes:
            sys.stderr.write("xenstore-ls: xs_directory (" + path + "): No such file or directory\\n")
            code = 1
elif tool == "list":
    for name in dict.fromkeys(node.split("/")[1] for node in nodes):
        print(name)
else:
    for path in paths:
        requests += 1
        if path not in nodes:
            sys.stderr.write("xenstore-read: couldn't read path " + path + "\\n")
            code = 1
            break
        print(path + ": " + nodes[path])
with open(folder + "/asked", "a") as asked:
    print(tool, requests, file=asked)
sys.exit(code)
"""


class FakeStore:
    """The nodes of a store; a change counts from the next look on."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self._folder = folder / "xenstore"
        self._folder.mkdir()
        (self._folder / "tool.py").write_text(_TOOL)
        for name in ("ls", "read", "list"):
            command = f"exec {sys.executable} -IS {self._folder}/tool.py {name} {self._folder}"
            write_tool(tools, f"xenstore-{name}", f'{command} "$@"')
        self.nodes: dict[str, str] = {}

    def show(self, nodes: Mapping[str, str]) -> None:
        self.nodes = dict(nodes)
        (self._folder / "store").write_text("".join(f"{path} = {value}\n" for path, value in nodes.items()))

    def asked(self) -> list[tuple[str, int]]:
        """What was run since this was asked last, each with its number of requests."""
        file = self._folder / "asked"
        if not file.exists():
            return []
        lines = file.read_text().split("\n")[:-1]
        file.unlink()
        return [(tool, int(number)) for tool, number in (line.split() for line in lines)]


def domain_nodes(domid: int, uuid: str, mac: str, *, booted: int = 1_800_000_000) -> dict[str, str]:
    """The nodes of a domain with a disk and an interface, by what a dom0 with Xen 4.17 showed."""
    home = f"/local/domain/{domid}"
    nodes = {f"/libxl/{domid}/type": "pv", f"/libxl/{domid}/dm-version": "qemu_xen"}
    of_kind = {
        "vbd/51712": {"params": "/srv/web.img", "mode": "w", "dev": "xvda", "type": "phy", "device-type": "disk"},
        "vif/0": {"mac": mac, "bridge": "xenbr0", "handle": "0", "type": "vif", "hotplug-status": ""},
    }
    for device, record in of_kind.items():
        kind, devid = device.split("/")
        ends = {"frontend": f"{home}/device/{device}", "backend": f"/local/domain/0/backend/{kind}/{domid}/{devid}"}
        common = {**ends, "frontend-id": str(domid), "online": "1", "state": "1", "script": "/etc/xen/scripts/x"}
        nodes |= {f"/libxl/{domid}/device/{device}/{key}": value for key, value in (common | record).items()}
        for path in ends.values():
            nodes |= {f"{path}/{key}": value for key, value in (common | record | {"state": "4"}).items()}
            nodes |= {f"{path}/feature-{number}": "1" for number in range(8)}
    for key in (
        "name",
        "domid",
        "memory/target",
        "memory/static-max",
        "control/shutdown",
        "console/port",
        "console/tty",
    ):
        nodes[f"{home}/{key}"] = "1"
    nodes |= {f"{home}/control/feature-{number}": "1" for number in range(20)}
    nodes |= {f"/vm/{uuid}/{key}": uuid for key in ("name", "uuid", "image/ostype", "image/kernel", "image/cmdline")}
    return nodes | {f"/vm/{uuid}/start_time": f"{booted}.55"}
