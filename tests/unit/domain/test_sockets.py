"""Names of the sockets of new QEMU, and how QEMU and the kernel tell of them."""

from __future__ import annotations

import pytest

from virtcpr.domain import qmp
from virtcpr.domain.sockets import LONGEST, beside, final, fits


@pytest.mark.parametrize("path", ["/run/a.sock", "/run/b.virtcpr.sock"])
def test_a_socket_that_was_renamed_has_its_path(path: str) -> None:
    assert final(beside(path)) == final(path) == path


def test_a_path_may_be_too_long_for_a_neighbour() -> None:
    longest = LONGEST - len(beside(""))
    assert fits("x" * longest)
    assert not fits("x" * (longest + 1))
    assert not fits("ä" * (longest // 2 + 1)), "bytes count, not characters"


@pytest.mark.parametrize(
    ("filename", "said"),
    [
        ("unix:/run/a.sock.virtcpr,server=on", "unix:/run/a.sock,server=on"),
        ("disconnected:unix:/run/a.sock.virtcpr,server=on", "disconnected:unix:/run/a.sock,server=on"),
        ("unix:/run/a.sock,server=on", "unix:/run/a.sock,server=on"),
        ("pty:/dev/pts/1.virtcpr", "pty:/dev/pts/1.virtcpr"),
    ],
)
def test_qemu_names_it_as_it_was_bound(filename: str, said: str) -> None:
    (chardev,) = qmp.chardevs([{"label": "charmonitor", "filename": filename}])
    assert chardev.filename == said
