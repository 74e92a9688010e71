"""libvirt's daemon isn't stopped while it works on volumes: that would break the work off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab

POOL = "/var/lib/virtcpr-pool"
LOOK = """
from virtcpr.host.libvirt import daemon, daemon_jobs
from virtcpr.host.processes.proc import Process, lock_owner
while not (jobs := daemon_jobs.daemon_jobs(Process.of(lock_owner(daemon.DRIVER_PID)))): pass
print(*jobs, sep="; ")
"""


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guests]:
    run("python3", "-", stdin=REBUILD)
    made = Guests()
    made.start(SMALL)
    shell(f"mkdir {POOL}; virsh -q pool-create-as pool dir --target {POOL}")
    yield made
    made.end()


@pytest.fixture
def unfinished(guest: Guests) -> Iterator[Guests]:
    """An upload that waits for more data, and goes on until it is told to end."""
    virsh("vol-create-as", "pool", "uploaded", "1M", "--format", "raw")
    writer = "{ head -c 4096 /dev/urandom; exec sleep 600; } >/root/data"
    shell(f"mkfifo /root/data; systemd-run -q --unit=data sh -c '{writer}'")
    run("systemd-run", "-q", "--unit=upload", "virsh", "vol-upload", "--pool", "pool", "uploaded", "/root/data")
    yield guest
    run("systemctl", "stop", "upload.service", "data.service", check=False)


def test_an_upload_is_not_broken_off(unfinished: Guests) -> None:
    before = client.pid(SMALL.name)
    run("timeout", "60", "python3", "-c", LOOK)

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["exit_code"] == 5, report
    (finding,) = report["domains"][0]["findings"]
    assert "can't be stopped now: it transfers a volume, or another stream" in finding["message"]
    assert f"the guest is untouched in old QEMU (process {before})" in finding["message"]
    assert client.pid(SMALL.name) == before
    assert run("systemctl", "is-active", "upload.service").out.strip() == "active"
    unfinished.assert_well(SMALL)


def test_a_clone_is_not_broken_off(guest: Guests) -> None:
    """By a qemu-img, which stands still here."""
    shell(
        f"qemu-img create -q -f qcow2 {POOL}/image 512M; qemu-io -c 'write -q 0 512M' {POOL}/image; "
        "virsh -q pool-refresh pool; systemd-run -q --unit=clone virsh vol-clone --pool pool image cloned; "
        "timeout 60 sh -c 'until pkill -STOP -x qemu-img; do :; done'"
    )
    report = client.upgrade(SMALL.name, "--emulator", REBUILT)
    assert report["exit_code"] == 5, report
    assert "can't be stopped now: it runs qemu-img" in report["domains"][0]["findings"][0]["message"]
    shell("pkill -CONT -x qemu-img; timeout 60 sh -c 'while systemctl -q is-active clone; do sleep 0.1; done'")
    assert "cloned" in virsh("vol-list", "pool")


def test_a_copy_by_the_daemon_itself_is_seen(guest: Guests) -> None:
    shell(f"head -c 512M /dev/urandom >{POOL}/raw; virsh -q pool-refresh pool")
    run("systemd-run", "-q", "--unit=copy", "virsh", "vol-clone", "--pool", "pool", "raw", "copied")
    seen = run("timeout", "60", "python3", "-c", LOOK).out
    assert f"writes {POOL}/copied" in seen or "runs qemu-img" in seen, seen
    shell("timeout 60 sh -c 'while systemctl -q is-active copy; do sleep 0.1; done'")


def test_a_console_is_no_reason(guest: Guests) -> None:
    """Nothing is lost with it: it is opened again."""
    run("systemd-run", "-q", "--unit=console", "script", "-qc", f"virsh console {SMALL.name}", "/dev/null")
    (domain,) = client.upgrade(SMALL.name, "--emulator", REBUILT)["domains"]
    assert domain["result"] == "upgraded", domain
    guest.assert_well(SMALL)
