"""The host for tests: restored afresh once a module, stopped at the end whatever happens."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.host.support.machine import Host, wanted
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import Machine
from tests.lab.support.guests import WITNESS
from tests.lab.support.machine import default_store
from tests.paths import HOST

# The observer looks less often: at the lab's pace it takes a third of an emulated CPU.
OBSERVER = (
    f"import sys; sys.path.insert(0, '{WITNESS}'); import watch; watch.TICK = 0.1; watch.ECHO_EVERY = 0.5; watch.main()"
)
# For the builds that tests make: a guest's profile lets it run only the names that libvirt knows.
RUN_ANY = (
    "mkdir -p /etc/apparmor.d/local/abstractions; "
    "echo '/usr/bin/qemu-system-x86_64-* rmix,' >> /etc/apparmor.d/local/abstractions/libvirt-qemu"
)
MACHINE = Machine(HOST / "host", slowness=10, observer=("python3", "-c", OBSERVER))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HOST in item.path.parents:
            item.add_marker(pytest.mark.host)
            item.add_marker(pytest.mark.timeout(1800))


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
        report.sections += Host(default_store()).logs()
    return report


@pytest.fixture(scope="session")
def built_host() -> Iterator[Host]:
    """Fails where there can be no host, unless the environment says that none is wanted."""
    if not wanted():
        pytest.skip("VIRTCPR_HOST=none")
    made = Host(default_store())
    made.build()
    yield made
    made.down()


@pytest.fixture(scope="module")
def host(built_host: Host) -> Iterator[Host]:
    """A fresh host with QEMU OLD installed, and this checkout; commands of ``client`` go to it."""
    built_host.reset()
    with client.on(MACHINE):
        client.shell(RUN_ANY)
        yield built_host


@pytest.fixture
def guests(host: Host) -> Iterator[Guests]:
    made = Guests()
    yield made
    made.end()
