"""The plan: every descriptor found by what it is."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Chardev, Device, DomainFacts, FdsetFd
from virtcpr.plan.transfer.resources import Unplannable
from virtcpr.plan.transfer.swap import plan


def with_options(*options: Option, without: str = "") -> DomainFacts:
    """The recorded domain with other options on its command line."""
    domain = facts.domain()
    assert domain.process is not None
    line = CommandLine.parse(domain.process.argv)
    kept = tuple(option for option in line.options if option.name != without)
    argv = CommandLine(line.emulator, (*kept, *options)).argv()
    return replace(domain, process=replace(domain.process, argv=argv))


def carried(domain: DomainFacts) -> dict[str, tuple[int, int]]:
    made = plan(domain)
    return {descriptor.what: (descriptor.source, descriptor.number) for descriptor in (*made.carried, *made.bound)}


def test_descriptors_are_found_by_what_they_are() -> None:
    domain = facts.domain()
    assert domain.process is not None
    moved = replace(
        domain.process,
        taps={"vnet0": (77,)},
        listeners={path: number + 100 for path, number in domain.process.listeners.items()},
    )
    descriptors = carried(replace(domain, process=moved))
    assert descriptors["queue of vnet0"][0] == 77
    assert descriptors["socket of charmonitor"][0] == domain.process.listeners[plan(domain).status.monitor] + 100
    assert descriptors["standard output"] == (1, 1)


def test_numbers_in_new_qemu_are_distinct_and_stand_on_its_command_line() -> None:
    made = plan(facts.domain())
    numbers = [descriptor.number for descriptor in (*made.carried, *made.bound)]
    assert len(set(numbers)) == len(numbers)
    line = CommandLine.parse(made.argv)
    stated = [str(o.properties()["fd"]) for o in line.options if "fd" in o.properties()]
    assert sorted(stated) == sorted(str(n) for n in numbers if n > 2)


def test_queues_of_a_multiqueue_tap_are_all_carried() -> None:
    domain = with_options(Option("netdev", '{"type":"tap","fds":"30:31","id":"hostnet0"}'), without="netdev")
    assert domain.process is not None
    made = plan(replace(domain, process=replace(domain.process, taps={"vnet0": (40, 41)})))
    assert [descriptor.source for descriptor in made.carried if descriptor.what == "queue of vnet0"] == [40, 41]
    assert made.taps == (40, 41)


def test_vhost_is_opened_anew_for_every_queue() -> None:
    domain = with_options(Option("netdev", "tap,fd=30,vhost=on,vhostfd=31,id=hostnet0"), without="netdev")
    made = plan(domain)
    assert [file.path for file in made.opened] == ["/dev/vhost-net"]
    (netdev,) = CommandLine.parse(made.argv).named("netdev")
    assert netdev.properties()["vhostfd"] == str(made.opened[0].number)


NIC = Device("virtio-net-pci", attached=True, settings={"netdev": "hostnet0"})
VHOST = Option("netdev", "tap,fd=30,vhostfd=31,id=hostnet9")


def attached(driver: str = "virtio-net-pci", *, vhosts: int, more: tuple[Option, ...] = ()) -> DomainFacts:
    """The recorded domain whose interface was attached while it ran, and which has so many of /dev/vhost-net open."""
    domain = with_options(*more, without="netdev")
    assert domain.process is not None
    assert domain.qemu is not None
    interface = "<interface type='bridge'><target dev='vnet9'/><alias name='net9'/></interface>"
    return replace(
        domain,
        xml=domain.xml.replace("</devices>", f"{interface}</devices>"),
        process=replace(domain.process, vhosts=vhosts, taps={"vnet0": (40,), "vnet9": (41,)}),
        qemu=replace(domain.qemu, devices={**domain.qemu.devices, "net0": replace(NIC, driver=driver)}),
    )


@pytest.mark.parametrize(
    ("driver", "vhosts", "more", "opened"),
    [
        ("virtio-net-pci", 0, (), 0),
        ("virtio-net-pci", 1, (), 1),
        ("e1000e", 0, (), 0),
        ("virtio-net-pci", 1, (VHOST,), 1),
        ("virtio-net-pci", 2, (VHOST,), 2),
    ],
)
def test_vhost_of_an_attached_interface_is_told_by_the_descriptors(
    driver: str, vhosts: int, more: tuple[Option, ...], opened: int
) -> None:
    user = (Option("device", '{"driver":"virtio-net-pci","netdev":"hostnet9"}'),) if more else ()
    made = plan(attached(driver, vhosts=vhosts, more=(*more, *user)))
    assert [file.path for file in made.opened] == ["/dev/vhost-net"] * opened
    (netdev,) = (o.properties() for o in CommandLine.parse(made.argv).named("netdev") if "hostnet0" in str(o.value))
    assert ("vhostfd" in netdev) == (opened > len(more))


def test_vhost_that_cannot_be_told_is_refused() -> None:
    with pytest.raises(Unplannable, match="vhost descriptors of interface net0"):
        plan(attached(vhosts=3))


def with_tcp(*sockets: tuple[int, int]) -> DomainFacts:
    """A serial port on TCP 7777 beside the VNC display; ``sockets``: descriptor and port of those that listen."""
    domain = with_options(Option("chardev", "socket,id=charserial1,host=127.0.0.1,port=7777,server=on,wait=off"))
    assert domain.process is not None
    assert domain.qemu is not None
    known = replace(domain.qemu, chardevs=(*domain.qemu.chardevs, Chardev("charserial1", TCP)))
    listening = tuple(fd for fd, _ in sockets)
    return replace(domain, qemu=known, process=replace(domain.process, inet_listeners=listening, ports=dict(sockets)))


TCP = "disconnected:tcp:127.0.0.1:7777,server=on"


def test_a_tcp_socket_goes_over_and_is_not_taken_for_the_display() -> None:
    made = plan(with_tcp((50, 7777), (51, 5900)))
    (option,) = (o for o in CommandLine.parse(made.argv).named("chardev") if "charserial1" in str(o.value))
    (number,) = (descriptor.number for descriptor in made.carried if descriptor.source == 50)
    assert option.properties() == {
        "": "socket", "id": "charserial1", "server": "on", "wait": "off", "fd": str(number)
    }  # fmt: skip
    assert made.displays == (51,)


def test_a_name_with_several_addresses_is_refused() -> None:
    with pytest.raises(Unplannable, match="the socket of character device charserial1"):
        plan(with_tcp((50, 7777), (52, 7777), (51, 5900)))


VSOCK = '{"driver":"vhost-vsock-pci","id":"vsock0","guest-cid":3,"vhostfd":"38","bus":"pci.5","addr":"0x0"}'


def test_vsock_is_opened_again_and_takes_the_guests_cid() -> None:
    domain = with_options(Option("device", VSOCK))
    assert domain.qemu is not None
    devices = {**domain.qemu.devices, "vsock0": Device("vhost-vsock-pci")}
    made = plan(replace(domain, qemu=replace(domain.qemu, devices=devices)))
    (opened,) = made.opened
    (option,) = (o for o in CommandLine.parse(made.argv).named("device") if "vsock" in str(o.value))
    assert (made.cid, opened.path) == (3, "/dev/vhost-vsock")
    assert option.properties()["vhostfd"] == str(opened.number)
    assert plan(facts.domain()).cid is None


@pytest.mark.parametrize("odd", ["vhost-vsock-pci,guest-cid=3", "vhost-vsock-pci,guest-cid=x,vhostfd=38"])
def test_a_vsock_device_that_is_not_libvirts_is_refused(odd: str) -> None:
    with pytest.raises(Unplannable, match="the vsock device"):
        plan(with_options(Option("device", odd)))


def test_qemus_own_network_needs_no_descriptor() -> None:
    user = Option("netdev", '{"type":"user","id":"hostnet0"}')
    assert user in CommandLine.parse(plan(with_options(user, without="netdev")).argv).options


def test_a_port_that_qemus_own_network_listens_on_is_refused() -> None:
    user = Option("netdev", '{"type":"user","id":"hostnet0","hostfwd":["tcp::1-:1"]}')
    with pytest.raises(Unplannable, match="network back end"):
        plan(with_options(user, without="netdev"))


def test_a_descriptor_set_is_found_by_its_number_in_qemu() -> None:
    domain = with_options(Option("add-fd", "set=2,fd=33,opaque=serial0-log"))
    assert domain.qemu is not None
    known = replace(domain.qemu, fdsets=(FdsetFd(2, 51, "serial0-log"), FdsetFd(3, 52, None)))
    assert carried(replace(domain, qemu=known))["descriptor set 2"][0] == 51


def test_the_display_starts_without_an_address_and_gets_olds_sockets() -> None:
    made = plan(facts.domain())
    (vnc,) = CommandLine.parse(made.argv).named("vnc")
    assert vnc.value == "none,audiodev=audio1"
    assert facts.process().inet_listeners == made.displays


def test_a_display_with_a_websocket_binds_its_ports_itself() -> None:
    """display-update takes no address for a websocket: the option stays as it is, and old's ports are taken."""
    domain = facts.domain()
    assert domain.process is not None
    argv = [f"{word},websocket=5700" if before == "-vnc" else word for before, word in pairwise(domain.process.argv)]
    process = replace(
        domain.process, argv=(domain.process.argv[0], *argv), ports={51: 5900, 52: 5700}, inet_listeners=(51, 52)
    )
    made = plan(replace(domain, process=process))
    assert (made.ports, made.displays) == ((51, 52), ())
    assert list(CommandLine.parse(made.argv).named("vnc")) == list(process.line.named("vnc"))


