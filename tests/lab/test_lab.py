"""The lab itself: the only way in passes everything through, and survives being killed."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.lab.support import client
from tests.lab.support.client import LAB
from tests.lab.support.machine import Lab
from tests.lab.support.process import Process


def test_exec_passes_stdin_stdout_and_stderr(lab: Lab) -> None:
    done = client.run("sh", "-c", "cat; echo oops >&2", stdin="through")
    assert (done.out, done.err) == ("through", "oops\n")


def test_exec_passes_the_exit_code(lab: Lab) -> None:
    assert client.run("sh", "-c", "exit 42", check=False).code == 42
    assert client.run("no-such-command", check=False).code == 127


def test_exec_passes_signals(lab: Lab) -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([LAB, "exec", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "caught\n"
    assert process.returncode == 3


def test_it_is_a_whole_system(lab: Lab) -> None:
    assert client.run("cat", "/proc/1/comm").out.strip() == "systemd"
    assert client.run("systemctl", "is-system-running").out.strip() == "running"
    assert "default" in client.virsh("net-list")
    assert "Running hypervisor: QEMU 10." in client.virsh("version")
    known = client.versions()
    assert client.run("dpkg-query", "-Wf", "${Version}", "qemu-system-x86").out == known["OLD"]
    assert len({known["OLD"], known["NEW"], known["NEXT"]}) == 3


def test_it_has_no_network_but_its_own(lab: Lab) -> None:
    assert client.run("ip", "-o", "route", "show", "default").out == ""


def test_up_keeps_a_running_lab(lab: Lab) -> None:
    client.run("touch", "/root/kept")
    lab.up()
    assert client.run("ls", "/root").out.split() == ["kept"]


def test_reset_forgets_everything(lab: Lab) -> None:
    client.run("touch", "/root/forgotten")
    lab.reset()
    assert client.run("ls", "/root").out == ""


def test_it_comes_back_after_its_machine_was_killed(lab: Lab) -> None:
    client.run("touch", "/root/before")
    leader = Process.of(lab.leader())
    machine = int((lab.run / "pid").read_text().split()[0])
    os.kill(machine, signal.SIGKILL)
    lab.up()
    assert not leader.alive()
    assert lab.leader() != leader.pid
    assert client.run("ls", "/root").out == ""
