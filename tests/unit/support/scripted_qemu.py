#!/usr/bin/env python3
"""A peer that speaks QMP as QEMU 8.2 does, as far as virtcpr asks: no QEMU, and no guest is in it.

It is run as ``qemu … -chardev socket,id=…,fd=N …``; fd N is its monitor.  Its migrate-incoming has no argument
``exit-on-error`` (QEMU has it since 9.1): it refuses it, in QEMU's words.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

VERSION = {"qemu": {"major": 8, "minor": 2, "micro": 2}, "package": "scripted"}
SCHEMA = [
    {"name": "migrate-incoming", "meta-type": "command", "arg-type": "1"},
    {
        "name": "1",
        "meta-type": "object",
        "members": [{"name": "uri", "type": "str"}, {"name": "channels", "type": "2"}],
    },
    {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "3"},
    {"name": "3", "meta-type": "object", "members": [{"name": "mode", "type": "4"}]},
    {"name": "4", "meta-type": "enum", "values": ["normal", "cpr-reboot"]},
]
ANSWERS: dict[str, Any] = {
    "query-version": VERSION,
    "query-target": {"arch": "x86_64"},
    "query-qmp-schema": SCHEMA,
    "trace-event-get-state": [],
    "query-machines": [{"name": "pc-q35-8.2", "alias": "q35"}],
}


def answer(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if command == "migrate-incoming" and "exit-on-error" in arguments:
        return {"error": {"class": "GenericError", "desc": "Parameter 'exit-on-error' is unexpected"}}
    return {"return": ANSWERS.get(command, {})}


def main() -> None:
    number = next(word for word in map(re.compile(r"socket,.*fd=(\d+)").search, sys.argv) if word)
    with socket.socket(fileno=int(number[1])) as monitor:
        _say(monitor, {"QMP": {"version": VERSION, "capabilities": []}})
        for asked in _commands(monitor):
            told = answer(asked["execute"], asked.get("arguments", {}))
            _say(monitor, {**told, **({"id": asked["id"]} if "id" in asked else {})})


def _commands(monitor: socket.socket) -> Iterator[dict[str, Any]]:
    """Nothing need stand between two commands."""
    heard = ""
    while data := monitor.recv(1 << 16):
        heard += data.decode()
        while heard.strip():
            try:
                asked, end = json.JSONDecoder().raw_decode(heard.lstrip())
            except ValueError:  # not all of it is there
                break
            heard = heard.lstrip()[end:]
            yield asked


def _say(monitor: socket.socket, words: dict[str, Any]) -> None:
    monitor.sendall((json.dumps(words) + "\r\n").encode())


if __name__ == "__main__":
    main()
