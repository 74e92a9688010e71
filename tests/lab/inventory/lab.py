"""Ansible's way into a lab: a connection plugin.  The host's variable ``ansible_lab`` is the lab's store."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: lab
short_description: commands in a lab
description: Runs commands in a lab of virtcpr's tests.
author: The virtcpr developers
options:
  store:
    description: The lab's store.
    vars: [{name: ansible_lab}]
  program:
    description: The lab's program.
    vars: [{name: ansible_lab_program}]
"""


class Connection(ConnectionBase):  # type: ignore[misc]
    transport = "lab"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def _argv(self, *command: str) -> list[str]:
        return [self.get_option("program"), "exec", *command]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "VIRTCPR_LAB": self.get_option("store")}

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            self._argv("sh", "-c", cmd), input=in_data or b"", capture_output=True, env=self._environment(), check=False
        )
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        with Path(in_path).open("rb") as source:
            command = self._argv("sh", "-c", f"cat > {shlex.quote(out_path)}")
            subprocess.run(command, stdin=source, env=self._environment(), check=True)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        with Path(out_path).open("wb") as target:
            subprocess.run(self._argv("cat", in_path), stdout=target, env=self._environment(), check=True)

    def close(self) -> Any:
        pass
