"""Where a guest runs and what it may take of the host stays as it is, whoever arranged it: libvirt, virsh, an admin."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL, domain_xml, image_commands

PLACED = replace(SMALL, name="placed", number=41, vcpus=2, iothreads=1)
# No vCPU may have a processor before everybody else: under TCG it never lets go of it.
TUNED = """
<cputune>
  <vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='0'/>
  <emulatorpin cpuset='0'/><iothreadpin iothread='1' cpuset='1'/>
  <emulatorsched scheduler='rr' priority='2'/>
  <vcpusched vcpus='0' scheduler='batch'/>
  <iothreadsched iothreads='1' scheduler='fifo' priority='3'/>
</cputune>
<numatune><memory mode='strict' nodeset='0'/></numatune>
"""
# What an administrator does besides, and what libvirt would do where systemd gave it the controllers for that.
BY_HAND = f"""
P=$(cat /run/libvirt/qemu/{PLACED.name}.pid)
virsh -q vcpupin {PLACED.name} 0 0 --live
virsh -q emulatorpin {PLACED.name} 1 --live
virsh -q iothreadpin {PLACED.name} 1 0 --live
echo 321 > /proc/$P/oom_score_adj
echo 0x3 > /proc/$P/coredump_filter
scope=/sys/fs/cgroup/machine.slice/{PLACED.name}.scope
for part in emulator vcpu0 vcpu1 iothread1; do
    mkdir -p $scope/libvirt/$part
    echo threaded > $scope/libvirt/$part/cgroup.type
done
echo $P > $scope/libvirt/cgroup.procs
for task in /proc/$P/task/*; do
    thread=$(basename $task)
    case $(cat $task/comm) in
    "CPU 0/TCG") part=vcpu0; ionice -c 2 -n 6 -p $thread; renice -n 3 -p $thread >/dev/null ;;
    "CPU 1/TCG") part=vcpu1 ;;
    "IO iothread1") part=iothread1 ;;
    *) part=emulator ;;
    esac
    echo $thread > $scope/libvirt/$part/cgroup.threads
done
"""
# Of every thread that has a name of its own, and of the process; told with other words than virtcpr's own.
LOOK = f"""
import json, pathlib, subprocess
pid = pathlib.Path("/run/libvirt/qemu/{PLACED.name}.pid").read_text().strip()
process = pathlib.Path("/proc", pid)
tell = lambda *argv: subprocess.check_output(argv, text=True).replace(pid, "PID").split(": ", 1)[-1]
views = {{}}
for task in process.glob("task/*"):
    name = (task / "comm").read_text().strip()
    if task.name != pid and not name.startswith(("CPU ", "IO iothread")):
        continue
    status = (task / "status").read_text().splitlines()
    cgroup = next(line for line in (task / "cgroup").read_text().splitlines() if line.startswith("0::"))
    views["main" if task.name == pid else name] = [
        tell("chrt", "-p", task.name).splitlines()[0], tell("ionice", "-p", task.name), cgroup,
        (task / "stat").read_text().rpartition(")")[2].split()[16],
        *[line for line in status if line.startswith(("Cpus_allowed_list", "Mems_allowed_list"))],
    ]
status = (process / "status").read_text().splitlines()
kept = ("Umask", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:")
views["process"] = [
    *[(process / name).read_text() for name in ("limits", "oom_score_adj", "coredump_filter")],
    sorted({{line.split()[1] for line in (process / "numa_maps").read_text().splitlines()}}),
    *[line for line in status if line.startswith(kept)],
]
print(json.dumps(views))
"""


def look() -> dict[str, list[object]]:
    views: dict[str, list[object]] = json.loads(run("python3", "-", stdin=LOOK).out)
    return views


def test_every_thread_stays_where_it_is(guests: Guests) -> None:
    run("python3", "-", stdin=REBUILD)
    shell("echo 'max_files = 2000' >> /etc/libvirt/qemu.conf; systemctl restart libvirtd")
    for command in image_commands(PLACED):
        run(*command)
    xml = domain_xml(PLACED).replace("<features>", f"{TUNED}<features>", 1)
    shell(f"virsh -q define /dev/stdin; virsh -q start {PLACED.name}", stdin=xml)
    guests.adopt(PLACED)
    guests.watch(PLACED)
    shell(BY_HAND)
    before, document = look(), virsh("dumpxml", PLACED.name)
    assert before.keys() == {"main", "CPU 0/TCG", "CPU 1/TCG", "IO iothread1", "process"}
    assert before["process"][3] == ["bind:0"]
    # libvirt leaves room for one more (virProcessSetMaxFiles).
    assert re.search(r"^Max open files +2001 +2001 ", str(before["process"][0]), re.MULTILINE)
    assert "libvirt/vcpu0" in str(before["CPU 0/TCG"][2])
    guests.witness.mark()

    for emulator in (REBUILT, EMULATOR):
        report = client.upgrade(PLACED.name, "--emulator", emulator)
        assert (report["exit_code"], report["domains"][0]["findings"]) == (0, []), report
        guests.assert_well(PLACED)
        assert look() == before

    pseudo_terminals = "s#/dev/pts/[0-9]*##"
    now = run("sed", pseudo_terminals, stdin=virsh("dumpxml", PLACED.name)).out
    assert now == run("sed", pseudo_terminals, stdin=document).out
    virsh("vcpupin", PLACED.name, "0", "0-1", "--live")
    virsh("emulatorpin", PLACED.name, "0-1", "--live")
    assert "0-1" in str(look()["CPU 0/TCG"][4])
    assert "0-1" in str(look()["main"][4])
