"""The lab as a running machine: the image under an overlay, booted with systemd by systemd-nspawn."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab.support import image
from tests.lab.support.checkout import INSTALL, fingerprint, pack
from tests.lab.support.kept import LabError, locked
from tests.lab.support.process import (
    Process,
    cgroup2,
    end_all,
    environment,
    exit_status,
    fork_forwarding,
    wait_forwarding,
)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x20000000, 0x40000000
NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
BOOT_SECONDS = 90
STOP_SECONDS = 30
SHUTDOWN_SECONDS = 150


def default_store() -> Path:
    return Path(os.environ.get("VIRTCPR_LAB", "/var/lib/virtcpr-lab"))


class Lab:
    """One lab under one store.  Every method holds the store's lock, but for ``exec``."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.run = store / "run"

    def another(self, owner: int, name: str) -> Lab:
        """One beside this one, of the same image, which is there; ``owner`` is the process that ends it."""
        other = Lab(self.store / "others" / f"{owner}-{Process.of(owner).started}-{name}")
        other.store.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (other.store / "images").symlink_to(self.store / "images")
        return other

    def end_others(self, owner: int = 0, *, alive: bool = False) -> None:
        """Stop those beside this one that the process started, and those whose process is gone; ``alive``: all."""
        for store in self.store.glob("others/*"):
            pid, started = store.name.split("-")[:2]
            if alive or int(pid) == owner or not Process(int(pid), started).alive():
                Lab(store).down()
                if (store / "images").is_symlink():  # else it is being built
                    shutil.rmtree(store)

    def build(self) -> Path:
        with locked(self.store):
            return self._build()

    def _build(self) -> Path:
        image.ensure_host_tools()
        source = image.mirrors()
        wanted = image.root(self.store, source)
        if not wanted.is_dir():
            self._stop()
            self.end_others()
        return image.build(self.store, source)

    def up(self) -> None:
        """Have the lab booted from the image of this checkout, with this checkout installed in it."""
        with locked(self.store):
            root = self._build()
            if not self._runs(root):
                self._stop()
                self._boot(root)
            self._install()

    def reset(self) -> None:
        """A fresh system: nothing of what was done in the lab before is left."""
        with locked(self.store):
            root = self._build()
            self._stop()
            self._boot(root)
            self._install()

    def down(self) -> None:
        with locked(self.store):
            self._stop()

    def reboot(self) -> None:
        """Power off hard and boot again with the same disk, as a host that lost its power."""
        with locked(self.store):
            root = Path((self.run / "image").read_text())
            self._end_processes()
            self._boot(root)

    def restart(self) -> None:
        """Shut down in the orderly way, as the administrator of a host would, and boot again with the same disk."""
        with locked(self.store):
            root = Path((self.run / "image").read_text())
            self.run_in(["systemctl", "poweroff"])
            events = self._own_cgroup() / "cgroup.events"
            deadline = time.monotonic() + SHUTDOWN_SECONDS
            while "populated 1" in events.read_text():
                if time.monotonic() > deadline:
                    raise LabError(f"the lab doesn't shut down: see {self.run}/console.log")
                time.sleep(0.1)  # the last process to go can't tell
            self._end_processes()
            self._boot(root)

    def leader(self) -> int:
        """The lab's PID 1, as the host numbers it."""
        machine = self._machine()
        if machine is None:
            raise LabError("the lab isn't running: tests/lab/lab up")
        for child in Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() in ("systemd", "(sd-init)"):
                return int(child)
        raise LabError("the lab is starting or stopping")

    def exec(self, argv: Sequence[str]) -> int:
        """Run a command in the lab with this process's stdin, stdout, stderr; its exit status, shell style.

        Signals that reach this process go on to the command.
        """
        child = fork_forwarding()
        if child == 0:
            self._enter_and_exec(argv)
        return wait_forwarding(child)

    def _enter_and_exec(self, argv: Sequence[str]) -> None:
        """In the child: join the lab, fork once more (a PID namespace takes children only), exec."""
        try:
            leader = self.leader()
            (self._cgroup(leader) / "cgroup.procs").write_text("0")
            pidfd = os.pidfd_open(leader)
            if ctypes.CDLL(None, use_errno=True).setns(pidfd, NAMESPACES) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.close(pidfd)
            os.chdir("/root")
            command = fork_forwarding()
            if command:
                os._exit(wait_forwarding(command))
            os.execvpe(argv[0], list(argv), environment())
        except LabError as error:
            print(f"lab: {error}", file=sys.stderr)
            os._exit(125)
        except OSError as error:
            print(f"lab: {argv[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)

    def _cgroup(self, leader: int) -> Path:
        """A cgroup of the lab's for what is run in it from outside."""
        line = next(x for x in Path(f"/proc/{leader}/cgroup").read_text().splitlines() if x.startswith("0::"))
        payload = line.removeprefix("0::").removesuffix("/init.scope")
        own = cgroup2() / payload.strip("/") / "lab-exec"
        own.mkdir(exist_ok=True)
        return own

    def _machine(self) -> Process | None:
        try:
            pid, started = (self.run / "pid").read_text().split()
        except (OSError, ValueError):
            return None
        process = Process(int(pid), started)
        return process if process.alive() else None

    def _runs(self, root: Path) -> bool:
        try:
            booted = (self.run / "image").read_text() == str(root)
            return booted and self.run_in(["systemctl", "is-active", "-q", "libvirtd.socket"]) == 0
        except (OSError, LabError):
            return False

    def run_in(self, argv: Sequence[str]) -> int:
        """``exec`` with nothing on its stdin and its output dropped."""
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            self._enter_and_exec(argv)
        return exit_status(os.waitpid(child, 0)[1])

    def _boot(self, root: Path) -> None:
        for name in ("upper", "work", "root"):
            (self.run / name).mkdir(parents=True, exist_ok=True)
        (self.run / "image").write_text(str(root))
        child = os.fork()
        if child == 0:
            self._become_machine(root)
        deadline = time.monotonic() + BOOT_SECONDS
        ready = ["sh", "-c", "systemctl is-system-running --wait >/dev/null; virsh -q list >/dev/null"]
        while self.run_in(ready) != 0:
            if time.monotonic() > deadline or os.waitpid(child, os.WNOHANG) != (0, 0):
                raise LabError(f"the lab didn't boot: see {self.run}/console.log")
            time.sleep(0.1)  # outside of it there is no event to wait for before its D-Bus is up

    def _become_machine(self, root: Path) -> None:
        """In the child: own session, own mount namespace (so no mount outlives the lab), then nspawn."""
        try:
            os.setsid()
            process = Process.of(os.getpid())
            (self.run / "pid").write_text(f"{process.pid} {process.started}")
            own = self._own_cgroup()
            own.mkdir()
            (own / "cgroup.procs").write_text("0")
            log = os.open(self.run / "console.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            mount = (
                f"mount -t overlay -o lowerdir={root},upperdir={self.run}/upper,workdir={self.run}/work "
                f'overlay {self.run}/root && exec "$@"'
            )
            argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", mount, "sh", *self._nspawn()]
            os.execvpe("unshare", argv, {**environment(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        finally:
            os._exit(1)

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.run}/root",
            "--machine=virtcpr-lab",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--capability=all",
            "--system-call-filter=pidfd_getfd",  # services of a host may use it, those of a container may not
            "--bind=/dev/net/tun",
            "--console=pipe",
            "--kill-signal=SIGRTMIN+3",
        ]

    def _stop(self) -> None:
        self._end_processes()
        for name in ("upper", "work"):
            shutil.rmtree(self.run / name, ignore_errors=True)
        for name in ("image", "pid", "installed"):
            (self.run / name).unlink(missing_ok=True)

    def _end_processes(self) -> None:
        """Kill everything in the lab's own cgroup: also what outlived a nspawn that was killed."""
        try:
            end_all(self._own_cgroup(), STOP_SECONDS)
        except TimeoutError as error:
            raise LabError(f"processes of the lab don't end: see {error}") from error

    def _own_cgroup(self) -> Path:
        return cgroup2() / f"virtcpr-lab-{hashlib.sha256(str(self.store).encode()).hexdigest()[:8]}"

    def _install(self) -> None:
        """Have this checkout's package installed in the lab, if it isn't already."""
        wanted = fingerprint()
        stamp = self.run / "installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        script = (
            "rm -rf /usr/src/virtcpr && mkdir /usr/src/virtcpr && tar -xC /usr/src/virtcpr && cd /usr/src/virtcpr && "
            f"{INSTALL} ."
        )
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(reader, 0)
            os.close(writer)
            self._enter_and_exec(["sh", "-c", script])
        os.close(reader)
        with os.fdopen(writer, "wb") as stream:
            pack(stream)
        if os.waitpid(child, 0)[1] != 0:
            raise LabError("installing the checkout in the lab failed (see above)")
        stamp.write_text(wanted)
