"""What libvirt's hooks do: no second start of a guest that runs or is saved, and its RAM for a restored one."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from virtcpr.actions.records import pending_strips, saves
from virtcpr.domain import restart
from virtcpr.host.libvirt import hooks

DAEMON, QEMU = "daemon.d/virtcpr", "qemu.d/virtcpr"
UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"
OTHER = UUID[:-1] + "2"


def run(tmp_path: Path, place: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A hook as libvirt calls it, traced, with its /run elsewhere."""
    hooks.install(tmp_path)
    path = tmp_path / place
    moved = path.read_text().replace("/run/virtcpr", str(tmp_path / "run"))
    path.write_text(moved.replace("/var/lib/virtcpr", str(tmp_path / "lib")))
    return subprocess.run(["sh", "-x", str(path), *arguments], input=stdin, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("operation", ["start", "shutdown", "reload"])
def test_without_a_journal_it_starts_nothing(tmp_path: Path, operation: str) -> None:
    trace = run(tmp_path, DAEMON, "-", operation, "-", operation)
    assert (trace.returncode, trace.stdout) == (0, "")
    assert "recover" not in trace.stderr
    assert "flock" not in trace.stderr


OPERATIONS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach")


def hold(tmp_path: Path, name: str, uuid: str = UUID) -> Path:
    path = tmp_path / "run/held" / uuid / f"{name}.xml"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def start(tmp_path: Path, name: str, uuid: str = UUID) -> subprocess.CompletedProcess[str]:
    """`virsh start` or `create`, up to the hook."""
    return run(tmp_path, QEMU, name, "prepare", "begin", "-", stdin=xml(number=None).replace(UUID, uuid))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_is_refused_where_nothing_is_held(tmp_path: Path, operation: str) -> None:
    """Nor is anything answered: what `migrate` and `restore` answer would become the domain's XML."""
    done = run(tmp_path, QEMU, "web", operation, "begin", "-", stdin="<domain/>")
    assert (done.returncode, done.stdout) == (0, "")


REFUSED = "runs already: an interrupted swap has moved libvirt's record of it away; run: virtcpr recover"


@pytest.mark.parametrize(
    ("name", "uuid"),
    [("my web $HOME", UUID), ("renamed", UUID), ("my web $HOME", OTHER)],
    ids=["as it was", "after virsh domrename", "a transient domain with another UUID"],
)
def test_a_second_start_of_a_guest_that_runs_is_refused(tmp_path: Path, name: str, uuid: str) -> None:
    hold(tmp_path, "my web $HOME")
    done = start(tmp_path, name, uuid)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"virtcpr: {name} {REFUSED} {UUID}" in done.stderr.splitlines()


@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_only_the_start_is_refused(tmp_path: Path, operation: str) -> None:
    """A hook that fails at `reconnect` would have libvirt kill the guest."""
    hold(tmp_path, "web")
    assert run(tmp_path, QEMU, "web", operation, "begin", "-", stdin=xml()).returncode == 0


def test_another_domain_may_start(tmp_path: Path) -> None:
    hold(tmp_path, "web")
    assert start(tmp_path, "we", OTHER).returncode == 0
    done = run(tmp_path, QEMU, "we", "prepare", "begin", "-", stdin="<domain/>")
    assert done.returncode == 1
    assert "virtcpr: we isn't started, as its guest may run already: libvirt's XML of it has no UUID" in done.stderr


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("run/held", "as its guest may run already"),
        (f"run/held/{OTHER}", "as its guest may run already"),
        (f"lib/saved/{UUID}", "as it may be saved"),
    ],
)
def test_what_cannot_be_seen_is_not_taken_for_nothing(tmp_path: Path, path: str, why: str) -> None:
    """EACCES, such as by AppArmor or SELinux; here ELOOP, which root gets, too."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).symlink_to(tmp_path / path)
    done = start(tmp_path, "web")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(rf"^virtcpr: web isn't started, {why}: ls: .*levels of symbolic links$", done.stderr, re.MULTILINE)


def test_without_ls_nothing_is_certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "cat", "grep", "id"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    done = start(tmp_path, "web")
    assert done.returncode == 1
    assert "virtcpr: web isn't started, as its guest may run already: " in done.stderr


def test_a_restore_whose_kept_ram_cannot_be_seen(tmp_path: Path) -> None:
    """It would start with blank RAM."""
    (tmp_path / "run/starting" / UUID).mkdir(parents=True)
    assert run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=xml()).returncode == 0
    done = run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=WAITS)
    assert done.returncode == 1
    assert "virtcpr: web isn't started, as its RAM may be kept: head: " in done.stderr


def test_a_user_s_own_daemon_looks_at_its_own(tmp_path: Path) -> None:
    """Root's directories, which it can't read, keep nobody else's domain from starting."""
    hold(tmp_path, "web")
    hooks.install(tmp_path)
    path = tmp_path / QEMU
    text = path.read_text().replace("/run/virtcpr", str(tmp_path / "run")).replace("/run/user", str(tmp_path / "user"))
    path.write_text(text.replace("$(id -u)", "1500"))
    command = ["sh", str(path), "web", "prepare", "begin", "-"]
    assert subprocess.run(command, input=xml(), text=True, check=False).returncode == 0
    hold(tmp_path / "user/1500/virtcpr/..", "web").parent.parent.parent.rename(tmp_path / "user/1500/virtcpr")
    assert subprocess.run(command, input=xml(), text=True, check=False).returncode == 1


