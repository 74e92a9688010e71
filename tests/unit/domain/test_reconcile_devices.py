"""Devices, objects, character devices and network back ends that came or went since the guest started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Chardev, Device, FdsetFd, QemuFacts
from virtcpr.domain.reconcile import Reconciled, reconcile

STATUS = facts.domain().status_xml
NIC = Device(
    "virtio-net-pci",
    attached=True,
    bus="pci.9",
    settings={
        "addr": 0, "netdev": "hostnet1", "mac": "52:54:00:00:00:01", "vectors": 4, "mq": False, "busnr": 9,
        "romsize": 262144, "romfile": "", "bootindex": -1, "tx": "", "iothread-vq-mapping": [], "x-mtu": 1,
    },
)  # fmt: skip


def with_devices(**devices: Device) -> QemuFacts:
    qemu = facts.qemu()
    return replace(qemu, devices={**qemu.devices, **devices})


def without(qemu: QemuFacts, *names: str) -> QemuFacts:
    return replace(qemu, devices={name: device for name, device in qemu.devices.items() if name not in names})


def record(*devices: str) -> str:
    """libvirt's record with these devices in it, too."""
    return STATUS.replace("</devices>", "".join(devices) + "</devices>")


def now(qemu: QemuFacts, *devices: str) -> Reconciled:
    return reconcile(facts.line(), qemu, record(*devices))


def added(result: Reconciled, name: str) -> list[Mapping[str, object]]:
    return [option.properties() for option in result.line.named(name) if option not in facts.line().options]


def gone(result: Reconciled) -> set[object]:
    """The ids of what was on the command line and isn't any more."""
    return {o.properties().get("id") for o in facts.line().options if o not in result.line.options}


INTERFACE = "<interface type='{}'><alias name='net1'/>{}</interface>"


def test_an_unchanged_guest_keeps_its_command_line() -> None:
    assert now(facts.qemu()) == Reconciled(facts.line())


def test_an_attached_device_is_given_what_isnt_its_default_and_can_be_set() -> None:
    result = now(with_devices(net1=NIC), INTERFACE.format("bridge", ""))
    assert added(result, "device") == [
        {
            "driver": "virtio-net-pci", "id": "net1", "bus": "pci.9", "addr": "0x0.0x0", "netdev": "hostnet1",
            "mac": "52:54:00:00:00:01", "vectors": 4, "mq": False, "romfile": "",
        }
    ]  # fmt: skip
    assert added(result, "netdev") == [{"type": "tap", "fd": "0", "id": "hostnet1"}]
    assert (gone(result), result.refused) == (set(), ())


@pytest.mark.parametrize(
    ("kind", "inner", "expected"),
    [
        ("network", "<driver queues='3'/>", {"type": "tap", "fds": "0:0:0", "id": "hostnet1"}),
        (
            "network",
            "<tune><sndbuf>1600</sndbuf></tune>",
            {"type": "tap", "fd": "0", "id": "hostnet1", "sndbuf": "1600"},
        ),
        ("direct", "", {"type": "tap", "fd": "0", "id": "hostnet1"}),
        ("network", "<actual type='direct'/>", {"type": "tap", "fd": "0", "id": "hostnet1"}),
        ("user", "", {"type": "user", "id": "hostnet1"}),
        (
            "user",
            "<ip family='ipv4' address='10.1.0.0' prefix='24'/><ip family='ipv6' address='fd00::' prefix='64'/>",
            {"type": "user", "net": "10.1.0.0/24", "ipv6-prefix": "fd00::", "ipv6-prefixlen": "64", "id": "hostnet1"},
        ),
    ],
)
def test_back_ends_of_attached_interfaces(kind: str, inner: str, expected: Mapping[str, str]) -> None:
    result = now(with_devices(net1=NIC), INTERFACE.format(kind, inner))
    assert added(result, "netdev") == [expected]


