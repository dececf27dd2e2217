"""The private parts of uvicorn that the server beside the loop overrides are still there, and still what they were.

There is no public way to have uvicorn leave signals alone, sleep, or give up on a silent client. So pyproject.toml lets
no later version in than those that these tests passed with. When one fails after the bound was raised, read in
uvicorn's server.py and h11_impl.py what became of the part, and mend `reconciler/web/server.py`.
"""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler.web.server import _BoundedProtocol, _Server

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
_OURS = {"__init__", "end", "_set_deadline", "_past_deadline", "_is_stream"}  # what we add; all else is an override
_OVERRIDES = [
    (ours, theirs, name)
    for ours, theirs in ((_Server, Server), (_BoundedProtocol, H11Protocol))
    for name, part in vars(ours).items()
    if inspect.isfunction(part) and name not in _OURS
]


def test_what_is_overridden() -> None:
    assert [name for _, _, name in _OVERRIDES] == [
        *("main_loop", "capture_signals"),
        *("connection_made", "on_response_complete", "connection_lost"),
    ]


@pytest.mark.parametrize(("ours", "theirs", "name"), _OVERRIDES, ids=[name for *_, name in _OVERRIDES])
def test_an_override_has_the_shape_of_what_it_overrides(ours: type, theirs: type, name: str) -> None:
    part, overridden = getattr(ours, name), getattr(theirs, name, None)
    assert overridden is not None, f"{theirs.__name__}.{name} is gone"
    assert list(inspect.signature(part).parameters) == list(inspect.signature(overridden).parameters)
    assert inspect.iscoroutinefunction(part) == inspect.iscoroutinefunction(overridden)
    assert hasattr(part, "__wrapped__") == hasattr(overridden, "__wrapped__"), "one is a context manager"


@pytest.mark.parametrize(
    ("caller", "part"),
    [
        (Server.serve, "self.capture_signals()"),
        (Server._serve, "await self.main_loop()"),
        (Server.shutdown, "self.server_state.connections"),
        (H11Protocol.__init__, "self.connections = server_state.connections"),
        (H11Protocol.__init__, "self.loop ="),
        (H11Protocol.connection_made, "self.connections.add(self)"),
        (H11Protocol.connection_made, "self.transport = transport"),
        (H11Protocol.connection_lost, "self.connections.discard(self)"),
        (H11Protocol.handle_events, "on_response=self.on_response_complete"),
        (H11Protocol.handle_events, '"state": self.app_state.copy()'),
        (H11Protocol.handle_events, "self.cycle = RequestResponseCycle("),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_uvicorn_does_with_these_parts_what_we_take_it_to_do(caller: object, part: str) -> None:
    assert part in inspect.getsource(caller)  # type: ignore[arg-type]  # a function, whatever its parameters


def test_no_version_that_nobody_tried_is_let_in() -> None:
    dependencies = tomllib.loads(_PYPROJECT.read_text())["project"]["dependencies"]
    (bound,) = (one.partition("<")[2] for one in dependencies if one.startswith("uvicorn"))
    newest_known = tuple(int(part) for part in bound.split("."))
    installed = tuple(int(part) for part in version("uvicorn").split(".")[:2])
    assert installed < newest_known
