"""The `reconciler` command: which subcommands there are, and the one place where errors become exit codes.

Only click is imported at start-up: each subcommand lives in a module of its own, loaded when it is called.
"""

from __future__ import annotations

import codecs
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

import click
from click.exceptions import NoArgsIsHelpError
from click.shell_completion import CompletionItem

from reconciler.cli.settings import Settings, add_program_options
from reconciler.leaving import end_all, leave

if TYPE_CHECKING:
    from reconciler.model.diagnostics import Diagnostic, ReconcilerError

INTERRUPTED = 130
ENDED = 143  # by SIGTERM
HUNG_UP = 129
_FAILED = 1
_HALF_DONE = "Interrupted. What was begun may be half done: the next run looks, and goes on from there."
_COLLECTED = (20_000, 10, 10)  # objects before Python looks for cycles among them: we make many, and hardly any cycle
_begun: list[Settings] = []  # those of the command under way are the last ones

# name: (module, attribute, what it does). The texts are repeated here so that --help need not load the modules.
COMMANDS = {
    "validate": ("reconciler.cli.look.validate", "validate", "Check everything in the specs that needs no host."),
    "plan": ("reconciler.cli.look.plan", "plan", "Show what apply would do."),
    "apply": ("reconciler.cli.act.apply", "apply", "Make the hosts what the specs say."),
    "watch": ("reconciler.cli.act.watch", "watch", "Keep the hosts as the specs say, until it is stopped."),
    "status": ("reconciler.cli.look.status", "status", "Tell how each domain is, and why."),
    "observe": ("reconciler.cli.look.observe", "observe", "Write down what the hosts are, for plan --from."),
    "why": ("reconciler.cli.look.why", "why", "Tell who asks for what in a domain, and what it waits for."),
    "kernels": ("reconciler.cli.look.kernels", "kernels", "Tell which kernels are staged, running and quarantined."),
    "rollback": ("reconciler.cli.act.rollback", "rollback", "Bring a domain back to what it booted before."),
    "hold": ("reconciler.cli.act.hold", "hold", "Leave a domain, or all of a host, alone for a while."),
    "unhold": ("reconciler.cli.act.hold", "unhold", "Lift the hold of a domain, or that of a host."),
    "accept": ("reconciler.cli.act.accept", "accept", "Let watch follow a branch that was rewound."),
    "forget": ("reconciler.cli.act.forget", "forget", "Give up a host that left the specs, or is lost."),
    "leftovers": (
        "reconciler.cli.act.leftovers",
        "leftovers",
        "List disks and staged kernels that nothing names any more.",
    ),
    "unlock": ("reconciler.cli.act.unlock", "unlock", "End the lock of a host whose holder is silent."),
    "cluster": (
        "reconciler.cli.cluster.command",
        "cluster",
        "Tell which controller has which host, and what is reserved.",
    ),
    "history": ("reconciler.cli.look.history", "history", "Tell what was done when, for which commit."),
    "init": ("reconciler.cli.look.init", "init", "Write a first spec tree: one host, one example domain."),
    "doctor": (
        "reconciler.cli.look.doctor",
        "doctor",
        "Tell what on the hosts will hurt, and how to mend it.",
    ),
    "import": (
        "reconciler.cli.look.import_",
        "import_command",
        "Make specs from running domains or xl.cfg files.",
    ),
    "render": ("reconciler.cli.look.render", "render", "Print the xl.cfg that would be written for a domain."),
    "console": ("reconciler.cli.look.console", "console", "Attach to the console of a domain."),
    "explain": ("reconciler.cli.look.explain", "explain", "Tell what a key of a spec means."),
    "completion": (
        "reconciler.cli.look.completion",
        "completion",
        "Print what a shell needs to complete commands and names.",
    ),
    "schema": ("reconciler.cli.look.schema", "schema", "Print the JSON Schema of a kind of spec file, for editors."),
    "sim": ("reconciler.cli.act.sim", "sim_group", "Reach into a simulated host: make drift and faults by hand."),
}


