"""Answers of QEMU's monitor, parsed: JSON as QAPI defines it → facts.

Every reader raises ParseError for an answer that isn't as QAPI defines it, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from virtcpr.domain.facts import Below, BlockNode, Chardev, Drive, FdsetFd, Memdev
from virtcpr.domain.sockets import SUFFIX
from virtcpr.errors import ParseError

Json = object


class Members(dict[str, Json]):
    """An object's members by name.  Raises ParseError for a missing member."""

    def __missing__(self, name: str) -> Json:
        raise ParseError(f"QEMU answered an object without '{name}'")


def obj(value: Json) -> Mapping[str, Json]:
    """The members of an object; ``[]`` raises ParseError for a missing member."""
    if not isinstance(value, dict):
        raise ParseError(f"QEMU answered {_kind(value)} instead of an object")
    return Members(value)


def items(value: Json) -> Sequence[Json]:
    if not isinstance(value, list):
        raise ParseError(f"QEMU answered {_kind(value)} instead of a list")
    return value


def text(value: Json) -> str:
    """A text; empty if QEMU leaves out an optional text (None)."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ParseError(f"QEMU answered {_kind(value)} instead of a text")
    return value


def number(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParseError(f"QEMU answered {_kind(value)} instead of a number")
    return value


def _kind(value: Json) -> str:
    return "nothing" if value is None else type(value).__name__


def version(answer: Json) -> tuple[tuple[int, int, int], str]:
    """query-version → (major, minor, micro), package."""
    parts = obj(obj(answer)["qemu"])
    package = text(obj(answer).get("package"))
    return (number(parts["major"]), number(parts["minor"]), number(parts["micro"])), package


def version_text(parts: tuple[int, int, int], package: str) -> str:
    """As ``QEMU --version`` prints it: ``10.0.2 (Debian 1:10.0.2+ds-2)``."""
    plain = ".".join(str(part) for part in parts)
    inner = re.sub(r"^\((.*)\)$", r"\1", package.strip().removeprefix("v"))
    return f"{plain} ({inner})" if inner else plain


def chardevs(answer: Json) -> tuple[Chardev, ...]:
    """query-chardev; a unix socket is named by the path that it has now."""
    return tuple(Chardev(text(obj(c)["label"]), _renamed(text(obj(c)["filename"]))) for c in items(answer))


def _renamed(filename: str) -> str:
    """QEMU knows the name that its socket was bound to; options and the client follow it (chardev/char-socket.c)."""
    return re.sub(rf"(unix:[^,]*?){re.escape(SUFFIX)}(?=,|$)", r"\1", filename)


def fdsets(answer: Json) -> Iterator[FdsetFd]:
    """query-fdsets → every descriptor of every set."""
    for fdset in items(answer):
        for member in items(obj(fdset)["fds"]):
            opaque = obj(member).get("opaque")
            yield FdsetFd(number(obj(fdset)["fdset-id"]), number(obj(member)["fd"]), text(opaque) if opaque else None)


def block_nodes(answer: Json, stats: Json = None) -> tuple[BlockNode, ...]:
    """query-named-block-nodes (flat) → every node with a given name; query-blockstats has the nodes below it."""
    nodes = (obj(node) for node in items(answer))
    below = block_graph(stats) if stats is not None else {}
    return tuple(
        _block_node(node, below)
        for node in nodes
        if text(node.get("node-name")) and not text(node.get("node-name")).startswith("#")
    )


def _block_node(node: Mapping[str, Json], below: Mapping[str, Below]) -> BlockNode:
    cache = obj(node.get("cache", {}))
    name = text(node["node-name"])
    return BlockNode(
        name,
        text(node.get("file")),
        text(node.get("drv")),
        number(node.get("write_threshold", 0)),
        _size(node.get("image")),
        read_only=node.get("ro") is True,
        direct=cache.get("direct") is True,
        no_flush=cache.get("no-flush") is True,
        detect_zeroes=text(node.get("detect_zeroes")) or "off",
        below=below.get(name),
    )


def _size(image: Json) -> int | None:
    return number(obj(image)["virtual-size"]) if image is not None else None


def block_graph(stats: Json) -> dict[str, Below]:
    """query-blockstats → the nodes below every node of a drive."""
    graph: dict[str, Below] = {}
    left = [obj(drive) for drive in items(stats)]
    while left:
        node = left.pop()
        under = {key: obj(node[key]) for key in ("parent", "backing") if key in node}
        names = {key: text(child.get("node-name")) or None for key, child in under.items()}
        if name := text(node.get("node-name")):
            graph[name] = Below(names.get("parent"), names.get("backing"))
        left += under.values()
    return graph


# The throttle's members in query-block (qapi/block-core.json BlockDeviceInfo), which block_set_io_throttle takes.
THROTTLE = frozenset(
    name
    for kind in ("bps", "iops")
    for name in (
        *(kind + part for part in ("", "_rd", "_wr")),
        *(kind + part + "_max" for part in ("", "_rd", "_wr")),
        *(kind + part + "_max_length" for part in ("", "_rd", "_wr")),
    )
) | {"iops_size", "group"}


def drives(answer: Json) -> tuple[Drive, ...]:
    """query-block → every device that can hold a medium; not the drives of ``-drive``, which have a name."""
    entries = (obj(drive) for drive in items(answer))
    return tuple(_drive(drive) for drive in entries if text(drive.get("qdev")) and not text(drive.get("device")))


def _drive(drive: Mapping[str, Json]) -> Drive:
    inserted = obj(drive.get("inserted") or {})
    return Drive(text(drive["qdev"]), text(inserted.get("node-name")) or None, throttle(inserted))


def legacy_drives(answer: Json) -> frozenset[str]:
    """query-block → the files in drives of ``-drive``."""
    entries = (obj(drive) for drive in items(answer))
    return frozenset(
        text(obj(drive["inserted"])["file"]) for drive in entries if drive.get("device") and "inserted" in drive
    )


def throttle(inserted: Mapping[str, Json]) -> dict[str, Json]:
    """QEMU always reports limits, but the group only if there is a throttle (bdrv_block_device_info, block/qapi.c)."""
    return {key: inserted[key] for key in sorted(THROTTLE & inserted.keys())} if "group" in inserted else {}


def memdevs(answer: Json) -> tuple[Memdev, ...]:
    return tuple(Memdev(text(obj(m).get("id")) or None, bool(obj(m).get("share"))) for m in items(answer))


def children(answer: Json) -> dict[str, str]:
    """qom-list → name and QOM type of the children."""
    entries = ((text(obj(p)["name"]), re.fullmatch(r"child<(.*)>", text(obj(p)["type"]))) for p in items(answer))
    return {name: kind.group(1) for name, kind in entries if kind}


def properties(answer: Json, kind: str) -> frozenset[str]:
    """qom-list → names of the properties of one type."""
    return frozenset(text(obj(p)["name"]) for p in items(answer) if text(obj(p)["type"]) == kind)


def threads(answer: Json) -> dict[int, int]:
    """query-cpus-fast → vCPU index → thread."""
    return {number(obj(c)["cpu-index"]): number(obj(c)["thread-id"]) for c in items(answer)}


def iothreads(answer: Json) -> dict[str, int]:
    return {text(obj(t)["id"]): number(obj(t)["thread-id"]) for t in items(answer)}


def capabilities(answer: Json) -> frozenset[str]:
    """query-migrate-capabilities → the capabilities that are on."""
    return frozenset(text(obj(c)["capability"]) for c in items(answer) if obj(c)["state"])


LIMITS = ("max-bandwidth", "downtime-limit", "multifd-channels", "max-cpu-throttle")  # bytes/s, ms, 1, %


def limits(answer: Json) -> dict[str, int]:
    """query-migrate-parameters → those that mode live changes."""
    return {name: value for name in LIMITS if isinstance(value := obj(answer).get(name), int)}


def blocked_reasons(answer: Json) -> tuple[str, ...]:
    return tuple(text(r) for r in items(obj(answer).get("blocked-reasons", [])))


def cleans_up(yank: Json) -> bool:
    """query-yank → whether QEMU isn't done with a migration yet, which may have ended already by query-migrate.

    It says `failed` or `completed` first, and cleans up then (migration_cleanup() in migration/migration.c), by what
    its settings are at that moment: if somebody has switched off `multifd` meanwhile, it forgets the channels and
    aborts (yank_unregister_instance(); seen with 10.0.2).  The last thing that it does is to take itself off this list.
    """
    return any(text(obj(one).get("type")) == "migration" for one in items(yank))


def migration_modes(schema: Json) -> frozenset[str]:
    """query-qmp-schema → the values of MigMode.  Type names are numbers there: walk from the command."""
    types = _types(schema)
    for member in _arguments(types, "migrate-set-parameters"):
        if member["name"] == "mode":
            return frozenset(text(v) for v in items(obj(types.get(text(member["type"]))).get("values", [])))
    return frozenset()


def takes(schema: Json, command: str, argument: str) -> bool:
    """query-qmp-schema → whether a command has this argument."""
    return any(member["name"] == argument for member in _arguments(_types(schema), command))


def hands_over_vfio(answer: Json) -> bool:
    """trace-event-get-state of VFIO's events in CPR → whether there are any."""
    return any(True for _ in items(answer))


def _types(schema: Json) -> dict[str, Mapping[str, Json]]:
    return {text(obj(t)["name"]): obj(t) for t in items(schema)}


def _arguments(types: Mapping[str, Mapping[str, Json]], command: str) -> Iterator[Mapping[str, Json]]:
    arguments = types.get(text(types.get(command, {}).get("arg-type")), {})
    return map(obj, items(arguments.get("members", [])))


def machines(answer: Json) -> frozenset[str]:
    """query-machines → names and aliases."""
    entries = (obj(machine) for machine in items(answer))
    return frozenset(text(m.get(key)) for m in entries for key in ("name", "alias") if m.get(key))
