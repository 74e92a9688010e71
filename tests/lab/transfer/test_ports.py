"""A display with a websocket: new QEMU binds the ports itself, and old has them back if it keeps the guest."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.support.client import run, shell
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import Guest, new_process, said, upgrade, virtcpr

VNC, WEBSOCKET = 5942, 5742
DISPLAY = f"<graphics type='vnc' port='{VNC}' websocket='{WEBSOCKET}' listen='127.0.0.1' keymap='en-us'/>"
# Greets each port as its clients do (RFC 6143, RFC 6455); fails where one doesn't answer like a display.
CLIENT = f"""
import socket
UPGRADE = (b"GET / HTTP/1.1\\r\\nHost: lab\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n"
           b"Sec-WebSocket-Protocol: binary\\r\\n\\r\\n")
for port, hello, answer in (({VNC}, b"", b"RFB 003.008"), ({WEBSOCKET}, UPGRADE, b"HTTP/1.1 101")):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(hello)
        said = peer.recv(len(answer), socket.MSG_WAITALL)
        assert said == answer, (port, said)
"""
# Takes the websocket's port as soon as it is free.
SQUATTER = f"""
import signal, socket
while True:
    try:
        taken = socket.create_server(("127.0.0.1", {WEBSOCKET}))
        break
    except OSError:
        pass
signal.pause()
"""


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    shell("cat > /root/client.py", stdin=CLIENT)
    shell("cat > /root/squatter.py", stdin=SQUATTER)
    made = Guest(DISPLAY)
    yield made
    made.end()


def answers() -> bool:
    return run("python3", "/root/client.py", check=False).code == 0


def test_it_moves_there_and_back(guest: Guest) -> None:
    """Clients are served while new QEMU is made, by new."""
    guest.is_watched()
    for _ in range(2):
        report = upgrade(at={"compare": "python3 /root/client.py"})
        assert (report["domains"][0]["result"], report["domains"][0]["findings"]) == ("upgraded", []), report
        assert answers()
        guest.assert_well(new_process(report))


@pytest.mark.parametrize("step", ["attach", "compare", "received"])
def test_old_has_its_ports_back(guest: Guest, step: str) -> None:
    process = guest.is_watched()
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "nobody can connect" not in said(report)
    assert answers()
    guest.assert_well(process)


@pytest.mark.parametrize("step", ["migrate", "attach", "incoming"])
def test_recovery_gives_them_back(guest: Guest, step: str) -> None:
    """virtcpr is killed, and what held old's sockets with it."""
    process = guest.is_watched()
    before = "systemctl stop virtcpr-guardian* || :; kill -9 $PPID"
    assert virtcpr("upgrade", "small", "--yes", "--force", "--no-rehearse", at={step: before}).code != 0
    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
    assert [domain["settled"] for domain in settled["domains"]] == ["back"], settled
    assert answers()
    guest.assert_well(process)


def test_the_guardian_gives_them_back(guest: Guest) -> None:
    process = guest.is_watched()
    virtcpr("upgrade", "small", "--yes", "--force", "--no-rehearse", at={"attach": "kill -9 $PPID"})
    run("timeout", "60", "sh", "-c", "while ls /run/virtcpr/journal/*.json; do sleep 0.1; done")
    assert answers()
    guest.assert_well(process)


def test_a_port_that_somebody_else_took_meanwhile(guest: Guest) -> None:
    """The guest runs on, and the report says what doesn't answer; the next move has it answer again."""
    process = guest.is_watched()
    report = upgrade(at={"migrate": "python3 /root/squatter.py </dev/null >/dev/null 2>&1 & sleep 0.5"})
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
