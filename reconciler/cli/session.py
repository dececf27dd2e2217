"""Holds what plan, apply and status share: their arguments, the spec tree that was read, and the hosts it names."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from reconciler.cli.names import ADDRESS, HOST
from reconciler.cli.settings import current_settings
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, usage_error
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired, HostSettings
from reconciler.records import dataclass
from reconciler.specs import TreeReading, read_tree
from reconciler.specs.resolve.fleet import NAMELESS_FLEET
from reconciler.specs.schema_errors import near_miss
from reconciler.specs.value_types import is_name

if TYPE_CHECKING:  # validate needs nothing of this
    import asyncio

    from reconciler.cli.looks import SilentHosts
    from reconciler.plan.plan import Plan
    from reconciler.reconcile import Reconciler, Selection

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def specs_argument(command: Command) -> Command:
    """Declare `SPECS`: the argument, else --specs, else $RECONCILER_SPECS, else ./specs."""

    @functools.wraps(command)
    def with_specs(*args: Any, specs: Path | None, **options: Any) -> Any:
        return command(*args, specs=current_settings().tree(specs), **options)

    return cast(Command, click.argument("specs", required=False, type=click.Path(path_type=Path))(with_specs))


def specs_option(command: Command) -> Command:
    """Hand over `specs`, the tree of `--specs`, to a command that has another argument. All commands take --specs."""

    @functools.wraps(command)
    def with_specs(*args: Any, **options: Any) -> Any:
        return command(*args, specs=current_settings().specs, **options)

    return cast(Command, with_specs)


def selection_options(command: Command) -> Command:
    """Declare `--host` and `--target`."""
    narrow = "Only this domain (host/domain, or its name alone); repeatable."
    target = click.option("--target", "targets", metavar="ADDRESS", type=ADDRESS, multiple=True, help=narrow)
    host = click.option("--host", "hosts", metavar="HOST", type=HOST, multiple=True, help="Only this host; repeatable.")
    return host(target(command))


@dataclass(frozen=True, slots=True)
class Session:
    """A reconciler on an event loop of its own, which rests between calls: a prompt may be asked meanwhile."""

    reconciler: Reconciler
    _runner: asyncio.Runner
    _silent: SilentHosts

    def wait_for(self, work: Awaitable[T], *, tells: bool = True) -> T:
        """Wait for work of the reconciler. It is told which hosts are silent, unless something else shows progress."""

        import asyncio

        async def waited() -> T:
            showing = asyncio.create_task(self._silent.show()) if tells else None
            try:
                return await work
            finally:
                if showing is not None:
                    showing.cancel()
                    await asyncio.gather(showing, return_exceptions=True)

        return self._runner.run(waited())


@contextmanager
def open_session(
    reading: TreeReading, specs: Path, state_dir: Path, reconciler: Reconciler | None = None
) -> Iterator[Session]:
    """Open a session that is closed at the end, whatever happened: it may hold ssh connections."""
    import asyncio

    from reconciler.cli.looks import SilentHosts
    from reconciler.reconcile import Reconciler

    with asyncio.Runner() as runner:
        reconciler = reconciler or Reconciler(reading, specs, state_dir)
        session = Session(reconciler, runner, SilentHosts(reconciler.asking.began))
        try:
            yield session
        finally:
            session.wait_for(session.reconciler.close())


def read_decided(specs: Path) -> TreeReading:
    """Read the specs for a command that decides about hosts. Raises where nobody has said whose they are."""
    reading = read_tree(specs, needs_fleet=True)
    if any(problem.summary == NAMELESS_FLEET for problem in reading.diagnostics):
        raise ReconcilerError(*reading.diagnostics)
    return reading


def select(desired: Desired, hosts: Iterable[str], targets: Iterable[str]) -> Selection:
    """Return the selection that was asked for. Unknown hosts are refused, whatever else is wrong with the specs."""
    from reconciler.reconcile import Selection

    chosen = Selection(hosts=frozenset(hosts), targets=frozenset(whole(desired, "--target", one) for one in targets))
    for host in sorted({*chosen.hosts, *(target.partition("/")[0] for target in chosen.targets)}):
        check_host(desired, host)
    return chosen


def known_address(desired: Desired, address: str) -> str:
    """Return a whole ADDRESS. Refuses one that is none, or that of a host the specs do not know."""
    address = whole(desired, "ADDRESS", address)
    check_host(desired, address.partition("/")[0])
    return address


def whole(desired: Desired, option: str, address: str) -> str:
    """Return an address as it is or, of the only domain with that name, with its host. Refuses what is none."""
    address = only_address(desired, address) or address
    check_form(option, address)
    return address


def only_address(desired: Desired, name: str) -> str | None:
    """Return the address of the only domain with this name; None where it is not the name of one and one alone."""
    if not name or "/" in name:
        return None
    found = [one for one in _addresses(desired) | desired.frozen if one.partition("/")[2] == name]
    return found[0] if len(found) == 1 else None


def check_host(desired: Desired, host: str) -> None:
    """Refuse a host name that the specs do not know."""
    known = _host_names(desired)
    if host not in known:
        hint = near_miss(host, known) or _listing("The hosts are", known)
        raise usage_error("no such host", f'The specs know no host "{host}".', hint)


def named_hosts(desired: Desired, hosts: tuple[str, ...]) -> frozenset[str]:
    """Return the hosts that were named and can be asked; all that can be asked, when none was named."""
    for host in hosts:
        check_host(desired, host)
    return frozenset(desired.hosts).intersection(hosts) if hosts else frozenset(desired.hosts)


def check_targets(plan: Plan, desired: Desired, targets: Iterable[str]) -> None:
    """Refuse targets that no spec names and no host holds (a domain to be destroyed has no spec any more)."""
    met = {change.address for change in plan.changes} | set(plan.unmanaged) | set(desired.frozen) | _addresses(desired)
    for address in sorted(targets):
        host = address.partition("/")[0]
        seen = host in plan.hosts and plan.hosts[host].observed
        if address not in met and seen:
            raise no_domain(desired, address)


def check_consent(desired: Desired, option: str, addresses: Iterable[str]) -> frozenset[str]:
    """Return the addresses of --adopt, --restart or --retry, each of which has to be that of a spec."""
    given = frozenset(whole(desired, option, address) for address in addresses)
    for address in sorted(given):
        if address not in _addresses(desired) | desired.frozen and address.partition("/")[0] not in desired.frozen:
            raise no_domain(desired, address)
    return given


def check_known(reading: TreeReading, specs: Path, state_dir: Path, address: str, *, may_be_gone: bool) -> None:
    """Refuse an address that neither a spec nor its host knows; the host is asked only where no spec names it."""
    address = known_address(reading.desired, address)
    host, _, name = address.partition("/")
    if not is_name(name):
        raise no_domain(reading.desired, address)
    if may_be_gone or address in _addresses(reading.desired) | reading.desired.frozen:
        return
    if host in reading.desired.hosts:
        with open_session(reading, specs, state_dir) as session:
            hosts, problems = session.wait_for(session.reconciler.observe(frozenset({host})))
        if problems:
            raise ReconcilerError(*problems)
        if name not in hosts[host].guests:
            raise no_domain(reading.desired, address)


def check_adopt(desired: Desired, given: Iterable[str]) -> frozenset[str]:
    """Return what --adopt named: addresses of specs, and whole hosts."""
    named, hosts = frozenset(given), frozenset(_host_names(desired))
    return named & hosts | check_consent(desired, "--adopt", named - hosts)


def find_domain(reading: TreeReading, address: str) -> tuple[HostSettings, Domain]:
    """Return the domain that a spec declares under this address. Raises what is wrong with its file, if anything."""
    address = whole(reading.desired, "ADDRESS", address)
    host, _, name = address.partition("/")
    part = reading.desired.hosts.get(host)
    if part is not None and name in part.domains:
        return part.settings, part.domains[name]
    if address in reading.desired.frozen or host in reading.desired.frozen:
        raise ReconcilerError(*_problems_of(reading, address))
    if part is None:
        check_host(reading.desired, host)
    raise no_domain(reading.desired, address)


def _problems_of(reading: TreeReading, address: str) -> tuple[Diagnostic, ...]:
    own = tuple(diagnostic for diagnostic in reading.diagnostics if diagnostic.address == address)
    return own or reading.diagnostics


def check_form(option: str, address: str) -> None:
    """Refuse what is no address."""
    host, slash, domain = address.partition("/")
    if not (host and slash and domain) or "/" in domain:
        whole = "; a whole host is taken with --host" if option == "--target" else ""
        hint = f"`reconciler status` lists the addresses{whole}"
        raise usage_error("not an address", f'"{address}" ({option}) is not of the form host/domain.', hint)


def no_domain(desired: Desired, address: str) -> ReconcilerError:
    """Make the error for an address that nobody knows; it names the nearest one that is known."""
    known = sorted(_addresses(desired))
    return usage_error(
        "no such domain",
        f'Neither a spec nor a host knows "{address}".',
        near_miss(address, known) or _listing("The addresses are", known),
    )


def _addresses(desired: Desired) -> set[str]:
    return {f"{host}/{name}" for host, part in desired.hosts.items() for name in part.domains}


def _host_names(desired: Desired) -> list[str]:
    return sorted({*desired.hosts, *(address.partition("/")[0] for address in desired.frozen)})


def _listing(words: str, names: list[str]) -> str | None:
    if not names:
        return None
    return f"{words} {', '.join(names[:10])}{' …' if len(names) > 10 else ''}."
