"""Blackout: libvirt's daemon is stopped.  Only this module stops it, and it always starts it again.

The daemon comes back after an exception (``daemon_away`` starts it), after a signal (which waits for the end of the
blackout), and if this process is killed (the guardian starts it).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from virtcpr.actions.daemon.reconnect import await_listed, reconnect
from virtcpr.domain.status import read
from virtcpr.errors import HostError
from virtcpr.host.files.atomic import read_text
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.libvirt.daemon import Daemon, DriverLock
from virtcpr.host.libvirt.daemon_jobs import daemon_jobs
from virtcpr.host.processes import guard
from virtcpr.host.processes.guard import Guard
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.wait import wait_until
from virtcpr.model import ExitCode

log = logging.getLogger(__name__)

# libguestfs starts it with VIR_DOMAIN_START_AUTODESTROY (lib/launch-libvirt.c): it ends with the connection of who
# started it.  Of other domains nothing shows that.
APPLIANCE = re.compile(r"guestfs-[a-z0-9]{16}")
JOB_SECONDS = 5.0  # short ones, such as a refresh of a pool, are waited for
JOB_POLL = 0.05
BY_HAND = "start libvirt's daemon: systemctl start libvirtd, or virtqemud"

_watching: list[Guard] = []  # the guardian of this process: at most one


class DaemonDown(HostError):
    """libvirt's daemon couldn't be started again."""


def codes(error: BaseException) -> list[ExitCode]:
    """What it means for the exit code, whatever became of the domains: all of them may run."""
    return [ExitCode.UNKNOWN] if isinstance(error, DaemonDown) else []


@contextmanager
def guarded(recipe: Mapping[str, object] | None = None, *, required: bool) -> Iterator[Guard | None]:
    """The guardian watches this process inside this context.  A guardian that already watches is used again.

    ``recipe`` says how to start libvirt's daemon; the default is how it runs now.  If no guardian can be started:
    raises HostError if it is ``required``, else logs that and yields None.
    """
    if _watching:
        yield _watching[0]
        return
    try:
        watch = guard.arm(recipe or daemon.running().recipe)
    except (HostError, OSError) as error:
        if required:
            raise
        log.warning("no guardian: %s", error)
        yield None
        return
    _watching.append(watch)
    try:
        yield watch
    finally:
        _watching.clear()
        watch.disarm()


class Away:
    """The stopped daemon.  ``began`` is when it was stopped, by the monotonic clock."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.recipe: Mapping[str, object] | None = None
        self._lock = ExitStack()

    def keep_out(self, watch: Guard | None) -> None:
        """Keep any daemon's QEMU driver from starting.  Raises HostError if one has started."""
        self._lock.enter_context(watch.lock() if watch else DriverLock())

    def end(self) -> None:
        """Start the daemon, with a second try if needed; later calls do nothing.  Raises DaemonDown."""
        recipe, self.recipe = self.recipe, None
        self._lock.close()
        if recipe is None:
            return
        try:
            daemon.from_recipe(recipe).start()
        except HostError as first:
            log.warning("%s", first.message)
            try:
                daemon.from_recipe(recipe).start()
            except HostError as error:
                raise DaemonDown(error.message, hint=error.hint or BY_HAND) from error
        finally:
            daemon.forget_stopping()


@contextmanager
def daemon_away(
    recipe: Mapping[str, object] | None = None,
    *,
    guardian: bool = True,
    required: bool = False,
    restart: bool = True,
    insist: bool = False,
) -> Iterator[Away]:
    """Stop the daemon if it runs, and keep it out; start it on leaving, or at ``Away.end``.

    ``recipe``: how to start a daemon that doesn't run now.  ``guardian``: if this process is killed in this context, a
    guardian settles what is left and starts the daemon.  ``required``: fail without a guardian.  Without ``restart``
    the daemon isn't started: its own start waits for this.  ``insist``: if somebody starts it before it is kept out,
    stop it again, once; the jobs that it began by then are lost.  A signal waits; an entered Interrupt gets it.

    Raises HostError if the daemon doesn't stop, DaemonDown if it doesn't start; then it is down.
    """
    with Interrupt(), ExitStack() as stack:
        away = Away()
        try:
            _stop(away, recipe, stack, guardian=guardian, required=required, restart=restart, insist=insist)
        except Exception as error:
            _undo(away, error)
            raise
        try:
            yield away
        finally:
            away.end()


