"""What goes wrong without a crash: something hangs, refuses, or the guest does something by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, UNITS
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import (
    DROP_IN,
    NAME,
    PANIC,
    POWER_OFF,
    RESET,
    Guest,
    daemon_with,
    new_process,
    said,
    upgrade,
    virtcpr,
)

# The deadlines of a swap, so short that a test can wait for them.
SHORT = {
    "actions.transfer.handover.START_SECONDS": 4,
    "actions.transfer.ownership.MOVE_SECONDS": 4,
    "actions.transfer.handover.MOVE_SECONDS": 4,
}
HASTY = SHORT | {"actions.transfer.ownership.ANSWER_SECONDS": 3, "actions.transfer.handover.ANSWER_SECONDS": 3}


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    made = Guest()
    yield made
    made.end()


def by_hand_again() -> None:
    """As the hint says; a person would be too slow for systemd's limit of starts.

    libvirtd 11.3 sometimes hangs in its own shutdown, and outlives its unit by up to 30 s; it holds its pid file then.
    """
    gone = "timeout 60 sh -c 'while pgrep -x libvirtd >/dev/null; do sleep 0.2; done'"
    shell(f"systemctl stop libvirtd.service; {gone}; systemctl reset-failed {UNITS}; systemctl start {UNITS}")


# Memory runs out, on the host or in the guest's cgroup: the kernel kills whoever is most expendable.

SCORES = "cat /proc/$OLD/oom_score_adj /proc/$NEW/oom_score_adj >> /run/scores"


def test_who_has_the_guest_is_the_last_to_be_killed(guest: Guest) -> None:
    guest.is_watched()
    shell("rm -f /run/scores")

    report = upgrade(at={"attach": SCORES, "incoming": SCORES, "machined": SCORES})

    assert report["domains"][0]["result"] == "upgraded", report
    assert run("cat", "/run/scores").out.split() == ["0", "1000", "0", "1000", "1000", "0"]
    assert run("cat", f"/proc/{new_process(report)}/oom_score_adj").out == "0\n"


def test_a_guest_that_stays_is_as_little_expendable_as_before(guest: Guest) -> None:
    process = guest.is_watched()
    shell(f"echo 7 > /proc/{process}/oom_score_adj")

    report = upgrade(at={"received": "kill -9 $NEW"})

    assert report["domains"][0]["result"] == "rolled-back", report
    assert run("cat", f"/proc/{process}/oom_score_adj").out == "7\n"
    shell(f"echo 0 > /proc/{process}/oom_score_adj")


# New QEMU hangs: before it listens, before its monitor, while it loads the guest.


def test_new_qemu_that_hangs_before_it_listens(guest: Guest) -> None:
    process = guest.is_watched()
    hanging = "/usr/local/bin/qemu-hanging"
    script = f'#!/bin/sh\ncase "$*" in *cpr.sock*) kill -STOP $$;; esac\nexec {EMULATOR} "$@"\n'
    shell(f"cat > {hanging}; chmod +x {hanging}", stdin=script)

    report = upgrade(emulator=hanging, deadlines={"actions.transfer.new_qemu.READY_SECONDS": 2})

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back")
    assert "new QEMU didn't open the CPR channel within 2 s" in said(report)
    assert f"the guest runs on in old QEMU (process {process})" in said(report)
    assert report["blackout_ms"] is None
    assert "hanging" not in run("ps", "-e", "-o", "args").out
    guest.assert_well(process)


def test_new_qemu_that_hangs_before_its_monitor(guest: Guest) -> None:
    process = guest.is_watched()

    report = upgrade(at={"attach": "kill -STOP $NEW"}, deadlines=SHORT)

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back")
    assert "(new QEMU): QEMU's monitor didn't answer within 4 s" in said(report)
    assert f"the guest runs on in old QEMU (process {process})" in said(report)
    guest.assert_well(process)


def test_new_qemu_that_hangs_while_it_loads_the_guest(guest: Guest) -> None:
    """The guest is paused, or about to be: it runs on in old as soon as new is dead."""
    process = guest.is_watched()

    deadlines = SHORT | {"actions.transfer.handover.ANSWER_SECONDS": 4}
    report = upgrade(at={"received": "kill -STOP $NEW"}, deadlines=deadlines)

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back")
    # It stopped after it had loaded the guest, and doesn't answer; or before, and the migration goes on.
    late = r"QEMU didn't answer \S+ within|the migration isn't completed .* after"
    assert re.search(rf"\(new QEMU\): ({late}) 4 s", said(report))
    assert f"the guest runs on in old QEMU (process {process})" in said(report)
    guest.assert_well(process)


# Old QEMU hangs, and the guest with it.


def test_old_qemu_that_hangs_while_new_is_made(guest: Guest) -> None:
    """libvirt waits for it, too, and knows that the domain runs."""
    process = guest.is_watched()

    report = upgrade(at={"compare": "kill -STOP $OLD"}, deadlines=HASTY | {"host.libvirt.calls.CALL_SECONDS": 3})

    assert (report["exit_code"], report["domains"][0]["result"]) == (6, "unknown")
    assert "libvirt's daemon didn't answer within 3 s" in said(report)
    assert report["blackout_ms"] is None
    assert run("pgrep", "qemu-system").out.split() == [str(process)]
    run("kill", "-CONT", str(process))
    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
    assert settled["domains"][0]["settled"] == "back"
    guest.assert_well(process)


@pytest.mark.parametrize("step", ["connect", pytest.param("incoming", marks=pytest.mark.thorough)])
def test_old_qemu_that_hangs_in_the_swap_is_settled_when_it_answers_again(guest: Guest, step: str) -> None:
    process = guest.is_watched()

    report = upgrade(at={step: "kill -STOP $OLD"}, deadlines=HASTY)

    assert (report["exit_code"], report["domains"][0]["result"]) == (6, "unknown")
    assert f"old QEMU is process {process}" in said(report)
    assert report["domains"][0]["findings"][0]["remedy"] == "virtcpr recover --all settles it"
    assert run("pgrep", "qemu-system").out.split() == [str(process)]
    assert run("systemctl", "is-active", "libvirtd.service").out.strip() == "active"

    # libvirt doesn't see it meanwhile, and doesn't start it a second time.
    assert "shut off" in virsh("domstate", NAME)
    assert "runs already" in run("virsh", "start", NAME, check=False).err

    run("kill", "-CONT", str(process))
    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)

    assert settled["domains"][0]["settled"] == "back"
    guest.assert_well(process)


def test_old_qemu_that_hangs_at_the_point_of_no_return(guest: Guest) -> None:
    """New has the guest and runs it; old is ended, and nobody asks it anything any more."""
    guest.is_watched()

    report = upgrade(at={"commit": "kill -STOP $OLD"}, deadlines=HASTY)

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    assert report["domains"][0]["findings"] == []
    guest.assert_well(new_process(report))


def test_a_qemu_that_hangs_is_not_waited_for_by_those_who_only_look(guest: Guest) -> None:
    process = guest.is_watched()
    run("kill", "-STOP", str(process))
    try:
        done = virtcpr("check", NAME, deadlines={"host.libvirt.calls.CALL_SECONDS": 2})
    finally:
        run("kill", "-CONT", str(process))
    assert done.code == 4, done
    assert "libvirt's daemon didn't answer within 2 s: it hangs, or a QEMU that it waits for" in done.out
    guest.assert_well(process)


# The migration is refused; another virtcpr; the domain changes.


def test_a_migration_that_is_refused(guest: Guest) -> None:
    process = guest.is_watched()

    report = upgrade(at={"migrate": "rm /var/lib/libvirt/qemu/domain-*/cpr.sock"})

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back")
    assert "QEMU refused migrate: Failed to connect to" in said(report)
    assert f"the guest runs on in old QEMU (process {process})" in said(report)
    guest.assert_well(process)


def test_others_in_the_middle_of_a_swap(guest: Guest) -> None:
    """Another virtcpr does nothing, and the first one isn't disturbed."""
    guest.is_watched()
    others = (
        "for other in 'upgrade --all --yes' 'recover --all'; do virtcpr $other; echo $?; done >/run/others 2>&1 || :"
    )

    report = upgrade(at={"migrate": others})

    assert report["exit_code"] == 0, report
    heard = run("cat", "/run/others").out
    assert heard.count("; nothing was touched") == 2, heard
    assert heard.count("another virtcpr is at work (process ") == 2
    assert [line for line in heard.splitlines() if line.isdecimal()] == ["1", "1"]
    guest.assert_well(new_process(report))


