"""What a person may allow one run, as options of `plan` and `apply`: a plan that is saved has it in its steps."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from reconciler.cli.names import ADDRESS, ADDRESS_OR_HOST
from reconciler.cli.session import check_adopt, check_consent
from reconciler.decide.changes import Consent
from reconciler.model.fleet import Desired
from reconciler.records import dataclass

if TYPE_CHECKING:
    from reconciler.fence import Alone
    from reconciler.plan.plan import Plan

Command = TypeVar("Command", bound=Callable[..., Any])


def _addresses(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, metavar="ADDRESS", type=ADDRESS, multiple=True, help=f"{text}; repeatable.")


def _count(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, metavar="N", type=click.IntRange(min=0), help=text)


_OPTIONS = (
    click.option(
        "--adopt",
        metavar="ADDRESS|HOST",
        type=ADDRESS_OR_HOST,
        multiple=True,
        help="Take over this domain, or all of a host that specs declare, which is not ours yet; repeatable.",
    ),
    _addresses("--restart", 'Restart this domain, also where nothing differs or its spec says restart = "defer"'),
    _addresses("--retry", "Try again what failed to boot in this domain"),
    _count("--allow-destroy", "Let this run destroy N domains, whatever [brake] says."),
    _count("--allow-restart", "Let this run restart N domains, whatever [brake] says."),
    click.option("--ignore-windows", is_flag=True, help="Do also what waits for a window (`[[window]]`)."),
    click.option("--ignore-holds", is_flag=True, help="Change also what somebody holds (`reconciler hold`)."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The options as they were given, each under the name of its field."""

    adopt: tuple[str, ...]
    restart: tuple[str, ...]
    retry: tuple[str, ...]
    allow_destroy: int | None
    allow_restart: int | None
    ignore_windows: bool
    ignore_holds: bool

    def consent(self, desired: Desired) -> Consent:
        """Return the consent they give. Raises ReconcilerError for an address that no spec has."""
        return Consent(
            adopt=check_adopt(desired, self.adopt),
            restart=check_consent(desired, "--restart", self.restart),
            retry=check_consent(desired, "--retry", self.retry),
            allow_destroy=self.allow_destroy,
            allow_restart=self.allow_restart,
            ignore_windows=self.ignore_windows,
            ignore_holds=self.ignore_holds,
        )

    def given(self) -> list[str]:
        """Name the options that were given."""
        values = {f"--{part.name.replace('_', '-')}": getattr(self, part.name) for part in fields(self)}
        return [option for option, value in values.items() if value not in ((), None) and value is not False]


def consent_options(command: Command) -> Command:
    """Declare the options of `Allowed`, and hand them over as one: `allowed`."""

    @functools.wraps(command)
    def with_consent(*args: Any, **options: Any) -> Any:
        allowed = Allowed(**{part.name: options.pop(part.name) for part in fields(Allowed)})
        return command(*args, allowed=allowed, **options)

    declared: Any = with_consent
    for option in reversed(_OPTIONS):
        declared = option(declared)
    return cast(Command, declared)


def for_a_person(desired: Desired, plan: Plan, allow_restart: int | None, endpoints: tuple[str, ...] = ()) -> Alone:
    """Return the session of one run. Where its hosts belong to a cluster, what that counts is reserved in its etcd.

    Without that etcd, restarts that count are refused: how many of its domains the cluster has down, this run cannot
    know, so a person has to say how many may go down.
    """
    from reconciler.cli.output import print_message
    from reconciler.fence import Alone
    from reconciler.show.escape import plain

    def tell(text: str) -> None:
        print_message(plain(f"{text}.") + "\n")

    counted: dict[str, list[str]] = defaultdict(list)
    for change in plan.changes if desired.max_unavailable is not None else ():
        if change.restarts:
            counted[change.host].append(change.address)
    if not endpoints or desired.max_unavailable is None:
        return Alone(tell, counted=counted if allow_restart is None else {})
    from reconciler.cluster.etcd import Etcd
    from reconciler.cluster.report import Reserving
    from reconciler.cluster.sharing import Wanted
    from reconciler.plan.places import FleetLimit

    limit = FleetLimit(limit=desired.max_unavailable)
    wanted = {  # the plan has no more down at once than that
        host: Wanted(restarts=frozenset(addresses[: desired.max_unavailable]), limit=limit)
        for host, addresses in counted.items()
    }
    return Reserving(Etcd(endpoints), desired.fleet, tell, wanted)
