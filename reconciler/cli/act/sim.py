"""`reconciler sim HOST …`: reach into a simulated host, make drift and faults by hand. Loaded by the CLI on demand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import click

from reconciler.cli.names import HOST
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import ReconcilerError, usage_error, world_error
from reconciler.model.domain import address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.quantities import Unfit, size_kib
from reconciler.open import open_hand
from reconciler.records import dataclass
from reconciler.simulated.hand import Hand
from reconciler.simulated.store import FAULTS


@dataclass(frozen=True, slots=True)
class _Target:
    """The host that was named; opened by the command, so that `--help` needs no specs."""

    host: str
    settings: Settings

    @property
    def specs(self) -> Path:
        return self.settings.specs

    @property
    def state_dir(self) -> Path:
        return self.settings.state_dir

    def open(self) -> Hand:
        from reconciler.specs import read_tree  # loads the TOML parsers

        reading = read_tree(self.specs)
        part = reading.desired.hosts.get(self.host)
        settings = part.settings if part is not None else None
        if settings is None and not self.specs.exists() and (self.state_dir / "hosts" / self.host).is_dir():
            settings = HostSettings(name=self.host, toolstack="simulated")  # it was made by specs that are elsewhere
        if settings is None:
            unreadable = self.host in reading.desired.frozen or not reading.desired.hosts
            if unreadable and reading.diagnostics:
                raise ReconcilerError(*reading.diagnostics)
            raise self._unknown(sorted(reading.desired.hosts))
        hand = open_hand(settings, reading.desired.fleet, self.state_dir)
        if hand is None:
            raise world_error(
                "not a simulated host",
                f"The host {self.host} has the toolstack {settings.toolstack}, so `sim` cannot reach into it.",
                address=self.host,
            )
        return hand

    def _unknown(self, hosts: list[str]) -> ReconcilerError:
        there = f"The hosts there are {', '.join(hosts)}." if hosts else f"{self.specs} has no hosts."
        return usage_error("no such host", f"The specs in {self.specs} know no host {self.host}.", there)


@click.group("sim", short_help="Reach into a simulated host: make drift and faults by hand.")
@click.argument("host", type=HOST)
@click.pass_context
def sim_group(context: click.Context, host: str) -> None:
    """Reach into the simulated host HOST: look at it, and make drift and faults by hand."""
    context.obj = _Target(host, context.obj)


@sim_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_command(target: _Target, as_json: bool) -> None:
    """List the domains, as `xl list` does."""
    found = target.open().look()
    click.echo(json.dumps(found, indent=2) if as_json else table(found))


def table(found: dict[str, Any]) -> str:
    """Lay the domains out as the table that `list` prints for people."""
    domains = found["domains"]
    width = max([24, *(len(domain["name"]) for domain in domains)])
    lines = [f"{'Name':<{width}}  {'ID':>6}  {'Mem':>6}  {'VCPUs':>5}  {'State':<9}  Managed"]
    lines += [
        f"{domain['name']:<{width}}  {domain['domid']:>6}  {domain['memory_kib'] // 1024:>6}  {domain['vcpus']:>5}  "
        f"{domain['power']:<9}  {'yes' if domain['managed'] else 'no'}"
        for domain in domains
    ]
    lines.append(f"{found['free_kib'] // 1024} of {found['memory_kib'] // 1024} MiB free")
    if found["faults"]:
        faults = ", ".join(f"{kind} ({times})" for kind, times in found["faults"].items())
        lines.append(f"faults to come: {faults}")
    return "\n".join(lines)


@sim_group.command("put")
@click.argument("path")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def put_command(target: _Target, path: str, file: BinaryIO) -> None:
    """Copy FILE to PATH on the host.

    PATH is absolute; FILE can be "-" for standard input.
    """
    content = file.read()
    target.open().put(path, content)
    click.echo(f"Wrote {len(content)} bytes to {target.host}:{path}.", err=True)


@sim_group.command("create")
@click.argument("name")
@click.option("--memory", metavar="MIB", help='Its memory, such as 512 or "1GiB".  [default: 512]')
@click.pass_obj
def create_command(target: _Target, name: str, memory: str | None) -> None:
    """Create a domain as by hand.

    From the config file of that name if there is one, else a small unmanaged domain.
    """
    target.open().create(name, None if memory is None else _memory_kib(memory))
    click.echo(f"Created {target.host}/{name}.", err=True)


def _memory_kib(text: str) -> int:
    try:
        kib = size_kib(int(text) if text.isascii() and text.isdigit() else text)
    except Unfit as error:
        raise click.BadParameter(f"it {error}. {error.hint or ''}".strip(), param_hint="--memory") from None
    if kib == 0:
        raise click.BadParameter("it must be more than 0.", param_hint="--memory")
    return kib


@sim_group.command("destroy")
@click.argument("name")
@click.pass_obj
def destroy_command(target: _Target, name: str) -> None:
    """Destroy a domain.

    As `xl destroy` does: at once, and its config file and disks stay.
    """
    target.open().destroy(name)
    click.echo(f"Destroyed {target.host}/{name}.", err=True)


@sim_group.command("reboot")
@click.argument("name", required=False)
@click.pass_obj
def reboot_command(target: _Target, name: str | None) -> None:
    """Reboot the host, or the guest of one domain.

    Of a host all domains are gone at once; those it autostarts start again. A guest is between two lives for a moment;
    its on_reboot says what becomes of the domain.
    """
    if name is None:
        target.open().reboot()
    else:
        target.open().reboot_guest(name)
    click.echo(f"Rebooted {target.host if name is None else address_of(target.host, name)}.", err=True)


@sim_group.command("pause")
@click.argument("name")
@click.pass_obj
def pause_command(target: _Target, name: str) -> None:
    """Pause a domain, as `xl pause` does."""
    target.open().pause(name)
    click.echo(f"Paused {target.host}/{name}.", err=True)


@sim_group.command("unpause")
@click.argument("name")
@click.pass_obj
def unpause_command(target: _Target, name: str) -> None:
    """Let a paused domain go on, as `xl unpause` does."""
    target.open().unpause(name)
    click.echo(f"{target.host}/{name} goes on.", err=True)


@sim_group.command("save")
@click.argument("name")
@click.pass_obj
def save_command(target: _Target, name: str) -> None:
    """Save a domain.

    As xendomains does when a dom0 goes down: the domain is gone, and its image waits to be restored.
    """
    target.open().save(name)
    click.echo(f"Saved {target.host}/{name}.", err=True)


@sim_group.command("restore")
@click.argument("name")
@click.pass_obj
def restore_command(target: _Target, name: str) -> None:
    """Restore a domain from its image that waits."""
    target.open().restore(name)
    click.echo(f"Restored {target.host}/{name}.", err=True)


@sim_group.command("poweroff")
@click.argument("name")
@click.pass_obj
def power_off_command(target: _Target, name: str) -> None:
    """Power a domain off from inside.

    Its on_poweroff says what becomes of it.
    """
    target.open().power_off(name)
    click.echo(f"Powered {target.host}/{name} off.", err=True)


@sim_group.command("crash")
@click.argument("name")
@click.pass_obj
def crash_command(target: _Target, name: str) -> None:
    """Crash the kernel of a domain.

    Its on_crash says what becomes of the domain.
    """
    target.open().crash(name)
    click.echo(f"Crashed {target.host}/{name}.", err=True)


@sim_group.command("set")
@click.argument("name")
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True)
@click.pass_obj
def set_command(target: _Target, name: str, assignments: tuple[str, ...]) -> None:
    """Change a running domain.

    As a person with xl could (memory=512, vcpus=2), in ways that make drift (cmdline=…, kernel=/path, power=paused,
    name=(null), served=no: xl's process for it is gone),
    or in how its guest behaves (boot=panic, shutdown=ignore, balloon=refuse).
    """
    values = dict(_assignment(text) for text in assignments)
    target.open().set(name, values)
    click.echo(f"Set {', '.join(values)} of {target.host}/{name}.", err=True)


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE, such as memory=512.", param_hint="KEY=VALUE")
    return key, value


@sim_group.command("fault")
@click.argument("kind", metavar=f"[{'|'.join(FAULTS)}]")
@click.option("--times", default=1, show_default=True, type=click.IntRange(0, 1_000_000), help="0 takes it away.")
@click.pass_obj
def fault_command(target: _Target, kind: str, times: int) -> None:
    """Make the next commands to the host fail."""
    target.open().fault(kind, times)
    what = f"will come {times} more times" if times > 1 else "will come once" if times else "will not come any more"
    click.echo(f"{target.host}: the fault {kind} {what}.", err=True)
