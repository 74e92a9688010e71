"""File systems that are full or read-only: virtcpr's journal, libvirt's record of the guest, the history."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.support import client
from tests.lab.support.builds import STOP_DAEMON, UNITS
from tests.lab.support.client import run, shell
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, said, upgrade

JOURNAL, RECORDS, STATE = "/run/virtcpr", "/run/libvirt/qemu", "/var/lib/virtcpr"
FULL, READ_ONLY = "No space left on device", "Read-only file system"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    """Journal and records are on small file systems of their own."""
    shell(
        f"mkdir -p {JOURNAL} {STATE}; mount -t tmpfs -o size=256k,mode=700 tmpfs {JOURNAL}; {STOP_DAEMON}; "
        f"cp -a {RECORDS} /root; mount -t tmpfs -o size=512k,mode=755 tmpfs {RECORDS}; cp -a /root/qemu/. {RECORDS}; "
        f"systemctl start {UNITS}"
    )
    made = Guest()
    yield made
    made.end()


def fill(directory: str) -> str:
    return f"dd if=/dev/zero of={directory}/filler bs=4k 2>/dev/null || :"


def seal(directory: str) -> str:
    """Read-only for whoever opens something in it from now on."""
    return f"mount --bind {directory} {directory}; mount -o remount,bind,ro {directory}"


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    shell(
        f"rm -f {JOURNAL}/filler {RECORDS}/filler 2>/dev/null || :; for d in {JOURNAL} {RECORDS} {STATE}; do "
        "while findmnt -no OPTIONS $d | tail -n 1 | grep -q '^ro'; do umount $d; done; rm -f $d/filler; done"
    )


@pytest.mark.parametrize("state", ["spawn", "connect", "received", "commit"])
def test_a_journal_that_is_full_before_the_point_of_no_return(guest: Guest, state: str) -> None:
    """An action that can't be announced isn't taken."""
    process = guest.is_watched()

    report = upgrade(at={state: fill(JOURNAL)})

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back"), report
    assert "the journal can't be written" in said(report)
    assert FULL in said(report)
    assert f"the guest runs on in old QEMU (process {process})" in said(report)
    guest.assert_well(process)


@pytest.mark.parametrize("break_it", [fill, seal], ids=["full", "read-only"])
def test_a_journal_that_cannot_be_written_after_it(guest: Guest, break_it: type[str]) -> None:
    """It says `committing` for ever, which is enough: the swap is finished, and recovery would come to the same."""
    guest.is_watched()

    report = upgrade(at={"machined": break_it(JOURNAL)})

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    new = new_process(report)
    if break_it is seal:
        assert "the journal can't be removed: Read-only file system; the swap counts as unsettled" in said(report)
        shell(f"umount {JOURNAL}")
        settled = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
        assert settled["domains"][0]["settled"] == "forward"
    guest.assert_well(new)


@pytest.mark.parametrize("step", ["park", "load", "commit"])
def test_a_journal_that_is_full_in_a_parked_move(guest: Guest, step: str) -> None:
    """Where old QEMU has ended, new runs the guest: what was kept of it is given up first."""
    process = guest.is_watched()

    report = upgrade(more=("--mode", "parked"), at={step: fill(JOURNAL)})

    assert "the journal can't be written" in said(report)
    assert report["domains"][0]["result"] == ("rolled-back" if step == "park" else "upgraded"), report
    assert shell(f"ls {JOURNAL}/kept") == ""
    guest.assert_well(process if step == "park" else new_process(report))


def test_a_run_directory_that_is_read_only(guest: Guest) -> None:
    process = guest.is_watched()
    shell(seal(JOURNAL))
    for command in (("upgrade", "--yes", NAME), ("recover", "--all")):
        done = run("virtcpr", *command, check=False)
        assert (done.code, done.out) == (1, ""), done
        assert f"{JOURNAL}/lock can't be opened: {READ_ONLY}; nothing was touched" in done.err
        assert f"{JOURNAL} must be writable" in done.err
    guest.assert_well(process)


@pytest.mark.parametrize(("break_it", "words"), [(fill, FULL), (seal, READ_ONLY)], ids=["full", "read-only"])
def test_a_record_that_cannot_be_written_is_seen_before_the_guest_is_touched(
    guest: Guest, break_it: type[str], words: str
) -> None:
    process = guest.is_watched()

    report = upgrade(at={"spawn": break_it(RECORDS)})

    assert (report["exit_code"], report["domains"][0]["result"]) == (5, "rolled-back"), report
    assert f"{RECORDS}/{NAME}.xml couldn't be written: {words}" in said(report)
    assert report["blackout_ms"] is None
    shell(f"rm -f {RECORDS}/filler 2>/dev/null || umount {RECORDS}")
    guest.assert_well(process)


def test_a_file_system_that_fills_up_in_the_swap(guest: Guest) -> None:
    """What libvirt's record needs was set aside."""
    guest.is_watched()

    report = upgrade(at={"received": fill(RECORDS)})

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    shell(f"rm {RECORDS}/filler")
    guest.assert_well(new_process(report))


def test_a_record_that_cannot_be_written_after_all_leaves_one_owner_and_a_daemon(guest: Guest) -> None:
    """The guest is in new QEMU by then, and must stay there, alone."""
    process = guest.is_watched()
    in_the_way = f"{RECORDS}/{NAME}.xml.virtcpr"

    report = upgrade(at={"machined": f"rm {in_the_way}; mkdir {in_the_way}"})

    shell(f"rm -rf {in_the_way}")
    assert report["exit_code"] == 6, report
    finding = report["domains"][0]["findings"][0]
    assert "the guest was handed to new QEMU" in finding["message"]
    assert finding["remedy"] == "virtcpr recover --all settles it"
    new = new_process(report)
    assert new != process
    assert run("pgrep", "qemu-system").out.split() == [str(new)]
    assert run("systemctl", "is-active", "libvirtd.service").out.strip() == "active"

    # Nothing else is done on this host until that is settled.
    again = run("virtcpr", "upgrade", "--yes", NAME, check=False)
    assert again.code == 6
    assert "was interrupted and isn't settled" in again.err

    done = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)

    assert (done["domains"][0]["settled"], done["domains"][0]["new"]) == ("forward", "running")
    guest.assert_well(new)
    assert upgrade()["exit_code"] == 0


def test_a_history_that_cannot_be_written(guest: Guest) -> None:
    guest.is_watched()
    shell(seal(STATE))

    report = upgrade()

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    guest.assert_well(client.pid(NAME))
