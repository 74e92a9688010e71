"""Mode reboot ends the guest before new QEMU loads its state: a twin is saved and loaded first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run
from tests.lab.support.guests import DATABASE, LEGACY, OFFICE, SMALL, Shape
from tests.lab.support.leftovers import qemu_processes
from tests.lab.support.rehearsals import REFUSED, untouched
from tests.paths import INSIDE

SCRIPT = INSIDE / "rehearse.py"
LARGE = replace(SMALL, name="large", number=14, memory_mib=4096)
PRIVATE = replace(SMALL, name="private", number=15, prepared=False)  # mode reboot needs no shared memory
SECONDS = 5.0  # where nothing else runs it is less than one


def rehearse(*shapes: Shape) -> Mapping[str, Any]:
    names = [shape.name for shape in shapes]
    done = run("python3", "-", "reboot", *names, stdin=SCRIPT.read_text())
    shown: Mapping[str, Any] = json.loads(done.out)
    return shown


def pids(*shapes: Shape) -> list[int]:
    return [client.pid(shape.name) for shape in shapes]


def assert_nothing_left(*shapes: Shape) -> None:
    assert all(untouched(shape.name) for shape in shapes)
    assert qemu_processes() == len(shapes)
    assert run("find", "/run/virtcpr", "-name", "scratch-*").out == ""


@pytest.mark.thorough
def test_go_for_guests_of_all_kinds(guests: Guests) -> None:
    client.install_qemu("OLD")
    shapes = (SMALL, OFFICE, DATABASE, LEGACY, PRIVATE)
    guests.start(*shapes)
    before = pids(*shapes)
    client.install_qemu("NEW")
    guests.witness.mark()

    shown = rehearse(*shapes)

    assert {name: (one["verdict"], one["words"]) for name, one in shown.items()} == {
        shape.name: ("go", "") for shape in shapes
    }
    assert pids(*shapes) == before
    assert_nothing_left(*shapes)
    for shape in shapes:
        guests.assert_well(shape)


def test_no_go_in_the_words_of_new_qemu(guests: Guests) -> None:
    client.install_qemu("NEW")
    guests.start(SMALL)
    before = pids(SMALL)
    client.install_qemu("NEXT")
    guests.witness.mark()

    shown = rehearse(SMALL)[SMALL.name]

    assert shown["verdict"] == "no-go"
    assert REFUSED in shown["words"]
    assert "warning" not in shown["words"]
    assert pids(SMALL) == before
    assert_nothing_left(SMALL)
    guests.assert_well(SMALL)


def test_the_guests_memory_costs_neither_time_nor_memory(guests: Guests) -> None:
    """Read to its end, it would cost more seconds than that, and all of its size."""
    client.install_qemu("OLD")
    guests.start(SMALL, LARGE)
    client.install_qemu("NEW")

    shown = rehearse(SMALL, LARGE)

    assert {one["verdict"] for one in shown.values()} == {"go"}
    assert shown[LARGE.name]["seconds"] < SECONDS, shown
    assert shown[LARGE.name]["kib"] < shown[SMALL.name]["kib"] + LARGE.memory_mib * 1024 / 10, shown
    assert_nothing_left(SMALL, LARGE)
