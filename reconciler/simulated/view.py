"""Makes of a stored simulated host what an observer sees: `StoredHost` in, `Host` out. Changes nothing.

Config files are real text under the paths of a Debian dom0, so the code that reads a real host's files reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.decide.holds import read_hold
from reconciler.expressions import expression
from reconciler.model.domain import Disk, Domain, XlValue
from reconciler.model.fleet import HostSettings
from reconciler.model.host import NAMELESS, WHOLE_HOST, Devices, FileFact, Guest, Hold, Host, Owner, Power
from reconciler.model.paths import disk_identity
from reconciler.model.rehearsal import Leftover, SnapshotFact, read_record
from reconciler.simulated.guest import Instance, actual_kib, brought_up_to, held_kib, will_connect
from reconciler.simulated.journal import MOVING, SETTLED, has_disk, is_in
from reconciler.simulated.store import Store, StoredFile, StoredHost
from reconciler.specs.resolve.images import digest_told
from reconciler.specs.secret_files import BEFORE, SECRET_FILES, changed_values, secret_of, told_by_files, without_values
from reconciler.texts.guests import LiveDomain, assemble_guests, with_past
from reconciler.texts.listing import is_migrating
from reconciler.texts.mark import MARK_PREFIX
from reconciler.toolstack import Question

XEN_AND_DOM0_KIB = 128 * 1024
SAVE_DIR = "/var/lib/xen/save"
_VOLUME_GROUP_BYTES = _FILE_SYSTEM_BYTES = 1 << 40
_UNTOLD = (Power.STARTING, Power.UNFINISHED)  # libxl tells what a domain runs with once it is complete
_STAGED_NAME = expression(r"\.[0-9a-f]{12}$")


class HostPaths:
    """The paths at which a host keeps our files."""

    def __init__(self, settings: HostSettings) -> None:
        self.config_dir = (settings.config_dir or "/etc/xen").rstrip("/")
        self.kernel_dir = settings.kernel_dir.rstrip("/")

    def config(self, domain: str) -> str:
        return f"{self.config_dir}/{domain}.cfg"

    def candidate(self, domain: str) -> str:
        return f"{self.kernel_dir}/{domain}/candidate.cfg"

    def previous(self, domain: str) -> str:
        return f"{self.kernel_dir}/{domain}/previous.cfg"

    def quarantine(self, domain: str) -> str:
        return f"{self.kernel_dir}/{domain}/quarantine.json"

    def hold(self, domain: str) -> str:
        return f"{self.holds}/{domain or '@host'}.json"

    def rehearsal(self, uuid: str) -> str:
        return f"{self.kernel_dir}/.rehearsals/{uuid}"

    def rehearsals(self, stored: StoredHost) -> list[str]:
        """List the records of rehearsals."""
        return sorted(stored.files.about(is_in(f"{self.kernel_dir}/.rehearsals")))

    @property
    def holds(self) -> str:
        """Return the folder of the files of holds."""
        return f"{self.kernel_dir}/.holds"

    def config_names(self, stored: StoredHost) -> list[str]:
        """List the domains that have a config file."""
        folder, suffix = f"{self.config_dir}/", ".cfg"
        names = (
            path[len(folder) : -len(suffix)]
            for path in stored.files
            if path.startswith(folder) and path.endswith(suffix)
        )
        return [name for name in names if name and "/" not in name]

    def images_of(self, domain: str, stored: StoredHost) -> list[str]:
        """List the staged kernels and ramdisks of one domain."""
        return [path for path in stored.files.about(is_in(f"{self.kernel_dir}/{domain}")) if self.is_image(path)]

    def images(self, stored: StoredHost) -> dict[str, str]:
        """Return every staged kernel and ramdisk, with its sha256."""
        return {path: file.sha256 or "" for path, file in stored.files.items() if self.is_image(path)}

    def is_image(self, path: str) -> bool:
        """Return whether this path is one of a staged kernel or ramdisk."""
        return path.startswith(f"{self.kernel_dir}/") and _STAGED_NAME.search(path) is not None


class _Staged(Mapping[str, str]):
    """Maps the path of every staged file to its sha256, which is looked up only when it is asked for."""

    def __init__(self, paths: HostPaths, stored: StoredHost) -> None:
        self._paths = paths
        self._files = stored.files

    def __getitem__(self, path: str) -> str:
        if not self._paths.is_image(path):
            raise KeyError(path)
        return self._files[path].sha256 or ""

    def __iter__(self) -> Iterator[str]:
        return (path for path in self._files if self._paths.is_image(path))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class View:
    """A stored host as it is at one moment of its clock."""

    def __init__(self, settings: HostSettings, fleet: str, store: Store, stored: StoredHost, now: float) -> None:
        self._settings = settings
        self._fleet = fleet
        self._store = store
        self._stored = stored
        self._now = now
        self._paths = HostPaths(settings)

    def host(self, question: Question) -> Host:
        """Return the whole host."""
        files = {(domain, key): path for domain, key, path in question.secrets}
        guests = told_by_files(
            self._guests(self._names()),
            question.secrets,
            lambda domain, key, value: self.secret(files[domain, key]) == value,
        )
        return Host(
            name=self._settings.name,
            total_kib=self._settings.simulated.memory_kib,
            free_kib=self.free_kib(),
            cpus=self._settings.simulated.cpus,
            xen_version="simulated",
            boot_id=f"boot {self._stored.boots}",
            guests=guests,
            images=self._paths.images(self._stored),
            digests={path: self._digest_told(path) for path in question.images},
            unstaged={
                path: self._store.digest(self._stored, path) for path in self._unstaged(question, guests.values())
            },
            files=self._files(question, guests.values()),
            vg_free_bytes=self.vg_free_bytes(),
            snapshots=self._snapshots(question, guests),
            leftovers=self.leftovers(),
            holds=self.holds(),
        )

    def holds(self) -> dict[str, Hold]:
        """Return the holds that last now, by the clock on the wall."""
        return {name: hold for name in self._held_names() if (hold := self.hold(name)) is not None}

    def leftovers(self) -> tuple[Leftover, ...]:
        """Return what the records of rehearsals name."""
        texts = (self._store.content(self._stored, path) for path in self._paths.rehearsals(self._stored))
        records = (read_record(text.decode(errors="replace")) for text in texts)
        return tuple(record for record in records if record is not None)

    def _snapshots(self, question: Question, guests: Mapping[str, Guest]) -> dict[str, SnapshotFact]:
        """Say how the disks can be snapshot of those domains whose restart is rehearsed."""
        definitions = [part for name in question.rehearsed if (one := guests.get(name)) for part in _parts(one)]
        targets = {disk.target for one in definitions for disk in one.disks} | set(question.files)
        return snapshot_facts(self._stored, sorted(targets), self.vg_free_bytes()) if question.rehearsed else {}

    def _held_names(self) -> list[str]:
        names = (path[len(self._paths.holds) + 1 :] for path in self._stored.files.about(is_in(self._paths.holds)))
        return sorted(WHOLE_HOST if name == "@host.json" else name.removesuffix(".json") for name in names)

    def hold(self, name: str) -> Hold | None:
        """Return the hold of a domain, or of the whole host, that lasts now."""
        path = self._paths.hold(name)
        if path not in self._stored.files:
            return None
        return read_hold(self._store.content(self._stored, path).decode(errors="replace"), self._store.wall_clock())

    def _instance(self, name: str) -> Instance:
        return brought_up_to(self._stored.instances[name], self._now)

    def guest(self, name: str) -> Guest | None:
        """Return one guest; None when the host holds nothing of that name."""
        return self._guests([name]).get(name)

    def free_kib(self) -> int:
        """Return the KiB that can be given to domains: all but the share of Xen and dom0, and what domains hold."""
        instances = self._stored.instances
        moving = sum(held_kib(self._instance(name), self._now) for name in instances.about(MOVING))
        return self._settings.simulated.memory_kib - XEN_AND_DOM0_KIB - instances.total(SETTLED) - moving

    def disk_users(self, target: str) -> dict[str, Disk]:
        """Return the domains that hold this disk now, each with the disk as it defines it."""
        users = {name: self._instance(name) for name in self._stored.instances.about(has_disk(target))}
        return {
            name: disk
            for name, instance in users.items()
            if instance.exists
            for disk in instance.definition.disks
            if disk.target == target
        }

    def _names(self) -> list[str]:
        throwaways = {record.name: record.uuid for record in self.leftovers()}
        live = (
            name
            for name in self._stored.instances
            if (one := self._instance(name)).exists and throwaways.get(name) != one.definition.uuid
        )
        candidates = (
            path.split("/")[-2]
            for path in self._stored.files
            if path.startswith(f"{self._paths.kernel_dir}/") and path.endswith("/candidate.cfg")
        )
        return sorted({*live, *candidates, *self._paths.config_names(self._stored), *self._stored.autostart})

    def secret(self, path: str) -> str:
        """Return the secret that a file holds; "" where it holds none."""
        return secret_of(self._store.text(self._stored, path))

    def secrets_of(self, definition: Domain) -> tuple[tuple[str, str], ...]:
        """Return the digests of the secrets that a domain gets by starting now; "" for one that its file told before.

        (It is not worth knowing which: any other one makes the difference.)
        """
        named = [(key, str(path)) for key, path in definition.xl if key in SECRET_FILES]
        return tuple((key, "" if path.endswith(BEFORE) else _digest(self.secret(path))) for key, path in named)

    def _running(self, instance: Instance) -> Domain:
        """Return what a domain runs with, and which of its secrets another one has followed since it was started."""
        had = dict(instance.secrets)

        def told(key: str, value: XlValue) -> XlValue:
            path = str(value).removesuffix(BEFORE)
            return path if had.get(key) == _digest(self.secret(path)) else f"{path}{BEFORE}"

        xl = tuple((key, told(key, value) if key in SECRET_FILES else value) for key, value in instance.definition.xl)
        return instance.definition if not had else replace(instance.definition, xl=xl)

    def _text(self, path: str) -> str:
        """Return the text of a config file as a real host tells it: without secrets."""
        text = self._store.text(self._stored, path)
        return without_values(text, changed_values(text, self.secret)) if MARK_PREFIX in text else text

    def _guests(self, names: list[str]) -> dict[str, Guest]:
        def texts(paths: dict[str, str]) -> dict[str, str]:
            return {name: self._text(path) for name, path in paths.items() if path in self._stored.files}

        live = {name: self._instance(name) for name in names if name in self._stored.instances}
        images = _Staged(self._paths, self._stored)
        guests, _ = assemble_guests(
            fleet=self._fleet,
            configs=texts({name: self._paths.config(name) for name in names}),
            candidates=texts({name: self._paths.candidate(name) for name in names}),
            instances=[
                LiveDomain(
                    name=_listed_name(name, instance),
                    uuid=instance.definition.uuid,
                    power=Power.MIGRATING if is_migrating(instance.listed_as) else instance.power,
                    actual_kib=actual_kib(instance, self._now),
                    running_seconds=self._now - instance.booted_at,
                    domid=instance.listed_domid,
                    devices=Devices(connected=will_connect(instance, self._now)),
                    served=instance.served,
                    definition=None if instance.power in _UNTOLD else self._running(instance),
                )
                for name, instance in live.items()
                if instance.exists
            ],
            images=images,
            autostart={name: self._stored.autostart[name] for name in names if name in self._stored.autostart},
            saved={name: f"{SAVE_DIR}/{name}" for name, instance in live.items() if instance.power is Power.SAVED},
        )
        previous = texts({name: self._paths.previous(name) for name in guests})
        failed = texts({name: self._paths.quarantine(name) for name in guests})
        return {
            name: with_past(guest, previous=previous.get(name), quarantine=failed.get(name), images=images)
            for name, guest in guests.items()
        }

    def _digest_told(self, path: str) -> str:
        return digest_told(self._store.digest(self._stored, path), self._store.content(self._stored, path))

    def _unstaged(self, question: Question, guests: Iterable[Guest]) -> frozenset[str]:
        """Return the kernels and ramdisks outside kernel_dir that specs ask for or running domains name."""
        running = (guest.running for guest in guests if guest.running is not None)
        named = {image.path for definition in running for image in definition.images if image.path}
        staged = f"{self._paths.kernel_dir}/"
        return frozenset(path for path in {*question.images, *named} if not path.startswith(staged))

    def _files(self, question: Question, guests: Iterable[Guest]) -> dict[str, FileFact]:
        """Describe disk targets and sources that exist. Those in a person's config exist too, of unknown size."""
        there = {path: StoredFile(sha256=None, size_bytes=len(path.encode())) for path in question.sources}
        asked = [*question.files, *question.sources]
        for guest in guests:
            for definition in (guest.config, guest.candidate, guest.running):
                for disk in definition.disks if definition is not None else ():
                    if not disk.is_on_host:
                        continue
                    asked.append(disk.target)
                    if guest.owner is not Owner.OURS:
                        there[disk.target] = new_disk(disk)
        there.update({path: self._stored.files[path] for path in asked if path in self._stored.files})
        return {
            path: FileFact(kind=file.kind, size_bytes=file.size_bytes, key=disk_identity(path), real_path=path)
            for path, file in there.items()
        }

    def vg_free_bytes(self) -> dict[str, int]:
        """Return the free bytes of each volume group among the disk roots; each has 1 TiB in all."""
        roots = (root.removeprefix("/dev/") for root in self._settings.disk_roots)
        used = self._stored.files.total
        return {vg: _VOLUME_GROUP_BYTES - used(is_in(f"/dev/{vg}")) for vg in roots if vg and "/" not in vg}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _listed_name(name: str, instance: Instance) -> str | None:
    if instance.power is Power.MIGRATING:
        return f"{name}--migratedaway"
    return None if instance.listed_as == NAMELESS else instance.listed_as or name


