"""The guest's RAM: what QEMU can hand over, and what would be lost."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from virtcpr.domain.facts import Memdev
from virtcpr.domain.live import HUGEPAGES
from virtcpr.plan.findings.rule import Hit, Subject

MEMFD_LINE = "owner / rw,"  # AppArmor's, for memfds of huge pages, which to it are files named "/"
# Object types whose guests have RAM that no other process may read (QEMU, qapi/qom.json, ObjectType).
CONFIDENTIAL = frozenset({"sev-guest", "sev-snp-guest", "tdx-guest", "s390-pv-guest", "pef-guest"})


def private(subject: Subject) -> Iterator[Hit]:
    memdevs = subject.qemu.memdevs
    ids = [memdev.id or "unnamed" for memdev in memdevs if not memdev.share]
    if ids or not memdevs:
        yield {"ram": ", ".join(ids) or "no memory backend", "how": _how(subject)}


def _how(subject: Subject) -> str:
    """The remedy for RAM that can't be handed over."""
    name = quote(subject.facts.name)
    prepared = _stored_ready(subject)
    boot = "shut it down and start it" if prepared else f"'virtcpr prepare {name}' and then shut it down and start it"
    why = "its persistent XML is prepared: " if prepared else ""
    return f"{why}{boot}" if subject.facts.session else f"{why}'virtcpr prepare --live {name}', or {boot}"


def _stored_ready(subject: Subject) -> bool:
    return subject.stored is not None and subject.stored.handed_over()


def private_in_document(subject: Subject) -> Iterator[Hit]:
    ids = subject.live.private_ram()
    if ids:
        yield {"ram": ", ".join(ids)}


def in_directory(subject: Subject) -> Iterator[Hit]:
    for memdev in _shared_files(subject):
        if memdev.place == "directory":
            yield {"id": memdev.id or "", "path": memdev.path or "", "how": _how(subject)}


def file_gone(subject: Subject) -> Iterator[Hit]:
    """A named file is opened again by its name."""
    for memdev in _shared_files(subject):
        if memdev.place == "missing":
            yield {"id": memdev.id or "", "path": memdev.path or ""}


def discarded(subject: Subject) -> Iterator[Hit]:
    for memdev in _shared_files(subject):
        if memdev.discard:
            yield {"id": memdev.id or ""}


def _shared_files(subject: Subject) -> Iterator[Memdev]:
    return (m for m in subject.qemu.memdevs if m.share and m.kind == "memory-backend-file")


def confined_memfd(subject: Subject) -> Iterator[Hit]:
    """Of a document: its next start would fail."""
    host = subject.facts.host
    memfd = subject.live.matches("memoryBacking/source[@type='memfd']") and subject.live.matches(HUGEPAGES)
    free = subject.live.matches("seclabel[@type='none'][not(@model) or @model='apparmor']")
    if memfd and not free and host is not None and host.confines_memfds:
        yield {"line": MEMFD_LINE}


def confined_new_memfd(subject: Subject) -> Iterator[Hit]:
    """Of a running domain: new QEMU has the profile that is loaded for old."""
    if subject.live.matches(HUGEPAGES) and not subject.process.may_make_memfds:
        yield {"line": MEMFD_LINE, "uuid": subject.facts.uuid}


def epc(subject: Subject) -> Iterator[Hit]:
    for memdev in subject.qemu.memdevs:
        if memdev.kind == "memory-backend-epc":
            yield {"id": memdev.id or ""}


def confidential(subject: Subject) -> Iterator[Hit]:
    for name, kind in sorted(subject.qemu.objects.items()):
        if kind in CONFIDENTIAL:
            yield {"id": name, "kind": kind}


def aux_ram_private(subject: Subject) -> Iterator[Hit]:
    if not subject.qemu.aux_ram_share:
        yield {"how": _how(subject)}


def aux_ram_private_in_document(subject: Subject) -> Iterator[Hit]:
    if not subject.live.aux_ram_share():
        yield {}


def no_room_for_two(subject: Subject) -> Iterator[Hit]:
    """Mode ``live`` needs the guest's RAM a second time."""
    host, wanted = subject.facts.host, subject.live.memory_kib()
    if host is None:
        return
    size = subject.live.hugepage_kib()
    if size is None and wanted > host.available:
        yield {"wanted": _mib(wanted), "free": _mib(host.available), "kind": "memory"}
    elif size is not None:
        free = [pages * kib for kib, pages in host.hugepages.items() if size in (0, kib)]
        if wanted > max(free, default=0):
            yield {"wanted": _mib(wanted), "free": _mib(max(free, default=0)), "kind": "hugepages"}


def in_file(subject: Subject) -> Iterator[Hit]:
    """A file that isn't libvirt's own (qemuGetMemoryBackingPath): somebody wants RAM, or shared memory, to be there."""
    own = subject.facts.status.lib_dir.rpartition("/domain-")[2]
    for memdev in subject.qemu.memdevs:
        named = memdev.kind == "memory-backend-file" and memdev.place != "directory"
        if named and (memdev.path or "").split("/")[-2:-1] != [own]:
            yield {"id": memdev.id or "", "path": memdev.path or ""}


def of_several_sizes(subject: Subject) -> Iterator[Hit]:
    """The XML says less simply than one ``<page>`` of what size each backend's pages are."""
    huge = any(memdev.place == "directory" for memdev in subject.qemu.memdevs)
    several = "memoryBacking/hugepages[page/@nodeset or page[2]] | devices/memory/source/pagesize"
    if huge and (subject.live.hugepage_kib() is None or subject.live.matches(several)):
        yield {}


def without_backend(subject: Subject) -> Iterator[Hit]:
    memdevs = subject.qemu.memdevs
    if not memdevs or any(memdev.id is None for memdev in memdevs):
        yield {}


def no_room_for_two_below_the_limit(subject: Subject) -> Iterator[Hit]:
    process = subject.facts.process
    if process is None or process.memory_room is None:
        return
    in_memfd = all(memdev.share for memdev in subject.qemu.memdevs)  # else its own memory has RAM in it
    wanted = process.own_memory + (subject.live.memory_kib() if in_memfd else 0)
    if wanted > process.memory_room:
        more = wanted - process.memory_room
        yield {"room": _mib(process.memory_room), "wanted": _mib(wanted), "more": _mib(more + 1024)}


def no_room_below_the_limit(subject: Subject) -> Iterator[Hit]:
    """New QEMU is in the cgroups of the old one, and takes as much memory of its own; RAM is shared."""
    process = subject.facts.process
    if process is None or process.memory_room is None or process.own_memory <= process.memory_room:
        return
    if not all(memdev.share for memdev in subject.qemu.memdevs):  # its own memory has RAM in it
        return
    more = process.own_memory - process.memory_room
    yield {"room": _mib(process.memory_room), "wanted": _mib(process.own_memory), "more": _mib(more + 1024)}


def _mib(kib: int) -> str:
    return f"{kib // 1024} MiB"


def next_boot_is_ready(subject: Subject) -> Iterator[Hit]:
    """The running process isn't prepared, the persistent XML is."""
    if _stored_ready(subject) and not subject.qemu.handed_over:
        yield {}


def next_boot_is_not_ready(subject: Subject) -> Iterator[Hit]:
    if subject.stored is not None and subject.qemu.handed_over and not _stored_ready(subject):
        yield {}
