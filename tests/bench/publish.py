"""``make performance``: the pages in docs and their pictures from the figures that tests.bench has written.

usage: python -m tests.bench.publish FILE [lab] [host]   which pages (the lab's, and the host's if FILE has its part)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import host_page
from tests.bench.__main__ import PARTS
from tests.bench.figures import HOST
from tests.bench.page import Results, page
from tests.bench.plots import PLOTS, draw
from tests.bench.results import read
from tests.paths import ROOT

DOCS = ROOT / "docs"
LAB = "lab"


def main(file: Path, pages: Sequence[str]) -> None:
    results = Results(read(file))
    pages = pages or (LAB, *(part for part in results.data["parts"] if part == HOST))
    if LAB in pages:
        draw(results, DOCS / "performance")
        pictures = {name: what for name, (_, what) in PLOTS.items()}
        wanted = [part for part in PARTS if part != HOST]
        (DOCS / "performance.md").write_text(page(results, pictures, wanted))
    if HOST in pages:
        (DOCS / "performance-host.md").write_text(host_page.page(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
