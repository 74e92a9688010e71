"""Who owns a guest: one file per domain.  Each state is written before the action that it announces.

On tmpfs and without fsync: the journal must outlive any process, but not the host, as both QEMUs die with the host.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from virtcpr.actions.records import document
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import SETTLE, HostError
from virtcpr.host.files.atomic import write_private
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.plan.guest import Guest
from virtcpr.plan.reconnect import Answers
from virtcpr.plan.steps import State

log = logging.getLogger(__name__)

SCHEMA = 3
DIRECTORY = RUN_DIR / "journal"


@dataclass(frozen=True)
class Entry:
    """What settling an interrupted swap needs: both processes by pid and start time, and the guest.

    ``daemon`` is how to start libvirt's daemon again (``Daemon.recipe``).  ``taps`` are the settings of tap queues,
    which new QEMU changes: descriptor in old QEMU, header length, offloads.  ``ports``: the TCP ports taken from
    old QEMU (``tcp_ports.Noted``).  ``cid``: that of the guest's vsock, taken from it, too.  ``expected``: old QEMU's
    answers to libvirt's queries, None before they were read.  ``keeper``: the socket of the keeper, and ``spare``: the
    process that becomes the build that the guest ran in, if the move is parked; ``reset``: it is new now, and the guest
    has to be reset before it runs there.
    ``source``, ``target`` (versions of QEMU), the builds, and ``batch`` and ``undoes`` are for the history.
    ``oom_score_adj``: whom the kernel kills first if memory runs out, as it was for old QEMU.
    """

    uuid: str
    state: State
    guest: Guest
    old_pid: int
    old_started: str
    new_pid: int | None = None
    new_started: str | None = None
    argv: tuple[str, ...] = ()
    daemon: Mapping[str, object] | None = None
    taps: tuple[tuple[int, ...], ...] = ()
    ports: tuple[tuple[int, int], ...] = document.new(())
    cid: int | None = document.new(None)
    expected: Mapping[str, tuple[str, ...]] | None = None
    source: str | None = document.new(None)
    target: str | None = document.new(None)
    oom_score_adj: int = document.new(0)
    source_build: str | None = document.new(None)
    target_build: str | None = document.new(None)
    batch: int | None = document.new(None)
    undoes: int | None = document.new(None)
    keeper: str | None = document.new(None)
    spare_pid: int | None = document.new(None)
    spare_started: str | None = document.new(None)
    reset: bool = document.new(False)

    @property
    def answers(self) -> Answers | None:
        """What new QEMU must answer; None if old QEMU wasn't asked, or if libvirt has managed the guest since."""
        if self.expected is None or self.state in (State.ADOPTED, State.DONE):
            return None
        return {what: frozenset(values) for what, values in self.expected.items()}

    @property
    def name(self) -> str:
        return self.guest.name


class Journal:
    """The journal of one domain's swap.  Every write replaces the whole file."""

    def __init__(self, entry: Entry, directory: Path = DIRECTORY) -> None:
        self.entry = entry
        self.path = directory / f"{entry.uuid}.json"

    def write(self, state: State, **changes: object) -> None:
        """Announce a state.  Raises HostError if it can't be written: then the action must not be taken."""
        entry = replace(self.entry, state=state, **changes)  # type: ignore[arg-type]
        # A shallow copy, which is faster: this is written twice while the guest is paused.
        body = {field.name: getattr(entry, field.name) for field in fields(entry)}
        body |= {"schema": SCHEMA, "state": entry.state.value, "guest": asdict(entry.guest)}
        try:
            if self.path.parent.exists():
                document.trust(self.path.parent, os.lstat(self.path.parent))
            write_private(self.path, json.dumps(body))
        except HostError as error:
            raise HostError(f"{entry.name}: the journal can't be written: {error.message}", hint=error.hint) from error
        self.entry = entry

    def note(self, state: State) -> None:
        """Write a state that recovery doesn't need: after the point of no return, and after a rollback.

        If it can't be written, the journal stays at an earlier state, which leads to the same verdict: from
        ``committing`` on, the tables of plan.transfer.recovery are the same, and all of them leave the guest with old
        QEMU if it runs and there is no new one.
        """
        try:
            self.write(state)
        except HostError as error:
            log.warning("%s", error)

    def close(self) -> None:
        """The swap is settled: remove the journal.  Raises HostError if it can't be removed."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise HostError(
                f"{self.entry.name}: the journal can't be removed: {error.strerror}; the swap counts as unsettled",
                hint=SETTLE,
            ) from error


def pending(directory: Path = DIRECTORY) -> list[str]:
    """UUIDs of the domains whose swap isn't settled.  Raises HostError if the directory can't be read."""
    return document.uuids(directory)


def load(uuid: str, directory: Path = DIRECTORY) -> Journal:
    """The journal of a domain.  Raises HostError if it can't be read, trusted or parsed."""
    path = directory / f"{uuid}.json"
    with document.reading("journal", path):
        document.trust(directory, os.lstat(directory))
        return Journal(_entry(document.read(path), uuid), directory)


def _entry(body: Any, uuid: str) -> Entry:
    document.expect_schema(body, SCHEMA)
    document.expect_uuid(body, uuid)
    known = document.members(body, Entry)
    guest = {"listeners": (), "helpers": (), **known["guest"]}
    guest |= {name: tuple(guest[name]) for name in ("taints", "listeners")}
    guest["helpers"] = tuple(Helper(**{**helper, "argv": tuple(helper["argv"])}) for helper in guest["helpers"])
    return Entry(
        **{
            **known,
            "state": State(known["state"]),
            "guest": Guest(**guest),
            "argv": tuple(known["argv"]),
            "taps": tuple(tuple(int(number) for number in queue) for queue in known["taps"]),
            "ports": tuple((int(source), int(socket)) for source, socket in known["ports"]),
            "expected": _expected(known["expected"]),
        }
    )


def _expected(answers: Any) -> Mapping[str, tuple[str, ...]] | None:
    return None if answers is None else {what: tuple(map(str, values)) for what, values in answers.items()}
