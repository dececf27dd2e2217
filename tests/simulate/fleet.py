"""The specs of a simulated fleet, as far as scripts say them, and how they become files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from reconciler.model.fleet import HostSettings

FAMILY = {"kernel", "memory", "maxmem", "vcpus", "wave", "depends_on", "disk", "vif", "state", "cmdline", "reconcile"}
READY = {"timeout": "20s", "min_seconds": 1}


@dataclass
class Fleet:
    """What is asked for. Domains are by address; their keys are words of a script."""

    hosts: dict[str, dict[str, str]] = field(default_factory=dict)
    specs: dict[str, dict[str, str]] = field(default_factory=dict)
    kernels: dict[str, dict[str, str]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def named(self, host: str) -> list[str]:
        return sorted(address for address in self.specs if address.startswith(f"{host}/"))

    def bases(self, address: str) -> set[str]:
        """Return the addresses on which a domain depends, at first hand."""
        host = address.partition("/")[0]
        names = self.specs.get(address, {}).get("depends_on", "")
        return {f"{host}/{name}" for name in filter(None, names.split(","))}

    def behaviour(self, address: str) -> dict[str, str]:
        return self.kernels.get(self.specs.get(address, {}).get("kernel", ""), {})

    def write(self, tree: Path, settings: HostSettings | None = None) -> None:
        """Write the tree anew. Files that say what they said are left as they are, and so are their times.

        `settings` are those of the dom0, where hosts are not simulated.
        """
        disks = settings.disk_roots[0] if settings else "/srv"
        files = {"reconciler.toml": tomli_w.dumps(self._settings())}
        for host, keys in self.hosts.items():
            files[f"{host}/host.toml"] = tomli_w.dumps(_host(keys, settings))
        for number, behaviour in self.kernels.items():
            files[f"kernels/{number}"] = kernel_text(number, behaviour, settings)
        for address, keys in self.specs.items():
            if address.partition("/")[0] in self.hosts:
                files[f"{address}.toml"] = ("memroy = 5\n" if "error" in keys else "") + tomli_w.dumps(
                    _spec(keys, disks)
                )
        for path in [*tree.glob("*/*.toml"), *tree.glob("kernels/*")]:
            if str(path.relative_to(tree)) not in files:
                path.unlink()
        for name, text in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    def _settings(self) -> dict[str, Any]:
        table: dict[str, Any] = {"fleet": "simulated"}
        brake = {key: _number(value) for key, value in self.settings.items() if key.startswith("max_")}
        if "unavailable" in self.settings:
            table["max_unavailable"] = int(self.settings["unavailable"])
        return table | ({"brake": brake} if brake else {})


def kernel_text(number: str, behaviour: dict[str, str], settings: HostSettings | None = None) -> str:
    """Return the bytes of a kernel: what its guest does, in the words of the simulated host, or of `fake_xl`."""
    if settings is not None:
        words = {"panic": "panics", "hang": "no device", "reboot-loop": "BOOM"}
        return f"{words.get(behaviour.get('boot', ''), 'boots')}: kernel {number}\n"
    lines = [f'{key} = "{value}"' for key, value in sorted(behaviour.items())]
    return "\n".join(["#!simulated-kernel", *lines, f'console = "kernel {number}"', ""])


def _host(keys: dict[str, str], settings: HostSettings | None) -> dict[str, Any]:
    table: dict[str, Any] = {key: int(value) for key, value in keys.items() if key in ("max_unavailable", "parallel")}
    if "reconcile" in keys:
        table["reconcile"] = keys["reconcile"] == "yes"
    if settings is None:
        simulated = {"memory": f"{keys.get('memory', '4096')}MiB", "cpus": 8}
        return table | {"toolstack": "simulated", "disk_roots": ["/srv"], "simulated": simulated}
    paths = {"config_dir": settings.config_dir, "kernel_dir": settings.kernel_dir}
    return table | {"toolstack": "xl", "disk_roots": list(settings.disk_roots), **paths}


def _spec(keys: dict[str, str], disks: str) -> dict[str, Any]:
    table: dict[str, Any] = {"kernel": "kernels/1", "memory": 128, "ready": READY}
    for key, value in sorted(keys.items()):
        match key:
            case "kernel":
                table["kernel"] = f"kernels/{value}"
            case "depends_on":
                table[key] = sorted(filter(None, value.split(",")))
            case "disk":
                path, _, size = value.partition(":")
                disk = {"vdev": "xvda", "path": f"{disks}/{path}", "size": f"{size or 16}MiB"}
                table["disk"] = [disk | ({"on_delete": "delete"} if keys.get("on_delete") else {})]
            case "reads":
                common = {"vdev": "xvdb", "path": f"{disks}/common", "access": "ro"}
                table["disk"] = [*table.get("disk", []), common]
            case "sign":
                table["ready"] = READY | {"console": value}
            case "vif":
                table["vif"] = [{"bridge": "xenbr0"} for _ in range(int(value))]
            case "prevent_destroy" | "reconcile":
                table[key] = value == "yes"
            case "error" | "on_delete":
                pass
            case _:
                table[key] = _number(value)
    return table


def _number(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdigit() else text
