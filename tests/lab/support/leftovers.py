"""What a swap must not leave behind."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell

KEPT = f"{EMULATOR}-old"  # the binary of OLD beside the installed NEW: apt needn't run so often


def leftovers() -> str:
    """Whatever a swap leaves that it should not: sockets, journal entries, temporary files."""
    return shell(
        "ls /run/virtcpr/journal 2>/dev/null || :; find /var/lib/libvirt/qemu /run/libvirt/qemu "
        "-name 'cpr.sock' -o -name 'main.sock' -o -name '*.virtcpr'"
    )


def qemu_processes() -> int:
    return len(run("pgrep", "qemu-system", check=False).out.split())


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
