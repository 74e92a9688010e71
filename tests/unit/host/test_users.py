"""Which files a user of the host may open, by their mode."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from virtcpr.host.system import users

NOBODY = pwd.getpwnam("nobody")


@pytest.mark.parametrize(
    ("owner", "group", "mode", "may"),
    [
        (NOBODY.pw_uid, 0, 0o600, True),
        (NOBODY.pw_uid, 0, 0o466, False),  # the owner's own bits decide
        (0, NOBODY.pw_gid, 0o060, True),
        (0, NOBODY.pw_gid, 0o646, False),
        (0, 0, 0o666, True),
        (0, 0, 0o660, False),
    ],
)
def test_what_the_mode_says(monkeypatch: pytest.MonkeyPatch, owner: int, group: int, mode: int, may: bool) -> None:
    status = SimpleNamespace(st_uid=owner, st_gid=group, st_mode=mode)
    monkeypatch.setattr(os, "stat", lambda _: status)  # only root could give files to others
    assert users.may_open("nobody", "/dev/dax0.0") is may


def test_what_is_missing(tmp_path: Path) -> None:
    assert not users.exists("nobody-of-that-name")
    assert not users.may_open("nobody-of-that-name", "/dev/null")
    assert not users.may_open("root", str(tmp_path / "gone"))
