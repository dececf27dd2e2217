"""Draws what happens next from a seed and from what the world is by now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from tests.simulate.between import FAULTS, OF_SCRIPTS, OTHERS
from tests.simulate.fleet import Fleet
from tests.simulate.play import Player
from tests.simulate.script import Event, Incident, with_incidents

ILL = ({"boot": "panic"}, {"boot": "hang"}, {"boot": "reboot-loop"}, {"balloon": "refuse"}, {"shutdown": "ignore"})
MANY = 100
_SIZES = (3, 3, 4, 4, 5, 6, 8, 12, 20)
_STORE_FAULTS = ("unreachable", "create-fails", "lost-reply", "slow", "disk-full")
# fmt: off
_EDITS = (
    "kernel", "kernel", "kernel", "memory", "memory", "vcpus", "wave", "depends", "state", "reconcile", "restart",
    "remove", "remove", "add", "limit", "brake", "error", "swap", "cmdline", "timeout", "vif", "prevent", "autostart",
    "sign", "reads", "rollout", "rollout", "stubborn",
    "swap", "rehearse",
)
_DEEDS = (
    "reboot", "destroy", "crash", "pause", "poweroff", "save", "memory", "create", "dom0", "fault", "shutdown",
    "balloon", "restore", "unpause", "stranger-of-that-name",
)
# fmt: on
_DEEDS_OF_DOM0 = (
    "reboot",
    "destroy",
    "crash",
    "pause",
    "poweroff",
    "memory",
    "create",
    "dom0",
    "lie",
    "lie",
    "unpause",
)
_LIES = ("well", "idle", "fail", "crash")  # see `dom0._XL`


@dataclass
class Draw:
    """The chances of one seed. A world is calm or rough as a whole, so that the laws of calm ones are tried, too."""

    seed: int
    size: int = 0  # domains; 0: drawn
    dom0: bool = False  # the real executor on a dom0 whose xl is a fake one: slower by far
    random: Random = field(init=False)
    serial: int = 1
    names: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.ill = self.random.random() < 0.6
        self.rough = self.random.random() < 0.85
        self.hands = self.random.random() < 0.7
        self.others = self.random.random() < 0.4
        self.waves = self.random.random() < 0.5
        self.rehearses = not self.dom0 and self.random.random() < 0.4  # whose fakes have no snapshots

    def events(self, player: Player, rounds: int) -> Iterator[Event]:
        """Yield a whole story. Each event is played before the next one is drawn."""
        if self.size >= MANY:
            yield from self._of_many(player)
            return
        hosts = ["alpha", "beta", "gamma"][: 1 if self.dom0 else self.random.choice((1, 1, 2, 3))]
        if self.dom0:
            yield Event("dom0")
        for host in hosts:
            limit = str(self.random.choice((1, 1, 2, 3)))
            parallel = str(self.random.choice((1, 4, 4, 8)))
            yield Event("host", host, {"memory": "4096", "max_unavailable": limit, "parallel": parallel})
        yield Event("kernel", "1")
        for _ in range(self.size or self.random.choice((2, 3, 3) if self.dom0 else _SIZES)):
            yield self._new(player.fleet)
        yield Event("apply")
        for _ in range(rounds):
            for _ in range(self.random.randint(1, 3)):
                for _ in range(self.random.randint(1, 3)):
                    yield from self._edit(player.fleet)
                if self.hands and self.random.random() < 0.4:
                    yield self._hand(player.fleet)
                yield self._run(player)
            if self.random.random() < 0.3:
                yield Event(self.random.choice(("plan", "status", "validate")))
            if self.random.random() < 0.3 and not self.dom0:
                yield Event("rest")
            if self.random.random() < 0.3:
                yield Event("heal")
        yield Event("heal")

    def _of_many(self, player: Player) -> Iterator[Event]:
        """Tell of very many domains on one host that all get another kernel."""
        limit = str(self.random.choice((1, 1, 5, self.size)))
        yield Event("host", "alpha", {"memory": str(256 * self.size), "max_unavailable": limit, "parallel": "8"})
        yield Event("kernel", "1")
        for _ in range(self.size):
            yield self._new(player.fleet)
        yield Event("apply")
        yield Event("kernel", "2", self.random.choice(({}, ILL[0], ILL[1])))
        for address in list(player.fleet.specs):
            yield Event("spec", address, {"kernel": "2"})
        yield self._run(player)
        yield Event("apply")
        yield Event("heal")

    # edits

    def _new(self, fleet: Fleet) -> Event:
        self.names += 1
        address = f"{self.random.choice(sorted(fleet.hosts))}/d{self.names}"
        keys = {"kernel": self.random.choice(sorted(fleet.kernels)) if self.ill else "1"}
        keys["memory"] = self.random.choice(("64", "128", "256"))
        if self.random.random() < 0.5:
            keys["disk"] = f"{address.partition('/')[2]}"
        if self.random.random() < 0.5:
            keys |= {"depends_on": self._bases(fleet, address)}
        if self.waves:
            keys["wave"] = self.random.choice(("-1", "0", "0", "1"))
        if self.rehearses and self.random.random() < 0.7:
            keys["rehearse"] = self.random.choice(("required", "required", "if-possible"))
        return Event("spec", address, {key: value for key, value in keys.items() if value})

    def _bases(self, fleet: Fleet, address: str) -> str:
        """Return names of lower numbers, so that there is never a circle."""
        host, _, name = address.partition("/")
        below = [one.partition("/")[2] for one in fleet.named(host)]
        below = [one for one in below if int(one[1:]) < int(name[1:])]
        chosen = self.random.sample(below, min(len(below), self.random.randint(0, 2)))
        return ",".join(sorted(chosen, key=lambda one: int(one[1:])))

    def _edit(self, fleet: Fleet) -> Iterator[Event]:
        if not fleet.specs:
            yield self._new(fleet)
            return
        choose, address = self.random.choice, self.random.choice(sorted(fleet.specs))
        host = address.partition("/")[0]
        match choose(_EDITS):
            case "kernel":
                self.serial += 1
                behaviour = choose(ILL) if self.ill and self.random.random() < 0.4 else {}
                yield Event("kernel", str(self.serial), behaviour)
                sharing = self.random.sample(sorted(fleet.specs), min(len(fleet.specs), choose((0, 0, 1, 3))))
                for one in sorted({address, *sharing}):
                    yield Event("spec", one, {"kernel": str(self.serial)})
            case "rollout":  # one kernel for all, one of which may not follow
                self.serial += 1
                behaviour = choose(ILL) if self.ill and self.random.random() < 0.4 else {}
                yield Event("kernel", str(self.serial), behaviour)
                yield Event("spec", address, choose(({"restart": "defer"}, {"reconcile": "no"}, {"restart": "auto"})))
                for one in sorted(fleet.specs):
                    yield Event("spec", one, {"kernel": str(self.serial)})
            case "stubborn" if self.ill:  # it runs well, does not say so, and does not obey
                self.serial += 1
                yield Event("kernel", str(self.serial), {"shutdown": "ignore"})
                yield Event("spec", address, {"kernel": str(self.serial), "sign": "never"})
            case "memory":
                memory = choose((64, 65, 66, 127, 128, 130, 256, 512))
                yield Event("spec", address, {"memory": str(memory), "maxmem": str(max(memory, choose((128, 512))))})
            case "vcpus":
                yield Event("spec", address, {"vcpus": choose("1234"), "maxvcpus": "4"})
            case "wave" if self.waves:
                yield Event("spec", address, {"wave": choose(("-1", "0", "1", "2"))})
            case "depends":
                yield Event("spec", address, {"depends_on": self._bases(fleet, address) or "-"})
            case "state":
                yield Event("spec", address, {"state": choose(("running", "stopped"))})
            case "reconcile":
                yield Event("spec", address, {"reconcile": choose(("yes", "no"))})
            case "restart":
                yield Event("spec", address, {"restart": choose(("auto", "defer"))})
            case "prevent":
                yield Event("spec", address, {"prevent_destroy": choose(("yes", "no"))})
            case "autostart" if not self.dom0:  # whose links would be in /etc of this machine
                yield Event("spec", address, {"autostart": choose(("10", "20", "-"))})
            case "remove" if len(fleet.specs) > 2:
                yield Event("remove", address)
            case "add":
                yield self._new(fleet)
            case "limit":
                yield Event("host", host, {"max_unavailable": choose("123")})
            case "brake":
                yield Event(
                    "settings",
                    "",
                    choose(
                        (
                            {"max_restart": "2"},
                            {"max_destroy": "0"},
                            {"max_destroy": "0%"},
                            {"max_destroy": "-"},
                            {"max_restart": "-"},
                        )
                    ),
                )
            case "error":
                yield Event("spec", address, {"error": choose(("yes", "-"))})
            case "swap":
                yield from self._swap(fleet, address)
            case "cmdline":
                self.serial += 1
                yield Event("spec", address, {"cmdline": f"root=/dev/xvda serial={self.serial}"})
            case "sign" if self.ill:  # which its console says, or never does
                yield Event("spec", address, {"sign": choose(("kernel", "never", "-"))})
            case "reads" if self.dom0:
                yield Event("spec", address, {"reads": choose(("yes", "-"))})
            case "timeout":
                yield Event("spec", address, {"on_shutdown_timeout": choose(("fail", "destroy"))})
            case "rehearse" if self.rehearses:
                yield Event("spec", address, {"rehearse": choose(("required", "if-possible", "off"))})
            case "vif":
                yield Event("spec", address, {"vif": choose("012")})

    def _swap(self, fleet: Fleet, address: str) -> Iterator[Event]:
        others = [
            one for one in fleet.named(address.partition("/")[0]) if one != address and "disk" in fleet.specs[one]
        ]
        mine = fleet.specs[address].get("disk")
        if others and mine is not None:
            other = self.random.choice(others)
            yield Event("spec", address, {"disk": fleet.specs[other]["disk"]})
            yield Event("spec", other, {"disk": mine})

    # what happens

    def _deed(self, fleet: Fleet) -> tuple[str, str]:
        """Draw a host and what is done there by hand, or by a guest itself."""
        choose = self.random.choice
        host = choose(sorted(fleet.hosts))
        names = [one.partition("/")[2] for one in fleet.named(host)] or ["d1"]
        name = choose(names)
        match choose(_DEEDS_OF_DOM0 if self.dom0 else _DEEDS):
            case "lie":
                return host, f"lie/{choose(_LIES)}"
            case "memory":
                return host, f"set/{name}/memory:{choose((32, 64, 100, 127))}"
            case "create":
                self.serial += 1
                return host, f"create/x{self.serial}/{choose((64, 512))}"
            case "stranger-of-that-name":
                self.names += 1
                return host, f"create/d{self.names + choose((0, 1))}/64"
            case "dom0":
                return host, "dom0"
            case "fault":
                return host, f"fault/{choose(_STORE_FAULTS)}/{choose((1, 1, 2, 3))}"
            case "shutdown" | "balloon" as key if self.ill:
                return host, f"set/{name}/{key}:{'ignore' if key == 'shutdown' else choose(('refuse', 'slow'))}"
            case "shutdown" | "balloon":
                return host, f"destroy/{name}"
            case deed:
                return host, f"{deed}/{name}"

    def _hand(self, fleet: Fleet) -> Event:
        host, deed = self._deed(fleet)
        return Event("hand", host, {"do": deed})

    def _run(self, player: Player) -> Event:
        choose, fleet = self.random.choice, player.fleet
        if fleet.specs and self.random.random() < 0.08:
            held = choose(sorted(player.held)) if player.held and self.random.random() < 0.5 else ""
            return (
                Event("unhold", held)
                if held
                else Event(choose(("hold", "hold", "rollback")), choose(sorted(fleet.specs)))
            )
        event = Event(choose(("apply", "apply", "apply", "watch", "watch")))
        if event.verb == "watch" and self.random.random() < 0.3:
            event = event.with_(minutes=str(choose((1, 3, 10))))
        if event.verb == "apply" and fleet.specs and self.random.random() < 0.25:
            key, address = choose(("target", "retry", "restart", "restart")), choose(sorted(fleet.specs))
            event = event.with_(**{key: address})
        if self.random.random() < 0.12:  # nothing but a person who has it stop
            number = self.random.randint(2, 14)
            return with_incidents(event.without("minutes"), [Incident(choose(sorted(fleet.hosts)), number, "stop")])
        if not self.rough or self.random.random() < 0.25:
            return event
        if self.random.random() < 0.4:
            event = event.with_(die=str(self.random.randint(20, max(60, player.last.turns + 40))))
        if self.random.random() < 0.05:  # the disk under the state directory
            event = event.with_(full="yes")
        happens = []
        for _ in range(choose((0, 1, 2, 3))):
            number = self.random.randint(1, choose((5, 10, 25)) * (2 if self.dom0 else 1))
            host = choose(sorted(fleet.hosts))
            what = choose((*FAULTS, *OF_SCRIPTS, *OF_SCRIPTS) if self.dom0 else FAULTS)
            if what == "cut":
                what = f"cut/{self.random.randint(1, 40)}"
            if self.hands and self.random.random() < 0.4:
                host, what = self._deed(fleet)
            if self.others and self.random.random() < 0.3:
                what = f"{choose(OTHERS)}/{choose(('apply', 'watch'))}"
            happens.append(Incident(host, number, what))
        return with_incidents(event, happens)
