"""Domains as other tools write them, checked from their XML alone: which modes are ready, and what is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from virtcpr.actions.check import check_document
from virtcpr.model import CheckReport, Mode

CASES = Path(__file__).parent / "cases"


class Backend(FakeBackend):
    """Reads the XML for real."""

    def check_document(self, source: str, mode: Mode | None) -> CheckReport:
        return check_document(source, mode)


# File → (transfer, reboot, the findings that concern either mode).
EXPECTED = {
    "virtiofs": ("ready", "ready", set()),
    "virtiofs-external": ("blocked", "blocked", {"virtiofs-external"}),
    "vnc-websocket-keymap": ("ready", "ready", set()),
    "spice-idle-redirdev": ("ready", "ready", {"redirdev-spice"}),
    "migratable-off": ("blocked", "blocked", {"invtsc"}),
    "cpu-argument-invtsc": ("blocked", "blocked", {"invtsc"}),
    "hostdev-s3-off": ("ready", "blocked", {"hostdev-s3", "hostdev-moves"}),
    "passt": ("ready", "ready", set()),
    "tpm": ("ready", "ready", set()),
    "tpm-encrypted": ("blocked", "ready", {"tpm"}),
    "tpm-external": ("blocked", "blocked", {"tpm-external"}),
    "shmem-master": ("ready", "ready", set()),
    "vdagent": ("ready", "ready", {"vdagent"}),
    "9p": ("ready", "ready", {"filesystem"}),
}


def test_every_case_has_its_value() -> None:
    assert {path.stem for path in CASES.glob("*.xml")} == EXPECTED.keys() | {"two-documents"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_case(cli: Cli, name: str) -> None:
    transfer, reboot, codes = EXPECTED[name]
    outcome = cli("check", "--xml", str(CASES / f"{name}.xml"), "-o", "json", backend=Backend())
    (domain,) = outcome.json["domains"]
    assert (domain["modes"]["transfer"], domain["modes"]["reboot"]) == (transfer, reboot)
    assert {f["code"] for f in domain["findings"] if {"transfer", "reboot"} & set(f["modes"])} == codes
    remedies = [f["remedy"] for f in domain["findings"] if f["severity"] == "blocker" and "transfer" in f["modes"]]
    promised = [remedy for remedy in remedies if "--mode reboot" in remedy]
    assert promised == (remedies if reboot == "ready" else [])


def test_two_documents_in_a_file(cli: Cli) -> None:
    outcome = cli("check", "--xml", str(CASES / "two-documents.xml"), backend=Backend())
    assert outcome.code == 1
    assert "something follows the end of the XML (line 2)" in outcome.err
    assert "put each domain's XML in a file of its own" in outcome.err


def test_an_alias_of_a_machine_type_gets_its_version_when_it_is_defined(cli: Cli, tmp_path: Path) -> None:
    one = tmp_path / "one.xml"
    one.write_text((CASES / "two-documents.xml").read_text().splitlines()[0])
    outcome = cli("check", "--xml", str(one), "-o", "json", backend=Backend())
    assert "machine-unversioned" not in {f["code"] for f in outcome.json["domains"][0]["findings"]}
    one.write_text(one.read_text().replace("'q35'", "'microvm'"))
    outcome = cli("check", "--xml", str(one), "-o", "json", backend=Backend())
    assert "machine-unversioned" in {f["code"] for f in outcome.json["domains"][0]["findings"]}