@pytest.mark.parametrize("directory", ["journal", "leftovers"])
def test_a_journal_that_cannot_be_seen_is_looked_at_by_virtcpr(tmp_path: Path, directory: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / directory).symlink_to(directory)
    assert "flock" in run(tmp_path, DAEMON, "-", "start", "-", "start").stderr


# Saved guests: neither started afresh, nor with blank RAM.

NS = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def xml(*words: str, number: int | None = 3, more: str = "") -> str:
    """As libvirt writes it for a hook."""
    arguments = "".join(f"    <qemu:arg value='{word}'/>\n" for word in words)
    line = f"  <qemu:commandline>\n{arguments}  </qemu:commandline>\n" if words else ""
    attribute = "" if number is None else f" id='{number}'"
    return (
        f"<domain type='kvm'{attribute} {NS}>\n  <name>web</name>\n  <uuid>{UUID}</uuid>\n"
        "  <metadata>\n    <x uuid='no'/>\n    <uuid>other</uuid>\n  </metadata>\n"
        f"{more}  <devices/>\n{line}</domain>\n"
    )


WAITS = xml("-incoming", "defer")


def saved(tmp_path: Path, name: str = "record.json") -> None:
    directory = tmp_path / "lib/saved" / UUID
    directory.mkdir(parents=True, exist_ok=True)
    if name:
        (directory / name).touch()


def announced(tmp_path: Path, kept: str = "") -> None:
    (tmp_path / "run/starting").mkdir(parents=True, exist_ok=True)
    (tmp_path / "run/starting" / UUID).write_text(f"{kept}\n")


def test_the_hooks_know_where_it_is() -> None:
    text = (ROOT / "hooks/libvirt-qemu").read_text()
    assert f"{saves.DIRECTORY}/" in text
    assert all(name in text for name in (saves.RECORD, saves.STATE))
    assert str(pending_strips.DIRECTORY) in (ROOT / "hooks/libvirt-daemon").read_text()


@pytest.mark.parametrize("file", [saves.RECORD, saves.STATE])
def test_a_saved_guest_is_not_started_afresh(tmp_path: Path, file: str) -> None:
    saved(tmp_path, file)
    done = run(tmp_path, QEMU, "web", "prepare", "begin", "-", stdin=xml(number=None))
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        "virtcpr: web is saved: to bring it back, run: virtcpr restore 'web'; "
        "to give up its state and start it afresh, run: virtcpr restore --discard 'web'" in done.stderr.splitlines()
    )


def test_it_is_started_by_restore(tmp_path: Path) -> None:
    saved(tmp_path)
    announced(tmp_path)
    assert run(tmp_path, QEMU, "web", "prepare", "begin", "-", stdin=WAITS).returncode == 0


def test_nobody_slips_in_while_restore_starts_it(tmp_path: Path) -> None:
    """`virsh start`, between the announcement and libvirt's own lock: it would boot in the guest's RAM."""
    saved(tmp_path)
    announced(tmp_path, str(tmp_path / "ram/virtcpr-x"))
    assert run(tmp_path, QEMU, "web", "prepare", "begin", "-", stdin=xml()).returncode == 1
    assert run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=xml()).returncode == 0
    assert not (tmp_path / "ram").exists()


def test_a_directory_with_nothing_in_it_keeps_nobody_from_starting(tmp_path: Path) -> None:
    saved(tmp_path, "")
    assert run(tmp_path, QEMU, "web", "prepare", "begin", "-", stdin=xml()).returncode == 0


def test_another_domain_may_be_started(tmp_path: Path) -> None:
    saved(tmp_path)
    other = xml().replace(UUID, OTHER)
    assert run(tmp_path, QEMU, "web", "prepare", "begin", "-", stdin=other).returncode == 0


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """RAM that was kept, and the directory that libvirt has made; and some that a crash of the host left."""
    found = tmp_path / "ram" / f"virtcpr-{UUID}"
    found.mkdir(parents=True)
    for name in ("pc.ram", "dimm0"):
        (found / name).write_text(f"guest's {name}")
    for name in ("3-a stale one", "3-we", "3-web", "3-z", "13-web"):
        (tmp_path / "ram" / name).mkdir()
    announced(tmp_path, str(found))
    return found


