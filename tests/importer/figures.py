"""Counts what is lost between config files and specs: `make import-figures` prints it, a test holds it at nothing.

Each file is imported, its spec resolved and rendered, and the real xl (see tests/texts/oracle) is asked what it makes
of the file before and after. Run as a module, with folders or files of xl.cfg, or with RECONCILER_CORPUS.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.importer.files import read_domain_file
from reconciler.importer.names import is_name, near_name
from reconciler.importer.tables import Imported, NotImportable, as_toml, host_needs, import_domain
from reconciler.model.domain import Domain, Image, driver_domain
from reconciler.model.fleet import HostSettings
from reconciler.model.paths import absolute, is_normal
from reconciler.specs.resolve import HostFolder, SpecFile, SpecTree, TreeFile, resolve
from reconciler.specs.resolve.host import resolve_host
from reconciler.specs.toml import parse_toml
from reconciler.texts.cfg_grammar import read_cfg
from reconciler.texts.cfg_reader import MEMORY_DEFAULT_KIB
from reconciler.texts.config_file import read_file, render_body
from reconciler.texts.devices import device_path
from tests.texts.oracle.real_xl import RealXl, Unavailable, real_xl

NOTHING_WHEN_EMPTY = ("b_info.cmdline", "b_info.ramdisk", "b_info.bootloader")
"""What is the same to libxl empty and left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a file; `lost` and `differs` say what is not as it was."""

    word: str  # same, held, differs, not imported, not valid, refused by xl and by import, refused by xl alone
    why: tuple[str, ...] = ()


def corpus() -> Path | None:
    """The folder of config files of other projects, which are not part of this repository."""
    folder = Path(os.environ.get("RECONCILER_CORPUS") or Path(__file__).parents[3] / "shared/corpus")
    return folder if folder.is_dir() else None


def files_in(folder: Path) -> list[Path]:
    """The config files in a folder, by their names or the keys in them."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path.suffix == ".cfg" or path.name.startswith(("xlexample", "xmexample"))]


def bare_host() -> HostSettings:
    """A host that allows nothing beyond the defaults."""
    found, _ = resolve_host("alpha", {"toolstack": "xl"})
    assert found is not None
    return found


def import_text(text: str, defaults: dict[str, Any] | None = None) -> Imported:
    """What becomes of a config file, as the command does it."""
    file = read_file(text, {})
    assert file.domain is not None, file.problem
    return import_domain(file.domain, defaults or {}, unsaid=file.unsaid, ignored=file.ignored)


def resolved(imported: Imported, defaults: dict[str, Any] | None = None) -> Domain:
    """The domain that the written spec asks for, on a host whose host.toml says what import printed and no more."""
    host = {"toolstack": "xl", **host_needs([imported.spec], bare_host())}
    spec = SpecFile(path="alpha/web.toml", data=parse_toml(as_toml(imported, "here")))
    folder = HostFolder(
        name="alpha", settings=SpecFile(path="alpha/host.toml", data=host), domains={imported.name: spec}
    )
    tree = SpecTree(
        settings=SpecFile(path="reconciler.toml", data={"defaults": defaults} if defaults else {}),
        profiles={},
        hosts={"alpha": folder},
    )
    resolution = resolve(replace(tree, files={path: TreeFile(sha256="0" * 64) for path in tree.image_paths()}))
    assert resolution.problems == (), resolution.problems
    return resolution.desired.hosts["alpha"].domains[imported.name]


def outcome(xl: RealXl, text: str) -> Outcome:
    """Import a file, and compare what the real xl makes of it with what it makes of the rendered spec."""
    before = xl.create(text)
    file = read_domain_file(text, "web.cfg", "web")
    if before.config is None:
        return Outcome(word="refused by both" if file.domain is None else "refused by xl alone", why=(before.said,))
    if file.domain is None:
        return Outcome(word="not imported", why=tuple(problem.detail for problem in file.problems))
    try:
        named = replace(file.domain, name=near_name(file.domain.name))
        imported = import_domain(named, {}, unsaid=file.unsaid)
    except NotImportable as error:
        return Outcome(word="not imported", why=(str(error),))
    try:
        rendered = render_body(_unstaged(resolved(imported)))
    except (AssertionError, ValueError) as error:
        return Outcome(word="not valid", why=(str(error),))
    after = xl.create(rendered)
    if after.config is None:
        return Outcome(word="not valid", why=(after.said,))
    was, now = (meant(filled_in(config)) for config in _as_open(text, before.config, after.config))
    lost = tuple(differences(was, now))
    if imported.table.get("reconcile") is False:
        return Outcome(word="held", why=imported.unsaid)
    return Outcome(word="differs" if lost else "same", why=lost)


