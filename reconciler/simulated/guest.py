"""Says how the guests of a simulated host behave over time. Values in, values out.

The simulated host stores an `Instance` for each domain, and asks here what has become of it by now. Nothing runs in
between: boot, crash, reboot and balloon are functions of the kernel's bytes and of the host's clock (in seconds).
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, ClassVar, Literal

from pydantic_core import ValidationError

from reconciler.model.copies import replace
from reconciler.model.domain import Domain
from reconciler.model.host import Power
from reconciler.model.memory import needed_kib
from reconciler.records import dataclass
from reconciler.shapes import Shape, Strict

KERNEL_MARK = b"#!simulated-kernel"
SLOW_BALLOON_KIB_PER_SECOND = 64 * 1024
REBOOT_SECONDS = 2.0  # between two lives, in which xl's daemon pauses
SHUTDOWN_SECONDS = 1.0  # what a guest that obeys takes to go down
_ALMOST_KIB = 1024
_DOMIDS_OF_A_BOOT = 10_000  # more than starts that any simulated host sees
_RESTARTS = "reboot: Restarting system"
_SHORTEST_DOOMED_BOOT_SECONDS = 1.0  # a loop of boots of no length would never end


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The behaviour of a guest, as the bytes of its kernel say. A kernel without the mark boots and obeys."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    boot_seconds: Annotated[float, Strict(True)] = 1.0
    boot: Literal["ok", "panic", "hang", "reboot-loop"] = "ok"
    shutdown: Literal["ok", "ignore"] = "ok"
    balloon: Literal["ok", "almost", "refuse", "slow"] = "ok"
    console: str = ""
    writes_mib: Annotated[float, Strict(True)] = 0.0  # a second, to each of its disks

    def __post_init__(self) -> None:
        if self.boot_seconds < 0:
            raise ValueError("boot_seconds is negative")
        if self.writes_mib < 0:
            raise ValueError("writes_mib is negative")


BEHAVIOUR_KEYS = ("boot", "boot_seconds", "shutdown", "balloon", "console", "writes_mib")


_BEHAVIOUR = Shape[Behaviour](Behaviour)


def read_behaviour(kernel: bytes) -> Behaviour:
    r"""Read the behaviour that the bytes of a kernel ask for. Raises ValueError with a sentence for a wrong one.

    >>> read_behaviour(b"any other file").boot
    'ok'
    >>> read_behaviour(b"#!simulated-kernel\nboot = 'panic'\nboot_seconds = 3.0").boot
    'panic'
    """
    first_line, _, rest = kernel.partition(b"\n")
    if first_line.strip() != KERNEL_MARK:
        return Behaviour()
    try:
        return behaviour_of(tomllib.loads(rest.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"what follows the line {KERNEL_MARK.decode()} is not TOML: {error}") from None


def behaviour_of(values: dict[str, object]) -> Behaviour:
    """Check the keys of a behaviour. Raises ValueError that names each unknown key and each wrong value."""
    try:
        return _BEHAVIOUR.validate_python(values)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the table'}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"{'; '.join(problems)} (the keys are {', '.join(BEHAVIOUR_KEYS)})") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A domain that was started. One that is gone stays, with power ABSENT, since a host keeps its console's log."""

    definition: Domain  # what it runs with; memory_kib is the balloon's target
    behaviour: Behaviour
    domid: int
    boots: int = 0  # reboots of its own since it was created
    booted_at: float
    power: Power = Power.RUNNING
    listed_as: str | None = None  # another name than its own that the host lists it under, "(null)" for none
    served: bool = True  # whether xl's process that acts on its on_* is there
    balloon_from_kib: int  # what it held when the target was last set
    balloon_at: float
    earlier_console: str = ""  # what the boot before this one printed
    last_words: str = ""
    secrets: tuple[tuple[str, str], ...] = ()  # file -> sha256 of what it held when the domain was started
    back_at: float | None = None  # when a domain that is REBOOTING lives again; None: nobody sees to that

    @property
    def exists(self) -> bool:
        return self.power.holds

    @property
    def boot_id(self) -> str:
        return f"{self.domid}.{self.boots}"

    @property
    def listed_domid(self) -> int:
        """Return the number that it is listed under: another one after each reboot, and never one of another domain."""
        return self.domid + self.boots * _DOMIDS_OF_A_BOOT


