"""The stage on which a guest is saved and restored: libvirt and QEMU are models, their processes real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.support import facts
from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.reboot import settle, validate
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.reboot.save_guest import FD, Saving
from virtcpr.actions.records import pending_strips, saves
from virtcpr.actions.records.saves import Record
from virtcpr.domain import restart
from virtcpr.domain.facts import DomainFacts, Emulator, Memdev
from virtcpr.errors import HostError, QmpRefused, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.stream import Digest, digest
from virtcpr.model import Recovered
from virtcpr.plan.reboot import save as reboot
from virtcpr.plan.reboot.recovery import Purpose, Stage

DOMAIN = facts.domain()
UUID, NAME = DOMAIN.uuid, DOMAIN.name
STATE = b"QEVM and what follows" * 500
WAITS = {"directory", "record", "state", "RAM"}  # what is left of a guest that is saved
QEMU = ["sh", "-c", "read forever", "qemu"]


@dataclass
class Qemu:
    """One process of the domain.  ``asleep``: its guest is suspended to RAM, whether its vCPUs are stopped or not."""

    child: subprocess.Popen[bytes]
    number: int
    status: str
    asleep: bool = False
    migration: str = ""
    cleaning: int = 0  # so many looks later it has cleaned up after a migration
    why: str = ""
    mode: str = "normal"
    on: frozenset[str] = frozenset({"events", "return-path"})
    fd: int = -1
    exit_on_error: bool = True  # whether migrate-incoming has this argument

    @property
    def process(self) -> Process:
        return Process(self.child.pid, self.started)

    def __post_init__(self) -> None:
        self.started = Process.of(self.child.pid).started

    def go(self) -> None:
        self.status = "suspended" if self.asleep else "running"

    def answer(self, command: str, arguments: Mapping[str, Any]) -> object:
        match command:
            case "query-status":
                return {"status": self.status}
            case "query-migrate":
                return {"status": self.migration, "error-desc": self.why} if self.migration else {}
            case "query-migrate-parameters":
                return {"mode": self.mode}
            case "query-cpus-fast":
                return [{"cpu-index": number, "thread-id": self.child.pid} for number in (0, 1)]
            case "query-memdev":
                assert DOMAIN.qemu is not None
                return [{"id": one.id, "share": one.share} for one in DOMAIN.qemu.memdevs]
            case "query-yank":
                self.cleaning -= self.cleaning > 0
                return [{"type": "migration"}] if self.cleaning else []
            case "migrate-set-parameters" | "migrate-set-capabilities" if self.cleaning:  # an assertion of QEMU's fails
                self.child.kill()
                self.child.wait()
            case "migrate-set-parameters":
                self.mode = arguments["mode"]
            case "migrate-set-capabilities":
                for one in arguments["capabilities"]:
                    self.on = self.on | {one["capability"]} if one["state"] else self.on - {one["capability"]}
            case "migrate":
                assert (arguments["uri"], self.mode) == (f"fd:{FD}", "cpr-reboot")
                self.status, self.migration, self.cleaning = "postmigrate", "completed", 3
                with os.fdopen(self.fd, "wb") as file:
                    file.write(STATE)
            case "migrate-incoming":
                if arguments.get("exit-on-error") is False and not self.exit_on_error:
                    os.close(self.fd)
                    raise QmpRefused("Parameter 'exit-on-error' is unexpected")
                assert (arguments["uri"], self.mode) == (f"fd:{FD}", "cpr-reboot")
                with os.fdopen(self.fd, "rb") as file:
                    whole = file.read() == STATE
                self.status, self.migration = ("paused", "completed") if whole else ("inmigrate", "failed")
                self.why = "" if whole else "load of migration failed: Invalid argument"
                if not whole and not self.exit_on_error:
                    self.child.kill()
                    self.child.wait()
            case "migrate_cancel":
                self.migration, self.cleaning = "cancelled", 3
            case "cont":
                self.go()
            case _:
                raise AssertionError(f"QEMU is asked for {command}")
        return {}


@dataclass
class World:
    """libvirt and its one domain.  ``said`` is every call to it in its order; at number ``at`` ``then`` is done."""

    directory: Path
    children: list[subprocess.Popen[bytes]]
    facts: DomainFacts
    qemu: Qemu | None = None
    ids: int = 1
    hook: bool = True
    new_exit_on_error: bool = True  # of the QEMU that is started next
    silent: bool = False
    said: list[str] = field(default_factory=list)
    at: int | None = None
    then: Callable[[], None] = lambda: None

    # What happens to it.

    def hear(self, what: str) -> None:
        self.said.append(what)
        if self.at == len(self.said) - 1:
            self.then()
        if self.silent:
            raise HostError(f"{what}: no answer")

    def refuse(self) -> None:
        raise HostError(f"{self.said[-1]} failed")

    def kill(self) -> None:
        if self.qemu is not None:
            self.qemu.child.kill()
            self.qemu.child.wait()

    def now_fails(self) -> None:
        """QEMU can't load what it got."""
        self.now.status, self.now.migration = "inmigrate", "failed"
        self.now.why = "load of migration failed: Invalid argument"

    def fall_silent(self) -> None:
        self.silent = True

    # libvirt.

    @property
    def status_path(self) -> Path:
        return Path(self.facts.status_path)

    @property
    def ram(self) -> Path:
        return self.directory / "ram"

    def start(self, *words: str, status: str) -> Qemu:
        """A process, which has its RAM file open."""
        own = self.ram / f"{self.ids}-{NAME}"
        own.mkdir(parents=True, exist_ok=True)
        memory = own / "pc.ram"
        with memory.open("ab") as file:
            child = subprocess.Popen([*QEMU, *words], stdin=subprocess.PIPE, pass_fds=[file.fileno()])
        self.children.append(child)
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():  # the kernel tells of the start an instant before
            os.sched_yield()
        self.status_path.write_text(DOMAIN.status_xml.replace("pid='1275'", f"pid='{child.pid}'", 1))
        self.qemu = Qemu(child, self.ids, status)
        return self.qemu

    def active(self) -> bool:
        """It cleans up after a process that has ended."""
        if self.qemu is not None and not self.qemu.process.alive():
            shutil.rmtree(self.ram / f"{self.qemu.number}-{NAME}", ignore_errors=True)
            self.status_path.unlink(missing_ok=True)
            self.qemu = None
        return self.qemu is not None

    @property
    def now(self) -> Qemu:
        if not self.active() or self.qemu is None:
            raise HostError("libvirt: Requested operation is not valid: domain is not running")
        return self.qemu


