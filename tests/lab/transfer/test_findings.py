"""Every finding that the lab can produce: check names it, upgrade refuses for the same reasons, the remedy ends it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import IMAGES, SMALL, Shape, domain_xml, image_commands
from tests.lab.support.machine import Lab

OWN = replace(SMALL, name="own", number=40)
Edit = Callable[[str], str]
# libvirt's secret with the key of a TPM's state.
SECRET = "b0a1b3c4-5d6e-4f70-8192-a3b4c5d6e7f8"
KEY = f"<secret private='yes'><uuid>{SECRET}</uuid><usage type='vtpm'><name>own</name></usage></secret>"

# Devices that can't follow, and the codes of what is found.
DEVICES: tuple[tuple[str, set[str]], ...] = (
    ("<filesystem type='mount'><source dir='/srv/'/><target dir='x'/></filesystem>", set()),
    (
        "<filesystem type='mount'><driver type='virtiofs'/><binary><cache mode='none'/></binary><source dir='/srv'/>"
        "<target dir='y'/></filesystem>",
        {"virtiofs", "virtiofs-process"},
    ),
    (
        "<shmem name='mem' role='peer'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
        {"shmem", "qemu-blocked"},
    ),
    ("<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>", {"crypto", "qemu-blocked"}),
    ("<sound model='usb'/>", {"sound", "qemu-blocked"}),
    ("<redirdev bus='usb' type='spicevmc'/>", set()),
    (
        "<redirdev bus='usb' type='tcp'><source mode='connect' host='127.0.0.1' service='7777'/></redirdev>",
        {"redirdev", "chardev-client"},
    ),
    ("<smartcard mode='passthrough' type='spicevmc'/>", {"smartcard"}),
    ("<serial type='tcp'><source mode='connect' host='127.0.0.1' service='7777'/></serial>", {"chardev-client"}),
    (
        "<channel type='unix'><source mode='connect' path='/run/peer.sock'/><target type='virtio' name='p'/></channel>",
        {"chardev-client"},
    ),
    (
        "<channel type='qemu-vdagent'><target type='virtio' name='com.redhat.spice.1'/></channel>",
        {"qemu-blocked", "not-yet-run"},
    ),
    ("<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>", set()),
    ("<graphics type='spice'><listen type='socket' socket='/tmp/own.sock'/></graphics>", {"spice"}),
    (
        "<interface type='user'><backend type='passt'/><model type='virtio'/><portForward proto='tcp'>"
        "<range start='2222' to='22'/></portForward></interface>",
        {"passt", "passt-process"},
    ),
    (
        "<interface type='udp'><source address='127.0.0.1' port='7778'>"
        "<local address='127.0.0.1' port='7779'/></source><model type='virtio'/></interface>",
        {"interface"},
    ),
    (
        f"<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='{SECRET}'/></backend></tpm>",
        {"tpm", "tpm-process"},
    ),
)
NVME = "<qemu:arg value='-device'/><qemu:arg value='nvme,serial=virtcpr,addr=0x10'/>"


def device(text: str) -> Edit:
    return lambda xml: xml.replace("</devices>", f"{text}</devices>")


@pytest.fixture(scope="module", autouse=True)
def host(lab: Lab) -> Iterator[None]:
    """What the devices above need, and another build of QEMU, against which every guest is outdated."""
    run("python3", "-", stdin=REBUILD)
    shell("virsh -q secret-define /dev/stdin", stdin=KEY)
    shell(f"virsh -q secret-set-value {SECRET} $(printf key | base64)")
    shell("chmod 755 /srv; qemu-img create -q -f vmdk /srv/own.vmdk 64M")
    shell("systemd-run -q --unit=peer socat UNIX-LISTEN:/run/peer.sock,fork,mode=777 /dev/null")
    shell("systemd-run -q --unit=tcp-peer socat TCP-LISTEN:7777,fork,reuseaddr /dev/null")
    for command in image_commands(OWN):
        run(*command)
    yield
    shell("systemctl stop peer tcp-peer")
    virsh("secret-undefine", SECRET)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    client.remove(OWN.name)


def define(edit: Edit = str, shape: Shape = OWN) -> None:
    shell("virsh -q define /dev/stdin", stdin=edit(domain_xml(shape)))


def start(edit: Edit = str, shape: Shape = OWN) -> None:
    define(edit, replace(shape, name=OWN.name, number=OWN.number))
    virsh("start", OWN.name)


def again(edit: Edit = str, shape: Shape = OWN) -> None:
    """The guest started anew, of another make."""
    client.remove(OWN.name)
    start(edit, shape)


def found(*options: str, modes: frozenset[str] = frozenset({"transfer"})) -> dict[str, dict[str, Any]]:
    """What `check` finds that concerns some modes, by code."""
    report = json.loads(client.virtcpr("check", OWN.name, "--mode", "transfer", "-o", "json", *options).out)
    (domain,) = report["domains"]
    assert report["exit_code"] == (4 if domain["modes"]["transfer"] == "blocked" else 0)
    return {f["code"]: f for f in domain["findings"] if set(f["modes"]) & modes}


def refused() -> set[str]:
    """The codes for which `upgrade` refuses; the guest isn't touched."""
    process = client.pid(OWN.name)
    report = client.upgrade(OWN.name, "--emulator", REBUILT)
    (domain,) = report["domains"]
    assert (report["exit_code"], domain["result"]) == (4, "blocked"), report
    assert client.pid(OWN.name) == process
    return {f["code"] for f in domain["findings"] if f["severity"] == "blocker"}


