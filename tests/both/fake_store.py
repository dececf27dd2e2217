"""What xenstore says of the domains of `fake_xl`: `ls`, `read`, `list` and `watch`. A program of its own."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.both import fake_xl
else:
    import fake_xl


def nodes() -> dict[str, str]:
    found = {"/tool/xenstored/domid": "0"}
    for one in fake_xl.stored():
        number, config = one["domid"], one["config"]
        found[f"/libxl/{number}/type"] = "pv"
        found[f"/vm/{one['uuid']}/start_time"] = "1419627600.21"
        for at, disk in enumerate(config["disks"]):
            numbered = disk["vdev"].startswith("0x")
            devid = int(disk["vdev"], 0) if numbered else 51712 + 16 * at
            found |= device(number, "vbd", devid) | {f"/libxl/{number}/device/vbd/{devid}/params": disk["pdev_path"]}
        for nic in config["nics"]:
            found |= device(number, "vif", nic["devid"])
    return found


def device(number: int, kind: str, devid: int) -> dict[str, str]:
    ends = {
        "frontend": f"/local/domain/{number}/device/{kind}/{devid}",
        "backend": f"/local/domain/0/backend/{kind}/{number}/{devid}",
    }
    record = f"/libxl/{number}/device/{kind}/{devid}"
    return {f"{record}/{end}": path for end, path in ends.items()} | {f"{path}/state": "4" for path in ends.values()}


def main(tool: str, *arguments: str) -> int:
    paths = [word for word in arguments if not word.startswith("-")]
    known = nodes()
    if tool == "watch":
        print(*paths, *paths, sep="\n", flush=True)  # the first says that the watch is set
        time.sleep(60)
        return 0
    for path in paths:
        below = {node: value for node, value in known.items() if node.startswith(path.rstrip("/") + "/")}
        if tool == "read" and path in known:
            print(f"{path}: {known[path]}" if "-p" in arguments else known[path])
        elif tool == "ls" and below:
            print("\n".join(f'{node} = "{value}"' for node, value in below.items()))
        elif tool == "list" and below:
            print("\n".join({node.removeprefix(path.rstrip("/")).split("/")[1] for node in below}))
        else:
            sys.stderr.write(f"xenstore-{tool}: couldn't read path {path}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
