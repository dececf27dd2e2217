"""Trees of specs, and saved plans."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from reconciler.cli import saved_plan
from reconciler.model.copies import replace as with_values
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Domain, Image, canonical_json
from reconciler.model.fleet import DesiredHost
from reconciler.show.markdown import plan_markdown
from reconciler.show.text import plan_text
from reconciler.specs import read_tree
from reconciler.texts.cfg_grammar import read_cfg
from reconciler.texts.config_file import read_file, render_file
from tests import worlds
from tests.fuzz.laws import are_foreseen, is_plain, is_tame_markdown, strings_in

_TREE = """\
#=# reconciler.toml
fleet = "shop"
mac_prefix = "00:16:3e"
max_unavailable = 2

[brake]
max_destroy = "20%"

[[window]]
kind = "allow"
schedule = "0 2 * * 6"
duration = "4h"
timezone = "Europe/Berlin"
domains = ["alpha/*"]

[git]
require_signed = "all"
allowed_signers = "signers"
#=# profiles/linux.toml
kernel = "kernels/vmlinuz"
memory = "512MiB"
cmdline = "root=/dev/xvda1 console=hvc0"
#=# alpha/host.toml
toolstack = "xl"
connect = "ssh://root@alpha:22"
disk_roots = ["/srv", "vg0"]
kernel_roots = ["/boot"]
keep_free = "256MiB"

[allow]
bootloaders = ["pygrub"]
scripts = ["vif-nat"]
pci = ["01:00.0"]
#=# alpha/web.toml
"""
_WEB = """\
profile = "linux"
maxmem = 1024
vcpus = 2
cpus = "0-3,^1"
depends_on = ["db"]
on_crash = "restart"
shutdown_timeout = "90s"

[[disk]]
vdev = "xvda"
path = "/srv/web.img"
size = "4GiB"
source = "/srv/base.img"

[[disk]]
vdev = "xvdb"
lv = "vg0/web"
on_delete = "delete"

[[vif]]
bridge = "xenbr0"
mac = "00:16:3e:00:00:01"
ip = "10.0.0.9"

[ready]
tcp = "10.0.0.9:22"
console = "login:"
timeout = "2m"

[xl]
vnc = 1
keymap = "de"
vnuma = [["pnode=0", "size=512"]]
"""
TREES = (
    _TREE + _WEB,
    _TREE
    + 'kernel = "/boot/vmlinuz"\nramdisk = "/boot/initrd"\nmemory = 64\nextra = "quiet \'x\'"\nroot = "/dev/xvda1"\n',
    _TREE + 'type = "hvm"\nmemory = 64\nbootloader = "pygrub"\npci = ["01:00.0"]\nautostart = 3\n',
)
_NAMES = ("reconciler.toml", "profiles/linux.toml", "alpha/host.toml", "alpha/web.toml")
_SHA256 = "ab" * 32


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Return what is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="fuzzed")


@cache
def _folder() -> Path:
    folder = Path(_temporary().name, "tree")
    folder.mkdir()
    for name in ("profiles", "alpha", "kernels"):
        (folder / name).mkdir()
    (folder / "kernels/vmlinuz").write_bytes(b"a kernel")
    (folder / "alpha/db.toml").write_text('kernel = "kernels/vmlinuz"\nmemory = 64\n')
    return folder


def check_tree(text: str) -> None:
    """Files under `#=# NAME` become domains, or diagnostics with a place. Nothing that is named lies outside."""
    parts = re.split(r"^#=# (.*)\n", text, flags=re.MULTILINE)
    given = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name in _NAMES:
        (_folder() / name).write_bytes(given.get(name, "").encode(errors="surrogateescape"))
    reading = read_tree(_folder(), needs_fleet=True)
    are_foreseen(reading.diagnostics)
    assert reading.desired.prune == (not any(problem.kind.value != "note" for problem in reading.diagnostics))
    for part in reading.desired.hosts.values():
        for domain in part.domains.values():
            _check_domain(domain, part)
    world = worlds.host(free_mib=8192)
    made = worlds.plan(world, reading.desired) if reading.desired.hosts else None
    if made is not None:
        is_plain(plan_text(made, steps=True))
        is_tame_markdown(plan_markdown(made))


def _check_domain(domain: Domain, part: DesiredHost) -> None:
    assert all("\0" not in said and "\n" not in said for said in strings_in(domain)), domain
    for disk in domain.disks:
        if disk.kind in ("file", "lv") and disk.is_on_host and disk.target:
            assert posixpath.normpath(disk.target) == disk.target, disk
            roots = [root if root.startswith("/") else f"/dev/{root}" for root in part.settings.disk_roots]
            assert any(disk.target.startswith(f"{root.rstrip('/')}/") for root in roots), (disk, roots)
    for image in domain.images:
        if image.source.startswith("/"):
            assert posixpath.dirname(image.source) in part.settings.kernel_roots, image
        else:
            assert ".." not in image.source.split("/"), image
    kernel, ramdisk = _staged(domain.kernel), _staged(domain.ramdisk)
    whole = with_values(domain, kernel=kernel, ramdisk=ramdisk)
    written = render_file(whole, "shop", None)
    assert written.isascii()
    found = read_cfg(written)
    assert not found.errors, (written, found.errors)
    images = {image.path: image.sha256 for image in (kernel, ramdisk) if image is not None}
    again = read_file(written, images).domain
    assert again is not None
    assert again.disks == whole.disks
    assert again.cmdline == whole.cmdline


def _staged(image: Image | None) -> Image | None:
    if image is None:
        return None
    return replace(
        image, sha256=_SHA256, path=f"/var/lib/xen/kernels/web/{posixpath.basename(image.source)}.{_SHA256[:12]}"
    )


@cache
def _plan_text() -> str:
    folder = Path(_temporary().name, "plan")
    (folder / "specs/alpha").mkdir(parents=True)
    (folder / "specs/alpha/host.toml").write_text('toolstack = "simulated"\n')
    (folder / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\n')
    reading = read_tree(folder / "specs")
    wanted = worlds.desired(worlds.domain("web", disks=(worlds.disk("/srv/web.img"),)))
    made = worlds.plan(worlds.host(), wanted)
    saved_plan.save(folder / "plan", made, reading, folder / "specs")
    return (folder / "plan").read_text()


PLANS = ("", "{}", '{"format": 1, "saved": {"version": 2}}')


def check_plan_file(text: str) -> None:
    """What is no plan, or was edited, is refused; also where whoever edited it knows how to seal it."""
    for content in (text, _sealed(text)):
        path = _folder() / "plan"
        path.write_bytes(content.encode(errors="surrogateescape"))
        try:
            saved = saved_plan.load(path)
        except ReconcilerError as error:
            are_foreseen(error.diagnostics)
            continue
        is_plain(plan_text(saved.plan, steps=True))
        is_tame_markdown(plan_markdown(saved.plan))


def _sealed(text: str) -> str:
    """Seal the document anew, as `saved_plan` would, with the digest of its plan as it is now."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(document, dict):
        return text
    body = {key: value for key, value in document.items() if key != "seal"}
    try:
        document["digest"] = saved_plan._adapter().validate_python(document["saved"]["plan"]).digest
        body["digest"] = document["digest"]
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    document["seal"] = hashlib.sha256(canonical_json(body).encode(errors="surrogatepass")).hexdigest()
    return json.dumps(document)


def plan_seeds() -> tuple[str, ...]:
    return (_plan_text(), *PLANS)