def test_a_websocket_beside_a_unix_socket_is_refused() -> None:
    domain = facts.domain()
    assert domain.process is not None
    graphics = "<graphics type='vnc'><listen type='socket' socket='/run/vnc.sock'/></graphics>"
    xml = re.sub(r"<graphics.*?</graphics>", graphics, domain.xml, flags=re.DOTALL)
    argv = [f"{word},websocket=5700" if before == "-vnc" else word for before, word in pairwise(domain.process.argv)]
    process = replace(
        domain.process,
        argv=(domain.process.argv[0], *argv),
        listeners={**domain.process.listeners, "/run/vnc.sock": 51},
    )
    with pytest.raises(Unplannable, match="websocket of a VNC display on a unix socket"):
        plan(replace(domain, xml=xml, process=process))


@pytest.mark.parametrize("port", [5950, 0])
def test_a_spice_display_binds_its_port_itself(port: int) -> None:
    """The VNC display beside it gets old's sockets as always.  Without a port only libvirt leads to it."""
    domain = facts.domain()
    assert domain.process is not None
    argv = (*domain.process.argv, "-spice", f"port={port},addr=127.0.0.1,disable-ticketing=on")
    process = replace(domain.process, argv=argv, ports={51: 5900, 52: 5950}, inet_listeners=(51, 52) if port else (51,))
    made = plan(replace(domain, process=process))
    assert (made.ports, made.displays) == ((52,) if port else (), (51,))
    assert list(CommandLine.parse(made.argv).named("spice")) == list(process.line.named("spice"))


