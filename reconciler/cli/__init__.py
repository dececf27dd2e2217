"""The command line: parse arguments, build the objects, map errors to exit codes."""

from reconciler.cli.program import COMMANDS, cli, main, run

__all__ = ["COMMANDS", "cli", "main", "run"]
