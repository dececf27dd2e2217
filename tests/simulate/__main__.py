"""`make simulate EVENTS=1000000 SEED=7`: plays stories until so many events have happened; `SEEDS=24`: so many stories.

CI plays the same number of stories from the same seed each time; others are played by hand.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path

import click

from tests.simulate.draw import Draw
from tests.simulate.play import Broken, Player, play_script, prepare
from tests.simulate.script import Event, read_script, written
from tests.simulate.shrink import shrink

_DOM0_EACH = 10  # seeds whose host is a dom0, since scripts take a hundred times as long
_MANY_EACH = 20  # seeds with very many domains on one host
SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True)
class Played:
    """What came of one seed. `broken` tells which law was broken, and how, with the script that shows it."""

    seed: int
    events: Counter[str]
    faults: Counter[tuple[str, str]]
    broken: str = ""
    law: str = ""  # in one line


@dataclass
class Figures:
    """What was played so far."""

    events: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    seeds: list[int] = field(default_factory=list)

    def add(self, played: Played) -> None:
        self.events.update(played.events)
        self.faults.update(played.faults)
        self.seeds.append(played.seed)

    def total(self) -> int:
        return sum(self.events.values()) + sum(self.faults.values())

    def text(self, seconds: float) -> str:
        first = f"{min(self.seeds)} to {max(self.seeds)}" if self.seeds else "none"
        lines = [f"{self.total()} events in {seconds:.0f} s, {len(self.seeds)} seeds ({first})", ""]
        lines += [f"  {count:>8}  {verb}" for verb, count in self.events.most_common()]
        faults = sorted({fault for fault, _ in self.faults})
        steps = sorted({step for _, step in self.faults} - {"hand"})
        lines += ["", f"fault x step, {len([1 for f, s in self.faults if s != 'hand'])} pairs met:", ""]
        lines.append(f"  {'':<18}" + "".join(f"{fault:>12}" for fault in faults if self._meets(fault, steps)))
        for step in steps:
            met = [self.faults[(fault, step)] for fault in faults if self._meets(fault, steps)]
            lines.append(f"  {step:<18}" + "".join(f"{count or '-':>12}" for count in met))
        hands = {fault: count for (fault, step), count in self.faults.items() if step == "hand"}
        lines += ["", "by hand or by guests: " + ", ".join(f"{fault} {hands[fault]}" for fault in sorted(hands))]
        return "\n".join(lines)

    def _meets(self, fault: str, steps: list[str]) -> bool:
        return any((fault, step) in self.faults for step in steps)


def play_seed(
    seed: int, folder: Path, rounds: int, size: int = 0, dom0_each: int = _DOM0_EACH, until: float = math.inf
) -> tuple[Player, list[Event], Broken | None]:
    """Play the story of a seed. Returns the script that came of it, and the law it broke, if any."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    player, script = Player(folder, seed), list[Event]()
    try:
        if not size and seed % _MANY_EACH == 0:
            size = 100 + seed * 37 % 200
        dom0 = bool(dom0_each) and seed % dom0_each == min(3, dom0_each - 1)
        for event in Draw(seed, 0 if dom0 else size, dom0).events(player, 1 if dom0 else rounds):
            if time.monotonic() > until:
                break
            script.append(event)
            player.do(event)
    except Broken as broken:
        return player, script, broken
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return player, script, None


def play_in_a_folder(seed: int, rounds: int, size: int, dom0_each: int, shrink_seconds: float, until: float) -> Played:
    """Play the story of a seed in a folder of its own, and make what breaks a law short."""
    with tempfile.TemporaryDirectory(prefix="simulate-") as name:
        folder = Path(name) / "world"
        player, script, broken = play_seed(seed, folder, rounds, size, dom0_each, until)
        told = law = ""
        if broken is not None:
            short = shrunk(script, broken, folder, seed, shrink_seconds) if shrink_seconds else script
            again = play_script(short, folder, seed) or broken
            told = f"seed {seed}: {broken}\n\n{written(short)}\n{again.said}\nseed {seed}: {again}\n"
            law = f"seed {seed}: {broken}".splitlines()[0]
    return Played(seed, player.events, player.faults, told, law)


def shrunk(script: list[Event], broken: Broken, folder: Path, seed: int, seconds: float) -> list[Event]:
    def breaks(attempt: list[Event]) -> bool:
        found = play_script(attempt, folder, seed)
        return found is not None and found.law == broken.law

    return shrink(script, breaks, seconds)


def kept_scripts() -> list[Path]:
    """List the scripts of faults that were found, which are played each time."""
    return sorted(SCRIPTS.glob("*.txt"))


@click.command()
@click.argument("script", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--events", default=20_000, show_default=True, help="Play until so many have happened.")
@click.option("--seconds", default=0.0, help="Begin no other seed after so long; 0: whenever.")
@click.option("--seeds", default=0, help="Play so many seeds, however many events they have; 0: as events ask.")
@click.option("--seed", default=1, show_default=True, help="The first one; the next ones follow it.")
@click.option("--rounds", default=6, show_default=True)
@click.option("--size", default=0, help="Domains of a world; 0: a few, by seed.")
@click.option(
    "--shrink", "shrink_seconds", default=120.0, show_default=True, help="How long to shorten what broke a law."
)
@click.option("--dom0-each", default=_DOM0_EACH, show_default=True, help="One seed in so many is of a dom0; 0: none.")
@click.option("--workers", default=0, help="Processes; 0: one a processor.")
@click.option("--scripts/--no-scripts", default=True, help="Play what is kept in scripts/ first.")
@click.option("--go-on", is_flag=True, help="Do not end with the first law that is broken.")
def main(
    script: Path | None,
    events: int,
    seconds: float,
    seeds: int,
    seed: int,
    rounds: int,
    size: int,
    shrink_seconds: float,
    dom0_each: int,
    workers: int,
    scripts: bool,
    go_on: bool,
) -> None:
    """Play SCRIPT, or the stories of seeds."""
    prepare()
    if script is not None:
        sys.exit(_play_one(script))
    began, figures, broken = time.monotonic(), Figures(), list[str]()
    for path in kept_scripts() if scripts else ():
        broken += [path.name] if _play_one(path) else []
    until = began + seconds if seconds else math.inf
    last = seed + seeds - 1 if seeds else math.inf
    task = partial(
        play_in_a_folder, rounds=rounds, size=size, dom0_each=dom0_each, shrink_seconds=shrink_seconds, until=until
    )
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("fork")) as pool:
        at_once = 2 * (workers or os.cpu_count() or 1)
        waiting = {pool.submit(task, seed + number) for number in range(min(at_once, seeds or at_once))}
        seed += len(waiting)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for played in (one.result() for one in done):
                figures.add(played)
                click.echo(played.broken, nl=bool(played.broken))
                broken += [played.law] if played.law else []
            if broken and not go_on:
                for child in active_children():
                    child.kill()
                break
            if (seeds or figures.total() < events) and time.monotonic() <= until:
                more = [one for one in range(seed, seed + len(done)) if one <= last]
                waiting |= {pool.submit(task, one) for one in more}
                seed += len(more)
    click.echo(figures.text(time.monotonic() - began))
    click.echo("\n".join(["", "A law was broken:", *broken] if broken else ["every law held"]))
    sys.exit(bool(broken))


def _play_one(path: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="simulate-") as name:
        broken = play_script(read_script(path.read_text()), Path(name) / "world")
    click.echo(f"{path.name}: every law held" if broken is None else f"{broken.said}\n{path.name}: {broken}")
    return int(broken is not None)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is a chance, too
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulate", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    main()
