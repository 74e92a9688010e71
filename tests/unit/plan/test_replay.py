"""What new QEMU is told by QMP, and what of it people are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Drive
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.status import DisplayPassword, display_password
from virtcpr.errors import ParseError
from virtcpr.plan.transfer.replay import Command, actions, passwords
from virtcpr.plan.transfer.swap import plan

STATUS = facts.domain().status_xml
LOCKED = CommandLine("qemu", (Option("vnc", "127.0.0.1:0,password=on"),))


def recorded(attributes: str, default: str | None = None, kind: str = "vnc") -> DisplayPassword | None:
    text = STATUS.replace("<graphics type='vnc'", f"<graphics type='{kind}' {attributes}", 1)
    return display_password(text, kind, default)


def test_the_record_holds_a_vnc_display() -> None:
    assert "<graphics type='vnc'" in STATUS


@pytest.mark.parametrize(
    ("attributes", "default", "known"),
    [
        ("", None, None),
        ("", "of qemu.conf", DisplayPassword("of qemu.conf")),
        ("passwd='own'", "of qemu.conf", DisplayPassword("own")),
        ("passwd='own' passwdValidTo='2031-01-01T00:00:00'", None, DisplayPassword("own", "1924992000")),
        ("passwd=''", "of qemu.conf", DisplayPassword("", "now")),  # locked
    ],
)
def test_a_password_is_the_records_or_that_of_qemu_conf(
    attributes: str, default: str | None, known: DisplayPassword | None
) -> None:
    assert recorded(attributes, default) == recorded(attributes, default, "spice") == known


def test_a_time_that_is_none() -> None:
    with pytest.raises(ParseError, match="'soon' isn't a time"):
        recorded("passwd='own' passwdValidTo='soon'")


def test_the_password_is_told_as_libvirt_does_and_shown_to_nobody() -> None:
    told = list(passwords(LOCKED, {"vnc": DisplayPassword("hunter2", "1924992000")}))
    assert told[0].arguments == {"protocol": "vnc", "password": "hunter2"}
    assert [command.describe for command in told] == [
        "set_password protocol=vnc password=***",
        "expire_password protocol=vnc time=1924992000",
    ]
    assert "hunter2" not in repr(DisplayPassword("hunter2"))


def test_a_display_without_a_password_gets_none() -> None:
    """QEMU refuses it; qemu.conf's is for displays that are started after."""
    both = dict.fromkeys(("vnc", "spice"), DisplayPassword("of qemu.conf"))
    assert list(passwords(facts.line(), both)) == []
    assert list(passwords(CommandLine("qemu", (Option("spice", "port=1,disable-ticketing=on"),)), both)) == []
    assert list(passwords(LOCKED, {})) == []


def test_each_display_gets_its_own() -> None:
    line = CommandLine("qemu", (*LOCKED.options, Option("spice", "port=5900,addr=127.0.0.1")))
    known = {"vnc": DisplayPassword("one"), "spice": DisplayPassword("other")}
    told = [command.arguments for command in passwords(line, known) if command.name == "set_password"]
    assert {told["protocol"]: told["password"] for told in told} == {"vnc": "one", "spice": "other"}


def line(*values: str) -> CommandLine:
    return CommandLine("qemu", tuple(Option("watchdog-action", value) for value in values))


@pytest.mark.parametrize(
    ("xml", "given", "told"),
    [
        ("", line("reset"), []),
        ("<on_reboot>restart</on_reboot>", line(), []),
        ("<on_reboot>destroy</on_reboot><on_crash>preserve</on_crash>", line(), [{"reboot": "shutdown"}]),
        ("<devices><watchdog action='reset'/></devices>", line("reset"), []),
        ("<devices><watchdog action='none'/></devices>", line("reset"), [{"watchdog": "none"}]),
        ("<devices><watchdog action='dump'/></devices>", line(), [{"watchdog": "pause"}]),
    ],
)
def test_actions_that_no_command_line_has_are_told(
    xml: str, given: CommandLine, told: list[Mapping[str, object]]
) -> None:
    assert list(actions(given, LiveDomain.of(f"<domain>{xml}</domain>"))) == [Command("set-action", a) for a in told]


def test_what_libvirt_told_old_qemu_is_replayed() -> None:
    xml = facts.domain().xml
    xml = xml.replace("<alias name='net0'/>", "<alias name='net0'/><link state='down'/>")
    xml = xml.replace("<alias name='balloon0'/>", "<alias name='balloon0'/><stats period='5'/>")
    balloon = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval", "value": 5}
    assert plan(replace(facts.domain(), xml=xml)).replay == (
        Command("set_link", {"name": "net0", "up": False}),
        Command("qom-set", balloon),
    )


def test_limits_on_images_are_replayed() -> None:
    """As QEMU tells them, by QEMU's name of the device, which libvirt uses, too."""
    domain = facts.domain()
    assert domain.qemu is not None
    path = "/machine/peripheral/virtio-disk0/virtio-backend"
    drives = (Drive(path, "libvirt-3-format", {"bps": 0, "iops": 50, "group": "g"}), Drive("sata0-0-1", None))
    nodes = tuple(replace(n, threshold=4096 * (n.name == "libvirt-3-storage")) for n in domain.qemu.nodes)
    assert plan(replace(domain, qemu=replace(domain.qemu, drives=drives, nodes=nodes))).replay == (
        Command("block_set_io_throttle", {"id": path, "bps": 0, "iops": 50, "group": "g"}),
        Command("block-set-write-threshold", {"node-name": "libvirt-3-storage", "write-threshold": 4096}),
    )