def moved() -> None:
    report = client.upgrade(OWN.name, "--emulator", REBUILT)
    assert report["domains"][0]["result"] == "upgraded", report


def test_what_only_mode_reboot_can_move() -> None:
    """The remedy of these findings; a TPM keeps its state, which is part of the guest's, and gets its key again."""
    names = {
        "virtiofs",
        "virtiofs-process",
        "tpm",
        "tpm-process",
        "redirdev",
        "chardev-client",
        "smartcard",
        "spice",
        "interface",
        "passt",
        "passt-process",
    }
    own = "".join(text for text, codes in DEVICES if codes <= names)
    start(device(own), replace(OWN, prepared=False, ram_file=True))
    before = virsh("dumpxml", OWN.name)
    remedies = {code: finding["remedy"] for code, finding in found().items() if code in names}
    assert remedies.keys() == names
    assert "helpers" in found(modes=frozenset({"exec"}))
    assert all(f"'virtcpr upgrade --mode reboot {OWN.name}'" in remedy for remedy in remedies.values())
    mode = ("--mode", "reboot", "--emulator", REBUILT)
    planned = json.loads(run("virtcpr", "plan", *mode, "-o", "json", OWN.name, check=False).out)
    assert planned["domains"][0]["findings"] == [], "the twin does without the TPM and the shared directory"
    report = client.upgrade(OWN.name, *mode)
    (domain,) = report["domains"]
    assert (domain["result"], domain["findings"]) == ("upgraded", []), report
    for kind in ("<tpm", "<graphics", "<redirdev", "<smartcard", "<filesystem", "<channel", "type='user'"):
        assert virsh("dumpxml", OWN.name).count(kind) == before.count(kind) > 0


def test_devices_that_cannot_follow() -> None:
    """All of them in one guest: every one is named, not the first only; without them nothing is left."""
    every = "".join(text for text, _ in DEVICES)
    start(device(every))

    checked = found()

    expected = set().union(*(codes for _, codes in DEVICES))
    assert checked.keys() == expected | {"redirdev-spice", "interface-user"}, "those are warnings"
    assert all(f["remedy"] and f["source"] for f in checked.values())
    assert refused() == expected

    again()
    assert found() == {}