def _unstaged(domain: Domain) -> Domain:
    """The domain with images where the file has them, since staged ones lie elsewhere on purpose."""

    def there(image: Image | None) -> Image | None:
        return image and replace(image, path=image.source)

    return replace(domain, kernel=there(domain.kernel), ramdisk=there(domain.ramdisk))


def filled_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of xl with what libxl fills in itself: specs always say memory and the full path of a disk."""
    built = dict(config.get("b_info", {}))
    memory_kib = built.get("max_memkb") or built.get("target_memkb") or MEMORY_DEFAULT_KIB
    built |= {"max_memkb": memory_kib, "target_memkb": built.get("target_memkb") or memory_kib}
    built |= {key: posixpath.normpath(built[key]) for key in ("kernel", "ramdisk") if built.get(key)}
    if not built.get("bootloader"):
        built.pop("bootloader_args", None)  # nobody is told them
    disks = [
        {**disk, "pdev_path": path if "script" in disk else _one_spelling(device_path(path))}
        for disk in config.get("disks", ())
        for path in (disk.get("pdev_path", ""),)
    ]
    return {**config, "b_info": built, **({"disks": disks} if disks else {})}


def _one_spelling(path: str) -> str:
    return absolute(path) if is_normal(path) else path


def _as_open(text: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Take out of both what the file leaves open, and xl draws by chance: uuids and macs."""
    values = read_cfg(text).values
    drawn = [] if "uuid" in values else ["c_info.uuid"]
    drawn += [] if is_name(str(values.get("name", ""))) else ["c_info.name"]  # the spec has a near one, which is said
    drawn += [f"nics[{at}].mac" for at, nic in enumerate(before.get("nics", ())) if "mac" not in nic]
    tpms = values.get("vtpm", ())
    drawn += [f"vtpms[{at}].uuid" for at, item in enumerate(tpms) if "uuid" not in str(item)]
    for config in (before, after):
        yield _without(config, drawn)


def _without(value: Any, paths: Iterable[str], here: str = "") -> Any:
    if isinstance(value, dict):
        return {
            key: _without(inner, paths, at)
            for key, inner in value.items()
            if (at := f"{here}.{key}" if here else key) not in paths
        }
    if isinstance(value, list):
        return [_without(inner, paths, f"{here}[{at}]") for at, inner in enumerate(value)]
    return value


def meant(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config of xl means: without empty texts where they are none, and blanks that scripts of vifs drop.

    Without the name of the dom0 as what serves a device, too, since that is who does if nobody is named.
    """
    disks, nics = ([_served(one) for one in config.get(kind, ())] for kind in ("disks", "nics"))
    nics = [{key: value.strip(" ") if isinstance(value, str) else value for key, value in nic.items()} for nic in nics]
    empty = [path for path in NOTHING_WHEN_EMPTY if config["b_info"].get(path.removeprefix("b_info.")) == ""]
    plain: dict[str, Any] = _without(config, empty)
    return {
        **plain,
        "disks": disks,
        "nics": [{key: value for key, value in nic.items() if value != ""} for nic in nics],
    }


def _served(device: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in device.items() if key != "backend_domname" or driver_domain(value) is not None}


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Name each place where two values of JSON differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif before != after:
        yield f"{path}: {before!r} -> {after!r}"


def main(arguments: list[str]) -> int:
    """Print the figures of these files, or of the corpus, and each file that is not as it was."""
    places: Iterable[Path] = [Path(argument) for argument in arguments] or filter(None, [corpus()])
    files = [path for place in places for path in (files_in(place) if place.is_dir() else [place])]
    try:
        xl = real_xl()
    except Unavailable as reason:
        files, said = [], str(reason)
    else:
        said = "RECONCILER_CORPUS names no folder of config files, and there is no ../shared/corpus"
    if not files:
        sys.stdout.write(f"No figures: {said}.\n")
        return 0
    counts: Counter[str] = Counter()
    for path in files:
        found = outcome(xl, path.read_bytes().decode("utf-8", "surrogateescape"))
        counts[found.word] += 1
        if found.word not in ("same", "refused by both"):
            sys.stdout.write(f"{path.parent.name}/{path.name}: {found.word}\n")
            for line in found.why:
                sys.stdout.write(f"    {re.sub(r'/tmp/[^:]*:', '', line.strip())}\n")
    accepted = sum(count for word, count in counts.items() if not word.startswith("refused"))
    sys.stdout.write(f"{counts['same']} of {accepted} files that xl accepts come back as they were; {dict(counts)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
