"""``make performance``: docs/performance.md and its pictures from the figures that tests.bench has written.

usage: python -m tests.bench.publish FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.__main__ import PARTS
from tests.bench.page import Results, page
from tests.bench.plots import PLOTS, draw
from tests.bench.results import read
from tests.paths import ROOT

DOCS = ROOT / "docs"


def main(file: Path) -> None:
    results = Results(read(file))
    draw(results, DOCS / "performance")
    (DOCS / "performance.md").write_text(page(results, {name: what for name, (_, what) in PLOTS.items()}, PARTS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
