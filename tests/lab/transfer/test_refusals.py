"""Requests and states that are refused with a reason and a remedy; nothing is touched.  Devices: test_findings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import IMAGES, SMALL, Disk, Shape, domain_xml, image_commands
from tests.lab.support.machine import Lab

NAME, OWN = SMALL.name, "own"
Start = Callable[..., None]


def started(name: str = NAME) -> str:
    """The guest's process by number and start time: the same as long as it wasn't touched."""
    return shell(f"P=$(cat /run/libvirt/qemu/{name}.pid); cut -d' ' -f1,22 /proc/$P/stat")


@pytest.fixture(scope="module")
def rebuilt(lab: Lab) -> str:
    """Another build of the QEMU that is installed: every guest is outdated against it."""
    run("python3", "-", stdin=REBUILD)
    return REBUILT


@pytest.fixture(scope="module")
def outdated(rebuilt: str) -> Iterator[None]:
    """One prepared guest for all the tests that leave it as it is."""
    client.start(SMALL)
    yield
    client.remove(SMALL.name)


@pytest.fixture
def fresh(rebuilt: str) -> Iterator[Callable[..., None]]:
    """Starts a guest of its own for a test that needs another shape, or ``extra`` device XML."""

    def start(shape: Shape, extra: str = "") -> None:
        xml = domain_xml(replace(shape, name=OWN, number=40)).replace("</devices>", f"{extra}</devices>")
        for command in image_commands(replace(shape, name=OWN)):
            run(*command)
        shell(f"virsh -q define /dev/stdin; virsh -q start {OWN}", stdin=xml)

    yield start
    client.remove(OWN)


def refused(name: str, emulator: str = REBUILT) -> dict[str, Any]:
    """The report of an upgrade that must be blocked."""
    report = client.upgrade(name, "--emulator", emulator)
    assert report["exit_code"] == 4, report
    (domain,) = report["domains"]
    assert domain["result"] == "blocked"
    return dict(domain)


def texts(domain: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {f["code"]: (f["message"], f["remedy"]) for f in domain["findings"]}


def test_a_shut_off_domain(fresh: Start) -> None:
    fresh(SMALL)
    virsh("destroy", OWN)
    found = texts(refused(OWN))
    assert found["not-running"][0] == "the domain is shut off"
    assert "virsh start own" in found["not-running"][1]


def test_a_domain_paused_by_an_io_error(fresh: Start) -> None:
    shell("mkdir -p /srv/full; mount -t tmpfs -o size=256k,mode=755 tmpfs /srv/full")
    fresh(replace(SMALL, disks=(Disk("virtio", "raw", path="/srv/full/own.raw"),)))
    run("timeout", "60", "sh", "-c", f"until virsh domstate {OWN} | grep -q paused; do sleep 0.2; done")
    before = started(OWN)

    found = texts(refused(OWN))

    assert found["paused"][0] == "the domain is paused by libvirt or QEMU (I/O error)"
    assert "virsh resume own" in found["paused"][1]
    assert started(OWN) == before


def test_an_active_block_job(outdated: None) -> None:
    path = f"{IMAGES}/copy.qcow2"
    virsh("blockcopy", NAME, "vda", path, "--transient-job", "--bandwidth", "1")
    before = started()
    try:
        found = texts(refused(NAME))
    finally:
        virsh("blockjob", NAME, "vda", "--abort")
    assert "libvirt or QEMU is busy with the domain: a block job" in found["job"][0]
    assert "virsh domjobinfo small" in found["job"][1]
    assert started() == before


def test_an_active_backup(outdated: None) -> None:
    backup = "<domainbackup mode='pull'><server transport='unix' socket='/var/tmp/nbd.sock'/></domainbackup>"
    shell(f"virsh backup-begin {NAME} /dev/stdin", stdin=backup)
    before = started()
    try:
        found = texts(refused(NAME))
    finally:
        virsh("domjobabort", NAME)
    assert "a backup" in found["job"][0]
    assert started() == before


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_lock_manager(outdated: None, quote: str) -> None:
    line = f"lock_manager = {quote}lockd{quote}\n"
    shell("cp /etc/libvirt/qemu.conf /root; cat >> /etc/libvirt/qemu.conf", stdin=line)
    try:
        found = texts(refused(NAME))
    finally:
        shell("mv /root/qemu.conf /etc/libvirt/qemu.conf")
    assert found["lock-manager"][0] == "libvirt holds leases of the disks (lockd)"
    assert "can't be handed over" in found["lock-manager"][1]


def test_a_process_that_may_not_open_enough_files(outdated: None) -> None:
    """The soft limit is raised; here it is the hard one."""
    before = started()
    command = f"ulimit -n 84; exec virtcpr upgrade --yes -o json --parallel 1 --emulator {REBUILT} {NAME}"
    done = run("sh", "-c", command, check=False)
    assert done.code == 4, done
    (domain,) = json.loads(done.out)["domains"]
    assert domain["result"] == "blocked"
    assert texts(domain)["descriptors"] == (
        "virtcpr may have 84 files open, and needs more to move this domain together with the others of the batch",
        f"move it in a batch of its own afterwards ('virtcpr upgrade {NAME}'), or raise the hard limit of open files "
        "('ulimit -Hn')",
    )
    assert started() == before


def test_an_image_that_libvirt_does_not_know(fresh: Start) -> None:
    """Attached past libvirt: nobody can tell how it would have to be opened anew."""
    fresh(SMALL)
    run("truncate", "-s", "8M", f"{IMAGES}/late.raw")
    image = {"driver": "file", "filename": f"{IMAGES}/late.raw", "node-name": "late", "read-only": True}
    client.monitor(OWN, "blockdev-add", **image)
    before = started(OWN)
    found = texts(refused(OWN))
    assert found["changed"][0] == (
        "block node late was attached or changed since the guest started, and it isn't in libvirt's record"
    )
    assert started(OWN) == before
    client.monitor(OWN, "blockdev-del", **{"node-name": "late"})
    assert client.upgrade(OWN, "--emulator", REBUILT)["domains"][0]["result"] == "upgraded"


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/no/such/qemu", "emulator", "doesn't exist"),
        ("qemu-system-x86_64", "emulator", "isn't an absolute path"),
        ("/etc/hosts", "emulator", "isn't executable"),
        ("/usr/bin", "emulator", "isn't a file"),
        ("/usr/bin/true", "emulator", "isn't QEMU, or is broken"),
        (
            "/usr/lib/virtcpr-lab/aarch64/usr/bin/qemu-system-aarch64",
            "emulator-arch",
            "runs aarch64 guests, this guest is x86_64",
        ),
    ],
)
def test_an_emulator_that_cannot_be_used(outdated: None, path: str, code: str, said: str) -> None:
    before = started()
    found = texts(refused(NAME, path))
    assert said in found[code][0]
    assert path in found[code][0]
    assert started() == before


def fails(code: int, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """What a command that must fail says on stderr; stdout stays empty."""
    done = run(*prefix, "virtcpr", *arguments, check=False)
    assert (done.code, done.out) == (code, ""), done
    return done.err


def test_an_unknown_domain(outdated: None) -> None:
    said = fails(2, "upgrade", "--yes", "nobody")
    assert "there is no domain 'nobody'" in said
    assert "virsh list --all" in said


@pytest.mark.parametrize("uri", ["qemu+ssh://host/system", "qemu://host/system"])
def test_a_remote_uri(outdated: None, uri: str) -> None:
    said = fails(2, "-c", uri, "upgrade", "--yes", NAME)
    assert "on another host" in said


def test_another_hypervisor(outdated: None) -> None:
    assert "isn't the system's QEMU driver" in fails(2, "-c", "test:///default", "upgrade", "--yes", NAME)


def test_not_root(outdated: None) -> None:
    said = fails(1, "upgrade", "--yes", NAME, prefix=("setpriv", "--reuid", "nobody", "--clear-groups"))
    assert "only root can move guests" in said


def test_the_daemon_does_not_run(outdated: None) -> None:
    units = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service"
    before = started()
    shell(f"systemctl stop {units}")
    try:
        said = fails(1, "upgrade", "--yes", NAME)
    finally:
        shell("systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket")
    assert "libvirt's daemon doesn't answer" in said
    assert "systemctl status libvirtd" in said
    assert started() == before


def test_another_virtcpr_at_work(outdated: None) -> None:
    holder = ("sh", "-c", 'mkdir -p /run/virtcpr; exec flock /run/virtcpr/lock "$@"', "sh")
    said = fails(1, "upgrade", "--yes", NAME, prefix=holder)
    assert re.search(r"another virtcpr is at work \(process .+\); nothing was touched", said)


def test_an_error_in_json(outdated: None) -> None:
    done = run("virtcpr", "upgrade", "--yes", "-o", "json", "nobody", check=False)
    report = json.loads(done.out)
    assert (done.code, report["exit_code"], report["domains"]) == (2, 2, [])
    assert "no domain" in report["error"]["message"]
