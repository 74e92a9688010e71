"""A SPICE display on a unix socket: new QEMU's is beside old's until the guest is new's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.support.client import run, shell, virsh
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, upgrade, virtcpr
from tests.paths import INSIDE

CLIENT = (INSIDE / "spice_client.py").read_text()
OWN, WRONG = "sesame", "guess"
DISPLAY = (
    f"<graphics type='spice' passwd='{OWN}'><listen type='socket'/></graphics><video><model type='virtio'/></video>"
)


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    made = Guest(DISPLAY)
    yield made
    made.end()


def socket() -> str:
    return shell(f"virsh dumpxml {NAME} | grep -o \"socket='[^']*spice.sock\" | head -n 1 | cut -c 9-").strip()


def served() -> bool:
    """By the process whose socket is at the path; the file is as QEMU makes it."""
    answered: dict[str, bool] = json.loads(run("python3", "-", socket(), OWN, WRONG, stdin=CLIENT).out)
    assert shell(f"ls {socket()}.virtcpr 2>/dev/null || :") == ""
    return answered == {OWN: True, WRONG: False}


def test_it_moves_there_and_back(guest: Guest) -> None:
    guest.is_watched()
    assert served()
    before = virsh("domdisplay", NAME), shell(f"stat -c '%U:%G %a' {socket()}")
    for _ in range(2):
        report = upgrade()
        (domain,) = report["domains"]
        assert (domain["result"], domain["findings"]) == ("upgraded", []), report
        assert served()
        assert (virsh("domdisplay", NAME), shell(f"stat -c '%U:%G %a' {socket()}")) == before
        guest.assert_well(new_process(report))


@pytest.mark.parametrize("step", ["compare", "received"])
def test_old_keeps_its_own(guest: Guest, step: str) -> None:
    process = guest.is_watched()
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert served()
    guest.assert_well(process)


@pytest.mark.parametrize(("step", "settled"), [("attach", "back"), ("end-old", "forward")])
def test_virtcpr_is_killed(guest: Guest, step: str, settled: str) -> None:
    guest.is_watched()
    before = "systemctl stop virtcpr-guardian* || :; kill -9 $PPID"
    assert virtcpr("upgrade", NAME, "--yes", "--force", "--no-rehearse", at={step: before}).code != 0
    report = json.loads(run("virtcpr", "recover", "--all", "-o", "json").out)
    assert [domain["settled"] for domain in report["domains"]] == [settled], report
    assert served()
    guest.assert_well(int(run("pgrep", "qemu-system").out))
