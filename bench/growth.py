"""`python -m bench.growth [DOMAINS...]`: how plans grow with the fleet, as a table in Markdown and as a picture."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.measure import Figure
from bench.picture import draw
from bench.plans import plans

_SIZES = (100, 1_000, 10_000)
_ROUNDS = 3
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "growth.svg"


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or list(_SIZES)
    figures = {size: _of_size(size) for size in sizes}
    works = [figure.what for figure in figures[sizes[0]]]
    print("| domains | the floor |" + "".join(f" {what} |" for what in works))
    print("|---" * (len(works) + 2) + "|")
    for size, row in figures.items():
        cells = "".join(f" {figure.seconds:.2f} s, {figure.ratio:.1f} × |" for figure in row)
        print(f"| {size:,} | {row[0].floor:.2f} s |{cells}")
    lines = {what: [(size, row[number].seconds) for size, row in figures.items()] for number, what in enumerate(works)}
    PICTURE.write_text(draw({"the floor": [(size, row[0].floor) for size, row in figures.items()], **lines}))


def _of_size(domains: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return list(plans(Path(folder), domains, rounds=_ROUNDS))


if __name__ == "__main__":
    main()
