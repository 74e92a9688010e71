"""A command line that no longer matches the guest must never start its successor."""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile import reconcile
from virtcpr.model import Mode
from virtcpr.plan import tried
from virtcpr.plan.findings.rule import Hit, Subject


def unreadable(subject: Subject) -> Iterator[Hit]:
    if subject.line is None:
        yield {}


def not_yet_run(subject: Subject) -> Iterator[Hit]:
    if what := _untried(subject, Mode.TRANSFER):
        yield {"what": ", ".join(what)}


def not_yet_copied(subject: Subject) -> Iterator[Hit]:
    """What mode transfer was run with, and mode live wasn't."""
    neither = _untried(subject, Mode.TRANSFER)
    if what := [name for name in _untried(subject, Mode.LIVE) if name not in neither]:
        yield {"what": ", ".join(what)}


def _untried(subject: Subject, mode: Mode) -> tuple[str, ...]:
    return () if subject.line is None else tried.untried(subject.line, subject.qemu, mode)


def not_yet_run_in_document(subject: Subject) -> Iterator[Hit]:
    if what := tried.untried_in_document(subject.live):
        yield {"what": ", ".join(what)}


def changed(subject: Subject) -> Iterator[Hit]:
    """What can't be rebuilt, and all remaining differences between the rebuilt command line and QEMU."""
    if subject.line is None:
        return
    now = reconcile(subject.line, subject.qemu, subject.facts.status_xml)
    for change in now.refused or (*_sets(subject, now.line), *_macs(subject, now.line), *_files(subject, now.line)):
        yield {"change": change}


def _sets(subject: Subject, line: CommandLine) -> Iterator[str]:
    qemu = subject.qemu
    compared = (
        ("devices", line.ids("device"), frozenset(qemu.devices)),
        ("objects", line.ids("object"), _objects(qemu)),
        ("iothreads", _iothread_ids(line), qemu.iothreads),
        ("character devices", line.ids("chardev"), frozenset(c.label for c in qemu.chardevs)),
        ("block nodes", line.ids("blockdev", key="node-name"), frozenset(n.name for n in qemu.nodes)),
    )
    for what, started, now in compared:
        change = [*(f"+{name}" for name in sorted(now - started)), *(f"-{name}" for name in sorted(started - now))]
        if change:
            yield f"{what} were added or removed since the guest started: {' '.join(change)}"


def _objects(qemu: QemuFacts) -> frozenset[str]:
    """Without monitors: ``-mon`` creates an object from QEMU 11.1 on, but not before (monitor/monitor.c)."""
    return frozenset(name for name, kind in qemu.objects.items() if not kind.startswith("monitor-"))


def _iothread_ids(line: CommandLine) -> frozenset[str]:
    objects = (option.properties() for option in line.named("object"))
    return frozenset(str(o["id"]) for o in objects if o.get("qom-type", o.get("")) == "iothread")


def _macs(subject: Subject, line: CommandLine) -> Iterator[str]:
    macs = {str(o.get("id")): o["mac"] for o in (d.properties() for d in line.named("device")) if "mac" in o}
    for interface in subject.live.interfaces():
        if interface.mac and macs.get(interface.alias, interface.mac) != interface.mac:
            yield f"interface {interface.alias} was replaced since the guest started: {interface.mac}"


def _files(subject: Subject, line: CommandLine) -> Iterator[str]:
    started = {str(o.get("node-name")): o.get("filename") for o in (b.properties() for b in line.named("blockdev"))}
    for node in subject.qemu.nodes:
        filename = started.get(node.name)
        if isinstance(filename, str) and node.file != filename and node.driver in ("file", "host_device"):
            yield f"block node {node.name} now is {node.file}, the guest started with {filename}"
