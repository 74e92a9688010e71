"""SELinux, enforced: every label is as before a move; without virtcpr's policy module nothing is begun."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Disk
from tests.paths import HOST

GUEST = replace(KVM, name="labelled", number=60, memory_mib=192, ram_mib=16, disks=(Disk(), Disk("scsi", "raw")))
BOOT = "security=selinux selinux=1 enforcing=0"
OTHER = replace(GUEST, name="other", number=61, disks=(Disk(),))
# As docs/security.md says.
LOAD = "checkmodule -M -m -o {0}.mod {1} && semodule_package -o {0}.pp -m {0}.mod && semodule -i {0}.pp"
# Run on the host: the labels of a process's listening sockets, which SELinux judges by.
SOCKETS = r"""
import ctypes, os, socket, sys
pid = int(sys.argv[1])
libc, old = ctypes.CDLL(None, use_errno=True), os.pidfd_open(pid)
PIDFD_GETFD = 438
for number in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
    if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
        found = socket.socket(fileno=libc.syscall(PIDFD_GETFD, old, number, 0))
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            # The directory has the domain's number, which a restart by libvirt changes; new QEMU's was bound beside.
            name = str(found.getsockname()).rpartition("/")[2].removesuffix(".virtcpr")
            print("socket", name, os.getxattr(found.fileno(), "security.selinux").decode().strip("\0"))
"""


@pytest.fixture(scope="module", autouse=True)
def enforced(host: Host) -> None:
    """The host with SELinux in AppArmor's stead, and what libvirt itself lacks in Debian's policy."""
    host.reboot(options=BOOT)
    shell("restorecon -R /etc /root /usr/local /var", timeout=600)  # what was written without SELinux has no label
    shell(
        f"cat > /root/libvirt.te; cd /root; {LOAD.format('libvirt', 'libvirt.te')}",
        stdin=(HOST / "inside/libvirt.te").read_text(),
        timeout=600,
    )
    run("setenforce", "1")


def labels(name: str) -> list[str]:
    """Of QEMU, of its listening sockets, and of the file by which libvirt reaches its monitor."""
    process = client.pid(name)
    return [
        f"process {confinement.profile(process)}",
        *run("python3", "-c", SOCKETS, str(process)).out.splitlines(),
        shell(f"cd /var/lib/libvirt/qemu/domain-*-{name}; stat -c '%n %C' monitor.sock"),
    ]


def denials() -> set[str]:
    """What SELinux has denied since the host started: who, what, of whom."""
    lines = run("journalctl", "-k", "-o", "cat").out.splitlines()
    found = (
        re.search(r"denied (.*?) for .*scontext=(\S+?):s0.* tcontext=(\S+?):s0.* tclass=(\S+)", line) for line in lines
    )
    return {" ".join(match.groups()) for match in found if match}


def upgraded(guests: Guests, *command: str) -> None:
    """Move the guest by this command, which is virtcpr's; whatever has a label keeps it, nothing new is denied."""
    before, denied, process = labels(GUEST.name), denials(), client.pid(GUEST.name)
    guests.witness.mark()

    done = run(*command, GUEST.name, check=False, timeout=600)

    assert done.code == 0, (done, denials() - denied)
    guests.assert_well(GUEST, beats=50)
    assert client.pid(GUEST.name) != process
    assert labels(GUEST.name) == before
    assert denials() == denied


def outdate() -> None:
    """Have another QEMU installed than the guest's, which is whatever the tests before this one left it in."""
    known = client.versions()
    client.install_qemu("OLD" if client.qemu_version(GUEST.name) == client.upstream(known["NEW"]) else "NEW")


@pytest.fixture(scope="module")
def guests(enforced: None) -> Iterator[Guests]:
    client.install_qemu("OLD")
    made = Guests()
    made.start(GUEST)
    yield made
    made.end()


def test_without_its_module_nothing_is_begun(guests: Guests) -> None:
    label = confinement.profile(client.pid(GUEST.name))
    assert label.startswith("system_u:system_r:svirt_t:s0:c")
    client.install_qemu("NEW")

    report = client.upgrade(GUEST.name)

    (domain,) = report["domains"]
    assert domain["result"] == "blocked"
    # Without it QEMU can't even be asked what it can: it would with TCG, which makes code.
    assert {finding["code"] for finding in domain["findings"]} == {"emulator", "selinux"}
    (finding,) = (finding for finding in domain["findings"] if finding["code"] == "selinux")
    assert finding["message"].endswith(f"start a QEMU with the guest's label {label}")
    assert "docs/security.md" in finding["remedy"]
    guests.assert_well(GUEST, beats=50)


def test_with_it_every_label_stays(guests: Guests) -> None:
    outdate()
    shell(f"cd /root; {LOAD.format('virtcpr', '/usr/src/virtcpr/selinux/virtcpr.te')}", timeout=600)
    upgraded(guests, "virtcpr", "upgrade", "--yes")


def test_from_a_unit(guests: Guests) -> None:
    """The label of virtcpr is another there."""
    outdate()
    upgraded(guests, "systemd-run", "--wait", "--pipe", "--quiet", "virtcpr", "upgrade", "--yes")


def test_no_hook_is_installed_that_libvirt_may_not_run(guests: Guests) -> None:
    """Its daemon would end every guest when it starts anew."""
    outdate()
    done = client.virtcpr("hooks", "install")
    assert done.code == 1
    assert "isn't written: libvirt's daemon may not run it (SELinux), and would end every guest" in done.err

    report = client.upgrade("--mode", "reboot", GUEST.name)

    (domain,) = report["domains"]
    assert domain["result"] == "failed"
    assert "nothing was touched" in domain["findings"][0]["message"]
    assert shell("find /etc/libvirt/hooks -name '*virtcpr*'") == ""
    guests.assert_well(GUEST, beats=50)


def test_a_daemon_with_such_a_hook_is_not_stopped(guests: Guests) -> None:
    """One that was installed when SELinux was permissive."""
    outdate()
    run("setenforce", "0")
    client.virtcpr("hooks", "install", check=True)
    run("setenforce", "1")
    daemon, process = run("cat", "/run/libvirt/qemu/driver.pid").out, client.pid(GUEST.name)

    for mode in ("transfer", "reboot"):
        done = client.virtcpr("upgrade", "--yes", "--mode", mode, GUEST.name)
        assert done.code != 0
        assert "may not run its hook /etc/libvirt/hooks/qemu.d/virtcpr (SELinux)" in done.out + done.err

    guests.assert_well(GUEST, beats=50)
    assert run("cat", "/run/libvirt/qemu/driver.pid").out == daemon
    assert client.pid(GUEST.name) == process
    client.virtcpr("hooks", "remove", check=True)
    upgraded(guests, "virtcpr", "upgrade", "--yes")


def test_two_in_one_batch(guests: Guests) -> None:
    """Each has categories of its own, and QEMU lets nobody in who has the other's."""
    guests.start(OTHER)
    outdate()
    before = {shape.name: labels(shape.name) for shape in (GUEST, OTHER)}
    assert before[GUEST.name][0] != before[OTHER.name][0]
    denied = denials()
    guests.witness.mark()

    report = client.upgrade(GUEST.name, OTHER.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded", "upgraded"], (report, denials() - denied)
    for shape in (GUEST, OTHER):
        guests.assert_well(shape, beats=50)
    assert {shape.name: labels(shape.name) for shape in (GUEST, OTHER)} == before
    assert denials() == denied


def test_libvirt_ends_what_was_moved(guests: Guests) -> None:
    virsh("destroy", GUEST.name)
    virsh("start", GUEST.name)
    guests.watch(GUEST)
