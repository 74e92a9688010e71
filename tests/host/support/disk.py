"""The host's disk: the lab's root with kernels and a channel, kept under a key of what it is made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.support import image
from tests.lab.support.image import LabError
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


def key(root: Path) -> str:
    """A name for all that the disk is made from: these files, and the lab's root."""
    return digest(root.name, Path(__file__), HOST / "image")


def digest(start: str, *sources: Path) -> str:
    found = hashlib.sha256(start.encode())
    for source in sources:
        for path in sorted([source] if source.is_file() else source.rglob("*")):
            if path.is_file():
                found.update(str(path.relative_to(HOST)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def build(store: Path, root: Path) -> Path:
    """The directory of the disk under ``store``, built if it isn't there.  A half-built one never counts."""
    disks = store / "disks"
    disk = disks / key(root)
    if disk.is_dir():
        return disk
    part = disk.with_suffix(".part")
    only_this(part)
    log = store / "disk.log"
    script = ("sh", "-eux", "-c", MAKE, "sh", str(root), str(part), str(HOST / "image"), SIZE)
    with log.open("wb") as out:
        built = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *NAMESPACE, *script],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    if built.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise HostError(f"building the host's disk failed ({log} has it all):\n{tail}")
    part.rename(disk)
    return disk


# Ends whatever runs in it with its first process, and that with the process that started it.
NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private")


def only_this(part: Path) -> None:
    """An empty directory, and nothing beside it: what was built before, or in part, is of no use any more."""
    part.parent.mkdir(parents=True, exist_ok=True)
    for older in part.parent.iterdir():
        subprocess.run(["rm", "-rf", "--one-file-system", str(older)], check=True)
    part.mkdir()


def ensure_host_tools() -> None:
    """What the host needs beside the lab's tools: a client of its channel."""
    image.ensure_host_tools()
    if not shutil.which("ssh"):
        command = ["apt-get", "-qy", "install", "--no-install-recommends", "openssh-client"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)
