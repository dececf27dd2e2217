"""`--cluster`, and what commands make of it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from reconciler.cluster.etcd import Etcd

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def cluster_option(help: str, *, by_environment: bool = True) -> Callable[[Command], Command]:
    """Declare `--cluster`, and hand over the endpoints it names; none where it was not given.

    Where a command does something else with it than without, the environment does not say it.
    """

    def declare(command: Command) -> Command:
        @functools.wraps(command)
        def with_endpoints(*args: Any, cluster: tuple[str, ...], **options: Any) -> Any:
            endpoints: tuple[str, ...] = ()
            if cluster:
                from reconciler.cluster.etcd import endpoints_of

                endpoints = endpoints_of(cluster)
            return command(*args, endpoints=endpoints, **options)

        option = click.option(
            "--cluster",
            metavar="ENDPOINT[,ENDPOINT]…",
            multiple=True,
            envvar="RECONCILER_CLUSTER" if by_environment else None,
            help=f"{help}  [default: $RECONCILER_CLUSTER]" if by_environment else help,
        )
        return cast(Command, option(with_endpoints))

    return declare


@contextmanager
def opened(endpoints: tuple[str, ...]) -> Iterator[Etcd]:
    from reconciler.cluster.etcd import Etcd

    etcd = Etcd(endpoints)
    try:
        yield etcd
    finally:
        etcd.close()


def ask(endpoints: tuple[str, ...], question: Callable[[Etcd], Awaitable[T]]) -> T:
    """Ask an etcd one question."""

    async def asked() -> T:
        with opened(endpoints) as etcd:
            return await question(etcd)

    return asyncio.run(asked())