@pytest.mark.parametrize(
    ("kind", "inner"),
    [("user", "<backend type='passt'/>"), ("vhostuser", ""), ("network", "<actual type='hostdev'/>")],
)
def test_back_ends_that_cannot_be_rebuilt(kind: str, inner: str) -> None:
    (refusal,) = now(with_devices(net1=NIC), INTERFACE.format(kind, inner)).refused
    assert refusal == "network interface net1 was added since the guest started, and its back end can't be rebuilt"


def test_a_detached_device_takes_what_it_used_along() -> None:
    qemu = without(facts.qemu(), "net0", "channel0", "rng0")
    qemu = replace(
        qemu,
        chardevs=tuple(chardev for chardev in qemu.chardevs if chardev.label != "charchannel0"),
        objects={name: kind for name, kind in qemu.objects.items() if name != "objrng0"},
    )
    assert gone(now(qemu)) == {"net0", "hostnet0", "channel0", "charchannel0", "rng0", "objrng0"}


def test_another_device_of_the_same_alias_takes_the_place_of_the_first() -> None:
    card = replace(NIC, driver="e1000e", settings={**NIC.settings, "netdev": "hostnet0"})
    result = reconcile(facts.line(), with_devices(net0=card), STATUS)
    assert [device["driver"] for device in added(result, "device")] == ["e1000e"]
    assert [o.properties()["id"] for o in result.line.named("netdev")] == ["hostnet0"]
    assert set(result.line.ids("device")) == set(facts.line().ids("device"))


def test_a_device_comes_after_the_one_whose_bus_it_is_on() -> None:
    """Whatever their names; QEMU looks for the bus when it makes the device."""
    qemu = with_devices(
        **{
            "a-disk": Device("scsi-hd", attached=True, bus="scsi1.0", settings={"lun": 1}),
            "scsi1": Device("virtio-scsi-pci", attached=True, bus="zport"),
            "zport": Device("pcie-root-port", attached=True, bus="pcie.0", settings={"addr": 0x1A}),
        }
    )
    made = added(now(qemu), "device")
    assert [device["id"] for device in made] == ["zport", "scsi1", "a-disk"]
    assert made[0]["addr"] == "0x3.0x2"


def test_vcpus_are_given_their_place_and_in_their_order() -> None:
    place = {"socket-id": 2, "core-id": 0, "thread-id": 0}
    cpus = {f"vcpu{n}": Device("qemu64-x86_64-cpu", attached=True, settings=place) for n in (10, 2)}
    made = added(now(with_devices(**cpus)), "device")
    assert [device["id"] for device in made] == ["vcpu2", "vcpu10"]
    assert made[0] == {"driver": "qemu64-x86_64-cpu", "id": "vcpu2", **place}


def with_objects(settings: Mapping[str, Mapping[str, object]], **kinds: str) -> QemuFacts:
    qemu = facts.qemu()
    return replace(qemu, objects={**qemu.objects, **kinds}, settings=settings)


def test_memory_that_was_plugged_in() -> None:
    backend = {
        "size": 1 << 27, "share": True, "merge": True, "dump": False, "policy": "bind", "host-nodes": [1],
        "reserve": False, "prealloc": True, "prealloc-context": "/objects/tc0", "hugetlb": False, "seal": True,
    }  # fmt: skip
    dimm = Device(
        "pc-dimm",
        attached=True,
        settings={"memdev": "/objects/memdimm0", "addr": 1 << 32, "slot": 0, "size": 1 << 27},
    )
    qemu = replace(with_objects({"memdimm0": backend}, memdimm0="memory-backend-memfd"),
                   devices={**facts.qemu().devices, "dimm0": dimm})  # fmt: skip
    result = now(qemu)
    assert added(result, "object") == [
        {
            "qom-type": "memory-backend-memfd", "id": "memdimm0", "size": 1 << 27, "share": True, "prealloc": True,
            "reserve": False, "policy": "bind", "host-nodes": [1],
        }
    ]  # fmt: skip
    assert added(result, "device") == [
        {"driver": "pc-dimm", "id": "dimm0", "memdev": "memdimm0", "addr": 1 << 32, "slot": 0}
    ]