@dataclass(frozen=True)
class FakeDomain:
    world: World
    name: str = NAME
    uuid: str = UUID

    def active(self) -> bool:
        self.world.hear("active")
        return self.world.active()

    def job(self) -> str | None:
        self.world.hear("job")
        return None

    def startable_xml(self) -> str:
        self.world.hear("xml")
        return self.world.facts.xml if self.world.now.number else ""

    def monitor(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        self.world.hear(command)
        return self.world.now.answer(command, arguments or {})

    def monitor_with(self, fd: int, command: str, arguments: Mapping[str, object]) -> object:
        self.world.hear(command)
        assert (command, arguments) == ("getfd", {"fdname": FD})
        self.world.now.fd = os.dup(fd)
        return {}

    def resume(self) -> None:
        self.world.hear("resume")
        self.world.now.go()

    def suspend_to_ram(self) -> None:
        self.world.hear("suspend")
        self.world.now.asleep = True
        self.world.now.go()

    def wake_up(self) -> None:
        self.world.hear("wake")
        if self.world.now.status != "suspended":
            raise QmpRefused("Unable to wake up: guest is not in suspended state")
        self.world.now.asleep = False
        self.world.now.go()


@dataclass(frozen=True)
class FakeConnection:
    world: World

    def find(self, uuid: str) -> FakeDomain | None:
        self.world.hear("find")
        return FakeDomain(self.world) if uuid == UUID else None

    def lookup(self, uuid: str) -> FakeDomain:
        found = self.find(uuid)
        assert found is not None
        return found

    def close(self) -> None:
        pass

    def start_paused(self, xml: str) -> FakeDomain:
        """With libvirt's hook: what it does is in test_hooks.py."""
        self.world.hear("start")
        world = self.world
        assert not world.active()
        assert restart.waits(xml)
        kept = (ram_files.STARTING / UUID).read_text().strip()
        world.ids += 1
        if world.hook and kept:
            own = world.ram / f"{world.ids}-{NAME}"
            own.mkdir(parents=True)
            for path in Path(kept).iterdir():
                os.link(path, own / path.name)
        new = world.start("-incoming", "defer", status="inmigrate")
        new.exit_on_error = world.new_exit_on_error
        saved = saves.load(UUID, world.directory / "saved").saved
        new.asleep = saved.wake
        return FakeDomain(world)


def private_ram(domain: DomainFacts) -> DomainFacts:
    """The same domain, but that all of its RAM goes to the file."""
    assert domain.qemu is not None
    memdevs = tuple(replace(memdev, share=False) for memdev in domain.qemu.memdevs)
    return replace(domain, qemu=replace(domain.qemu, memdevs=memdevs))


class Shelf:
    """Emulators that are all the installed one."""

    def get(self, path: str) -> Emulator:
        return replace(DOMAIN.emulator, path=path)


@dataclass
class RebootStage:
    world: World
    stopped_at: int | None = None  # the step before which a signal comes
    steps: list[str] = field(default_factory=list)

    def saving(self, purpose: Purpose = Purpose.SAVE, *, suspend: bool = False) -> Saving:
        plan = reboot.plan(self.world.facts, suspend=suspend)
        assert bool(plan.linked) == bool(plan.in_place)
        asked = iter(range(100))
        domain = cast(Domain, FakeDomain(self.world))
        at, self.world.at = self.world.at, None
        made = Saving(domain, plan, purpose, self.steps.append, lambda: next(asked) == self.stopped_at)
        self.world.said.clear()
        self.world.at = at
        return made

    def save(self, purpose: Purpose = Purpose.SAVE, *, suspend: bool = False) -> VirtcprError | None:
        saving = self.saving(purpose, suspend=suspend)
        return _error(saving.run)

    def saved(self, purpose: Purpose = Purpose.SAVE, *, suspend: bool = False) -> Record:
        """A guest that was saved without any trouble."""
        assert self.save(purpose, suspend=suspend) is None
        self.world.said.clear()
        return self.record

    @property
    def connection(self) -> Connection:
        return cast(Connection, FakeConnection(self.world))

    @property
    def record(self) -> Record:
        return saves.load(UUID, self.world.directory / "saved")

    def restore(
        self, one: Record, *, read: bool | None = True, emulator: Emulator = DOMAIN.emulator
    ) -> VirtcprError | None:
        restoring = Restoring(self.connection, one, emulator, self.steps.append)
        return _error(lambda: restoring.run(read=read))

    def settle(self, *, dry_run: bool = False) -> Recovered:
        """By another virtcpr, which nothing befalls."""
        self.world.at, self.world.silent = None, False
        return settle.settle(self.connection, self.record, cast(Emulators, Shelf()), dry_run=dry_run)

    @property
    def stage(self) -> Stage | None:
        """What the file says; None where there is none."""
        return self.record.saved.stage if saves.waiting(self.world.directory / "saved") else None

    def left(self) -> set[str]:
        """All that virtcpr has put somewhere, notes of leftovers apart."""
        world = self.world
        places = {
            "directory": world.directory / f"saved/{UUID}",
            "record": world.directory / f"saved/{UUID}/record.json",
            "state": world.directory / f"saved/{UUID}/state",
            "RAM": world.ram / f"virtcpr-{UUID}",
            "start allowed": ram_files.STARTING / UUID,
        }
        return {what for what, path in places.items() if path.exists()}


def _error(action: Callable[[], None]) -> VirtcprError | None:
    try:
        action()
    except VirtcprError as error:
        return error
    return None


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The states that were read as a whole before anything was started."""
    paths: list[Path] = []

    def noting(path: Path) -> Digest:
        paths.append(path)
        return digest(path)

    monkeypatch.setattr(validate, "digest", noting)
    return paths


@pytest.fixture
def reboot_stage(
    children: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RebootStage:
    """A running guest; its RAM is in a file in libvirt's directory of it."""
    monkeypatch.setattr(Record.__init__, "__defaults__", (tmp_path / "saved",))
    monkeypatch.setattr(ram_files, "STARTING", tmp_path / "starting")
    monkeypatch.setattr(pending_strips, "DIRECTORY", tmp_path / "leftovers")
    monkeypatch.setattr(saves.load, "__defaults__", (tmp_path / "saved",))
    world = World(tmp_path, children, replace(DOMAIN, status_path=str(tmp_path / "d1.xml")))
    old = world.start(status="running")
    memory = Memdev("pc.ram", True, "memory-backend-file", str(tmp_path / f"ram/1-{NAME}/pc.ram"), "file")
    for name in ("d1.qcow2", "d1.raw"):
        (tmp_path / name).write_bytes(b"x")
    assert DOMAIN.process is not None
    assert DOMAIN.qemu is not None
    world.facts = replace(
        world.facts,
        xml=DOMAIN.xml.replace("/var/lib/libvirt/images", str(tmp_path)),
        status_xml=world.status_path.read_text(),
        process=replace(DOMAIN.process, pid=old.process.pid, started=old.started),
        qemu=replace(DOMAIN.qemu, memdevs=(memory,), capabilities=old.on),
    )
    stage = RebootStage(world)

    def connected() -> Connection:
        """The daemon has come back."""
        world.at, world.silent = None, False
        return stage.connection

    monkeypatch.setattr(settle, "_connected", connected)
    return stage
