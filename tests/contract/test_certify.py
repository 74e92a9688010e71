"""``certify``: what it asks for, its table, its JSON, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.schema import checked
from virtcpr.model import Candidates, CertifyReport, ExitCode, Mode, Request

Golden = Callable[[str, str], None]
PACKAGES = ("--package", "/tmp/a.deb", "--package", "/tmp/b.deb")


def test_the_table(cli: Cli, golden: Golden) -> None:
    """web and shop are alike."""
    backend = FakeBackend()
    outcome = cli("-c", "qemu:///system", "certify", "--all", *PACKAGES, backend=backend)
    golden("certify.txt", outcome.out)
    assert outcome.code == 4
    assert backend.requests == [Request(every=True, uri="qemu:///system")]
    assert backend.candidates == [Candidates(packages=("/tmp/a.deb", "/tmp/b.deb"))]


@pytest.mark.parametrize(
    ("args", "candidates"),
    [
        (("--emulator", "/opt/qemu"), Candidates(emulator="/opt/qemu")),
        (("--from-archive",), Candidates(archive=True)),
    ],
)
def test_where_the_candidate_comes_from(cli: Cli, args: tuple[str, ...], candidates: Candidates) -> None:
    backend = FakeBackend()
    cli("certify", "web", *args, "--mode", "live", backend=backend)
    assert backend.candidates == [candidates]
    assert backend.requests == [Request(("web",), mode=Mode.LIVE)]


def test_those_that_are_left_out(cli: Cli) -> None:
    backend = FakeBackend()
    cli("certify", "--all", "--exclude", "db*", "--exclude", "tag:test", "--from-archive", backend=backend)
    assert backend.requests == [Request(every=True, exclude=("db*", "tag:test"))]
    outcome = cli("certify", "web", "--exclude", "db", "--from-archive", backend=FakeBackend())
    assert (outcome.code, "--exclude needs --all" in outcome.err) == (2, True)


def test_those_that_do_not_run(cli: Cli) -> None:
    backend = FakeBackend()
    cli("certify", "--all", "--defined", "--from-archive", backend=backend)
    assert backend.requests == [Request(every=True, defined=True)]
    outcome = cli("certify", "web", "--defined", "--from-archive", backend=FakeBackend())
    assert (outcome.code, "--defined goes with --all" in outcome.err) == (2, True)


@pytest.mark.parametrize("args", [(), ("--emulator", "/opt/qemu", "--from-archive"), (*PACKAGES, "--from-archive")])
def test_one_candidate_at_a_time(cli: Cli, args: tuple[str, ...]) -> None:
    backend = FakeBackend()
    outcome = cli("certify", "--all", *args, backend=backend)
    assert outcome.code == 2
    assert "which QEMU? Give one of --emulator, --package and --from-archive" in outcome.err
    assert backend.requests == []


def test_in_json(cli: Cli) -> None:
    document = checked(cli("certify", "--all", "--from-archive", "-o", "json"))
    web, mail, shop, db, lab, tiny = document["domains"]
    assert document["packages"] == ["qemu-system-x86_1%3a10.0.13+ds-0+deb13u1_amd64.deb"]
    assert (web["result"], web["shape"], web["there"]) == ("go", 1, {"verdict": "go", "words": ""})
    assert web["back"] == {"verdict": "no-go", "words": "vmstate_load_state error -2"}
    assert shop["shape"] == web["shape"] != mail["shape"]
    assert (mail["there"]["verdict"], mail["back"]) == ("no-go", None)
    assert (db["result"], db["mode"], db["there"]) == ("blocked", None, None)
    assert (lab["result"], tiny["result"], tiny["defined"]) == ("current", "unsure", True)


def test_nothing_newer(cli: Cli) -> None:
    nothing = CertifyReport((), ExitCode.DONE, notes=("apt has nothing newer than what is installed for /usr/bin/x",))
    outcome = cli("certify", "--all", "--from-archive", backend=FakeBackend(certified=nothing))
    assert (outcome.code, outcome.out) == (0, "apt has nothing newer than what is installed for /usr/bin/x\n")


def test_no_domains(cli: Cli) -> None:
    outcome = cli("certify", "--all", "--from-archive", backend=FakeBackend(certified=CertifyReport((), ExitCode.DONE)))
    assert (outcome.code, outcome.out) == (0, "no running domains\n")
