"""Which files of the lab anybody opens, as the kernel tells it (inotify)."""

from __future__ import annotations

import json

from tests.lab.support import client

WATCH = r"""
import ctypes, json, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
paths = {}
for path in sys.argv[1:]:
    number = libc.inotify_add_watch(watch, path.encode(), 0x20)  # IN_OPEN
    if number < 0:
        raise OSError(ctypes.get_errno(), path)
    paths[number] = path
print("watching", flush=True)
sys.stdin.readline()
opened = []
try:
    while events := os.read(watch, 1 << 16):
        while events:
            number, _, _, length = struct.unpack_from("iIII", events)
            opened.append(paths[number])
            events = events[16 + length :]
except BlockingIOError:
    print(json.dumps(sorted(set(opened))), flush=True)
"""


class Opened:
    """A watch over some files."""

    def __init__(self, *paths: str) -> None:
        self._process = client.beside("python3", "-c", WATCH, *paths)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "watching\n", "the files can't be watched"

    def end(self) -> list[str]:
        """Those that were opened since."""
        said, _ = self._process.communicate("\n", timeout=30)
        found: list[str] = json.loads(said)
        return found
