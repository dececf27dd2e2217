"""The command line: parse arguments, build the objects, map errors to exit codes."""

from reconciler.cli import early
from reconciler.cli.program import COMMANDS, cli, main, run

early.over()

__all__ = ["COMMANDS", "cli", "main", "run"]
