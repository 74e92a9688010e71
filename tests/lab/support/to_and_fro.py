"""A guest that goes to and fro between two builds, and what could grow with every move."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell
from tests.lab.support.guests import Shape
from tests.lab.support.leftovers import KEPT, leftovers


def keep_old() -> None:
    """QEMU NEW is installed, and the binary of OLD kept beside it."""
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")


def move(guests: Guests, shape: Shape, moves: int, *how: str, beats: int = 30) -> None:
    """So many moves, NEW first: the guest is well after each, and in the end nothing has grown."""
    known = client.versions()
    turns = ((EMULATOR, client.upstream(known["NEW"])), (KEPT, client.upstream(known["OLD"])))
    sizes = []
    for turn in range(moves):
        emulator, version = turns[turn % 2]
        guests.witness.mark()
        report = client.upgrade(shape.name, "--emulator", emulator, *how)
        assert report["exit_code"] == 0, report
        assert report["domains"][0]["findings"] == []
        assert client.qemu_version(shape.name) == version
        guests.assert_well(shape, beats=beats)
        assert run("pgrep", "-c", "qemu-system").out == "1\n"
        sizes.append(footprint(shape.name))
    assert_nothing_grew(sizes)
    assert leftovers() == ""


def footprint(name: str) -> dict[str, int]:
    """What could grow: argv, descriptors, files in libvirt's directories, the status file."""
    process = client.pid(name)
    argv, fds, files, status = shell(
        f"wc -c < /proc/{process}/cmdline; ls /proc/{process}/fd | wc -l; "
        f"find /var/lib/libvirt/qemu /run/libvirt/qemu /run/virtcpr | wc -l; wc -l < /run/libvirt/qemu/{name}.xml"
    ).split()
    return {"argv": int(argv), "fds": int(fds), "files": int(files), "status": int(status)}


def assert_nothing_grew(sizes: Sequence[dict[str, int]]) -> None:
    """The footprints after each of some moves to and fro between two builds."""
    # The first swap adds -incoming; the later ones to the same build must add nothing.
    for kind in ("argv", "files", "status"):
        assert {size[kind] for size in sizes[2::2]} == {sizes[0][kind]}, (kind, sizes)
        assert {size[kind] for size in sizes[3::2]} == {sizes[1][kind]}, (kind, sizes)
    assert max(size["fds"] for size in sizes[-4:]) <= max(size["fds"] for size in sizes[:4]), sizes
