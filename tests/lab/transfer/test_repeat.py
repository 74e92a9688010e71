"""The same guest again and again: nothing grows, nothing wears out."""

from __future__ import annotations

import os

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import DATABASE
from tests.lab.support.leftovers import KEPT, leftovers

FULL = os.environ.get("VIRTCPR_CHAOS") == "full"
SWAPS = 20 if FULL else 8  # the rest in `make chaos`


def footprint(name: str) -> dict[str, int]:
    """What could grow: argv, descriptors, files in libvirt's directories, the status file."""
    process = client.pid(name)
    argv, fds, files, status = shell(
        f"wc -c < /proc/{process}/cmdline; ls /proc/{process}/fd | wc -l; "
        f"find /var/lib/libvirt/qemu /run/libvirt/qemu /run/virtcpr | wc -l; wc -l < /run/libvirt/qemu/{name}.xml"
    ).split()
    return {"argv": int(argv), "fds": int(fds), "files": int(files), "status": int(status)}


@pytest.mark.timeout(900)
def test_swaps_up_and_down(guests: Guests) -> None:
    known = client.versions()
    guests.start(DATABASE)
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")
    turns = ((EMULATOR, client.upstream(known["NEW"])), (KEPT, client.upstream(known["OLD"])))
    xml = virsh("dumpxml", DATABASE.name)
    sizes = []
    for turn in range(SWAPS):
        emulator, version = turns[turn % 2]
        guests.witness.mark()
        report = client.upgrade(DATABASE.name, "--emulator", emulator)
        assert report["exit_code"] == 0, report
        assert report["domains"][0]["findings"] == []
        assert client.qemu_version(DATABASE.name) == version
        guests.assert_well(DATABASE)
        sizes.append(footprint(DATABASE.name))
    # The first swap adds -incoming; the later ones to the same build must add nothing.
    for kind in ("argv", "files", "status"):
        assert {size[kind] for size in sizes[2::2]} == {sizes[0][kind]}, (kind, sizes)
        assert {size[kind] for size in sizes[3::2]} == {sizes[1][kind]}, (kind, sizes)
    assert max(size["fds"] for size in sizes[-4:]) <= max(size["fds"] for size in sizes[:4]), sizes
    assert leftovers() == ""
    assert virsh("dumpxml", DATABASE.name).replace(KEPT, EMULATOR) == xml

    virsh("shutdown", "--mode", "acpi", DATABASE.name)
    wait = f"until virsh domstate {DATABASE.name} | grep -q 'shut off'; do sleep 0.2; done"
    run("timeout", "60", "sh", "-c", wait)
    assert "No errors were found" in run("qemu-img", "check", DATABASE.disk_path(0)).out
