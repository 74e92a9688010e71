"""The guests of one blackout: what isn't moved is given up while libvirt's daemon is still away."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from virtcpr.actions.daemon import blackout, reconnect
from virtcpr.actions.daemon.blackout import DaemonDown
from virtcpr.actions.transfer import group as group_module
from virtcpr.actions.transfer import libvirt_record, new_qemu
from virtcpr.actions.transfer.group import Group
from virtcpr.actions.transfer.resources import helpers
from virtcpr.errors import SETTLE, HostError, RolledBack, Unsettled, VirtcprError
from virtcpr.host.processes.proc import Process
from virtcpr.model import Mode, Result


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in order; no domain, no daemon."""
    done: list[str] = []

    @contextmanager
    def away(_recipe: object, *, required: bool) -> Iterator[None]:
        assert required
        done.append("away")
        try:
            yield
        finally:
            done.append("back")

    monkeypatch.setattr(blackout, "refuse_jobs", lambda _: None)
    monkeypatch.setattr(blackout, "daemon_away", away)
    monkeypatch.setattr(Group, "_adopt", lambda *_: done.append("adopt"))
    return done


def group() -> Group:
    made: Any = object.__new__(Group)
    made.interrupt = SimpleNamespace(requested=False)
    made.connection = SimpleNamespace(close=lambda: None)
    made._alone = False
    made.recipe, made.notes = {}, []
    made.request = SimpleNamespace(uri=None, parallel=2)
    return made  # type: ignore[no-any-return]


class Over:
    """A hand-over that fails where it is told."""

    interruptible, refusal, committed = True, None, False

    def __init__(self, done: list[str], fails: dict[str, Exception]) -> None:
        self.done, self.fails = done, fails
        self.journal = SimpleNamespace(close=lambda: None)

    def _do(self, part: str) -> None:
        self.done.append(part)
        if part in self.fails:
            raise self.fails[part]

    async def make_new(self) -> None:
        self._do("make")

    async def connect(self) -> None:
        self._do("connect")

    async def hand_over(self) -> None:
        assert not gc.isenabled(), "a guest would be paused for longer"
        self._do("hand over")
        self.committed = True

    async def finish(self) -> None:
        self._do("finish")

    async def call_off(self, cause: Exception) -> None:
        self.done.append(f"call off: {cause}")
        raise RolledBack(str(cause))


def move(done: list[str], **fails: Exception) -> Any:
    made = SimpleNamespace(
        facts=SimpleNamespace(name="web"), result=None, moved=False, there=Over(done, fails), report=SimpleNamespace
    )
    made.report = lambda: SimpleNamespace(pause_ms=None)
    made.fail = lambda _: setattr(made, "result", Result.ROLLED_BACK)
    return made


def swap(made: Group, *moves: Any) -> None:
    with asyncio.Runner() as runner:
        made._swap_all(list(moves), lambda _: None, runner)


def test_new_qemu_is_made_before_the_daemon_is_away(done: list[str]) -> None:
    swap(group(), move(done))
    assert done == ["make", "away", "connect", "hand over", "finish", "adopt", "back"]
    assert gc.isenabled()


def test_the_daemon_stays_if_no_new_qemu_can_be_made(done: list[str]) -> None:
    one = move(done, make=RolledBack("it isn't the machine"))
    swap(group(), one)
    assert done == ["make"]
    assert one.result is Result.ROLLED_BACK


def test_who_has_no_new_qemu_does_not_keep_the_others(done: list[str]) -> None:
    swap(group(), move(done, make=RolledBack("it isn't the machine")), move(done))
    assert done == ["make", "make", "away", "connect", "hand over", "finish", "adopt", "back"]


def test_every_monitor_is_taken_over_before_the_first_guest_is_handed_over(done: list[str]) -> None:
    """Several at once: one after the other they would prolong the blackout."""
    swap(group(), move(done), move(done, connect=RolledBack("it has changed")), move(done))
    assert done[done.index("away") + 1 : done.index("adopt")] == [*["connect"] * 3, *["hand over"] * 2, *["finish"] * 2]


