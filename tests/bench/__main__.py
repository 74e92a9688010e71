"""``make bench``: what a move costs, measured in the lab; one part on the emulated host.

usage: python -m tests.bench [PART…] [--json FILE]

All in one run and in turn, on the same machine: quote the ratios and medians, not the milliseconds.  FILE gets the
figures of these parts beside those that are in it, so that parts may be run one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.bench import commands, copies, desktop, host, live, many, parked, reboot, results, single, sizes
from tests.bench.figures import HOST, Item, Row
from tests.lab.support.builds import REBUILD
from tests.lab.support.client import LabCommandError, run
from tests.lab.support.kept import LabError
from tests.lab.support.machine import Lab, default_store

PARTS: Mapping[str, Callable[[], Iterator[Item]]] = {
    "single": single.rows,
    "ram": sizes.ram,
    "vcpus": sizes.vcpus,
    "devices": sizes.devices,
    "pages": sizes.pages,
    "copies": copies.rows,
    "desktop": desktop.rows,
    "live": live.rows,
    "parked": parked.rows,
    **{f"idle-{count}": partial(many.rows, count, busy=False) for count in many.COUNTS},
    **{f"busy-{count}": partial(many.rows, count, busy=True) for count in many.COUNTS},
    "commands": commands.rows,
    "reboot": reboot.rows,
    HOST: host.rows,
}


@contextlib.contextmanager
def fresh(lab: Lab, name: str) -> Iterator[None]:
    """A fresh system where this part is measured: the lab, or the host, which gets the machine for itself."""
    if name == HOST:
        lab.down()
        with host.fresh():
            yield
    else:
        lab.reset()
        yield


def measure(lab: Lab, name: str, file: Path | None) -> bool:
    """One part, on a fresh system; whether all of its figures are within their bounds."""
    items = []
    with fresh(lab, name):
        run("python3", "-", stdin=REBUILD)
        print(f"== {name}", flush=True)
        about = results.host() if name == HOST else results.machine()
        for item in PARTS[name]():
            print(item, flush=True)
            items.append(item)
            if file is not None:  # what is there is kept if a later measurement fails
                results.write(file, name, items, about)
    return all(item.within for item in items if isinstance(item, Row))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure what a move costs.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)} (all of them)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the figures into this file, too")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    lab = Lab(default_store())
    try:
        within = [measure(lab, name, options.json) for name in options.parts or PARTS]
        return 0 if all(within) else 1
    except (LabError, LabCommandError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        lab.down()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