@pytest.mark.parametrize("there", [True, False])
def test_the_threads_that_allocated_ram_may_be_gone(there: bool) -> None:
    """libvirt makes them for RAM of a NUMA node, and takes them away once the guest is started."""
    threads = Option("object", '{"qom-type":"thread-context","id":"tc-ram","node-affinity":[0]}')
    ram = Option("object", "memory-backend-memfd,id=ram,size=1G,prealloc=on,prealloc-context=tc-ram")
    line = facts.line()
    line = CommandLine(line.emulator, (*line.options, threads, ram))
    qemu = with_objects({}, ram="memory-backend-memfd", **({"tc-ram": "thread-context"} if there else {}))
    result = reconcile(line, qemu, STATUS).line.options[-2:]
    bare = Option("object", "memory-backend-memfd,id=ram,size=1G,prealloc=on")
    assert result == ((threads, ram) if there else (line.options[-3], bare))


def test_a_secret_comes_before_what_names_it_and_as_it_was_given() -> None:
    secret = {"data": "c2VhbGVk", "keyid": "masterKey0", "iv": "aXY=", "format": "base64", "file": ""}
    creds = {"dir": "/etc/pki", "endpoint": "server", "verify-peer": True, "passwordid": "zsecret", "loaded": True}
    qemu = with_objects({"zsecret": secret, "atls": creds}, zsecret="secret", atls="tls-creds-x509")
    assert added(now(qemu), "object") == [
        {"qom-type": "secret", "id": "zsecret", "data": "c2VhbGVk", "format": "base64", "keyid": "masterKey0",
         "iv": "aXY="},
        {"qom-type": "tls-creds-x509", "id": "atls", "dir": "/etc/pki", "endpoint": "server", "passwordid": "zsecret"},
    ]  # fmt: skip


POLLING = {"poll-max-ns": 32768, "poll-grow": 0, "poll-shrink": 0, "aio-max-batch": 0, "thread-pool-max": 64}


def test_an_iothread_is_given_again_only_where_its_settings_changed() -> None:
    assert now(with_objects({"iothread1": POLLING})).line == facts.line()

    result = now(with_objects({"iothread1": {**POLLING, "poll-max-ns": 0, "thread-pool-min": 3}}))

    assert added(result, "object") == [
        {"qom-type": "iothread", "id": "iothread1", "poll-max-ns": 0, "thread-pool-min": 3}
    ]
    assert gone(result) == {"iothread1"}


@pytest.mark.parametrize("given", ["iothread,id=iothread1,poll-max-ns=5", '{"qom-type":"iothread","id":"iothread1",'
                                   '"poll-max-ns":5}'])  # fmt: skip
def test_either_spelling_of_an_object_is_understood(given: str) -> None:
    known = facts.line()
    options = tuple(
        Option("object", given) if option.properties().get("id") == "iothread1" else option for option in known.options
    )
    line = CommandLine(known.emulator, options)
    assert reconcile(line, with_objects({"iothread1": {**POLLING, "poll-max-ns": 5}}), STATUS).line == line
    assert reconcile(line, with_objects({"iothread1": POLLING}), STATUS).line != line


def test_an_object_of_an_unknown_kind_is_refused() -> None:
    result = now(with_objects({}, filter0="filter-dump"))
    assert result.refused == (
        "object filter0 was added since the guest started, and its kind (filter-dump) can't be rebuilt",
    )


def test_a_monitor_of_qemus_own_is_no_new_object() -> None:
    assert now(with_objects({}, monitor="monitor-qmp")) == Reconciled(facts.line())


def with_chardev(kind: str, *inner: str, fdsets: tuple[FdsetFd, ...] = ()) -> Reconciled:
    qemu = facts.qemu()
    qemu = replace(qemu, chardevs=(*qemu.chardevs, Chardev("charchannel1", kind)), fdsets=fdsets)
    device = f"<channel type='{kind}'>{''.join(inner)}<alias name='channel1'/></channel>"
    return now(qemu, device)


