"""`reconciler import`: specs of domains that are there already, from a host or from xl.cfg files. Changes no host."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from reconciler.cli.output import print_data, print_diagnostics, print_message
from reconciler.cli.session import check_host, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.importer.tables import Imported, NotImportable, as_toml, host_needs, import_domain
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, Source, exit_code, world_error
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.model.quantities import printable
from reconciler.specs import TreeReading, read_tree
from reconciler.specs.resolve.host import resolve_host
from reconciler.state_dir.files import create_file
from reconciler.texts.cfg_grammar import TEXT_MAX, XlCfgError, parse_cfg
from reconciler.texts.config_file import read_file

_FILE_BYTES_MAX = 4 * TEXT_MAX  # no character of UTF-8 is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A domain to be imported. `origin` is for the comment in its spec, `subject` for messages about it."""

    domain: Domain
    origin: str
    subject: str
    unsaid: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(slots=True)
class _Report:
    """Collects what is told at the end: problems in the order met, and the specs that were made."""

    problems: list[Diagnostic] = field(default_factory=list)
    made: list[Imported] = field(default_factory=list)

    def failed(self, subject: str, detail: str, hint: str | None = None) -> None:
        summary = f"{subject} is not imported"
        self.problems.append(Diagnostic(kind=Kind.WORLD, summary=summary, detail=detail, hint=hint))


@click.command("import", short_help="Make specs from running domains or xl.cfg files.")
@click.argument("sources", metavar="HOST | FILE...", nargs=-1, required=True)
@specs_option
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to write the specs."
)
@click.pass_obj
def import_command(settings: Settings, sources: tuple[str, ...], specs: Path, out: Path | None) -> int:
    """Make specs from the domains of HOST that are not managed yet, or from xl.cfg FILEs.

    The specs of a HOST of the spec tree are written into its folder there, unless --out says otherwise; one FILE is
    printed. A file that exists is never overwritten. Afterwards `reconciler apply --adopt HOST/NAME` takes a domain
    over without a restart.
    """
    reading = read_tree(specs)
    report = _Report()
    host = _host_among(reading, specs, sources)
    if host is not None:
        host_settings = reading.desired.hosts[host].settings
        found = list(_domains_of(_observe(reading, specs, settings, host), reading, report))
        out = out if out is not None else specs / host
        if not found and not report.problems:
            print_message(f"There is nothing to import from {host}: all its domains are managed.\n")
    else:
        if out is None and len(sources) > 1:
            raise click.UsageError("Several files need --out DIR, the folder to write their specs to.")
        host_settings = _settings_for(reading, specs, out)
        found = [domain for path in sources for domain in _domain_in(path, report)]
    for domain in found:
        _import(domain, reading, out, report)
    print_diagnostics(report.problems)
    print_message(_needed(report.made, host_settings))
    return exit_code(report.problems)


def _host_among(reading: TreeReading, specs: Path, sources: tuple[str, ...]) -> str | None:
    """Return the host that was named; None when all are files. A name that is neither is refused with a hint."""
    hosts = reading.desired.hosts
    named = [source for source in sources if source in hosts or source in reading.desired.frozen]
    if named and len(sources) > 1:
        raise click.UsageError(
            f'"{named[0]}" is a host; import one host, or files (a file of that name: ./{named[0]}).'
        )
    if named and named[0] not in hosts:
        raise ReconcilerError(*reading.diagnostics)
    if named:
        return named[0]
    source = sources[0]
    if len(sources) > 1 or "/" in source.removeprefix("ssh://") or os.path.lexists(source):
        return None
    if source == "local" or source.startswith("ssh://"):
        raise world_error(
            "no such host",
            f'The specs in {specs} know no host that is reached by "{source}", and import needs one.',
            f'Write {specs}/NAME/host.toml with toolstack = "xl" and connect = "{source}", then import NAME.',
        )
    if source.endswith(".cfg"):
        return None
    if not hosts:
        raise world_error(
            "no such host or file",
            f'"{source}" is no file, and the specs in {specs} have no host.',
            f'For a host, write {specs}/{source}/host.toml with the line: toolstack = "xl"',
        )
    check_host(reading.desired, source)
    return source


def _observe(reading: TreeReading, specs: Path, settings: Settings, host: str) -> Host:
    with open_session(reading, specs, settings.state_dir) as session:
        hosts, problems = session.wait_for(session.reconciler.observe(frozenset({host})))
    if problems:
        raise ReconcilerError(*problems)
    return hosts[host]


def _domains_of(host: Host, reading: TreeReading, report: _Report) -> Iterator[_Found]:
    """Yield every domain of the host that is not ours and runs or has a config file."""
    declared = {address.partition("/")[2]: address for address in reading.files}
    for name, guest in sorted(host.guests.items()):
        if guest.owner is Owner.OURS or not (guest.exists or guest.config_exists):
            continue
        address = address_of(host.name, name)
        elsewhere = declared.get(name, address)
        obstacle = _obstacle(guest)
        if elsewhere != address:
            hint = f"Rename one of the two: {reading.files[elsewhere]} is the other."
            report.failed(address, f"The specs declare {elsewhere}, and a name is unique in the fleet.", hint)
        elif obstacle is not None:
            report.failed(address, *obstacle)
        else:
            assert guest.definition is not None  # else there is an obstacle
            state: Domain = replace(guest.definition, state="running" if guest.exists else "stopped")
            yield _Found(
                domain=state,
                origin=f"{host.name}, {_kind_of_evidence(guest)}",
                subject=address,
                unsaid=(*guest.unsaid, *_replaced(guest)),
                ignored=guest.ignored,
            )


