"""`reconciler completion`: what a shell needs to complete commands, options, hosts and addresses."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from reconciler.cli.output import print_data

_VARIABLE = "_RECONCILER_COMPLETE"  # as click names it for a program called reconciler


@click.command(short_help="Print what a shell needs to complete commands and names.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a SHELL complete commands, options, and the hosts and addresses of the spec tree.

    bash: eval "$(reconciler completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, behind compinit;
    fish: reconciler completion fish > ~/.config/fish/completions/reconciler.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    print_data(made(context.find_root().command, {}, "reconciler", _VARIABLE).source())
