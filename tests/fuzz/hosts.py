"""What hosts say: all that is printed for one look, the parts of it, and config files that are already there."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tarfile
from collections.abc import Callable
from functools import cache
from typing import Any

from reconciler.decide.holds import read_hold
from reconciler.dom0.connection import Connection, Result
from reconciler.dom0.lock import read_holder
from reconciler.importer.files import read_domain_file
from reconciler.importer.names import near_name
from reconciler.importer.tables import NotImportable, as_toml, import_domain
from reconciler.model.copies import replace
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.fleet import HostSettings
from reconciler.show.markdown import plan_markdown
from reconciler.show.text import plan_text
from reconciler.specs.toml import parse_toml
from reconciler.texts.config_file import read_file, render_body, render_file
from reconciler.texts.listing import XlOutputError, parse_info, parse_list, parse_list_long, parse_whole_list
from reconciler.texts.mark import split_mark
from reconciler.texts.quarantine_file import parse_quarantine
from reconciler.texts.xenstore import pci_names, read_store
from reconciler.texts.xm_listing import parse_xm_configs, parse_xm_rows
from reconciler.toolstack import Question
from reconciler.xl.observe import XlObserver
from tests import worlds
from tests.fake_dom0 import INFO, TABLE_HEAD, table_row
from tests.fuzz.laws import are_foreseen, is_plain, is_tame_markdown
from tests.texts.recorded import UUID, running_json

_WEB = worlds.domain("web", uuid=UUID, disks=(worlds.disk("/srv/web.img"),), vifs=(worlds.vif("00:16:3e:00:00:01"),))
_FILE = render_file(_WEB, "default", None)
CONFIGS = (
    _FILE,
    'name = "web"\nkernel = "/boot/vmlinuz"\nramdisk = "/boot/initrd"\nextra = "root=/dev/xvda1 quiet"\nmemory = 512\n'
    "maxmem = 1024\nvcpus = 2\ndisk = [ 'phy:/dev/vg0/web,xvda,w', 'file:/srv/cd.iso,hdc:cdrom,r' ]\n"
    "vif = [ 'mac=00:16:3e:00:00:01,bridge=xenbr0,script=vif-bridge', '' ]\n"
    "on_crash = 'restart'\ncpus = [ '0-1', '2' ]\n",
    "builder = 'hvm'\nname = 'win'\nmemory = 2048\nboot = 'cd'\nvnc = 1\nvncpasswd = 'geheim'\npci = [ '01:00.0' ]\n"
    "vnuma = [ [ 'pnode=0', 'size=512' ] ]\nusbdevice = [ 'tablet' ]\nserial = 'pty'\nfirmware = 'ovmf'\n",
)
_LONG = json.dumps([{"domid": 4, "config": running_json()}], indent=1)
_STORE = (
    f'/vm/{UUID}/start_time = "17000.07"\n/local/domain/4/device/vbd/51712/state = "4"\n'
    '/local/domain/4/device/vbd/51712/backend = "/local/domain/0/backend/vbd/4/51712"\n'
    '/local/domain/0/backend/vbd/4/51712/state = "4"\n/local/domain/0/backend/vbd/4/51712/params = "/srv/web.img"\n'
    '/libxl/pci/0000-01-00-1/name = "nic one"\n'
)
_TABLE = TABLE_HEAD + table_row("web", 4, uuid=UUID) + table_row("other", 5, "--p---", UUID.replace("2", "9"))
_XM = f"(domain\n (domid 3)\n (uuid {UUID})\n (name web)\n (memory 64)\n (device (vif (mac 00:16:3e:00:00:01))))\n"
_LOCK = "12\napply by ada on desk, since 2026-11-30 17:00:00\n"
_HOLD = '{"by": "ada", "since": 1700000000.0, "until": null, "reason": "disk check"}\n'
OUTPUTS = (INFO, _TABLE, _LONG, _STORE, _XM, _LOCK, _HOLD, _FILE)

_READERS: tuple[Callable[[str], object], ...] = (
    parse_info,
    parse_list,
    parse_whole_list,
    parse_list_long,
    parse_xm_rows,
    parse_xm_configs,
    split_mark,
    parse_quarantine,
    lambda text: read_store(text.split("\n")),
    lambda text: pci_names(text.split("\n")),
    lambda text: read_holder([line for line in text.split("\n") if line]),
    lambda text: read_hold(text, 1_700_000_000.0),
    lambda text: read_file(text, {}),
)


def check_output(text: str) -> None:
    """Each reader of what a host prints understands it, or says that it does not."""
    for read in _READERS:
        try:
            read(text)
        except XlOutputError as error:
            assert str(error)


def check_config(text: str) -> None:
    """A config file that is already there becomes a spec that can be read, or sentences that say why not."""
    found = read_domain_file(text, "/etc/xen/web.cfg", "web")
    are_foreseen((*found.problems, *found.notes))
    if found.domain is None:
        assert found.problems
        return
    try:
        named = replace(found.domain, name=near_name(found.domain.name))
        imported = import_domain(named, {}, unsaid=found.unsaid)
    except NotImportable as error:
        assert str(error)
        return
    parse_toml(as_toml(imported, "/etc/xen/web.cfg", found.comments))


def _tar(texts: dict[str, str]) -> str:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, text in texts.items():
            content = text.encode()
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue().decode("latin-1")


_SECTIONS = {
    "system": "Linux\n0\n/etc/xen\n5837bc59-82dc-4ef8-a617-20f4bc7c3dd3\n",
    "info": INFO,
    "list": _TABLE,
    "long": _LONG,
    "store": f"1796061147\n{_STORE}",
    "config_names": "/etc/xen/web.cfg\n",
    "unread_names": "",
    "secrets": "",
    "texts": _tar({"/etc/xen/web.cfg": _FILE, "/etc/xen/xl.conf": "autoballoon=0\n"}),
    "files": "regular file|600|65024:3949944|0:0|2026-11-30 17:52:27.6 +0000|2026-11-30 17:52:27.6 +0000|/srv/web.img\n"
    "block special file|0|6:3|fd:3|2026-11-19 21:14:54.2 +0000|2026-11-19 21:14:54.2 +0000|/dev/vg0/web\n",
    "real_paths": "/srv/web.img\n/dev/dm-3\n",
    "sectors": "253:3 2048\n",
    "images": "regular file|35664|65024:26|0:0|2022-09-20 15:27:27.0 +0000|2022-09-20 15:27:27.0 +0000|/boot/vmlinuz\n",
    "digests": f"{'c7' * 32}  /boot/vmlinuz\n",
    "saved": "/var/lib/xen/save/other\n",
    "daemons": "1234 xl create /etc/xen/web.cfg\n",
    "pci": "0000:01:00.0\n",
    "autostart": "/etc/xen/auto/10-web.cfg /etc/xen/web.cfg\n",
    "bridges": "xenbr0\n",
    "groups": "  vg0|1073741824\n",
    "lock": _LOCK,
    "stuck": "",
    "rehearsals": "",
}
_BOUNDARY = "B" * 32
ANSWERS = ("".join(f"{content}\n{_BOUNDARY} {name} 0\n" for name, content in _SECTIONS.items()),)
_SETTINGS = HostSettings(
    name="alpha", toolstack="xl", config_dir="/etc/xen", kernel_dir="/var/lib/xen/kernels", disk_roots=("/srv", "vg0")
)


class _Says(Connection):
    """A host that answers every script with one text."""

    def __init__(self, text: str) -> None:
        super().__init__("alpha", "local")
        self._text = text

    async def script(self, text: str, **_: Any) -> Result:
        found = re.search(r"^boundary=(\S+)$", text, re.MULTILINE)
        assert found is not None
        answer = self._text.replace(_BOUNDARY, found[1])
        return Result(exit_code=0, stdout=answer.encode("latin-1", "replace"), stderr=b"odd\x1b[2J\n")


class _Hurried:
    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        return


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def check_answer(text: str) -> None:
    """A look at a host gives what is there, or says why not; and a plan of it can be shown."""
    observer = XlObserver(_SETTINGS, "default", None, _Says(text), clock=_Hurried())
    question = Question(files=("/srv/web.img", "/dev/vg0/web"), images=("/boot/vmlinuz",))
    try:
        host = _loop().run_until_complete(observer.observe(question))
    except ReconcilerError as error:
        are_foreseen(error.diagnostics)
        return
    made = worlds.plan(host, worlds.desired(replace(_WEB, memory_kib=131072), settings=_SETTINGS))
    is_plain(plan_text(made, steps=True))
    is_tame_markdown(plan_markdown(made))
    for guest in host.guests.values():
        if guest.config is not None:
            render_body(guest.config)
