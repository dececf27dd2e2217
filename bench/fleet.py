"""A spec tree of any size, much like what people have: some profiles' worth of settings, a disk and a vif each."""

from __future__ import annotations

from pathlib import Path

_PER_HOST = 100
_HOST = """toolstack = "simulated"
disk_roots = ["/srv"]
parallel = 8

[simulated]
memory = "{memory_gib}GiB"
cpus = 32
"""
_DOMAIN = """kernel = "kernels/linux"
memory = 256
vcpus = 1

[[disk]]
vdev = "xvda"
path = "/srv/{name}.img"
size = "1GiB"

[[vif]]
bridge = "xenbr0"
mac = "00:16:3e:{mac}"
"""


def write_fleet(root: Path, domains: int, per_host: int = _PER_HOST) -> None:
    """Write `domains` domain files, so many to a host. Macs are given: 10,000 derived ones would meet by chance."""
    (root / "kernels").mkdir(parents=True)
    (root / "kernels" / "linux").write_text("#!simulated-kernel\nboot_seconds = 1\n")
    for number in range(domains):
        folder = root / f"host{number // per_host:04}"
        if number % per_host == 0:
            folder.mkdir()
            (folder / "host.toml").write_text(_HOST.format(memory_gib=64 * max(1, per_host // _PER_HOST)))
        name, mac = f"d{number:06}", f"{number:06x}"
        text = _DOMAIN.format(name=name, mac=":".join((mac[:2], mac[2:4], mac[4:])))
        (folder / f"{name}.toml").write_text(text)
