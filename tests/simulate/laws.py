"""The laws that no command may break, whatever is asked for and whatever goes wrong: contract §6, by looking at hosts.

Each law is judged on what a simulated host holds, and not by what the product says of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.decide.changes import Action
from reconciler.model.boot import boot_digest
from reconciler.model.domain import Domain
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Owner, Power
from reconciler.model.rehearsal import ENDING, Rehearsal
from reconciler.plan.plan import Plan
from reconciler.plan.steps import DeleteDisk, HostStep, Rehearse, RemoveConfig, Shutdown, Start, domain_of
from reconciler.simulated.guest import Instance, brought_up_to, devices_connected
from reconciler.simulated.store import Store, StoredFile, StoredHost
from reconciler.simulated.view import HostPaths, View

FLEET = "simulated"
_GOES = (Action.DESTROY, Action.STOP)


def instances_of(store: Store) -> dict[str, Instance]:
    """Return the domains that a host holds now."""
    stored, now = store.read(), store.read_clock()
    found = {name: brought_up_to(one, now) for name, one in stored.instances.items()}
    return {name: one for name, one in found.items() if one.exists}


def view_of(settings: HostSettings, store: Store) -> View:
    return View(settings, FLEET, store, store.read(), store.read_clock())


@dataclass
class Laws:
    """The laws of one run. `broken` takes the name of a law and what was seen."""

    state_dir: Path
    settings: dict[str, HostSettings]
    strangers: set[str]  # addresses of domains that are not ours
    broken: Callable[[str, str], None]
    adopting: set[str] = field(default_factory=set)
    stores: dict[str, Store] = field(default_factory=dict)
    ran: dict[str, set[str]] = field(default_factory=dict)  # host -> what ran as this run began
    goes: set[str] = field(default_factory=set)  # addresses that are to go down by themselves
    restarts: set[str] = field(default_factory=set)
    plugs: set[str] = field(default_factory=set)  # addresses whose specs allow pulling the plug
    disks: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    foreign: dict[str, dict[str, object]] = field(default_factory=dict)
    down: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    stubborn: str = ""
    rehearsed: dict[str, Rehearse] = field(default_factory=dict)  # addresses that only go down after that
    seen_up: set[tuple[str, str]] = field(default_factory=set)  # address, and what a throwaway of it got up with
    by_hand: bool = False  # whether somebody did something during this step

    def begin(self) -> None:
        for host in self.settings:
            self.stores[host] = Store(self.state_dir, host)
            self.ran[host] = {
                name for name, one in instances_of(self.stores[host]).items() if one.power is Power.RUNNING
            }

    def plan_made(self, plan: Plan) -> None:
        self.goes |= {change.address for change in plan.changes if change.action in _GOES}
        self.restarts |= {change.address for change in plan.changes if change.restarts}
        downs = Counter(one.address for one in plan.steps if isinstance(one.step, Shutdown))
        for change in plan.changes:
            self.rehearsed.pop(change.address, None)
        for planned in plan.steps:
            if isinstance(planned.step, Rehearse) and planned.step.required and downs[planned.address] == 1:
                self.rehearsed[planned.address] = planned.step
        wanted = {change.address: change.target for change in plan.changes if change.target is not None}
        self.plugs |= {address for address, one in wanted.items() if one.on_shutdown_timeout == "destroy"}

    def amid_rehearsal(self, host: str, rehearsal: Rehearsal) -> None:
        """Judge what is there once a throwaway was made or looked at, and note whether it is up."""
        there, address = instances_of(self.stores[host]), f"{host}/{rehearsal.of}"
        self._judge_devices(host, there)
        self._judge_memory(host, self.stores[host])
        one = there.get(rehearsal.name)
        if one is None or one.power is not Power.RUNNING or one.definition.uuid != rehearsal.uuid:
            return
        if devices_connected(one, self.stores[host].read_clock()) is not False:
            self.seen_up.add((address, boot_digest(one.definition)))

    def _judge_rehearsed(self, address: str) -> None:
        """A domain whose rehearsal is required goes down only once what it is to boot was seen up beside it."""
        step = self.rehearsed.pop(address, None)
        if step is not None and (address, boot_digest(step.rehearsal.definition)) not in self.seen_up:
            self.broken("rehearsed first", f"{address} goes down, and nobody saw up what it is to boot")

    def before(self, host: str, step: HostStep) -> None:
        address, store = f"{host}/{domain_of(step)}", self.stores[host]
        stored = store.read()
        guest = view_of(self.settings[host], store).guest(domain_of(step))
        self.disks[host] = disks_in(stored)
        self.foreign[host] = self._foreign(host, stored)
        if address in self.strangers - self.adopting:
            self.broken("not ours", f"{step.kind} of {address}, which is not ours")
        if guest is not None and guest.owner is not Owner.OURS and address not in self.adopting:
            self.broken("not ours", f"{step.kind} of {address}, which is {guest.owner}")
        self.by_hand = False
        self.stubborn = self._stubborn(host, step) if isinstance(step, Shutdown) else ""
        if isinstance(step, Shutdown):
            self._judge_rehearsed(address)
        match step:
            case RemoveConfig() if guest is not None and guest.config is not None and guest.config.prevent_destroy:
                self.broken("prevent_destroy", f"{address} is removed, though its config file says prevent_destroy")
            case DeleteDisk():
                self._judge_deletion(host, step, guest)
            case _:
                pass

    def _stubborn(self, host: str, step: Shutdown) -> str:
        """Return the domain of a step if it runs well, ignores to be shut down, and nobody allowed to pull its plug."""
        one = instances_of(self.stores[host]).get(step.domain)
        if one is None or one.behaviour.shutdown != "ignore" or one.definition.on_shutdown_timeout == "destroy":
            return ""
        if f"{host}/{step.domain}" in self.plugs:
            return ""
        connected = devices_connected(one, self.stores[host].read_clock())
        return step.domain if connected is not False else ""

    def after(self, host: str, step: HostStep) -> None:
        address, store = f"{host}/{domain_of(step)}", self.stores[host]
        stored, there = store.read(), instances_of(store)
        self._judge_devices(host, there)
        self._judge_memory(host, store)
        self._judge_disks(host, step, disks_in(stored))
        if self._foreign(host, stored) != self.foreign.get(host, {}):
            self.broken("not ours", f"{step.kind} of {address} changed what is not ours")
        match step:
            case Shutdown() if self.stubborn == step.domain and step.domain not in there and not self.by_hand:
                self.broken("the plug is asked for", f"{address} ran and did not obey, and its plug was pulled")
            case Shutdown() if address in self.restarts and step.domain in self.ran[host]:
                self.down[host].add(step.domain)
            case Start():
                self.down[host].discard(step.definition.name)
            case _:
                pass

    def _foreign(self, host: str, stored: StoredHost) -> dict[str, object]:
        names = {address.partition("/")[2] for address in self.strangers if address.startswith(f"{host}/")}
        found: dict[str, object] = {name: stored.instances.get(name) for name in names}
        return found | {path: file for path, file in stored.files.items() if "/stranger" in path}

    def _judge_devices(self, host: str, there: dict[str, Instance]) -> None:
        uuids = Counter(one.definition.uuid for one in there.values())
        writers = Counter(d.target for one in there.values() for d in one.definition.disks if d.access == "rw")
        macs = Counter(vif.mac for one in there.values() for vif in one.definition.vifs)
        for what, counted in (("uuid", uuids), ("disk", writers), ("mac", macs)):
            for value, count in counted.items():
                if count > 1:
                    self.broken("never twice", f"{count} domains of {host} have the {what} {value}")

    def _judge_memory(self, host: str, store: Store) -> None:
        if (free := view_of(self.settings[host], store).free_kib()) < 0:
            self.broken("memory", f"{-free} KiB more are promised on {host} than it has")

    def _judge_deletion(self, host: str, step: DeleteDisk, guest: Guest | None) -> None:
        asked = guest is not None and any(
            one.target == step.disk.target and one.on_delete == "delete"
            for definition in (guest.config, guest.running)
            if definition is not None
            for one in definition.disks
        )
        if not asked:
            self.broken("disks are kept", f"{step.disk.target} of {host}/{step.domain} goes, which nobody asked for")
        view, store = view_of(self.settings[host], self.stores[host]), self.stores[host]
        for name in HostPaths(self.settings[host]).config_names(store.read()):
            other = view.guest(name) if name != step.domain else None
            if other is not None and any(step.disk.target in targets(one) for one in (other.config, other.running)):
                self.broken("disks are kept", f"{step.disk.target} goes, and {host}/{name} has it")

    def _judge_disks(self, host: str, step: HostStep, now: dict[str, StoredFile]) -> None:
        for path, before in self.disks.get(host, {}).items():
            after = now.get(path)
            if after is None and not (isinstance(step, DeleteDisk) and step.disk.target == path):
                self.broken("disks are kept", f"{step.kind} of {host}/{domain_of(step)} took {path} away")
            if after is not None and (after.size_bytes < before.size_bytes or after.sha256 != before.sha256):
                self.broken("disks are kept", f"{step.kind} of {host}/{domain_of(step)} overwrote {path}")


def disks_in(stored: StoredHost) -> dict[str, StoredFile]:
    return {path: file for path, file in stored.files.items() if path.startswith("/srv/") and not is_of_rehearsal(path)}


def is_of_rehearsal(name: str) -> bool:
    """Return whether this is the name of a throwaway, or the path of a record or a snapshot of one."""
    return ENDING in name or "/.rehearsals/" in name


def targets(definition: Domain | None) -> set[str]:
    return set() if definition is None else {disk.target for disk in definition.disks}
