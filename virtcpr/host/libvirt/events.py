"""What libvirt tells of domains as it happens: signs that a guest is in trouble, and that it was reset."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from functools import cache
from typing import Any

from virtcpr.errors import HostError
from virtcpr.host.libvirt.calls import bindings, call

LOOP_MS = 500
REBOOTED = "the guest was reset"  # which isn't a sign of trouble
# libvirt.VIR_DOMAIN_EVENT_STOPPED's details that nobody has asked for (virDomainEventStoppedDetailType).
ENDED = {2: "its QEMU crashed", 5: "its QEMU failed"}


class Events:
    """From entering to leaving.  By a connection of its own, read only: it sees nothing of what the others do.

    Raises HostError on entering if libvirt doesn't answer.
    """

    def __init__(self, uri: str | None) -> None:
        self.uri = uri
        self._seen: deque[tuple[str, str]] = deque()
        self._handle: Any = None

    def take(self) -> list[tuple[str, str]]:
        """UUID and words of each since the last call, in their order."""
        return [self._seen.popleft() for _ in range(len(self._seen))]

    def __enter__(self) -> Events:
        libvirt, _ = bindings()
        _loop()
        self._handle = call(libvirt.openReadOnly, self.uri)
        for kind, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR, self._io_error),
            (libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG, self._watchdog),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._reboot),
        ):
            call(self._handle.domainEventRegisterAny, None, kind, callback, None)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(HostError):  # the daemon is gone
            call(self._handle.close)

    def _lifecycle(self, _connection: object, domain: Any, event: int, detail: int, _opaque: object) -> None:
        libvirt, _ = bindings()
        if event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            self._seen.append((domain.UUIDString(), "the guest panicked"))
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail in ENDED:
            self._seen.append((domain.UUIDString(), ENDED[detail]))

    def _io_error(
        self, _connection: object, domain: Any, path: str, _alias: str, _action: int, _opaque: object
    ) -> None:
        self._seen.append((domain.UUIDString(), f"an error on its disk {path}"))

    def _reboot(self, _connection: object, domain: Any, _opaque: object) -> None:
        self._seen.append((domain.UUIDString(), REBOOTED))

    def _watchdog(self, _connection: object, domain: Any, _action: int, _opaque: object) -> None:
        self._seen.append((domain.UUIDString(), "its watchdog has fired"))


@cache
def _loop() -> None:
    """libvirt's own event loop, until the process ends: a connection that was opened with it needs it.

    It must be registered before a connection is opened that is to tell events (virEventRegisterDefaultImpl()).
    """
    libvirt, _ = bindings()
    libvirt.virEventRegisterDefaultImpl()
    libvirt.virEventAddTimeout(LOOP_MS, lambda *_: None, None)  # else a connection that is opened later isn't looked at

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, daemon=True).start()
