"""Mode transfer on a real host's terms: KVM, vhost-net, an enforced AppArmor profile, machined's scope."""

from __future__ import annotations

import re

from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Shape
from tests.lab.support.machined import machine_of, scope_of

VHOST = Shape("vhost", 20, kvm=True, serial="file", ram_mib=32, interval_us=20000)


def denials() -> set[str]:
    """What AppArmor has denied since the host started, in the kernel's words, without time and pid.

    Some is denied to every QEMU, also when libvirt starts it: the directories of NVDIMMs below /sys.
    """
    lines = run("journalctl", "-k", "-o", "cat").out.splitlines()
    return {re.sub(r"audit\([^)]*\)|pid=\d+", "", line) for line in lines if 'apparmor="DENIED"' in line}


def cgroups(process: int) -> dict[str, str]:
    """The cgroup of each thread of a QEMU, by the thread's name."""
    lines = shell(f'cd /proc/{process}/task; for t in *; do echo "$(cat $t/comm)|$(cat $t/cgroup)"; done').splitlines()
    return {name: cgroup.rpartition("::")[2] for name, _, cgroup in (line.partition("|") for line in lines)}


def vhost_threads(process: int) -> int:
    """Descriptors of vhost-net that a QEMU has open."""
    return shell(f"ls -l /proc/{process}/fd").count("/dev/vhost-net")


def test_a_kvm_guest_with_vhost_net_moves(guests: Guests, host: Host) -> None:
    new = client.upstream(client.versions()["NEW"])
    guests.start(VHOST)
    old_process, before = client.pid(VHOST.name), denials()
    profile = run("cat", f"/proc/{old_process}/attr/current").out.strip()
    old_cgroups = cgroups(old_process)
    assert profile == f"libvirt-{virsh('domuuid', VHOST.name).strip()} (enforce)"
    assert vhost_threads(old_process) == 1
    client.install_qemu("NEW")
    guests.witness.mark()

    report = client.upgrade(VHOST.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded"], report
    guests.assert_well(VHOST)
    process = client.pid(VHOST.name)
    assert client.qemu_version(VHOST.name) == new
    assert client.monitor(VHOST.name, "query-kvm") == {"enabled": True, "present": True}
    assert process != old_process
    assert vhost_threads(process) == 1
    assert run("cat", f"/proc/{process}/attr/current").out.strip() == profile
    assert denials() == before
    machine = machine_of(VHOST.name)
    assert run("machinectl", "show", machine, "-p", "Leader", "--value").out.strip() == str(process)
    assert all(scope_of(machine) in cgroup for cgroup in old_cgroups.values())
    assert cgroups(process)["CPU 0/KVM"] == old_cgroups["CPU 0/KVM"]
    assert cgroups(process)["qemu-system-x86"] == old_cgroups["qemu-system-x86"]
