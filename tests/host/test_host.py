"""The host itself: it is what it says, the way in passes everything through, and it survives what is done to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.host.support.machine import Host
from tests.lab.support import client
from tests.lab.support.client import run, shell
from tests.paths import HOST


def test_exec_passes_stdin_stdout_and_stderr(host: Host) -> None:
    done = run("sh", "-c", "cat; echo oops >&2", stdin="through")
    assert (done.out, done.err) == ("through", "oops\n")


def test_exec_passes_words_as_they_are(host: Host) -> None:
    assert run("printf", "[%s]", "a b", "$HOME", "it's", "").out == "[a b][$HOME][it's][]"


@pytest.mark.parametrize("code", [0, 42, 255])
def test_exec_passes_the_exit_code(host: Host, code: int) -> None:
    assert run("sh", "-c", f"exit {code}", check=False).code == code


def test_a_command_that_is_not_there(host: Host) -> None:
    assert run("no-such-command", check=False).code == 127


def test_exec_passes_signals(host: Host) -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    command = [str(HOST / "host"), "exec", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "caught\n"
    assert process.returncode == 3


def test_it_is_a_whole_system(host: Host) -> None:
    assert run("systemctl", "is-system-running").out.strip() == "running"
    assert "Running hypervisor: QEMU 10." in client.virsh("version")
    assert abs(float(run("date", "+%s").out) - time.time()) < 5
    known = client.versions()
    assert run("dpkg-query", "-Wf", "${Version}", "qemu-system-x86").out == known["OLD"]
    assert run("virtcpr", "--version").out.startswith("virtcpr ")
    assert run("ip", "-o", "route", "show", "default").out == ""


def test_it_has_what_a_real_host_has(host: Host) -> None:
    assert run("cat", "/sys/module/kvm_amd/parameters/npt").out.strip() in ("1", "Y")
    assert "<domain type='kvm'" in client.virsh("capabilities")
    assert run("aa-enabled").out.strip() == "Yes"
    assert {"cpu", "cpuset", "io", "memory"} <= set(run("cat", "/sys/fs/cgroup/cgroup.controllers").out.split())
    assert run("systemctl", "is-active", "systemd-machined").out.strip() == "active"
    assert run("cat", "/sys/devices/system/node/online").out.strip() == "0-1"
    assert "/dev/vhost-net" in shell("ls /dev/vhost-net /dev/kvm")


def test_it_has_devices_to_spare(host: Host) -> None:
    assert "pmem0" in shell("ls /dev")
    groups = shell(
        "for class in 0x020000 0x010802; do for d in /sys/bus/pci/devices/*; do "
        '[ "$(cat $d/class)" = $class ] && [ ! -e $d/virtio0 ] && basename "$(readlink $d/iommu_group)"; done; done'
    ).split()
    assert len(groups) >= 2


def test_up_keeps_a_running_host(host: Host) -> None:
    run("touch", "/root/kept")
    host.up()
    assert "kept" in run("ls", "/root").out.split()


def test_it_reboots_into_another_kernel(host: Host) -> None:
    kernels = dict(line.split("=") for line in run("cat", "/etc/virtcpr-host/kernels").out.splitlines())
    assert run("uname", "-r").out.strip() == kernels["stable"]
    shell("touch /run/gone /root/stays; echo stays > /dev/pmem0")
    host.reboot("backports")
    assert run("uname", "-r").out.strip() == kernels["backports"]
    assert shell("ls /root/stays; [ ! -e /run/gone ]; head -n 1 /dev/pmem0") == "/root/stays\nstays\n"
    assert shell("ls /dev/kvm").strip() == "/dev/kvm"


def test_it_comes_back_after_its_machine_was_killed(host: Host) -> None:
    pid = int((host.run / "pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    host.up()
    assert run("uname", "-r").code == 0


def test_reset_forgets_everything(host: Host) -> None:
    run("touch", "/root/forgotten")
    host.reset()
    assert "forgotten" not in run("ls", "/root").out


def test_a_host_that_is_down_is_no_failure_of_the_command(host: Host) -> None:
    host.down()
    done = run("true", check=False)
    assert (done.code, done.err) == (125, "host: it isn't running: tests/host/host up\n")
    assert not host.run.exists()
