"""`reconciler console`: become `xl console` of that domain, here or through ssh."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NoReturn

import click

from reconciler.cli.names import ADDRESS
from reconciler.cli.output import print_data
from reconciler.cli.session import known_address, specs_option
from reconciler.cli.settings import Settings
from reconciler.dom0.connection import SBIN
from reconciler.fence import Alone
from reconciler.model.diagnostics import ReconcilerError, usage_error, world_error
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Power
from reconciler.open import console_command, open_host
from reconciler.show.escape import plain_lines
from reconciler.specs import TreeReading, read_tree
from reconciler.specs.value_types import is_name


@click.command(short_help="Attach to the console of a domain.")
@click.argument("address", type=ADDRESS)
@specs_option
@click.pass_obj
def console(settings: Settings, address: str, specs: Path) -> None:
    """Attach to the console of ADDRESS (host/domain), managed or not; Ctrl-] leaves it.

    For a domain of a simulated host, what its console said so far is printed.
    """
    reading = read_tree(specs)
    host, _, name = known_address(reading.desired, address).partition("/")
    if not is_name(name):
        raise usage_error("not an address", f'"{address}" is not of the form host/domain.')
    if host not in reading.desired.hosts:
        raise ReconcilerError(*reading.diagnostics)
    target = reading.desired.hosts[host].settings
    command = console_command(target, name)
    if command is None:
        _print_simulated(reading, target, name, specs, settings.state_dir)
    else:
        _become(command)


def _become(argv: list[str]) -> NoReturn:
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{SBIN}"
    try:
        os.execvp(argv[0], argv)
    except FileNotFoundError:
        raise world_error(f"{argv[0]} is missing", f"The command {argv[0]} is not installed here.") from None


def _print_simulated(reading: TreeReading, host: HostSettings, name: str, specs: Path, state_dir: Path) -> None:
    executor = open_host(host, reading.desired.fleet, state_dir).executor(reading.desired.commit, specs, Alone())
    look = asyncio.run(executor.look(name))
    if look.power is Power.ABSENT and not look.console:
        raise world_error("no such domain", f"No domain {name} runs on {host.name}.", address=f"{host.name}/{name}")
    print_data("".join(line + "\n" for line in plain_lines((look.console or "").rstrip("\n"))))
