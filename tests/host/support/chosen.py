"""Which host the tests run on: the environment says (VIRTCPR_HOST)."""

from __future__ import annotations

import os

from tests.host.support.disk import HostError
from tests.host.support.machine import Host
from tests.host.support.remote import Remote
from tests.lab.support.machine import default_store

SSH = "ssh:"


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
