"""This checkout installed on a host, as administrators do it but for where it is built."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.host.support import disk
from tests.host.support.channel import Channel
from tests.host.support.disk import HostError
from tests.lab.support.checkout import INSTALL, pack

# Makes what pip makes, outside of the host, whose CPUs are slow.  $1: the lab's root, of the same Debian.
PREPARE = r"""
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs tmpfs "$1/mnt"
mount -t tmpfs tmpfs "$1/tmp"
mkdir -p "$1/mnt/usr/src/virtcpr" "$1/mnt/build"
tar -xC "$1/mnt/usr/src/virtcpr"
cp -r "$1/mnt/usr/src/virtcpr/." "$1/mnt/build"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt chroot "$1" sh -euc 'cd /mnt/build && $0' "$2 --root /mnt ." >&2
tar -C "$1/mnt" -c usr
"""
UNPACK = "rm -rf /usr/src/virtcpr /usr/local/lib/python3*/dist-packages/virtcpr*; tar -xC /"


def install(root: Path, channel: Channel) -> None:
    """``root``: the lab's, in which it is built.  Raises HostError."""
    namespace = ["setpriv", "--pdeathsig", "KILL", *disk.NAMESPACE]
    with tempfile.TemporaryFile() as archive:
        prepare = subprocess.Popen(
            [*namespace, "sh", "-euc", PREPARE, "sh", str(root), f"{INSTALL} --no-warn-script-location"],
            stdin=subprocess.PIPE,
            stdout=archive,
        )
        assert prepare.stdin is not None
        with prepare.stdin as stream:
            pack(stream)
        if prepare.wait() != 0:
            raise HostError("installing the checkout for the host failed (see above)")
        archive.seek(0)
        channel.quietly(UNPACK, archive)
