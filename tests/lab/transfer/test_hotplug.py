"""Devices that come and go while the guest runs, and a swap after each: they are as they were, and can be taken out."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.compare import View, differences, picture
from tests.lab.support.guests import DATABASE, LOGS, domain_xml, image_commands
from tests.lab.support.leftovers import KEPT
from tests.lab.support.machine import Lab

ROOMY = replace(DATABASE, name="roomy", number=60, balloon=True)
NAME = ROOMY.name
MAC = "52:54:00:57:3c:"

PORTS = "<controller type='pci' index='0' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 17
CELL = "<cpu><numa><cell id='0' cpus='0-3' memory='512' unit='MiB' memAccess='shared'/></numa></cpu>"
ROOM = (
    ("</devices>", f"{PORTS}<controller type='usb' model='qemu-xhci'/></devices>"),
    ("<memory unit", '<maxMemory slots="4" unit="MiB">2048</maxMemory><memory unit'),
    ("<vcpu>2</vcpu>", '<vcpu current="1">4</vcpu>'),  # with more, TCG now and then ends while it boots (test_kinds)
    ('<model type="virtio" />', '<model type="virtio" /><driver name="qemu" queues="2" />'),
    ("<features>", f"{CELL}<features>"),
)


def channel(kind: str, number: int, *inner: str) -> str:
    """A channel of a name of its own."""
    target = f"<target type='virtio' name='lab.{number}'/>"
    return f"<channel type='{kind}'>{''.join(inner)}{target}</channel>"


def interface(number: int, model: str, *inner: str, kind: str = "network") -> str:
    source = "<source network='default'/>" if kind == "network" else ""
    mac = f"<mac address='{MAC}{number:02x}'/>"
    return f"<interface type='{kind}'>{mac}{source}<model type='{model}'/>{''.join(inner)}</interface>"


TCP = "<source mode='bind' host='127.0.0.1' service='7801'/><protocol type='raw'/>"
TELNET = "<source mode='bind' host='127.0.0.1' service='7804'/><protocol type='telnet'/>"
UDP = "<source mode='bind' host='127.0.0.1' service='7802'/><source mode='connect' host='127.0.0.1' service='7803'/>"
DIMM = "<memory model='dimm' access='shared'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
# The lab has no udev, which makes the device of a macvtap.
TAP_NODES = """#!/bin/sh
while sleep 0.02; do
    for device in /sys/class/net/*/macvtap/tap*; do
        node=/dev/${device##*/}
        [ ! -e "$device/dev" ] || [ -e "$node" ] || mknod -m 666 "$node" c $(tr : ' ' < "$device/dev")
    done
done
"""
# By what they are called in the docs' table.
PLUGGED = {
    "interface": interface(0x10, "virtio", "<driver name='qemu'/>"),
    "interface without a ROM": interface(0x11, "e1000e", "<rom enabled='no'/>"),
    "interface user": interface(0x13, "virtio", kind="user"),
    "interface direct": interface(0x14, "virtio", "<source dev='virbr0' mode='bridge'/>", kind="direct"),
    "interface ethernet": interface(0x16, "virtio", "<target dev='lab-tap'/>", kind="ethernet"),
    "scsi controller": "<controller type='scsi' index='1' model='virtio-scsi'/>",
    "virtio-serial controller": "<controller type='virtio-serial' index='1'/>",
    "rng": "<rng model='virtio'><rate bytes='1024' period='500'/><backend model='random'>/dev/urandom</backend></rng>",
    "rng builtin": "<rng model='virtio'><backend model='builtin'/></rng>",
    "channel unix": channel("unix", 1),
    "channel pty, logged": channel("pty", 2, f"<log file='{LOGS}/roomy-2.log' append='on'/>"),
    "channel file": channel("file", 3, f"<source path='{LOGS}/roomy-3.log'/>"),
    "channel null": channel("null", 4),
    "channel tcp": channel("tcp", 5, TCP),
    "channel udp": channel("udp", 6, UDP),
    "channel telnet": channel("tcp", 8, TELNET),
    "dimm": DIMM,
    "second dimm": DIMM,
    "virtio-mem": "<memory model='virtio-mem'><target><size unit='MiB'>128</size><node>0</node>"
    "<block unit='MiB'>2</block><requested unit='MiB'>64</requested></target></memory>",
    "watchdog": "<watchdog model='i6300esb' action='reset'/>",
    "usb tablet": "<input type='tablet' bus='usb'/>",
}  # fmt: skip


@pytest.fixture(scope="module")
def guests(lab: Lab) -> Iterator[Guests]:
    """One guest for all of this module, started in OLD; NEW is installed, and OLD's binary kept beside it."""
    made = Guests()
    xml = domain_xml(ROOMY)
    for old, new in ROOM:
        assert old in xml
        xml = xml.replace(old, new, 1)
    commands = "\n".join(shlex.join(command) for command in image_commands(ROOMY))
    made.adopt(ROOMY)
    shell(f"{commands}\nvirsh -q define /dev/stdin; virsh -q start {NAME}", stdin=xml)
    shell("cat > /usr/local/bin/tap-nodes; chmod 755 /usr/local/bin/tap-nodes; systemd-run -qu nodes tap-nodes",
          stdin=TAP_NODES)  # fmt: skip
    made.watch(ROOMY)  # should its boot fail, it is started again: still in OLD
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")
    yield made
    shell("systemctl stop nodes")
    made.end()