def test_what_cannot_be_handed_over_is_called_off_before_the_daemon_starts(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(made: Any) -> None:
        if "away" in done:
            raise HostError("interrupted")

    monkeypatch.setattr(Group, "_refuse_interrupted", refuse)
    swap(group(), move(done))
    assert done == ["make", "away", "call off: interrupted", "adopt", "back"]


def test_who_was_given_to_new_by_recovery_is_not_called_off(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """New is the only one that has the guest; it wasn't committed by the hand-over itself."""
    one, other = move(done), move(done)

    async def settled(_: object) -> None:
        one.moved = True

    async def fails() -> None:
        await settled(one)

    one.there.hand_over = fails

    def refuse(_: object) -> None:
        if one.moved:
            raise HostError("interrupted")

    monkeypatch.setattr(Group, "_refuse_interrupted", refuse)
    swap(group(), one, other)
    assert [part for part in done if part.startswith("call off")] == []
    assert done.count("finish") == 1, "the other's alone"
    assert one.result is None


def test_an_interruption_cancels_no_roll_back(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for their turn, and a second Ctrl-C comes."""
    made, moves = group(), [move(done) for _ in range(5)]

    async def called_off(self: Over, cause: Exception) -> None:
        if made.interrupt.on_request is not None:
            made.interrupt.on_request()
        await asyncio.sleep(0.01)
        done.append("called off")
        raise RolledBack(str(cause))

    def busy(_: object) -> None:
        raise HostError("libvirt is busy")

    monkeypatch.setattr(Over, "call_off", called_off)
    monkeypatch.setattr(blackout, "refuse_jobs", busy)
    made.interrupt.on_request = None
    swap(made, *moves)
    assert done == ["called off"] * 5
    assert {one.result for one in moves} == {Result.ROLLED_BACK}


def test_a_daemon_that_got_busy_meanwhile_is_not_stopped(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        if "make" in done:
            raise HostError("libvirt is busy with mail (backup)")

    monkeypatch.setattr(blackout, "refuse_jobs", refuse)
    swap(group(), move(done))
    assert done == ["make", "call off: libvirt is busy with mail (backup)"]


def test_a_daemon_that_does_not_come_back_is_noted(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_recipe: object, *, required: bool) -> None:
        raise DaemonDown("it doesn't stop; it doesn't start", hint="by hand")

    monkeypatch.setattr(blackout, "daemon_away", stuck)
    made = group()
    swap(made, move(done))
    assert done == ["make", "call off: it doesn't stop; it doesn't start"]
    assert made.notes == ["it doesn't stop; it doesn't start: by hand"]


def adopt(monkeypatch: pytest.MonkeyPatch, unlisted: Callable[..., object]) -> tuple[Group, list[str], dict[str, Any]]:
    """Three guests were moved and libvirt's daemon is started: the batch, who was compared, who failed and why."""
    verified: list[str] = []
    failures: dict[str, Any] = {}
    monkeypatch.setattr(reconnect, "reconnect", lambda _: SimpleNamespace())
    monkeypatch.setattr(reconnect, "unlisted", unlisted)
    monkeypatch.setattr(Group, "_verify", lambda _, move: verified.append(move.facts.name))

    def move(name: str) -> Any:
        return SimpleNamespace(
            facts=SimpleNamespace(name=name, uuid=f"uuid-{name}"),
            new=SimpleNamespace(process=Process(4711, "1")),
            hand_over=SimpleNamespace(journal=SimpleNamespace(note=lambda _: None)),
            fail=lambda error: failures.update({name: error}),
        )

    made = group()
    made.request = SimpleNamespace(uri=None)  # type: ignore[assignment]
    away: Any = SimpleNamespace(end=lambda: None, began=time.monotonic())
    made._adopt([move("web"), move("mail"), move("db")], away, lambda _: None)
    return made, verified, failures


def test_a_guest_that_libvirt_does_not_list_is_the_only_one_that_is_unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of its batch are compared, and done."""
    made, verified, failures = adopt(monkeypatch, lambda *_: frozenset({"uuid-mail"}))

    assert verified == ["web", "db"]
    assert made.notes == []
    assert made.blackout is not None
    assert made.blackout.guests == 3
    (error,) = failures.values()
    assert error.message == (
        "libvirt doesn't list mail as running after the swap; the guest runs in new QEMU (process 4711)"
    )
    assert error.hint == "don't start the domain; read the daemon's log, then: virtcpr recover mail"
    assert error.code == "unsettled"


def test_guests_that_cannot_be_looked_for_are_unsettled_and_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in new QEMU all the same."""

    def no_descriptor(*_: object) -> frozenset[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    made, verified, failures = adopt(monkeypatch, no_descriptor)

    assert verified == []
    assert failures.keys() == {"web", "mail", "db"}
    for error in failures.values():
        assert error.code == "unsettled"
        assert error.message == "[Errno 24] Too many open files; the guest runs in new QEMU"
    (note,) = made.notes
    assert note.endswith("start libvirt's daemon: systemctl start libvirtd, or virtqemud")


def test_the_guardian_watches_from_the_first_new_qemu_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtcpr that is killed leaves no new QEMU behind."""
    done: list[str] = []

    @contextmanager
    def guarded(recipe: object, *, required: bool) -> Iterator[None]:
        assert (recipe, required) == ({"name": "libvirtd"}, True)
        done.append("guarded")
        yield
        done.append("disarmed")

    monkeypatch.setattr(blackout, "guarded", guarded)
    made: Any = group()
    made.recipe = {"name": "libvirtd"}
    made.moves = [SimpleNamespace(result=None)]
    with made._guarded():
        done.append("spawn")
    assert done == ["guarded", "spawn", "disarmed"]


def test_without_a_guardian_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_recipe: object, *, required: bool) -> None:
        raise HostError("the guardian can't be started: No space left", hint="see df")

    monkeypatch.setattr(blackout, "guarded", fails)
    back: list[tuple[str, str | None]] = []
    made: Any = group()
    made.moves = [SimpleNamespace(result=None, turn_back=lambda reason, hint: back.append((reason, hint)))]
    with made._guarded():
        pass
    assert back == [("the guardian can't be started: No space left", "see df")]


def test_a_defect_in_one_spawn_gives_up_that_guest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ValueError("filedescriptor out of range in select()")

    given_up: list[str] = []
    monkeypatch.setattr(group_module, "spawn", broken)
    monkeypatch.setattr(libvirt_record, "reserve", lambda _: None)
    monkeypatch.setattr(Group, "_abandon", lambda _self, _move, _record, error: given_up.append(str(error)))
    move: Any = SimpleNamespace(
        facts=SimpleNamespace(name="web"),
        plan=SimpleNamespace(guest=None, helpers=()),
        journal=lambda _: SimpleNamespace(write=lambda *_: None),
    )

    group()._spawn(move, lambda _: None)

    assert given_up == ["ValueError: filedescriptor out of range in select()"]


def test_a_guest_whose_tpm_cannot_be_given_back_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up before the hand-over: it runs on, and its report has more than the cause."""
    monkeypatch.setattr(helpers, "give_back", lambda _: ["its TPM may not work: x"])
    monkeypatch.setattr(libvirt_record, "clean_up", lambda _: None)
    said: list[str] = []
    own = Process.of(os.getpid())
    move: Any = SimpleNamespace(
        plan=SimpleNamespace(guest=None, helpers=(), pid=own.pid, started=own.started),
        new=None,
        turn_back=lambda reason, _: said.append(reason),
    )
    record: Any = SimpleNamespace(close=lambda: None)

    group()._abandon(move, record, HostError("new QEMU ended at once"))

    assert said == ["new QEMU ended at once; its TPM may not work: x"]


def test_a_new_qemu_that_fails_and_cannot_be_ended_stays_unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have what the guest has: old QEMU alone isn't all that there is, and the journal says so."""
    monkeypatch.setattr(new_qemu, "launch", lambda _: SimpleNamespace(pid=7, kill=lambda _: False))
    monkeypatch.setattr(new_qemu, "_await_listening", Mock(side_effect=HostError("it didn't open the CPR channel")))
    monkeypatch.setattr(libvirt_record, "reserve", lambda _: None)
    monkeypatch.setattr(helpers, "start", lambda _: None)
    failed: list[VirtcprError] = []
    record: Any = SimpleNamespace(write=lambda *_, **__: None, close=lambda: pytest.fail("closed"))
    plan = SimpleNamespace(
        name="web", pid=1, started="1", guest=SimpleNamespace(listeners=()), helpers=(), mode=Mode.TRANSFER,
        parked=False, cpr_socket="/nowhere/cpr", main_socket="/nowhere/main", argv=("qemu",),
        carried=(), bound=(), opened=(), taps=(), displays=(), ports=(),
    )  # fmt: skip
    move: Any = SimpleNamespace(plan=plan, new=None, journal=lambda _: record, fail=failed.append)

    group()._spawn(move, lambda _: None)

    (error,) = failed
    assert isinstance(error, Unsettled)
    assert error.message == "it didn't open the CPR channel; web: new QEMU (process 7) can't be killed"
    assert error.hint == SETTLE


def test_a_new_qemu_that_ends_at_once_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anybody could look at its process."""
    log = tmp_path / "web.log"
    log.write_text("")

    def launched(_: object) -> None:
        log.write_text("qemu-system-x86_64: no such machine\n")
        raise HostError("process 7 is gone")

    monkeypatch.setattr(new_qemu, "launch", launched)
    monkeypatch.setattr(new_qemu, "LOG_DIR", tmp_path)
    plan: Any = SimpleNamespace(
        name="web", pid=1, started="1", mode=Mode.TRANSFER, parked=False, argv=("qemu",),
        cpr_socket="/nowhere/cpr", main_socket="/nowhere/main",
        carried=(), bound=(), opened=(), taps=(), displays=(), ports=(),
    )  # fmt: skip
    with pytest.raises(HostError, match=r"^process 7 is gone: no such machine$"):
        new_qemu.spawn(plan)