def test_the_new_domain_gets_its_ram(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "ram/3-web/pc.ram").write_text("left by a crash")
    done = run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=WAITS)
    assert (done.returncode, done.stdout) == (0, "")
    for name in ("pc.ram", "dimm0"):
        assert (tmp_path / "ram/3-web" / name).samefile(kept / name)
    assert [path.parent.name for path in tmp_path.glob("ram/*-*/*.ram")].count("3-web") == 1
    assert sorted(path.parent.name for path in tmp_path.glob("ram/*/pc.ram")) == ["3-web", kept.name]


def test_a_long_name_is_cut_short(tmp_path: Path, kept: Path) -> None:
    name = "a-name-of-more-than-twenty"
    (tmp_path / "ram" / f"3-{name[:20]}").mkdir()
    assert run(tmp_path, QEMU, name, "start", "begin", "-", stdin=WAITS).returncode == 0
    assert (tmp_path / "ram" / f"3-{name[:20]}/pc.ram").samefile(kept / "pc.ram")


def test_without_a_directory_for_its_ram_it_is_not_started(tmp_path: Path, kept: Path) -> None:
    """It would start with blank RAM."""
    (tmp_path / "ram/3-web").rmdir()
    (tmp_path / "ram/3-we").rmdir()
    done = run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=WAITS)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f"virtcpr: web isn't started: libvirt has made no directory for its RAM in {tmp_path}/ram"
        in done.stderr.splitlines()
    )


def test_a_directory_of_the_new_domain_that_is_a_link(tmp_path: Path, kept: Path) -> None:
    """QEMU's user may write there: root would put files into any directory."""
    (tmp_path / "etc").mkdir()
    for name in ("3-web", "3-we"):
        (tmp_path / "ram" / name).rmdir()
    (tmp_path / "ram/3-web").symlink_to(tmp_path / "etc")
    done = run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=WAITS)
    assert done.returncode == 1
    assert f"virtcpr: web isn't started: {tmp_path}/ram/3-web isn't libvirt's directory" in done.stderr.splitlines()
    assert list((tmp_path / "etc").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_kept_ram_that_is_not_roots(tmp_path: Path, kept: Path) -> None:
    os.chown(kept, 65534, 65534)
    done = run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=WAITS)
    assert done.returncode == 1
    assert f"virtcpr: web isn't started: {kept} isn't owned by root" in done.stderr.splitlines()
    assert list((tmp_path / "ram/3-web").iterdir()) == []


def test_kept_ram_that_is_gone(tmp_path: Path, kept: Path) -> None:
    for path in kept.iterdir():
        path.unlink()
    assert run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=WAITS).returncode == 1


@pytest.mark.parametrize("stdin", [WAITS, xml(), ""])
def test_a_start_with_nothing_kept(tmp_path: Path, stdin: str) -> None:
    announced(tmp_path)
    assert run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=stdin).returncode == 0
    (tmp_path / "run/starting" / UUID).unlink()
    assert run(tmp_path, QEMU, "web", "start", "begin", "-", stdin=stdin).returncode == 0


@pytest.mark.parametrize("operation", ["restore", "migrate"])
@pytest.mark.parametrize("own", [(), ("-machine", "aux-ram-share=on"), ("-name", "it's &lt;x&gt; \\n %s")])
def test_what_made_it_wait_goes_into_no_save_or_migration(tmp_path: Path, operation: str, own: tuple[str, ...]) -> None:
    own = tuple(word.replace("'", "&apos;") for word in own)
    for words in ((*own, "-incoming", "defer"), ("-incoming", "defer", *own)):
        done = run(tmp_path, QEMU, "web", operation, "begin", "-", stdin=xml(*words))
        assert done.returncode == 0
        assert not restart.waits(done.stdout)
        left = done.stdout.replace("  <qemu:commandline>\n  </qemu:commandline>\n", "")
        assert left == xml(*own)


@pytest.mark.parametrize("operation", ["restore", "migrate"])
@pytest.mark.parametrize("words", [(), ("-machine", "x"), ("-foo", "defer")])
def test_another_document_is_not_answered(tmp_path: Path, operation: str, words: tuple[str, ...]) -> None:
    done = run(tmp_path, QEMU, "web", operation, "begin", "-", stdin=xml(*words))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("operation", ["prepare", "start", "restore", "migrate", "stopped"])
def test_a_big_document_takes_no_time(tmp_path: Path, operation: str) -> None:
    more = "  <description>\n" + "    some text of it, and some more\n" * 30_000 + "  </description>\n"
    big = xml("-incoming", "defer", more=more)
    assert len(big) > 1_000_000
    saved(tmp_path)
    announced(tmp_path)
    begun = time.monotonic()
    done = run(tmp_path, QEMU, "web", operation, "begin", "-", stdin=big)
    assert time.monotonic() - begun < 1
    assert done.returncode == 0
