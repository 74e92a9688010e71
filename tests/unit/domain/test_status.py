"""libvirt's status file: read, compared, rewritten, and nothing else in it changed."""

from __future__ import annotations

import pytest

from tests.unit.support import facts
from virtcpr.domain.live import differences
from virtcpr.domain.status import Successor, changes, read, rewrite
from virtcpr.errors import ParseError

TEXT = facts.domain().status_xml


def changed(before: str, after: str) -> list[tuple[str, str]]:
    bodies = [text[text.index("<domstatus") :].splitlines() for text in (before, after)]
    pairs = zip(*bodies, strict=True)
    return [(old.strip(), new.strip()) for old, new in pairs if old.replace('"', "'") != new.replace('"', "'")]


def test_reading() -> None:
    record = read(TEXT)
    assert record.monitor.endswith("/monitor.sock")
    assert record.monitor.startswith(record.lib_dir)
    assert record.busy == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<domain/>", "starts with <domain>"),
        ("<domstatus pid='1'/>", "no monitor"),
        ("<domstatus", "can't be parsed"),
        ("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domstatus>&e;</domstatus>", "no monitor"),
    ],
)
def test_what_is_no_status_file(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        read(text)


def test_rewriting_changes_only_what_is_named() -> None:
    before = read(TEXT)
    after = rewrite(TEXT, Successor(pid=99, vcpus={0: 100, 1: 101}, ptys={"serial0": "/dev/pts/9"}))

    assert read(after).pid == 99
    assert before.pid != 99
    news = [new for _, new in changed(TEXT, after) if not new.startswith("<domain xmlns")]  # attributes reordered
    assert [n for n in news if "<vcpu " in n] == ['<vcpu id="0" pid="100"/>', '<vcpu id="1" pid="101"/>']
    assert sum("/dev/pts/9" in n for n in news) == 3  # serial's source, console's tty and source
    assert len(news) == 6
    assert after.startswith("<!--")


def test_the_emulator_and_our_taint() -> None:
    tainted = TEXT.replace("<taint flag='custom-argv'/>", "<taint flag='custom-argv'/><taint flag='custom-monitor'/>")
    new = Successor(pid=1, vcpus={}, emulator="/opt/qemu", taints=frozenset({"custom-argv"}))
    after = rewrite(tainted, new)
    assert "/opt/qemu</emulator>" in after
    assert read(after).taints == {"custom-argv"}


def test_a_taint_is_no_change_but_a_device_is() -> None:
    tainted = TEXT.replace("<taint flag='custom-argv'/>\n", "<taint flag='custom-argv'/>\n  <taint flag='x'/>\n")
    assert tainted != TEXT
    assert changes(TEXT, tainted) == ()
    assert changes(TEXT, TEXT.replace("<nodename index='3'/>", "<nodename index='4'/>")) == ()
    assert changes(TEXT, TEXT.replace("<device alias='net0'/>", "")) == ("devices",)


def test_changes_are_said_without_values() -> None:
    assert changes(TEXT, TEXT.replace("state='running'", "state='paused'")) == ("domstatus",)
    assert changes(TEXT, TEXT.replace("dev='vnet0'", "dev='vnet1'")) == ("domain/devices/interface/target",)
    description = TEXT.replace("</uuid>", "</uuid><description>secret</description>")
    assert changes(TEXT, description) == ("domain",)
    assert changes(description, description.replace("secret", "other")) == ("domain/description",)


REFRESHED = [
    ("<channel type='unix'><target type='virtio' name='a' state='{}'/></channel>", "disconnected", "connected"),
    ("<disk type='file'><source file='a'/><target dev='sda' bus='sata' tray='{}'/></disk>", "closed", "open"),
    ("<interface type='direct'><mac address='52:54:00:00:00:01' currentAddress='{}'/></interface>", "a", "b"),
    ("<memory model='virtio-mem'><target><current unit='KiB'>{}</current></target></memory>", "0", "1024"),
]


@pytest.mark.parametrize(("device", "before", "after"), REFRESHED)
def test_what_libvirt_refreshes_by_itself_is_no_change(device: str, before: str, after: str) -> None:
    """An agent that connects while its guest is moved: neither planning nor verification may take it for a change."""
    first, second = (
        f"<domstatus><domain><devices>{device.format(x)}</devices></domain></domstatus>" for x in (before, after)
    )
    assert changes(first, second) == ()
    assert changes(first, second.replace("<domain>", "<domain id='2'>")) == ("domain",)
    live = [text.removeprefix("<domstatus>").removesuffix("</domstatus>") for text in (first, second)]
    assert differences(*live) == ()


def test_nor_are_the_balloon_and_the_guests_clock() -> None:
    text = "<domain><currentMemory unit='KiB'>{}</currentMemory><clock offset='variable' adjustment='{}' {}/></domain>"
    first, second = text.format(1024, 0, "adjustment0='0'"), text.format(512, 3600, "adjustment0='0'")
    assert differences(first, second) == ()
    assert changes(f"<domstatus>{first}</domstatus>", f"<domstatus>{second}</domstatus>") == ()
    other = text.format(512, 3600, "adjustment0='7'")
    assert changes(f"<domstatus>{first}</domstatus>", f"<domstatus>{other}</domstatus>") == ("domain/clock",)


def test_nor_is_the_reason_why_it_runs() -> None:
    """Suspended and resumed, it is the same again; suspended for another reason it isn't."""
    record = "<domstatus state='{}' reason='{}'/>"
    assert changes(record.format("running", "booted"), record.format("running", "unpaused")) == ()
    assert changes(record.format("paused", "user"), record.format("paused", "ioerror")) == ("domstatus",)


def test_differences_of_the_xml() -> None:
    xml = facts.domain().xml
    assert differences(xml, xml.replace("/dev/pts/1", "/dev/pts/7")) == ()
    assert differences(xml, xml.replace("bus='virtio'", "bus='ide'"))[0].startswith("- ")


def test_the_alias_of_a_controller_that_is_none_is_no_difference() -> None:
    """libvirt gives it one when it starts the guest, and doesn't read it back; the others keep theirs."""
    serial = "<serial type='pty'><source path='/dev/pts/{}'/></serial>"
    xml = "<domain><devices><controller type='usb' model='{}'>{}</controller>" + serial + "</devices></domain>"
    alias = "\n  <alias name='usb'/>\n"
    assert differences(xml.format("none", alias, 1), xml.format("none", "", 2)) == ()
    assert differences(xml.format("qemu-xhci", alias, 1), xml.format("qemu-xhci", "", 1)) != ()


def test_a_channel_that_a_suspended_guest_has_open_is_told_of_only_when_it_runs() -> None:
    xml = "<domain><devices><channel type='unix'><target type='virtio' name='a'{}/></channel></devices></domain>"
    before, after = xml.format(" state='connected'"), xml.format(" state='disconnected'")
    assert differences(before, after, asleep=True) == ()
    assert differences(before, after) != ()
