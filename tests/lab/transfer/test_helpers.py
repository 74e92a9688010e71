"""A guest that processes of the host serve, its TPM and its shared directories, whatever fails in a move: one guest,
and one process for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.support import served
from tests.lab.support.chaos import FULL
from tests.lab.support.client import run
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, killed_at, new_process, said, upgrade
from tests.lab.support.served import CONSOLE, SHARES, TPM, Served, picture, processes

KILLED_AT = ("connect", "received", "end-old")
EVERYWHERE = ("arm", "migrate", "attach", "connect", "incoming", "received", "commit", "record", "end-old")


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    made = served.made(tpm=TPM, shares=SHARES)
    yield made
    made.end()


@pytest.fixture
def use(guest: Guest) -> Served:
    return Served(guest, "tpm", "share")


@pytest.mark.parametrize("step", ["attach", "compare", "incoming", "received"] if FULL else ["attach", "received"])
def test_old_has_its_own_again(use: Served, step: str) -> None:
    process, before, first = use.watched(), picture(), processes()
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "TPM" not in said(report)
    use.assert_served(process)
    assert (processes(), picture()) == (first, before)


def test_new_dies_when_the_guest_may_have_run_in_it(use: Served) -> None:
    """Old QEMU resets the guest, and its TPM with it: what the second process has stored is read again."""
    process, before = use.watched(), picture()
    boots = f"grep -c 'witness: boot' {CONSOLE}"
    booted = run("sh", "-c", boots).out.strip()
    report = upgrade(at={"commit": "kill -9 $NEW"})
    assert "it was reset" in said(report)
    run("timeout", "60", "sh", "-c", f"until [ $({boots}) -gt {booted} ]; do sleep 0.1; done")
    for what in use.uses:
        again = f"until tac {CONSOLE} | sed '/witness: boot/q' | grep -q '{what} round'; do sleep 0.1; done"
        run("timeout", "60", "sh", "-c", again)
    use.watched()
    use.assert_served(process)
    assert picture() == before


@pytest.mark.parametrize(("step", "which"), [("attach", "swtpm"), ("attach", "virtiofsd"), ("incoming", "swtpm")])
def test_a_second_one_dies(use: Served, step: str, which: str) -> None:
    process, before = use.watched(), picture()
    report = upgrade(at={step: f"kill -9 $(pgrep -nx {which})"})
    assert report["domains"][0]["result"] == "rolled-back", report
    use.assert_served(process)
    assert picture() == before


@pytest.mark.parametrize("step", ["attach", "connect", "received"] if FULL else ["connect"])
def test_it_is_interrupted(use: Served, step: str) -> None:
    process, before, first = use.watched(), picture(), processes()
    report = upgrade(at={step: "kill -INT $PPID"})
    assert (report["domains"][0]["result"], "interrupted" in said(report)) == ("rolled-back", True), report
    use.assert_served(process)
    assert (processes(), picture()) == (first, before)


@pytest.mark.parametrize("step", EVERYWHERE if FULL else KILLED_AT)
def test_virtcpr_is_killed(use: Served, step: str) -> None:
    """The guardian settles it, either way."""
    use.watched()
    before = picture()
    use.assert_served(killed_at(step))
    assert picture() == before


def test_its_user_destroys_it_meanwhile(use: Served) -> None:
    """libvirt ends the processes that it finds at the sockets' paths, and those in its pid files."""
    use.watched()
    destroy = f"virsh destroy {NAME} </dev/null >/dev/null 2>&1 & sleep 1"
    report = upgrade(at={"compare": destroy})
    assert report["domains"][0]["result"] == "failed", report
    use.guest.assert_ended()
    run("timeout", "20", "sh", "-c", f"while pgrep -x '{served.HELPERS}'; do sleep 0.1; done")
    use.assert_served(use.watched())


def test_they_move_with_it_after_all_that(use: Served) -> None:
    use.watched()
    before = picture()
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    use.assert_served(new_process(report))
    assert picture() == before
