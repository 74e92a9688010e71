"""`upgrade --mode reboot` of guests that sleep, or are suspended: as they were before, or as was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from tests.lab.support.reboots import define, nothing_left, reboot
from tests.paths import INSIDE

SLEEPER = replace(SMALL, name="sleeper", number=22, prepared=False, agent=True, packed=True)
# Each sleeps only once: the lab's kernel wakes up at once from its second sleep, moved or not.
DREAMER = replace(SLEEPER, name="dreamer", number=23)
NODDER = replace(SLEEPER, name="nodder", number=24)
PM = "<pm><suspend-to-mem enabled='yes'/></pm>"


def asleep(name: str) -> None:
    run("timeout", "30", "sh", "-c", f"until virsh domstate {name} | grep -q pmsuspended; do sleep 0.1; done")


@pytest.fixture(scope="module")
def sleeper(lab: Lab) -> Iterator[Guests]:
    """Guests that can suspend themselves to RAM."""
    run("python3", "-", stdin=REBUILD)
    guests = Guests()
    for shape in (SLEEPER, DREAMER, NODDER):
        define(shape, lambda xml: xml.replace("<features>", f"{PM}<features>", 1))
        guests.adopt(shape)
        virsh("start", shape.name)
    guests.watch(SLEEPER, DREAMER, NODDER)
    yield guests
    guests.end()


def test_a_guest_suspends_itself_and_is_woken_up(sleeper: Guests) -> None:
    done = reboot("--suspend-guest", "--emulator", REBUILT, SLEEPER.name)

    assert "suspend" in [phase["name"] for phase in done[0]["phases"]]  # type: ignore[attr-defined]
    assert virsh("domstate", SLEEPER.name).strip() == "running"
    sleeper.assert_well(SLEEPER)
    nothing_left(SLEEPER.name)


def test_virtcpr_dies_when_it_has_asked_a_guest_to_suspend_itself(sleeper: Guests) -> None:
    """The guest may still be awake when the guardian looks: it is woken up when it has fallen asleep."""
    process = client.pid(NODDER.name)
    for name in ("halt.py", "halt_reboot.py"):
        shell(f"cat > /root/{name}", stdin=(INSIDE / name).read_text())
    script = (
        "python3 /root/halt_reboot.py 'in suspend' upgrade --mode reboot --suspend-guest --no-rehearse --yes "
        f"--emulator {REBUILT} {NODDER.name} & "
        "until grep -q '^State:.T' /proc/$!/status; do sleep 0.001; done; kill -9 $!"
    )
    shell(script)

    run("timeout", "90", "sh", "-c", "while systemctl -q is-active 'virtcpr-guardian-*'; do sleep 0.05; done")

    assert shell("ls /var/lib/virtcpr/saved") == ""
    assert client.monitor(NODDER.name, "query-status")["status"] == "running"
    assert virsh("domstate", NODDER.name).strip() == "running"
    assert client.pid(NODDER.name) == process
    sleeper.assert_well(NODDER)


def test_a_guest_that_sleeps_sleeps_on(sleeper: Guests) -> None:
    virsh("dompmsuspend", DREAMER.name, "mem")
    asleep(DREAMER.name)

    reboot("--emulator", REBUILT, DREAMER.name)

    assert client.monitor(DREAMER.name, "query-status")["status"] == "suspended"
    assert virsh("domstate", DREAMER.name).strip() == "pmsuspended"
    virsh("dompmwakeup", DREAMER.name)
    sleeper.assert_well(DREAMER)
    assert virsh("domstate", DREAMER.name).strip() == "running"


def test_a_guest_that_its_user_suspended_stays_so(sleeper: Guests) -> None:
    virsh("suspend", SLEEPER.name)

    reboot("--emulator", EMULATOR, SLEEPER.name)

    assert virsh("domstate", SLEEPER.name).strip() == "paused"
    virsh("resume", SLEEPER.name)
    sleeper.assert_well(SLEEPER)


def test_a_transient_domain_stays_one(sleeper: Guests) -> None:
    virsh("undefine", SLEEPER.name)
    assert "Persistent:     no" in virsh("dominfo", SLEEPER.name)

    reboot("--emulator", REBUILT, SLEEPER.name)

    assert "Persistent:     no" in virsh("dominfo", SLEEPER.name)
    sleeper.assert_well(SLEEPER)
