"""Where the tests find what isn't Python: the checkout, the lab, recorded data."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
LAB = ROOT / "tests/lab"
HOST = ROOT / "tests/host"
INSIDE = LAB / "inside"  # what is run in the lab
DATA = ROOT / "tests/unit/data"


def lab_module(name: str) -> Path:
    """The test module of that name, in whichever folder of the lab's or the host's tests it is."""
    (path,) = (*LAB.rglob(name), *HOST.rglob(name))
    return path
