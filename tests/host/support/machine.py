"""The host as a running machine: an emulated one with KVM, restored from its snapshot."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tests.host.support import disk, emulator, snapshot
from tests.host.support.channel import EmulatedChannel
from tests.host.support.disk import HostError
from tests.host.support.emulator import Places
from tests.host.support.installing import install
from tests.host.support.qmp import Monitor
from tests.lab.support.checkout import fingerprint
from tests.lab.support.kept import locked
from tests.lab.support.machine import Lab
from tests.lab.support.process import Process, cgroup2

BOOT_SECONDS = 600
SHUTDOWN_SECONDS = 300
LOGS = ("emulator.log", "console.log", "channel.log", "resets.log")
KERNELS = ("stable", "backports")
# What the machine below must have free: the host's RAM, and what emulates it.
NEEDED_MIB = emulator.MEMORY_MIB + 1536


class Host:
    """The host under one store, that of the lab.  Every method holds its lock, but for ``exec``."""

    def __init__(self, store: Path) -> None:
        self.lab = Lab(store)
        self.store = store / "host"
        self.run = self.store / "run"

    def build(self) -> None:
        """Have the disk and the snapshot, with the lab's image below them."""
        with locked(self.store):
            self._build()

    def up(self) -> None:
        """Have the host running, with this checkout installed in it."""
        with locked(self.store):
            places = self._build()
            if not self._runs(places):
                self._restore(places)
            self._install(places)

    def reset(self) -> None:
        """A fresh host: nothing of what was done on it before is left."""
        with locked(self.store):
            places = self._build()
            self._restore(places)
            self._install(places)

    def down(self) -> None:
        with locked(self.store):
            self._stop()

    def reboot(self, kernel: str = "", options: str = "") -> None:
        """Shut down in the orderly way and boot again with the same disk and NVDIMM; ``kernel``: another one;
        ``options``: the kernel's, for this time."""
        if kernel and kernel not in KERNELS:
            raise HostError(f"no kernel {kernel!r}: {' or '.join(KERNELS)}")
        with locked(self.store):
            places, process = self._running()
            with contextlib.suppress(HostError):  # the connection may end before the answer
                self._channel(places).quietly("systemctl poweroff")
            deadline = time.monotonic() + SHUTDOWN_SECONDS
            while process.alive():
                if time.monotonic() > deadline:
                    raise HostError(f"the host doesn't shut down: see {self.run}/console.log")
                time.sleep(0.1)
            snapshot.end(self._cgroup())
            kernel = kernel or (self.run / "kernel").read_text()
            (self.run / "kernel").write_text(kernel)
            process = emulator.start(places, kernel, self._cgroup(), append=options)
            self._arrive(places, process, BOOT_SECONDS)
            self._channel(places).quietly("systemctl is-system-running --wait || true", seconds=BOOT_SECONDS)

    def exec(self, argv: Sequence[str]) -> int:
        """Run a command on the host with this process's stdin, stdout, stderr; its exit status, shell style."""
        places, _ = self._running()
        return self._channel(places).exec(argv)

    def logs(self) -> list[tuple[str, str]]:
        """The ends of what the emulator and the host's console said: of the machine that runs, or ran last."""
        found = []
        for name in LOGS:
            for path in (self.run / name, self.store / name):
                if path.exists():
                    found.append((str(path), path.read_text(errors="replace")[-3000:]))
                    break
        return found

    def _build(self) -> Places:
        self._check_machine()
        disk.ensure_host_tools()
        root = self.lab.build()
        made = disk.place(self.store, root)
        if not (made.is_dir() and snapshot.place(self.store, made).is_dir()):
            self._stop()
        made = disk.build(self.store, root)
        return Places(root, made, snapshot.build(self.store, root, made, self._cgroup()), self.run)

    def _check_machine(self) -> None:
        if platform.machine() != "x86_64":
            raise HostError(f"it emulates x86-64, which takes too long on {platform.machine()}")
        if self._is_alive():
            return
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) // 1024
        if free < NEEDED_MIB:
            raise HostError(f"it needs {NEEDED_MIB} MiB of memory, and {free} MiB are free")

    def _is_alive(self) -> bool:
        try:
            pid, started = (self.run / "pid").read_text().split()
        except (OSError, ValueError):
            return False
        return Process(int(pid), started).alive()

    def _running(self) -> tuple[Places, Process]:
        if not self._is_alive():
            raise HostError("it isn't running: tests/host/host up")
        pid, started = (self.run / "pid").read_text().split()
        root, made, taken = map(Path, (self.run / "places").read_text().splitlines())
        return Places(root, made, taken, self.run), Process(int(pid), started)

    def _runs(self, places: Places) -> bool:
        try:
            found, _ = self._running()
            return found == places and self._channel(places).quietly("virsh -q list >&2; echo up") == "up\n"
        except (OSError, HostError):
            return False

    def _restore(self, places: Places) -> None:
        self._stop()
        self.run.mkdir(parents=True)
        emulator.make_overlay(places, "/mnt/snapshot/disk.qcow2", "qcow2")
        (self.run / "kernel").write_text(snapshot.FIRST_KERNEL)
        (self.run / "places").write_text("".join(f"{p}\n" for p in (places.root, places.disk, places.snapshot)))
        process = snapshot.restore(places, self._cgroup())
        self._arrive(places, process, snapshot.RESTORE_SECONDS)

    def _arrive(self, places: Places, process: Process, seconds: float) -> None:
        """The host runs: reach it, tell it the time, plug in what a machine that is saved can't have."""
        channel = snapshot.reach(places, process, self._cgroup(), seconds)
        channel.quietly(f"date -s @{time.time():.3f} > /dev/null")
        with Monitor(self.run / "qmp") as monitor:
            monitor.ask("device_add", **emulator.SPARE_NVME)

    def _install(self, places: Places) -> None:
        """Have this checkout's package installed on the host, if it isn't already."""
        wanted = fingerprint()
        stamp = self.run / "installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        install(places.root, self._channel(places))
        stamp.write_text(wanted)

    def _stop(self) -> None:
        snapshot.end(self._cgroup())
        for name in LOGS:
            with contextlib.suppress(OSError):
                (self.run / name).replace(self.store / name)
        shutil.rmtree(self.run, ignore_errors=True)

    def _channel(self, places: Places) -> EmulatedChannel:
        return EmulatedChannel(places.disk, self.run)

    def _cgroup(self) -> Path:
        return cgroup2() / f"virtcpr-host-{hashlib.sha256(str(self.store).encode()).hexdigest()[:8]}"
