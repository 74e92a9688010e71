"""The host for tests: restored afresh once a module, stopped at the end whatever happens."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.host.support import chosen
from tests.host.support.chosen import MACHINE, RUN_ANY
from tests.host.support.machine import Host
from tests.host.support.remote import Remote
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.paths import HOST

# What of these tests a machine has that is given: no spare devices, no second kernel, no packages of another libvirt.
ON_ANY = frozenset(
    f"test_{name}.py"
    for name in (
        "confined_desktop",
        "emulators",
        "guardian",
        "made_ready",
        "scope",
        "transfer",
        "tuned",
        "up_and_down",
        "vsock",
        "way_back",
    )
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HOST in item.path.parents:
            item.add_marker(pytest.mark.host)
            item.add_marker(pytest.mark.timeout(1800))
            if not chosen.is_emulated() and item.path.name not in ON_ANY:
                item.add_marker(pytest.mark.skip(reason="it needs what only the emulated host has"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed comes with the guests' logs, the host's journal, and what its emulator and console said."""
    report = yield
    if report.when != "teardown" and report.failed and item.get_closest_marker("host"):
        for title, script in (
            ("the guests' logs", "tail -n 5 /var/log/libvirt/qemu/*.log"),
            ("the guests' consoles", "tail -n 60 /var/log/libvirt/qemu/*-serial.log"),
            ("the host's journal", "journalctl --no-pager -n 60 -o short-precise"),
        ):
            with client.on(MACHINE):
                report.sections.append((title, client.run("sh", "-c", script, check=False).out))
        report.sections += chosen.host().logs()
    return report


@pytest.fixture(scope="session")
def built_host() -> Iterator[Host | Remote]:
    """Fails where there can be no host, unless the environment says that none is wanted."""
    if not chosen.wanted():
        pytest.skip("VIRTCPR_HOST=none")
    made = chosen.host()
    made.build()
    yield made
    made.down()


@pytest.fixture(scope="module")
def host(built_host: Host | Remote) -> Iterator[Host | Remote]:
    """A fresh host with QEMU OLD installed, and this checkout; commands of ``client`` go to it."""
    built_host.reset()
    with client.on(MACHINE):
        client.shell(RUN_ANY)
        yield built_host


@pytest.fixture
def guests(host: Host | Remote) -> Iterator[Guests]:
    made = Guests()
    yield made
    made.end()
