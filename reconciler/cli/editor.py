"""The JSON Schemas beside a spec tree, which editors find by the first line of a file. `init` and `import` write both.

They lie in a folder whose name begins with a dot, so they are no part of the specs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from reconciler.show.documents import as_text
from reconciler.specs.schema import MODELS, SpecKind, schema
from reconciler.state_dir.files import create_file

FOLDER: Final = ".schema"


def schema_line(tree: Path, file: Path, kind: SpecKind) -> str:
    """Return the first line of a spec file, by which Taplo and Even Better TOML know what it is."""
    return f"#:schema {Path(os.path.relpath(tree, file.parent), FOLDER, f'{kind}.json').as_posix()}\n"


def schema_texts() -> dict[str, str]:
    """Return the schemas by their paths in a tree."""
    return {f"{FOLDER}/{kind}.json": as_text(schema(kind)) for kind in MODELS}


def write_schemas(tree: Path) -> bool:
    """Write the schemas of a tree that are not there yet. Returns whether there was one."""
    (tree / FOLDER).mkdir(parents=True, exist_ok=True)
    missing = {tree / name: text for name, text in schema_texts().items() if not (tree / name).exists()}
    for path, text in missing.items():
        create_file(path, text.encode())
    return bool(missing)
