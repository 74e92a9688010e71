"""A guest with a network disk: `save` says what `restore` won't know, and `restore` wants somebody's word for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import qemu_processes
from tests.lab.support.machine import Lab

SHAPE = replace(SMALL, name="remote", number=20, prepared=False)
NAME = SHAPE.name
SOCKET = "/run/virtcpr-nbd.sock"
SERVER = f"""
truncate -s 16M /srv/remote
systemd-run -q --unit=nbd-remote qemu-nbd -t -e 4 -f raw -k {SOCKET} -x remote /srv/remote
timeout 10 sh -c 'until test -S {SOCKET}; do sleep 0.1; done'; chmod 777 {SOCKET}
"""
DISK = f"""<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='remote'>
<host transport='unix' socket='{SOCKET}'/></source><target dev='vdx' bus='virtio'/></disk>"""
LABEL = "vdx (nbd remote)"


def report(*arguments: str, code: int) -> Any:
    done = client.virtcpr(*arguments, "-o", "json")
    assert done.code == code, done
    (domain,) = json.loads(done.out)["domains"]
    return domain


@pytest.fixture(scope="module")
def remote(lab: Lab) -> Iterator[Guests]:
    shell(SERVER)
    run("virtcpr", "hooks", "install")
    shell("systemctl restart libvirtd.service")  # it finds them
    guests = Guests()
    guests.start(SHAPE)
    virsh("attach-device", NAME, "/dev/stdin", stdin=DISK)
    yield guests
    guests.end()


def test_nobody_can_tell_of_a_network_disk(remote: Guests) -> None:
    saved = report("save", NAME, "--yes", code=0)
    (told,) = [finding for finding in saved["findings"] if finding["code"] == "disk-untold"]
    assert (saved["result"], told["severity"]) == ("saved", "warning")
    assert f"whether its disk {LABEL} was written to" in told["message"]

    refused = report("restore", NAME, code=4)
    assert refused["result"] == "blocked"
    assert f"nobody can tell whether {LABEL} was written to since it was saved" in refused["findings"][0]["message"]
    assert f"virtcpr restore --disks-unchanged {NAME}" in refused["findings"][0]["remedy"]
    assert (qemu_processes(), virsh("domstate", NAME).strip()) == (0, "shut off")

    restored = report("restore", "--disks-unchanged", NAME, code=0)
    assert restored["result"] == "restored"
    remote.assert_well(SHAPE)


def test_an_upgrade_needs_no_word_for_it(remote: Guests) -> None:
    """The guest goes on at once: nobody else could have had its disks."""
    client.install_qemu("NEW")
    moved = report("upgrade", "--mode", "reboot", "--no-rehearse", "--yes", NAME, code=0)
    assert moved["result"] == "upgraded"
    remote.assert_well(SHAPE)
