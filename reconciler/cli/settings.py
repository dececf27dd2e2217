"""Options of the whole program, which stand before or after the command; each command gets them as click's `ctx.obj`.

Every command takes them, those of groups too: `program` adds them to a command as it loads it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from pathlib import Path

Color = Literal["auto", "always", "never"]


class Settings:
    """Filled in while arguments are read, so it is whole when a command begins."""

    def __init__(
        self, given_state_dir: Path | None = None, given_specs: Path | None = None, color: Color = "auto"
    ) -> None:
        self.given_state_dir = given_state_dir
        self.given_specs = given_specs
        self.color = color
        self._tree: Path | None = None  # what the command reads, as soon as it said so
        self._folders: dict[Path, Path] = {}

    @property
    def state_dir(self) -> Path:
        """Return where history, sightings and simulated hosts of the tree at hand are kept."""
        return self.state_dir_of(self._tree or self.specs)

    def state_dir_of(self, tree: Path, source: str | None = None) -> Path:
        """Return where all this is kept for a tree; `source` is what it is known by where it names no fleet."""
        if self._named_state_dir is not None:
            return self._named_state_dir
        if tree not in self._folders:
            from reconciler.state_dir.folders import folder_of

            self._folders[tree] = folder_of(self.state_root, tree, source)
        return self._folders[tree]

    @property
    def names_state_dir(self) -> bool:
        """Return whether the folder was named, so that it is taken as it is."""
        return self._named_state_dir is not None

    @property
    def state_root(self) -> Path:
        """Return the folder that was named for it; else the user's, which has one folder a fleet."""
        if self._named_state_dir is not None:
            return self._named_state_dir
        from platformdirs import user_state_path

        return user_state_path("reconciler")

    @property
    def _named_state_dir(self) -> Path | None:
        named = self.given_state_dir or os.environ.get("RECONCILER_STATE_DIR")
        from pathlib import Path

        # absolute, since git, and other programs that are begun, run in folders of their own
        return Path(named).absolute() if named else None

    @property
    def specs(self) -> Path:
        """Return the spec tree: `--specs`, else $RECONCILER_SPECS, else ./specs."""
        from pathlib import Path

        return self.given_specs or Path(os.environ.get("RECONCILER_SPECS") or "specs")

    def tree(self, argument: Path | None) -> Path:
        """Return the spec tree of a command that takes SPECS as an argument, too."""
        if argument is not None and self.given_specs is not None:
            raise click.UsageError(f"The specs are given twice: {argument}, and --specs {self.given_specs}.")
        self._tree = argument or self.specs
        return self._tree

    def read_instead(self, tree: Path) -> Path:
        """Note that the command reads another tree than its arguments say: that of a saved plan."""
        self._tree = tree
        return tree


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
        if isinstance(option.type, click.Path):
            from pathlib import Path  # --help is without any, and answers at once

            value = Path(value)
        setattr(context.find_root().ensure_object(Settings), option.name, value)


def _program_options() -> list[click.Parameter]:
    return [
        _ProgramOption(
            "given_specs",
            metavar="DIR",
            type=click.Path(),
            help="The spec tree.  [default: $RECONCILER_SPECS, else specs]",
        ),
        _ProgramOption(
            "given_state_dir",
            metavar="DIR",
            type=click.Path(),
            help="Where history and simulated hosts are kept.  [default: $RECONCILER_STATE_DIR, else the user's state "
            "directory]",
        ),
        _ProgramOption(
            "color",
            type=click.Choice(["auto", "always", "never"]),
            help="Whether output has colours.  [default: auto, which is on a terminal]",
        ),
    ]
