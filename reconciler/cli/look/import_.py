"""`reconciler import`: specs of domains that are there already, from a host or from xl.cfg files. Changes no host."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path

import click

from reconciler.cli.editor import schema_line, write_schemas
from reconciler.cli.output import kept, print_data, print_diagnostics, print_message
from reconciler.cli.session import check_host, open_session, specs_option
from reconciler.cli.settings import Settings
from reconciler.importer.files import KEEP_OUT, read_domain_file
from reconciler.importer.names import free_name, near_name
from reconciler.importer.report import Report, document, paste_of
from reconciler.importer.tables import NotImportable, as_toml, import_domain
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, Source, exit_code, world_error
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.model.quantities import printable, quoted
from reconciler.records import dataclass
from reconciler.show import diagnostics
from reconciler.show.documents import as_text
from reconciler.specs import TreeReading, read_tree
from reconciler.specs.resolve.fleet import NAMELESS_FLEET, SHARED
from reconciler.specs.resolve.host import resolve_host
from reconciler.specs.secrets import has_secrets
from reconciler.specs.toml import TomlError, parse_toml
from reconciler.specs.tree import HOST_FILE, TREE_FILE
from reconciler.state_dir.files import create_file
from reconciler.texts.cfg_grammar import TEXT_MAX, as_latin1

REMOVE_THE_OLD_FILE = "Remove the file (and its link in auto), lest the domain be started from it, too."
_FILE_BYTES_MAX = 4 * TEXT_MAX  # no character of UTF-8 is longer

_IN_CLEAR = "A password stands in its spec in clear, for all who can read the specs and their history."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A domain to be imported. `origin` is for the comment in its spec, `subject` for messages about it."""

    domain: Domain
    origin: str
    subject: str
    path: str | None = None  # of the file that it was read from, if any
    runs: bool = False
    unsaid: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    comments: Mapping[str, Iterable[str]] = field(default_factory=dict)


@click.command("import", short_help="Make specs from running domains or xl.cfg files.")
@click.argument("sources", metavar="HOST | FILE...", nargs=-1, required=True)
@specs_option
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where to write the specs."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.pass_obj
def import_command(settings: Settings, sources: tuple[str, ...], specs: Path, out: Path | None, as_json: bool) -> int:
    """Make specs from the domains of HOST that are not managed yet, or from xl.cfg FILEs.

    The specs of a HOST of the spec tree are written into its folder there, unless --out says otherwise; one FILE is
    printed. A file that exists is never overwritten. Afterwards `reconciler apply --adopt HOST/NAME` takes a domain
    over without a restart.
    """
    reading = read_tree(specs)
    report = Report()
    host, seen = _host_among(reading, specs, sources), None
    if host is not None:
        host_settings = reading.desired.hosts[host].settings
        seen = _observe(reading, specs, settings, host)
        found = list(_domains_of(seen, reading, report))
        out = out if out is not None else specs / host
        if not found and not report.problems:
            print_message(f"There is nothing to import from {host}: all its domains are managed.\n")
    else:
        if out is None and len(sources) > 1:
            raise click.UsageError("Several files need --out DIR, the folder to write their specs to.")
        host_settings = _settings_for(reading, specs, out)
        found = [domain for path in sources for domain in _domain_in(path, report)]
    folder = host or _host_of(reading, specs, out)
    for domain in found:
        _import(domain, reading, out, report, folder, as_json=as_json)
    report.problems += _clashes(report, specs, folder)
    if report.written and _host_of(reading, specs, out) is not None:
        _name_fleet(reading, specs, seen, report, as_json=as_json)
    if as_json:
        told = {**document(report, host_settings), "diagnostics": diagnostics.documents(kept(report.problems))}
        print_data(as_text(told))
    else:
        print_diagnostics([*report.problems, *report.notes])
        print_message(_needed(report, host_settings))
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


