"""A TPM goes along: its registers, what is stored in it, what is sealed in its memory; and back.

The witness in the guest extends a register, writes a number and unseals a secret four times a second, and complains
about anything that isn't as it left it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.support import served
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, rehearsed, upgrade
from tests.lab.support.served import CONSOLE, Served, processes


@dataclass(frozen=True)
class Tpm:
    model: str
    version: str

    @property
    def xml(self) -> str:
        return f"<tpm model='{self.model}'><backend type='emulator' version='{self.version}'/></tpm>"


TPMS = {"crb-2.0": Tpm("tpm-crb", "2.0"), "tis-2.0": Tpm("tpm-tis", "2.0"), "tis-1.2": Tpm("tpm-tis", "1.2")}


@pytest.fixture(scope="module", params=["crb-2.0", "tis-1.2", pytest.param("tis-2.0", marks=pytest.mark.thorough)])
def guest(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Guest]:
    made = served.made(tpm=TPMS[request.param].xml)
    yield made
    made.end()


@pytest.fixture
def use(guest: Guest) -> Served:
    return Served(guest, "tpm")


def test_it_moves_there_and_back(use: Served) -> None:
    use.watched()
    assert rehearsed() == "go"
    use.assert_moves_there_and_back()


@pytest.mark.thorough
@pytest.mark.parametrize("guest", ["crb-2.0"], indirect=True)
def test_libvirt_saves_it_with_the_guest(use: Served) -> None:
    use.watched()
    assert upgrade()["domains"][0]["result"] == "upgraded"
    virsh("managedsave", NAME)
    assert processes() == ""
    virsh("start", NAME)
    run("timeout", "30", "sh", "-c", f"until grep -q 'tpm round' {CONSOLE}; do sleep 0.1; done")
    use.assert_served(int(run("pgrep", "qemu-system").out))
    report = upgrade()
    assert report["domains"][0]["result"] == "upgraded", report
    use.assert_served(new_process(report))


@pytest.mark.thorough
@pytest.mark.parametrize("guest", ["crb-2.0"], indirect=True)
def test_libvirt_ends_it_with_the_guest_and_starts_another(use: Served) -> None:
    use.watched()
    assert upgrade()["domains"][0]["result"] == "upgraded"
    virsh("reset", NAME)  # it is read from the disk again
    use.watched()
    virsh("destroy", NAME)
    assert processes() == ""
    # Its socket may stay: libvirt asks it to end, and then doesn't wait for that.
    assert shell("ls /run/libvirt/qemu/swtpm | grep -v '[.]sock$' || :") == ""
    use.assert_served(use.watched())