def test_a_spice_display_binds_its_port_for_tls_too() -> None:
    domain = facts.domain()
    assert domain.process is not None
    argv = (*domain.process.argv, "-spice", "port=5950,tls-port=5951,x509-dir=/etc/pki/libvirt-spice")
    process = replace(domain.process, argv=argv, ports={51: 5900, 52: 5950, 53: 5951}, inet_listeners=(51, 52, 53))
    made = plan(replace(domain, process=process))
    assert (made.ports, made.displays) == ((52, 53), (51,))


def test_a_spice_display_on_a_unix_socket_is_beside_olds() -> None:
    """Old's may have been beside another's itself, when it was new."""
    domain = facts.domain()
    assert domain.process is not None
    listeners = {**domain.process.listeners, "/run/spice.sock": 60}
    for addr in ("/run/spice.sock", "/run/spice.sock.virtcpr"):
        argv = (*domain.process.argv, "-spice", f"unix=on,addr={addr},disable-ticketing=on")
        made = plan(replace(domain, process=replace(domain.process, argv=argv, listeners=listeners)))
        assert (made.binds, made.guest.listeners[-1]) == (("/run/spice.sock",), "/run/spice.sock")
        (spice,) = CommandLine.parse(made.argv).named("spice")
        assert spice.properties()["addr"] == "/run/spice.sock.virtcpr"


def test_a_spice_display_on_a_unix_socket_that_is_gone_is_refused() -> None:
    domain = facts.domain()
    assert domain.process is not None
    argv = (*domain.process.argv, "-spice", "unix=on,addr=/run/spice.sock,disable-ticketing=on")
    with pytest.raises(Unplannable, match="the SPICE display's socket"):
        plan(replace(domain, process=replace(domain.process, argv=argv)))


@pytest.mark.parametrize(
    ("ports", "what"), [("port=5950", "socket"), ("port=5900,tls-port=5951", "socket"), ("port=auto", "port")]
)
def test_a_spice_display_whose_port_old_qemu_does_not_have_is_refused(ports: str, what: str) -> None:
    domain = facts.domain()
    assert domain.process is not None
    argv = (*domain.process.argv, "-spice", f"{ports},disable-ticketing=on")
    with pytest.raises(Unplannable, match=f"the SPICE display's {what}"):
        plan(replace(domain, process=replace(domain.process, argv=argv, ports={51: 5900})))


