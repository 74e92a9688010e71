"""The part of libvirt's API that virtcpr uses.  Answers are plain strings and numbers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from virtcpr.errors import HostError, ParseError, QmpRefused, UsageError
from virtcpr.host.libvirt.calls import bindings, call, within
from virtcpr.host.system.paths import refuse_others

log = logging.getLogger(__name__)

SYSTEM = "qemu:///system"  # whatever the default is: LIBVIRT_DEFAULT_URI or libvirt.conf may name another
# virDomainState, as virsh prints it (tools/virsh-util.c).
STATES = ("no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended")
# virDomainPausedReason.
PAUSED = (
    "unknown", "user", "migration", "save", "dump", "I/O error", "watchdog", "from snapshot", "shutting down",
    "snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "API error",
)  # fmt: skip
START_SECONDS = 300.0  # libvirt's start of a domain may be slow: hugepages, helpers, a hook
JOBS = ("none", "bounded", "unbounded", "completed", "failed", "cancelled")


@dataclass(frozen=True)
class Domain:
    """One domain of a connection.  Methods raise HostError with libvirt's own words."""

    handle: Any
    name: str
    uuid: str
    id: int | None

    def state(self) -> tuple[str, str]:
        """State and, for a paused domain, the reason, as virsh prints them."""
        state, reason = call(self.handle.state)
        return STATES[state], PAUSED[reason] if state == 3 and reason < len(PAUSED) else ""

    def xml(self) -> str:
        """The XML of the running domain, else of its next boot; without secrets."""
        return str(call(self.handle.XMLDesc, 0))

    def persistent_xml(self) -> str | None:
        """The XML of the next boot; None for a transient domain.  Without secrets."""
        libvirt, _ = bindings()
        if not call(self.handle.isPersistent):
            return None
        return str(call(self.handle.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE))

    def stored_xml(self) -> str:
        """The XML of the next boot, with secrets: only to write it back, never to show it.

        Without secrets libvirt would forget a display's password when the XML is defined again.
        """
        libvirt, _ = bindings()
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return str(call(self.handle.XMLDesc, flags))

    def has_saved_state(self) -> bool:
        """Whether the next start restores a managed save, with the XML in it."""
        return bool(call(self.handle.hasManagedSaveImage))

    def job(self) -> str | None:
        """What kind of job is active on the domain, if any (virDomainGetJobInfo)."""
        kind = call(self.handle.jobInfo)[0]
        return JOBS[kind] if kind in (1, 2) else None

    def reconnected(self) -> None:
        """Return once a daemon that has just started is done with the domain: the query waits for its job, in which it
        runs its hook (qemuProcessReconnect).  A domain that has ended meanwhile is done with, too.

        Raises HostError where that takes too long.
        """
        try:
            call(self.handle.memoryStats)
        except HostError as error:
            if self.active():
                raise HostError(f"{self.name}: {error.message}", hint=error.hint) from error

    def monitor(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """One QMP command through the daemon; the answer's ``return``.  Taints the domain ``custom-monitor``.

        Raises QmpRefused with QEMU's own words if it refuses, ParseError for an invalid answer.
        """
        _, qemu = bindings()
        request = {"execute": command, **({"arguments": dict(arguments)} if arguments else {})}
        return self._returned(command, call(qemu.qemuMonitorCommand, self.handle, json.dumps(request), 0))

    def monitor_with(self, fd: int, command: str, arguments: Mapping[str, object]) -> object:
        """The same with a descriptor, of which QEMU gets a copy (for ``getfd``)."""
        _, qemu = bindings()
        request = {"execute": command, "arguments": dict(arguments)}
        text, _files = call(qemu.qemuMonitorCommandWithFiles, self.handle, json.dumps(request), [fd], 0)
        return self._returned(command, text)

    def _returned(self, command: str, text: str) -> object:
        """An answer's ``return``.  Raises QmpRefused, and ParseError for an invalid answer."""
        try:
            reply = json.loads(text)
        except ValueError as error:
            raise ParseError(f"{self.name} answered {command} with something unexpected: {error}") from error
        match reply:
            case {"error": {**refusal}}:
                raise QmpRefused(f"{self.name}: QEMU refused {command}: {refusal.get('desc')}")
            case {"return": answer}:
                return answer
        raise ParseError(f"{self.name} answered {command} with something unexpected: neither 'return' nor 'error'")

    def startable_xml(self) -> str:
        """The running XML with secrets, in the form that another libvirt can start: as in a saved state's header."""
        libvirt, _ = bindings()
        flags = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
        return str(call(self.handle.XMLDesc, flags))

    def active(self) -> bool:
        """Whether libvirt has a process for it; a transient domain without one isn't known any more."""
        libvirt, _ = bindings()
        try:
            return bool(within(self.handle.isActive))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise HostError(f"libvirt: {error.get_error_message()}") from error

    def resume(self) -> None:
        """Resume the domain by libvirt."""
        call(self.handle.resume)

    def suspend_to_ram(self) -> None:
        """Ask its guest agent for guest-suspend-ram; the guest suspends itself a moment later."""
        libvirt, _ = bindings()
        call(self.handle.pMSuspendForDuration, libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 0, 0)

    def wake_up(self) -> None:
        """``system_wakeup`` by libvirt."""
        call(self.handle.pMWakeup, 0)

    def agent_answers(self, seconds: int) -> bool:
        """Whether the guest agent answers a ping within that time."""
        try:
            self.agent("guest-ping", {}, seconds)
        except HostError as error:
            log.debug("%s: guest-ping: %s", self.name, error.message)
            return False
        return True

    def agent(self, command: str, arguments: Mapping[str, object], seconds: int) -> object:
        """The guest agent's answer to a command.  Raises HostError with its words, or if it takes longer."""
        _, qemu = bindings()
        request = json.dumps({"execute": command, "arguments": dict(arguments)})
        answer = call(qemu.qemuAgentCommand, self.handle, request, seconds, 0)
        return json.loads(str(answer)).get("return")


class Connection:
    """A connection to the daemon of this host.

    A closed one is opened anew when it is next used: whoever holds one whose daemon was stopped finds the next daemon.
    """

    def __init__(self, uri: str | None) -> None:
        """Connect; None is libvirt's own default.  Raises UsageError for another driver than this host's QEMU
        driver, HostError if the daemon doesn't answer, or if only root may look into its domains."""
        self.libvirt, _ = bindings()
        if uri is not None:
            _refuse_remote(uri)
        self._handle = self._open(uri)
        self.uri = str(call(self.handle.getURI))
        _refuse_remote(self.uri)
        try:
            refuse_others(self.uri)
        except HostError:
            self.close()
            raise
        if call(self.handle.getType) != "QEMU" or not (self.uri.endswith("/system") or self._own()):
            self.close()
            raise UsageError(
                f"{self.uri} isn't the system's QEMU driver", hint="use qemu:///system; qemu:///session is a user's own"
            )

    def _own(self) -> bool:
        """Whether it is the own session of a user who isn't root."""
        return os.geteuid() != 0 and self.uri.endswith("/session")

    def _open(self, uri: str | None) -> Any:
        try:
            return within(self.libvirt.open, uri)
        except self.libvirt.libvirtError as error:
            raise HostError(
                f"libvirt's daemon doesn't answer: {error.get_error_message()}",
                hint="is it running? systemctl status libvirtd virtqemud",
            ) from error

    @property
    def handle(self) -> Any:
        """libvirt's own connection.  Raises HostError if it was closed, and the daemon doesn't answer."""
        if self._handle is None:
            self._handle = self._open(self.uri)
        return self._handle

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._handle is not None:
            with suppress(HostError):  # the daemon may be gone
                call(self._handle.close)
            self._handle = None

    def alive(self) -> bool:
        """Whether the daemon still answers at the other end; a closed connection isn't opened for that."""
        with suppress(HostError):
            return self._handle is not None and call(self._handle.isAlive) == 1
        return False

    def learn(self, emulator: str, architecture: str) -> None:
        """Have the daemon examine an emulator now, so that its next start finds the answer in its cache.

        libvirt runs a new QEMU binary several times to learn what it can do (virQEMUCapsNewForBinaryInternal).  This
        takes a second or two, which would otherwise be part of the blackout.  A failure is harmless.
        """
        with suppress(HostError):
            call(self.handle.getDomainCapabilities, emulator, architecture, None, None, 0)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def domains(self, *, running: bool) -> Iterator[Domain]:
        """Every domain, by name; with ``running`` only domains that have a QEMU process."""
        flags = self.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE if running else 0
        domains = [self._domain(handle) for handle in call(self.handle.listAllDomains, flags)]
        return iter(sorted(domains, key=lambda domain: domain.name))

    def command_line(self, xml: str) -> str:
        """What libvirt would start for a domain of this XML, in its format qemu-argv.  Nothing is started.

        Raises HostError with libvirt's words if it couldn't be started.
        """
        return str(call(self.handle.domainXMLToNative, "qemu-argv", xml, 0))

    def capabilities(self) -> str:
        """XML: what the host and its emulators can do."""
        return str(call(self.handle.getCapabilities))

    def define(self, xml: str) -> None:
        """Make this the persistent XML of its domain.  On HostError, with libvirt's words, nothing has changed."""
        call(self.handle.defineXML, xml)

    def start_paused(self, xml: str) -> Domain:
        """Start a domain of this XML, its vCPUs stopped; a persistent one keeps its persistent XML.

        On HostError, with libvirt's words, nothing of it runs.
        """
        flags = self.libvirt.VIR_DOMAIN_START_PAUSED
        return self._domain(call(self.handle.createXML, xml, flags, seconds=START_SECONDS))

    def find(self, uuid: str) -> Domain | None:
        """A domain by UUID; None if there is none (any more).  Raises HostError."""
        try:
            return self._domain(within(self.handle.lookupByUUIDString, uuid))
        except self.libvirt.libvirtError as error:
            if error.get_error_code() == self.libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise HostError(f"libvirt: {error.get_error_message()}") from error

    def lookup(self, reference: str) -> Domain:
        """A domain by id, UUID or name, in virsh's order.  Raises UsageError if there is none."""
        attempts = [self.handle.lookupByUUIDString, self.handle.lookupByName]
        if reference.isdecimal():
            attempts.insert(0, lambda text: self.handle.lookupByID(int(text)))
        for attempt in attempts:
            try:
                return self._domain(within(attempt, reference))
            except self.libvirt.libvirtError as error:
                if error.get_error_code() not in (
                    self.libvirt.VIR_ERR_NO_DOMAIN,
                    self.libvirt.VIR_ERR_INVALID_ARG,
                ):
                    raise HostError(f"{reference}: {error.get_error_message()}") from error
        near = get_close_matches(reference, [domain.name for domain in self.domains(running=False)], 1)
        hint = f"did you mean {near[0]}?" if near else "virsh list --all shows all domains"
        raise UsageError(f"there is no domain {reference!r}", hint=hint)

    def _domain(self, handle: Any) -> Domain:
        number = handle.ID()
        return Domain(handle, handle.name(), handle.UUIDString(), number if number >= 0 else None)


def names(uri: str | None, *, running: bool, seconds: float) -> list[str]:
    """Names of the domains, by a read-only connection, in ``seconds`` at most.

    Raises UsageError for a remote URI, HostError if they aren't known by then.
    """
    libvirt, _ = bindings()
    if uri is not None:
        _refuse_remote(uri)

    def ask() -> list[str]:
        handle = libvirt.openReadOnly(uri)
        try:
            flags = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE if running else 0
            return sorted(domain.name() for domain in handle.listAllDomains(flags))
        finally:
            handle.close()

    answer: list[str] = call(ask, seconds=seconds)
    return answer


def _refuse_remote(uri: str) -> None:
    scheme, separator, rest = uri.partition("://")
    if separator and ("+" in scheme or not rest.startswith("/")):
        raise UsageError(
            f"{uri} is on another host, or reached over a transport: virtcpr works on the host that it runs on",
            hint="run virtcpr there, with qemu:///system",
        )
