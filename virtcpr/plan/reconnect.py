"""The queries of libvirt when it reconnects to a QEMU, and the answers that it expects.

The daemon reads a domain's status file when it starts, connects to the monitor, and kills QEMU if anything fails
(qemuProcessReconnect, libvirt, src/qemu/qemu_process.c).  So virtcpr asks new QEMU the same, in the same order, before
libvirt does.  While the guest still runs in old QEMU, every difference causes a rollback.  After old QEMU has ended,
only differences count for which libvirt would kill the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from virtcpr.domain import qmp
from virtcpr.domain.facts import PERIPHERAL
from virtcpr.domain.status import StatusFile

Reading = frozenset[str]
# Subject of a query → its answer, in words that all releases of QEMU share.
Answers = Mapping[str, Reading]

MASTER_KEY_BYTES = 32  # QEMU_DOMAIN_MASTER_KEY_LEN, src/qemu/qemu_domain.h
VCPUS, IOTHREADS, STATUS = "vCPUs", "iothreads", "run state"


@dataclass(frozen=True)
class Query:
    """One query.  ``reads`` turns the answer into words.

    ``more``: new QEMU may have more than old.  ``kills``: libvirt kills the guest if the answer differs from its
    record.  ``optional``: QEMU may refuse it.
    """

    what: str
    command: str
    reads: Callable[[object], Reading]
    arguments: Mapping[str, object] = field(default_factory=dict)
    more: bool = False
    kills: bool = False
    optional: bool = False


def _nothing(_: object) -> Reading:
    return frozenset()


def _events(answer: object) -> Reading:
    return qmp.capabilities(answer) & {"events"}


def _target(answer: object) -> Reading:
    return frozenset({qmp.text(qmp.obj(answer)["arch"])})


def _words(answer: object) -> Reading:
    return frozenset({qmp.text(answer)})


def _status(answer: object) -> Reading:
    return frozenset({qmp.text(qmp.obj(answer)["status"])})


def _vcpus(answer: object) -> Reading:
    return frozenset(map(str, qmp.threads(answer)))


def _sockets(answer: object) -> Reading:
    """vCPU sockets: their position, and whether they are in use.  QOM paths differ by release."""
    cpus = (qmp.obj(cpu) for cpu in qmp.items(answer))
    return frozenset(
        " ".join(
            [
                *(f"{key}={value}" for key, value in sorted(qmp.obj(cpu["props"]).items())),
                "used" if "qom-path" in cpu else "free",
            ]
        )
        for cpu in cpus
    )


# How much of it the guest has plugged, which is part of the state that new QEMU gets (virtio_mem_fill_device_info).
GUESTS_SIZE = ("virtio-mem", "size")


def _memory_devices(answer: object) -> Reading:
    devices = ((qmp.text(qmp.obj(d)["type"]), qmp.obj(qmp.obj(d)["data"])) for d in qmp.items(answer))
    keys = ("id", "addr", "memaddr", "max-size", "size", "slot", "node", "memdev")
    return frozenset(
        " ".join([kind, *(f"{k}={data[k]}" for k in keys if k in data and (kind, k) != GUESTS_SIZE)])
        for kind, data in devices
    )


def _iothreads(answer: object) -> Reading:
    return frozenset(qmp.iothreads(answer))


def _named(key: str) -> Callable[[object], Reading]:
    return lambda answer: frozenset(qmp.text(qmp.obj(entry)[key]) for entry in qmp.items(answer))


def _drives(answer: object) -> Reading:
    """Device, its node, and its throttle.  Paths outside of /machine/peripheral differ by release."""
    drives = []
    for drive in map(qmp.obj, qmp.items(answer)):
        path, name = qmp.text(drive.get("qdev")), qmp.text(drive.get("device"))
        inserted = qmp.obj(drive.get("inserted") or {})
        device = name if path.startswith("/") and not path.startswith(PERIPHERAL) else path.removeprefix(PERIPHERAL)
        limits = "".join(f" {key}={value}" for key, value in qmp.throttle(inserted).items() if value)
        drives.append(
            f"{device or 'a built-in device'} on {qmp.text(inserted.get('node-name')) or 'nothing'}"
            + (f" ({limits.strip()})" if limits else "")
        )
    return frozenset(drives)


def _nodes(answer: object) -> Reading:
    return frozenset(node.describe for node in qmp.block_nodes(answer))


def _graph(answer: object) -> Reading:
    return frozenset(
        f"{name} on " + " and ".join(child or "nothing" for child in (below.data, below.backing))
        for name, below in qmp.block_graph(answer).items()
    )


def _chardevs(answer: object) -> Reading:
    """Label and kind, and the path of a unix socket.  The client and the name of a pty may differ."""
    chardevs = []
    for chardev in qmp.chardevs(answer):
        kind, _, rest = chardev.filename.removeprefix("disconnected:").partition(":")
        path = rest.partition(",")[0].partition(" ")[0] if kind == "unix" else ""
        chardevs.append(f"{chardev.label} ({kind}{':' if path else ''}{path})")
    return frozenset(chardevs)


def _children(answer: object) -> Reading:
    return frozenset(qmp.children(answer))


def _fdsets(answer: object) -> Reading:
    return frozenset(f"{member.fdset} ({member.opaque or 'unnamed'})" for member in qmp.fdsets(answer))


# In the order of qemuProcessReconnect.
QUERIES = (
    Query("migration capabilities", "query-migrate-capabilities", _events),
    Query(STATUS, "query-status", _status),
    Query("architecture", "query-target", _target),
    Query("machine types", "query-machines", _nothing),
    Query("machine", "qom-get", _words, {"path": "/machine", "property": "type"}),
    Query(VCPUS, "query-cpus-fast", _vcpus, kills=True),
    Query("vCPU sockets", "query-hotpluggable-cpus", _sockets, optional=True),
    Query("memory devices", "query-memory-devices", _memory_devices),
    # libvirt logs "got wrong number of IOThread pids", and keeps the guest (11.3; tested).
    Query(IOTHREADS, "query-iothreads", _iothreads),
    Query("network cards", "query-rx-filter", _named("name"), optional=True),
    Query("disks", "query-block", _drives),
    Query("block nodes", "query-named-block-nodes", _nodes, {"flat": True}),
    Query("block graph", "query-blockstats", _graph),
    Query("character devices", "query-chardev", _chardevs),
    Query("balloon", "query-balloon", _nothing, optional=True),
    Query("block jobs", "query-block-jobs", _named("device")),
    Query("devices", "qom-list", _children, {"path": "/machine/peripheral"}, more=True),
    Query("objects", "qom-list", _children, {"path": "/objects"}, more=True),
    Query("reservation managers", "query-pr-managers", _named("id"), optional=True),
    Query("descriptor sets", "query-fdsets", _fdsets),
)

# From /proc; libvirt checks nothing else of the process (it reserves the label that it finds).
LABEL = "security label"
LETHAL = frozenset({LABEL, *(query.what for query in QUERIES if query.kills)})
GROWING = frozenset(query.what for query in QUERIES if query.more)

# While a migration is set up QEMU refuses to attach devices (device_add), but not to change what is below a disk (an
# external snapshot; tested).
CHANGEABLE = frozenset({"disks", "block nodes", "block graph", "block jobs"})

# Run states of QEMU in which libvirt assumes that the guest never started completely (qemuProcessUpdateState).
UNSTARTED = frozenset({"prelaunch", "inmigrate", "preconfig"})
# Run states of a guest that its user suspended; after a rollback old QEMU may stay in postmigrate.
SUSPENDED = frozenset({"paused", "postmigrate"})


@dataclass(frozen=True)
class Disagreement:
    """A difference from libvirt's record or old QEMU; ``kills``: libvirt would kill the guest for it."""

    text: str
    kills: bool = True


