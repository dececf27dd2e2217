"""An `xm` whose domains live in the file of `fake_xl`, beside it, and which says what xend does. A program of its own.

It takes what xm of Xen 4.1 takes and refuses all else: no `-F`, no number of an interface, disks as three words, only
keys that xm knows. It prints domains as xend does: S-expressions, broken where a line gets long. `store list PATH` and
`store read PATH` answer for xenstore, as far as it is asked: /vm, and the back ends of devices.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.both import fake_xl
    from tests.both.fake_xl import Domain, Domains
else:
    sys.path.insert(0, os.path.dirname(__file__))
    import fake_xl

WIDTH = 70
KEYS = {
    *("name", "uuid", "kernel", "ramdisk", "extra", "bootloader", "bootargs", "memory", "maxmem", "vcpus", "maxvcpus"),
    *("cpus", "cpu_weight", "cpu_cap", "pool", "disk", "vif", "pci", "on_poweroff", "on_reboot", "on_crash", "builder"),
}
VIF_KEYS = ("mac", "bridge", "ip", "script", "rate", "model", "type", "vifname")
NUMBERS = {"xvda:disk": "51712", "xvdb:disk": "51728"}
DOM0 = """(domain
    (domid 0)
    (cpu_weight 256)
    (cpu_cap 0)
    (bootloader )
    (uuid 00000000-0000-0000-0000-000000000000)
    (vcpus 2)
    (name Domain-0)
    (cpus (()))
    (maxmem 16777215)
    (memory 384)
    (on_xend_start ignore)
    (cpu_time 308.9)
    (online_vcpus 2)
    (image (linux (kernel ) (superpages 0)))
    (status 2)
    (state r-----)
)
"""
SHELVED = "(domain (uuid 00000000-0000-4000-8000-00000000dead) (vcpus 1) (name shelved) (memory 64) (status 0))\n"


def fail(reason: str) -> int:
    sys.stderr.write(f"Error: {reason}\n")
    return 1


def sxp(value: Any) -> str:
    """One value as xend writes it: a list in parentheses, a text in quotes if it is no single word."""
    if isinstance(value, list):
        inner = [sxp(item) for item in value]
        short = f"({' '.join(inner)})"
        return short if len(short) < WIDTH else "(" + "\n".join(inner) + ")"
    text = str(value)
    return text if text and not set(text) & set(" ()'\"\\") else repr(text) if text else ""


def domain(one: Domain) -> str:
    """A domain as `xm list --long` prints it."""
    config = one["config"]
    built = config["b_info"]
    image = ["linux", ["kernel", built["kernel"]], ["args", built.get("cmdline", "")], ["notes", ["PAE_MODE", "yes"]]]
    devices = [
        ["device", ["vif", ["uuid", "f57c4758"], *([key, nic[key]] for key in nic if key != "handle")]]
        for nic in config["nics"]
    ]
    devices += [["device", ["vbd", *([key, disk[key]] for key in disk), ["backend", 0]]] for disk in config["disks"]]
    events = [[key, config[key]] for key in config if key.startswith("on_")]
    parts: list[Any] = [
        ["domid", one["domid"]],
        ["cpu_weight", 256],
        ["cpu_cap", config.get("cpu_cap", 0)],
        ["bootloader", ""],
        ["uuid", one["uuid"]],
        ["vcpus", built["max_vcpus"]],
        ["vcpu_avail", (1 << len(built["avail_vcpus"])) - 1],
        ["name", one["name"]],
        *events,
        ["cpus", [[]]],
        ["maxmem", built["max_memkb"] // 1024],
        ["memory", built["target_memkb"] // 1024],
        ["start_time", 1357749308.05],
        ["cpu_time", one.get("seconds", 8.0)],
        ["online_vcpus", one["vcpus"]],
        ["image", image],
        ["status", 2],
        ["state", one["state"].replace("r-", "--") if one["state"][3] == "s" else one["state"]],
        *devices,
    ]
    return sxp(["domain", *parts]) + "\n"


def list_(domains: Domains, how: str = "", domid: str = "") -> int:
    if how == "--long":
        asked = [one for one in domains if domid in ("", str(one["domid"]))]
        print(("" if domid else DOM0 + SHELVED) + "".join(domain(one) for one in asked), end="")
        return 0
    return fail(f"Invalid option: {how}") if how else 0


def domid(domains: Domains, name: str) -> int:
    found = [one["domid"] for one in domains if one["name"] == name]
    print(*found)
    return 0 if found else fail(f"Domain '{name}' does not exist.")


def create(domains: Domains, file: str) -> int:
    said: dict[str, Any] = {}
    with open(file, encoding="ascii") as config_file:  # Python 2 stops at anything else
        text = config_file.read()
    exec(text, {}, said)
    if unknown := said.keys() - KEYS:
        return fail(f"this test's xm knows no {', '.join(sorted(unknown))}")
    if any(one["name"] == said["name"] for one in domains):
        return fail(f"Domain '{said['name']}' already exists with ID '1'")
    with open(said["kernel"]) as kernel:
        if "BOOM" in kernel.read():
            return 0  # it was made, and was gone before anybody looked
    built = {
        "max_vcpus": said.get("maxvcpus", said["vcpus"]),
        "avail_vcpus": list(range(said["vcpus"])),
        "max_memkb": said.get("maxmem", said["memory"]) * 1024,
        "target_memkb": said["memory"] * 1024,
        "kernel": said["kernel"],
        "cmdline": said.get("extra", ""),
    }
    config = {
        "b_info": built,
        "disks": [disk(*spec.split(",")) for spec in said.get("disk", [])],
        "nics": [nic(spec.split(","), handle) for handle, spec in enumerate(said.get("vif", []))],
        **{"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "restart"},  # as xend does if it is not told
        **{key: said[key] for key in said if key.startswith("on_") or key == "cpu_cap"},
    }
    domains.append(
        {**{key: said[key] for key in ("name", "uuid", "vcpus")}, "domid": fake_xl.next_domid(domains)}
        | {"mib": said["memory"], "state": "-b----", "config": config, "behaviour": {}}
    )
    return 0


def disk(uname: str, dev: str, mode: str) -> Domain:
    return {"dev": f"{dev}:disk", "uname": uname, "mode": mode}


def nic(parts: list[str], handle: int) -> Domain:
    said = dict(part.split("=") for part in parts)
    if unknown := said.keys() - set(VIF_KEYS):
        raise SystemExit(fail(f"Invalid argument: {unknown}"))
    return {"script": "/etc/xen/scripts/vif-bridge", "handle": handle, **said}


def shutdown(domains: Domains, domid: str) -> int:
    return fake_xl.shutdown(domains, "", domid)


def vcpu_set(domains: Domains, domid: str, count: str) -> int:
    return fake_xl.vcpu_set(domains, "", domid, count)


def block_attach(domains: Domains, domid: str, uname: str, dev: str, mode: str) -> int:
    disks, wanted = fake_xl.found(domains, domid)["config"]["disks"], disk(uname, dev, mode)
    if any(one["dev"] == wanted["dev"] for one in disks):
        return fail(f"Device {dev} (vbd) is already connected.")
    disks.append(wanted)
    return 0


def network_attach(domains: Domains, domid: str, *parts: str) -> int:
    one = fake_xl.found(domains, domid)
    one["handles"] = one.get("handles", len(one["config"]["nics"]) + 2) + 1  # xend counts on, and never back
    one["config"]["nics"].append(nic(list(parts), one["handles"]))
    return 0


def network_detach(domains: Domains, domid: str, mac: str) -> int:
    config = fake_xl.found(domains, domid)["config"]
    config["nics"] = [one for one in config["nics"] if one["mac"] != mac]
    return 0


def store(how: str, path: str) -> int:
    """What xenstore has at a path; only of what the scripts for xm ask."""
    domains = fake_xl.stored()
    match path.strip("/").split("/"):
        case ["vm"]:
            found = [one["uuid"] for one in domains]
        case ["vm", uuid, "name"]:
            found = [one["name"] for one in domains if one["uuid"] == uuid]
        case ["vm", uuid, "xend", "restart_in_progress"]:
            found = ["True" for one in domains if one["uuid"] == uuid and one.get("back_at", 0) > time.time()]
        case ["local", "domain", "0", "backend", kind, number, *rest]:
            found = backend([one for one in domains if str(one["domid"]) == number], kind, rest)
        case ["front", "state"]:
            found = ["4"]
        case _:
            found = []
    if not found and how == "read":
        return fail(f"couldn't read path {path}")
    print("\n".join(found))
    return 0


def backend(domains: Domains, kind: str, rest: list[str]) -> list[str]:
    nics = {str(nic["handle"]): nic for one in domains for nic in one["config"]["nics"]}
    disks = {NUMBERS[disk["dev"]]: disk for one in domains for disk in one["config"]["disks"]}
    devices = {"vif": nics, "vbd": disks}.get(kind, {})
    match rest:
        case []:
            return list(devices)
        case [number, "mac"] if number in nics:
            return [nics[number]["mac"]]
        case [number, "frontend"] if number in devices:
            return ["/front"]
        case [number, "state"] if number in devices:
            return ["4"]
        case _:
            return []


COMMANDS: dict[str, Callable[..., int]] = {
    **{name: fake_xl.COMMANDS[name] for name in ("info", "destroy", "unpause", "mem-set")},
    "list": list_,
    "domid": domid,
    "create": create,
    "shutdown": shutdown,
    "vcpu-set": vcpu_set,
    "block-attach": block_attach,
    "network-attach": network_attach,
    "network-detach": network_detach,
}

if __name__ == "__main__":
    if sys.argv[1] == "store":
        sys.exit(store(*sys.argv[2:]))
    fake_xl.COMMANDS = COMMANDS
    sys.exit(fake_xl.main(*sys.argv[1:]))