def _domains_of(host: Host, reading: TreeReading, report: Report) -> Iterator[_Found]:
    """Yield every domain of the host that is not ours and runs or has a config file."""
    declared = {address.partition("/")[2]: address for address in reading.files}
    for name, guest in sorted(host.guests.items()):
        if guest.owner is Owner.OURS or not (guest.exists or guest.config_exists):
            continue
        address = address_of(host.name, name)
        defined = guest.config.name if guest.config is not None and not guest.exists else name
        defined = near_name(defined)
        elsewhere = declared.get(defined, address_of(host.name, defined))
        obstacle = _obstacle(guest)
        if not guest.exists and _is_of_another(guest, host, report):
            continue
        if elsewhere != address_of(host.name, defined):
            other = reading.files[elsewhere]
            hint = f"Give it another name on its host (xl rename), and import it again; {other} is the other."
            report.failed(address, f"The specs declare {elsewhere}, and a name is unique in the fleet.", hint)
        elif obstacle is not None:
            report.failed(address, *obstacle)
        else:
            assert guest.definition is not None  # else there is an obstacle
            if guest.config is not None and guest.config.name == defined != name:
                detail, hint = f"The config file {name} defines {defined}.", _moved(host, name, defined)
                summary = f"{address} has what is called otherwise"
                report.notes.append(Diagnostic(kind=Kind.NOTE, summary=summary, detail=detail, hint=hint))
            if has_secrets(guest.definition):
                summary = f"{address} has a password"
                report.notes.append(Diagnostic(kind=Kind.NOTE, summary=summary, detail=_IN_CLEAR, hint=KEEP_OUT))
            state: Domain = replace(guest.definition, state="running" if guest.exists else "stopped")
            yield _Found(
                domain=state,
                origin=f"{host.name}, {_kind_of_evidence(guest)}",
                subject=address,
                runs=guest.exists,
                unsaid=(*guest.unsaid, *_replaced(guest)),
                ignored=guest.ignored,
                comments=guest.comments,
            )


def _is_of_another(guest: Guest, host: Host, report: Report) -> bool:
    """Return whether a config file that is called otherwise defines a domain that has a spec of its own."""
    name = guest.config.name if guest.config is not None else guest.name
    other = host.guests.get(name)
    if name == guest.name or other is None:
        return False
    how = "as it runs" if other.exists else "by its own config file"
    detail = f"The config file {guest.name} defines {name}, which is imported {how}."
    hint = REMOVE_THE_OLD_FILE if other.config_exists else _moved(host, guest.name, name)
    summary = f"{address_of(host.name, guest.name)} has what makes no difference"
    report.notes.append(Diagnostic(kind=Kind.NOTE, summary=summary, detail=detail, hint=hint))
    return True


def _moved(host: Host, file: str, name: str) -> str:
    """Tell how a config file gets the name of the domain in it."""
    suffix = "" if host.flavour == "netbsd" else ".cfg"
    files = f"{shlex.quote(file + suffix)} {shlex.quote(name + suffix)}"
    return f"Before it is adopted, in the folder of the config files: mv {files} (and its link in auto)."


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
    return None


def _host_of(reading: TreeReading, specs: Path, out: Path | None) -> str | None:
    """Return the host whose folder the specs are written to."""
    if out is None:
        return None
    return next((name for name in reading.desired.hosts if (specs / name).resolve() == out.resolve()), None)


def _settings_for(reading: TreeReading, specs: Path, out: Path | None) -> HostSettings:
    """Return the host whose folder the specs are written to, else one that allows nothing yet."""
    if (host := _host_of(reading, specs, out)) is not None:
        return reading.desired.hosts[host].settings
    unknown, _ = resolve_host("HOST", {"toolstack": "xl"})
    assert unknown is not None
    return unknown


def _domain_in(path: str, report: Report) -> Iterator[_Found]:
    """Yield the domain of an xl.cfg file; nothing when xl would refuse the file, which is then told."""
    shown = printable(os.fsencode(path).decode(errors="replace"))
    try:
        text = _bytes_of(path).decode(errors="surrogateescape")
    except OSError as error:
        hint = f"Name the files in it: {shown.rstrip('/')}/*.cfg" if Path(path).is_dir() else None
        report.failed(shown, f"It cannot be read: {error.strerror}.", hint, path=shown)
        return
    if not text.strip():
        report.failed(shown, "It is empty.", path=shown)
        return
    found = read_domain_file(text, shown, _stem(path))
    report.problems += found.problems
    if found.domain is not None:
        report.notes += found.notes
        yield _Found(
            domain=found.domain, origin=shown, subject=shown, path=shown, unsaid=found.unsaid, comments=found.comments
        )


def _stem(path: str) -> str:
    """Return the name of a file without the suffix of config files, which other dots in a name are no part of."""
    name = Path(path).name.encode(errors="surrogateescape").decode(errors="replace")
    return name.removesuffix(".cfg") or name