def boot(definition: Domain, behaviour: Behaviour, *, domid: int, now: float) -> Instance:
    """Return a domain that was created just now."""
    return Instance(
        definition=definition,
        behaviour=behaviour,
        domid=domid,
        booted_at=now,
        balloon_from_kib=definition.memory_kib,
        balloon_at=now,
    )


def brought_up_to(instance: Instance, now: float) -> Instance:
    """Return what has become of a domain by `now`."""
    if instance.power is Power.REBOOTING and instance.back_at is not None and now >= instance.back_at:
        instance = _after(instance, "restart", _RESTARTS, Power.SHUTDOWN, 1, instance.back_at)
    if instance.power is not Power.RUNNING or instance.behaviour.boot in ("ok", "hang"):
        return instance
    ended_boots = int((now - instance.booted_at) // _doomed_boot_seconds(instance.behaviour))
    if ended_boots < 1:
        return instance
    if instance.behaviour.boot == "panic":
        words = "Kernel panic - not syncing: simulated panic"
        return _after(instance, action_at(instance, Power.CRASHED), words, Power.CRASHED, ended_boots, now)
    return _after(instance, action_at(instance, Power.REBOOTING), _RESTARTS, Power.REBOOTING, ended_boots, now)


def action_at(instance: Instance, end: Power) -> str:
    """Return what xl is to do at an end of the domain: its guest reboots, crashes, or powers off."""
    definition = instance.definition
    return {Power.REBOOTING: definition.on_reboot, Power.CRASHED: definition.on_crash}.get(end, definition.on_poweroff)


def reboot(instance: Instance, now: float) -> Instance:
    """Return the domain after its guest rebooted just now: on its way back, unless on_reboot says otherwise."""
    action = action_at(instance, Power.REBOOTING)
    if action.endswith("restart") or action == "soft-reset":
        return replace(instance, power=Power.REBOOTING, back_at=now + REBOOT_SECONDS)
    return _after(instance, action, _RESTARTS, Power.REBOOTING, 1, now)


def power_off(instance: Instance, now: float) -> Instance:
    """Return the domain after its guest powered off just now, by the rule of its on_poweroff."""
    words = "reboot: Power down"
    if not instance.served:
        return replace(instance, last_words=words, power=Power.SHUTDOWN)
    return _after(instance, action_at(instance, Power.SHUTDOWN), words, Power.SHUTDOWN, 1, now)


def crash(instance: Instance, now: float) -> Instance:
    """Return the domain after its kernel crashed just now: it stays, goes or reboots, as on_crash says."""
    words = "Kernel panic - not syncing: crashed by hand"
    if not instance.served:
        return replace(instance, last_words=words, power=Power.CRASHED)
    return _after(instance, action_at(instance, Power.CRASHED), words, Power.CRASHED, 1, now)


def _doomed_boot_seconds(behaviour: Behaviour) -> float:
    """Return how long each boot of a kernel lasts that panics or reboots."""
    return max(behaviour.boot_seconds, _SHORTEST_DOOMED_BOOT_SECONDS)


def _after(instance: Instance, action: str, words: str, kept: Power, ended_boots: int, now: float) -> Instance:
    """Act on what on_crash, on_reboot or on_poweroff says, as xl does.

    `kept` is the state of a domain that is preserved, which no process of xl sees to any more; `words` is the last line
    on its console.
    """
    ended = replace(instance, last_words=words)
    if not (action.endswith("restart") or action == "soft-reset"):
        is_kept = action == "preserve"
        return replace(ended, power=kept if is_kept else Power.ABSENT, served=not is_kept, back_at=None)
    doomed = instance.behaviour.boot in ("panic", "reboot-loop")
    last_boot_at = instance.booted_at + ended_boots * _doomed_boot_seconds(instance.behaviour) if doomed else now
    return replace(
        instance,
        boots=instance.boots + ended_boots,
        booted_at=last_boot_at,
        balloon_from_kib=instance.definition.memory_kib,
        balloon_at=now,
        earlier_console=console(replace(ended, earlier_console=""), now),
        last_words="",
        power=Power.RUNNING,
        back_at=None,
    )


def is_booted(instance: Instance, now: float) -> bool:
    """Return whether the kernel has come as far as it ever will."""
    return now - instance.booted_at >= instance.behaviour.boot_seconds


def actual_kib(instance: Instance, now: float) -> int:
    """Return the KiB that a domain holds: its target, unless its balloon refuses or is still on the way."""
    target = instance.definition.memory_kib
    if not instance.exists:
        return 0
    match instance.behaviour.balloon:
        case "ok":
            return target
        case "almost":
            return _short_of(target, instance.balloon_from_kib)
        case "refuse":
            return instance.balloon_from_kib
        case "slow":
            moved = int((now - instance.balloon_at) * SLOW_BALLOON_KIB_PER_SECOND)
            gap = target - instance.balloon_from_kib
            return target if moved >= abs(gap) else instance.balloon_from_kib + (moved if gap > 0 else -moved)


def settled_kib(instance: Instance) -> int | None:
    """Return the KiB that a host gives for a domain, overhead included; None where time alone changes that."""
    doomed = instance.power is Power.RUNNING and instance.behaviour.boot not in ("ok", "hang")
    comes_back = instance.power is Power.REBOOTING and instance.back_at is not None
    moves = instance.behaviour.balloon == "slow" and instance.balloon_from_kib != instance.definition.memory_kib
    if instance.exists and (doomed or comes_back or moves):
        return None
    return held_kib(instance, instance.balloon_at)


def held_kib(instance: Instance, now: float) -> int:
    """Return the KiB that a host gives for a domain, overhead included."""
    return needed_kib(instance.definition, actual_kib(instance, now)) if instance.exists else 0


def _short_of(target: int, start: int) -> int:
    """Return the size 1 MiB before the target, where a balloon stops whose guest can spare or take no more."""
    step = min(_ALMOST_KIB, abs(target - start))
    return target - step if target > start else target + step


def set_target(instance: Instance, memory_kib: int, now: float) -> Instance:
    """Return the domain with a new balloon target, to which it moves from what it holds now."""
    return replace(
        instance,
        definition=replace(instance.definition, memory_kib=memory_kib),
        balloon_from_kib=actual_kib(instance, now),
        balloon_at=now,
    )


def devices_connected(instance: Instance, now: float) -> bool | None:
    """Return whether the guest has connected its devices; None when it has none and its kernel is up.

    A kernel that is not up gives False even without devices, so that a kernel that hangs is noticed.
    """
    if not is_up(instance, now):
        return False
    return True if instance.definition.disks or instance.definition.vifs else None


def will_connect(instance: Instance, now: float) -> bool | None:
    """Return the same for somebody who does not wait: a boot that will succeed counts as done."""
    boots = instance.power is Power.RUNNING and instance.behaviour.boot == "ok"
    return None if boots and not is_booted(instance, now) else devices_connected(instance, now)


def is_up(instance: Instance, now: float) -> bool:
    """Return whether the guest runs and its kernel has booted well."""
    return instance.power is Power.RUNNING and instance.behaviour.boot == "ok" and is_booted(instance, now)


def console(instance: Instance, now: float) -> str:
    """Return what the console shows: the boot before, and this one as far as it has come."""
    kernel = instance.definition.kernel
    lines = [instance.earlier_console, f"Booting {kernel.path or kernel.source if kernel else 'from disk'}"]
    if is_booted(instance, now):
        default = f"{instance.definition.name} login:" if instance.behaviour.boot == "ok" else ""
        lines.append(instance.behaviour.console.rstrip("\n") or default)
    lines.append(instance.last_words)
    return "\n".join(line for line in lines if line) + "\n"
