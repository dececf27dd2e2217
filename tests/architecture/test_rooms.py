"""The rooms of the package: docs/architecture.md begins with a drawing of them, and none grows out of a reader's sight.

After a wanted change of rooms or imports, run with RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grimp

from tests.transcript import UPDATE

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reconciler"
PAGE = ROOT / "docs/architecture.md"
_CUT = re.compile(r"\$\{+\w+(?:##?|%%?)((?:[^}\\]|\\.)*)\}")
MODULES_MAX, LINES_MAX = 18, 450
_DRAWING = re.compile(r"(?<=^```mermaid\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_HEAD = """\
%% Made from the import contracts in pyproject.toml and from the imports themselves by tests/architecture/test_rooms.py.
flowchart TD
"""


def test_the_drawing_shows_the_rooms_and_imports_of_today() -> None:
    text = PAGE.read_text()
    (drawn,) = _DRAWING.findall(text)
    drawing = draw(_layers(), _without_shortcuts(_imports()), _pure())
    if UPDATE:
        PAGE.write_text(_DRAWING.sub(lambda _: drawing, text))
    assert drawn == drawing, f"draw it anew: RECONCILER_UPDATE_CASES=1 pytest {Path(__file__).relative_to(ROOT)}"


def test_the_page_says_where_to_look_in_every_room_and_what_each_folder_of_tests_is_for() -> None:
    text = PAGE.read_text()
    assert [room for layer in _layers() for room in layer if f"\n| {room} | " not in text] == []
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert {name for name in folders if f"`tests/{name}/`" not in text} == set()


def test_a_way_that_leads_through_other_rooms_is_not_drawn_twice() -> None:
    imports = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set[str]()}
    assert _without_shortcuts(imports) == {"top": {"middle"}, "middle": {"bottom"}, "bottom": set()}


def test_no_folder_has_many_modules() -> None:
    modules = Counter(path.parent.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))
    assert {folder: count for folder, count in modules.items() if count > MODULES_MAX} == {}


def test_no_module_is_long() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}


def test_all_dataclasses_are_of_our_own_kind_which_costs_little_at_the_start() -> None:
    theirs = re.compile(r"^from dataclasses import .*\bdataclass\b|\bdataclasses\.dataclass\b", re.MULTILINE)
    assert {path.name for path in PACKAGE.rglob("*.py") if theirs.search(path.read_text())} == {"records.py"}


def test_only_open_asks_which_toolstack_a_host_has() -> None:
    asks = re.compile(r"toolstack (?:[=!]=|(?:not )?in\b)|match \S*toolstack\b|isinstance\([^)]*(Observer|Executor)")
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if asks.search(path.read_text())}
    assert modules == {"open.py", "model/fleet.py"}


def draw(layers: list[list[str]], arrows: Mapping[str, set[str]], pure: set[str]) -> str:
    """The rooms as a Mermaid flowchart, from the top layer to the lowest; those that are pure look different."""
    lines = [f'    {room}["<b>{room}</b><br/>{_in_a_few_words(room)}"]' for layer in layers for room in layer]
    lines += [f"    {room} --> {' & '.join(sorted(below))}" for room, below in sorted(arrows.items()) if below]
    lines.append("    classDef pure stroke-dasharray: 4 4")
    lines.append(f"    class {','.join(room for layer in layers for room in layer if room in pure)} pure")
    return _HEAD + "\n".join(lines) + "\n"


def _contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return contracts


def _layers() -> list[list[str]]:
    (layers,) = (contract["layers"] for contract in _contracts() if contract["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def _pure() -> set[str]:
    """The rooms that may reach no file, process, clock or randomness, as a whole."""
    (modules,) = (one["source_modules"] for one in _contracts() if one["name"].startswith("pure:"))
    return {module.removeprefix("reconciler.") for module in modules if module.count(".") == 1}


def _imports() -> dict[str, set[str]]:
    """Which rooms each room imports from."""
    graph = grimp.build_graph("reconciler")
    rooms = {room for layer in _layers() for room in layer}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        here = _room(module)
        if here in rooms:
            there = {_room(imported) for imported in graph.find_modules_directly_imported_by(module)}
            found[here] |= (there & rooms) - {here}
    return found


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _without_shortcuts(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The imports less those for which there is a way through other rooms."""
    return {
        room: {other for other in below if not any(other in _below(imports, way) for way in below - {other})}
        for room, below in imports.items()
    }


def _below(imports: Mapping[str, set[str]], room: str) -> set[str]:
    return set(_walk(imports, room))


def _walk(imports: Mapping[str, set[str]], room: str) -> Iterator[str]:
    for other in imports[room]:
        yield other
        yield from _walk(imports, other)


def _in_a_few_words(room: str) -> str:
    """How the docstring of a room begins."""
    path = PACKAGE / room / "__init__.py"
    source = (path if path.exists() else PACKAGE / f"{room}.py").read_text()
    words = ast.get_docstring(ast.parse(source))
    assert words is not None, f"{room} does not say what it is for"
    return re.sub(r" ?\([^)]*\)|`", "", re.split(r"[:.;]\s|\.$", words, maxsplit=1, flags=re.MULTILINE)[0])


def test_no_pattern_of_a_script_has_a_bare_bar() -> None:
    """In `${line%%|*}` it is a choice for ksh, and so for the sh of some hosts."""
    found = [
        f"{path.name}: {match[0]}"
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in (".py", ".sh")
        for match in _CUT.finditer(path.read_text())
        if re.search(r"(?<!\\)\|", match[1])
    ]
    assert found == []
