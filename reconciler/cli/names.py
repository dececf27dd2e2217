"""Names of hosts and domains as values of arguments and options: shells complete them from the folders of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from reconciler.cli.settings import Settings

_HOST_FILE = "host.toml"


class _Named(click.ParamType[str]):
    """A name that is taken as it is given; the command says whether there is such a thing."""

    def __init__(self, name: str, *, hosts: bool = False, addresses: bool = False) -> None:
        self.name = name
        self._hosts = hosts
        self._addresses = addresses

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        named = ctx.params.get("specs")
        tree = named if isinstance(named, Path) else ctx.find_root().ensure_object(Settings).specs
        known = [*(_hosts(tree) if self._hosts else ()), *(_addresses(tree) if self._addresses else ())]
        return [CompletionItem(name) for name in sorted(known) if name.startswith(incomplete)]


HOST = _Named("host", hosts=True)
ADDRESS = _Named("address", addresses=True)
ADDRESS_OR_HOST = _Named("address", hosts=True, addresses=True)


def _hosts(tree: Path) -> Iterator[str]:
    for file in tree.glob(f"*/{_HOST_FILE}"):
        yield file.parent.name


def _addresses(tree: Path) -> Iterator[str]:
    for host in _hosts(tree):
        for file in (tree / host).glob("*.toml"):
            if file.name != _HOST_FILE and not file.name.startswith("."):
                yield f"{host}/{file.stem}"
