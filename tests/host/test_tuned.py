"""What libvirt sets for a guest on a host with cgroup controllers and NUMA nodes is set for new QEMU, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client, provoke
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Shape
from tests.lab.support.reboots import define

TUNED = replace(KVM, name="tuned", number=30, vcpus=2, iothreads=1)
SMALL = replace(TUNED, name=provoke.NAME, number=32, vcpus=1, iothreads=0)
# Of memory there is enough for two QEMUs, as RAM is there once.
LIMITS = """
<memtune><hard_limit unit="MiB">{hard}</hard_limit><soft_limit unit="MiB">256</soft_limit></memtune>
<numatune><memory mode="strict" nodeset="1" /></numatune>
<cputune>
  <shares>512</shares><period>100000</period><quota>90000</quota><emulator_period>100000</emulator_period>
  <emulator_quota>80000</emulator_quota>
  <vcpupin vcpu="0" cpuset="0" /><vcpupin vcpu="1" cpuset="1" /><emulatorpin cpuset="0" />
  <iothreadpin iothread="1" cpuset="1" /><vcpusched vcpus="0" scheduler="fifo" priority="2" />
</cputune>
<blkiotune>
  <weight>500</weight>
  <device><path>{disk}</path><read_bytes_sec>50000000</read_bytes_sec><write_iops_sec>5000</write_iops_sec></device>
</blkiotune>
"""
NETWORK = (
    '<filterref filter="clean-traffic" /><bandwidth><inbound average="20000" /><outbound average="20000" /></bandwidth>'
    '<port isolated="yes" /></interface>'
)


def tuned(xml: str) -> str:
    disk = run("findmnt", "-no", "SOURCE", "/").out.strip()
    limits = LIMITS.format(hard=640, disk=disk)
    return xml.replace("<memoryBacking>", f"{limits}<memoryBacking>").replace("</interface>", NETWORK)


def refused_device(process: int) -> str:
    """What a program in a process's cgroup is told that opens a disk of the host's, which the guest has no right to."""
    return shell(
        f'echo $$ > /sys/fs/cgroup"$(cut -d: -f3 /proc/{process}/cgroup)/cgroup.procs"; '
        "head -c 1 /dev/vda 2>&1 >/dev/null || :"
    )


def test_what_is_tuned_stays_tuned(guests: Guests, host: Host) -> None:
    define(TUNED, tuned)
    guests.adopt(TUNED)
    virsh("start", TUNED.name)
    guests.watch(TUNED)
    before, denials = confinement.picture(TUNED.name), confinement.denials()
    assert "RAM: bind:1" in before
    assert confinement.threads(client.pid(TUNED.name))["CPU 0/KVM"][1:4] == [[0], 1, 2]
    assert "rbps=50000000" in "".join(before)
    assert "isolated on" in "".join(before)
    assert refused_device(client.pid(TUNED.name)).endswith("Operation not permitted\n")
    client.install_qemu("NEW")
    guests.witness.mark()

    report = client.upgrade(TUNED.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded"], report
    assert report["domains"][0]["findings"] == []
    guests.assert_well(TUNED)
    assert confinement.picture(TUNED.name) == before
    assert confinement.denials() == denials
    assert refused_device(client.pid(TUNED.name)).endswith("Operation not permitted\n")


@pytest.fixture
def small(host: Host) -> Iterator[Shape]:
    """The guest of ``provoke``, under KVM."""
    run("python3", "-", stdin=REBUILD)
    guests = Guests()
    guests.start(SMALL)
    yield SMALL
    guests.end()


def room(shape: Shape, mib: int) -> None:
    """Leave so much below the limit of the domain."""
    scope = f"/sys/fs/cgroup/{confinement.scope(shape.name)}"
    used = int(shell(f"cat '{scope}/memory.current'"))
    files = dict(line.split() for line in run("cat", f"{scope}/memory.stat").out.splitlines())
    limit = used - int(files["file"]) + int(files["shmem"]) + (mib << 20)
    virsh("memtune", shape.name, "--live", "--hard-limit", f"{limit}b")


def test_a_limit_that_leaves_no_room_for_a_second_qemu(small: Shape) -> None:
    process = client.pid(small.name)
    room(small, 8)

    report = client.upgrade("--emulator", REBUILT, small.name)

    (domain,) = report["domains"]
    assert domain["result"] == "blocked", report
    assert "memory-limit" in [finding["code"] for finding in domain["findings"]]
    copied = client.upgrade("--emulator", REBUILT, "--mode", "live", small.name)
    told = [finding["message"] for finding in copied["domains"][0]["findings"] if finding["code"] == "memory-limit"]
    assert ["needs the guest's RAM twice" in message for message in told] == [True], copied
    assert client.pid(small.name) == process


def test_where_memory_runs_out_new_qemu_is_killed(small: Shape) -> None:
    """The limit is lowered after virtcpr has looked: the guest, which has more memory, survives."""
    process = client.pid(small.name)
    memory = f"'/sys/fs/cgroup/{confinement.scope(small.name)}'/memory"
    lower = f"echo $(($(cat {memory}.current) + 2097152)) > {memory}.max"

    report = provoke.upgrade(at={"spawn": lower})

    (domain,) = report["domains"]
    assert domain["result"] == "rolled-back", report
    assert "oom-kill" in run("journalctl", "-k", "-o", "cat").out
    assert client.pid(small.name) == process
    assert client.monitor(small.name, "query-status")["running"] is True
