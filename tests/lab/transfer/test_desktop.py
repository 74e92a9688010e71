"""A desktop with all that mode transfer carries, at once: UEFI for Secure Boot, a TPM, SPICE with two USB redirectors
and its channels, QXL, a VNC display with a websocket, and two shared directories, of which one is mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.support import desktops, served
from tests.lab.support.chaos import FULL
from tests.lab.support.client import run, virsh
from tests.lab.support.desktops import REDIRECTOR, SPICE, VNC, WEBSOCKET
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, rehearsed, upgrade
from tests.lab.support.served import Served, picture
from tests.paths import INSIDE

MOVES = 20 if FULL else 2  # there and back
SPICE_CLIENT, VNC_CLIENT = ((INSIDE / name).read_text() for name in ("spice_client.py", "greet_vnc.py"))


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    made = desktops.made()
    yield made
    made.end()


@pytest.fixture
def use(guest: Guest) -> Served:
    return Served(guest, "tpm", "share")


def anew(seen: list[str]) -> list[str]:
    """Without the domain's id, which each start changes."""
    return [re.sub(rf"\b\d+-{NAME}\b", NAME, line) for line in seen]


def assert_viewed() -> None:
    run("python3", "-", str(SPICE), "", stdin=SPICE_CLIENT)
    run("python3", "-", "127.0.0.1", str(VNC), str(WEBSOCKET), stdin=VNC_CLIENT)


def test_it_moves_there_and_back(use: Served) -> None:
    use.watched()
    assert rehearsed() == "go"
    before, displays = picture(), virsh("domdisplay", "--all", NAME)
    for _ in range(MOVES):
        report = upgrade()
        (domain,) = report["domains"]
        codes = [finding["code"] for finding in domain["findings"]]
        assert (domain["result"], codes) == ("upgraded", ["redirdev-spice"]), report
        use.assert_served(new_process(report))
        assert_viewed()
        assert (picture(), virsh("domdisplay", "--all", NAME)) == (before, displays)


def test_virsh_works_on_it(use: Served) -> None:
    """What it does with a guest that has never been moved, it does with this one."""
    process = use.watched()
    virsh("suspend", NAME)
    virsh("resume", NAME)
    virsh("snapshot-create-as", NAME, "s1", "--disk-only", "--atomic")
    virsh("blockcommit", NAME, "vda", "--active", "--pivot", "--wait")
    virsh("snapshot-delete", NAME, "s1", "--metadata")
    use.assert_served(process)
    run("virsh", "-q", "detach-device", NAME, "/dev/stdin", "--live", stdin=REDIRECTOR)
    run(
        "timeout", "20", "sh", "-c", f"until [ $(virsh dumpxml {NAME} | grep -c '<redirdev ') = 1 ]; do sleep 0.1; done"
    )
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    use.assert_served(new_process(report))


def test_it_is_shut_down_and_started(use: Served) -> None:
    before = anew(picture())
    virsh("shutdown", NAME, "--mode", "acpi")
    use.guest.assert_ended()
    run("timeout", "20", "sh", "-c", f"while pgrep -x '{served.HELPERS}'; do sleep 0.1; done")
    use.assert_served(use.watched())
    assert anew(picture()) == before
    assert_viewed()
