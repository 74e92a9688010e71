"""virtcpr as its Debian package: built in the lab from the checkout there, installed in place of what pip installed."""

from __future__ import annotations

import base64
import functools
from pathlib import Path

from tests.lab.support.client import run, shell, versions
from virtcpr import __version__

BUILD = "/var/tmp/build"
DEB = f"/var/tmp/virtcpr_{__version__.replace('.dev', '~dev')}_all.deb"
APT = "env DEBIAN_FRONTEND=noninteractive apt-get -qy -o Dpkg::Options::=--force-unsafe-io"


def build() -> None:
    """Build it in ``BUILD``."""
    shell(
        f"rm -rf {BUILD}; mkdir {BUILD}; cp -a /usr/src/virtcpr {BUILD}/virtcpr; cd {BUILD}/virtcpr; "
        f"dpkg-checkbuilddeps -I; dpkg-buildpackage -d -us -uc -b",
        timeout=300,
    )


@functools.cache
def built() -> bytes:
    """The package, built once a run of tests, in the lab as it is then."""
    build()
    return base64.b64decode(run("base64", f"{BUILD}/{Path(DEB).name}").out)


def install() -> None:
    """Have the package installed, and nothing of pip's."""
    shell(f"base64 -d >{DEB}", stdin=base64.b64encode(built()).decode())
    shell(
        "pip uninstall -qy --root-user-action=ignore --break-system-packages virtcpr; "
        f"rm -rf /usr/src/virtcpr; {APT} install {DEB}"
    )


DPKG = "env DEBIAN_FRONTEND=noninteractive dpkg --force-unsafe-io"


def dpkg(*arguments: str) -> str:
    """What dpkg said, on stdout and stderr."""
    done = run(*DPKG.split(), *arguments)
    return done.out + done.err


# An upgrade by another build of the same version: its dependencies are there, and a guest can go on to ever newer ones.
REPACK = """
import glob, os, subprocess, sys
version, number, marked = sys.argv[1:]
tree = "/var/tmp/repacked"
if not os.path.exists(tree):
    (deb,) = glob.glob(f"/var/cache/apt/archives/qemu-system-x86_*{version}_*.deb")
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    open(f"{tree}/DEBIAN/md5sums", "w").close()
with open(f"{tree}/usr/bin/qemu-system-x86_64", "r+b") as file:
    start = file.read(1 << 16).index(b"\\x04\\0\\0\\0\\x14\\0\\0\\0\\x03\\0\\0\\0GNU\\0")
    file.seek(start + 16)
    file.write(b"build" + number.encode())
subprocess.run(["dpkg-deb", "-Znone", "-b", tree, marked], check=True)
"""


def rebuilt(number: int) -> str:
    """The path of a package of QEMU NEW whose emulator has another build id; below 10."""
    path = f"/var/tmp/rebuilt{number}.deb"
    version = versions()["NEW"].partition(":")[2]
    run("python3", "-c", REPACK, version, str(number), path)
    return path
