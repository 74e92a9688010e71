"""Everything is killed at every moment of a save, a restore and an upgrade by mode reboot: nothing of a guest is lost
that isn't lost by nature, nobody has it twice, and whoever comes next finishes.

By nature: a QEMU that is killed before its state is whole takes its guest with it, and so does one that was told to
run.  `make chaos` runs every case, `make test` some of each kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.lab.support import chaos_moments_reboot as moments
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.chaos import FULL, SCRIPTS, Host
from tests.lab.support.chaos_matrix import REBOOTS
from tests.lab.support.chaos_moments import LOST, NEW, OLD
from tests.lab.support.chaos_moments_reboot import MOMENTS, WAITS
from tests.lab.support.client import Witness, run, shell
from tests.lab.support.guests import SMALL, Shape
from tests.lab.support.machine import Lab

IN_PLACE = replace(SMALL, name="inplace", number=16, prepared=False, ram_file=True)
IN_FILE = replace(SMALL, name="infile", number=17, prepared=False)
SHAPES = {"in-place": IN_PLACE, "in-file": IN_FILE}


@dataclass(frozen=True)
class Case:
    """When, who is killed, and who settles it where that is virtcpr; ``ram``: whose."""

    command: str
    moment: str
    victims: tuple[str, ...]
    then: str
    ram: str

    @property
    def column(self) -> str:
        return " ".join((self.command, *self.victims, f"→{self.then}" if self.then else "")).strip()

    @property
    def name(self) -> str:
        words = (self.command, *self.victims, self.then, self.moment.replace(" ", "-"), self.ram)
        return "-".join(filter(None, words))

    @property
    def end(self) -> str:
        end = moments.end(self.command, moments.moment_of(self.command, self.moment), self.victims)
        return NEW if self.then == "restore" and end == WAITS else end


def everything() -> Iterator[Case]:
    """Each moment with each kind of kill; the guests take turns, and so do those who settle where QEMU dies, too."""
    turn = 0
    for command, names in MOMENTS.items():
        for moment in names:
            kinds: list[tuple[tuple[str, ...], str]] = [
                (("virtcpr",), "guardian"),
                (("virtcpr",), "recover"),
                (("libvirtd",), ""),
            ]
            if qemu := moments.alive(moment):
                kinds += [((qemu,), ""), (("virtcpr", qemu), ("guardian", "recover")[turn % 2])]
            if moments.end(command, moment, ("virtcpr",)) == WAITS:
                kinds.append((("virtcpr",), "restore"))
            for victims, then in kinds:
                turn += 1
                ram = "in-place" if moment.name == "in keep" else tuple(SHAPES)[turn % 2]
                yield Case(command, moment.name, victims, then, ram)


SOME = (
    Case("save", "in save", ("virtcpr",), "guardian", "in-file"),
    Case("save", "old stopped", ("virtcpr",), "recover", "in-place"),
    Case("save", "record saved", ("virtcpr", "old"), "guardian", "in-place"),
    Case("upgrade", "in create", ("virtcpr",), "guardian", "in-place"),
    Case("restore", "in load", ("virtcpr", "new"), "restore", "in-file"),
    Case("upgrade", "after create", ("libvirtd",), "", "in-file"),
    Case("upgrade", "in strip", ("virtcpr",), "guardian", "in-file"),
)
CASES = list(everything() if FULL else SOME)


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> Iterator[dict[str, Host]]:
    witness = Witness()
    made = {ram: Host(shape, witness) for ram, shape in SHAPES.items()}
    shell("systemctl restart libvirtd.service")  # it finds the hooks
    yield made
    for host in made.values():
        host.close()


def strike(shape: Shape, case: Case) -> dict[str, Any]:
    order = {"domain": shape.name, "emulators": [EMULATOR, REBUILT], "then": case.then}
    order |= {"command": case.command, "moment": case.moment, "victims": case.victims}
    done = run("python3", f"{SCRIPTS}/strike_reboot.py", stdin=json.dumps(order), timeout=300)
    seen: dict[str, Any] = json.loads(done.out)
    return seen


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_chaos_reboot(hosts: dict[str, Host], case: Case) -> None:
    host = hosts[case.ram]
    host.ready()
    host.watched = False
    REBOOTS.add(case.moment, case.column, "FAILED")

    seen = strike(host.shape, case)

    print(seen["words"])
    assert_as_wanted(case, seen)
    outcome = outcome_of(host, seen)
    REBOOTS.add(case.moment, case.column, outcome)
    assert outcome == case.end, seen


def assert_as_wanted(case: Case, seen: dict[str, Any]) -> None:
    """It was killed at the moment that was meant, as that is told of in ``moments_reboot``."""
    moment = moments.moment_of(case.command, case.moment)
    assert (seen["stage"] or "").partition(" ")[0] == (moment.stage.value if moment.stage else ""), seen
    assert seen["qemus"] == bool(moments.alive(moment)) or moment.name == "in create", seen
    assert (seen["code"] == -9) == ("virtcpr" in case.victims), seen


def outcome_of(host: Host, seen: dict[str, Any]) -> str:
    """Who has the guest.  Where it went on: one process, nothing of it is wrong, and nothing of virtcpr's is left."""
    assert seen["most"] == 1, seen
    for when in ("settled", "now"):
        assert_nothing_left(seen[when], waits=when == "settled" and seen["waited"])
    before, now = seen["before"], seen["now"]
    assert (now["uuid"], now["persistent"]) == (before["uuid"], before["persistent"]), seen
    if not now["active"]:
        assert now["qemus"] == [], seen
        return LOST
    assert now["qemus"] == [now["pid"]], seen
    assert (now["running"], now["mode"]) == (True, "normal"), seen
    assert host.assert_well() == 1, seen
    if now["pid"] == before["pid"]:
        return OLD
    return WAITS if seen["waited"] else NEW


def assert_nothing_left(now: dict[str, Any], *, waits: bool) -> None:
    assert (now["argument"], now["argument_in_status"]) == (False, False), now
    assert (now["left"], now["starting"], now["leftovers"], now["others"]) == ([], [], [], []), now
    if waits:
        assert now["active"] is False, now
        assert now["qemus"] == [], now
        assert now["saved"] == [now["uuid"]], now
    else:
        assert (now["saved"], now["kept"]) == ([], []), now
