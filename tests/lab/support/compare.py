"""A guest as libvirt and QEMU show it, in views that a swap must leave as they are.

before = picture(name)
…
assert differences(before, picture(name)) == []
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.lab.support import client
from virtcpr.domain.sockets import SUFFIX

View = dict[str, Any]
# What libvirt forgets of an ejected medium only when it is started again.
FORGOTTEN = r"\s*<(driver name='qemu'|source index='\d+')/>"

# In the lab, one connection for all of it: a virsh for every question would take seconds.
LOOK = r"""
import ctypes, fcntl, json, os, struct, sys
import libvirt, libvirt_qemu

domain = libvirt.open("qemu:///system").lookupByName(sys.argv[1])

def ask(command, **arguments):
    request = json.dumps({"execute": command, "arguments": arguments})
    return json.loads(libvirt_qemu.qemuMonitorCommand(domain, request, 0))["return"]

def get(path, name):
    try:
        return ask("qom-get", path=path, property=name)
    except LookupError:  # QEMU refused
        return None

def children(path):
    found = {p["name"]: p["type"][6:-1] for p in ask("qom-list", path=path) if p["type"].startswith("child<")}
    return {name: kind for name, kind in found.items() if not kind.startswith("monitor-")}

def node(found):
    limits = {k: v for k, v in found.items() if k.startswith(("iops", "bps")) and v}
    file = "" if found["file"].startswith("json:") else found["file"]
    backing = (found.get("image") or {}).get("backing-filename", "")
    return [found["drv"], file, found["ro"], found["backing_file_depth"], backing, limits]

def drive(found):
    inserted = found.get("inserted") or {}
    limits = {k: v for k, v in inserted.items() if k.startswith(("iops", "bps")) and v}
    return [inserted.get("node-name"), found.get("tray_open"), found.get("locked"), limits]

def balloon():
    try:
        return ask("query-balloon")["actual"]
    except LookupError:  # QEMU refused
        return None

def queues():
    "Interface -> which queues of its tap are attached (TUNGETIFF; IFF_DETACH_QUEUE)."
    with open("/run/libvirt/qemu/" + sys.argv[1] + ".pid") as file:
        pid = int(file.read())
    process = os.pidfd_open(pid)
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{number}") == "/dev/net/tun":
            fd = ctypes.CDLL(None).syscall(438, process, int(number), 0)
            name, flags = struct.unpack("16sH22x", fcntl.ioctl(fd, 0x800454D2, bytes(40)))
            found.setdefault(name.rstrip(b"\0").decode(), []).append(not flags & 0x400)
            os.close(fd)
    return {name: sorted(attached) for name, attached in found.items()}

qtree = ask("human-monitor-command", **{"command-line": "info qtree"})
print(json.dumps({
    "xml": domain.XMLDesc(0).splitlines(),
    "devices": {name: [kind, get("/machine/peripheral/" + name, "parent_bus")]
                for name, kind in children("/machine/peripheral").items()},
    "objects": children("/objects"),
    "nodes": {n["node-name"]: node(n) for n in ask("query-named-block-nodes", flat=True)
              if not n["node-name"].startswith("#")},
    "drives": {d.get("qdev") or d["device"]: drive(d) for d in ask("query-block")},
    "chardevs": {c["label"]: c["filename"].removeprefix("disconnected:") for c in ask("query-chardev")},
    "fdsets": {str(s["fdset-id"]): [fd.get("opaque") for fd in s["fds"]] for s in ask("query-fdsets") if s["fds"]},
    "iothreads": {t.pop("id"): {k: v for k, v in t.items() if k != "thread-id"} for t in ask("query-iothreads")},
    "vcpus": sorted(c["cpu-index"] for c in ask("query-cpus-fast")),
    "memory": {m["data"]["id"]: {k: v for k, v in m["data"].items() if k != "hotplugged"}
               for m in ask("query-memory-devices")},
    "balloon": balloon(),
    "network cards": {r["name"]: [r["main-mac"], r["link"] if "link" in r else None] for r in ask("query-rx-filter")},
    "queues": queues(),
    "qtree": qtree.splitlines(),
}))
"""


def picture(name: str) -> View:
    """All views of a running guest."""
    found: View = json.loads(client.run("python3", "-", name, stdin=LOOK).out)
    lines = (line for line in found["xml"] if not re.fullmatch(FORGOTTEN, line))
    found["xml"] = [_plain(line) for line in lines if "<emulator>" not in line]
    found["qtree"] = _tree(found["qtree"])
    for label, filename in found["chardevs"].items():
        # QEMU names a socket as it was bound.
        plain = filename.replace(f"{SUFFIX},", ",")
        found["chardevs"][label] = plain.partition(":/dev/pts")[0].partition(" <-> ")[0]
    return found


def _plain(line: str) -> str:
    """Without what a swap must change: pseudo-terminals; nor what libvirt finds out only when it reconnects."""
    return re.sub(r"/dev/pts/\d+", "PTY", line).replace(" state='disconnected'", "")


def _tree(lines: list[str]) -> dict[str, list[str]]:
    """``info qtree`` by device id, each with its properties; the order in which buses list devices isn't kept.

    Whether a device was plugged in (``hotplugged``), and what it was given by number, isn't part of it.
    """
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        device = re.match(r'\s*dev: (\S+), id "(.*)"', line)
        if device:
            name = device.group(2) or device.group(1)
            current = found.setdefault(name, []) if device.group(2) else []
            current.append(device.group(1))
        elif " = " in line:
            current.append(line.strip())
    return {name: sorted(values) for name, values in found.items()}


def differences(before: View, after: View) -> list[str]:
    """Everything that isn't the same, as ``view: - old`` and ``view: + new``; nothing where all is."""
    found = []
    for view, old in before.items():
        new = after[view]
        if isinstance(old, dict):
            old, new = ([f"{key}: {value}" for key, value in side.items()] for side in (old, new))
        elif not isinstance(old, list):
            old, new = [old], [new]
        found += [f"{view}: - {item}" for item in old if item not in new]
        found += [f"{view}: + {item}" for item in new if item not in old]
    return found
