"""The emulator's monitor, as much of it as the host needs."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.host.support.disk import HostError


class Monitor:
    """One connection.  A command that fails, or an emulator that ends, raises HostError."""

    def __init__(self, path: Path, seconds: float = 10) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise HostError(f"the emulator doesn't answer at {path}: {error.strerror}") from error
                time.sleep(0.05)  # the socket isn't there yet, which nothing tells
        self._lines = self._socket.makefile("rb")
        self._read()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode())
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise HostError(f"the emulator: {command}: {answer['error']['desc']}")

    def say(self, command: str) -> str:
        """One command of the monitor for people."""
        return str(self.ask("human-monitor-command", **{"command-line": command}))

    def wait_for(self, event: str, seconds: float) -> None:
        """Until the event comes; it must not have come during another command."""
        self._socket.settimeout(seconds)
        while self._read().get("event") != event:
            pass
        self._socket.settimeout(60)

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except TimeoutError as error:
            raise HostError("the emulator doesn't answer") from error
        if not line:
            raise HostError("the emulator has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()
