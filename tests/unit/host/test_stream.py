"""The state's way between QEMU and a file, through real pipes."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.qemu import stream
from virtcpr.host.qemu.stream import Digest, Stream, digest

SIZE = (5 << 20) + 3  # more than a pipe holds, and no multiple of anything


def content() -> bytes:
    return bytes(range(251)) * (SIZE // 251 + 1)


def handed(one: Stream) -> int:
    """QEMU's copy of its end; ours is closed."""
    end = os.dup(one.theirs)
    one.given()
    one.given()
    return end


def test_out_to_a_new_file_that_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    one = Stream(path, out=True)
    with os.fdopen(handed(one), "wb") as theirs:
        theirs.write(content())
    assert one.end() == Digest(len(content()), hashlib.sha256(content()).hexdigest())
    assert path.read_bytes() == content()
    assert path.stat().st_mode & 0o777 == 0o600
    assert digest(path) == one.end()


def test_out_over_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(bytes(100))
    one = Stream(path, out=True)
    with os.fdopen(handed(one), "wb") as theirs:
        theirs.write(b"short")
    assert one.end().size == 5
    assert path.read_bytes() == b"short"


def test_in_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(content())
    one = Stream(path, out=False)
    with os.fdopen(handed(one), "rb") as theirs:
        assert theirs.read() == content()
    assert one.end() == digest(path)


def test_a_reader_that_goes_away_is_told_by_what_went_through(tmp_path: Path) -> None:
    """QEMU's own words say why: it is no error of the file."""
    path = tmp_path / "state"
    path.write_bytes(content())
    one = Stream(path, out=False)
    end = handed(one)
    assert len(os.read(end, 1000)) == 1000
    os.close(end)
    assert one.end() != digest(path)


def test_nothing_at_all(tmp_path: Path) -> None:
    one = Stream(tmp_path / "state", out=True)
    one.given()
    assert one.end() == Digest(0, hashlib.sha256().hexdigest())


def test_storage_that_is_full() -> None:
    """QEMU notices: nobody reads its pipe any more."""
    one = Stream(Path("/dev/full"), out=True)
    with pytest.raises(BrokenPipeError):
        _fill(handed(one))
    with pytest.raises(HostError, match=r"^/dev/full can't be written: No space left on device$"):
        one.end()


def _fill(end: int) -> None:
    with os.fdopen(end, "wb", buffering=0) as theirs:
        for _ in range(100):
            theirs.write(bytes(1 << 16))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"state can't be opened: No such file"):
        Stream(tmp_path / "state", out=False)
    one = Stream(tmp_path, out=False)  # a directory can be opened, not read
    one.given()
    with pytest.raises(HostError, match=f"^{re.escape(str(tmp_path))} can't be read: Is a directory$"):
        one.end()
    with pytest.raises(HostError, match="can't be read"):
        digest(tmp_path / "state")


@pytest.mark.parametrize("out", [True, False])
def test_a_link_is_not_followed(tmp_path: Path, out: bool) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "state").symlink_to(tmp_path / "theirs")
    with pytest.raises(HostError, match="can't be opened"):
        Stream(tmp_path / "state", out=out)
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize("out", [True, False])
def test_a_qemu_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: bool) -> None:
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.4)
    path = tmp_path / "state"
    path.write_bytes(content())
    one = Stream(path, out=out)
    end = handed(one)
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"state: no data moved for 0\.4 s$"):
        one.end()
    assert 0.4 <= time.monotonic() - begun < 5
    os.close(end)
    one.end()  # its thread ends with QEMU


def test_one_that_is_slow_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALL_SECONDS", 1.0)
    one = Stream(tmp_path / "state", out=True)

    def write(end: int) -> None:
        with os.fdopen(end, "wb", buffering=0) as theirs:
            for _ in range(8):
                theirs.write(b"x")
                time.sleep(0.25)

    slow = threading.Thread(target=write, args=[handed(one)])
    slow.start()
    assert one.end().size == 8
    slow.join()


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        one = Stream(tmp_path / "state", out=True)
        os.close(handed(one))
        one.end()
    assert len(os.listdir("/proc/self/fd")) == before
