"""Does to a simulated host what a person would do by hand: xl commands, copied files, faults. Behind `reconciler sim`.

Nothing here asks whose a domain is, as nothing asks a person on a real dom0.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import Domain, Image, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import NAMELESS, Owner, Power
from reconciler.model.memory import needed_kib
from reconciler.model.parts import SHARES, limit_of, with_shares
from reconciler.model.quantities import Unfit, size_kib
from reconciler.model.vdev import devid_of
from reconciler.records import dataclass
from reconciler.simulated.domains import start_instance
from reconciler.simulated.draft import Draft, changing
from reconciler.simulated.guest import (
    BEHAVIOUR_KEYS,
    Instance,
    action_at,
    actual_kib,
    behaviour_of,
    brought_up_to,
    crash,
    held_kib,
    power_off,
    reboot,
    set_target,
)
from reconciler.simulated.store import FAULTS, Store
from reconciler.simulated.view import View
from reconciler.specs.value_types import NAME_FORM, is_name
from reconciler.toolstack import Question

_DEFAULT_KERNEL = "/vmlinuz"
_DEFAULT_MEMORY_KIB = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """Lets a person change one simulated host. Every method raises ReconcilerError for what cannot be done."""

    settings: HostSettings
    fleet: str
    state_dir: Path

    def look(self) -> dict[str, Any]:
        """Make the document of `sim HOST list --json`: the host and the domains that it holds."""
        store = Store(self.state_dir, self.settings.name)
        with store.held_still():
            stored, now = store.read(), store.read_clock()
            host = View(self.settings, self.fleet, store, stored, now).host(Question())
        domains = {name: brought_up_to(instance, now) for name, instance in sorted(stored.instances.items())}
        return {
            "host": host.name,
            "memory_kib": host.total_kib,
            "free_kib": host.free_kib,
            "clock_seconds": now,
            "domains": [
                {**_described(instance, now), "managed": name in host.guests and host.guests[name].owner is Owner.OURS}
                for name, instance in domains.items()
                if instance.exists
            ],
            "faults": dict(sorted(store.read_faults().items())),
        }

    def put(self, path: str, content: bytes) -> None:
        """Make an absolute path on the host a file with this content."""
        if not path.startswith("/") or path.endswith("/") or "/../" in f"{path}/" or "\0" in path:
            problem = f"{path!r} is not the absolute path of a file on {self.settings.name}."
            raise self._refuse(None, "not an absolute path", problem, "Write it like /etc/xen/web.cfg.")
        store = Store(self.state_dir, self.settings.name)
        with store.change() as stored:
            store.put(stored, path, content)

    def create(self, name: str, memory_kib: int | None = None) -> None:
        """Do as `xl create`: from the config file of that name, else from a definition that no file holds."""
        if not is_name(name) or name == "Domain-0":
            problem = f"{name!r} is no name for a domain: {NAME_FORM}."
            raise self._refuse(None, "no name for a domain", problem)
        with self._change() as draft:
            definition = self._written(draft, name) or self._unwritten(draft, name)
            if draft.instance(definition.name) is not None:
                problem = f"A domain {definition.name} exists already on {self.settings.name}."
                raise self._refuse(name, "name taken", problem)
            if memory_kib is not None:
                maxmem_kib = max(memory_kib, definition.maxmem_kib)
                definition = replace(definition, memory_kib=memory_kib, maxmem_kib=maxmem_kib)
            self._check_memory(draft, name, needed_kib(definition, definition.memory_kib))
            draft.bring_disks(definition)
            start_instance(draft, definition)

    def destroy(self, name: str) -> None:
        """Do as `xl destroy`: the domain is gone at once, and its config file stays."""
        with self._change() as draft:
            instance = self._existing(draft, name)
            draft.stored.instances[name] = replace(instance, power=Power.ABSENT, last_words="destroyed by hand")

    def reboot(self) -> None:
        """Cut the power and bring it back: all that ran is gone, and what the dom0 starts at boot runs again."""
        with self._change() as draft:
            draft.stored.boots += 1
            for name, instance in list(draft.stored.instances.items()):
                kept = Power.RUNNING if instance.power is Power.SAVED else Power.ABSENT  # images are restored at boot
                words = "the dom0 rebooted"
                draft.stored.instances[name] = replace(instance, power=kept, listed_as=None, last_words=words)
            for name in sorted(draft.stored.autostart, key=lambda name: (draft.stored.autostart[name], name)):
                guest = draft.guest(name)
                if guest is not None and guest.config is not None and not guest.exists:
                    start_instance(draft, guest.config)

    def reboot_guest(self, name: str) -> None:
        """Reboot the guest from inside; on_reboot says what becomes of the domain."""
        with self._change() as draft:
            instance = self._running(draft, name, "reboot")
            draft.stored.instances[name] = reboot(instance, draft.now)
            self._keep_renamed(draft, instance, Power.REBOOTING)

    def pause(self, name: str) -> None:
        """Do as `xl pause`."""
        with self._change() as draft:
            draft.stored.instances[name] = replace(self._running(draft, name, "pause"), power=Power.PAUSED)

    def unpause(self, name: str) -> None:
        """Do as `xl unpause`. A domain that runs goes on running."""
        with self._change() as draft:
            instance = self._existing(draft, name)
            if instance.power is Power.PAUSED:
                draft.stored.instances[name] = replace(instance, power=Power.RUNNING)

    def save(self, name: str) -> None:
        """Do as `xl save`, into the folder that xendomains restores from."""
        with self._change() as draft:
            draft.stored.instances[name] = replace(self._running(draft, name, "be saved"), power=Power.SAVED)

    def restore(self, name: str) -> None:
        """Do as `xl restore` with the image that waits there, which is then removed."""
        with self._change() as draft:
            instance = draft.stored.instances.get(name)
            if instance is None or instance.power is not Power.SAVED:
                problem = f"No image of {name} waits on {self.settings.name}."
                hint = f"reconciler sim {self.settings.name} save {name}"
                raise self._refuse(name, "nothing to restore", problem, hint)
            running = replace(instance, power=Power.RUNNING)
            self._check_memory(draft, name, held_kib(running, draft.now))
            draft.stored.instances[name] = running

    def power_off(self, name: str) -> None:
        """Have its guest power off; on_poweroff says what becomes of the domain."""
        with self._change() as draft:
            instance = self._running(draft, name, "power off")
            draft.stored.instances[name] = power_off(instance, draft.now)
            self._keep_renamed(draft, instance, Power.SHUTDOWN)

    def crash(self, name: str) -> None:
        """Crash the kernel of the domain; on_crash says what becomes of it."""
        with self._change() as draft:
            instance = self._running(draft, name, "crash")
            draft.stored.instances[name] = crash(instance, draft.now)
            self._keep_renamed(draft, instance, Power.CRASHED)

    def set(self, name: str, values: Mapping[str, str]) -> None:
        """Change a running domain as a person with xl could, or how its guest behaves. Sets all keys or none."""
        with self._change() as draft:
            for key, text in values.items():
                setter = _SETTERS.get(key)
                if setter is None:
                    problem = f"There is no key {key!r} to set."
                    raise self._refuse(name, "unknown key", problem, f"The keys are {', '.join(sorted(_SETTERS))}.")
                instance = self._existing(draft, name)
                try:
                    changed = setter(draft, instance, key, text)
                except Unfit as error:
                    raise self._refuse(name, "bad value", f"{key} {error}.", error.hint) from None
                except ValueError as error:
                    raise self._refuse(name, "bad value", f"{key}={text}: {error}.") from None
                growth_kib = held_kib(changed, draft.now) - held_kib(instance, draft.now)
                self._check_memory(draft, name, growth_kib)
                draft.stored.instances[name] = changed

    def fault(self, kind: str, times: int) -> None:
        """Have the next `times` commands that can meet this fault fail; 0 takes it away."""
        for known in FAULTS:
            if kind == known:
                Store(self.state_dir, self.settings.name).set_fault(known, times)
                return
        raise self._refuse(
            None, "unknown fault", f"There is no fault {kind!r}.", f"The faults are {', '.join(FAULTS)}."
        )

    def _keep_renamed(self, draft: Draft, ended: Instance, power: Power) -> None:
        """Keep what ended beside what comes back, where `rename-restart` asks for that: under another name and uuid.

        It keeps its memory and its disks, too: where these are needed, the domain does not come back.
        """
        if action_at(ended, power) != "rename-restart" or not ended.served:
            return
        name, instances = ended.definition.name, draft.stored.instances
        kept = name + time.strftime("-%Y%m%dT%H%MZ", time.gmtime(draft.now))
        definition = replace(ended.definition, name=kept, uuid=self._new_uuid(draft, kept))
        instances[kept] = replace(ended, definition=definition, power=power, served=False)
        writes = any(disk.access == "rw" for disk in definition.disks)
        if writes or draft.view().free_kib() < 0:
            instances[name] = replace(instances[name], power=Power.ABSENT, back_at=None)

    def _written(self, draft: Draft, name: str) -> Domain | None:
        """Read the config file of that name; None when there is no such file."""
        guest = draft.guest(name)
        if guest is None or not guest.config_exists:
            return None
        if guest.config is None:
            problem = f"{draft.paths.config(name)} cannot be used: {guest.problem}"
            raise self._refuse(name, "bad config file", problem)
        return replace(guest.config, uuid=guest.config.uuid or self._new_uuid(draft, name))

    def _unwritten(self, draft: Draft, name: str) -> Domain:
        digest = draft.store.digest(draft.stored, _DEFAULT_KERNEL)
        return Domain(
            name=name,
            uuid=self._new_uuid(draft, name),
            kernel=Image(sha256=digest, path=_DEFAULT_KERNEL, source=_DEFAULT_KERNEL),
            memory_kib=_DEFAULT_MEMORY_KIB,
            maxmem_kib=_DEFAULT_MEMORY_KIB,
        )

    def _new_uuid(self, draft: Draft, name: str) -> str:
        """Make a uuid that is new each time, as xl makes them, and yet the same in each run of one seed."""
        seeded = f"{self.settings.simulated.seed}/{self.settings.name}/{name}/{draft.stored.next_domid}"
        return str(uuid.uuid5(uuid.NAMESPACE_OID, seeded))

    def _check_memory(self, draft: Draft, name: str, more_kib: int) -> None:
        free_kib = draft.view().free_kib()
        if more_kib > 0 and more_kib > free_kib:
            problem = (
                f"{name} needs {more_kib // 1024} MiB more, and {self.settings.name} has {free_kib // 1024} MiB free."
            )
            raise self._refuse(name, "not enough memory", problem)

    def _existing(self, draft: Draft, name: str) -> Instance:
        instance = draft.instance(name)
        if instance is None:
            live = sorted(other for other in draft.stored.instances if draft.instance(other) is not None)
            there = f"The domains there are {', '.join(live)}." if live else "No domain runs there."
            problem = f"No domain {name} runs on {self.settings.name}."
            raise self._refuse(name, "no such domain", problem, there)
        return instance

    def _running(self, draft: Draft, name: str, verb: str) -> Instance:
        instance = self._existing(draft, name)
        if instance.power is not Power.RUNNING:
            raise self._refuse(name, "does not run", f"{name} is {instance.power}, so nothing in it can {verb}.")
        return instance

    def _change(self) -> AbstractContextManager[Draft]:
        return changing(self.settings, self.fleet, Store(self.state_dir, self.settings.name))

    def _refuse(self, name: str | None, summary: str, detail: str, hint: str | None = None) -> ReconcilerError:
        address = address_of(self.settings.name, name) if name is not None else self.settings.name
        return world_error(summary, detail, hint, address)


def _described(instance: Instance, now: float) -> dict[str, Any]:
    definition = instance.definition
    return {
        "name": definition.name,
        "uuid": definition.uuid,
        "domid": instance.listed_domid,
        "boot": instance.boot_id,
        "power": str(instance.power),
        "memory_kib": actual_kib(instance, now),
        "target_kib": definition.memory_kib,
        "maxmem_kib": definition.maxmem_kib,
        "vcpus": definition.vcpus,
        "kernel": definition.kernel.path if definition.kernel else None,
        "kernel_sha256": definition.kernel.sha256 if definition.kernel else None,
        "cmdline": definition.cmdline,
        "disks": [{"vdev": disk.vdev, "target": disk.target, "access": disk.access} for disk in definition.disks],
        "vifs": [{"devid": vif.devid, "mac": vif.mac, "bridge": vif.bridge} for vif in definition.vifs],
    }


Setter = Callable[[Draft, Instance, str, str], Instance]
"""Makes the instance that a person asked for with KEY=VALUE; raises ValueError with the end of a sentence."""


def _set_memory(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    memory_kib = size_kib(int(text) if text.isascii() and text.isdigit() else text)
    maxmem_kib = instance.definition.maxmem_kib
    if not 0 < memory_kib <= maxmem_kib:
        raise ValueError(f"xl mem-set takes more than 0 and at most maxmem, which is {maxmem_kib // 1024} MiB")
    return set_target(instance, memory_kib, draft.now)


def _set_vcpus(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    limit, most = limit_of("vcpus", instance.definition)
    vcpus = _number(text)
    if not 0 < vcpus <= most:
        raise ValueError(f"xl vcpu-set takes 1 to {limit}, which is {most}")
    return replace(instance, definition=replace(instance.definition, vcpus=vcpus))


def _set_scheduler(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    return replace(instance, definition=with_shares(instance.definition, [(key, _number(text))]))


def _set_cmdline(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    return replace(instance, definition=replace(instance.definition, cmdline=text))


def _set_kernel(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    if not text.startswith("/"):
        raise ValueError("a kernel is an absolute path on the host")
    kernel = Image(sha256=draft.store.digest(draft.stored, text), path=text, source=text)
    return replace(instance, definition=replace(instance.definition, kernel=kernel))


def _detach(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    """Detach a disk by its vdev, as `xl block-detach`, or an interface by its mac, as `xl network-detach`."""
    before = instance.definition
    if ":" in text:
        after = replace(before, vifs=tuple(vif for vif in before.vifs if vif.mac != text.lower()))
    else:
        devid = devid_of(text)
        after = replace(before, disks=tuple(disk for disk in before.disks if disk.devid != devid))
    if after == before:
        raise ValueError("it is the vdev of a disk or the mac of a vif that the domain has")
    return replace(instance, definition=after)


def _set_power(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    powers = [str(power) for power in Power if power is not Power.ABSENT]
    if text not in powers:
        raise ValueError(f"it can be {', '.join(powers)}")
    return replace(instance, power=Power(text))


def _set_name(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    """Rename a domain as `xl rename` does. A domain that has lost its name is listed as "(null)"."""
    if text != NAMELESS and not is_name(text):
        raise ValueError(f"it is a name, or {NAMELESS} for none")
    return replace(instance, listed_as=None if text == instance.definition.name else text)


def _set_served(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    if text not in ("yes", "no"):
        raise ValueError("it is yes or no")
    return replace(instance, served=text == "yes")


def _set_behaviour(draft: Draft, instance: Instance, key: str, text: str) -> Instance:
    value: object = float(text) if key in ("boot_seconds", "writes_mib") else text
    held = set_target(instance, instance.definition.memory_kib, draft.now)  # the balloon starts from where it is
    return replace(held, behaviour=behaviour_of({**asdict(instance.behaviour), key: value}))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("it is a number")
    return int(text)


_SETTERS: Mapping[str, Setter] = {
    "memory": _set_memory,
    "vcpus": _set_vcpus,
    **{key.name: _set_scheduler for key in SHARES},
    "cmdline": _set_cmdline,
    "kernel": _set_kernel,
    "power": _set_power,
    "name": _set_name,
    "served": _set_served,
    "detach": _detach,
    **dict.fromkeys(BEHAVIOUR_KEYS, _set_behaviour),
}
