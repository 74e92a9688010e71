"""Start a process as another was started, new QEMU as old: a small program that takes over its environment and execs.

It is a process of its own because joining a mount namespace and dropping privileges can't be undone, and because the
descriptors get fixed numbers.  virCommandExec and qemuProcessHook show what libvirt sets up for QEMU, and in which
order (libvirt, src/util/vircommand.c, src/qemu/qemu_process.c).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.processes import oom, policies
from virtcpr.host.processes.proc import Process
from virtcpr.host.system import selinux
from virtcpr.host.system.cgroup import hierarchy
from virtcpr.host.system.wait import readable

MODULE = "virtcpr.host.qemu.launch"
CLONE_NEWNS = 0x00020000
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_KEEPCAPS = 23, 24, 8
CAPABILITY_VERSION_3 = 0x20080522
SECONDS = 30.0  # until QEMU is executed
NO_LABEL = (errno.ENOENT, errno.EINVAL)  # of /proc/PID/attr/current, if no security module has labels
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # systemd's default
# For a process that sees more of the host than its model, which a guest may have taken over: it would name a library of
# its own to be loaded (LD_PRELOAD).
CLEAN = {b"PATH": PATH.encode(), b"LC_ALL": b"C"}
HIGH = 1000  # descriptors wait above this number until those below are free


@dataclass(frozen=True)
class Launch:
    """What to start, and whose environment it gets.  ``model`` is old QEMU's pid; ``started`` distinguishes it from a
    later process with that pid.  ``fds`` maps a descriptor number in new QEMU to a descriptor of this process.

    ``what`` it is called in messages.  ``pid_file``: of libvirt's kind, which it makes, and holds locked for as long as
    it lives (virCommandSetPidFile); there must be none yet.  ``expendable``: it is the first to be killed if memory
    runs out.  ``view``: it gets the model's view of the file system, and ``rights``: no more rights than the model has;
    else it gives up this process's by itself, as the model did; with ``rights`` alone it gets none of the model's
    environment variables.  ``program``: the file that is run, if ``argv`` doesn't
    begin with it.  ``go``: a pipe, or none: the file isn't run before a byte comes from there, and never if the other
    end is closed before that.
    """

    argv: Sequence[str]
    model: int
    started: str
    fds: Mapping[int, int]
    what: str = "new QEMU"
    pid_file: str | None = None
    expendable: bool = True
    view: bool = True
    rights: bool = True
    program: str = ""
    go: int | None = None


def launch(order: Launch) -> Process:
    """Start it.  The returned process has joined old's environment, or has failed: watch it.

    It isn't a child of this process: it has a session of its own, and init reaps it.  Raises HostError.
    """
    return Process.of(begin(order))


def begin(order: Launch) -> int:
    """The same of a program that goes to the background: its pid, which may be gone already.  Raises HostError."""
    reader, writer = os.pipe()
    passed = (*order.fds.values(), writer, *(() if order.go is None else (order.go,)))
    command = [sys.executable, "-I", "-m", MODULE, json.dumps(asdict(order)), str(writer)]
    try:
        starter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            start_new_session=True,
        )
    finally:
        os.close(writer)
    with os.fdopen(reader) as answer:
        if not readable(answer, SECONDS):
            _end_with_children(starter)
            raise HostError(f"{order.what} couldn't be started within {SECONDS:g} s: {order.argv[0]} can't be executed")
        pid = answer.read().strip()
    _, words = starter.communicate()
    if not pid.isdecimal():
        last = words.decode(errors="replace").strip().splitlines()
        raise HostError(f"{order.what} couldn't be started: {last[-1] if last else 'the launcher ended'}")
    return int(pid)


def waits(process: Process) -> bool:
    """Whether it waits for its ``go`` still: it hasn't become the file that is to be run."""
    try:
        return MODULE.encode() in (process.path / "cmdline").read_bytes().split(b"\0") and process.alive()
    except OSError:
        return False


def _end_with_children(starter: subprocess.Popen[bytes]) -> None:
    """Kill a launcher that hangs, and its child, which must not become QEMU later."""
    for child in Process.of(starter.pid).children():
        child.kill(0)
    starter.kill()
    starter.wait()


