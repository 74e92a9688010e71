"""RAM in mode live: new QEMU has it shared, in memfds, so that the next move can be by mode transfer."""

from __future__ import annotations

from collections.abc import Iterable

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.edit.arguments import same
from virtcpr.domain.edit.prepare import ensured
from virtcpr.domain.facts import Memdev

RAM, MEMFD, FILE = "memory-backend-ram", "memory-backend-memfd", "memory-backend-file"
AUX = Option("machine", "aux-ram-share=on")
# Properties that memory-backend-file has, and memory-backend-memfd hasn't (qapi/qom.json, MemoryBackendFileProperties).
OF_FILES = ("mem-path", "align", "offset", "discard-data", "pmem", "readonly", "rom")
# RAM blocks are found by their names: those of a memfd are paths in machine types before 4.1 if nobody says otherwise,
# those of memory-backend-ram never are (hw/core/machine.c, hw_compat_4_0).
NAMED_BY_PATH = "x-use-canonical-path-for-ramblock-id"
# What libvirt's own record of the running domain must say afterwards.
FRAGMENT = """
<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0" xmlns:virtcpr="urn:virtcpr:domain:1">
  <memoryBacking>
    <source type="memfd"/>
    <access mode="shared"/>
  </memoryBacking>
  <cell virtcpr:each="cpu/numa/cell" memAccess="shared"/>
  <memory virtcpr:each="devices/memory[@model='dimm']" access="shared"/>
  <qemu:commandline>
    <qemu:arg value="-machine"/>
    <qemu:arg value="aux-ram-share=on"/>
  </qemu:commandline>
</domain>
"""


def replacements(line: CommandLine, ram: Iterable[Memdev], hugepage_kib: int | None) -> dict[Option, Option]:
    """The memory backends that aren't shared memfds, each with one that is.

    ``ram``: the backends that are RAM.  ``hugepage_kib``: the size of the huge pages of those that are in a directory;
    0 for the host's default size.
    """
    places = {memdev.id: memdev.place for memdev in ram}
    replaced = {}
    for option in line.named("object"):
        given = option.properties()
        kind, name = given.get("qom-type", given.get("")), given.get("id")
        if name in places and kind in (RAM, MEMFD, FILE) and not (kind == MEMFD and _on(given.get("share"))):
            huge = hugepage_kib if places[str(name)] == "directory" else None
            replaced[option] = _shared(option, str(kind), huge)
    return replaced


def _shared(option: Option, kind: str, hugepage_kib: int | None) -> Option:
    changes: dict[str, object] = {"share": True}
    if kind == RAM:
        changes[NAMED_BY_PATH] = False
    if hugepage_kib is not None:
        changes["hugetlb"] = True
        if hugepage_kib:
            changes["hugetlbsize"] = hugepage_kib * 1024
    return option.without(*OF_FILES).with_kind(MEMFD, changes)


def readied(text: str) -> str:
    """A running domain's XML as mode live leaves it.  Raises ParseError."""
    return ensured(text, FRAGMENT)


def _on(value: object) -> bool:
    return value is True or same(str(value), "on")
