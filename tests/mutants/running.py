"""Runs the tests of a session on each mutant, in a process of its own that is forked when all is loaded.

First all tests run once, to note which functions each calls: a mutant is tried on those alone, the quickest first.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Literal

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.mutations import Mutant

Fate = Literal["killed", "survived", "not reached"]
_CPU_SECONDS_LEAST = 10
_WALL_SECONDS_MAX = 300.0
_TIMES_SLOWER = 10
_KILLED, _SURVIVED = 1, 0


@dataclass(slots=True)
class Reached:
    """What a test calls of the files in question, and how long it takes."""

    seconds: float
    functions: list[str]


@dataclass(slots=True)
class Mutating:
    """A plugin of pytest: in the place of a run, it tries the mutants on the tests that were collected."""

    root: Path
    mutants: Sequence[Mutant]
    notes: Path  # where the first run notes what it saw
    told: Callable[[Mutant, Fate], None]
    fates: dict[str, Fate] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # else each process makes its own
        functions = _functions()
        gc.freeze()  # what is loaded stays shared with the processes that are forked
        self.notes.touch()
        known = self._noted()
        fresh = [item for item in session.items if item.nodeid not in known]
        if fresh:
            _in_a_process(lambda: self._note(fresh), _WALL_SECONDS_MAX * 20, None)
        noted = {name: reached for name, reached in self._noted().items() if reached.functions}
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            wanted = f"{mutant.file}:{mutant.function}"
            names = [name for name, reached in noted.items() if wanted in reached.functions and name in items]
            names.sort(key=lambda name: noted[name].seconds)
            tried = [items[name] for name in names]
            self.fates[mutant.name] = fate = self._fate(mutant, functions.get(wanted, []), tried, noted)
            self.told(mutant, fate)
        return True

    def _fate(
        self, mutant: Mutant, functions: list[FunctionType], items: list[pytest.Item], noted: dict[str, Reached]
    ) -> Fate:
        if not items or not functions:
            return "not reached"
        usual = sum(noted[item.nodeid].seconds for item in items)
        limit = _CPU_SECONDS_LEAST + int(_TIMES_SLOWER * usual)
        code = mutant.code((self.root / mutant.file).read_text())
        return (
            "survived"
            if _in_a_process(lambda: _try(code, functions, items), _WALL_SECONDS_MAX, limit) == _SURVIVED
            else "killed"
        )

    def _noted(self) -> dict[str, Reached]:
        found = [json.loads(line) for line in self.notes.read_text().splitlines()]
        return {name: Reached(seconds, functions) for name, seconds, functions in found}

    def _note(self, items: Sequence[pytest.Item]) -> int:
        """Run each test once, and note what it calls of the rooms; one that fails says nothing of mutants."""
        rooms = str(self.root / "reconciler") + "/"
        for item in items:
            called: set[CodeType] = set()

            def note(frame: FrameType, event: str, argument: object, called: set[CodeType] = called) -> None:
                called.add(frame.f_code)

            began = time.process_time()
            threading.settrace(note)
            sys.settrace(note)
            passed = _passes(item)
            sys.settrace(None)
            threading.settrace(None)
            ours = [code for code in called if code.co_filename.startswith(rooms)] if passed else []
            names = sorted({f"{os.path.relpath(code.co_filename, self.root)}:{_outermost(code)}" for code in ours})
            with self.notes.open("a") as file:
                file.write(json.dumps([item.nodeid, time.process_time() - began, names]) + "\n")
        return _SURVIVED


def _outermost(code: CodeType) -> str:
    return code.co_qualname.partition(".<locals>")[0]


def _functions() -> dict[str, list[FunctionType]]:
    """Return all functions of the package that are loaded, by file and name."""
    found: dict[str, list[FunctionType]] = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and "/reconciler/" in one.__code__.co_filename:
            file = one.__code__.co_filename.rpartition("/reconciler/")[2]
            found.setdefault(f"reconciler/{file}:{one.__code__.co_qualname}", []).append(one)
    return found


def _try(code: CodeType, functions: Sequence[FunctionType], items: Sequence[pytest.Item]) -> int:
    """Put the code of a mutant in its place, and run the tests until one fails."""
    for function in functions:
        function.__code__ = code
    return _SURVIVED if all(_passes(item) for item in items) else _KILLED


def _passes(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _in_a_process(work: Callable[[], int], wall_seconds: float, cpu_seconds: int | None) -> int:
    """Return the exit code of some work in a forked process; where it takes too long, that of what is noticed."""
    pid = os.fork()
    if pid == 0:
        code = _KILLED
        try:
            os.setsid()
            if cpu_seconds is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
            code = work()
        finally:
            os._exit(code)
    watched = os.pidfd_open(pid)
    try:
        select.select([watched], [], [], wall_seconds)
    finally:
        os.close(watched)
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else _KILLED
