"""The way into the host: commands over one connection of ssh."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from tests.host.support.disk import HostError
from tests.lab.support.process import FORWARDED, environment

FAILED = 255  # ssh's own exit code, and also that of some command
# Where the commands that run now leave their pids, for signals.
PIDS = "/run/virtcpr-host"
ENTER = f'mkdir -p {PIDS}; echo $$ > {PIDS}/"$0"; cd /root; exec "$@"'
STRIKE = f'until [ -s {PIDS}/"$0" ]; do sleep 0.1; done; kill -"$1" "$(cat {PIDS}/"$0")"'


class Channel:
    """The connection of one machine; ``run`` has its socket."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def open(self, cgroup: Path | None, seconds: float) -> None:
        """Connect; the connection stays until the machine ends.  HostError: it doesn't answer in time."""
        enter = '[ -z "$1" ] || echo 0 > "$1/cgroup.procs"; shift; exec "$@"'
        patience = ("-o", f"ConnectTimeout={max(1, int(seconds))}")
        master = (*self._ssh(*patience, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes"), "true")
        (self.run / "channel").unlink(missing_ok=True)  # ssh makes none where that of an ended connection is left
        with (self.run / "channel.log").open("ab") as log:
            done = subprocess.run(
                ["sh", "-euc", enter, "sh", str(cgroup or ""), *master],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if done.returncode != 0:
            raise HostError(f"the host can't be reached: see {log.name} and console.log beside it")

    def close(self) -> None:
        subprocess.run([*self._ssh("-O", "exit")], stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def is_open(self) -> bool:
        check = subprocess.run([*self._ssh("-O", "check")], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return check.returncode == 0

    def exec(self, argv: Sequence[str]) -> int:
        """Run a command with this process's stdin, stdout, stderr; its exit status, shell style.

        Signals that reach this process go on to the command.
        """
        if not self.is_open():
            print("host: it isn't running: tests/host/host up", file=sys.stderr)
            return 125
        token = secrets.token_hex(8)
        terminal = all(os.isatty(number) for number in (0, 1))
        command = [*self._ssh(*(["-t"] if terminal else [])), self.line(token, argv)]
        child = subprocess.Popen(command, process_group=None if os.isatty(0) else 0)

        def forward(number: int, _frame: FrameType | None) -> None:
            name = signal.Signals(number).name.removeprefix("SIG")
            strike = shlex.join(["timeout", "20", "sh", "-c", STRIKE, token, name])
            subprocess.Popen([*self._ssh(), strike], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        for number in FORWARDED:
            signal.signal(number, forward)
        status = child.wait()
        if status == FAILED and not self.is_open():
            print("host: it has ended", file=sys.stderr)
            return 125
        return status if status >= 0 else 128 - status

    def quietly(self, script: str, stdin: IO[bytes] | None = None, seconds: float = 60) -> str:
        """The output of a shell's script; HostError with what it said where it fails."""
        try:
            done = subprocess.run(
                [*self._ssh(), shlex.join(["sh", "-euc", script])],
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HostError(f"on the host: not done in {seconds:.0f} s: {script}") from error
        if done.returncode != 0:
            raise HostError(f"on the host: exit {done.returncode}: {script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def line(self, token: str, argv: Sequence[str]) -> str:
        """The command as a shell on the host reads it; it leaves its pid under the token."""
        kept = {name: value for name, value in environment().items() if name not in ("PATH", "HOME")}
        return shlex.join(["env", *(f"{n}={v}" for n, v in kept.items()), "sh", "-c", ENTER, token, *argv])

    def _ssh(self, *options: str) -> list[str]:
        settings = {
            "ControlPath": self.run / "channel",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "EscapeChar": "none",
            "ServerAliveInterval": "0",
        }
        named = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", *named, *options, *self._way()]

    def _way(self) -> list[str]:
        """More options of ssh, and where it goes."""
        raise NotImplementedError


class EmulatedChannel(Channel):
    """To the emulated host; ``disk`` has the key that was made with it."""

    def __init__(self, disk: Path, run: Path) -> None:
        super().__init__(run)
        self.disk = disk

    def _way(self) -> list[str]:
        port = "0"
        with contextlib.suppress(OSError):
            port = (self.run / "port").read_text()
        settings = {
            "IdentityFile": self.disk / "key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.disk / "known_hosts",
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": "virtcpr-host",
            "StrictHostKeyChecking": "yes",
        }
        named = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return ["-F", "none", *named, "-p", port, "root@127.0.0.1"]
