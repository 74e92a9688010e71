"""libvirt's hook directories (hooks.html, since libvirt 6.5): only virtcpr's own files in them."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes.proc import Process
from virtcpr.host.system import apparmor, selinux
from virtcpr.model import Hook, HookState

DIRECTORY = Path("/etc/libvirt/hooks")
MARK = "Installed by `virtcpr hooks install`"
COMMAND, MODULE = "@VIRTCPR@", "-I -m virtcpr"
RUNNABLE = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
DAEMONS = ("libvirtd", "virtqemud")
# Name in virtcpr/hooks → where libvirt looks for it.
PLACES = {"libvirt-daemon": "daemon.d/virtcpr", "libvirt-qemu": "qemu.d/virtcpr"}

_labels: list[str] = []  # of libvirt's daemon, as it ran last: one at most


class Forbidden(HostError):
    """libvirt's daemon may not run a hook, or nobody can tell (SELinux)."""


def _text(name: str) -> str:
    return (files("virtcpr") / "hooks" / name).read_text().replace(COMMAND, _command())


def _command() -> str:
    """How a hook runs this virtcpr; libvirt's PATH may differ.

    A package's script as it is.  Else this Python: a virtualenv's is a link to the system's, which the AppArmor profile
    of libvirt's daemon lets a hook run, unlike the scripts beside it.
    """
    script = os.path.realpath(sys.argv[0])
    if os.path.basename(script) == "virtcpr" and _runnable(script):
        return shlex.quote(script)
    return f"{shlex.quote(sys.executable)} {MODULE}"


def _runnable(path: str) -> bool:
    """Whether that profile allows it (/etc/apparmor.d/usr.sbin.libvirtd).  AppArmor sees what a link points to."""
    real = os.path.realpath(path)
    return os.path.dirname(real) in RUNNABLE and os.access(real, os.X_OK)


def _refuse_unrunnable(name: str, path: str | Path) -> None:
    """Raises HostError if the hook couldn't run virtcpr: nobody would notice before a swap is interrupted."""
    if COMMAND not in (files("virtcpr") / "hooks" / name).read_text():
        return
    real = os.path.realpath(sys.executable)
    if _command().endswith(MODULE) and not _runnable(sys.executable) and apparmor.enforces(DAEMONS):
        raise HostError(
            f"{path} couldn't run {real}: AppArmor confines libvirt's daemon, and lets it run only programs in "
            f"{' and '.join(RUNNABLE[:2])}; no hook was written",
            hint="install virtcpr into a virtualenv of the system's Python: /usr/bin/python3 -m venv, without --copies",
        )


def status(directory: Path = DIRECTORY) -> tuple[Hook, ...]:
    """Every hook of virtcpr's, and whether it is installed."""
    return tuple(Hook(name, str(directory / place), _state(name, directory / place)) for name, place in PLACES.items())


def _state(name: str, path: Path) -> HookState:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return HookState.MISSING
    except (OSError, UnicodeDecodeError):
        return HookState.FOREIGN
    if MARK not in text:
        return HookState.FOREIGN
    return HookState.INSTALLED if text == _text(name) and os.access(path, os.X_OK) else HookState.OUTDATED


def install(directory: Path = DIRECTORY) -> tuple[Hook, ...]:
    """Install every hook, or replace an older version of it.

    Raises HostError, before anything is written, if another file is in the way, or a hook couldn't run virtcpr; and if
    SELinux keeps libvirt's daemon from running one.
    """
    for hook in status(directory):
        if hook.state is HookState.FOREIGN:
            raise HostError(f"{hook.path} isn't virtcpr's", hint="move it out of the way: it would be replaced")
        _refuse_unrunnable(hook.name, hook.path)
    for name, place in PLACES.items():
        _write(directory / place, _text(name))
    return status(directory)


def put(name: str, directory: Path = DIRECTORY) -> None:
    """Install one hook if it is missing or outdated.  Raises HostError, also if another file is in the way."""
    path = directory / PLACES[name]
    match _state(name, path):
        case HookState.FOREIGN:
            raise HostError(f"{path} isn't virtcpr's", hint="move it out of the way: it would be replaced")
        case HookState.MISSING | HookState.OUTDATED:
            _refuse_unrunnable(name, path)
            _write(path, _text(name))
        case HookState.INSTALLED:
            pass


def remove(directory: Path = DIRECTORY) -> tuple[Hook, ...]:
    """Remove virtcpr's hooks, and no other file."""
    for hook in status(directory):
        if hook.state in (HookState.INSTALLED, HookState.OUTDATED):
            Path(hook.path).unlink(missing_ok=True)
    return status(directory)


def refuse_forbidden(process: Process, directory: Path = DIRECTORY) -> None:
    """Raises HostError if this daemon, when it starts anew, couldn't run a hook for domains: it ends every guest then
    (qemuProcessReconnect in libvirt, src/qemu/qemu_process.c; seen with Debian 13's policy for SELinux)."""
    if (label := _confined(process)) is None:
        return
    for path in [directory / "qemu", *sorted(directory.glob("qemu.d/*"))]:
        if os.access(path, os.X_OK) and not path.is_dir() and selinux.forbids_running(label, path):
            raise Forbidden(
                f"libvirt's daemon may not run its hook {path} (SELinux): it would end every guest when it starts anew",
                hint="let the daemon run it (docs/security.md, 'SELinux'), or remove it: 'virtcpr hooks remove' takes "
                "virtcpr's away, if no guest needs it",
            )


def _confined(process: Process) -> str | None:
    """The label of libvirt's daemon, where SELinux is enforced; remembered for when it doesn't run."""
    if not selinux.enforced():
        return None
    if label := selinux.label_of(process):
        _labels[:] = [label]
    return _labels[-1] if _labels else None


def _refuse_forbidden_part(part: Path, path: Path) -> None:
    """As ``refuse_forbidden``, before a hook is in its place, which gives it its label.  Raises HostError."""
    if not selinux.enforced():
        return
    process = daemon.process()
    label = _confined(process) if process is not None else _labels[-1] if _labels else None
    if label is None:
        why = "no daemon runs that could be asked about (SELinux)"
    elif selinux.forbids_running(label, part):
        why = "libvirt's daemon may not run it (SELinux), and would end every guest when it starts anew"
    else:
        return
    part.unlink()
    raise Forbidden(
        f"{path} isn't written: {why}", hint="mode transfer needs no hook; docs/security.md, 'SELinux', says more"
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")  # libvirt runs every executable file: it must be complete
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            _refuse_forbidden_part(part, path)
            os.fchmod(file.fileno(), 0o755)
        part.replace(path)
    except OSError as error:
        raise HostError(f"{path} can't be written: {error.strerror}") from error
