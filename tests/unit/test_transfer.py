"""The plan: every descriptor found by what it is, everything that libvirt told old QEMU told to new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit import facts
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Chardev, DomainFacts, FdsetFd
from virtcpr.plan.replay import Command
from virtcpr.plan.transfer import Unplannable, plan


def with_options(*options: Option, without: str = "") -> DomainFacts:
    """The recorded domain with other options on its command line."""
    domain = facts.domain()
    assert domain.process is not None
    line = CommandLine.parse(domain.process.argv)
    kept = tuple(option for option in line.options if option.name != without)
    argv = CommandLine(line.emulator, (*kept, *options)).argv()
    return replace(domain, process=replace(domain.process, argv=argv))


def carried(domain: DomainFacts) -> dict[str, tuple[int, int]]:
    return {one.what: (one.source, one.number) for one in plan(domain).carried}


def test_descriptors_are_found_by_what_they_are() -> None:
    domain = facts.domain()
    assert domain.process is not None
    moved = replace(
        domain.process,
        taps={"vnet0": (77,)},
        listeners={path: number + 100 for path, number in domain.process.listeners.items()},
    )
    found = carried(replace(domain, process=moved))
    assert found["queue of vnet0"][0] == 77
    assert found["socket of charmonitor"][0] == domain.process.listeners[plan(domain).status.monitor] + 100
    assert found["standard output"] == (1, 1)


def test_numbers_in_new_qemu_are_distinct_and_stand_on_its_command_line() -> None:
    made = plan(facts.domain())
    numbers = [one.number for one in made.carried]
    assert len(set(numbers)) == len(numbers)
    line = CommandLine.parse(made.argv)
    stated = [str(o.properties()["fd"]) for o in line.options if "fd" in o.properties()]
    assert sorted(stated) == sorted(str(n) for n in numbers if n > 2)


def test_queues_of_a_multiqueue_tap_are_all_carried() -> None:
    domain = with_options(Option("netdev", '{"type":"tap","fds":"30:31","id":"hostnet0"}'), without="netdev")
    assert domain.process is not None
    made = plan(replace(domain, process=replace(domain.process, taps={"vnet0": (40, 41)})))
    assert [one.source for one in made.carried if one.what == "queue of vnet0"] == [40, 41]
    assert made.taps == (40, 41)


def test_vhost_is_opened_anew_for_every_queue() -> None:
    domain = with_options(Option("netdev", "tap,fd=30,vhost=on,vhostfd=31,id=hostnet0"), without="netdev")
    made = plan(domain)
    assert [one.path for one in made.opened] == ["/dev/vhost-net"]
    (netdev,) = CommandLine.parse(made.argv).named("netdev")
    assert netdev.properties()["vhostfd"] == str(made.opened[0].number)


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


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (Option("chardev", "socket,id=charnew,fd=30,server=on"), "the socket of character device charnew"),
        (Option("add-fd", "set=9,fd=30"), "descriptor set 9"),
        (Option("netdev", '{"type":"tap","fd":"3","id":"hostnet7"}'), "the tap queues of interface hostnet7"),
        (Option("netdev", "stream,id=hostnet7,addr.type=fd,addr.str=3"), "network back end stream"),
        (Option("object", "iommufd,id=i,fd=30"), "-object iommufd,id=i,fd=30"),
    ],
)
def test_what_cannot_be_identified_is_refused(option: Option, said: str) -> None:
    with pytest.raises(Unplannable) as refusal:
        plan(with_options(option))
    finding = refusal.value.finding("office")
    assert finding.code == "resource"
    assert said in finding.message
    assert finding.remedy


def test_a_socket_that_the_plan_cannot_see_is_refused() -> None:
    domain = facts.domain()
    assert domain.qemu is not None
    gone = replace(domain.qemu, chardevs=(Chardev("charmonitor", "unix:/elsewhere,server=on"),))
    with pytest.raises(Unplannable, match="charmonitor"):
        plan(replace(domain, qemu=gone))


def test_what_libvirt_told_old_qemu_is_replayed() -> None:
    xml = facts.domain().xml
    xml = xml.replace("<alias name='net0'/>", "<alias name='net0'/><link state='down'/>")
    xml = xml.replace("<alias name='balloon0'/>", "<alias name='balloon0'/><stats period='5'/>")
    balloon = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval", "value": 5}
    assert plan(replace(facts.domain(), xml=xml)).replay == (
        Command("set_link", {"name": "net0", "up": False}),
        Command("qom-set", balloon),
    )


def test_a_suspended_domain_stays_suspended() -> None:
    assert plan(facts.domain()).runs
    assert not plan(replace(facts.domain(), state="paused", reason="user")).runs
