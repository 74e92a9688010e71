"""What is seen while an upgrade runs, and that it never gets in the way."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence

import pytest
from rich.console import Console

from tests.contract.conftest import Cli, Tty
from tests.contract.fake import FakeBackend
from tests.paths import ROOT
from virtcpr.cli import log
from virtcpr.cli.output import display, progress
from virtcpr.cli.session import Session
from virtcpr.model import AWAY, BACK, Keeping, Progress, Result
from virtcpr.plan.steps import TRANSFER

STEPS = [step.name for step in TRANSFER]


def test_plain_lines_without_a_terminal(cli: Cli) -> None:
    assert cli("upgrade", "web", "-y").err == "virtcpr: web: hand-over\nvirtcpr: web: upgraded, pause 41 ms\n"


def test_quiet_shows_none(cli: Cli) -> None:
    outcome = cli("-q", "upgrade", "web", "-y")
    assert outcome.err == ""
    assert "upgraded" in outcome.out


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Progress("web", "spawn"), "virtcpr: web: spawn"),
        (
            Progress("web", "", Result.BLOCKED, text="RAM isn't\nshared"),
            "virtcpr: web: blocked: RAM isn't shared",
        ),
        (Progress("w\x1beb", "done", Result.UPGRADED, 1234.0), "virtcpr: w\\x1beb: upgraded, pause 1.2 s"),
        (Progress("web", "done", Keeping.SAVED), "virtcpr: web: saved"),
        (Progress("web", "done", Keeping.ROLLED_BACK, text="no room"), "virtcpr: web: rolled-back: no room"),
        (Progress("", "stop the daemon"), "virtcpr: host: stop the daemon"),
    ],
)
def test_plain(event: Progress, line: str) -> None:
    assert progress.plain(event) == line


def seen(domains: Sequence[str], *events: Progress, columns: int = 80, rows: int = 24) -> list[str]:
    """The lines of the live display after these events."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=columns, height=rows)
    shown = display.Display(console, domains)
    shown.hear(events)
    with console.capture() as capture:
        console.print(shown)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_display() -> None:
    events = [Progress("web", "spawn"), Progress("", "look"), Progress("web", "migrate", pause_ms=38.2)]
    web, db, total, host = seen(["web", "[b]db"], *events, Progress("[b]db", "", Result.BLOCKED, text="no"))
    assert web.split() == ["web", "migrate…", "pause", "38", "ms"]
    assert db.split() == ["[b]db", "blocked", "no"]
    assert total.split() == ["1", "of", "2", "domains", "0:00:00"]
    assert host == "host: look…"


@pytest.mark.parametrize("result", [*Result, *Keeping])
def test_the_display_has_a_place_for_every_result(result: Result | Keeping) -> None:
    (line, _) = seen(["web"], Progress("web", "done", result, text="why"))
    assert line.split() == ["web", result.value, "why"]


def test_a_long_name_is_cut_and_states_stay_readable() -> None:
    long = "a-very-long-domain-name-" + "x" * 60
    lines = seen(["web", long], Progress("web", "migrate", pause_ms=38.2), Progress(long, "", Result.ROLLED_BACK))
    assert lines[0].split() == ["web", "migrate…", "pause", "38", "ms"]
    assert lines[1].startswith("a-very-long-domain-name-")
    assert lines[1].split()[1:] == ["rolled-back"]
    assert "…" in lines[1].split()[0]
    assert max(map(len, lines)) <= 80


def test_sixty_domains_fit_on_a_terminal() -> None:
    """Those that are being moved are seen, and those that failed; of the rest, how many."""
    names = [f"guest{number:02d}" for number in range(60)]
    done = [Progress(name, "done", Result.UPGRADED, 40.0) for name in names[:40]]
    failed = Progress("guest40", "done", Result.ROLLED_BACK)
    moving = [Progress(name, "migrate") for name in names[50:54]]
    lines = seen(names, *done, failed, *moving)
    assert len(lines) <= 23
    for name in (*names[40:41], *names[50:54]):
        assert [line for line in lines if line.startswith(name)], name
    assert "… and 40 more: 40 upgraded" in lines
    assert lines[-1].split()[:4] == ["41", "of", "60", "domains"]
    assert "… and 40 more: 40 waiting" in seen(names)


def test_the_daemons_absence_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    since = time.strftime("%H:%M:%S", time.localtime(1000))
    assert seen(["web"], Progress("", AWAY))[-1] == f"libvirt's daemon is away since {since} (0 s)"
    assert "daemon" not in seen(["web"], Progress("", AWAY), Progress("", BACK))[-1]


def test_the_displays_clocks_go_on_without_events() -> None:
    drawn: list[int] = []
    with progress._drawing(lambda events: drawn.append(len(events)), 0.01):
        limit = time.monotonic() + 5
        while len(drawn) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
    assert len(drawn) >= 3


@pytest.mark.parametrize(("everything", "count"), [(False, 3), (True, len(STEPS) + 1)])
def test_without_a_terminal_there_are_few_lines(everything: bool, count: int) -> None:
    lines = progress.Lines(everything=everything)
    events = [*(Progress("web", step) for step in STEPS), Progress("web", "done", Result.UPGRADED, 41.0)]
    written = [progress.plain(event) for event in lines.chosen(events)]
    assert len(written) == count
    assert (written[0], written[-1]) == ("virtcpr: web: spawn", "virtcpr: web: upgraded, pause 41 ms")
    assert "virtcpr: web: commit" in written


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (("save", "--all", "-y"), ["web: saved", "mail: saved", "db: blocked", "lab: rolled-back"]),
        (("restore", "--all"), ["web: restored", "lab: waiting"]),
    ],
    ids=["save", "restore"],
)
def test_plain_lines_of_save_and_restore(cli: Cli, args: tuple[str, ...], seen: list[str]) -> None:
    said = cli(*args).err.splitlines()
    assert said[0] == "virtcpr: web: state"
    assert [line for line in seen if f"virtcpr: {line}" not in said] == []
    assert cli("-q", *args).err == ""