def new_disk(disk: Disk) -> StoredFile:
    """Return a disk full of zeros."""
    return StoredFile(sha256=None, size_bytes=disk.size_bytes or 0, kind="file" if disk.kind == "file" else "block")


def _parts(guest: Guest) -> Iterator[Domain]:
    return (one for one in (guest.config, guest.running) if one is not None)


def snapshot_facts(stored: StoredHost, targets: Iterable[str], vg_free: Mapping[str, int]) -> dict[str, SnapshotFact]:
    """Say of each of these disks that is there how it can be snapshot: a file by reflink, a volume by LVM."""
    facts, free = {}, file_system_free(stored)
    for target in targets:
        file = stored.files.get(target)
        if file is None:
            continue
        group = target.removeprefix("/dev/").partition("/")[0] if target.startswith("/dev/") else ""
        if not group:
            fact = SnapshotFact(way="reflink", room="its file system", free_bytes=free, total_bytes=_FILE_SYSTEM_BYTES)
        elif group in vg_free:
            fact = SnapshotFact(way="lvm", room=group, free_bytes=vg_free[group], total_bytes=_VOLUME_GROUP_BYTES)
        else:
            fact = SnapshotFact(way=None, why_not="it is a device, and no logical volume")
        facts[target] = replace(fact, size_bytes=file.size_bytes)
    return facts


def file_system_free(stored: StoredHost) -> int:
    """Return the free bytes of the one file system of the host, which has 1 TiB in all."""
    used = sum(file.size_bytes for path, file in stored.files.items() if not path.startswith("/dev/"))
    return _FILE_SYSTEM_BYTES - used
