"""A connection whose daemon was stopped is opened anew by whoever uses it next."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from virtcpr.errors import HostError
from virtcpr.host.libvirt import calls, connection
from virtcpr.host.libvirt.connection import Connection


class Refused(Exception):
    """What libvirt's bindings raise."""

    def get_error_message(self) -> str:
        return "Connection refused"


class Daemon:
    """Opens connections while it runs; to one that was closed nothing can be said."""

    runs = True
    opened = 0

    def open(self, _: str | None) -> SimpleNamespace:
        if not self.runs:
            raise Refused
        self.opened += 1
        one = SimpleNamespace(
            getURI=lambda: "qemu:///system", getType=lambda: "QEMU", isAlive=lambda: 1, getCapabilities=lambda: "<x/>"
        )
        one.close = lambda: vars(one).clear()
        return one


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    made = Daemon()
    module = SimpleNamespace(libvirtError=Refused, open=made.open)
    for place in (calls, connection):
        monkeypatch.setattr(place, "bindings", lambda: (module, None))
    return made


def test_one_that_was_closed_is_opened_anew(daemon: Daemon) -> None:
    """So a batch whose daemon couldn't be stopped goes on with the next wave."""
    with Connection(None) as held:
        held.close()
        assert not held.alive()
        assert held.capabilities() == "<x/>"
        assert held.alive()
    assert daemon.opened == 2


def test_if_the_daemon_is_still_away_that_is_said(daemon: Daemon) -> None:
    held = Connection(None)
    held.close()
    daemon.runs = False
    with pytest.raises(HostError, match="daemon doesn't answer: Connection refused"):
        held.capabilities()
    held.learn("/usr/bin/qemu-system-x86_64", "x86_64")  # which is only to make the next start faster
    daemon.runs = True
    assert held.capabilities() == "<x/>"