BIND = "<source mode='bind' host='127.0.0.1' service='7801'{}/>"
PEER = "<source mode='connect' host='10.0.0.1' service='7803'/>"


@pytest.mark.parametrize(
    ("kind", "inner", "expected"),
    [
        ("pty", "", {"": "pty"}),
        ("null", "", {"": "null"}),
        ("unix", "<source mode='bind' path='/x'/>", {"": "socket", "fd": "0", "server": "on", "wait": "off"}),
        ("unix", "", {"": "socket", "fd": "0", "server": "on", "wait": "off"}),
        ("tcp", BIND.format(""), {"": "socket", "fd": "0", "server": "on", "wait": "off"}),
        (
            "tcp",
            BIND.format("") + "<protocol type='telnet'/>",
            {"": "socket", "fd": "0", "telnet": "on", "server": "on", "wait": "off"},
        ),
        ("udp", PEER, {"": "udp", "host": "10.0.0.1", "port": "7803"}),
        (
            "udp",
            BIND.format("") + PEER,
            {"": "udp", "host": "10.0.0.1", "port": "7803", "localaddr": "127.0.0.1", "localport": "7801"},
        ),
        ("file", "<source path='/a,b' append='on'/>", {"": "file", "path": "/a,b", "append": "on"}),
        ("pty", "<log file='/l' append='off'/>", {"": "pty", "logfile": "/l", "logappend": "off"}),
    ],
)
def test_character_devices_that_were_attached(kind: str, inner: str, expected: Mapping[str, str]) -> None:
    result = with_chardev(kind, inner)
    assert added(result, "chardev") == [{**expected, "id": "charchannel1"}]
    assert result.refused == ()


def test_pipes_of_virtlogd_are_named_by_their_sets() -> None:
    sets = (FdsetFd(4, 30, "channel1-source"), FdsetFd(5, 31, "channel1-log"))
    result = with_chardev("file", "<source path='/a'/><log file='/l'/>", fdsets=sets)
    assert added(result, "chardev") == [
        {"": "file", "path": "/dev/fdset/4", "append": "on", "logfile": "/dev/fdset/5", "logappend": "on",
         "id": "charchannel1"},
    ]  # fmt: skip
    assert added(result, "add-fd") == [
        {"set": "4", "fd": "0", "opaque": "channel1-source"},
        {"set": "5", "fd": "0", "opaque": "channel1-log"},
    ]


def test_a_set_that_qemu_has_no_more_is_left_out() -> None:
    line = facts.line()
    stale = Option("add-fd", "set=0,fd=31,opaque=serial0-source")
    line = CommandLine(line.emulator, (*line.options, stale))
    assert stale not in reconcile(line, facts.qemu(), STATUS).line.options
    known = replace(facts.qemu(), fdsets=(FdsetFd(0, 6, "serial0-source"),))
    assert reconcile(line, known, STATUS).line == line


@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        ("tcp", PEER),
        ("tcp", BIND.format(" tls='yes'")),
        ("unix", "<source mode='connect' path='/x'/>"),
        ("spicevmc", ""),
        ("dev", "<source path='/dev/ttyS0'/>"),
    ],
)
def test_character_devices_that_cannot_be_rebuilt(kind: str, inner: str) -> None:
    (refusal,) = with_chardev(kind, inner).refused
    assert refusal == ("character device charchannel1 was added since the guest started, and can't be rebuilt")


def test_a_character_device_that_libvirt_knows_nothing_of_is_refused() -> None:
    qemu = facts.qemu()
    assert now(replace(qemu, chardevs=(*qemu.chardevs, Chardev("mine", "null")))).refused


def test_what_is_rebuilt_is_json_that_qemu_reads() -> None:
    result = now(with_devices(net1=NIC), INTERFACE.format("bridge", ""))
    for name in ("device", "netdev"):
        text = next(o.value for o in result.line.named(name) if o not in facts.line().options)
        assert text is not None
        assert json.loads(text)
