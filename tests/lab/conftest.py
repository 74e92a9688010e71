"""The lab for tests: booted afresh once a module, stopped at the end whatever happens."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.lab.support import client
from tests.lab.support.client import LabCommandError, Witness
from tests.lab.support.guests import Shape
from tests.lab.support.machine import Lab, default_store

if TYPE_CHECKING:
    from tests.lab.support.chaos import Host


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/lab" in str(item.path):
            item.add_marker(pytest.mark.lab)


def pytest_configure() -> None:
    """What virtcpr reported is shown of a test that failed."""
    logging.getLogger("tests.lab").setLevel(logging.INFO)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed, or whose guests did not come up, comes with the guests' logs and the lab's journal."""
    report = yield
    if report.when != "teardown" and report.failed and item.get_closest_marker("lab"):
        consoles = client.run("sh", "-c", "tail -n 5 /var/log/libvirt/qemu/*.log", check=False)
        report.sections.append(("the guests' logs", consoles.out))
        journal = client.run("journalctl", "--no-pager", "-n", "40", "-o", "short-precise", check=False)
        report.sections.append(("the lab's journal", journal.out))
    return report


@pytest.fixture(scope="session")
def built_lab() -> Iterator[Lab]:
    """With tests in several processes (pytest-xdist) each has its own."""
    lab = Lab(default_store())
    lab.build()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        lab = lab.another(os.getppid(), worker)
        os.environ["VIRTCPR_LAB"] = str(lab.store)  # for what runs commands in it
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def lab(built_lab: Lab) -> Lab:
    """A fresh system with QEMU OLD installed, and this checkout."""
    built_lab.reset()
    return built_lab


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    """A host whose guest survives whatever is killed, for all tests of a module."""
    from tests.lab.support.chaos import Host

    made = Host()
    yield made
    made.close()


def _boot_again(shape: Shape, error: LabCommandError) -> None:
    state = client.virsh("domstate", "--reason", shape.name).strip()
    log = client.run("tail", "-n", "5", f"/var/log/libvirt/qemu/{shape.name}.log", check=False).out
    warnings.warn(f"{shape.name} did not boot ({error}); it is {state}; its log:\n{log}", stacklevel=2)
    client.virsh("start" if state.startswith("shut off") else "reset", shape.name)


class Guests:
    """The guests of one test, and the observer that watches them."""

    def __init__(self) -> None:
        self.witness = Witness()
        self._started: list[Shape] = []

    def start(self, *shapes: Shape, watch: bool = True) -> None:
        """Unwatched with one vCPU only: with more, TCG now and then ends while they boot (test_kinds), unnoticed."""
        assert watch or all(shape.vcpus == 1 for shape in shapes), shapes
        for shape in shapes:
            self._started.append(shape)
            client.start(shape)
        if watch:
            self.watch(*shapes)

    def watch(self, *shapes: Shape) -> None:
        """Wait until they are up, and watch them from then on.

        A guest that hangs, or ends, while it boots, which has nothing to do with virtcpr, gets a second chance, and the
        run's summary tells of it.
        """
        for shape in shapes:
            try:
                self._await_boot(shape)
            except LabCommandError as error:
                _boot_again(shape, error)
                self.witness.watch(shape, timeout=90)
        self.witness.mark()

    def _await_boot(self, shape: Shape) -> None:
        """Raises LabCommandError after 90 s, or soon if it has ended."""
        for last in (False, False, True):
            try:
                self.witness.watch(shape, timeout=30)
                return
            except LabCommandError:
                if last or not client.virsh("domstate", shape.name).startswith("running"):
                    raise

    def adopt(self, shape: Shape) -> None:
        """A guest that the test starts by itself: it is removed with the others."""
        self._started.append(shape)

    def end(self) -> None:
        self.witness.close()
        for shape in self._started:
            client.remove(shape.name)

    def assert_well(self, shape: Shape, *, beats: int = 30) -> None:
        """The guest goes on: it beats, one of it only, the connection stands, RAM and disks are whole."""
        self.witness.beats(shape, beats)
        report = self.witness.report(shape)
        assert report["tcp_alive"], report
        assert report["ram_errors"] == 0, report
        assert report["disk_errors"] == 0, report
        assert report["failures"] == 0, report
        assert report["duplicates_or_reordered"] == 0, report
        assert len(report["boot_marks_seen"]) == 1, report


@pytest.fixture
def guests(lab: Lab) -> Iterator[Guests]:
    made = Guests()
    yield made
    made.end()
