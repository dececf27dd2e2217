"""An `xl` whose domains live in a file beside it and do what Xen's do. Run as a program of its own.

Domains are `domains`, as Python writes them: what `xl list` shows of each, and how its guest behaves. A person's hand
changes the file. A test starts this some twenty times, so it imports what Python has loaded by then, or in C.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Domain = dict[str, Any]
    Domains = list[Domain]

HERE = os.path.dirname(__file__)  # pathlib takes longer to load than all else here
FILE = f"{HERE}/domains"
TOTAL_MIB = 4096
HEAD = "Name                 ID   Mem VCPUs\tState\tTime(s)   UUID   Reason-Code\tSecurity Label\n"
DOM0 = "Domain-0 0 384 2 r----- 308.9 00000000-0000-0000-0000-000000000000 - -\n"


def daemons() -> int:
    """What `ps` shows: a process for each domain, also for one that is between two lives; none for one that is kept."""
    for one in stored():
        if not one.get("kept"):
            print(f"77 xl create /etc/xen/{one['name']}.cfg")
    return 0


def main(command: str, *arguments: str) -> int:
    if command == "daemons":
        return daemons()
    if command == "console":
        return console(*arguments)
    with open(f"{HERE}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = stored()
        rebooting = [one for one in before if one.get("back_at", 0) > time.time()]
        domains = [one for one in before if one not in rebooting]
        for one in domains:
            ends_often = one["behaviour"].get("boot") in ("reboot-loop", "panic") and arguments[:1] == ("-v",)
            if one.pop("back_at", None) is not None or ends_often:  # its daemon has created it again
                one["domid"] = next_domid(before)
        status = COMMANDS[command](domains, *arguments)
        with open(f"{FILE}.new", "w") as new:
            new.write(repr([*domains, *rebooting]))
        os.replace(f"{FILE}.new", FILE)
        return status


def stored() -> Domains:
    try:
        with open(FILE) as file:
            return eval(file.read())  # type: ignore[no-any-return]  # written by us
    except FileNotFoundError:
        return []


def fail(reason: str) -> int:
    sys.stderr.write(f"libxl: error: libxl_fake.c:1:fake: {reason}" + "\n")
    return 1


def next_domid(domains: Domains) -> int:
    return max((one["domid"] for one in domains), default=0) + 1


def found(domains: Domains, domid: str) -> Domain:
    return next(domain for domain in domains if domain["domid"] == int(domid))


def list_(domains: Domains, how: str, domid: str = "") -> int:
    if how == "-v":
        rows = (
            f"{one['name']} {one['domid']} {one['mib']} {one['vcpus']} {one['state']}"
            f" {one.get('seconds', 8.0)} {one['uuid']} - -\n"
            for one in domains
        )
        print(HEAD + DOM0 + "".join(rows), end="")
    else:
        import json

        asked = [one for one in domains if domid in ("", str(one["domid"])) and one.get("told", True)]
        print(json.dumps([{"domid": one["domid"], "config": one["config"]} for one in asked], indent=4))
    return 0


def info(domains: Domains) -> int:
    held = sum(one["mib"] for one in domains)
    lines = ("nr_cpus : 8", f"total_memory : {TOTAL_MIB}", f"free_memory : {TOTAL_MIB - 128 - held}")
    print("\n".join((*lines, "xen_version : 4.17.7", "xen_scheduler : credit2", "xen_commandline : dom0_mem=384M")))
    return 0


def create(domains: Domains, *arguments: str) -> int:
    file, paused = arguments[-1], "-p" in arguments
    said: dict[str, Any] = {}
    with open(file) as config_file:
        exec(config_file.read(), {}, said)  # what we write is Python as well
    said = {"vcpus": 1, **said}
    if any(one["name"] == said["name"] for one in domains):
        return fail(f"domain {said['name']} already exists")
    kernel = ""  # what boots is on a disk
    if "kernel" in said:
        with open(said["kernel"]) as kernel_file:
            kernel = kernel_file.read()
    if kernel.startswith("no device"):
        return fail("script: Failed to find an unused loop device")
    if "BOOM" in kernel:
        return 0  # it was made, and was gone before anybody looked
    boots: dict[str, Any] = {key: said[key] for key in ("kernel", "ramdisk", "cmdline", "bootloader") if key in said}
    if "firmware" in said:  # as xl does for what is no hvm
        boots["kernel"] = f"/usr/lib/xen/boot/{said['firmware']}"
    built = {
        "max_vcpus": said.get("maxvcpus", said["vcpus"]),
        "avail_vcpus": list(range(said["vcpus"])),
        "max_memkb": said.get("maxmem", said["memory"]) * 1024,
        "target_memkb": said["memory"] * 1024,
        **boots,
        f"type.{said.get('type', 'pv')}": {},
    }
    created = {"type": said.get("type", "pv"), "name": said["name"], "uuid": said["uuid"]}
    config = {
        "c_info": created,
        "b_info": built,
        "disks": [disk(spec) for spec in said.get("disk", [])],
        "nics": [nic(spec) for spec in said.get("vif", [])],
        **{key: said[key] for key in said if key.startswith("on_")},
    }
    domains.append(
        {**{key: said[key] for key in ("name", "uuid", "vcpus")}, "domid": next_domid(domains), "mib": said["memory"]}
        | {"state": "---sc-" if kernel.startswith("panics") else "-b----", "config": config, "behaviour": {}}
    )
    if paused:
        domains[-1] |= {"boots_to": domains[-1]["state"], "state": "--p---"}
    return 0


def disk(spec: str) -> Domain:
    said = dict(part.partition("=")[::2] for part in spec.split(","))
    writable = int(said.get("access", "rw") == "rw")
    drive = {"is_cdrom": 1} if "cdrom" in said.values() or "cdrom" in said else {}
    medium = {"pdev_path": said["target"]} if said.get("target") else {}
    return {**medium, "vdev": said["vdev"], "format": said["format"], "readwrite": writable, **drive}


def cd_insert(domains: Domains, domid: str, vdev: str, target: str) -> int:
    if not os.path.exists(target):
        return fail(f"Disk vdev={vdev} failed to stat: {target}")
    one = next(one for one in found(domains, domid)["config"]["disks"] if one["vdev"] == vdev)
    one["pdev_path"] = target
    return 0


def cd_eject(domains: Domains, domid: str, vdev: str) -> int:
    one = next(one for one in found(domains, domid)["config"]["disks"] if one["vdev"] == vdev)
    one.pop("pdev_path", None)
    return 0


def nic(spec: str) -> Domain:
    said = dict(part.partition("=")[::2] for part in spec.split(","))
    bridge = {"bridge": said["bridge"]} if "bridge" in said else {}
    return {"devid": int(said.get("devid", 0)), "mac": said["mac"], "nictype": "vif", **bridge}


def shutdown(domains: Domains, _force: str, domid: str) -> int:
    one = found(domains, domid)
    if one["behaviour"].get("shutdown") != "ignore" and one["state"] != "--p---":
        domains.remove(one)
    return 0


def destroy(domains: Domains, domid: str) -> int:
    domains.remove(found(domains, domid))
    return 0


def unpause(domains: Domains, domid: str) -> int:
    one = found(domains, domid)
    one["state"] = one.pop("boots_to", "-b----")
    return 0


def pause(domains: Domains, domid: str) -> int:
    found(domains, domid)["state"] = "--p---"
    return 0


def console(domid: str) -> int:
    """What its guest says, from when it is let go: the text of its kernel."""
    for _ in range(1000):
        one = found(stored(), domid)
        if one["state"] != "--p---":
            with open(one["config"]["b_info"]["kernel"]) as kernel:
                print(f"booting\n{kernel.read()}", flush=True)
            return 0
        time.sleep(0.02)
    return 1


def rename(domains: Domains, domid: str, name: str) -> int:
    if any(one["name"] == name for one in domains):
        return fail(f'Domain with name "{name}" already exists.')
    found(domains, domid)["name"] = name
    return 0


def mem_set(domains: Domains, domid: str, text: str) -> int:
    one, mib = found(domains, domid), int(text.removesuffix("m"))
    built = one["config"]["b_info"]
    if mib * 1024 > built["max_memkb"]:
        return fail(f"memory_dynamic_max must be less than {built['max_memkb']}")
    built["target_memkb"] = mib * 1024
    match one["behaviour"].get("balloon"):
        case "refuse":
            pass
        case "almost":
            one["mib"] = mib + 1 if mib < one["mib"] else mib - 1
        case _:
            one["mib"] = mib
    return 0


def vcpu_set(domains: Domains, _ignore: str, domid: str, count: str) -> int:
    one = found(domains, domid)
    if int(count) > one["config"]["b_info"]["max_vcpus"]:
        return fail("too many vcpus")
    one["config"]["b_info"]["avail_vcpus"] = list(range(int(count)))
    one["vcpus"] = int(count)
    return 0


def block_attach(domains: Domains, domid: str, spec: str) -> int:
    disks, wanted = found(domains, domid)["config"]["disks"], disk(spec)
    if any(one["vdev"] == wanted["vdev"] for one in disks):
        return fail("device already exists in xenstore")
    disks.append(wanted)
    return 0


def network_attach(domains: Domains, domid: str, *parts: str) -> int:
    nics, wanted = found(domains, domid)["config"]["nics"], nic(",".join(parts))
    if any(one["devid"] == wanted["devid"] for one in nics):
        return fail("device already exists in xenstore")
    nics.append(wanted)
    return 0


def network_detach(domains: Domains, domid: str, devid: str) -> int:
    config = found(domains, domid)["config"]
    config["nics"] = [one for one in config["nics"] if one["devid"] != int(devid)]
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "list": list_,
    "info": info,
    "create": create,
    "shutdown": shutdown,
    "destroy": destroy,
    "pause": pause,
    "unpause": unpause,
    "rename": rename,
    "mem-set": mem_set,
    "vcpu-set": vcpu_set,
    "block-attach": block_attach,
    "cd-insert": cd_insert,
    "cd-eject": cd_eject,
    "network-attach": network_attach,
    "network-detach": network_detach,
}

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
