"""The host booted once, made warm, and kept as it runs: RAM and devices in a file, the disk in an overlay."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from tests.host.support import emulator
from tests.host.support.channel import EmulatedChannel
from tests.host.support.disk import HostError
from tests.host.support.emulator import Places
from tests.host.support.qmp import Monitor
from tests.lab.support import kept
from tests.lab.support.process import Process, end_all
from tests.paths import HOST

FIRST_KERNEL = "stable"
BOOT_SECONDS = 600
WARM_SECONDS = 1800
SAVE_SECONDS = 600
RESTORE_SECONDS = 120
STOP_SECONDS = 30
CHANNEL_SECONDS = 30
# As many threads as there are CPUs to spare: more made it no faster.
THREADS = 2


def place(store: Path, disk: Path) -> Path:
    """Where the directory of the snapshot is under ``store``, once it is made of this disk."""
    sources = (Path(__file__), HOST / "support/emulator.py", HOST / "inside/warm.sh")
    return store / "snapshots" / kept.key(disk.name, HOST, *sources)


def build(store: Path, root: Path, disk: Path, cgroup: Path) -> Path:
    """The directory of the snapshot, made if it isn't there."""
    return kept.built(place(store, disk), lambda part: _make(store, root, disk, cgroup, part))


def _make(store: Path, root: Path, disk: Path, cgroup: Path, part: Path) -> None:
    end(cgroup)
    places = Places(root, disk, part, part)
    emulator.make_overlay(places, "/mnt/disk/disk.img", "raw")
    try:
        process = emulator.start(places, FIRST_KERNEL, cgroup, tied=True)
        channel = reach(places, process, cgroup, BOOT_SECONDS)
        channel.quietly((HOST / "inside/warm.sh").read_text(), seconds=WARM_SECONDS)
        channel.close()
        save(places)
    except BaseException:
        for log in ("console.log", "emulator.log", "channel.log"):
            with contextlib.suppress(OSError):
                shutil.copy(part / log, store / f"snapshot-{log}")
        raise
    finally:
        end(cgroup)
    for name in ("qmp", "pid", "port", "channel", "nvdimm", "spare.img"):
        (part / name).unlink(missing_ok=True)


def end(cgroup: Path) -> None:
    try:
        end_all(cgroup, STOP_SECONDS)
    except TimeoutError as error:
        raise HostError(f"processes of the host don't end: see {error}") from error


def reach(places: Places, process: Process, cgroup: Path, seconds: float) -> EmulatedChannel:
    """Open the channel of a machine that boots or runs."""
    with Monitor(places.run / "qmp", 30) as monitor:
        monitor.say("hostfwd_add channel tcp:127.0.0.1:0-10.0.2.15:22")
        (places.run / "port").write_text(forwarded_port(monitor.say("info usernet")))
    channel = EmulatedChannel(places.disk, places.run)
    deadline = time.monotonic() + seconds
    while True:
        try:
            channel.open(cgroup, CHANNEL_SECONDS)
            return channel
        except HostError:
            if not process.alive():
                raise HostError(f"the emulator has ended: see {places.run}/emulator.log") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(1)  # it boots, which nothing outside can see


def forwarded_port(table: str) -> str:
    """The port of the channel: ``TCP[HOST_FORWARD] 12 127.0.0.1 34567 10.0.2.15 22 0 0``."""
    for line in table.splitlines():
        if "HOST_FORWARD" in line:
            return line.split()[3]
    raise HostError(f"the emulator names no port of the channel:\n{table}")


def save(places: Places) -> None:
    with Monitor(places.run / "qmp") as monitor:
        monitor.ask("stop")
        _configure(monitor)
        monitor.ask("migrate", uri="file:/mnt/run/memory")
        deadline = time.monotonic() + SAVE_SECONDS
        while (state := monitor.ask("query-migrate"))["status"] != "completed":
            if state["status"] in ("failed", "cancelled") or time.monotonic() > deadline:
                raise HostError(f"the host isn't saved: {state.get('error-desc', state['status'])}")
            time.sleep(0.1)
        monitor.ask("quit")


def restore(places: Places, cgroup: Path) -> Process:
    """Start a machine from the snapshot.  It runs, its clock is late."""
    process = emulator.start(places, FIRST_KERNEL, cgroup, "-incoming", "defer")
    with Monitor(places.run / "qmp") as monitor:
        _configure(monitor)
        monitor.ask("migrate-incoming", uri="file:/mnt/snapshot/memory")
        deadline = time.monotonic() + RESTORE_SECONDS
        while (state := monitor.ask("query-migrate")).get("status") != "completed":
            if state.get("status") == "failed" or time.monotonic() > deadline:
                raise HostError(f"the host isn't restored: {state.get('error-desc', state)}")
            time.sleep(0.05)
        monitor.ask("cont")
    return process


def _configure(monitor: Monitor) -> None:
    capabilities = [{"capability": name, "state": True} for name in ("mapped-ram", "multifd", "events")]
    monitor.ask("migrate-set-capabilities", capabilities=capabilities)
    monitor.ask("migrate-set-parameters", **{"multifd-channels": THREADS})