def test_helpers_that_libvirt_does_not_start() -> None:
    """No mode is offered for them, nor is it while the domain doesn't run."""
    tpm = "<source type='unix' mode='connect' path='/run/tpm.sock'/>"
    share = "<driver type='virtiofs' queue='1024'/><source socket='/run/fs.sock'/><target dir='y'/>"
    every = f"<tpm model='tpm-crb'><backend type='external'>{tpm}</backend></tpm><filesystem>{share}</filesystem>"
    define(device(every))

    transfer, reboot = found(modes=frozenset({"transfer"})), found(modes=frozenset({"reboot"}))

    assert {"tpm-external", "virtiofs-external"} <= transfer.keys() & reboot.keys()
    assert not {"tpm", "virtiofs"} & transfer.keys()
    assert not any("--mode reboot" in transfer[code]["remedy"] for code in ("tpm-external", "virtiofs-external"))


@pytest.mark.parametrize(
    ("edit", "codes"),
    [
        (device("<graphics type='dbus'/>"), {"display", "changed", "not-yet-run"}),
        (lambda xml: xml.replace('<target dev="vda"', '<transient/><target dev="vda"'), {"transient-disk"}),
        (lambda xml: xml.replace("<qemu:commandline>", f"<qemu:commandline>{NVME}"), {"qemu-blocked", "not-yet-run"}),
    ],
    ids=["display", "transient-disk", "qemu-blocked"],
)
def test_what_goes_with_nothing_else(edit: Edit, codes: set[str]) -> None:
    start(edit)
    assert found().keys() == codes
    assert refused() == codes
    again()
    assert found() == {}


def test_an_unprepared_guest_is_prepared_and_booted() -> None:
    start(shape=replace(OWN, prepared=False))
    checked = found()
    assert checked.keys() == refused() == {"ram-private", "aux-ram-share"}
    assert (
        checked["ram-private"]["remedy"]
        == "'virtcpr prepare --live own', or 'virtcpr prepare own' and then shut it down and start it"
    )

    client.virtcpr("prepare", OWN.name, "--yes", check=True)

    checked = found()
    assert checked.keys() == {"ram-private", "aux-ram-share", "cold-boot-pending"}
    assert checked["ram-private"]["remedy"] == (
        "its persistent XML is prepared: 'virtcpr prepare --live own', or shut it down and start it"
    )
    virsh("destroy", OWN.name)
    assert found().keys() == {"not-running"}
    virsh("start", OWN.name)
    assert found() == {}
    moved()


def test_a_guest_that_was_started_paused() -> None:
    """It has never run, and QEMU treats it otherwise than one that was suspended."""
    define()
    virsh("start", OWN.name, "--paused")
    assert found().keys() == refused() == {"qemu-status"}
    virsh("resume", OWN.name)
    virsh("suspend", OWN.name)
    assert found() == {}
    moved()
    assert virsh("domstate", OWN.name).strip() == "paused"


def test_a_stopped_unprepared_domain() -> None:
    define(shape=replace(OWN, prepared=False))
    checked = found()
    assert checked.keys() == {"not-running", "ram-private", "aux-ram-share"}
    assert "RAM won't be shared (main memory)" in checked["ram-private"]["message"]


def test_persistent_xml_that_is_not_prepared() -> None:
    start()
    define(lambda xml: xml, replace(OWN, prepared=False, uuid=virsh("domuuid", OWN.name).strip()))
    checked = found()
    assert checked.keys() == {"next-boot-unprepared"}
    assert checked["next-boot-unprepared"]["severity"] == "warning"
    client.virtcpr("prepare", OWN.name, "--yes", check=True)
    assert found().keys() == {"boot-rom"}, "which it has until its next start"


def test_capabilities_and_a_mode_that_were_left() -> None:
    start()
    # Neither goes with the other, nor with the mode, so one after the other.
    for capability, code in (("postcopy-ram", "capability"), ("pause-before-switchover", "capability-stream")):
        virsh("qemu-monitor-command", OWN.name, _capability(capability, True))
        assert found().keys() == {code}
        assert refused() == {code}
        virsh("qemu-monitor-command", OWN.name, _capability(capability, False))
    client.monitor(OWN.name, "migrate-set-parameters", mode="cpr-transfer")
    assert found().keys() == {"mode-left"}
    client.monitor(OWN.name, "migrate-set-parameters", mode="normal")
    assert found() == {}


