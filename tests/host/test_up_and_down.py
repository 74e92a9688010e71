"""A guest under load goes up and down twenty times: nothing is lost, nothing grows, nobody else has it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.chosen import MACHINE
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import to_and_fro
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Disk, Shape

MOVES = 20
GUEST = replace(KVM, name="busy", number=80, vcpus=2, disks=(Disk(), Disk("scsi", "raw")), kernel_options="")
# Packets of 1400 bytes, a hundred a second, to which the guest answers.
PING = ("ping", "-q", "-i", "0.01", "-s", "1400")


@contextmanager
def flooded(shape: Shape) -> Iterator[None]:
    command = [str(MACHINE.entrance), "exec", *PING, shape.ip]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as ping:
        try:
            yield
        finally:
            ping.terminate()


@pytest.mark.timeout(3600)
def test_twenty_moves_under_load(guests: Guests, host: Host) -> None:
    guests.start(GUEST)
    to_and_fro.keep_old()
    before, profiles, denials = confinement.picture(GUEST.name), confinement.profiles(), confinement.denials()

    with flooded(GUEST):
        to_and_fro.move(guests, GUEST, MOVES, beats=50)

    assert confinement.picture(GUEST.name) == before
    assert confinement.profiles() == profiles
    assert confinement.denials() == denials

    scope = confinement.scope(GUEST.name)
    virsh("shutdown", "--mode", "acpi", GUEST.name)
    run("timeout", "300", "sh", "-c", f"until virsh domstate {GUEST.name} | grep -q 'shut off'; do sleep 1; done")
    assert shell(f"ls -d '/sys/fs/cgroup/{scope}' 2>/dev/null || :") == ""
    assert confinement.profiles() == set()
    assert "No errors were found" in run("qemu-img", "check", GUEST.disk_path(0)).out
