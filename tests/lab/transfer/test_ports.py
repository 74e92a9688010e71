"""Displays whose TCP ports new QEMU binds itself, and old has them back if it keeps the guest.

VNC with a websocket; and a desktop as virt-install and virt-manager make it: SPICE with its channels, sound, QXL and
two USB redirectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.support.chaos import FULL
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.desktops import DESKTOP, SPICE, VNC, WEBSOCKET
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, said, upgrade, virtcpr
from tests.paths import INSIDE

PORTS = (str(VNC), str(WEBSOCKET))
FUTURE = "from __future__ import annotations\n"
SPICE_CLIENT, VNC_CLIENT = ((INSIDE / name).read_text() for name in ("spice_client.py", "greet_vnc.py"))
# Takes a port as soon as it is free.
SQUATTER = """
import signal, socket, sys
open("/root/squatting", "w").close()
while True:
    try:
        taken = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        break
    except OSError:
        pass
signal.pause()
"""


@dataclass(frozen=True)
class Display:
    devices: str
    client: str
    words: tuple[str, ...] = ()  # of the client's command line
    warnings: tuple[str, ...] = ()


DISPLAYS = {
    "websocket": Display(
        f"<graphics type='vnc' port='{VNC}' websocket='{WEBSOCKET}' listen='127.0.0.1' keymap='en-us'/>",
        VNC_CLIENT,
        ("127.0.0.1", *PORTS),
    ),
    "every IPv6": Display(
        f"<graphics type='vnc' port='{VNC}' websocket='{WEBSOCKET}' listen='::'/>", VNC_CLIENT, ("::1", *PORTS)
    ),
    "every IPv4": Display(
        f"<graphics type='spice' port='{SPICE}' autoport='no' listen='0.0.0.0'/>", SPICE_CLIENT, (str(SPICE), "")
    ),
    "spice": Display(DESKTOP, SPICE_CLIENT, (str(SPICE), ""), ("redirdev-spice",)),
}


@pytest.fixture(scope="module", params=("websocket", "spice"))
def display(request: pytest.FixtureRequest) -> Display:
    return DISPLAYS[request.param]


@pytest.fixture(scope="module")
def guest(lab: Lab, display: Display) -> Iterator[Guest]:
    client = f"import sys; sys.argv[1:] = {list(display.words)!r}\n" + display.client.replace(FUTURE, "")
    shell("cat > /root/client.py", stdin=client)
    shell("cat > /root/squatter.py", stdin=SQUATTER)
    made = Guest(display.devices)
    yield made
    made.end()


def answers() -> bool:
    return run("python3", "/root/client.py", check=False).code == 0


def test_it_moves_there_and_back(guest: Guest, display: Display) -> None:
    """Clients are served while new QEMU is made, by new."""
    guest.is_watched()
    before = virsh("domdisplay", NAME)
    for _ in range(2):
        report = upgrade(at={"compare": "python3 /root/client.py"})
        (domain,) = report["domains"]
        assert (domain["result"], [f["code"] for f in domain["findings"]]) == ("upgraded", [*display.warnings]), report
        assert answers()
        assert virsh("domdisplay", NAME) == before
        guest.assert_well(new_process(report))


@pytest.mark.parametrize("step", ["attach", "compare", "received"] if FULL else ["received"])
def test_old_has_its_ports_back(guest: Guest, step: str) -> None:
    process = guest.is_watched()
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "nobody can connect" not in said(report)
    assert answers()
    guest.assert_well(process)


@pytest.mark.parametrize("step", ["migrate", "attach", "incoming"] if FULL else ["attach"])
def test_recovery_gives_them_back(guest: Guest, step: str) -> None:
    """virtcpr is killed, and what held old's sockets with it."""
    process = guest.is_watched()
    before = "systemctl stop virtcpr-guardian* || :; kill -9 $PPID"
    assert virtcpr("upgrade", NAME, "--yes", "--force", "--no-rehearse", at={step: before}).code != 0
    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
    assert [domain["settled"] for domain in settled["domains"]] == ["back"], settled
    assert answers()
    guest.assert_well(process)


def test_the_guardian_gives_them_back(guest: Guest) -> None:
    process = guest.is_watched()
    killed = virtcpr("upgrade", NAME, "--yes", "--force", "--no-rehearse", at={"attach": "kill -9 $PPID"})
    assert killed.code != 0
    run("timeout", "60", "sh", "-c", "while ls /run/virtcpr/journal/*.json; do sleep 0.1; done")
    assert answers()
    guest.assert_well(process)


def test_it_is_rehearsed(guest: Guest) -> None:
    guest.is_watched()
    planned = json.loads(run("virtcpr", "plan", NAME, "--force", "-o", "json", check=False).out)
    (domain,) = planned["domains"]
    assert domain["rehearsal"]["verdict"] == "go", planned


def test_old_qemu_does_not_spin_while_its_ports_are_taken(guest: Guest) -> None:
    """Its main thread, over two seconds in which new QEMU waits."""
    guest.is_watched()
    ticks = "awk '{print $14 + $15}' /proc/$OLD/task/$OLD/stat"
    measured = f"{ticks} > /root/ticks; sleep 2; {ticks} >> /root/ticks"
    report = upgrade(at={"attach": measured})
    assert report["domains"][0]["result"] == "upgraded", report
    first, last = map(int, run("cat", "/root/ticks").out.split())
    assert last - first < 100, "half of two seconds"


@pytest.mark.parametrize("display", ["every IPv6", "every IPv4"], indirect=True)
def test_a_display_at_every_address(guest: Guest) -> None:
    process = guest.is_watched()
    report = upgrade(at={"compare": "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert answers()
    guest.assert_well(process)
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    assert answers()


@pytest.mark.parametrize("display", ["websocket"], indirect=True)
def test_a_port_that_somebody_else_took_meanwhile(guest: Guest, display: Display) -> None:
    """The guest runs on, and the report says what doesn't answer; the next move has it answer again."""
    process = guest.is_watched()
    squat = (
        f"rm -f /root/squatting; python3 /root/squatter.py {WEBSOCKET} </dev/null >/dev/null 2>&1 & "
        "until [ -e /root/squatting ]; do sleep 0.05; done"
    )
    report = upgrade(at={"migrate": squat})
    try:
        assert report["domains"][0]["result"] == "rolled-back", report
        assert f"nobody can connect to port {WEBSOCKET} of its displays: Address already in use" in said(report)
        assert not answers()
        guest.assert_well(process)
    finally:
        run("pkill", "-f", "/root/squatter.py")
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    assert answers()
    guest.assert_well(new_process(report))