def test_a_guest_suspended_after_planning(guest: Guest) -> None:
    process = guest.is_watched()

    report = upgrade(at={"spawn": f"virsh suspend {NAME}"})

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back")
    assert f"{NAME} changed between planning and the swap (domstatus)" in said(report)
    assert virsh("domstate", "--reason", NAME).strip() == "paused (user)"
    virsh("resume", NAME)
    guest.assert_well(process)


def test_a_guest_that_boots_while_it_is_moved(guest: Guest) -> None:
    """Its agent connects between planning and the swap, and libvirt writes that down: no change of the domain."""
    guest.is_watched()
    until = f"timeout 110 sh -c 'until virsh dumpxml {NAME} | grep -q state=.{{}}; do sleep 0.2; done'"
    virsh("reset", NAME)
    shell(until.format("disconnected"))

    report = upgrade(at={"spawn": until.format("connected")})

    assert (report["exit_code"], report["domains"][0]["findings"]) == (0, []), report
    guest.is_watched()
    guest.assert_well(new_process(report))


def test_a_record_of_libvirts_that_is_damaged_in_the_middle(guest: Guest) -> None:
    """What it said before the swap is in the journal."""
    guest.is_watched()

    report = upgrade(at={"record": f"echo damaged > /run/libvirt/qemu/{NAME}.xml"})

    assert report["exit_code"] == 0, report
    guest.assert_well(new_process(report))


# libvirt's daemon doesn't stop, doesn't start.


