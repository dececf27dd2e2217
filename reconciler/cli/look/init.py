"""`reconciler init`: a first spec tree, with one host and one example domain. Overwrites nothing, and asks no host."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import click

from reconciler.cli.ci import ci_files
from reconciler.cli.editor import FOLDER, schema_line, schema_texts, write_schemas
from reconciler.cli.output import is_terminal, print_data, print_diagnostics, print_message
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.specs.tree import HOST_FILE, RESERVED_FOLDERS, TREE_FILE
from reconciler.specs.value_types import CONNECT, NAME_FORM, is_name
from reconciler.state_dir.files import create_file, create_folder

_SIMULATED = "simulated"
_TREE = """\
# Settings of the whole tree.

fleet = "{fleet}"  # the namespace of derived uuids and macs: do not change it once domains run

[brake]
max_destroy = "20%"  # more than that in one run needs --allow-destroy
"""
_HOST = {
    True: """\
# The host "{host}", which is simulated: it lives in the state directory. On a real dom0: toolstack = "xl"

toolstack = "simulated"
disk_roots = ["/srv"]  # where specs may put disks
""",
    False: """\
# The host "{host}". What a dom0 can tell by itself (memory, cpus, bridges) is not asked here.

toolstack = "xl"
connect = "{connect}"
keep_free = "256MiB"  # memory that is never given to domains
""",
}
_DOMAIN = """\
# An example. `reconciler explain KEY` tells what a key means; those of xl.cfg(5) have the same names here.

kernel = "/boot/vmlinuz"  # absolute: a file on the host
memory = "512MiB"
vcpus = 1
"""
_HELD = "reconcile = false         # shown, never changed: take this line away when the rest is as you want it\n"


@click.command(short_help="Write a first spec tree: one host, one example domain.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--host", metavar="NAME", help="The name of the host.  [default: asked, else alpha]")
@click.option(
    "--connect",
    metavar="HOW",
    help="How it is reached: simulated, local, or ssh://[user@]name[:port].  [default: asked, else simulated]",
)
@click.option("--fleet", metavar="NAME", help="The name of the fleet.  [default: one of its own]")
@click.option(
    "--ci",
    type=click.Choice(["github", "gitlab", "forgejo", "none"]),
    help="Whose job to write beside it.  [default: that of the repository's remote, else github]",
)
@click.pass_obj
def init(
    settings: Settings, folder: Path | None, host: str | None, connect: str | None, fleet: str | None, ci: str | None
) -> None:
    """Write a first tree into DIR (default: $RECONCILER_SPECS, else ./specs): reconciler.toml with a fleet name of its
    own, one host, and an example domain. Without options, the host is asked for on a terminal, and simulated elsewhere.

    Beside it, at the root of the repository, it writes .pre-commit-config.yaml and a job for CI that plans each change.

    Nothing is overwritten: where one of the files of the tree exists, nothing is written (exit 3).
    """
    folder = settings.tree(folder)
    asks = is_terminal(sys.stdin) and host is None and connect is None
    host = host or (_ask("Name of the host", "alpha", _check_name) if asks else "alpha")
    question = "Reached by (simulated, local, ssh://root@NAME)"
    connect = connect or (_ask(question, _SIMULATED, _check_connect) if asks else _SIMULATED)
    _check_name(host)
    _check_name(fleet or "fleet")
    _check_connect(connect)
    is_simulated = connect == _SIMULATED
    tree, of_host, domain = folder / TREE_FILE, folder / host / HOST_FILE, folder / host / "example.toml"
    texts = {
        of_host: schema_line(folder, of_host, "host") + _HOST[is_simulated].format(host=host, connect=connect),
        domain: schema_line(folder, domain, "domain") + (_DOMAIN if is_simulated else _DOMAIN + _HELD),
        tree: schema_line(folder, tree, "tree") + _TREE.format(fleet=fleet or f"fleet-{secrets.token_hex(4)}"),
    }
    _write_tree(folder, texts, {} if ci == "none" else ci_files(folder, ci))
    print_data(_next(folder, host, is_simulated))


def _ask(question: str, usual: str, check: Callable[[str], None]) -> str:
    """Ask a person until the answer can be. Data goes to stdout, so this does not."""
    while True:
        print_message(f"{question} [{usual}]: ")
        line = sys.stdin.readline()
        if not line:
            raise click.Abort
        answer = line.strip() or usual
        try:
            check(answer)
        except ReconcilerError as error:
            print_diagnostics(error.diagnostics)
        else:
            return answer


def _check_name(name: str) -> None:
    if not is_name(name) or name in RESERVED_FOLDERS:
        hint = f"A name is {NAME_FORM}."
        raise world_error("not a name", f'"{name}" cannot be the name of a host or fleet.', hint)


def _check_connect(connect: str) -> None:
    if connect != _SIMULATED and not re.fullmatch(CONNECT, connect):
        hint = 'Write "simulated", "local" or "ssh://[user@]name[:port]".'
        raise world_error("connect is not understood", f'"{connect}" is no way to reach a host.', hint)


def _write_tree(folder: Path, texts: dict[Path, str], beside: dict[Path, str]) -> None:
    """Write the tree, and before it what stands beside it: a run that was cut short can simply be done again.

    A folder that is new appears with all its files. In one that is there, reconciler.toml comes last, and a file that
    says what is to be written already is what a run before has left.
    """
    there = [str(path) for path, text in texts.items() if _is_anothers(path, text)]
    if there:
        raise _exists(there)
    inside = {path: text for path, text in beside.items() if path.parent.absolute().is_relative_to(folder.absolute())}
    _write_beside({path: text for path, text in beside.items() if path not in inside})
    if os.path.lexists(folder):
        _write_beside(inside)
        wrote_schemas = write_schemas(folder)
        for path, text in texts.items():
            _create(path, text)
    else:
        files = {str(path.relative_to(folder)): text for path, text in {**texts, **inside}.items()}
        create_folder(folder, {name: text.encode() for name, text in {**files, **schema_texts()}.items()})
        wrote_schemas = True
    for path in texts:
        print_message(f"Wrote {path}.\n")
    if wrote_schemas:
        print_message(f"Wrote {folder / FOLDER}, which editors read.\n")


def _is_anothers(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:
        return True


def _create(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        create_file(path, text.encode())
    except FileExistsError:
        if _is_anothers(path, text):
            raise _exists([str(path)]) from None


def _write_beside(texts: dict[Path, str]) -> None:
    """Write what stands outside the tree. What is there already is somebody's own, and said."""
    for path, text in texts.items():
        if _is_anothers(path, text):
            print_message(f"Left {path} as it is; docs/ci.md has what to add.\n")
        else:
            _create(path, text)
            print_message(f"Wrote {path}.\n")


def _exists(paths: list[str]) -> ReconcilerError:
    detail = f"{', '.join(paths)} {'exists' if len(paths) == 1 else 'exist'}, and init overwrites nothing."
    return refused("there is something already", detail, "Name another folder: reconciler init DIR")


def _next(folder: Path, host: str, is_simulated: bool) -> str:
    import shlex

    tree, option = shlex.quote(str(folder)), "" if str(folder) == "specs" else f" --specs {shlex.quote(str(folder))}"
    commands = [f"reconciler validate {tree}"]
    if not is_simulated:
        commands += [f"reconciler doctor {host}{option}", f"reconciler import {host}{option}"]
    commands += [f"reconciler plan {tree}", f"reconciler apply {tree}"]
    return "Next:\n" + "".join(f"  {command}\n" for command in commands)
