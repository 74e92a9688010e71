"""A TPM goes along: its registers, what is stored in it, what is sealed in its memory; and back, whatever fails.

The witness in the guest extends a register, writes a number and unseals a secret four times a second, and complains
about anything that isn't as it left it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, said, upgrade, virtcpr


@dataclass(frozen=True)
class Tpm:
    model: str
    version: str

    @property
    def xml(self) -> str:
        return f"<tpm model='{self.model}'><backend type='emulator' version='{self.version}'/></tpm>"


CRB = Tpm("tpm-crb", "2.0")
TPMS = {"crb-2.0": CRB, "tis-2.0": Tpm("tpm-tis", "2.0"), "tis-1.2": Tpm("tpm-tis", "1.2")}
CONSOLE = replace(SMALL, serial="file").serial_path
STATE = """
pid=$(pgrep -x swtpm)
tr '\\0' ' ' < /proc/$pid/cmdline; echo
grep -E '^(Uid|Gid|Groups|Cap...):' /proc/$pid/status
grep ^0: /proc/$pid/cgroup; cat /proc/$pid/oom_score_adj
readlink /proc/$pid/ns/mnt /proc/$pid/exe
readlink /proc/$pid/fd/* | grep -vE '^(socket|pipe|/dev/null)' | sort -u
stat -c '%U:%G %a %n' /run/libvirt/qemu/swtpm/* /var/lib/libvirt/swtpm/*/*/* /var/lib/libvirt/swtpm/*/*/.lock
[ $(cat /run/libvirt/qemu/swtpm/*.pid) = $pid ]
"""


@pytest.fixture(scope="module", params=TPMS)
def tpm(request: pytest.FixtureRequest) -> Tpm:
    return TPMS[request.param]


@pytest.fixture(scope="module")
def guest(lab: Lab, tpm: Tpm) -> Iterator[Guest]:
    # The BIOS's table of the TPM is where a kernel that isn't packed goes.
    made = Guest(tpm.xml, kernel_options=f"witness.tpm={tpm.version[0]}", packed=True, serial="file")
    yield made
    made.end()


def only_crb(test: object) -> object:
    return pytest.mark.parametrize("tpm", ["crb-2.0"], indirect=True)(test)


def picture() -> list[str]:
    """What shows of the process, but its number, and the numbers of its descriptors."""
    return shell(STATE).splitlines()


def rounds() -> int:
    return int(shell(f"grep -o 'tpm round [0-9]*' {CONSOLE} | tail -n 1 | tr -dc 0-9 | grep ."))


def watched(guest: Guest) -> int:
    """It runs, and has used its TPM."""
    process = guest.is_watched()
    run("timeout", "60", "sh", "-c", f"until grep -q 'tpm round' {CONSOLE}; do sleep 0.1; done")
    return process


def assert_served(guest: Guest, process: int) -> None:
    """By one process, and still in use."""
    seen = rounds()
    guest.assert_well(process)
    assert len(run("pgrep", "-x", "swtpm").out.split()) == 1
    run("timeout", "20", "sh", "-c", f"until grep -q 'tpm round {seen + 8}' {CONSOLE}; do sleep 0.1; done")


def test_it_moves_there_and_back(guest: Guest) -> None:
    watched(guest)
    before, first = picture(), run("pgrep", "-x", "swtpm").out
    for _ in range(2):
        report = upgrade()
        (domain,) = report["domains"]
        assert (domain["result"], domain["findings"]) == ("upgraded", []), report
        assert_served(guest, new_process(report))
        assert picture() == before
    assert run("pgrep", "-x", "swtpm").out != first


def test_libvirt_ends_it_with_the_guest_and_starts_another(guest: Guest) -> None:
    watched(guest)
    assert upgrade()["domains"][0]["result"] == "upgraded"
    virsh("reset", NAME)  # it is read from the disk again
    watched(guest)
    virsh("destroy", NAME)
    assert run("pgrep", "-x", "swtpm", check=False).out == ""
    # Its socket may stay: libvirt asks it to end, and then doesn't wait for that.
    assert shell("ls /run/libvirt/qemu/swtpm | grep -v '[.]sock$' || :") == ""
    process = watched(guest)
    assert_served(guest, process)


@only_crb
@pytest.mark.parametrize("step", ["attach", "compare", "incoming", "received"])
def test_old_has_its_own_again(guest: Guest, step: str) -> None:
    process, before = watched(guest), picture()
    first = run("pgrep", "-x", "swtpm").out
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "TPM" not in said(report)
    assert_served(guest, process)
    assert run("pgrep", "-x", "swtpm").out == first
    assert picture() == before


@only_crb
def test_new_dies_when_the_guest_may_have_run_in_it(guest: Guest) -> None:
    """Old QEMU resets the guest, and its TPM with it: what the second process has stored is read again."""
    process, before = watched(guest), picture()
    boots = f"grep -c 'witness: boot' {CONSOLE}"
    booted = run("sh", "-c", boots).out.strip()
    report = upgrade(at={"commit": "kill -9 $NEW"})
    assert "it was reset" in said(report)
    run("timeout", "60", "sh", "-c", f"until [ $({boots}) -gt {booted} ]; do sleep 0.1; done")
    again = f"until tac {CONSOLE} | sed '/witness: boot/q' | grep -q 'tpm round'; do sleep 0.1; done"
    run("timeout", "60", "sh", "-c", again)
    guest.is_watched()
    assert_served(guest, process)
    assert picture() == before


@only_crb
@pytest.mark.parametrize("step", ["attach", "incoming"])
def test_the_second_one_dies(guest: Guest, step: str) -> None:
    process, before = watched(guest), picture()
    report = upgrade(at={step: "kill -9 $(pgrep -nx swtpm)"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert_served(guest, process)
    assert picture() == before


@only_crb
@pytest.mark.parametrize(
    "step", ["arm", "migrate", "attach", "connect", "incoming", "received", "commit", "end-old", "record"]
)
def test_virtcpr_is_killed(guest: Guest, step: str) -> None:
    """The guardian settles it: one guest, one process for its TPM, either way."""
    watched(guest)
    before = picture()
    killed = virtcpr("upgrade", NAME, "--yes", "--force", "--no-rehearse", at={step: "kill -9 $PPID"})
    assert killed.code != 0
    run("timeout", "60", "sh", "-c", "while ls /run/virtcpr/journal/*.json; do sleep 0.1; done")
    run("timeout", "60", "sh", "-c", "until virsh -q list >/dev/null 2>&1; do sleep 0.1; done")
    assert_served(guest, int(run("pgrep", "qemu-system").out))
    assert picture() == before


@only_crb
def test_its_user_destroys_it_meanwhile(guest: Guest) -> None:
    """libvirt ends the process that it finds at the socket's path, and the one in its pid file."""
    watched(guest)
    destroy = f"virsh destroy {NAME} </dev/null >/dev/null 2>&1 & sleep 1"
    report = upgrade(at={"compare": destroy})
    assert report["domains"][0]["result"] == "failed", report
    guest.assert_ended()
    run("timeout", "20", "sh", "-c", "while pgrep -x swtpm; do sleep 0.1; done")
    assert_served(guest, watched(guest))


@only_crb
def test_it_is_rehearsed(guest: Guest) -> None:
    watched(guest)
    planned = json.loads(run("virtcpr", "plan", NAME, "--force", "-o", "json", check=False).out)
    (domain,) = planned["domains"]
    assert domain["rehearsal"]["verdict"] == "go", planned
