"""What watch does as a process of its machine: it tells a service manager how it fares, and tends memory and files.

Called by the loop. The manager is told with datagrams to $NOTIFY_SOCKET, in the protocol of sd_notify(3); without one,
and when it does not listen, nothing happens.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress

_FILES = 65_536
_SWITCH_SECONDS = 0.001
_OLD_OBJECTS_AT_MOST = 300_000  # which take some 30 ms


class Notifier:
    """Sends states to the service manager, if there is one.

    `watchdog_seconds` says how often the manager wants a sign of life at least; None when it wants none.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        wanted = environment.get("WATCHDOG_USEC", "")
        meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(wanted) / 1_000_000 if wanted.isdecimal() and int(wanted) and meant_for_us else None

    def tell(self, state: str) -> None:
        """Send a state such as READY=1, WATCHDOG=1, STOPPING=1 or STATUS=…"""
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)  # a manager that hangs must not hang us
            channel.sendto(state.encode(), address)


def leave_old_objects_alone() -> None:
    """Have Python's collector look at young objects only; the loop calls `collect_old_objects` now and then.

    To look at all takes 0.3 s with 10,000 domains, holds the loop, and may come at any moment of a pass. What a pass
    makes has no cycles, so that it is freed without a collector.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1_000_000)


def collect_old_objects() -> None:
    """Free what has grown old and is garbage, in a short turn of the loop however large the fleet is.

    As many as a fleet consists of are not looked at but taken for what stays: each look after this one leaves them
    out, too. What of them is no longer needed is freed all the same, unless it is part of a cycle.
    """
    old = len(gc.get_objects(generation=2))
    if old <= _OLD_OBJECTS_AT_MOST:
        gc.collect()
    if old > _OLD_OBJECTS_AT_MOST // 2:
        gc.freeze()


def open_many_files() -> None:
    """Have this process open as many files as its machine lets it: it holds three for each host that it listens to.

    Most machines let a process have 1,024 until it asks for more, which 300 hosts use up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # then there are as many as before
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def take_short_turns() -> None:
    """Have threads give way after a millisecond.

    The loop waits for its turn behind each thread that is at work, and there may be several: with Python's five
    milliseconds each, that adds up.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
