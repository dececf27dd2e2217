"""`reconciler leftovers`: disks and staged kernels on hosts that nothing names any more, and the removal of one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from reconciler.cli.asking import ask_consent
from reconciler.cli.names import HOST
from reconciler.cli.output import print_data, print_diagnostics, print_message, print_text
from reconciler.cli.session import Session, named_hosts, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.doctor.facts import Examination
from reconciler.fence import Alone
from reconciler.inspect.leftovers import Leftover, leftovers_of, unreadable
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, exit_code, refused, usage_error, world_error
from reconciler.model.domain import Disk
from reconciler.model.host import Host
from reconciler.open import executing
from reconciler.plan.steps import DeleteDisk, SweepImages
from reconciler.show.documents import FORMAT, as_text
from reconciler.show.escape import plain
from reconciler.show.values import size
from reconciler.specs import TreeReading, read_tree


@click.command(short_help="List disks and staged kernels that nothing names any more.")
@click.argument("hosts", metavar="[HOST]...", nargs=-1, type=HOST)
@specs_option
@click.option("--remove", "path", metavar="PATH", help="Remove this one of a single HOST, for good.")
@click.option("--yes", is_flag=True, help="With --remove: do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def leftovers(
    settings: Settings, hosts: tuple[str, ...], specs: Path, path: str | None, yes: bool, as_json: bool
) -> int:
    """List what lies on each HOST (default: all hosts of the specs) in `disk_roots`, and of staged kernels, that no
    spec, config file or domain names: disks that were kept when their domain went, folders of domains that have another
    name now. What you keep there for yourself is listed as well.

    Nothing is changed, unless --remove names one of them: that is removed for good, and nothing else.
    """
    reading = read_tree(specs)
    names = named_hosts(reading.desired, hosts)
    if path is not None and len(hosts) != 1:
        raise click.UsageError("--remove needs one HOST.")
    if yes and path is None:
        raise click.UsageError("--yes needs --remove.")
    with open_session(reading, specs, settings.state_dir) as session:
        if path is not None:
            _remove(session, reading, specs, settings.state_dir, hosts[0], path, yes=yes)
            return 0
        answers = session.wait_for(session.reconciler.examine(names))
    found, problems = _found(answers, reading)
    print_diagnostics(problems)
    if as_json:
        listed = [{"host": host, **asdict(one)} for host, one in found]
        print_data(as_text({"format": FORMAT, "leftovers": listed}))
    else:
        print_text(_text(found))
    return exit_code(problems)


def _found(
    answers: dict[str, Examination | Diagnostic], reading: TreeReading
) -> tuple[list[tuple[str, Leftover]], list[Diagnostic]]:
    found, problems = [], list(reading.diagnostics)
    for name, answer in answers.items():
        try:
            found += [(name, one) for one in _of_host(name, answer, reading)]
        except ReconcilerError as error:
            problems += error.diagnostics
    return found, problems


def _of_host(name: str, answer: Examination | Diagnostic, reading: TreeReading) -> tuple[Leftover, ...]:
    if isinstance(answer, Diagnostic):
        raise ReconcilerError(answer)
    if isinstance(answer.host, Diagnostic):
        raise ReconcilerError(answer.host)
    found = leftovers_of(answer.host, answer.facts, reading.desired)
    if found is None:
        raise world_error("leftovers not known", f"{name} does not tell what lies in its disk_roots.", None, name)
    return found


def _text(found: list[tuple[str, Leftover]]) -> str:
    if not found:
        return "Nothing is left over.\n"
    width = max(len(plain(host)) for host, _ in found)
    lines = [f"{plain(host):<{width}}  {one.kind:<6}  {plain(one.path)}{_size(one)}" for host, one in found]
    lines += ["", "Nothing names these. To remove one for good: reconciler leftovers HOST --remove PATH"]
    return "\n".join(lines) + "\n"


def _size(leftover: Leftover) -> str:
    return "" if leftover.size_bytes is None else f"  {size(leftover.size_bytes)}"


def _remove(
    session: Session, reading: TreeReading, specs: Path, state_dir: Path, host: str, path: str, *, yes: bool
) -> None:
    """Remove one leftover under the lock of its host, where it was looked at again."""
    if any(problem.kind is Kind.SPEC for problem in reading.diagnostics):
        detail = "Some specs cannot be read, so nobody knows what they name. Nothing was removed."
        raise refused("specs with errors", detail, "reconciler validate")

    async def one() -> Leftover:
        answer = (await session.reconciler.examine(frozenset({host})))[host]
        found = _of_host(host, answer, reading)
        assert isinstance(answer, Examination)
        assert isinstance(answer.host, Host)
        unknown = unreadable(answer.host)
        if unknown:
            detail = f"What {', '.join(unknown)} on {host} use cannot be read whole, so nothing was removed."
            raise refused("not known what is in use", detail, f"reconciler status --host {host}", host)
        for leftover in found:
            if leftover.path == path:
                return leftover
        detail = f"{path} on {host} is nothing that is left over."
        raise usage_error("no such leftover", detail, f"reconciler leftovers {host}")

    async def removed() -> None:
        alone = Alone(lambda text: print_message(plain(f"{text}.") + "\n"))
        try:
            async with executing(reading.desired, specs, state_dir, host, alone) as executor, executor.lock():
                await executor.execute(_step(await one()), lambda text: print_message(f"{plain(text)}\n"))
        except ReconcilerError as error:  # it is about no domain
            raise ReconcilerError(*(replace(problem, address=host) for problem in error.diagnostics)) from error

    leftover = session.wait_for(one())
    if not yes:
        ask_consent(f"Remove {leftover.path} of {host} for good?", "look at what it is, then run it")
    session.wait_for(removed())
    print_text(plain(f"Removed {leftover.path} of {host}.") + "\n")


def _step(leftover: Leftover) -> DeleteDisk | SweepImages:
    if leftover.kind == "staged":
        return SweepImages(domain=leftover.path.rpartition("/")[2])
    is_volume = leftover.path.startswith("/dev/")
    disk = Disk(vdev="xvda", devid=51712, kind="lv" if is_volume else "file", target=leftover.path)
    return DeleteDisk(domain="", disk=disk)
