"""`reconciler watch`: apply in a loop, until SIGTERM. Builds the parts of the loop, and connects signals to it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.cluster.option import cluster_option
from reconciler.cli.durations import Duration
from reconciler.cli.settings import Settings
from reconciler.leaving import leave
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.records import dataclass

if TYPE_CHECKING:
    from reconciler.cluster.controller import Controller
    from reconciler.watch.logs import Log
    from reconciler.watch.loop import Watcher
    from reconciler.watch.source import Source
    from reconciler.watch.trust import Rules, Signed
    from reconciler.web import Serving

_INTERRUPTED = 130
_SHORTEST_INTERVAL_SECONDS = 1.0
_SHORTEST_LEASE_SECONDS = 3.0
_SHAKE = 0.1  # of an interval, so that not all hosts are looked at in the same moment


@click.command(short_help="Keep the hosts as the specs say, until it is stopped.")
@click.argument("specs", required=False, type=click.Path(path_type=Path))
@click.option("--git", "url", metavar="URL", help="Follow a branch of this git repository instead of a folder.")
@click.option("--branch", metavar="NAME", default="main", show_default=True, help="With --git: the branch.")
@click.option("--path", metavar="FOLDER", default="", help="With --git: where in the repository the specs are.")
@click.option(
    "--interval",
    metavar="TIME",
    default="60s",
    show_default=True,
    type=Duration(at_least_seconds=_SHORTEST_INTERVAL_SECONDS),
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Make one pass and end, with the exit code of an apply.")
@click.option("--detect-only", is_flag=True, help="Tell what differs; change nothing.")
@click.option("--listen", metavar="[ADDRESS:]PORT", help="Serve state, metrics and a page over HTTP.")
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --listen: the token that acting needs, and reading too from elsewhere than loopback.",
)
@click.option("--public-read", is_flag=True, help="With --listen: reading needs no token, wherever it listens.")
@click.option(
    "--tls-cert",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --listen: serve over TLS, with this certificate (PEM, its chain behind it).",
)
@click.option(
    "--tls-key",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --tls-cert: its key. Both are read again on SIGHUP.",
)
@click.option(
    "--require-signed",
    type=click.Choice(["none", "head", "all"]),
    default="none",
    show_default=True,
    help="With --git: what has to be signed, until a [git] table in an accepted commit says it.",
)
@click.option(
    "--allowed-signers",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --require-signed: who may sign, as for ssh-keygen.",
)
@cluster_option("Share the fleet's hosts with other controllers, by this etcd.")
@click.option(
    "--lease",
    metavar="TIME",
    default="10s",
    show_default=True,
    type=Duration(at_least_seconds=_SHORTEST_LEASE_SECONDS),
    help="With --cluster: after this time without a sign of life, others may take this one's hosts.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def watch(
    settings: Settings,
    specs: Path | None,
    url: str | None,
    branch: str,
    path: str,
    interval: float,
    once: bool,
    detect_only: bool,
    listen: str | None,
    token_file: Path | None,
    public_read: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    require_signed: Signed,
    allowed_signers: Path | None,
    endpoints: tuple[str, ...],
    lease: float,
    log_format: str,
) -> int:
    """Keep the hosts as SPECS (default: $RECONCILER_SPECS, else ./specs), or a branch of a git repository, says.

    Each host is worked on by itself: a pass looks at it, plans anew and applies; it does not ask. A pass is made when
    the specs change, when a domain on a Xen host ends, when the interval is over, on SIGHUP, and when it is asked for
    over HTTP. SIGTERM lets the steps in flight end, and exits with 0; a second one leaves at once. With --cluster,
    several controllers divide the hosts among them; each acts on its own ones only.
    """
    named = settings.tree(specs) if specs is not None or settings.given_specs is not None else None
    if endpoints and once:
        raise click.UsageError("--once is for one controller, so --cluster cannot be given with it.")
    _check_together(named, url, branch, path, require_signed, allowed_signers)
    serving = _Served(listen, token_file, public_read, tls_cert, tls_key)
    serving.check()
    signal.signal(signal.SIGTERM, lambda *_: leave(0))  # until the loop takes signals, nothing has been begun
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # all is looked at in a moment anyway
    from reconciler.watch.backoff import Backoff
    from reconciler.watch.logs import Log
    from reconciler.watch.loop import Watcher
    from reconciler.watch.passes import Passes
    from reconciler.watch.process import Notifier, leave_old_objects_alone, open_many_files, take_short_turns
    from reconciler.watch.triggers import SystemClock

    clock = SystemClock()
    log = Log(sys.stderr, as_json=log_format == "json", now=clock.now)
    source: Source
    newer: Callable[[str, str], bool] | None = None
    if url is not None:
        from reconciler.watch.git_source import GitSource

        rules = _first_rules(require_signed, allowed_signers)
        source = following = GitSource(url, branch, path, rules, settings.state_root, interval)
        if following.laid_out() is None and not settings.names_state_dir:
            _read_once(GitSource(url, branch, path, rules, settings.state_root, interval))
        state_dir = settings.state_dir_of(following.laid_out() or Path(), url)
        newer = following.follows
    else:
        from reconciler.watch.source import LocalSource

        tell = partial(log.say, level="warning")
        state_dir = settings.state_dir
        source = LocalSource(named or settings.specs, clock, tell, state_dir)
    backoff = Backoff(random.random)
    shared = _controller(endpoints, lease, log) if endpoints else None
    passes = Passes(source, state_dir, detect_only=detect_only, now=clock.now, backoff=backoff, sharing=shared)
    watcher = Watcher(
        source,
        passes,
        state_dir,
        interval_seconds=interval,
        clock=clock,
        log=log,
        notifier=Notifier(),
        shake=lambda seconds: seconds * random.uniform(1 - _SHAKE, 1 + _SHAKE),
    )
    leave_old_objects_alone()
    open_many_files()
    take_short_turns()
    others: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    if shared is not None:
        others = partial(shared.shared, state_dir, passes.wake, watcher.take_specs_soon, newer)
    return asyncio.run(_run(watcher, log, serving, others, once=once))


def _controller(endpoints: tuple[str, ...], lease: float, log: Log) -> Controller:
    from reconciler.cluster.controller import Controller
    from reconciler.cluster.etcd import Etcd

    return Controller(Etcd(endpoints), round(lease), say=partial(log.say, level="warning"))


@dataclass(frozen=True, slots=True)
class _Served:
    """What is served over HTTP, as the options say it."""

    listen: str | None
    token_file: Path | None
    public_read: bool
    tls_cert: Path | None
    tls_key: Path | None

    def check(self) -> None:
        """Refuse options that say nothing without each other."""
        about = {"--token-file": self.token_file, "--tls-cert": self.tls_cert, "--tls-key": self.tls_key}
        alone = [option for option, value in about.items() if value is not None]
        alone += ["--public-read"] if self.public_read else []
        if self.listen is None and alone:
            raise click.UsageError(f"{alone[0]} needs --listen.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key need each other.")

    def serve(self, watcher: Watcher) -> AbstractAsyncContextManager[Serving]:
        from reconciler.web import Tls, serve

        assert self.listen is not None
        tls = Tls(self.tls_cert, self.tls_key) if self.tls_cert is not None and self.tls_key is not None else None
        return serve(watcher, self.listen, self.token_file, public_read=self.public_read, tls=tls)


def _check_together(
    specs: Path | None,
    url: str | None,
    branch: str,
    path: str,
    require_signed: Signed,
    allowed_signers: Path | None,
) -> None:
    """Refuse options that say nothing without, or contradict, each other."""
    if url is not None and specs is not None:
        raise click.UsageError("SPECS and --git exclude each other; --path names a folder in the repository.")
    if url is not None and (not url or not branch):
        raise click.UsageError("--git needs a URL and a branch.")
    if url is not None and Path(os.path.normpath(path.strip("/") or ".")).parts[:1] == ("..",):
        raise click.UsageError("--path names a folder within the repository.")
    if url is not None and not _is_branch_name(branch):
        raise click.UsageError(f"--branch: {branch!r} is no name that git allows for a branch.")
    if url is None and (path or branch != "main" or require_signed != "none" or allowed_signers is not None):
        raise click.UsageError("--branch, --path, --require-signed and --allowed-signers need --git.")
    if require_signed != "none" and allowed_signers is None:
        raise click.UsageError(f"--require-signed {require_signed} needs --allowed-signers.")


def _is_branch_name(branch: str) -> bool:
    from reconciler.watch.git_repository import is_branch_name

    return is_branch_name(branch)


def _read_once(source: Source) -> None:
    """Have the first commit laid out, since its fleet says where the rest is kept. What hinders that is told later."""
    with suppress(ReconcilerError):
        asyncio.run(source.read())


def _first_rules(require_signed: Signed, allowed_signers: Path | None) -> Rules:
    from reconciler.watch.trust import Rules, read_signers

    signers = None
    if allowed_signers is not None:
        try:
            signers = read_signers(allowed_signers)
        except UnicodeDecodeError:
            raise world_error("the allowed signers file cannot be read", f"{allowed_signers} is not UTF-8.") from None
    return Rules(require_signed=require_signed, signers=signers)


async def _run(
    watcher: Watcher,
    log: Log,
    served: _Served,
    others: Callable[[], AbstractAsyncContextManager[None]],
    *,
    once: bool,
) -> int:
    """Run the loop, with signals, and perhaps HTTP and other controllers beside it."""
    signals = _Signals(watcher)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.end, number)
    loop.add_signal_handler(signal.SIGHUP, watcher.reconcile_now)
    async with AsyncExitStack() as beside:
        if served.listen is not None:
            serving = await beside.enter_async_context(served.serve(watcher))
            log.say("serving", url=serving.url)
            watcher.notifications.page = serving.url
            for note in serving.notes:
                log.problem(note)
            loop.add_signal_handler(signal.SIGHUP, _renew, watcher, serving)
        await beside.enter_async_context(others())
        code = await watcher.run(once=once)
    return _INTERRUPTED if signals.first is signal.SIGINT else code


def _renew(watcher: Watcher, serving: Serving) -> None:
    """Look at all hosts, and read the certificate again."""
    watcher.reconcile_now()
    try:
        serving.renew()
    except ReconcilerError as error:
        watcher.problem(error.diagnostics[0])


class _Signals:
    """The first one asks the loop to stop, the second one does not ask."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.first: signal.Signals | None = None

    def end(self, number: signal.Signals) -> None:
        if self.first is not None:
            leave(_INTERRUPTED)  # locks go with the process; a step cut short is seen by the next run
        self.first = number
        self._watcher.stop()
