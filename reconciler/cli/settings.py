"""Options of the whole program, which stand before or after the command; each command gets them as click's `ctx.obj`.

Every command takes them, those of groups too: `program` adds them to a command as it loads it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

Color = Literal["auto", "always", "never"]


@dataclass(slots=True)
class Settings:
    """Filled in while arguments are read, so it is whole when a command begins."""

    given_state_dir: Path | None = None
    given_specs: Path | None = None
    color: Color = "auto"

    @property
    def state_dir(self) -> Path:
        """Return where history, sightings and simulated hosts are kept."""
        named = self.given_state_dir or os.environ.get("RECONCILER_STATE_DIR")
        if named:
            return Path(named).absolute()  # git, and other programs that are begun, run in folders of their own
        from platformdirs import user_state_path

        return user_state_path("reconciler")

    @property
    def specs(self) -> Path:
        """Return the spec tree: `--specs`, else $RECONCILER_SPECS, else ./specs."""
        return self.given_specs or Path(os.environ.get("RECONCILER_SPECS") or "specs")

    def tree(self, argument: Path | None) -> Path:
        """Return the spec tree of a command that takes SPECS as an argument, too."""
        if argument is not None and self.given_specs is not None:
            raise click.UsageError(f"The specs are given twice: {argument}, and --specs {self.given_specs}.")
        return argument or self.specs


def current_settings() -> Settings:
    """Return the settings of the command under way."""
    return click.get_current_context().find_root().ensure_object(Settings)


def add_program_options(command: click.Command) -> None:
    """Let a command, and all commands of a group, take the options of the whole program."""
    if not any(isinstance(option, _ProgramOption) for option in command.params):
        command.params += _program_options()
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            add_program_options(subcommand)


class _ProgramOption(click.Option):
    """An option that is noted in the settings, wherever it stands; the last one counts."""

    def __init__(self, name: str, **more: Any) -> None:
        words = name.removeprefix("given_").replace("_", "-")
        super().__init__([name, f"--{words}"], expose_value=False, callback=_note, **more)


def _note(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name is not None:
        setattr(context.find_root().ensure_object(Settings), option.name, value)


def _program_options() -> list[click.Parameter]:
    return [
        _ProgramOption(
            "given_specs",
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="The spec tree.  [default: $RECONCILER_SPECS, else specs]",
        ),
        _ProgramOption(
            "given_state_dir",
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Where history and simulated hosts are kept.  [default: $RECONCILER_STATE_DIR, else the user's state "
            "directory]",
        ),
        _ProgramOption(
            "color",
            type=click.Choice(["auto", "always", "never"]),
            help="Whether output has colours.  [default: auto, which is on a terminal]",
        ),
    ]
