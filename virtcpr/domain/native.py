"""What libvirt would start for a domain that doesn't run: QEMU's command line, its user, and its images."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from lxml import etree

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import BlockNode
from virtcpr.errors import ParseError

SIZE = 1 << 30  # of a disk, in bytes: the twin's is blank, and nothing of its state depends on it
LABEL = re.compile(r"\+(\d+):\+(\d+)")


def command_line(native: str) -> CommandLine:
    """From libvirt's qemu-argv: variables of the environment, then the words of the command, as a shell reads them.

    Raises ParseError if it isn't that.
    """
    try:
        words = shlex.split(native.replace("\\\n", " "))  # which shlex keeps, unlike a shell
    except ValueError as error:
        raise ParseError(f"libvirt's command line can't be parsed: {error}") from error
    while words and not words[0].startswith("/"):
        words.pop(0)
    return CommandLine.parse(words)


def owner(capabilities: str, kind: str) -> tuple[int, int] | None:
    """User and group that QEMU runs as for domains of this type, by libvirt's capabilities; None if they don't say.

    (virQEMUDriverCreateCapabilities: the base label of security model dac.)
    """
    for model in etree.fromstring(capabilities).iterfind("host/secmodel[model='dac']"):
        for label in model.iterfind("baselabel"):
            if label.get("type") == kind and (match := LABEL.fullmatch(label.text or "")):
                return int(match[1]), int(match[2])
    return None


def images(line: CommandLine, size_of: Callable[[str], int | None]) -> Iterator[BlockNode]:
    """A node for each of the line's, of a nominal size; firmware as large as its file, which QEMU demands.

    ``size_of`` gives the size of a file, None if there is none.
    """
    nodes = {str(option.properties().get("node-name")): option for option in line.named("blockdev")}
    for name in nodes:
        file = _file(name, nodes)
        yield BlockNode(name, file, "", size=size_of(file) if "pflash" in name else SIZE)


def _file(name: str, nodes: Mapping[str, Option]) -> str:
    """The path of the file at the bottom of a node; empty if it isn't one."""
    for _ in nodes:
        properties = nodes[name].properties() if name in nodes else {}
        if "filename" in properties:
            return str(properties["filename"])
        name = str(properties.get("file", ""))
    return ""