def test_a_daemon_that_does_not_stop(guest: Guest) -> None:
    """It has old's monitor still: the guest runs on, and what old was told is taken back once there is a daemon."""
    process = guest.is_watched()
    waits = "ExecStop=sh -c 'until test -e /run/go-on; do sleep 0.05; done'\nTimeoutStopSec=infinity"
    with daemon_with(waits):
        report = upgrade(deadlines={"host.libvirt.daemon.STOP_SECONDS": 3, "host.libvirt.daemon.START_SECONDS": 2})
        run("touch", "/run/go-on")
    assert (report["exit_code"], report["domains"][0]["result"]) == (6, "unknown")
    assert "libvirt's daemon (libvirtd.service) doesn't stop: systemctl stop" in said(report)
    assert "took more than 3 s" in said(report)
    assert f"old QEMU is process {process}" in said(report)
    assert run("pgrep", "qemu-system").out.split() == [str(process)]
    by_hand = "then: systemctl stop libvirtd.service; systemctl start libvirtd"
    assert "libvirt's daemon (libvirtd.service) doesn't start" in report["notes"][0]
    assert by_hand in report["notes"][0]
    by_hand_again()
    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
    assert settled["domains"][0]["settled"] == "back"
    assert run("systemctl", "is-active", *UNITS.split()).out.split() == ["active"] * 4
    run("rm", "/run/go-on")
    guest.assert_well(process)


def test_a_daemon_that_does_not_start(guest: Guest) -> None:
    """The guest runs in new QEMU; neither virtcpr nor `recover` can do more than say so."""
    guest.is_watched()
    with daemon_with("# nothing yet"):
        report = upgrade(at={"connect": f"echo ExecStartPre=false >> {DROP_IN}; systemctl daemon-reload"})
        recovered = run("virtcpr", "recover", "--all", check=False)

    assert (report["exit_code"], report["domains"][0]["result"]) == (6, "unknown")
    assert "libvirt's daemon (libvirtd.service) doesn't start" in said(report)
    assert "the guest runs in new QEMU" in said(report)
    by_hand = "then: systemctl stop libvirtd.service; systemctl start libvirtd"
    assert by_hand in report["domains"][0]["findings"][-1]["remedy"]
    new = new_process(report)
    assert run("pgrep", "qemu-system").out.split() == [str(new)]
    assert (recovered.code, recovered.out) == (1, "")
    assert "libvirt's daemon (libvirtd.service) doesn't start" in recovered.err
    assert "every swap that could be settled is settled" in recovered.err
    assert by_hand in recovered.err

    by_hand_again()

    guest.assert_well(new)


def test_recover_settles_it_once_the_daemon_can_start(guest: Guest) -> None:
    guest.is_watched()
    with daemon_with("# nothing yet"):
        report = upgrade(at={"connect": f"echo ExecStartPre=false >> {DROP_IN}; systemctl daemon-reload"})
    assert report["exit_code"] == 6

    settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)

    assert settled["domains"][0]["settled"] == "forward"
    guest.assert_well(new_process(report))


# The guest does something by itself.  These leave it ended or booting.


def test_a_guest_ended_after_planning(guest: Guest) -> None:
    guest.runs()

    report = upgrade(at={"spawn": f"virsh destroy {NAME}"})

    assert (report["exit_code"], report["domains"][0]["result"]) == (1, "failed")
    assert "ended, before it could be moved" in said(report)
    guest.assert_ended()


@pytest.mark.parametrize("step", ["incoming", "pause", "machined"])
def test_a_guest_that_shuts_itself_down(guest: Guest, step: str) -> None:
    """Before, in and after the hand-over, with the daemon down: it stays shut down, and isn't called lost."""
    guest.runs()

    report = upgrade(say={step: ("new" if step == "machined" else "old", POWER_OFF)})

    assert (report["exit_code"], report["domains"][0]["result"]) == (1, "failed")
    finding = report["domains"][0]["findings"][-1]
    assert finding["code"] == "ended"
    assert "the guest shut itself down" in finding["message"]
    guest.assert_ended()
    assert virsh("domstate", "--reason", NAME).strip() == "shut off (shutdown)"


@pytest.mark.parametrize("step", ["incoming", "pause"])
def test_a_guest_that_panics(guest: Guest, step: str) -> None:
    """It stays as it is: in old as long as that has it, else in new."""
    process = guest.runs()

    report = upgrade(say={step: ("old", PANIC)})

    if step == "incoming":
        assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back")
        assert f"the guest is stopped (guest-panicked) in old QEMU (process {process})" in said(report)
    else:
        assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded")
        assert "libvirt says that the domain is crashed" in said(report)
        process = new_process(report)
    assert virsh("domstate", "--reason", NAME).strip() == "crashed (panicked)"
    assert run("pgrep", "qemu-system").out.split() == [str(process)]
    assert leftovers() == ""


@pytest.mark.parametrize("step", ["pause", "machined"])
def test_a_guest_that_reboots(guest: Guest, step: str) -> None:
    guest.runs()

    report = upgrade(say={step: ("new" if step == "machined" else "old", RESET)})

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    assert virsh("domstate", NAME).strip() == "running"
    assert client.monitor(NAME, "query-status")["running"] is True
    if step == "pause":  # it would take as long for both
        guest.assert_well(guest.is_watched())
