"""``make picture``: docs/upgrade.svg, what a terminal shows of an upgrade in the lab; the same as text on stdout.

And docs/report.svg, the page of a report after that.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from tests.lab.support import browser, client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import LAB, Witness
from tests.lab.support.guests import OFFICE, SMALL
from tests.lab.support.machine import Lab, default_store
from tests.lab.support.reboots import define
from tests.paths import ROOT

PICTURE, PAGE = ROOT / "docs/upgrade.svg", ROOT / "docs/report.svg"
PAGE_WIDTH = 900
COLUMNS, LINES = 80, 24
QUESTION = b"[y/N] "
# One that was never prepared.
PLAIN = replace(SMALL, name="mail", number=30, serial="file")
UNPREPARED = r"<memoryBacking>.*?</memoryBacking>|<qemu:commandline>.*?</qemu:commandline>"
BROKEN = f"{EMULATOR}-broken"
# Its twin, in the rehearsal, has none.
NOT_WITH_A_NAME = f'#!/bin/sh\ncase "$*" in *guest=*) exit 1;; esac\nexec {EMULATOR} "$@"\n'
GUESTS = (replace(OFFICE, name="web"), replace(SMALL, name="db"))
# A cursor that moves, a line that is erased, a colour, the end of a line.
CONTROL = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\r|\n)")


def terminal(*argv: str) -> str:
    """Run a command in the lab on a terminal of its own, and say yes to its question; what stands there at the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen([str(LAB), "exec", *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while chunk := _read(ours):
        written += chunk
        if written.endswith(QUESTION):
            os.write(ours, b"y\n")
    if process.wait() != 0:
        raise client.LabCommandError(f"{argv}: {written.decode()}")
    return screen(written.decode())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # how Linux tells that nobody has the other side any more
        return b""


def screen(written: str) -> str:
    """What stands on a terminal that this was written to: as far as virtcpr goes, which draws lines and erases them."""
    lines, row = [""], 0
    for part in CONTROL.split(written):
        if part in ("\n", "\r\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not CONTROL.fullmatch(part) or part.endswith("m"):
            lines[row] += part
    return "\n".join(lines).rstrip()


def shown() -> Text:
    """The session: commands as they are typed, and what they write."""
    client.install_qemu("OLD")
    witness = Witness()
    for guest in GUESTS:
        client.start(guest)
    witness.watch(*GUESTS)
    client.install_qemu("NEW")
    text = Text()
    for command in ("list", "upgrade --all", "list"):
        text.append("# ", style="dim").append(f"virtcpr {command}\n", style="bold")
        text.append_text(Text.from_ansi(terminal("virtcpr", *command.split()))).append("\n")
    witness.close()
    return text


def svg(text: Text) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(text, end="")
    drawn = console.export_svg(title="virtcpr", unique_id="virtcpr")
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # fonts of a web site: a viewer has its own
    drawn = drawn.replace("<svg ", '<svg xml:space="preserve" ', 1)  # else some viewers drop spaces
    return "".join(f"{line.rstrip()}\n" for line in drawn.splitlines())


def reported() -> str:
    """The page, when these guests were moved a few times more, and one move has failed."""
    client.install_qemu("OLD")
    define(PLAIN, lambda xml: re.sub(UNPREPARED, "", xml, flags=re.DOTALL))
    client.virsh("start", PLAIN.name)
    client.install_qemu("NEW")
    for number in range(4):
        client.upgrade("web", *(["db"] if number % 2 else []), "--force")
    client.upgrade("db", "--force", "--mode", "reboot")
    client.shell(f"cat > {BROKEN}; chmod +x {BROKEN}", stdin=NOT_WITH_A_NAME)
    client.upgrade("db", "--force", "--emulator", BROKEN)
    client.run("virtcpr", "report", "--html", "/root/report.html")
    return client.run("cat", "/root/report.html").out


def main() -> int:
    lab = Lab(default_store())
    try:
        lab.reset()
        text = shown()
        page = reported()
    finally:
        lab.down()
    PICTURE.write_text(svg(text))
    PAGE.write_text(browser.svg(page, PAGE_WIDTH))
    print(text.plain)
    return 0


if __name__ == "__main__":
    sys.exit(main())
