"""Mode reboot and a QEMU of before 9.1.  No such QEMU was run: a scripted peer answers in its place."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.unit.support import facts, scripted_qemu
from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.monitor import cpr, reboot
from virtcpr.domain.facts import Emulator
from virtcpr.errors import QmpRefused
from virtcpr.host.qemu import emulator
from virtcpr.host.qemu.scratch import Scratch

URI = "file:/no/such/state"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(emulator, "_nobody", lambda: None)  # who couldn't reach the test's directory
    path = tmp_path / "qemu-8.2"
    shutil.copy(scripted_qemu.__file__, path)
    path.chmod(0o755)
    return str(path)


async def ask(program: str, command: reboot.Command) -> object:
    async with await Scratch.start(program, []) as peer:
        return await (await peer.monitor(10)).execute(*command)


def test_what_it_can_do_is_asked_of_itself(program: str) -> None:
    old = Emulators().get(program)
    assert (old.problem, old.version, old.number) == (None, "8.2.2 (scripted)", (8, 2, 2))
    assert old.modes == {"normal", "cpr-reboot"}
    assert not old.exit_on_error
    assert facts.domain().emulator.exit_on_error


def test_it_is_told_to_load_in_words_that_it_knows(program: str) -> None:
    old = Emulators().get(program)
    assert asyncio.run(ask(program, reboot.incoming(URI, old))) == {}


def test_what_newer_ones_are_told_it_refuses(program: str) -> None:
    """The guest would be down, and its state wait: so the words must not come from two places."""
    with pytest.raises(QmpRefused, match="Parameter 'exit-on-error' is unexpected"):
        asyncio.run(ask(program, reboot.incoming(URI, Emulator(program, exit_on_error=True))))


def test_a_hand_over_is_told_in_the_same_words() -> None:
    """cpr-transfer came after the option: every QEMU that has the one has the other."""
    told = []

    class New:
        async def execute(self, *command: object) -> None:
            told.append(command)

    asyncio.run(cpr.incoming(New(), "/s"))  # type: ignore[arg-type]
    assert told == [("migrate-incoming", {"uri": "unix:/s", "exit-on-error": False})]
