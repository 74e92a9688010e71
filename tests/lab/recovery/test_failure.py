"""A swap that can't succeed, or is interrupted: the guest runs on where it was, and the report says why."""

from __future__ import annotations

import signal
import subprocess

from tests.lab.conftest import Guests
from tests.lab.support import client, provoke
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import LAB, run, shell, virsh
from tests.lab.support.guests import DATABASE, SMALL
from tests.lab.support.leftovers import leftovers, qemu_processes


def test_a_build_that_cannot_load_the_guest_is_rolled_back(guests: Guests) -> None:
    client.install_qemu("NEW")
    run("python3", "-", stdin=REBUILD)
    shapes = (SMALL, DATABASE)
    guests.start(*shapes)
    pids = [client.pid(shape.name) for shape in shapes]
    client.install_qemu("NEXT")
    guests.witness.mark()

    report = client.upgrade("--all", "--no-rehearse")

    assert report["exit_code"] == 5
    for domain in report["domains"]:
        assert domain["result"] == "rolled-back"
        assert "exceeds allocated max" in domain["findings"][0]["message"]
        assert "the guest runs on in old QEMU" in domain["findings"][0]["message"]
        assert domain["findings"][0]["remedy"].startswith("shut the domain down and start it, or wait for a QEMU build")
        assert domain["pause_ms"] > 0
    for shape in shapes:
        guests.assert_well(shape, beats=200)
        assert virsh("domstate", shape.name).strip() == "running"
        assert client.monitor(shape.name, "query-migrate-parameters")["mode"] == "normal"
    assert [client.pid(shape.name) for shape in shapes] == pids
    assert leftovers() == ""
    assert qemu_processes() == 2

    known = client.upgrade("--all")  # it isn't tried again

    assert [domain["result"] for domain in known["domains"]] == ["blocked", "blocked"], known
    (refused,) = [finding for finding in known["domains"][0]["findings"] if finding["severity"] == "blocker"]
    assert (refused["code"], "exceeds allocated max" in refused["message"]) == ("refused-before", True)
    guests.assert_well(SMALL)

    again = client.upgrade("--all", "--emulator", REBUILT)

    assert [domain["result"] for domain in again["domains"]] == ["upgraded", "upgraded"], again
    for shape in shapes:
        guests.assert_well(shape)
        assert f"<emulator>{REBUILT}</emulator>" in virsh("dumpxml", shape.name)
        assert client.qemu_version(shape.name) == client.upstream(client.versions()["NEW"])


def test_new_qemu_that_dies_at_once_touches_nothing(guests: Guests) -> None:
    """The emulator is sound when it is asked, but can't make this machine: its firmware is gone."""
    client.install_qemu("OLD")
    guests.start(SMALL)
    process = client.pid(SMALL.name)
    client.install_qemu("NEW")
    run("mv", "/usr/share/seabios", "/usr/share/seabios.away")
    try:
        report = client.upgrade(SMALL.name)
    finally:
        run("mv", "/usr/share/seabios.away", "/usr/share/seabios")

    assert report["exit_code"] == 5, report
    # Its twin can't be made in the old build either: that tells nothing of the new one.
    unsure, failed = report["domains"][0]["findings"]
    assert unsure["code"] == "rehearsal-unsure"
    assert "could not load PC BIOS" in failed["message"]
    assert client.pid(SMALL.name) == process
    guests.assert_well(SMALL)
    assert leftovers() == ""
    assert qemu_processes() == 1


def interrupted_at(phase: str) -> subprocess.CompletedProcess[str]:
    """An upgrade that gets SIGINT as soon as it says that it is in a phase."""
    command = [str(LAB), "exec", "virtcpr", "upgrade", "--all", "--emulator", REBUILT, "--yes", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = ""
        for line in process.stderr:
            said += line
            if f": {phase}" in line:
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.read()
        out = process.stdout.read()
    return subprocess.CompletedProcess(command, process.returncode, out, said)


def test_ctrl_c_before_the_point_of_no_return_rolls_back(guests: Guests) -> None:
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    process = client.pid(SMALL.name)

    done = interrupted_at("spawn")

    assert done.returncode == 5, done
    assert "interrupted" in done.stdout
    assert client.pid(SMALL.name) == process
    assert virsh("domstate", SMALL.name).strip() == "running"
    assert leftovers() == ""
    assert qemu_processes() == 1
    guests.assert_well(SMALL)
    assert client.upgrade(SMALL.name, "--emulator", REBUILT)["exit_code"] == 0


def test_ctrl_c_while_the_daemon_is_being_stopped_rolls_back(guests: Guests) -> None:
    """Every new QEMU waits already, no guest was touched: they are ended, and the daemon is started again."""
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    process = client.pid(SMALL.name)
    slow = "/run/systemd/system/libvirtd.service.d/slow.conf"
    stop = "ExecStop=sh -c 'touch /run/stopping; until test -e /run/go-on; do sleep 0.05; done'"
    shell(f"mkdir -p {slow.rpartition('/')[0]}; cat > {slow}; systemctl daemon-reload", stdin=f"[Service]\n{stop}\n")
    try:
        command = ["virtcpr", "upgrade", SMALL.name, "--emulator", REBUILT, "--yes", "-o", "json"]
        with subprocess.Popen([str(LAB), "exec", *command], stdout=subprocess.PIPE, text=True) as upgrade:
            run("sh", "-c", "until test -e /run/stopping; do sleep 0.05; done")
            upgrade.send_signal(signal.SIGINT)
            run("touch", "/run/go-on")
            out, _ = upgrade.communicate(timeout=60)
    finally:
        shell(f"rm -f {slow} /run/stopping /run/go-on; systemctl daemon-reload")

    assert upgrade.returncode == 5, out
    assert "interrupted; the guest runs on in old QEMU" in out
    assert client.pid(SMALL.name) == process
    assert virsh("domstate", SMALL.name).strip() == "running"
    assert leftovers() == ""
    assert qemu_processes() == 1
    guests.assert_well(SMALL)


def test_ctrl_c_after_it_finishes_the_domain(guests: Guests) -> None:
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    process = client.pid(SMALL.name)

    done = interrupted_at("commit")

    assert done.returncode == 0, done
    assert client.pid(SMALL.name) != process
    assert virsh("domstate", SMALL.name).strip() == "running"
    assert leftovers() == ""
    guests.assert_well(SMALL)


def test_a_guest_that_dies_in_the_blackout_is_said_to_be_dead(guests: Guests) -> None:
    """Nothing can be saved of a guest whose QEMU is killed, but no second one may be left, nor the daemon down."""
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    report = provoke.upgrade(at={"incoming": "kill -9 $OLD"})

    assert report["exit_code"] == 1, report
    assert report["domains"][0]["result"] == "failed"
    assert "both processes are gone, and the guest with them" in report["domains"][0]["findings"][-1]["message"]
    assert qemu_processes() == 0
    assert "shut off" in virsh("domstate", SMALL.name)
    assert leftovers() == ""
