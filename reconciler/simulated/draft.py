"""One change of a simulated host in the making: its stored state, seen at one moment. Shared by all its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.disks import may_share
from reconciler.model.domain import Disk, Domain, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Owner
from reconciler.plan.meaning import guest_after
from reconciler.plan.steps import Step, domain_of
from reconciler.records import dataclass
from reconciler.simulated.guest import Instance, brought_up_to
from reconciler.simulated.store import Store, StoredHost
from reconciler.simulated.view import HostPaths, View, new_disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The stored state of a host, open to changes, with all that a step needs to know."""

    settings: HostSettings
    fleet: str
    store: Store
    stored: StoredHost
    now: float

    @property
    def paths(self) -> HostPaths:
        return HostPaths(self.settings)

    def view(self) -> View:
        return View(self.settings, self.fleet, self.store, self.stored, self.now)

    def guest(self, name: str) -> Guest | None:
        return self.view().guest(name)

    def instance(self, name: str) -> Instance | None:
        """Return the domain that the host holds under this name now; None when it holds none."""
        stored = self.stored.instances.get(name)
        now_there = brought_up_to(stored, self.now) if stored is not None else None
        return now_there if now_there is not None and now_there.exists else None

    def our_instance(self, name: str, uuid: str) -> Instance | None:
        """Return the domain of this name, if any. Raises when its uuid is not the one that is meant."""
        instance = self.instance(name)
        if instance is not None and instance.definition.uuid != uuid:
            raise self.failed(
                name,
                "another domain of that name",
                f"The domain {name} that runs has the uuid {instance.definition.uuid}, not {uuid}: it is left alone.",
            )
        return instance

    def after(self, guest: Guest | None, step: Step) -> Guest | None:
        """Return what the step makes of this guest of its, by the definition of steps in `plan.meaning`."""
        name = domain_of(step)
        try:
            return guest_after(guest, step)
        except ValueError as error:
            raise self.failed(name, "step makes no sense here", f"{error}.") from None

    def refuse_foreign(self, name: str, guest: Guest | None) -> None:
        """Raise for a domain or a config file that is not ours."""
        self.refuse_newer(name, guest)
        if guest is not None and guest.owner is not Owner.OURS:
            raise self.failed(
                name,
                "not ours",
                f"The domain {name} or its config file on {self.settings.name} is not ours, so it is left alone.",
                hint=f"To take it over: reconciler apply --adopt {self.settings.name}/{name}",
            )

    def refuse_newer(self, name: str, guest: Guest | None) -> None:
        """Raise for a domain whose files a newer version of reconciler wrote."""
        if guest is not None and guest.newer is not None:
            raise self.failed(
                name,
                "a newer version manages it",
                f"A newer version of reconciler wrote {guest.newer} of {name} on {self.settings.name}.",
                hint="Upgrade reconciler on this controller.",
            )

    def check_disk(self, name: str, disk: Disk) -> None:
        """Raise when the disk does not exist or another domain writes to it, as hotplug scripts would."""
        if not disk.is_on_host:
            return
        if disk.target not in self.stored.files and not disk.cdrom:  # what is only read is there, like any source
            raise self.failed(
                name, "no such disk", f"{disk.target} does not exist on {self.settings.name}.", passing=True
            )
        for user, other in self.view().disk_users(disk.target).items():
            if user != name and not may_share(disk.access, other.access):
                raise self.failed(name, "disk in use", f"{disk.target} is in use by the domain {user}.", passing=True)

    def bring_disks(self, definition: Domain) -> None:
        """Create the disks that the definition of a person names, where the host has none of that name."""
        for disk in definition.disks:
            if disk.is_on_host:
                self.stored.files.setdefault(disk.target, new_disk(disk))

    def failed(
        self,
        name: str,
        summary: str,
        detail: str,
        hint: str | None = None,
        *,
        transient: bool = False,
        passing: bool = False,
        boot_failed: bool = False,
    ) -> ReconcilerError:
        """Make the error of a step.

        It is `transient` when a second try may work at once, and `passing` when it is the host's fault and may be over
        by the next run. `boot_failed` means that what was to boot is to blame.
        """
        return world_error(
            summary,
            detail,
            hint,
            address_of(self.settings.name, name),
            transient=transient or passing,
            later=passing,
            boot_failed=boot_failed,
        )


@contextmanager
def changing(settings: HostSettings, fleet: str, store: Store) -> Iterator[Draft]:
    """Open a draft that is stored when the block ends, and dropped when it raises."""
    with store.change() as stored:
        yield Draft(settings=settings, fleet=fleet, store=store, stored=stored, now=store.read_clock())
