"""``prepare`` for the mode reboot: RAM in a named file or on a device, in any domain, and beside the mode transfer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.paths import ROOT
from tests.unit.support.documents import QEMU, VIRTCPR, domains, normalised
from tests.unit.support.edits import (
    domain,
    examples,
    is_ready,
    parsed,
    shape,
    template,
    transfer,
    with_arguments,
    without_what_prepare_touches,
)
from virtcpr.domain.edit.prepare import Edited, prepare, recorded, templates, undo
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.domain.live import LiveDomain
from virtcpr.errors import ParseError, UsageError
from virtcpr.host.files import templates as shipped
from virtcpr.model import Mode, Severity
from virtcpr.plan.findings.prepare_rules import preparing

TEMPLATES = ROOT / "xml-templates"
FILE, DAX = ((TEMPLATES / f"reboot-{kind}.xml").read_text() for kind in ("file", "dax"))
OBJECT = "memory-backend-file,id=ram0,size={size},mem-path=/dev/dax0.0,align=2M,share=on"
MIB = 1024 * 1024


def in_file(text: str) -> Edited:
    return prepare(text, FILE, "reboot", "reboot-file")


def on_device(text: str) -> Edited:
    return prepare(text, DAX, "reboot", "reboot-dax")


def words(text: str) -> list[str]:
    root = parsed(text)
    return [argument.get("value", "") for argument in root.iterfind(f"{{{QEMU}}}commandline/{{{QEMU}}}arg")]


def has_memory(text: str) -> bool:
    return parsed(text).find("memory") is not None and parsed(text).find("devices/memory") is None


def stays_in_place(root: etree._Element) -> bool:
    """All RAM is in files that have a name, but for huge pages, which are left alone."""
    if root.find("memoryBacking/hugepages") is not None and root.find("memoryBacking/hugepages/page") is None:
        return True
    source, access = root.find("memoryBacking/source"), root.find("memoryBacking/access")
    assert source is not None
    assert access is not None
    return (
        (source.get("type"), access.get("mode")) == ("file", "shared")
        and all(cell.get("memAccess") == "shared" for cell in root.iterfind("cpu/numa/cell"))
        and all(dimm.get("access") == "shared" for dimm in root.iterfind("devices/memory[@model='dimm']"))
    )


# What holds for every domain.


@given(domains())
@examples
def test_in_a_file_every_domain_s_ram_stays_in_place(text: str) -> None:
    once = in_file(text)
    assert stays_in_place(parsed(once.text))
    assert in_file(once.text) == Edited(once.text)
    assert without_what_prepare_touches(once.text) == without_what_prepare_touches(text)
    assert words(once.text) == words(text)


@given(domains())
@examples
def test_a_file_is_undone_to_the_byte(text: str) -> None:
    once = in_file(text)
    again = undo(once.text)
    assert (again.text, again.kept, bool(again.changes)) == (text, (), bool(once.changes))
    libvirts = undo(normalised(once.text))
    assert shape(parsed(normalised(libvirts.text))) == shape(parsed(normalised(text)))


@given(domains().filter(has_memory))
@examples
def test_a_device_takes_four_arguments_and_nothing_else(text: str) -> None:
    once = on_device(text)
    put = ["-object", OBJECT.format(size=1024 * MIB), "-machine", "memory-backend=ram0"]
    before, after = words(text), words(once.text)
    assert any(before[:at] + put + before[at:] == after for at in range(len(before) + 1))
    assert LiveDomain.of(once.text).ram_backend() == "ram0"
    assert on_device(once.text) == Edited(once.text)
    assert undo(once.text).text == text
    for tag in ("memoryBacking", "cpu", "devices", "memory"):
        assert list(map(shape, parsed(text).iterfind(tag))) == list(map(shape, parsed(once.text).iterfind(tag)))


SIZES = st.lists(st.sampled_from([256, 512, 1024]), min_size=1, max_size=6)


@given(SIZES, st.sampled_from([(), ("-object", "memory-backend-ram,id=ram0,size=1G"), ("-M", "memory-backend=x")]))
@examples
def test_the_device_s_size_follows_the_domain_s(sizes: list[int], given: tuple[str, ...]) -> None:
    """However often it changes there is one backend, and undo gives back what was there before the first time."""
    start = with_arguments(*given).replace("<qemu:comm", "<memory unit='MiB'>100</memory><qemu:comm", 1)
    text = start
    for size in sizes:
        now = parsed(text).findtext("memory")
        text = on_device(text.replace(f"<memory unit='MiB'>{now}<", f"<memory unit='MiB'>{size}<")).text
        assert [word for word in words(text) if "id=ram0" in word] == [OBJECT.format(size=size * MIB)]
    again = undo(normalised(text).replace(f'<memory unit="MiB">{sizes[-1]}<', '<memory unit="MiB">100<'))
    assert again.kept == ()
    assert shape(parsed(normalised(again.text))) == shape(parsed(normalised(start)))


@given(domains(), st.permutations([transfer, in_file, transfer, in_file]))
@examples
def test_one_domain_for_both_modes(text: str, steps: list[object]) -> None:
    """The second adds what it needs, and takes nothing from the first; one undo takes back all."""
    both = text
    for step in steps:
        assert callable(step)
        both = step(both).text
    for step in (transfer, in_file):
        again = step(both)
        assert again.changes == () or "huge" in text  # RAM in huge pages has to be a memfd for one of them
    assert is_ready(parsed(transfer(both).text))
    assert undo(both).text == text
    assert undo(both).kept == ()


@pytest.mark.parametrize("given", [(), ("-object", "memory-backend-file,id=ram0,size=2G")])
def test_a_size_that_somebody_changed_is_one_change_with_the_first(given: tuple[str, ...]) -> None:
    start = with_arguments(*given).replace("<qemu:comm", "<memory unit='MiB'>256</memory><qemu:comm", 1)
    once = on_device(start).text
    argument = f"<qemu:arg value='{OBJECT.format(size=256 * MIB)}'/>"
    assert once.count(argument) == 1
    changed = once.replace(argument, "<qemu:arg value='memory-backend-file,id=ram0,size=1G'/>")
    assert undo(on_device(changed).text) == undo(once)
    assert undo(once).text == start


# The values of a template.


def sized(memory: str) -> str:
    return domain(f"<name>x</name>{memory}")


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("<memory>262144</memory>", 256 * MIB),
        ("<memory unit='KiB'>262145</memory>", 257 * MIB),
        ("<memory unit='b'>1</memory>", MIB),
        ("<memory unit='GB'>1</memory>", 954 * MIB),
        ("<memory unit='TiB'> 2 </memory>", 2 * MIB * MIB),
    ],
)
def test_memory_is_in_bytes_as_libvirt_gives_it_to_qemu(memory: str, size: int) -> None:
    assert words(on_device(sized(memory)).text)[1] == OBJECT.format(size=size)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("", "the template asks for {memory}, and the domain has no <memory>"),
        ("<memory>0</memory>", "the template asks for {memory}, and the domain has no <memory>"),
        (
            "<memory>1024</memory><devices><memory model='virtio-pmem'/></devices>",
            "the template asks for {memory}, and the domain has memory devices beside it",
        ),
        ("<memory>lots</memory>", "'lots KiB' isn't an amount of memory"),
        ("<memory unit='Mib'>1</memory>", "'1 Mib' isn't an amount of memory"),
    ],
)
def test_memory_that_cannot_be_told(memory: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        on_device(sized(memory))
    assert caught.value.message == message
    assert in_file(sized(memory)).changes, "only templates that ask for it need it"


def test_other_braces_stay_as_they_are() -> None:
    value = '{"qom-type":"memory-backend-ram","id":"r","size":{memory}}'
    body = f"<qemu:commandline><qemu:arg value='-object'/><qemu:arg value='{value}'/></qemu:commandline>"
    once = prepare(sized("<memory unit='MiB'>2</memory>"), template(body), "test")
    assert words(once.text)[1] == value.replace("{memory}", str(2 * MIB))
    larger = once.text.replace(">2<", ">3<")
    assert words(prepare(larger, template(body), "test").text) == ["-object", value.replace("{memory}", str(3 * MIB))]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("--object", "a,id=b"), ("--object", "a,id=b")),
        (("-object", "x,id=b,c=d"), ("-object", "a,id=b")),
        (("-object", "{broken"), ("-object", "{broken", "-object", "a,id=b")),
        (("-device", "x,id=b"), ("-device", "x,id=b", "-object", "a,id=b")),
        (("-object", "x"), ("-object", "x", "-object", "a,id=b")),
    ],
)
def test_an_id_is_given_once(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    body = "<qemu:commandline><qemu:arg value='-object'/><qemu:arg value='a,id=b'/></qemu:commandline>"
    once = prepare(with_arguments(*before), template(body), "test").text
    assert words(once) == list(after)
    assert undo(once).text == with_arguments(*before)


def test_options_without_an_id_are_different_ones() -> None:
    body = "<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='a.b=c'/></qemu:commandline>"
    assert words(prepare(with_arguments("-global", "a.b=d"), template(body), "test").text)[2:] == ["-global", "a.b=c"]


# Huge pages.


@pytest.mark.parametrize(
    ("backing", "changes"),
    [
        ("<hugepages/>", 0),
        ("<hugepages><page size='2048' unit='KiB'/></hugepages>", 0),
        ("<hugepages/><source type='memfd'/><access mode='shared'/>", 0),
        ("<hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages>", 4),
    ],
)
def test_huge_pages_are_left_alone_where_all_ram_is_in_them(backing: str, changes: int) -> None:
    cells = "<cpu><numa><cell id='0' memory='512'/><cell id='1' memory='512'/></numa></cpu>"
    text = domain(f"<memoryBacking>{backing}</memoryBacking>{cells}")
    assert len(in_file(text).changes) == changes


# What is recorded.


def test_templates_are_recorded() -> None:
    text = sized("<memory>1024</memory>")
    assert templates(text) == ()
    both = in_file(transfer(text).text).text
    assert (recorded(both), templates(both)) == ("reboot", ("transfer", "reboot-file"))
    assert f"{{{VIRTCPR}}}prepared" in [element.tag for element in parsed(both).iter(etree.Element)]
    assert (recorded(transfer(text).text), templates(transfer(text).text)) == ("transfer", ("transfer",))
    assert "templates" not in transfer(text).text
    assert templates(transfer(in_file(text).text).text) == ("reboot-file", "transfer")
    assert undo(both).text == text


def test_a_memfd_becomes_a_file() -> None:
    """Of a domain that is ready for transfer it stays so: a named file can be handed over, too."""
    once = transfer(sized("<memory>1024</memory>")).text
    both = in_file(once)
    assert both.changes == ("memoryBacking/source: type 'memfd' → 'file'",)
    assert is_ready(parsed(both.text))
    assert transfer(both.text) == Edited(both.text)


# What is found.


def severities(xml: str, name: str = "reboot-file", mode: Mode = Mode.REBOOT) -> dict[str, Severity]:
    edited = prepare(xml, (TEMPLATES / f"{name}.xml").read_text(), mode.value, name).text
    facts = DomainFacts("x", "", None, "", "", xml, Emulator("/q"), offline=True, persistent_xml=xml)
    return {finding.code: finding.severity for finding in preparing(facts, mode, name, edited)}


def with_backing(text: str) -> str:
    return sized(f"<memory>1024</memory><memoryBacking>{text}</memoryBacking>")


PLAIN = sized("<memory>1024</memory>")
CELLS = sized("<memory>1024</memory><cpu><numa><cell id='0' memory='1024'/></numa></cpu>")
NVDIMM = sized("<memory>1024</memory><devices><memory model='nvdimm'/></devices>")
PAGES = with_backing("<hugepages/>")
DIMM = sized(
    "<memory>9</memory><devices><memory model='dimm'><source><pagesize>2048</pagesize></source></memory></devices>"
)
B, W = Severity.BLOCKER, Severity.WARNING


@pytest.mark.parametrize(
    ("xml", "name", "expected"),
    [
        (PLAIN, "reboot-file", {}),
        (PLAIN, "reboot-dax", {}),
        (CELLS, "reboot-file", {}),
        (CELLS, "reboot-dax", {"ram-backend-cells": B}),
        (NVDIMM, "reboot-file", {"nvdimm-private": B}),
        (PAGES, "reboot-file", {"ram-nameless": W}),
        (DIMM, "reboot-file", {"ram-nameless": W}),
        (PAGES, "reboot-dax", {"ram-backend-twice": W}),
        (with_backing("<locked/>"), "reboot-dax", {"ram-backend-twice": W}),
        (with_backing("<allocation mode='immediate'/>"), "reboot-dax", {"ram-backend-twice": W}),
        (with_backing("<allocation mode='ondemand'/>"), "reboot-dax", {}),
        (on_device(PLAIN).text, "reboot-dax", {}),
        (on_device(PLAIN).text, "reboot-file", {"other-template": B}),
        (transfer(on_device(PLAIN).text).text, "reboot-file", {"other-template": B}),
        (in_file(PLAIN).text, "reboot-dax", {"other-template": B}),
        (transfer(PLAIN).text, "reboot-file", {}),
        (sized("<memory>1</memory><launchSecurity type='sev'/>"), "reboot-file", {"confidential": B}),
        (sized("<memory>1</memory><devices><vsock/><hostdev/></devices>"), "reboot-file", {}),
        (sized("<memory>1</memory><devices><shmem/></devices>"), "reboot-file", {"shmem": W}),
    ],
)
def test_findings(xml: str, name: str, expected: dict[str, Severity]) -> None:
    assert severities(xml, name) == expected


def test_findings_of_the_mode_transfer_are_its_own() -> None:
    assert severities(PAGES, "transfer", Mode.TRANSFER) == {}
    assert severities(in_file(PLAIN).text, "transfer", Mode.TRANSFER) == {}


def test_an_emulator_without_the_mode_is_decisive() -> None:
    old = Emulator("/q", "7.2.0", modes=frozenset({"normal"}))
    facts = DomainFacts("x", "", None, "", "", PLAIN, old, persistent_xml=PLAIN)
    blockers = {
        finding.code for finding in preparing(facts, Mode.REBOOT, "reboot-file", PLAIN) if finding.severity is B
    }
    assert blockers == {"emulator-reboot"}


def test_what_is_said_of_another_template() -> None:
    xml = on_device(PLAIN).text
    facts = DomainFacts("a b", "", None, "", "", xml, Emulator("/q"), offline=True, persistent_xml=xml)
    (finding,) = preparing(facts, Mode.REBOOT, "reboot-file", xml)
    assert finding.message == (
        "the domain is prepared by another template of this mode (reboot-dax), and its changes would stay"
    )
    assert finding.remedy == "undo it first: 'virtcpr prepare --undo 'a b''"


# The templates that there are.


def test_a_mode_s_templates(tmp_path: Path) -> None:
    (tmp_path / "reboot-dax2.xml").write_text("<domain/>")
    (tmp_path / "rebooted.xml").write_text("<domain/>")
    assert shipped.names("reboot", tmp_path) == ["reboot-dax", "reboot-dax2", "reboot-file"]
    assert shipped.names("transfer", tmp_path / "none") == ["transfer"]
    assert shipped.template("reboot", overrides=tmp_path).text == FILE
    assert shipped.template("reboot", "reboot-dax", tmp_path).name == "reboot-dax"
    for name in ("transfer", "rebooted", "../reboot-dax", "reboot-", ""):
        with pytest.raises(UsageError) as caught:
            shipped.template("reboot", name, tmp_path)
        assert caught.value.message == f"'{name}' is no template of mode reboot"
        assert caught.value.hint == "there are: reboot-dax, reboot-dax2, reboot-file"


# The files that arguments make RAM of.


@pytest.mark.parametrize(
    ("value", "files"),
    [
        (OBJECT.format(size=1), {("/dev/dax0.0", "0")}),
        (OBJECT.format(size=1) + ",offset=2M", {("/dev/dax0.0", "2M")}),
        ('{"qom-type":"memory-backend-file","mem-path":"/a","share":true}', {("/a", "0")}),
        ("memory-backend-file,id=a,mem-path=/a", set()),
        ("memory-backend-file,id=a,mem-path=/a,share=off", set()),
        ("memory-backend-ram,id=a,share=on", set()),
        ("{broken", set()),
    ],
)
def test_files_of_ram(value: str, files: set[tuple[str, str]]) -> None:
    assert LiveDomain.of(with_arguments("-object", value)).ram_files() == files


def test_the_last_backend_counts() -> None:
    assert LiveDomain.of(PLAIN).ram_backend() is None
    several = with_arguments("-machine", "memory-backend=a", "-M", "q35,memory-backend=b", "-machine", "usb=off")
    assert LiveDomain.of(several).ram_backend() == "b"
    assert replace(LiveDomain.of(several)).ram_files() == frozenset()
