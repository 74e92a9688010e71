"""``save`` and ``restore``: what they ask for, what they answer, and with which exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.reports import DISCARDED, RESTORED, SAVED, UUID
from tests.contract.schema import VALIDATOR, checked
from virtcpr.cli.output import keeping, layout, progress
from virtcpr.cli.output.text import size
from virtcpr.model import ExitCode, Keeping, KeptDomain, Request, RestoreReport, SaveReport, Watch

Golden = Callable[[str, str], None]
SAVE_QUESTION = "Save 3 domains now? Each is ended, and waits on disk until 'virtcpr restore' is run. [y/N] "
DISCARD_QUESTION = (
    "Give up the saved state of 1 domain now? The guest's state is lost, its disks stay as they are, and its next "
    "start is as after a power failure. [y/N] "
)


def test_save(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("-q", "save", "--all", "-y", backend=backend)
    golden("save.txt", outcome.out)
    assert outcome.code == 3
    assert backend.requests == [Request(every=True)]
    assert (backend.runs, backend.closed) == (1, 1)


def test_save_passes_on_the_request(cli: Cli) -> None:
    backend = FakeBackend()
    cli("-c", "qemu:///system", "save", "web", "7", "--suspend-guest", "--yes", backend=backend)
    assert backend.requests == [Request(("web", "7"), uri="qemu:///system", suspend=True)]


def test_restore(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("-q", "restore", "--all", backend=backend)
    golden("restore.txt", outcome.out)
    assert outcome.code == 3
    assert (backend.requests, backend.discards) == ([Request(every=True)], [False])
    assert (backend.runs, backend.closed) == (1, 1)


def test_restore_passes_on_the_request(cli: Cli) -> None:
    backend = FakeBackend(restored=DISCARDED)
    cli("-c", "qemu:///system", "restore", "web", "--emulator", "/opt/qemu", backend=backend)
    cli("restore", "web", "--discard", "-y", backend=backend)
    cli("restore", "web", "--disks-unchanged", backend=backend)
    assert backend.requests == [
        Request(("web",), uri="qemu:///system", emulator="/opt/qemu"),
        Request(("web",)),
        Request(("web",), disks_unchanged=True),
    ]
    assert backend.discards == [False, True, False]


@pytest.mark.parametrize("typed", [None, ""])
def test_restore_asks_nothing(cli: Cli, typed: str | None) -> None:
    backend = FakeBackend()
    outcome = cli("restore", "--all", backend=backend, typed=typed)
    assert "[y/N]" not in outcome.err
    assert backend.runs == 1


@pytest.mark.parametrize(("answer", "runs"), [("y\n", 1), ("n\n", 0), ("\n", 0), ("", 0)])
@pytest.mark.parametrize("output", ["table", "json"])
def test_save_asks(cli: Cli, golden: Golden, answer: str, runs: int, output: str) -> None:
    backend = FakeBackend()
    outcome = cli("--no-color", "-q", "save", "--all", "-o", output, backend=backend, typed=answer)
    assert outcome.err.endswith(f"\n{SAVE_QUESTION}")
    golden("save-outlook.txt", outcome.err.removesuffix(SAVE_QUESTION))
    assert (backend.runs, backend.closed) == (runs, 1)
    assert outcome.code == (3 if runs else 0)
    if output == "json":
        assert checked(outcome).get("notes") == (["libvirtd was busy"] if runs else ["nothing done"])
    elif not runs:
        assert outcome.out == "nothing done\n"


@pytest.mark.parametrize(("answer", "runs"), [("y\n", 1), ("n\n", 0), ("\n", 0), ("", 0)])
@pytest.mark.parametrize("output", ["table", "json"])
def test_discard_asks(cli: Cli, golden: Golden, answer: str, runs: int, output: str) -> None:
    backend = FakeBackend(restored=DISCARDED)
    outcome = cli("--no-color", "-q", "restore", "--all", "--discard", "-o", output, backend=backend, typed=answer)
    assert outcome.err.endswith(f"\n{DISCARD_QUESTION}")
    golden("discard-outlook.txt", outcome.err.removesuffix(DISCARD_QUESTION))
    assert (backend.runs, backend.closed) == (runs, 1)
    if output == "json":
        assert checked(outcome).get("notes") == (None if runs else ["nothing done"])
    elif not runs:
        assert (outcome.code, outcome.out) == (0, "nothing done\n")


def test_discard(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend(restored=DISCARDED)
    outcome = cli("-q", "restore", "--all", "--discard", "-y", backend=backend)
    golden("discard.txt", outcome.out)
    assert backend.runs == 1


@pytest.mark.parametrize("args", [("save", "web"), ("restore", "web", "--discard")], ids=["save", "discard"])
def test_nobody_to_ask(cli: Cli, args: tuple[str, ...]) -> None:
    backend = FakeBackend(restored=DISCARDED)
    outcome = cli(*args, backend=backend)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "virtcpr: error: there is no terminal to ask on\n  --yes goes ahead without asking\n"
    assert (backend.runs, backend.closed) == (0, 1)
    document = checked(cli(*args, "-o", "json", backend=backend))
    assert document["error"]["message"] == "there is no terminal to ask on"


@pytest.mark.parametrize("typed", [None, "n\n"])
@pytest.mark.parametrize("args", [("save", "--all"), ("restore", "--all", "--discard")], ids=["save", "discard"])
def test_where_all_is_blocked_nothing_is_asked(cli: Cli, args: tuple[str, ...], typed: str | None) -> None:
    blocked = (SAVED.domains[2],)
    backend = FakeBackend(
        saved=SaveReport(blocked, ExitCode.BLOCKED), restored=RestoreReport(blocked, ExitCode.BLOCKED)
    )
    outcome = cli(*args, backend=backend, typed=typed)
    assert outcome.code == 4
    assert "[y/N]" not in outcome.err
    assert "1 domain: 1 blocked" in outcome.out
    assert backend.runs == 1


@pytest.mark.parametrize("code", list(ExitCode))
def test_exit_code_is_the_reports(cli: Cli, code: ExitCode) -> None:
    backend = FakeBackend(saved=replace(SAVED, exit_code=code), restored=replace(RESTORED, exit_code=code))
    assert cli("save", "--all", "-y", backend=backend).code == code
    assert checked(cli("restore", "--all", "-o", "json", backend=backend))["exit_code"] == code


def test_nothing_there(cli: Cli) -> None:
    done = ExitCode.DONE
    backend = FakeBackend(saved=SaveReport((), done), restored=RestoreReport((), done))
    assert cli("save", "--all", backend=backend).out == "no running domains\n"
    assert cli("restore", "--all", backend=backend).out == "no saved domains\n"
    assert cli("restore", "--all", "--discard", backend=backend).out == "no saved domains\n"
    noted = FakeBackend(restored=RestoreReport((), done, notes=("it was done\nat boot",)))
    assert cli("restore", "--all", backend=noted).out == "it was done\nat boot\n"


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (("save", "--all", "-y"), ("web", "mail", "lab")),
        (("restore", "--all"), ("web", "lab")),
        (("restore", "--all", "--discard", "-y"), ("lab", UUID.format(3))),
    ],
    ids=["save", "restore", "discard"],
)
def test_the_display_has_a_line_for_what_is_done(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """Not for what is blocked; what has no name that could be read is known by its UUID."""
    seen = []

    @contextmanager
    def watching(session: object, domains: tuple[str, ...]) -> Iterator[Watch]:
        seen.append(domains)
        yield lambda event: None

    monkeypatch.setattr(progress, "watching", watching)
    restored = RESTORED
    if "--discard" in args:
        lab, unreadable = RESTORED.domains[1:]
        restored = replace(RESTORED, domains=(lab, replace(unreadable, result=Keeping.DISCARDED)))
    cli(*args, backend=FakeBackend(restored=restored))
    assert seen == [names]


def test_all_of_one_kind(cli: Cli) -> None:
    backend = FakeBackend(saved=SaveReport(SAVED.domains[:2], ExitCode.DONE))
    assert cli("save", "--all", "-y", backend=backend).out.endswith("2 domains: 2 saved\n")


def test_save_in_json(cli: Cli) -> None:
    document = checked(cli("save", "--all", "-y", "-o", "json"))
    web, mail, db, lab = document["domains"]
    assert (document["command"], document["notes"]) == ("save", ["libvirtd was busy"])
    assert "blackout_ms" not in document
    findings = web.pop("findings")
    assert [finding["code"] for finding in findings] == ["vnc-dropped"]
    assert web == {
        "name": "web",
        "uuid": UUID.format(1),
        "result": "saved",
        "qemu": "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)",
        "size": 1572864,
        "in_place": True,
        "saved_at": "2026-05-04T03:02:01+00:00",
        "phases": [{"name": "save", "ms": 41.235}],
    }
    assert (mail["size"], mail["in_place"]) == (4 << 30, False)
    assert (db["result"], db["size"], db["in_place"], db["saved_at"]) == ("blocked", None, None, None)
    assert lab["result"] == "rolled-back"


def test_restore_in_json(cli: Cli) -> None:
    document = checked(cli("restore", "--all", "-o", "json"))
    web, lab, unreadable = document["domains"]
    assert (document["command"], document["blackout_ms"]) == ("restore", 812.346)
    assert "notes" not in document
    assert (web["result"], web["phases"]) == ("restored", [{"name": "load", "ms": 12.346}])
    assert (lab["result"], lab["findings"][0]["code"]) == ("waiting", "refused")
    assert (unreadable["name"], unreadable["uuid"]) == (None, UUID.format(3))


@pytest.mark.parametrize("result", list(Keeping))
def test_every_result(cli: Cli, result: Keeping) -> None:
    domain = KeptDomain("web", UUID.format(1), result)
    backend = FakeBackend(saved=SaveReport((domain,), ExitCode.SOME), restored=RestoreReport((domain,), ExitCode.SOME))
    for args in (("save", "--all", "-y"), ("restore", "--all")):
        document = checked(cli(*args, "-o", "json", backend=backend))
        assert document["domains"][0]["result"] == result.value
        assert f"web     {result.value}" in cli(*args, backend=backend).out


@pytest.mark.parametrize("member", ["size", "in_place", "saved_at", "result"])
def test_the_schema_looks_at_what_was_kept(cli: Cli, member: str) -> None:
    document = cli("restore", "--all", "-o", "json").json
    assert VALIDATOR.is_valid(document)
    document["domains"][0][member] = "nonsense"
    assert not VALIDATOR.is_valid(document)


def test_a_narrow_terminal() -> None:
    drawn = layout.draw(keeping.save(SAVED), color=False, width=60)
    assert "web     saved        10.0.2   1.5 MiB     in place" in drawn


@pytest.mark.parametrize("name", ["w\x1b[31meb", "[b]web"])
def test_names_are_shown_not_obeyed(name: str) -> None:
    domain = KeptDomain(name, UUID.format(1), Keeping.SAVED, saved_at="2026-05-04T03:02:01\x1b[31m")
    for drawn in (keeping.save(SaveReport((domain,), ExitCode.DONE)), keeping.outlook((domain,))):
        shown = layout.draw(drawn, color=False, width=200)
        assert "\x1b" not in shown
        assert name.replace("\x1b", "\\x1b") in shown


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (4 << 30, "4.0 GiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes(number: int, said: str) -> None:
    assert size(number) == said


def test_help(cli: Cli) -> None:
    save, restore = (" ".join(cli(command, "--help").out.split()) for command in ("save", "restore"))
    assert "until virtcpr restore brings them back" in save
    assert "needs the guest agent" in save
    assert "Every running domain." in save
    assert "Every saved domain." in restore
    assert "its disks stay as they are, and its next start is as after a power failure" in restore
    assert "Another QEMU than the installed one." in restore
