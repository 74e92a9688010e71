"""The stage on which a hand-over, or the recovery of one, is played.

Both QEMUs are models of QMP; their processes are real ones, that really die.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import facts
from tests.unit.support.qemu_answers import RECORDED, key
from virtcpr.actions.records import quarantine
from virtcpr.actions.records.journal import Entry, Journal
from virtcpr.actions.transfer import stale_fds
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.actions.transfer.new_qemu import NewQemu
from virtcpr.errors import QmpError, VirtcprError
from virtcpr.host.libvirt import hooks
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.plan.reconnect import QUERIES
from virtcpr.plan.steps import State
from virtcpr.plan.transfer.swap import Plan, plan

OPTIONAL = {query.command for query in QUERIES if query.optional}
UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"


@dataclass
class World:
    """Both QEMUs, and the command at which something happens; ``said`` is every command in its order."""

    old: Qemu
    new: Qemu
    fail_at: int | None = None
    cancel: bool = False
    said: list[str] = field(default_factory=list)
    both_ran: bool = False
    memory: Mapping[str, int] = field(default_factory=lambda: {"base-memory": 1 << 30})
    dirty_rates: list[Mapping[str, object]] = field(default_factory=lambda: [{"status": "unstarted"}])

    def hear(self, side: str, command: str) -> None:
        self.said.append(f"{side} {command}")
        if self.fail_at is not None and len(self.said) - 1 == self.fail_at:
            if self.cancel:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            else:
                raise QmpError(f"{side}: {command} failed")


@dataclass
class Qemu:
    """One side, as far as the steps ask it."""

    side: str
    process: Process
    status: str
    mode: str = "normal"
    migration: str = "none"
    cleaning: int = 0  # so many looks later it has cleaned up after a migration
    iothreads: tuple[str, ...] = ("iothread1",)
    ram: Mapping[str, int] = field(default_factory=lambda: {"remaining": 1 << 20, "total": 1 << 30, "mbps": 8000})
    world: World = field(init=False)

    def answer(self, command: str, arguments: Mapping[str, Any]) -> object:
        other = self.world.new if self.side == "old" else self.world.old
        match command:
            case "query-cpus-fast":
                return [{"cpu-index": number, "thread-id": self.process.pid} for number in (0, 1)]
            case "query-status":
                return {"status": self.status}
            case "query-migrate":
                return {"status": self.migration, **({"ram": self.ram} if self.migration == "active" else {})}
            case "query-iothreads":
                return [{"id": name, "thread-id": self.process.pid} for name in self.iothreads]
            case "query-yank":
                self.cleaning -= self.cleaning > 0
                return [{"type": "migration"}] if self.cleaning else [{"type": "chardev", "id": "charserial0"}]
            case "migrate-set-parameters" | "migrate-set-capabilities" if self.cleaning:  # an assertion of QEMU's fails
                self.process.kill(10)
            case "migrate-set-parameters":
                self.mode = arguments.get("mode", self.mode)
                if self.migration == "active" and arguments.get("downtime-limit", 1) > 1:  # mode live: all is copied
                    self.status, self.migration = "finish-migrate", "pre-switchover"
            case "migrate":
                self.migration = "active" if "uri" in arguments else "setup"
            case "migrate-incoming" if other.migration != "setup":  # mode live: RAM is still to come
                pass
            case "migrate-continue":
                self.status, self.migration, self.cleaning = "postmigrate", "completed", 3
                other.status, other.migration = "paused", "completed"
            case "migrate-incoming":
                other.status, other.migration, other.cleaning = "postmigrate", "completed", 3
                self.status, self.migration = "paused", "completed"
            case "query-dirty-rate":
                rates = self.world.dirty_rates
                return rates.pop(0) if len(rates) > 1 else rates[0]
            case "query-memory-size-summary":
                return self.world.memory
            case "migrate_cancel":
                if self.migration == "pre-switchover":
                    self.status = "running"
                self.migration, self.cleaning = "cancelled", 3
            case "system_reset" if self.status != "running":
                self.status = "prelaunch"
            case "cont":
                self.status = "running"
                self.world.both_ran |= other.status == "running" and other.process.alive()
            case _:
                return RECORDED[self.side].get(key(command, arguments), {})
        return {}


@dataclass
class FakeMonitor:
    qemu: Qemu
    name: str
    timeout: float = 0.0

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, fd: int | None = None
    ) -> object:
        self.qemu.world.hear(self.qemu.side, command)
        await asyncio.sleep(0)
        if not self.qemu.process.alive():
            raise QmpError(f"{self.name} is gone")
        return self.qemu.answer(command, arguments or {})

    async def migration_end(self, timeout: float) -> str:
        return self.qemu.migration

    async def migration_is(self, wanted: Collection[str], timeout: float) -> str:
        if self.qemu.migration not in wanted:
            raise QmpError(f"{self.name}: the migration isn't {' or '.join(wanted)} after {timeout:g} s")
        return self.qemu.migration

    def happened(self, name: str) -> float | None:
        return 1.0

    async def close(self) -> None:
        pass

    def renew(self) -> None:
        pass


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield started
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


@dataclass
class Stage:
    world: World
    plan: Plan
    journal: Journal
    hand_over: HandOver

    def run(self) -> VirtcprError | None:
        async def both() -> None:
            await self.hand_over.make_new()
            await self.hand_over.connect()
            await self.hand_over.hand_over()
            await self.hand_over.finish()

        try:
            asyncio.run(both())
        except VirtcprError as error:
            return error
        return None


@pytest.fixture
def stage(processes: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    old, new = (Process.of(process.pid) for process in processes)
    domain = facts.domain()
    status = tmp_path / "office.xml"
    own = domain.status_xml.replace("pid='1275'", f"pid='{old.pid}'", 1)
    domain = replace(domain, status_xml=own.replace("/var/lib/libvirt/qemu/domain-1-d1'", f"{tmp_path}'"))
    status.write_text(domain.status_xml)
    status.with_suffix(".pid").write_text(f"{old.pid}\n")
    made = replace(
        plan(domain),
        pid=old.pid,
        started=old.started,
        status_path=str(status),
        taps=(),
        displays=(),
        ports=(),
        replay=(),
    )
    (tmp_path / "master-key.aes").write_bytes(bytes(32))
    monkeypatch.setattr(quarantine, "DIRECTORY", tmp_path / "held")
    monkeypatch.setattr(stale_fds, "MARGIN", 2)
    monkeypatch.setattr(hooks, "put", lambda _: None)
    world = World(Qemu("old", old, "running"), Qemu("new", new, "inmigrate"))
    world.old.world = world.new.world = world
    record = Journal(Entry(UUID, State.SPAWNED, made.guest, old.pid, old.started), tmp_path / "journal")
    record.write(State.SPAWNED, new_pid=new.pid, new_started=new.started)
    answering = iter([world.new, world.old, world.new])

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        qemu = next(answering)
        world.hear(qemu.side, "connect")
        return FakeMonitor(qemu, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    launched = NewQemu(new, (), (), (), tmp_path / "log", 0)
    daemon: Any = FakeMonitor(world.old, "office (old QEMU)")
    return Stage(world, made, record, HandOver(made, launched, record, lambda _: None, daemon))


def dies_soon(process: subprocess.Popen[bytes]) -> None:
    """As one that was killed: its monitor is closed by now, it itself is still there."""
    threading.Timer(0.3, process.kill).start()