def _replaced(guest: Guest) -> Iterator[str]:
    """Name what adopting would overwrite although the domain has nothing of it."""
    config = guest.config
    if guest.running is not None and config is not None and config.uuid not in ("", guest.running.uuid):
        yield f"Its config file is of another domain (uuid {config.uuid}), and to adopt this one replaces that file."


def _kind_of_evidence(guest: Guest) -> str:
    if not guest.exists:
        return "from its config file (it did not run)"
    return "as it ran, with its config file" if guest.config is not None else "as it ran, without a config file"


def _obstacle(guest: Guest) -> tuple[str, str | None] | None:
    """Say why a guest cannot be written as a spec, and what to do about it."""
    if guest.exists and guest.power not in (Power.RUNNING, Power.PAUSED):
        return f"It is {guest.power}, so what it runs with cannot be trusted.", "Import it when it runs or is gone."
    if guest.definition is None or (guest.exists and guest.running is None):
        return guest.problem or "Nothing tells how it is defined.", None
    if guest.definition.name != guest.name:
        hint = "Name the file after the domain on the host, or import a copy of it by `reconciler import FILE`."
        return f'Its config file defines a domain of another name, "{printable(guest.definition.name)}".', hint
    return None


def _settings_for(reading: TreeReading, specs: Path, out: Path | None) -> HostSettings:
    """Return the host whose folder the specs are written to, else one that allows nothing yet."""
    if out is not None:
        for name, part in reading.desired.hosts.items():
            if (specs / name).resolve() == out.resolve():
                return part.settings
    unknown, _ = resolve_host("HOST", {"toolstack": "xl"})
    assert unknown is not None
    return unknown


def _domain_in(path: str, report: _Report) -> Iterator[_Found]:
    """Yield the domain of an xl.cfg file; nothing when xl would refuse the file, which is then told."""
    shown = printable(os.fsencode(path).decode(errors="replace"))
    try:
        text = _text_of(path)
        parse_cfg(text)  # for the place of an error
    except OSError as error:
        report.failed(shown, f"It cannot be read: {error.strerror}.")
        return
    except UnicodeDecodeError as error:
        hint = f"Convert it, for example with: iconv -f latin1 -t utf-8 {shown}"
        report.failed(shown, f"It is not UTF-8: byte {error.object[error.start]:#04x} cannot stand there.", hint)
        return
    except XlCfgError as error:
        report.problems.append(_misread(shown, text, error))
        return
    file = read_file(text, {})
    if file.domain is None:
        report.failed(shown, f"xl would refuse it, too: {file.problem}")
        return
    yield _Found(domain=file.domain, origin=shown, subject=shown, unsaid=file.unsaid, ignored=file.ignored)


def _text_of(path: str) -> str:
    """Read a regular file. Anything else is not even opened, since a pipe might never end."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        what = "it is a directory" if stat.S_ISDIR(mode) else "it is no regular file"
        raise OSError(errno.EINVAL, what)
    with Path(path).open("rb") as file:
        return file.read(_FILE_BYTES_MAX + 1).decode()


def _misread(path: str, text: str, error: XlCfgError) -> Diagnostic:
    lines = text.split("\n")
    line = lines[error.line - 1] if error.line <= len(lines) else ""
    return Diagnostic(
        kind=Kind.WORLD,
        summary="xl cannot read the file",
        detail=f"xl cannot read the file, so it is not imported: {error.message}",
        source=Source(path=path, line=error.line, column=error.column, text=line),
    )


def _import(found: _Found, reading: TreeReading, out: Path | None, report: _Report) -> None:
    try:
        imported = import_domain(found.domain, reading.defaults, unsaid=found.unsaid, ignored=found.ignored)
    except NotImportable as error:
        report.failed(found.subject, str(error))
        return
    text = as_toml(imported, found.origin)
    if out is None:
        print_data(text)
    elif not _write(out, imported.name, text, found.subject, report):
        return
    report.made.append(imported)
    report.problems += _notes(imported, found.subject)


def _write(out: Path, name: str, text: str, subject: str, report: _Report) -> bool:
    path = out / f"{name}.toml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        create_file(path, text.encode())
    except FileExistsError:
        hint = "Remove the file, or write elsewhere with --out DIR."
        report.failed(subject, f"{path} exists, and an import overwrites nothing.", hint)
        return False
    except OSError as error:
        report.failed(subject, f"{path} cannot be written: {error.strerror}.")
        return False
    print_message(f"Wrote {path}.\n")
    return True


def _notes(imported: Imported, subject: str) -> Iterator[Diagnostic]:
    """List what a person should know about a spec: what it lacks, what it leaves out, what it passes on unread."""
    if imported.unsaid:
        yield Diagnostic(
            kind=Kind.NOTE,
            summary=f"{subject} has what a spec cannot say",
            detail="\n".join(imported.unsaid),
            hint="Its spec says reconcile = false: shown, never changed. Without that line, apply drops these things.",
        )
    if imported.ignored:
        yield Diagnostic(
            kind=Kind.NOTE, summary=f"{subject} has what makes no difference", detail="\n".join(imported.ignored)
        )
    if imported.spec.xl:
        keys = ", ".join(sorted(imported.spec.xl))
        yield Diagnostic(
            kind=Kind.NOTE,
            summary=f"{subject} has keys that go to [xl]",
            detail=f"They are passed to xl as they are, where host.toml allows it: {keys}.",
        )


def _needed(made: list[Imported], settings: HostSettings) -> str:
    """Write the lines for host.toml, to be pasted; "" when it allows everything already."""
    needs = host_needs((imported.spec for imported in made), settings)
    if not needs:
        return ""
    import tomli_w

    return f"To use these specs, {settings.name}/host.toml needs these lines, in place of those it has:\n\n" + (
        tomli_w.dumps(needs)
    )