def compare(expected: Answers, answers: Answers) -> tuple[Disagreement, ...]:
    """All differences.  Queries that weren't made on both sides aren't compared."""
    shared = [what for what in expected if what in answers and what != STATUS]
    return tuple(
        disagreement for what in shared if (disagreement := _compared(what, expected[what], answers[what])) is not None
    )


def _compared(what: str, expected: Reading, answer: Reading) -> Disagreement | None:
    lacks, has = expected - answer, answer - expected
    if what in GROWING:
        has = frozenset()
    parts = [f"{word} {', '.join(sorted(set_))}" for word, set_ in (("without", lacks), ("with", has)) if set_]
    return Disagreement(f"{what}: {' and '.join(parts)}", what in LETHAL) if parts else None


def recorded(status: StatusFile) -> Answers:
    """The values in libvirt's own record that it checks."""
    return {VCPUS: frozenset(map(str, status.vcpus)), IOTHREADS: status.iothreads}


def judge_state(status: StatusFile, state: str, *, runs: bool) -> Iterator[Disagreement]:
    """The record's state and QEMU's: libvirt kills a guest if it assumes that it never started completely."""
    if status.state == "shutoff" or (status.state, status.reason) == ("paused", "starting up"):
        yield Disagreement(f"libvirt's record says that the guest is {status.state} ({status.reason})")
    if state in UNSTARTED:
        yield Disagreement(f"QEMU is {state}: it doesn't have the guest")
    elif state not in ({"running"} if runs else SUSPENDED):
        yield Disagreement(f"the guest is {state}", kills=False)


def words(disagreements: tuple[Disagreement, ...]) -> str:
    return "; ".join(disagreement.text for disagreement in disagreements)
