"""A desktop under KVM, and under AppArmor's profiles of QEMU, swtpm and virtiofsd: with all that mode transfer carries
(tests/lab/transfer/test_desktop.py), but with SeaBIOS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.support import confinement
from tests.host.support.machine import Host
from tests.lab.support import desktops, served
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.provoke import NAME, new_process, upgrade
from tests.lab.support.served import HELPERS, SHARES, TPM, Served


@pytest.fixture(scope="module")
def use(host: Host) -> Iterator[Served]:
    slower = {"interval_us": 50_000, "ram_mib": 32, "ram_pause_us": 200_000, "disk_pause_us": 200_000}
    guest = served.made(
        tpm=TPM, shares=SHARES, devices=desktops.DESKTOP + desktops.WEBSOCKETS, kvm=True, memory_mib=384, **slower
    )
    yield Served(guest, "tpm", "share")
    guest.end()


def picture() -> list[str]:
    """But for the cgroups: libvirt leaves the child of a virtiofsd, which does the work, in that of its own daemon."""
    return [line for line in served.picture() if not line.startswith("0::")]


def cgroups() -> set[str]:
    return {line for line in served.picture() if line.startswith("0::")}


def profiles() -> str:
    """AppArmor's, of each process that serves the guest."""
    return shell(f"for pid in $(pgrep -x '{HELPERS}'); do "
                 "echo $(cat /proc/$pid/comm) $(cat /proc/$pid/attr/current); done | sort")  # fmt: skip


def test_it_moves_there_and_back(use: Served) -> None:
    process = use.watched()
    before, confined, denials = picture(), profiles(), confinement.denials()
    seen = confinement.picture(NAME)
    assert f"profile: libvirt-{virsh('domuuid', NAME).strip()} (enforce)" in seen
    for _ in range(2):
        report = upgrade()
        (domain,) = report["domains"]
        codes = [finding["code"] for finding in domain["findings"]]
        assert (domain["result"], codes) == ("upgraded", ["redirdev-spice"]), report
        assert new_process(report) != process
        process = new_process(report)
        use.assert_served(process)
        assert picture() == before
        assert cgroups() == {f"0::/{confinement.scope(NAME)}/libvirt/emulator"}
        assert profiles() == confined
        assert confinement.picture(NAME) == seen
        assert confinement.denials() == denials


def test_new_qemu_is_killed(use: Served) -> None:
    """Roll-back under AppArmor: ports, TPM and shares are old's again."""
    process = use.watched()
    before, denials = picture(), confinement.denials()
    report = upgrade(at={"received": "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    use.assert_served(process)
    assert picture() == before
    assert confinement.denials() == denials


def test_it_is_shut_down_and_started(use: Served) -> None:
    use.watched()
    virsh("destroy", NAME)
    served.until(f"! pgrep -x '{HELPERS}'", 20)
    use.assert_served(use.watched())
    assert run("virtcpr", "check", NAME).code == 0
