"""A desktop as virt-install and virt-manager make it: SPICE with its channels, sound, QXL and two USB redirectors."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.support.client import run, shell, virsh
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, said, upgrade, virtcpr

PORT = 5950
DEVICES = f"""
<controller type='usb' model='qemu-xhci' ports='15'/>
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
<channel type='spiceport'>
  <source channel='org.spice-space.webdav.0'/><target type='virtio' name='org.spice-space.webdav.0'/>
</channel>
<graphics type='spice' port='{PORT}' autoport='no' listen='127.0.0.1'><image compression='off'/></graphics>
<sound model='ich9'/>
<video><model type='qxl'/></video>
<redirdev bus='usb' type='spicevmc'/>
<redirdev bus='usb' type='spicevmc'/>
"""
# Opens the main channel as far as the server's answer (spice-protocol, SpiceLinkHeader and SpiceLinkMess).
CLIENT = f"""
import socket, struct
link = struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
with socket.create_connection(("127.0.0.1", {PORT}), timeout=20) as peer:
    peer.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(link)) + link)
    magic, major, minor, size = struct.unpack("<4sIII", peer.recv(16, socket.MSG_WAITALL))
    assert magic == b"REDQ", magic
    error, = struct.unpack("<I", peer.recv(size, socket.MSG_WAITALL)[:4])
    assert error == 0, error
"""


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    shell("cat > /root/client.py", stdin=CLIENT)
    made = Guest(DEVICES)
    yield made
    made.end()


def answers() -> bool:
    return run("python3", "/root/client.py", check=False).code == 0


def codes(report: object) -> list[tuple[str, list[str]]]:
    assert isinstance(report, dict)
    return [(domain["result"], [f["code"] for f in domain["findings"]]) for domain in report["domains"]]


def test_it_moves_there_and_back(guest: Guest) -> None:
    """Clients are served while new QEMU is made, by new."""
    guest.is_watched()
    before = virsh("domdisplay", NAME)
    for _ in range(2):
        report = upgrade(at={"compare": "python3 /root/client.py"})
        assert codes(report) == [("upgraded", ["redirdev-spice"])], report
        assert answers()
        assert virsh("domdisplay", NAME) == before
        guest.assert_well(new_process(report))


@pytest.mark.parametrize("step", ["attach", "received"])
def test_old_has_its_port_back(guest: Guest, step: str) -> None:
    process = guest.is_watched()
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "nobody can connect" not in said(report)
    assert answers()
    guest.assert_well(process)


def test_recovery_gives_it_back(guest: Guest) -> None:
    process = guest.is_watched()
    before = "systemctl stop virtcpr-guardian* || :; kill -9 $PPID"
    virtcpr("upgrade", NAME, "--yes", "--force", "--no-rehearse", at={"attach": before})
    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
    assert [domain["settled"] for domain in settled["domains"]] == ["back"], settled
    assert answers()
    guest.assert_well(process)


def test_it_is_rehearsed(guest: Guest) -> None:
    guest.is_watched()
    planned = json.loads(run("virtcpr", "plan", NAME, "--force", "-o", "json", check=False).out)
    (domain,) = planned["domains"]
    assert domain["rehearsal"]["verdict"] == "go", planned


def test_old_qemu_does_not_spin_while_its_port_is_taken(guest: Guest) -> None:
    """Its main thread, over two seconds in which new QEMU waits."""
    guest.is_watched()
    ticks = "awk '{print $14 + $15}' /proc/$OLD/task/$OLD/stat"
    measured = f"{ticks} > /root/ticks; sleep 2; {ticks} >> /root/ticks"
    report = upgrade(at={"attach": measured})
    assert report["domains"][0]["result"] == "upgraded", report
    first, last = map(int, run("cat", "/root/ticks").out.split())
    assert last - first < 100, "half of two seconds"