def attach(*devices: str) -> None:
    """As an administrator would, one after the other."""
    shell("while IFS= read -r xml; do echo \"$xml\" | virsh -q attach-device roomy /dev/stdin --live; done",
          stdin="".join(f"{device}\n" for device in devices))  # fmt: skip


def detach(*aliases: str) -> None:
    """Ask the guest to let go of them, and wait until it has."""
    for alias in aliases:
        virsh("detach-device-alias", NAME, alias, "--live")
    gone = "; ".join(f"while virsh -q dumpxml {NAME} | grep -q \"<alias name='{alias}'\"; do sleep 0.2; done"
                     for alias in aliases)  # fmt: skip
    run("timeout", "60", "sh", "-c", gone)


def swapped(guests: Guests, *, warnings: tuple[str, ...] = ()) -> View:
    """Move the guest from OLD to NEW, or back: nothing of it is another afterwards, and it goes on."""
    before = picture(NAME)
    runs_old = client.qemu_version(NAME) == client.upstream(client.versions()["OLD"])
    emulator = EMULATOR if runs_old else KEPT
    guests.witness.mark()
    report = client.upgrade(NAME, "--emulator", emulator)
    (domain,) = report["domains"]
    assert domain["result"] == "upgraded", report
    assert sorted(finding["code"] for finding in domain["findings"]) == sorted(warnings), report
    after = picture(NAME)
    assert differences(before, after) == []
    guests.assert_well(ROOMY)
    return after


def rebooted(guests: Guests) -> None:
    """The guest comes up again with all that it had, and can let go of it."""
    kept = ("devices", "objects", "nodes", "chardevs", "vcpus", "memory", "network cards")
    before = picture(NAME)
    virsh("reset", NAME)
    guests.watch(ROOMY)
    after = picture(NAME)
    assert {view: after[view] for view in kept} == {view: before[view] for view in kept}
    guests.assert_well(ROOMY)


def found() -> dict[str, str]:
    """What `check` says for mode transfer, by code."""
    report = json.loads(client.virtcpr("check", NAME, "--mode", "transfer", "-o", "json").out)
    (domain,) = report["domains"]
    return {f["code"]: f["message"] for f in domain["findings"] if "transfer" in f["modes"]}


