"""The scripts of the packages: what they do to hooks and records, and for whom they wait."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.paths import ROOT
from virtcpr.actions.records import journal, pending_strips, quarantine, saves
from virtcpr.host.libvirt import hooks

UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"
DEBIAN, PACKAGES = ROOT / "debian", ROOT / "packages"
SPEC = PACKAGES / "rpm/virtcpr.spec"

# /run, /var/lib and /etc are elsewhere.

STUBS = ("virtcpr", "deb-systemd-invoke", "systemctl")
LIBEXEC = re.compile(r"/usr/lib(?:exec)?/virtcpr/(\w+)")


class Host:
    """Directories in place of the system's, and programs that only note that they were run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run, self.lib = root / "run/virtcpr", root / "var/lib/virtcpr"
        self.calls = root / "calls"
        self.hooks = root / "etc/libvirt/hooks"
        for directory in (self.run, self.lib, root / "run/systemd/system", root / "bin"):
            directory.mkdir(parents=True)
        for place in ("daemon.d", "qemu.d"):
            (self.hooks / place).mkdir(parents=True)
            (self.hooks / place / "virtcpr").touch()
        for name in STUBS:
            self.stub(name)
        self.calls.touch()
        (root / "bin/pidof").write_text("#!/bin/sh\nexit 1\n")
        (root / "bin/pidof").chmod(0o755)

    def stub(self, name: str, then: str = "") -> None:
        """A program that notes that it was run, and maybe does something then."""
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{then}\n')
        path.chmod(0o755)

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.shell((DEBIAN / f"virtcpr.{name}").read_text(), *arguments)

    def quiesce(self) -> subprocess.CompletedProcess[str]:
        return self.shell((PACKAGES / "quiesce").read_text())

    def rpm(self, name: str, count: int) -> subprocess.CompletedProcess[str]:
        """A scriptlet of the rpm package; ``count``: how many of its versions are installed after it."""
        text = SPEC.read_text().partition(f"\n%{name}\n")[2].partition("\n\n")[0]
        text = re.sub(r"^%systemd_.*", "", text, flags=re.MULTILINE)
        return self.shell(text.replace("%{_libexecdir}", "/usr/libexec").replace("%{_sysconfdir}", "/etc"), str(count))

    def pacman(self, name: str) -> subprocess.CompletedProcess[str]:
        return self.shell(f"{(PACKAGES / 'arch/virtcpr.install').read_text()}\n{name}")

    def shell(self, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A script with the system's directories and programs elsewhere."""
        quiesce = self.root / "bin/quiesce"
        if not quiesce.exists():
            quiesce.touch(mode=0o755)
            quiesce.write_text(self._moved((PACKAGES / "quiesce").read_text()))
        script = self.root / "script"
        script.write_text(self._moved(text))
        path = f"{self.root}/bin:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", str(script), *arguments],
            env={"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _moved(self, text: str) -> str:
        text = text.replace("-w 600", "-w 0")
        for directory in ("/run/", "/var/lib/virtcpr", "/etc/libvirt"):
            text = re.sub(rf"(?<![\w.}}]){directory}", str(self.root) + directory, text)
        return LIBEXEC.sub(
            lambda found: f"{self.root}/bin/quiesce" if found[1] == "quiesce" else f"virtcpr {found[1]}", text
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def files(self) -> list[str]:
        below = [path for part in ("run/virtcpr", "var") for path in (self.root / part).rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self.root)) for path in below)

    def touch(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.fixture
def debian(tmp_path: Path) -> Host:
    return Host(tmp_path)


# What only virtcpr can recover or restore.
NEEDED = (
    f"run/virtcpr/journal/{UUID}.json",
    f"run/virtcpr/held/{UUID}/web.xml",
    f"run/virtcpr/leftovers/{UUID}.json",
    f"var/lib/virtcpr/saved/{UUID}/record.json",
    f"var/lib/virtcpr/saved/{UUID}/state",
)
OTHERS = (
    "run/virtcpr/lock",
    "run/virtcpr/pending",
    "run/virtcpr/rehearsals.json",
    "var/lib/virtcpr/history.jsonl",
    "var/lib/virtcpr/xml/web.xml",
)


def test_the_scripts_know_where_it_is() -> None:
    for directory in (journal.DIRECTORY, quarantine.DIRECTORY, pending_strips.DIRECTORY, saves.DIRECTORY):
        for script in ("prerm", "postrm"):
            assert f"{directory}/*" in (DEBIAN / f"virtcpr.{script}").read_text()


def test_a_purge_leaves_nothing(debian: Host) -> None:
    debian.touch(*OTHERS)
    done = debian.script("postrm", "purge")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not debian.run.exists()
    assert not debian.lib.exists()


@pytest.mark.parametrize("needed", NEEDED)
def test_a_purge_keeps_what_guests_need_and_says_so(debian: Host, needed: str) -> None:
    parked = ("run/virtcpr/kept/keeper", "run/virtcpr/guardian.json")  # for a guest in the middle of a move
    debian.touch(*OTHERS, needed, *parked)
    done = debian.script("postrm", "purge")
    assert done.returncode == 0
    assert debian.files() == sorted((needed, *(parked if needed == NEEDED[0] else ())))
    assert "some guests can only be recovered or restored by virtcpr; kept" in done.stderr
    assert f"  {debian.root}/{needed}\n" in done.stderr
    assert "libvirt/hooks/qemu.d/virtcpr, which keeps libvirt from starting them a second time" in done.stderr
    assert "virtcpr recover --all" in done.stderr


@pytest.mark.parametrize(("mark", "stays"), [(hooks.MARK, False), ("theirs", True)], ids=["ours", "theirs"])
def test_a_purge_takes_the_hook_that_no_guest_needs_any_more(debian: Host, mark: str, stays: bool) -> None:
    hook = debian.hooks / "qemu.d/virtcpr"
    hook.write_text(f"# {mark}\n")
    assert debian.script("postrm", "purge").returncode == 0
    assert hook.exists() is stays


@pytest.mark.parametrize(
    ("virsh", "goes"),
    [
        ('case "$*" in *list*) echo one ;; *) exit 0 ;; esac', True),
        ('case "$*" in *list*) exit 1 ;; esac', False),
        # One that doesn't answer; one that has ended meanwhile.
        ('case "$*" in *list*) echo one ;; *) exit 1 ;; esac', False),
        ('case "$*" in *list*) [ -e "$0.2" ] || echo one ;; *) touch "$0.2"; exit 1 ;; esac', True),
    ],
    ids=["answers", "daemon-silent", "guest-silent", "guest-gone"],
)
def test_a_purge_waits_for_a_daemon_that_is_just_starting(debian: Host, virsh: str, *, goes: bool) -> None:
    """It would end a guest for which it can't run a hook that it has listed."""
    hook = debian.hooks / "qemu.d/virtcpr"
    hook.write_text(f"# {hooks.MARK}\n")
    debian.stub("pidof")
    debian.stub("virsh", virsh)
    done = debian.script("postrm", "purge")
    assert done.returncode == 0
    assert debian.called()[:2] == ["pidof libvirtd virtqemud", "virsh -q -c qemu:///system list --uuid"]
    assert hook.exists() is not goes
    said = "" if goes else f"virtcpr: {hook} stays, as libvirt's daemon doesn't answer: remove it when it does\n"
    assert done.stderr == said


def test_a_removal_keeps_all_state(debian: Host) -> None:
    debian.touch(*OTHERS, *NEEDED[1:])
    assert debian.script("prerm", "remove").returncode == 0
    assert debian.script("postrm", "remove").returncode == 0
    assert debian.files() == sorted((*OTHERS, *NEEDED[1:]))


def pacmans_removal(debian: Host) -> subprocess.CompletedProcess[str]:
    """Its hook: a function of the package that fails doesn't stop it."""
    hook = (PACKAGES / "arch/10-virtcpr-remove.hook").read_text()
    (order,) = re.findall("^Exec = .*/quiesce (.*)$", hook, re.MULTILINE)
    return debian.shell((PACKAGES / "quiesce").read_text(), order)


REMOVALS: dict[str, Callable[[Host], subprocess.CompletedProcess[str]]] = {
    "dpkg": lambda host: host.script("prerm", "remove"),
    "rpm": lambda host: host.rpm("preun", 0),
    "pacman": pacmans_removal,
}


@pytest.mark.parametrize("manager", REMOVALS)
def test_a_removal_settles_what_was_interrupted(debian: Host, manager: str) -> None:
    """Without the other hook libvirt's daemon would take a guest that new QEMU runs for old QEMU's."""
    debian.touch(NEEDED[0])
    there = debian.hooks / "daemon.d/virtcpr"
    debian.stub("virtcpr", f"case $* in *recover*) [ -e {there} ] && rm {debian.root}/{NEEDED[0]} ;; esac")
    assert REMOVALS[manager](debian).returncode == 0
    assert not (debian.root / NEEDED[0]).exists()


@pytest.mark.parametrize("manager", REMOVALS)
def test_no_removal_while_a_move_is_interrupted(debian: Host, manager: str) -> None:
    debian.touch(NEEDED[0])
    done = REMOVALS[manager](debian)
    assert done.returncode == 1
    assert "the move of a guest was interrupted, and isn't settled: virtcpr stays" in done.stderr
    assert debian.called()[-1] == "virtcpr -q recover --all"
    assert (debian.hooks / "daemon.d/virtcpr").exists()
    assert debian.script("prerm", "upgrade").returncode == debian.quiesce().returncode == 0  # one that may know more


@pytest.mark.parametrize("manager", ["rpm", "pacman"])  # dpkg runs postinst then
def test_what_waits_goes_on_waiting_where_a_removal_is_refused(debian: Host, manager: str) -> None:
    debian.touch(NEEDED[0], "run/virtcpr/pending.taken")
    assert REMOVALS[manager](debian).returncode == 1
    assert debian.called()[-1] == "systemctl --no-block start virtcpr-auto.timer"


def test_what_waits_goes_on_waiting_where_virtcpr_is_busy(debian: Host) -> None:
    debian.touch("run/virtcpr/lock", "run/virtcpr/pending")
    with (debian.root / "run/virtcpr/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = debian.quiesce()
    assert done.returncode == 1
    assert "another virtcpr has been running for ten minutes" in done.stderr
    assert debian.called() == ["systemctl stop virtcpr-auto.timer", "systemctl --no-block start virtcpr-auto.timer"]


def test_a_removal_takes_the_hooks_and_what_waits(debian: Host) -> None:
    done = debian.script("prerm", "remove")
    assert (done.returncode, done.stderr) == (0, "")
    assert debian.called() == [
        "deb-systemd-invoke stop virtcpr-auto.timer",
        "deb-systemd-invoke stop virtcpr-auto.service",
        "deb-systemd-invoke stop virtcpr-auto.timer",
        "deb-systemd-invoke stop virtcpr-save.service",
        "virtcpr -q hooks remove",
    ]


def test_a_removal_by_which_the_hooks_stay_takes_the_one_that_calls_what_is_gone(debian: Host) -> None:
    debian.stub("virtcpr", "exit 1")
    assert debian.script("prerm", "remove").returncode == 0
    assert (debian.hooks / "qemu.d/virtcpr").exists()
    assert not (debian.hooks / "daemon.d/virtcpr").exists()


@pytest.mark.parametrize("needed", NEEDED[1:])
def test_a_removal_leaves_the_hook_that_guards_a_guest(debian: Host, needed: str) -> None:
    debian.touch(needed)
    done = debian.script("prerm", "remove")
    assert done.returncode == 0
    assert "virtcpr -q hooks remove" not in debian.called()
    assert (debian.hooks / "qemu.d/virtcpr").exists()
    assert not (debian.hooks / "daemon.d/virtcpr").exists()  # it would call what is gone
    assert "libvirt/hooks/qemu.d/virtcpr stays: there are guests that are saved" in done.stderr


def test_an_empty_directory_of_hooks_goes_and_somebody_elses_stays(debian: Host) -> None:
    (debian.hooks / "qemu.d/virtcpr").unlink()
    (debian.hooks / "daemon.d/virtcpr").rename(debian.hooks / "daemon.d/theirs")
    assert debian.script("postrm", "remove").returncode == 0
    assert [path.name for path in debian.hooks.iterdir()] == ["daemon.d"]


@pytest.mark.parametrize("action", ["upgrade", "failed-upgrade", "remove"])
def test_nothing_changes_under_a_virtcpr_that_moves_guests(debian: Host, action: str) -> None:
    with (debian.run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = debian.script("prerm", action)
    assert done.returncode == 1
    assert "another virtcpr has been running for ten minutes" in done.stderr
    assert "nothing was changed: wait until it ends, then try again" in done.stderr
    assert debian.called() == ["deb-systemd-invoke stop virtcpr-auto.timer"]


QUIET = [f"systemctl stop virtcpr-auto.{kind}" for kind in ("timer", "service", "timer")]


def test_rpm_and_pacman_wait_for_a_virtcpr_that_moves_guests(debian: Host) -> None:
    assert debian.quiesce().returncode == 0
    assert debian.called() == QUIET
    with (debian.run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for done in (debian.quiesce(), debian.rpm("pre", 2), debian.rpm("preun", 0)):
            assert done.returncode == 1
            assert "another virtcpr has been running for ten minutes" in done.stderr
    assert debian.called() == [*QUIET, *QUIET[:1] * 3]  # nor did anybody take the hooks


def test_where_virtcpr_never_ran_they_have_nothing_to_wait_for(debian: Host) -> None:
    shutil.rmtree(debian.run)
    assert debian.quiesce().returncode == 0
    assert debian.called() == []


def test_pacman_stops_if_the_wait_fails() -> None:
    """It goes on after a function of the package that fails, but not after a hook with AbortOnFail (alpm-hooks(5))."""
    removal = (PACKAGES / "arch/10-virtcpr-remove.hook").read_text()
    assert {"Operation = Remove", "When = PreTransaction", "AbortOnFail", "Target = virtcpr"} <= {*removal.splitlines()}
    text = (PACKAGES / "arch/10-virtcpr.hook").read_text()
    for line in ("When = PreTransaction", "Exec = /usr/lib/virtcpr/quiesce", "AbortOnFail", "Target = virtcpr"):
        assert line in text.splitlines()


def test_rpm_waits_before_files_are_replaced(debian: Host) -> None:
    """In an upgrade %preun of the old package runs when the new files are there."""
    assert debian.rpm("pre", 1).returncode == debian.rpm("preun", 1).returncode == 0
    assert debian.called() == []
    assert debian.rpm("pre", 2).returncode == 0
    assert debian.called() == QUIET
    debian.touch("run/virtcpr/pending")
    assert debian.rpm("post", 2).returncode == 0
    assert debian.called()[len(QUIET) :] == ["virtcpr -q hooks install", "virtcpr trigger virtcpr"]


def test_pacman_takes_up_what_waited(debian: Host) -> None:
    debian.touch("run/virtcpr/pending")
    assert debian.pacman("post_upgrade").returncode == 0
    assert debian.called() == ["virtcpr -q hooks install", "virtcpr trigger virtcpr"]


@pytest.mark.parametrize("refused", [False, True])
def test_their_removal_leaves_no_hook_that_calls_what_is_gone(debian: Host, *, refused: bool) -> None:
    if refused:
        (debian.root / "bin/virtcpr").write_text("#!/bin/sh\nexit 1\n")
    for manager in ("rpm", "pacman"):
        (debian.hooks / "daemon.d/virtcpr").touch()
        done = debian.rpm("preun", 0) if manager == "rpm" else debian.pacman("pre_remove")
        assert done.returncode == 0
        assert (debian.hooks / "daemon.d/virtcpr").exists() is not refused
        assert (debian.hooks / "qemu.d/virtcpr").exists()


def test_without_systemd_there_is_nothing_to_wait_for(debian: Host) -> None:
    shutil.rmtree(debian.root / "run/systemd")
    assert debian.script("prerm", "upgrade").returncode == 0
    assert debian.called() == []


def test_a_trigger_is_only_noted(debian: Host) -> None:
    done = debian.script("postinst", "triggered", "/usr/bin/qemu-system-x86_64")
    assert done.returncode == 0
    assert debian.called() == ["virtcpr trigger /usr/bin/qemu-system-x86_64"]


@pytest.mark.parametrize(("note", "again"), [("pending", True), ("pending.taken", True), ("other", False)])
def test_what_waited_is_taken_up_after_an_upgrade(debian: Host, note: str, again: bool) -> None:
    debian.touch(f"run/virtcpr/{note}")
    assert debian.script("postinst", "configure", "0.1.0").returncode == 0
    assert debian.called() == ["virtcpr -q hooks install", *(["virtcpr trigger virtcpr"] if again else [])]


def test_hooks_that_can_not_be_put_are_told_of(debian: Host) -> None:
    (debian.root / "bin/virtcpr").write_text("#!/bin/sh\necho somebody\\'s >&2; exit 1\n")
    done = debian.script("postinst", "configure", "")
    assert done.returncode == 0
    assert done.stderr.startswith("somebody's\nvirtcpr: libvirt's hooks are not all in place; when the above is fixed")
