"""Whether libvirt's daemon may be stopped now: not in the middle of a domain's job."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.unit.support import facts
from virtcpr.actions.daemon import blackout
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process

DOMAIN = facts.domain()


@dataclass
class One:
    """A domain that libvirt listed as running; ``words``: it refuses to tell of its job."""

    kind: str | None = None
    words: str = ""
    runs: bool = True
    name: str = DOMAIN.name
    uuid: str = DOMAIN.uuid

    def job(self) -> str | None:
        if self.words:
            raise HostError(self.words)
        return self.kind

    def active(self) -> bool:
        return self.runs


def refuse(one: One, *stuck: str) -> None:
    class Listing:
        def domains(self, *, running: bool) -> list[One]:
            assert running
            return [one]

    blackout.refuse_jobs(cast(Connection, Listing()), stuck)


@pytest.fixture(autouse=True)
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(daemon, "STATE_DIR", tmp_path)
    path = tmp_path / f"{DOMAIN.name}.xml"
    path.write_text(DOMAIN.status_xml)
    return path


def test_without_a_job_it_may() -> None:
    refuse(One())


def test_a_job_that_libvirt_tells_of() -> None:
    with pytest.raises(HostError, match=r"libvirt is busy with d1 \(dump\); its daemon can't be stopped now"):
        refuse(One("dump"))


def test_a_job_that_only_its_record_tells_of(status: Path) -> None:
    assert "<blockjobs active='no'/>" in DOMAIN.status_xml
    status.write_text(DOMAIN.status_xml.replace("<blockjobs active='no'/>", "<blockjobs active='yes'/>"))
    with pytest.raises(HostError, match=r"busy with d1 \(a block job\)"):
        refuse(One())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_domain_that_has_ended_meanwhile_is_no_reason(status: Path, recorded: bool) -> None:
    """libvirt takes its record away, or says that it isn't running."""
    if not recorded:
        status.unlink()
    refuse(One(words="libvirt: Requested operation is not valid: domain is not running", runs=False))


@pytest.mark.parametrize("recorded", [True, False])
def test_one_that_runs_and_cannot_be_asked_is_a_reason(status: Path, recorded: bool) -> None:
    if not recorded:
        status.unlink()
    with pytest.raises(HostError, match="cannot acquire state change lock" if recorded else "can't be read"):
        refuse(One(words="libvirt: Timed out during operation: cannot acquire state change lock"))


def test_a_job_that_only_the_daemon_s_end_ends_is_no_reason() -> None:
    refuse(One(words="libvirt: Timed out during operation"), DOMAIN.uuid)


@pytest.mark.parametrize(("name", "refused"), [("guestfs-7vk1eo4x8ba1xnq2", True), ("guestfs-images", False)])
def test_an_appliance_of_libguestfs_would_be_ended(status: Path, name: str, *, refused: bool) -> None:
    status.rename(status.with_name(f"{name}.xml"))
    with pytest.raises(HostError, match=rf"libguestfs is at work \({name}\)") if refused else nullcontext():
        refuse(One(name=name))


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the daemon does, look by look; the last look is repeated."""
    looks: list[tuple[str, ...]] = []
    monkeypatch.setattr(daemon, "process", lambda: Process.of(os.getpid()))
    monkeypatch.setattr(blackout, "daemon_jobs", lambda _: looks.pop(0) if len(looks) > 1 else looks[0])
    return looks


def test_work_on_volumes_is_a_reason(busy: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """`vol-upload`, `vol-clone`: libvirt's API doesn't name them."""
    monkeypatch.setattr(blackout, "JOB_SECONDS", 0.1)
    busy.append(("transfers a volume", "runs qemu-img"))
    with pytest.raises(
        HostError, match=r"libvirt's daemon \(process \d+\) can't be stopped now: it transfers a volume, runs qemu-img"
    ) as why:
        refuse(One())
    assert why.value.hint == "wait until that is done (virsh vol-upload, vol-clone, …), then try again"


def test_work_that_ends_at_once_is_waited_for(busy: list[tuple[str, ...]]) -> None:
    busy += [("runs qemu-img",), ("runs qemu-img",), ()]
    refuse(One())


def test_a_daemon_that_cannot_be_seen_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> tuple[str, ...]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(daemon, "process", lambda: Process.of(os.getpid()))
    monkeypatch.setattr(blackout, "daemon_jobs", fails)
    with pytest.raises(HostError, match=r"what libvirt's daemon .* is doing can't be seen: Permission denied"):
        refuse(One())
