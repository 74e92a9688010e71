"""virtcpr as its Debian package: built in the lab from the checkout there, installed in place of what pip installed."""

from __future__ import annotations

import base64
import functools
from pathlib import Path

from tests.lab.client import run, shell
from virtcpr import __version__

BUILD = "/var/tmp/build"
DEB = f"/var/tmp/virtcpr_{__version__}_all.deb"
APT = "env DEBIAN_FRONTEND=noninteractive apt-get -qy -o Dpkg::Options::=--force-unsafe-io"


@functools.cache
def built() -> bytes:
    """The package; built once a run of tests, in the lab as it is then.  Leaves what it was built from in ``BUILD``."""
    shell(
        f"rm -rf {BUILD}; mkdir {BUILD}; cp -a /usr/src/virtcpr {BUILD}/virtcpr; cd {BUILD}/virtcpr; "
        f"dpkg-buildpackage -us -uc -b",
        timeout=300,
    )
    return base64.b64decode(run("base64", f"{BUILD}/{Path(DEB).name}").out)


def install() -> None:
    """Have the package installed, and nothing of pip's."""
    shell(f"base64 -d >{DEB}", stdin=base64.b64encode(built()).decode())
    shell(
        "pip uninstall -qy --root-user-action=ignore --break-system-packages virtcpr; "
        f"rm -rf /usr/src/virtcpr; {APT} install {DEB}"
    )


def dpkg(*arguments: str) -> str:
    """What dpkg said, on stdout and stderr."""
    done = run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io", *arguments)
    return done.out + done.err