def test_a_stopped_terminal_does_not_stop_the_swap(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-S in the middle of the swap: the swap goes on, and its result comes."""
    monkeypatch.setattr(progress, "END_SECONDS", 0.2)
    monkeypatch.setattr(progress, "_print", lambda events: time.sleep(60))
    begun = time.monotonic()
    outcome = cli("upgrade", "web", "-y")
    assert time.monotonic() - begun < 5
    assert (outcome.code, "upgraded" in outcome.out) == (0, True)


def test_a_broken_display_does_not_break_the_swap(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(events: object) -> None:
        raise OSError("the terminal is gone")

    monkeypatch.setattr(progress, "_print", broken)
    assert cli("upgrade", "web", "-y").code == 0


def test_priorities_under_the_journal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert log.journald()
    assert cli("upgrade", "web", "-y").err.startswith("<6>virtcpr: web: hand-over\n<6>")
    assert cli("upgrade", "web").err.splitlines()[0] == "<3>virtcpr: error: there is no terminal to ask on"
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")  # inherited, but stderr leads elsewhere
    assert cli("upgrade", "web").err.startswith("virtcpr: error: ")


@pytest.mark.parametrize(
    ("term", "no_color", "option", "expected"),
    [
        ("xterm", "", False, True),
        ("xterm", "1", False, False),
        ("xterm", "", True, False),
        ("dumb", "", False, False),
        ("", "", False, False),
    ],
)
def test_colors(monkeypatch: pytest.MonkeyPatch, term: str, no_color: str, option: bool, expected: bool) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    session = Session(FakeBackend(), no_color=option)
    assert session.colors(Tty()) is expected
    assert not session.colors(io.StringIO())


class Terminal:
    """``tests.contract.terminal`` (virtcpr with a fake behind it) on a real pseudo-terminal."""

    def __init__(self, *args: str, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.terminal", *args],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            start_new_session=True,
        )
        signal.signal(signal.SIGHUP, before)
        os.close(theirs)
        self.seen = ""

    def read_until(self, text: str, seconds: float = 30) -> None:
        """Read until ``text`` was seen; "" means to the end."""
        limit = time.monotonic() + seconds
        while not text or text not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], max(0, limit - time.monotonic()))
            assert ready, f"{text!r} not seen in {self.seen!r}"
            try:
                got = os.read(self.ours, 65536)
            except OSError:  # EIO: the other end is closed
                got = b""
            if not got:
                assert not text, f"{text!r} not seen in {self.seen!r}"
                return
            self.seen += got.decode()

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> int:
        self.read_until("")
        os.close(self.ours)
        return self.process.wait(10)


def test_a_real_terminal() -> None:
    terminal = Terminal("upgrade", "--all")
    terminal.read_until("Move 1 domain now? libvirt's daemon is away meanwhile. [y/N] ")
    terminal.type("y\n")
    terminal.read_until("hand-over…")
    assert terminal.end() == 0
    result = terminal.seen.rpartition("DOMAIN")[2]
    assert re.search(r"web .*upgraded.*10\.0\.2 .*→ 10\.0\.13.*41 ms", result)
    assert "\x1b[1m" in terminal.seen
    assert "\x1b[?25h" in terminal.seen, "the cursor is shown again"


def test_a_save_on_a_real_terminal() -> None:
    terminal = Terminal("save", "--all")
    terminal.read_until("until 'virtcpr restore' is run. [y/N] ")
    terminal.type("y\n")
    terminal.read_until("state…")
    assert terminal.end() == 3
    result = terminal.seen.rpartition("DOMAIN")[2]
    assert re.search(r"web .*saved.*10\.0\.2 .*1\.5 MiB +in place", result)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_a_real_terminal_without_colors(environment: dict[str, str]) -> None:
    terminal = Terminal("upgrade", "--all", "--yes", **environment)
    assert terminal.end() == 0
    assert "upgraded" in terminal.seen
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.seen)
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_question(number: signal.Signals) -> None:
    terminal = Terminal("upgrade", "--all")
    terminal.read_until("[y/N] ")
    terminal.process.send_signal(number)
    assert terminal.end() == 130
    assert "virtcpr: error: interrupted" in terminal.seen
    assert "Traceback" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_background_of_a_script(number: signal.Signals) -> None:
    """A shell has such a command ignore Ctrl-C; it must not ignore the others for that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        terminal = Terminal("upgrade", "--all")
    finally:
        signal.signal(signal.SIGINT, before)
    terminal.read_until("[y/N] ")
    terminal.process.send_signal(number)
    assert terminal.end() == 130
    assert "virtcpr: error: interrupted" in terminal.seen


def test_nobody_reads_stdout() -> None:
    """``virtcpr list | head -0``: no traceback and no complaint at exit."""
    ours, theirs = os.pipe()
    os.close(ours)
    result = subprocess.run(
        [sys.executable, "-m", "tests.contract.terminal", "list"],
        cwd=ROOT,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(theirs)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">/dev/full", "<&-"])
def test_streams_that_are_closed(closing: str) -> None:
    command = f'exec "{sys.executable}" -m tests.contract.terminal upgrade web -y {closing}'
    result = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == (1 if "full" in closing else 0)
    assert "Traceback" not in result.stderr
    assert ("can't be written" in result.stderr) is ("full" in closing)


def test_a_locale_without_arrows() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.contract.terminal", "upgrade", "web", "-y"],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1) -> 10.0.13" in result.stdout
