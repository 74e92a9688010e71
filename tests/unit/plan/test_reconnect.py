"""What libvirt would hear of new QEMU, compared: every kind of disagreement is found and said."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from tests.unit.support import facts
from tests.unit.support.qemu_answers import RECORDED, answers
from virtcpr.domain import status
from virtcpr.plan import reconnect
from virtcpr.plan.reconnect import Disagreement, compare, judge_state, recorded

RECORD = status.read(facts.domain().status_xml)


def test_old_and_new_agree() -> None:
    """As they were recorded: run state, threads, ptys, packet filters and what the guest set in them all differ."""
    assert compare(answers("old"), answers("new")) == ()
    assert RECORDED["old"]["query-status"] != RECORDED["new"]["query-status"]


def test_the_record_agrees_with_both() -> None:
    assert compare(recorded(RECORD), answers("old")) == compare(recorded(RECORD), answers("new")) == ()


def test_what_the_guest_has_plugged_of_virtio_mem_comes_with_its_state() -> None:
    """New QEMU, which waits for the state, has nothing of it plugged yet; its size is fixed."""
    query = next(query for query in reconnect.QUERIES if query.what == "memory devices")
    device = {"id": "m0", "memaddr": 1 << 32, "size": 1 << 27, "max-size": 1 << 28, "node": 0, "memdev": "/objects/m"}
    old, new = ([{"type": "virtio-mem", "data": device | {"size": size}}] for size in (1 << 27, 0))
    other = [{"type": "virtio-mem", "data": device | {"max-size": 1 << 29}}]
    assert query.reads(old) == query.reads(new) != query.reads(other)


def changed(command: str, change: Any) -> Mapping[str, object]:
    """The answers of new with one of them changed in place."""
    answer = deepcopy(RECORDED["new"][command])
    change(answer)
    return {command: answer}


CAPABILITIES = "query-migrate-capabilities"
DIFFERENT: tuple[tuple[Mapping[str, object], str], ...] = (
    (
        changed(CAPABILITIES, lambda a: [c.update(state=False) for c in a if c["capability"] == "events"]),
        "migration capabilities: without events",
    ),
    ({"query-target": {"arch": "i386"}}, "architecture: without x86_64 and with i386"),
    (
        {"qom-get /machine": "pc-q35-9.2-machine"},
        "machine: without pc-q35-10.0-machine and with pc-q35-9.2-machine",
    ),
    (changed("query-cpus-fast", lambda a: a.pop()), "vCPUs: without 1"),
    (
        changed("query-hotpluggable-cpus", lambda a: [cpu.pop("qom-path") for cpu in a if cpu["props"]["socket-id"]]),
        "vCPU sockets: without core-id=0 socket-id=1 thread-id=0 used and with core-id=0 socket-id=1 thread-id=0 free",
    ),
    (
        {"query-memory-devices": [{"type": "dimm", "data": {"id": "dimm0", "addr": 0x100000000, "slot": 0}}]},
        "memory devices: with dimm id=dimm0 addr=4294967296 slot=0",
    ),
    ({"query-iothreads": []}, "iothreads: without iothread1"),
    (changed("query-rx-filter", lambda a: a.pop()), "network cards: without "),
    (changed("query-block", lambda a: a[0].pop("inserted")), "disks: without "),
    (
        changed("query-named-block-nodes", lambda a: a[0].update({"node-name": "another"})),
        "block nodes: without ",
    ),
    (
        changed("query-blockstats", lambda a: a[0].pop("backing")),
        "block graph: without libvirt-2-format on libvirt-2-storage and libvirt-3-format, libvirt-3-format on "
        "libvirt-3-storage and nothing, libvirt-3-storage on nothing and nothing and with libvirt-2-format on "
        "libvirt-2-storage and nothing",
    ),
    (
        changed("query-block", lambda a: a[0]["inserted"].update(iops=100, group="slow")),
        "disks: without virtio-disk0/virtio-backend on libvirt-2-format and with virtio-disk0/virtio-backend on "
        "libvirt-2-format (group=slow iops=100)",
    ),
    (
        changed("query-chardev", lambda a: a[-1].update(filename="null")),
        "character devices: without charmonitor (unix:/var/lib/libvirt/qemu/domain-3-database/monitor.sock) and with "
        "charmonitor (null)",
    ),
    ({"query-block-jobs": [{"device": "backup0"}]}, "block jobs: with backup0"),
    (
        changed("qom-list /machine/peripheral", lambda a: a.remove(next(d for d in a if d["name"] == "net0"))),
        "devices: without net0",
    ),
    (
        changed("qom-list /objects", lambda a: a.remove(next(d for d in a if d["name"] == "masterKey0"))),
        "objects: without masterKey0",
    ),
    ({"query-pr-managers": [{"id": "pr-helper0"}]}, "reservation managers: with pr-helper0"),
    ({"query-fdsets": []}, "descriptor sets: without "),
)


@pytest.mark.parametrize(("answer", "text"), DIFFERENT, ids=[text.partition(":")[0] for _, text in DIFFERENT])
def test_every_difference_is_said(answer: Mapping[str, object], text: str) -> None:
    (disagreement,) = compare(answers("old"), answers("new", answer))
    assert disagreement.text.startswith(text)


def test_every_question_has_a_difference() -> None:
    """Two are asked only because libvirt asks them, and one is judged by itself."""
    asked = {query.what for query in reconnect.QUERIES}
    assert asked == {text.partition(":")[0] for _, text in DIFFERENT} | {"machine types", "balloon", reconnect.STATUS}


def test_new_may_have_more_devices_and_objects() -> None:
    more = changed("qom-list /machine/peripheral", lambda a: a.append({"name": "more", "type": "child<device>"}))
    assert compare(answers("old"), answers("new", more)) == ()


def test_what_was_not_asked_is_not_compared() -> None:
    assert compare({}, answers("new")) == compare(answers("old"), {}) == ()


@pytest.mark.parametrize("what", ["vCPUs", "security label"])
def test_for_some_libvirt_kills(what: str) -> None:
    assert compare({what: frozenset("a")}, {what: frozenset("b")}) == (Disagreement(f"{what}: without a and with b"),)


@pytest.mark.parametrize("what", ["iothreads", "cgroup", "mount namespace", "user and groups", "disks"])
def test_for_others_it_does_not(what: str) -> None:
    (disagreement,) = compare({what: frozenset("a")}, {what: frozenset("b")})
    assert not disagreement.kills


# (libvirt's state and reason, QEMU's run state, whether the guest should run) → what is wrong
STATES = (
    (("running", "booted"), "running", True, ()),
    (("paused", "user"), "paused", False, ()),
    (("paused", "user"), "postmigrate", False, ()),
    (("running", "booted"), "postmigrate", True, (Disagreement("the guest is postmigrate", kills=False),)),
    (("running", "booted"), "io-error", True, (Disagreement("the guest is io-error", kills=False),)),
    (("running", "booted"), "paused", True, (Disagreement("the guest is paused", kills=False),)),
    (("running", "booted"), "prelaunch", True, (Disagreement("QEMU is prelaunch: it doesn't have the guest"),)),
    (("running", "booted"), "inmigrate", True, (Disagreement("QEMU is inmigrate: it doesn't have the guest"),)),
    (
        ("paused", "starting up"),
        "running",
        True,
        (Disagreement("libvirt's record says that the guest is paused (starting up)"),),
    ),
    (
        ("shutoff", "unknown"),
        "running",
        True,
        (Disagreement("libvirt's record says that the guest is shutoff (unknown)"),),
    ),
)


@pytest.mark.parametrize(("record", "state", "runs", "wrong"), STATES)
def test_states(record: tuple[str, str], state: str, runs: bool, wrong: tuple[Disagreement, ...]) -> None:
    text = facts.domain().status_xml.replace(
        "state='running' reason='booted'", f"state='{record[0]}' reason='{record[1]}'"
    )
    assert tuple(judge_state(status.read(text), state, runs=runs)) == wrong


def test_iothreads_of_the_record_have_ids_or_are_counted() -> None:
    text = facts.domain().status_xml
    assert status.read(text).iothreads == {"iothread1"}
    named = text.replace("<iothreads>1</iothreads>", "<iothreadids><iothread id='4'/></iothreadids>")
    assert status.read(named).iothreads == {"iothread4"}


def test_a_file_name_made_of_options_is_not_compared() -> None:
    """QEMU spells them by release."""
    old = changed("query-named-block-nodes", lambda a: a[0].update(file='json:{"driver": "qcow2"}'))
    new = changed("query-named-block-nodes", lambda a: a[0].update(file='json:{"driver": "qcow2", "new": 1}'))
    assert compare(answers("new", old), answers("new", new)) == ()
