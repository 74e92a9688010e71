"""Which host the tests run on: the environment says (VIRTCPR_HOST)."""

from __future__ import annotations

import os

from tests.host.support.disk import HostError
from tests.host.support.machine import Host
from tests.host.support.remote import Remote
from tests.lab.support.client import Machine
from tests.lab.support.guests import WITNESS
from tests.lab.support.machine import default_store
from tests.paths import HOST

SSH = "ssh:"
# The observer looks less often: at the lab's pace it takes a third of an emulated CPU.
OBSERVER = (
    f"import sys; sys.path.insert(0, '{WITNESS}'); import watch; watch.TICK = 0.1; watch.ECHO_EVERY = 0.5; watch.main()"
)
# For the builds that tests make: a guest's profile lets it run only the names that libvirt knows.
RUN_ANY = (
    "mkdir -p /etc/apparmor.d/local/abstractions; "
    "echo '/usr/bin/qemu-system-x86_64-* rmix,' >> /etc/apparmor.d/local/abstractions/libvirt-qemu"
)


def wanted() -> bool:
    """Whether tests are to run on a host: the environment says if not."""
    return os.environ.get("VIRTCPR_HOST", "") != "none"


def is_emulated() -> bool:
    return not os.environ.get("VIRTCPR_HOST", "").startswith(SSH)


def host() -> Host | Remote:
    """The emulated one, if the environment names no other.  Raises HostError if it can't be understood."""
    given = os.environ.get("VIRTCPR_HOST", "")
    if given.startswith(SSH):
        return Remote(given.removeprefix(SSH), default_store())
    if given not in ("", "none"):
        raise HostError(f"VIRTCPR_HOST is {given!r}: none, or ssh:root@ADDRESS, or nothing")
    return Host(default_store())


EMULATED = Machine(HOST / "host", slowness=10, observer=("python3", "-c", OBSERVER))
MACHINE = EMULATED if is_emulated() else Machine(HOST / "host")
