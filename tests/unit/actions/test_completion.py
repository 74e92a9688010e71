"""Names for a shell's completion, from what is on this host."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.support.saved_guest import a_record
from virtcpr.actions import completion
from virtcpr.actions.records import journal, quarantine, saves
from virtcpr.errors import HostError, UsageError
from virtcpr.host.libvirt import calls, connection
from virtcpr.plan.reboot.recovery import Purpose, Stage


class Handle:
    """A connection that can only read, to a daemon with a domain that runs and one that doesn't."""

    closed = False

    def listAllDomains(self, flags: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=lambda name=name: name) for name in (["web"] if flags else ["web", "db"])]

    def close(self) -> None:
        self.closed = True


def bind(monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    module = SimpleNamespace(libvirtError=OSError, VIR_CONNECT_LIST_DOMAINS_ACTIVE=1, **more)
    for place in (calls, connection):
        monkeypatch.setattr(place, "bindings", lambda: (module, None))


def test_names_that_libvirt_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Handle()
    bind(monkeypatch, openReadOnly=lambda uri: handle)  # and no `open`: it would be an error
    assert completion.names(None, "all") == ["db", "web"]
    assert completion.names("qemu:///system", "running") == ["web"]
    assert handle.closed


def test_a_daemon_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    bind(monkeypatch, openReadOnly=lambda uri: never.wait())
    monkeypatch.setattr(completion, "SECONDS", 0.01)
    with pytest.raises(HostError, match="didn't answer within"):
        completion.names(None, "all")
    never.set()


def test_a_remote_daemon_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bind(monkeypatch)
    with pytest.raises(UsageError, match="on another host"):
        completion.names("qemu+ssh://there/system", "all")


def test_saved_and_interrupted_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = [
        a_record(tmp_path, name="web", uuid="5"),
        a_record(tmp_path, Stage.STARTING, name="db", uuid="3"),
        a_record(tmp_path, purpose=Purpose.UPGRADE, name="mail", uuid="6"),
    ]
    monkeypatch.setattr(saves, "readable", lambda: found)
    monkeypatch.setattr(saves, "broken", lambda: [("7", HostError("the record can't be read"))])
    monkeypatch.setattr(journal, "pending", lambda: ["1", "2"])
    monkeypatch.setattr(quarantine, "held", lambda: {"3": "db", "4": "lab"})

    def load(uuid: str) -> SimpleNamespace:
        if uuid == "1":
            raise HostError("the journal can't be read")
        return SimpleNamespace(entry=SimpleNamespace(name="cache"))

    monkeypatch.setattr(journal, "load", load)
    assert completion.names(None, "saved") == ["db", "mail", "web"]
    assert completion.names(None, "interrupted") == ["cache", "db", "lab", "mail"]
