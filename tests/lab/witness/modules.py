#!/usr/bin/env python3
"""Unpack the kernel modules that the witness needs, and list them in the order in which they load."""

import lzma
import re
import struct
import sys
from pathlib import Path

# The network first: a guest is seen as early as it can be.
NETWORK = ("virtio_net",)
STORAGE = ("virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "ahci", "ata_piix")
OTHERS = ("virtio_balloon", "virtio_rng", "i6300esb", "button", "evdev", "virtiofs")
# For the guests that have it alone.
VSOCK = ("vmw_vsock_virtio_transport",)


def plain(name: str) -> str:
    """Both spellings of a module are the same module."""
    return name.replace("-", "_")


def content(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def unsigned(module: bytes) -> bytes:
    """Without the signature appended to it: an emulated processor is slow at checking it."""
    magic = b"~Module signature appended~\n"
    if not module.endswith(magic):
        return module
    trailer = module[: -len(magic)]
    (size,) = struct.unpack(">I", trailer[-4:])
    return trailer[: -12 - size]


def depends(module: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [plain(name) for name in found[1].decode().split(",") if name] if found else []


class Unpacker:
    def __init__(self, tree: Path, to: Path) -> None:
        self.to = to
        self.loadable = {plain(path.name.split(".")[0]): path for path in tree.rglob("*.ko*")}
        self.builtin = {plain(Path(line).stem) for line in (tree / "modules.builtin").read_text().split()}
        self.order: list[str] = []

    def unpack_all(self, listed_in: str, names: tuple[str, ...]) -> None:
        """Those that aren't there yet, and what they depend on."""
        before = len(self.order)
        for name in names:
            self.unpack(name)
        (self.to / listed_in).write_text("".join(f"{name}\n" for name in self.order[before:]))

    def unpack(self, name: str) -> None:
        if name in self.order or name in self.builtin:
            return
        module = content(self.loadable[name])
        for other in depends(module):
            self.unpack(other)
        (self.to / f"{name}.ko").write_bytes(unsigned(module))
        self.order.append(name)


def main() -> None:
    unpacker = Unpacker(Path(sys.argv[1]), Path(sys.argv[2]))
    unpacker.unpack_all("list", NETWORK + STORAGE + OTHERS)
    unpacker.unpack_all("vsock", VSOCK)


main()
