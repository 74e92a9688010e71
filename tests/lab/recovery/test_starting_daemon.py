"""A daemon of libvirt's that is just starting, and the hook that it is about to run for a guest."""

from __future__ import annotations

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL

HOOKS = "/etc/libvirt/hooks/qemu.d"
HOOK = f"{HOOKS}/virtcpr"
# libvirt has looked for all hooks when it runs the first of them.
FIRST = f"""#!/bin/sh
[ "$2" = reconnect ] || exit 0
setsid virtcpr hooks remove >/run/removal 2>&1 </dev/null &
timeout 5 sh -c 'while [ -e {HOOK} ]; do sleep 0.1; done'
exit 0
"""


def test_a_hook_is_not_removed_under_a_daemon_that_is_starting(guests: Guests) -> None:
    """The daemon ends a guest for which it can't run the hook that it has found."""
    guests.start(SMALL)
    process = client.pid(SMALL.name)
    run("virtcpr", "hooks", "install")
    shell(f"install -m 755 /dev/stdin {HOOKS}/first", stdin=FIRST)

    shell("systemctl restart libvirtd; virsh domstate " + SMALL.name)
    shell(f"timeout 60 sh -c 'while [ -e {HOOK} ]; do sleep 0.1; done'; rm {HOOKS}/first")

    assert virsh("domstate", SMALL.name).strip() == "running"
    assert client.pid(SMALL.name) == process
    guests.assert_well(SMALL)
    assert run("cat", "/run/removal").out.count("missing") == 2
