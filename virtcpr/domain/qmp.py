"""Answers of QEMU's monitor, parsed where they come in: JSON as QAPI defines it → facts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from virtcpr.domain.facts import BlockNode, Chardev, FdsetFd, Memdev
from virtcpr.errors import ParseError

Json = object


def obj(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise ParseError(f"QEMU answered {type(value).__name__} where an object was expected")
    return value


def items(value: Json) -> Sequence[Json]:
    if not isinstance(value, list):
        raise ParseError(f"QEMU answered {type(value).__name__} where a list was expected")
    return value


def text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def number(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParseError(f"QEMU answered {value!r} where a number was expected")
    return value


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
    return tuple(Chardev(text(obj(c)["label"]), text(obj(c)["filename"])) for c in items(answer))


def fdsets(answer: Json) -> Iterator[FdsetFd]:
    """query-fdsets → every descriptor of every set."""
    for one in items(answer):
        for member in items(obj(one)["fds"]):
            opaque = obj(member).get("opaque")
            yield FdsetFd(number(obj(one)["fdset-id"]), number(obj(member)["fd"]), text(opaque) if opaque else None)


def block_nodes(answer: Json) -> tuple[BlockNode, ...]:
    """query-named-block-nodes (flat) → every node that somebody named."""
    nodes = (obj(node) for node in items(answer))
    return tuple(
        BlockNode(
            text(node["node-name"]),
            text(node.get("file")),
            text(node.get("drv")),
            number(node.get("write_threshold", 0)),
            _size(node.get("image")),
        )
        for node in nodes
        if text(node.get("node-name")) and not text(node.get("node-name")).startswith("#")
    )


def _size(image: Json) -> int | None:
    return number(obj(image)["virtual-size"]) if image is not None else None


def memdevs(answer: Json) -> tuple[Memdev, ...]:
    return tuple(Memdev(text(obj(m).get("id")) or None, bool(obj(m).get("share"))) for m in items(answer))


def children(answer: Json) -> dict[str, str]:
    """qom-list → name and QOM type of the children."""
    found = ((text(obj(p)["name"]), re.fullmatch(r"child<(.*)>", text(obj(p)["type"]))) for p in items(answer))
    return {name: kind.group(1) for name, kind in found if kind}


def properties(answer: Json, kind: str) -> frozenset[str]:
    """qom-list → names of the properties of one type."""
    return frozenset(text(obj(p)["name"]) for p in items(answer) if text(obj(p)["type"]) == kind)


def threads(answer: Json) -> dict[int, int]:
    """query-cpus-fast → vCPU index → thread."""
    return {number(obj(c)["cpu-index"]): number(obj(c)["thread-id"]) for c in items(answer)}


def iothreads(answer: Json) -> dict[str, int]:
    return {text(obj(t)["id"]): number(obj(t)["thread-id"]) for t in items(answer)}


def capabilities(answer: Json) -> frozenset[str]:
    """query-migrate-capabilities → those that are on."""
    return frozenset(text(obj(c)["capability"]) for c in items(answer) if obj(c)["state"])


def blocked_reasons(answer: Json) -> tuple[str, ...]:
    return tuple(text(r) for r in items(obj(answer).get("blocked-reasons", [])))


def migration_modes(schema: Json) -> frozenset[str]:
    """query-qmp-schema → the values of MigMode.  Type names are numbers there: walk from the command."""
    types = {text(obj(t)["name"]): obj(t) for t in items(schema)}
    command = types.get("migrate-set-parameters", {})
    arguments = types.get(text(command.get("arg-type")), {})
    for member in items(arguments.get("members", [])):
        if obj(member)["name"] == "mode":
            return frozenset(text(v) for v in items(types[text(obj(member)["type"])].get("values", [])))
    return frozenset()


def machines(answer: Json) -> frozenset[str]:
    """query-machines → names and aliases."""
    found = (obj(machine) for machine in items(answer))
    return frozenset(text(m.get(key)) for m in found for key in ("name", "alias") if m.get(key))
