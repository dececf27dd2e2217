"""Writes the man pages, one a command, from the very texts of --help: `make man`.

They lie in docs/man and go into the wheel from there, so that nothing has to be imported where one is built.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from reconciler.cli.program import COMMANDS, cli

SECTION = 1
_PROGRAM_OPTIONS = ("given_specs", "given_state_dir", "color")
_ENVIRONMENT = {
    "RECONCILER_SPECS": "The spec tree, where neither SPECS nor --specs is given.",
    "RECONCILER_STATE_DIR": "The state directory, where --state-dir is not given.",
    "NO_COLOR": "Where it is set, output has no colours.",
    "FORCE_COLOR, CLICOLOR_FORCE": "Where one is set, output has colours also where it goes to no terminal.",
}
_EXIT_CODES = {
    "0": "Done, or nothing to do.",
    "1": "Something failed, a host could not be observed, or wrong usage.",
    "2": "With plan --detailed-exitcode: at least one step would run.",
    "3": "Refused: a stale plan, the brake, a block, a lock that is held, no consent.",
    "4": "The specs are not valid.",
    "130, 143": "Interrupted; ended by SIGTERM.",
}


def pages() -> dict[str, str]:
    """Return all pages by the names of their files."""
    context = click.Context(cli, info_name="reconciler", help_option_names=["-h", "--help"])
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    made = {"reconciler": _page(_main_page(context))}
    for name, command in commands.items():
        assert command is not None
        made[f"reconciler-{name}"] = _page(_command_page(click.Context(command, info_name=name, parent=context)))
    return {f"{name}.{SECTION}": text for name, text in made.items()}


def _page(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"


def _head(name: str, about: str, context: click.Context) -> Iterator[str]:
    yield f'.TH "{_roff(name.upper())}" "{SECTION}" "" "reconciler" "User Commands"'
    yield ".SH NAME"
    yield f"{_roff(name)} \\- {_roff(about[0].lower() + about[1:].removesuffix('.'))}"
    yield ".SH SYNOPSIS"
    yield _synopsis(context)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(context.command.help or about)


def _main_page(context: click.Context) -> Iterator[str]:
    yield from _head("reconciler", context.command.help or "", context)
    yield ".SH COMMANDS"
    yield from _entries({name: about for name, (_, _, about) in COMMANDS.items()}, prefix="reconciler-")
    yield ".SH OPTIONS"
    yield from _options(context, of_program=True)
    yield ".SH EXIT STATUS"
    yield from _entries(_EXIT_CODES)
    yield ".SH ENVIRONMENT"
    yield from _entries(_ENVIRONMENT)
    yield ".SH SEE ALSO"
    yield _references(*(f"reconciler-{name}" for name in COMMANDS), "xl", "xl.cfg")


def _command_page(context: click.Context) -> Iterator[str]:
    command = context.command
    name = f"reconciler-{context.info_name}"
    yield from _head(name, command.get_short_help_str(200), context)
    yield ".SH OPTIONS"
    yield from _options(context, of_program=False)
    yield ".PP"
    yield _roff("Options of the whole program, such as --specs and --state-dir, are in reconciler(1).")
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for sub in command.commands.values():
            below = click.Context(sub, info_name=sub.name, parent=context)
            yield f".SS {_roff(sub.name or '')}"
            yield _synopsis(below)
            yield ".PP"
            yield from _paragraphs(sub.help or "")
            yield from _options(below, of_program=False)
    yield ".SH SEE ALSO"
    yield _references("reconciler", "xl.cfg")


def _synopsis(context: click.Context) -> str:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return f".B {_roff(context.command_path)}\n{_roff(pieces)}"


def _options(context: click.Context, *, of_program: bool) -> Iterator[str]:
    # click keeps the option --help of the context that asked first, with the names that it had there
    shown = click.Option(context.help_option_names, is_flag=True, help="Show this message and exit.")
    for option in (*context.command.params, shown):
        record = option.get_help_record(context)
        is_of_program = option.name in _PROGRAM_OPTIONS
        if isinstance(option, click.Option) and record is not None and (of_program or not is_of_program):
            yield from _entries({record[0]: record[1]})


def _entries(entries: dict[str, str], prefix: str = "") -> Iterator[str]:
    for name, text in entries.items():
        yield ".TP"
        yield f".B {_roff(prefix + name)}"
        yield _roff(" ".join(text.split()))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text).replace("\b", "")):
        yield ".PP"
        yield _roff(" ".join(paragraph.split()))


def _references(*names: str) -> str:
    return ", ".join(_roff(f"{name}({5 if name == 'xl.cfg' else SECTION})") for name in names)


def _roff(text: str) -> str:
    """Escape what groff and mandoc would take for something else."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = (
        text.replace("…", "...").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    )
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