def _stop(
    away: Away,
    recipe: Mapping[str, object] | None,
    stack: ExitStack,
    *,
    guardian: bool,
    required: bool,
    restart: bool,
    insist: bool,
) -> None:
    """A starting daemon has no lock yet and isn't found at first: stop it once it has the lock."""
    watch: Guard | None = None
    for last in (False, True) if insist else (True,):
        running = _running()
        if running is not None and running.process is not None:
            hooks.refuse_forbidden(running.process)
        running = running or _half_stopped()
        recipe = running.recipe if running else recipe
        if guardian and watch is None and recipe is not None:
            watch = stack.enter_context(guarded(recipe, required=required))
        if restart:
            away.recipe = recipe
        away.began = time.monotonic()
        if running is not None:
            if running.process is not None:
                daemon.note_stopping(running.process)
            running.stop()
        try:
            away.keep_out(watch)
        except HostError:
            if last:
                raise
            continue
        return


def _undo(away: Away, cause: Exception) -> None:
    """The daemon didn't stop, or came back: make sure that it runs.  Raises DaemonDown, with both reasons."""
    try:
        away.end()
    except DaemonDown as error:
        raise DaemonDown(f"{cause}; {error.message}", hint=error.hint) from cause


def _running() -> Daemon | None:
    try:
        return daemon.running()
    except (HostError, OSError):  # no daemon, or it is just ending
        return None


def _half_stopped() -> Daemon | None:
    """The daemon that a run was stopping when it was killed, as long as it lives."""
    process, recipe = daemon.stopping(), guard.recipe()
    return None if process is None or recipe is None else daemon.from_recipe(recipe, process)


def start_if_stopped() -> None:
    """See that libvirt's daemon runs: whoever stopped it may have been killed.  As the last guardian was told how; if
    none was told, nothing is done.

    If it was only being stopped it is stopped first: nobody knows whether it is about to end, and without all of its
    sockets it can't be reached.  Raises HostError if it doesn't start.
    """
    recipe = guard.recipe()
    if recipe is None:
        return
    daemon.release()  # a guardian may hold it still, for the swaps, which are settled
    half = _half_stopped()
    if half is not None:
        log.info("libvirt's daemon was being stopped: that is finished, and it is started again")
        try:
            half.stop()
        except HostError as error:  # it may have ended by itself
            log.warning("%s", error.message)
    if half is not None or _running() is None:
        daemon.from_recipe(recipe).start()
        daemon.forget_stopping()


def refuse_jobs(connection: Connection, stuck: Collection[str] = ()) -> None:
    """Stopping the daemon cancels the jobs of all its domains, and its work on volumes, and ends libguestfs's domains.
    Raises HostError if there is any.

    Domains in ``stuck`` (UUIDs) are skipped: only stopping the daemon ends their job.  Domains that ended meanwhile are
    skipped, too.
    """
    for domain in connection.domains(running=True):
        if domain.uuid in stuck:
            continue
        if APPLIANCE.fullmatch(domain.name):
            raise HostError(
                f"libguestfs is at work ({domain.name}): its domain would end with libvirt's daemon",
                hint="wait until virt-customize, guestfish and the like are done, then try again",
            )
        try:
            busy = _job(domain)
        except HostError:
            if domain.active():
                raise
            continue
        if busy:
            raise HostError(f"libvirt is busy with {domain.name} ({busy}); its daemon can't be stopped now")
    _refuse_daemon_jobs()


def _refuse_daemon_jobs() -> None:
    """Raises HostError if the daemon does something that isn't a domain's job, such as `virsh vol-upload`."""
    process = daemon.process()
    if process is None:
        return
    what = f"libvirt's daemon (process {process.pid})"
    try:
        busy = wait_until(lambda: daemon_jobs(process), JOB_SECONDS, until=lambda jobs: not jobs, poll=JOB_POLL)
    except OSError as error:
        raise HostError(f"what {what} is doing can't be seen: {error.strerror}") from error
    if busy:
        raise HostError(
            f"{what} can't be stopped now: it {', '.join(busy)}",
            hint="wait until that is done (virsh vol-upload, vol-clone, …), then try again",
        )


def _job(domain: Domain) -> str:
    status = read(read_text(daemon.STATE_DIR / f"{domain.name}.xml"))
    return domain.job() or ", ".join(status.busy)


def during(
    connection: Connection,
    action: Callable[[], None],
    guests: Mapping[str, Process],
    stuck: Collection[str] = (),
    *,
    required: bool = False,
) -> tuple[Connection, float]:
    """Run ``action`` while the daemon is stopped; wait until it lists these guests (UUID → QEMU) again.

    ``required``: not without a guardian.  Returns the connection to the new daemon, and the blackout in ms.  Raises
    HostError if the daemon can't be stopped now, and DaemonDown if it doesn't come back.
    """
    refuse_jobs(connection, stuck)
    uri, recipe = connection.uri, daemon.running().recipe
    connection.close()
    with daemon_away(recipe, required=required) as away:
        action()
        away.end()
        try:
            connection = reconnect(uri)
        except HostError as error:  # it was started, and doesn't answer
            raise DaemonDown(error.message, hint=error.hint or BY_HAND) from error
        await_listed(connection, guests)
    return connection, round((time.monotonic() - away.began) * 1000, 1)
