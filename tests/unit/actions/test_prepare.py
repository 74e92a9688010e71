"""``prepare``: what is left of it where it writes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions import prepare
from virtcpr.errors import HostError

BEFORE = "<domain><graphics passwd='secret'/></domain>"


def gone() -> str:
    raise HostError("libvirt: Domain not found")


@pytest.mark.parametrize(
    ("persistent", "stored", "words"),
    [
        (lambda: BEFORE, lambda: "<domain/>", "its XML was changed meanwhile; nothing was written"),
        (lambda: None, gone, "its XML was changed meanwhile; nothing was written"),
        (gone, gone, "libvirt: Domain not found"),
    ],
    ids=["edited", "undefined while it runs", "undefined"],
)
@pytest.mark.parametrize("there", [True, False])
def test_no_backup_is_left_of_a_domain_that_was_changed_meanwhile(
    tmp_path: Path, persistent: object, stored: object, words: str, *, there: bool
) -> None:
    """It has secrets; somebody may have removed it."""
    backup = tmp_path / "web.xml"
    if there:
        backup.write_text(BEFORE)
    task: Any = SimpleNamespace(domain=SimpleNamespace(persistent_xml=persistent, stored_xml=stored), before=BEFORE)
    with pytest.raises(HostError, match=words):
        prepare._refuse_changed(task, backup)
    assert not backup.exists()


def test_one_that_is_as_before_keeps_its_backup(tmp_path: Path) -> None:
    backup = tmp_path / "web.xml"
    backup.write_text(BEFORE)
    domain = SimpleNamespace(persistent_xml=lambda: BEFORE, stored_xml=lambda: BEFORE)
    task: Any = SimpleNamespace(domain=domain, before=BEFORE)
    prepare._refuse_changed(task, backup)
    assert backup.exists()
