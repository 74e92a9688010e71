"""``make demo``: a guest on one release of QEMU, a real ``apt-get install`` of the next, ``virtcpr upgrade --all``.

Everything happens in the lab: a Debian with systemd and libvirtd, made and booted here, stopped at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tests.lab.support import client
from tests.lab.support.client import Witness, virsh
from tests.lab.support.guests import OFFICE, lively
from tests.lab.support.kept import LabError
from tests.lab.support.machine import Lab, default_store

GUEST = lively(OFFICE)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def picture() -> dict[str, str]:
    """The guest as an administrator sees it."""
    return {
        "QEMU": client.qemu_version(GUEST.name),
        "process": str(client.pid(GUEST.name)),
        "domain id": virsh("domid", GUEST.name).strip(),
        "UUID": virsh("domuuid", GUEST.name).strip(),
        "state": virsh("domstate", GUEST.name).strip(),
        "MAC": virsh("domiflist", GUEST.name).split()[-1],
        "tap": virsh("domiflist", GUEST.name).split()[0],
        "display": virsh("domdisplay", GUEST.name).strip(),
    }


def show(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    for name, old in before.items():
        change = "as before" if after[name] == old else f"was {old}"
        print(f"  {name:<18}{after[name]:<40}{change}")


def show_witness(report: Mapping[str, Any], reboots: int) -> None:
    rows = {
        "pause": f"{report['pause_ms']:.0f} ms, the longest silence of a heartbeat every {report['interval_ms']:g} ms",
        "heartbeats lost": f"{report['lost']} of {report['received'] + report['lost']}",
        "TCP connection": "alive" if report["tcp_alive"] else "BROKEN",
        "RAM errors": f"{report['ram_errors']} in {report['ram_mib']} MiB, verified {report['ram_passes']} times",
        "disk errors": f"{report['disk_errors']} in {report['disk_writes']} writes, synced and read back",
        "guest rebooted": "no" if reboots == 0 else "YES",
    }
    for name, text in rows.items():
        print(f"  {name:<18}{text}")


def demonstrate(lab: Lab) -> bool:
    say("Booting the lab (the first time its image is built: two minutes or so)")
    lab.reset()
    known = client.versions()
    say(f"Starting a guest on QEMU {client.upstream(known['OLD'])}")
    client.start(GUEST)
    witness = Witness()
    witness.watch(GUEST)
    before = picture()

    say(f"apt-get install qemu-system-x86: {known['OLD']} -> {known['NEW']}")
    client.install_qemu("NEW")
    print(client.virtcpr("list", check=True).out)
    witness.beats(GUEST)
    witness.mark()

    say("virtcpr upgrade --all --yes")
    done = client.virtcpr("upgrade", "--all", "--yes")
    print(done.out)
    witness.beats(GUEST, 1000)
    report = witness.report(GUEST)
    after = picture()
    witness.close()

    say("What changed, and what didn't: libvirt's view")
    show(before, after)
    say("The same, seen from outside the guest")
    show_witness(report, len(report["boot_marks_seen"]) - 1)
    moved = after["QEMU"] == client.upstream(known["NEW"]) and done.code == 0
    well = report["tcp_alive"] and report["ram_errors"] == report["disk_errors"] == 0
    return bool(moved and well)


def main() -> int:
    lab = Lab(default_store())
    try:
        return 0 if demonstrate(lab) else 1
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    finally:
        lab.down()


if __name__ == "__main__":
    sys.exit(main())