def until(condition: Callable[[], bool]) -> None:
    """Wait for the guest to do it."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline


def vcpus(count: int) -> None:
    """libvirt gives the guest five seconds at a time to let go of one."""
    enough = f"[ $(virsh -q vcpucount {NAME} --live --current) = {count} ]"
    run("timeout", "60", "sh", "-c", f"until {enough}; do virsh -q setvcpus {NAME} {count} --live; done")


def test_what_was_attached_goes_along_and_can_be_taken_out(guests: Guests) -> None:
    start = picture(NAME)
    attach(*PLUGGED.values())
    virsh("setvcpus", NAME, "4", "--live")
    virsh("iothreadadd", NAME, "5", "--live")
    virsh("iothreadset", NAME, "5", "--poll-max-ns", "50000", "--poll-grow", "2", "--poll-shrink", "3", "--live")
    virsh("iothreadset", NAME, "1", "--poll-max-ns", "0", "--live")
    shell("systemd-run -q --unit=caller socat -u TCP:127.0.0.1:7801 /dev/null")
    run("timeout", "10", "sh", "-c", "until ss -tn | grep -q 7801; do sleep 0.1; done")

    full = swapped(guests, warnings=("chardev-connected", "interface-user"))

    assert len(full["devices"]) == len(start["devices"]) + len(PLUGGED) + 3
    assert full["iothreads"]["iothread5"]["poll-max-ns"] == 50000
    assert full["iothreads"]["iothread1"]["poll-max-ns"] == 0
    run("socat", "-u", "/dev/null", "TCP:127.0.0.1:7801")
    virsh("iothreaddel", NAME, "5", "--live")
    for size in ("32M", "0"):  # the guest has to give it back before it can go
        virsh("update-memory-device", NAME, "--alias", "virtiomem0", "--requested-size", size, "--live")
    came = sorted(full["devices"].keys() - start["devices"].keys())
    # libvirt can't take that controller out, and the guest keeps things of its own in the first DIMM that it gets.
    stay = {"virtio-serial1", "dimm0"}
    detach(*(name for name in came if not name.startswith("vcpu") and name not in stay))
    vcpus(1)
    assert picture(NAME)["devices"].keys() - stay == start["devices"].keys()
    virsh("dommemstat", NAME, "--period", "5", "--live")
    virsh("setmem", NAME, "480M", "--live")
    until(lambda: "<currentMemory unit='KiB'>491520<" in virsh("dumpxml", NAME))  # QEMU tells libvirt at its leisure

    small = swapped(guests)

    assert small["balloon"] == 480 << 20
    path = "/machine/peripheral/balloon0"
    assert client.monitor(NAME, "qom-get", path=path, property="guest-stats-polling-interval") == 5
    attach(PLUGGED["interface"], PLUGGED["channel unix"])
    swapped(guests)
    rebooted(guests)


def test_what_it_was_started_with_can_go_and_come_back_as_something_else(guests: Guests) -> None:
    """The same alias, another device: the command line still tells of the first."""
    detach("net1", "net2", "channel0", "channel1")
    bare = swapped(guests)
    assert "net1" not in bare["devices"]
    attach(interface(0x12, "e1000e"), channel("pty", 7))

    again = swapped(guests)

    assert again["devices"]["net1"][0] == "e1000e"
    assert again["chardevs"]["charchannel0"] == "pty"
    detach("net1", "channel0")
    swapped(guests)


def test_queues_that_the_guest_does_not_use(guests: Guests) -> None:
    """Its driver takes as many as it has vCPUs, and QEMU detaches the others; a swap that goes back leaves them so."""
    attach(interface(0x15, "virtio", "<driver name='qemu' queues='4'/>"))
    until(lambda: [False, False, False, True] in picture(NAME)["queues"].values())
    swapped(guests)

    macvtap = "<source dev='virbr0' mode='bridge'/><driver name='qemu' queues='2'/>"
    attach(interface(0x16, "virtio", macvtap, kind="direct"))
    assert found().keys() == {"interface-queues"}
    assert client.upgrade(NAME, "--emulator", KEPT)["exit_code"] == 4
    virsh("detach-interface", NAME, "direct", "--mac", f"{MAC}16", "--live")
    until(lambda: found() == {})


TWO_QUEUES = """
import asyncio, fcntl, os, struct
from virtcpr.host.network.tap import TapQueue
from virtcpr.actions.transfer.resources.taps import Taps

def opened():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"lab0", 0x5102))
    return fd

def attached():
    return [not struct.unpack("16sH22x", fcntl.ioctl(fd, 0x800454D2, bytes(40)))[1] & 0x400 for fd in fds]

def header(length=None):
    "As QEMU does when it makes the device, and when the guest's driver starts."
    if length:
        fcntl.ioctl(fds[0], 0x400454D8, struct.pack("i", length))
    return struct.unpack("i", fcntl.ioctl(fds[0], 0x800454D7, bytes(4)))[0]

def use(number, flag):
    "As QEMU does; it aborts where that fails."
    fcntl.ioctl(fds[number], 0x400454D9, struct.pack("16xH22x", flag))

ATTACH, DETACH = 0x200, 0x400
fds = [opened() for _ in range(3)]

async def swap(then):
    use(2, DETACH)  # the guest uses two
    header(12)
    fcntl.ioctl(fds[0], 0x400454D0, 5)  # offloads: checksums, and segmentation of TCP over IPv6 alone
    taps = Taps(enumerate(fds))
    taps.keep()
    assert attached() == [True, True, True]
    for number in (1, 2):  # new makes its device
        use(number, DETACH)
    header(10)
    fcntl.ioctl(fds[0], 0x400454D0, 0)
    while (attached(), header()) != ([True, True, False], 12):  # old has its own back
        await asyncio.sleep(0)
    await taps.hand_back()
    assert (attached(), header(), TapQueue.of(0, fds[0]).offload) == ([True, True, False], 12, 5)
    use(2, ATTACH)  # the guest's driver in old starts anew
    header(10)
    await asyncio.sleep(0.01)
    assert (attached(), header()) == ([True, True, True], 10)
    taps.note()
    taps.hand_over()
    assert attached() == [True, False, False]  # as new believes
    header(12)
    if then == "back":
        taps.restore()
        assert (attached(), header()) == ([True, True, True], 10)
    else:
        for number in (1, 2):
            use(number, ATTACH)
        await taps.let_go()
        assert (attached(), header()) == ([True, True, True], 12)

asyncio.run(asyncio.wait_for(swap("back"), 10))
asyncio.run(asyncio.wait_for(swap("on"), 10))
"""


def test_queues_are_as_each_qemu_believes_them_to_be(lab: Lab) -> None:
    """Old keeps its own as long as the guest runs there, also what the guest changes, and where the swap goes back."""
    run("python3", "-", stdin=TWO_QUEUES)
