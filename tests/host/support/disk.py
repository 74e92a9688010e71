"""The host's disk: the lab's root with kernels and a channel, kept under a key of what it is made from."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.support import image, kept
from tests.lab.support.kept import LabError
from tests.paths import HOST

SIZE = "16G"  # sparse
# In a mount namespace of its own: no mount outlives it.  $1: the lab's root, $2: what is being built, $3: image/.
MAKE = r"""
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
cd "$2/root"
mount -t tmpfs tmpfs mnt
mkdir mnt/image mnt/out
mount --bind "$3" mnt/image
mount --bind "$2" mnt/out
mount -t proc proc proc
mount --rbind /dev dev
[ ! -e /etc/resolv.conf ] || cp --remove-destination /etc/resolv.conf etc/resolv.conf
chroot . sh /mnt/image/customize.sh
rm -f etc/resolv.conf
umount -R mnt proc dev
mke2fs -q -t ext4 -L host -d . "$2/disk.img" "$4"
cd /
umount "$2/root"
rm -rf "$2/upper" "$2/work" "$2/root"
"""


class HostError(LabError):
    """The host can't be built or run; the text says why."""


# Ends whatever runs in it with its first process, and that with the process that started it.
NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private")


def place(store: Path, root: Path) -> Path:
    """Where the directory of the disk is under ``store``, once it is built from this root."""
    return store / "disks" / kept.key(root.name, HOST, Path(__file__), HOST / "image")


def build(store: Path, root: Path) -> Path:
    """The directory of the disk, built if it isn't there."""

    def make(part: Path) -> None:
        script = ("sh", "-eux", "-c", MAKE, "sh", str(root), str(part), str(HOST / "image"), SIZE)
        command = ["setpriv", "--pdeathsig", "KILL", *NAMESPACE, *script]
        kept.run_logged(command, store / "disk.log", "building the host's disk")

    return kept.built(place(store, root), make)


def ensure_host_tools() -> None:
    """What the host needs beside the lab's tools: a client of its channel."""
    image.ensure_host_tools()
    if not shutil.which("ssh"):
        command = ["apt-get", "-qy", "install", "--no-install-recommends", "openssh-client"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)