def main(text: str, report: int) -> None:
    """In the launcher: fork once (so that init reaps QEMU), take over old's environment, exec."""
    order = json.loads(text)
    order["fds"] = {int(number): fd for number, fd in order["fds"].items()}
    done, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done)
        _become(Launch(**order), tell, report)
    os.close(tell)
    with os.fdopen(done) as words:
        failure = words.read()  # empty once exec has closed the other end
    if failure:
        os.waitpid(child, 0)
        sys.exit(failure)
    os.write(report, str(child).encode())


def _become(order: Launch, tell: int, report: int) -> None:
    try:
        os.setsid()
        fcntl.fcntl(tell, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        model = Path(f"/proc/{order.model}")
        status = _status(model)
        environment = _environment(model) if order.view or not order.rights else dict(CLEAN)
        _join_cgroup(model)
        _mirror_limits(order.model)
        _mirror_policies(order.model)
        oom.take(Process(order.model, order.started), expendable=order.expendable)
        label = _label(model)
        if order.view:
            _join_mounts(order.model)
        os.chdir("/")
        os.umask(int(status["Umask"], 8))
        # Else all of the above may come from another process, maybe root's.
        if not Process(order.model, order.started).alive():
            raise HostError(f"old QEMU (process {order.model}) has ended")
        if _unheard(report):
            raise HostError("virtcpr has ended")
        os.close(report)
        tell, go = _place(order.fds, tell, order.go)
        if order.pid_file:
            _hold(order.pid_file)
        if order.rights:
            _drop_privileges(status)
        if label:
            Path("/proc/self/attr/exec").write_text(label)
        if go is not None:
            os.close(tell)
            _wait(go)
        _reset_signals()
        os.execve(order.program or order.argv[0], list(order.argv), environment)
    except BaseException as error:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        words = f"{type(error).__name__}: {error}"
        try:
            os.write(tell, words.encode())
        except OSError:  # it has waited: then its words go to QEMU's log
            os.write(2, f"qemu: can't be executed: {words}\n".encode())
        finally:
            os._exit(1)


def _wait(go: int) -> None:
    """Return once a byte has come; end if none will."""
    if not os.read(go, 1):
        os._exit(1)


def _reset_signals() -> None:
    """Ignore and block none, as libvirt starts its own (virFork): Python ignores some, and so do nohup and virtcpr."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _unheard(pipe: int) -> bool:
    """Whether nobody reads the pipe: who settles the swap of a dead virtcpr looks for QEMU, not for its launcher."""
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _status(model: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in (model / "status").read_text(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _environment(model: Path) -> dict[bytes, bytes]:
    pairs = ((model / "environ").read_bytes()).split(b"\0")
    split = (pair.partition(b"=") for pair in pairs if pair)
    return {name: value for name, _, value in split}


def _join_cgroup(model: Path) -> None:
    """Join the cgroup of old's main thread, in every hierarchy that this process may write."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    for line in (model / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        root = hierarchy(number, controllers)
        if root is None or line in own:
            continue
        # systemd's own tree decides which unit owns the process, and must be joined; v1 hierarchies may be read-only.
        with nullcontext() if number == "0" and os.geteuid() == 0 else suppress(OSError):
            # A threaded cgroup takes threads only; a process goes to its domain's root first.
            target = Path(root + path)
            if (target / "cgroup.type").exists() and "threaded" in (target / "cgroup.type").read_text():
                (_threaded_root(target) / "cgroup.procs").write_text("0")
                (target / "cgroup.threads").write_text("0")
            else:
                (target / "cgroup.procs").write_text("0")


def _threaded_root(cgroup: Path) -> Path:
    while (cgroup / "cgroup.type").read_text().strip() == "threaded":
        cgroup = cgroup.parent
    return cgroup


# The lines of /proc/PID/limits; prlimit(2) on another process would need CAP_SYS_RESOURCE.
LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}