def _capability(name: str, state: bool) -> str:
    listed = [{"capability": name, "state": state}]
    return json.dumps({"execute": "migrate-set-capabilities", "arguments": {"capabilities": listed}})


def test_limits_that_go_along() -> None:
    start()
    virsh("domblkthreshold", OWN.name, "vda", "1M")
    virsh("blkdeviotune", OWN.name, "vda", "--total-iops-sec", "500")
    limits = {"write-threshold", "iotune"}  # which cpr-exec wouldn't carry
    assert limits <= found(modes=frozenset({"exec"})).keys()
    assert found(modes=frozenset({"transfer", "live"})) == {}
    moved()
    assert limits <= found(modes=frozenset({"exec"})).keys()


def test_a_mode_that_was_left_is_no_hindrance_and_is_put_right() -> None:
    start()
    client.monitor(OWN.name, "migrate-set-parameters", mode="cpr-transfer")
    moved()
    assert found() == {}


def test_an_image_that_only_transfer_can_move() -> None:
    edit: Edit = lambda xml: xml.replace('type="qcow2"', 'type="vmdk"').replace(OWN.disk_path(0), "/srv/own.vmdk")  # noqa: E731
    define(edit)
    assert "format" in found(modes=frozenset({"live"}))
    virsh("start", OWN.name)
    assert found() == {}
    assert "qemu-blocked-live" in found(modes=frozenset({"live"}))
    moved()


def test_a_guest_that_needs_more_than_the_host_has() -> None:
    start(shape=replace(OWN, memory_mib=64 << 10))
    checked = found(modes=frozenset({"live"}))
    assert "mode live needs the guest's RAM twice: 65536 MiB, but only" in checked["host-memory"]["message"]
    assert found() == {}


def test_ram_in_a_file_that_would_be_wiped() -> None:
    start(lambda xml: xml.replace('<source type="memfd" />', '<source type="file" /><discard/>'))
    checked = found()
    assert checked.keys() == {"discard-data"}
    assert checked["discard-data"]["severity"] == "warning"
    moved()


def test_what_speaks_against_exec() -> None:
    start()
    assert found(modes=frozenset({"exec"})).keys() == {"sandbox", "emulator-exec", "qemu-old-exec"}
    assert client.virtcpr("check", OWN.name, "--mode", "exec").code == 4
    assert client.virtcpr("check", OWN.name).code == 0


def test_a_domain_that_cannot_be_examined() -> None:
    """It is one domain's own trouble: the others are shown as ever."""
    start()
    shell(f"mv /run/libvirt/qemu/{OWN.name}.xml /root/")
    try:
        assert found().keys() == {"unreadable"}
        assert refused() == {"unreadable"}
        assert client.virtcpr("list").code == 0
    finally:
        shell(f"mv /root/{OWN.name}.xml /run/libvirt/qemu/")
    assert found() == {}


def test_a_machine_type_that_the_next_qemu_does_not_have() -> None:
    """And QEMU's modules, gone with the package that brought them."""
    start(shape=replace(OWN, machine="pc-i440fx-2.5"))
    client.install_qemu("NEXT")
    checked = found()
    assert checked.keys() == {"machine-gone", "modules-gone"}
    assert "has no machine type pc-i440fx-2.5" in checked["machine-gone"]["message"]
    assert checked["modules-gone"]["severity"] == "info"
    report = client.upgrade(OWN.name)
    assert report["exit_code"] == 4
    assert [f["code"] for f in report["domains"][0]["findings"]] == ["machine-gone"]
    client.install_qemu("OLD")
    assert "machine-gone" not in found()
    assert f"{IMAGES}" in virsh("dumpxml", OWN.name)