class LazyGroup(click.Group):
    """Knows its subcommands by name and loads only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        add_program_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text) for name, (_, _, text) in COMMANDS.items() if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]}?" if near else f" There are {', '.join(COMMANDS)}."
            ctx.fail(f"There is no command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="reconciler", message="reconciler %(version)s")
def cli() -> None:
    """Keep Xen domains as TOML files say: read specs, observe hosts, show a plan, follow it."""


add_program_options(cli)


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code; whatever is wrong with input or world has been said on stderr."""
    settings = Settings()
    _begun.append(settings)
    try:
        code = cli.main(arguments, prog_name="reconciler", standalone_mode=False, obj=settings)
        _flush()
    except NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return _FAILED
    except click.ClickException as error:
        return _fail(settings, arguments, _usage_problem(error))
    except click.Abort:  # the end of input where a question was asked
        click.echo(_HALF_DONE, err=True)
        return INTERRUPTED
    except _our_own() as error:
        return _fail(settings, arguments, *error.diagnostics)
    except BrokenPipeError:
        _discard_output()
        return _FAILED
    except OSError as error:
        _discard_output_if_broken()
        return _fail(settings, arguments, _os_problem(error))
    return code if isinstance(code, int) else 0


def _our_own() -> type[ReconcilerError]:
    """Return the kind of error that code of ours raises. It is loaded once there is one."""
    from reconciler.model.diagnostics import ReconcilerError

    return ReconcilerError


def main() -> None:
    """Call `run` with the process's own arguments and streams: the entry point."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not started to ignore it, like a job of sh
        signal.signal(signal.SIGINT, _leave_interrupted)
    sys.excepthook = _report_bug
    codecs.register_error(_SPELL_OUT, _spell_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SPELL_OUT)
    signal.signal(signal.SIGTERM, lambda *_: leave(ENDED))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else `nohup` wants us to live on
        signal.signal(signal.SIGHUP, lambda *_: leave(HUNG_UP))
    gc.set_threshold(*_COLLECTED)
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # from a command that heeds signals itself, as it was about to end
        code = INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_all()
    gc.freeze()  # else Python looks for cycles three times among all that ends with this process anyway
    sys.exit(code)


def _leave_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Leave at Ctrl-C, where a command does not heed it itself.

    An exception would not do: where Python cannot raise it (as modules are loaded, in a callback), it prints it.
    """
    with suppress(OSError):
        os.write(2, f"{_HALF_DONE}\n".encode())  # not by a stream, which may be just being written to
    leave(INTERRUPTED)


def _fail(settings: Settings, arguments: Sequence[str], *problems: Diagnostic) -> int:
    from reconciler.cli.output import print_data, print_diagnostics
    from reconciler.model.diagnostics import exit_code

    with click.Context(cli, obj=settings):  # the command's own has ended
        print_diagnostics(problems)
    if "--json" in arguments:  # a program that asked for a document gets one
        from reconciler.show.documents import as_text, error_document

        print_data(as_text(error_document(problems)))
    return exit_code(problems)


def _usage_problem(error: click.ClickException) -> Diagnostic:
    from reconciler.model.diagnostics import Diagnostic, Kind

    context = getattr(error, "ctx", None)
    command = context.command_path if isinstance(context, click.Context) else "reconciler"
    return Diagnostic(
        kind=Kind.USAGE,
        summary=error.format_message(),
        hint=f"`{command} --help` lists what can be given",
    )


def _os_problem(error: OSError) -> Diagnostic:
    from reconciler.model.diagnostics import Diagnostic, Kind

    name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return Diagnostic(kind=Kind.WORLD, summary=f"{name}{error.strerror or error}")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _discard_output_if_broken() -> None:
    try:
        _flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    """Discard what is left in stdout's buffer: nobody can read it, and it must not raise when Python ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report what nothing above expected, so a bug of ours. Python then exits with 1."""
    if os.environ.get("RECONCILER_DEBUG"):
        import traceback

        traceback.print_exception(kind, error, trace)
    about = " ".join(str(error).split())[:200]
    click.echo(f"error: reconciler has a bug: {kind.__name__}: {about!r}", err=True)
    click.echo(f"  hint: please report this, with {_traceback_of(error)}", err=True)


def _traceback_of(error: BaseException) -> str:
    """Say where the traceback is: in the log of the state directory, as soon as a command knows that."""
    from reconciler.model.diagnostics import unforeseen
    from reconciler.state_dir import error_log

    if _begun and isinstance(error, Exception):
        problem = unforeseen("a command was run", error)
        kept = error_log.keep(_begun[-1].state_dir, problem)
        if kept.hint is not None and kept.hint.startswith(error_log.KEPT):
            return kept.hint.removeprefix(error_log.KEPT)
    return "the output of the same command under RECONCILER_DEBUG=1"


_SPELL_OUT = "reconciler.spell_out"
_SPELLINGS = {"→": "->", "±": "+-", "…": "...", "–": "-", "—": "-"}


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    """Replace what a terminal's encoding cannot show: our own signs by ASCII, anything else by an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    piece = error.object[error.start : error.end]
    shown = (_SPELLINGS.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in piece)
    return "".join(shown), error.end