def test_a_display_that_only_libvirt_leads_to_has_no_sockets() -> None:
    domain = facts.domain()
    graphics = "<graphics type='vnc'><listen type='none'/></graphics>"
    xml = re.sub(r"<graphics.*?</graphics>", graphics, domain.xml, flags=re.DOTALL)
    assert graphics in xml
    made = plan(replace(domain, xml=xml))
    assert (made.displays, "audiodev=audio1" in " ".join(made.argv)) == ((), True)


USER = Option("device", "virtio-net-pci,netdev=hostnet7")


@pytest.mark.parametrize(
    ("options", "known", "message"),
    [
        (
            (Option("chardev", "socket,id=charnew,fd=30,server=on"),),
            {"chardevs": (Chardev("charnew", "unix:/elsewhere,server=on"), *facts.qemu().chardevs)},
            "the socket of character device charnew",
        ),
        (
            (Option("netdev", '{"type":"tap","fd":"3","id":"hostnet7"}'), USER),
            {},
            "the tap queues of interface hostnet7",
        ),
        (
            (Option("netdev", "stream,id=hostnet7,addr.type=fd,addr.str=3"), USER),
            {},
            "network back end stream",
        ),
        (
            (Option("object", "iommufd,id=i,fd=30"),),
            {"objects": {**facts.qemu().objects, "i": "iommufd"}},
            "fd of -object iommufd,id=i,fd=30",
        ),
        (
            (Option("device", '{"driver":"virtio-net-pci","id":"net7","ebpf-rss-fds":"33:34"}'),),
            {"devices": {**facts.qemu().devices, "net7": Device("virtio-net-pci")}},
            "ebpf-rss-fds of -device",
        ),
    ],
)
def test_what_cannot_be_identified_is_refused(options: tuple[Option, ...], known: dict[str, Any], message: str) -> None:
    domain = with_options(*options)
    assert domain.qemu is not None
    with pytest.raises(Unplannable) as refusal:
        plan(replace(domain, qemu=replace(domain.qemu, **known)))
    finding = refusal.value.finding("office")
    assert finding.code == "resource"
    assert message in finding.message
    assert finding.remedy


def test_a_socket_that_the_plan_cannot_see_is_refused() -> None:
    domain = facts.domain()
    assert domain.qemu is not None
    gone = replace(domain.qemu, chardevs=(Chardev("charmonitor", "unix:/elsewhere,server=on"),))
    with pytest.raises(Unplannable, match="charmonitor"):
        plan(replace(domain, qemu=gone))


def test_a_suspended_domain_stays_suspended() -> None:
    assert plan(facts.domain()).runs
    assert not plan(replace(facts.domain(), state="paused", reason="user")).runs


def test_a_socket_whose_path_is_too_long_for_a_neighbour_is_shared() -> None:
    domain = facts.domain()
    assert domain.process is not None
    assert domain.qemu is not None
    (path,) = [p for p in domain.process.listeners if p.endswith("guest_agent.0")]
    long = path + "x" * (107 - len(path))
    changed = replace(
        domain,
        process=replace(
            domain.process, listeners={p.replace(path, long): n for p, n in domain.process.listeners.items()}
        ),
        qemu=replace(
            domain.qemu,
            chardevs=tuple(replace(c, filename=c.filename.replace(path, long)) for c in domain.qemu.chardevs),
        ),
    )
    assert {socket.path for socket in plan(domain).bound} - {socket.path for socket in plan(changed).bound} == {path}
    assert "socket of charchannel0" in {descriptor.what for descriptor in plan(changed).carried}


def test_a_monitor_whose_path_is_too_long_for_a_neighbour_is_refused() -> None:
    """libvirt's daemon, started anew, could find new QEMU behind it."""
    domain = facts.domain()
    assert domain.process is not None
    assert domain.qemu is not None
    path = plan(domain).status.monitor
    long = path + "x" * (107 - len(path))
    changed = replace(
        domain,
        status_xml=domain.status_xml.replace(path, long),
        process=replace(
            domain.process, listeners={p.replace(path, long): n for p, n in domain.process.listeners.items()}
        ),
        qemu=replace(
            domain.qemu,
            chardevs=tuple(replace(c, filename=c.filename.replace(path, long)) for c in domain.qemu.chardevs),
        ),
    )
    with pytest.raises(Unplannable, match=f"a socket beside {long}, whose name would be too long"):
        plan(changed)