def _bytes_of(path: str) -> bytes:
    """Read a regular file. Anything else is not even opened, since a pipe might never end."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        what = "it is a directory" if stat.S_ISDIR(mode) else "it is no regular file"
        raise OSError(errno.EINVAL, what)
    with Path(path).open("rb") as file:
        return file.read(_FILE_BYTES_MAX + 1)


def _import(
    found: _Found, reading: TreeReading, out: Path | None, report: Report, host: str | None, *, as_json: bool
) -> None:
    found = _named(found, report)
    try:
        imported = import_domain(found.domain, reading.defaults, unsaid=found.unsaid, ignored=found.ignored)
        text = as_toml(imported, found.origin, found.comments)
        parse_toml(text)
    except (NotImportable, TomlError) as error:  # the latter: it has more than a spec may have
        report.failed(found.subject, str(error), path=found.path)
        return
    if out is not None:
        if not _write(out, imported.name, text, found.subject, report, as_json=as_json):
            return
    elif as_json:
        report.printed.append((imported.name, text))
    else:
        print_data(text)
    report.add(imported, found.subject, imported.name if host is None else address_of(host, imported.name))


def _named(found: _Found, report: Report) -> _Found:
    """Give a domain whose name no spec can have a near one, and say so."""
    name = found.domain.name
    near = free_name(name, {imported.name for imported in report.made})
    if near == name:
        return found
    detail, hint = f"{quoted(as_latin1(name))} is no name for a spec, so its spec is called {near}.", None
    unsaid = found.unsaid
    if found.runs:
        rename = f"xl rename {shlex.quote(name)} {near}"
        unsaid = (
            *unsaid,
            f"It runs under the name {quoted(name)}; on the host, {rename} makes it the one of its spec.",
        )
    elif found.path is None:
        hint = f"Once that is adopted, {REMOVE_THE_OLD_FILE[0].lower()}{REMOVE_THE_OLD_FILE[1:]}"
    summary = f"{found.subject} has what is called otherwise"
    report.notes.append(Diagnostic(kind=Kind.NOTE, summary=summary, detail=detail, hint=hint))
    return replace(found, domain=replace(found.domain, name=near), unsaid=unsaid)


def _write(out: Path, name: str, text: str, subject: str, report: Report, *, as_json: bool) -> bool:
    path = out / f"{name}.toml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        in_tree = (out / HOST_FILE).exists()
        create_file(path, ((schema_line(out.parent, path, "domain") if in_tree else "") + text).encode())
    except FileExistsError:
        hint = "Write elsewhere with --out DIR, and compare the two."
        report.failed(subject, f"{path} exists, and an import overwrites nothing.", hint)
        return False
    except OSError as error:
        report.failed(subject, f"{path} cannot be written: {error.strerror}.")
        return False
    if in_tree:
        with suppress(OSError):  # an editor without it does no harm
            write_schemas(out.parent)
    report.written.append(str(path))
    if not as_json:
        print_message(f"Wrote {path}.\n")
    return True


def _name_fleet(reading: TreeReading, specs: Path, seen: Host | None, report: Report, *, as_json: bool) -> None:
    """Have the tree say which fleet it is: in a new file, where only a new name can be meant; else tell what to add.

    A domain that is managed already may be one of this tree, and a name by mistake would make it a stranger to it, or
    a stranger one of its own.
    """
    told = (one for one in read_tree(specs, needs_fleet=True).diagnostics if one.summary == NAMELESS_FLEET)
    if (nameless := next(told, None)) is None:
        return
    path, real = specs / TREE_FILE, [one for one in reading.desired.hosts.values() if not one.settings.is_simulated]
    fresh = seen is not None and all(guest.owner is Owner.UNMANAGED for guest in seen.guests.values())
    if fresh and len(real) == 1 and not reading.desired.frozen and not os.path.lexists(path):
        line = f'fleet = "fleet-{secrets.token_hex(4)}"  # the namespace of uuids and macs: it stays as it is\n'
        try:
            create_file(path, f"{schema_line(specs, path, 'tree')}{line}".encode())
        except OSError as error:
            report.failed(str(path), f"It cannot be written: {error.strerror}.", nameless.hint)
            return
        report.written.append(str(path))
        if not as_json:
            print_message(f"Wrote {path}.\n")
    else:
        source = Source(path=str(path), line=1, column=1)
        report.notes.append(replace(nameless, kind=Kind.NOTE, source=source))


def _clashes(report: Report, specs: Path, host: str | None) -> list[Diagnostic]:
    """List what the specs that were written have in common with others of the tree, and no two may have."""
    if host is None or not report.written:
        return []
    written = {Path(path).resolve() for path in report.written}
    found = [one for one in read_tree(specs).diagnostics if one.source is not None and one.summary in SHARED]
    return [one for one in found if one.source is not None and Path(one.source.path).resolve() in written]


def _needed(report: Report, settings: HostSettings) -> str:
    """Write the lines for host.toml, to be pasted; "" when it allows everything already."""
    lines = paste_of(report, settings)
    place = f"{settings.name}/host.toml"
    return lines and f"To use these specs, {place} needs these lines, in place of those it has:\n\n{lines}"
