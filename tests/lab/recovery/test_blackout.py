"""virtcpr is killed at every moment of a blackout of mode reboot: libvirt's daemon runs afterwards, with all of its
sockets, and so does the guest.

The blackout is the one before anything is done to a guest, in which the daemon finds virtcpr's hook: no record of a
guest tells anybody that something was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.inside.die_in_blackout import MOMENTS
from tests.lab.support import client
from tests.lab.support.chaos import FULL, SCRIPTS
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from tests.paths import INSIDE

GUEST = replace(SMALL, name="dark", number=19, prepared=False)
SECONDS = 60.0
SOCKETS = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
COMMANDS = {
    "upgrade": ("upgrade", "--mode", "reboot", "--yes", "--no-rehearse"),
    "save": ("save", "--yes"),
}
EVERY = [(moment, command) for command in COMMANDS for moment in MOMENTS]
CASES = [case for case in EVERY if FULL or case[1] == "upgrade" or case[0] == "in stop"]


@pytest.fixture(scope="module")
def dark(lab: Lab) -> Iterator[str]:
    client.start(GUEST)
    shell(f"mkdir -p {SCRIPTS}; cat > {SCRIPTS}/die.py", stdin=(INSIDE / "die_in_blackout.py").read_text())
    client.install_qemu("NEW")
    yield GUEST.name
    client.remove(GUEST.name)


def unknown_hook() -> None:
    """libvirt's daemon, which runs, doesn't know virtcpr's hook: each command restarts it first."""
    shell("rm -f /etc/libvirt/hooks/qemu.d/virtcpr; systemctl restart libvirtd.service")


def slowly(seconds: str) -> None:
    """The daemon takes so long to end; meanwhile it answers, and has its lock."""
    directory = "/run/systemd/system/libvirtd.service.d"
    shell(
        f"mkdir -p {directory}; cat > {directory}/slow.conf; systemctl daemon-reload",
        stdin=f"[Service]\nExecStop=sleep {seconds}\n",
    )


def die(moment: str, *arguments: str) -> None:
    done = run("python3", f"{SCRIPTS}/die.py", moment, *arguments, check=False)
    assert done.code in (-9, 137), done


def await_guardian() -> None:
    """It has seen the end, and done what it does."""
    deadline = time.monotonic() + SECONDS
    while shell("systemctl list-units --no-legend 'virtcpr-guardian-*'").strip():
        assert time.monotonic() < deadline, "the guardian doesn't end"
        time.sleep(0.2)


@pytest.mark.parametrize(("moment", "command"), CASES, ids=["-".join(case) for case in CASES])
def test_the_daemon_comes_back(dark: str, moment: str, command: str) -> None:
    unknown_hook()
    slowly("3" if moment == "in stop" else "0")
    before = client.pid(dark)

    die(moment, *COMMANDS[command], dark)

    await_guardian()
    if moment == "in stop":
        time.sleep(5)  # by now it would have ended
    assert (
        run("systemctl", "is-active", "libvirtd.service", *SOCKETS.split(), check=False).out.split() == ["active"] * 4
    )
    assert (virsh("domstate", dark).strip(), client.pid(dark)) == ("running", before)
