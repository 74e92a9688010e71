"""Shared directories (virtiofs) go along, one mounted and in use, one not: new QEMU gets processes of its own for them.

The witness streams to a file and reads it back without a pause, keeps another open, lists a directory, and makes,
renames and removes a file four times a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.support import served
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import DELETED, NAME, Guest, new_process, said, upgrade, virtcpr
from tests.lab.support.served import SHARES, Served

OTHER = SHARES[SHARES.index("\n<filesystem", 1) :]  # not mounted


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    made = served.made(shares=SHARES)
    yield made
    made.end()


@pytest.fixture
def use(guest: Guest) -> Served:
    return Served(guest, "share")


def test_it_can_be_taken_out_after_a_move(use: Served) -> None:
    """libvirt ends the process that its pid file names; and the guest moves on without it."""
    use.watched()
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    run("virsh", "-q", "detach-device", NAME, "/dev/stdin", "--live", stdin=OTHER)
    run("timeout", "20", "sh", "-c", f"while virsh dumpxml {NAME} | grep -q /srv/other; do sleep 0.1; done")
    run("timeout", "20", "sh", "-c", "while pgrep -f '[/]srv/other'; do sleep 0.1; done")
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    use.assert_served(new_process(report))


def test_one_that_was_attached_is_refused(use: Served) -> None:
    process = use.watched()
    if "/srv/other" not in virsh("dumpxml", NAME):
        run("virsh", "-q", "attach-device", NAME, "/dev/stdin", "--live", stdin=OTHER)
    report = upgrade()
    assert report["domains"][0]["result"] == "blocked", report
    assert "character device chr-vu-fs1 was added since the guest started" in said(report)
    use.assert_served(process)
    virsh("destroy", NAME)


@pytest.mark.thorough
def test_libvirt_ends_it_with_the_guest_and_starts_another(use: Served) -> None:
    use.watched()
    assert upgrade()["domains"][0]["result"] == "upgraded"
    virsh("reset", NAME)
    use.watched()
    virsh("destroy", NAME)
    run("timeout", "20", "sh", "-c", "while pgrep -x virtiofsd; do sleep 0.1; done")
    assert shell("ls /run/libvirt/qemu/*-fs.pid 2>/dev/null || :") == ""
    use.assert_served(use.watched())


def test_many_files_are_told_of_before(use: Served) -> None:
    """Each takes its part of the pause."""
    use.watched()
    shell("cd /srv/share/many && seq -f more-%.0f 3000 | xargs touch")
    try:
        run("timeout", "60", "sh", "-c", f"until grep -q 'SHARE ERROR' {served.CONSOLE}; do sleep 0.1; done")
        planned = json.loads(run("virtcpr", "plan", NAME, "--force", "-o", "json", check=False).out)
        (finding,) = planned["domains"][0]["findings"]
        assert finding["code"] == "virtiofs-files", planned
    finally:
        shell("rm /srv/share/many/more-*")
        virsh("destroy", NAME)


def test_an_open_file_that_is_deleted_on_the_host(use: Served) -> None:
    """virtiofsd can't find it again: the guest stays where it is, and isn't refused the next time."""
    process = use.watched()
    shell("rm /srv/share/rounds-*")
    report = upgrade()
    (domain,) = report["domains"]
    assert domain["result"] == "rolled-back", report
    assert domain["findings"][0]["remedy"].startswith(DELETED)
    planned = json.loads(run("virtcpr", "plan", NAME, "--force", "-o", "json").out)
    assert planned["domains"][0]["findings"] == []
    use.assert_served(process)


def test_it_is_mounted_in_mode_reboot(use: Served) -> None:
    virsh("destroy", NAME)
    use.watched()
    other = EMULATOR if f"<emulator>{REBUILT}<" in virsh("dumpxml", NAME) else REBUILT
    done = virtcpr("upgrade", NAME, "--mode", "reboot", "--force", "--yes", "-o", "json", "--emulator", other)
    (domain,) = json.loads(done.out)["domains"]
    assert domain["result"] == "upgraded", done
    use.assert_served(int(run("pgrep", "qemu-system").out))