def _mirror_limits(pid: int) -> None:
    """Old's resource limits, filter of core dumps, CPU affinity and nice value; only what differs is set."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]:
        limit = LIMITS.get(line[:26].strip())
        if limit is not None:
            soft, hard = (resource.RLIM_INFINITY if w == "unlimited" else int(w) for w in line[26:].split()[:2])
            if resource.getrlimit(limit) != (soft, hard):
                with _as_far_as_allowed():
                    resource.setrlimit(limit, (soft, hard))
    dumped, own = (int(Path(f"/proc/{process}/coredump_filter").read_text(), 16) for process in (pid, "self"))
    if own != dumped:
        Path("/proc/self/coredump_filter").write_text(str(dumped))
    os.sched_setaffinity(0, os.sched_getaffinity(pid))
    nice = os.getpriority(os.PRIO_PROCESS, pid)
    if os.getpriority(os.PRIO_PROCESS, 0) != nice:
        with _as_far_as_allowed():
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def _as_far_as_allowed() -> AbstractContextManager[None]:
    """A user who isn't root may only lower them; a later check reports what is missing."""
    return nullcontext() if os.geteuid() == 0 else suppress(OSError, ValueError)


def _mirror_policies(pid: int) -> None:
    """NUMA policy, which libvirt sets between fork and exec (qemuProcessHook), and I/O priority: every thread of QEMU
    inherits both.  A failure doesn't stop the start: new QEMU is compared with the old one later."""
    with suppress(OSError, ValueError, KeyError):
        policies.set_memory_policy(policies.memory_policy(Path(f"/proc/{pid}")) or "default")
    with suppress(OSError):
        policies.set_io_priority(0, policies.io_priority(pid))


def _label(model: Path) -> str | None:
    """What /proc/self/attr/exec must hold for QEMU to get old's security label; None if there is none.

    "unconfined" is AppArmor's word for no profile; SELinux's unconfined_u is a user, whose guests are confined.
    """
    try:
        current = (model / "attr/current").read_text().strip("\0\n ")
    except OSError as error:
        if error.errno in NO_LABEL:
            return None
        raise
    if current in ("", "unconfined"):
        return None
    if selinux.enabled():
        return current
    return "exec " + current.rpartition(" (")[0] if current.endswith(")") else "exec " + current


def _join_mounts(pid: int) -> None:
    if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
        return
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "old QEMU's mount namespace can't be joined")
    os.close(namespace)


def _place(fds: Mapping[int, int], tell: int, go: int | None) -> tuple[int, int | None]:
    """Put every descriptor at its number and /dev/null on stdin; only ``tell`` and ``go``, at new numbers, which are
    returned, stay open besides."""
    above = max(HIGH, *fds) + 1 if fds else HIGH  # libvirt's own numbers may be high, too
    high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in fds.items()}
    tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, above)
    go = None if go is None else fcntl.fcntl(go, fcntl.F_DUPFD_CLOEXEC, above)
    os.closerange(3, above)
    for number, fd in high.items():
        os.dup2(fd, number, inheritable=True)
    if 0 not in fds:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0, inheritable=True)
    return tell, go


def _hold(pid_file: str) -> None:
    """Write the pid file and keep it locked: libvirt ends a process only if that holds the lock (virPidFileForceCleanup
    in src/util/virpidfile.c).  The lock is this process's, as long as none of its descriptors of the file is closed."""
    # The directory may be writable to others, whose link isn't followed: this is root still.
    fd = os.open(pid_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(fd, str(os.getpid()).encode())
    os.set_inheritable(fd, True)


def _drop_privileges(status: Mapping[str, str]) -> None:
    """Take old's ids and capabilities: the bounding set first, then the ids, then the other sets."""
    libc = ctypes.CDLL(None, use_errno=True)
    sets = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")}
    for number in range(64):
        if libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1 and not sets["CapBnd"] >> number & 1:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    libc.prctl(PR_SET_KEEPCAPS, 1 if sets["CapPrm"] else 0, 0, 0, 0)
    groups = [int(group) for group in status["Groups"].split()]
    if set(groups) != set(os.getgroups()):
        os.setgroups(groups)
    gids, uids = ([int(i) for i in status[name].split()[:3]] for name in ("Gid", "Uid"))
    os.setresgid(gids[0], gids[1], gids[2])
    os.setresuid(uids[0], uids[1], uids[2])
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    words = [sets[name] >> shift & 0xFFFFFFFF for shift in (0, 32) for name in ("CapEff", "CapPrm", "CapInh")]
    if libc.capset(header, (ctypes.c_uint32 * 6)(*words)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities can't be set")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
