"""Which open file of old QEMU each option of its command line means, and what new QEMU gets instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import ProcessFacts, QemuFacts
from virtcpr.domain.sockets import beside, final, fits
from virtcpr.model import Finding
from virtcpr.plan.findings.table import RESOURCE
from virtcpr.plan.tried import descriptors, kind

FIRST_FD = 10  # new QEMU's inherited descriptors are numbered from here, in the order of its command line


@dataclass(frozen=True)
class Carried:
    """A descriptor of old QEMU (``source``) that new QEMU gets as ``number``."""

    number: int
    source: int
    what: str


@dataclass(frozen=True)
class Bound(Carried):
    """Old QEMU's listening unix socket, in whose stead new QEMU gets one of its own, bound beside ``path``."""

    path: str


@dataclass(frozen=True)
class Opened:
    """A file that new QEMU opens itself: its descriptor can't be shared."""

    number: int
    path: str


class Unplannable(Exception):
    """A resource of the domain, named by the text, can't be identified: there is no plan for the domain."""

    def finding(self, name: str) -> Finding:
        return RESOURCE.finding(name, {"what": str(self)})


def _is_attached(netdev: Option) -> bool:
    """Whether the back end was attached since the guest started: its descriptors have no numbers yet."""
    properties = netdev.properties()
    return str(properties.get("fd", properties.get("fds", ""))).split(":")[0] == "0"


def _kind(netdev: Option) -> object:
    properties = netdev.properties()
    return properties.get("type", properties.get(""))


def _queues(netdev: Option) -> int:
    properties = netdev.properties()
    return len(str(properties.get("fds", "0")).split(":"))


def _unix_path(filename: str) -> str | None:
    """The path at which a character device with this description listens (chardev/char-socket.c)."""
    unix = re.search(r"unix:(.*?)(?:,server(?:=on)?)?$", filename)
    return unix.group(1) if unix else None


@dataclass
class Resources:
    """Finds each descriptor of the command line by its use, never by its number: QEMU may have reused that."""

    line: CommandLine
    process: ProcessFacts
    qemu: QemuFacts
    targets: Mapping[str, str]
    vnc_sockets: frozenset[str]
    monitor: str
    vnc_listens: bool  # else viewers come through libvirt alone (virDomainOpenGraphicsFD)
    numbers: Iterator[int] = field(default_factory=lambda: count(FIRST_FD))
    carried: list[Carried] = field(default_factory=list)
    bound: list[Bound] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    displays: list[int] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    binds: list[str] = field(default_factory=list)
    cid: int | None = None

    def replacement(self, option: Option) -> Option | None:
        """The option for new QEMU, or None if it stays as it is."""
        match option.name:
            case "add-fd":
                return self._fdset(option)
            case "chardev":
                return self._chardev(option)
            case "netdev":
                return self._netdev(option)
            case "device" if kind(option).startswith("vhost-vsock"):
                return self._vsock(option)
            case "vnc":
                return self._vnc(option)
            case "spice":
                return self._spice(option)
            case _:
                return None

    def _carry(self, source: int, what: str) -> str:
        """Carry a descriptor; returns its number in new QEMU, as text for the command line."""
        number = next(self.numbers)
        self.carried.append(Carried(number, source, what))
        return str(number)

    def _fdset(self, option: Option) -> Option:
        wanted = option.properties()
        members = [m for m in self.qemu.fdsets if str(m.fdset) == wanted.get("set")]
        matching = [m for m in members if m.opaque == wanted.get("opaque")] or members
        if len(matching) != 1:
            raise Unplannable(f"descriptor set {wanted.get('set')}")
        return option.with_properties({"fd": self._carry(matching[0].fd, f"descriptor set {wanted.get('set')}")})

    def _chardev(self, option: Option) -> Option | None:
        wanted = option.properties()
        if wanted.get("") != "socket":
            return None
        label = str(wanted.get("id"))
        if wanted.get("path") in {helper.socket for helper in self.process.helpers}:
            return None  # there new QEMU finds a process of its own
        name = next((c.filename for c in self.qemu.chardevs if c.label == label), "")
        path = _unix_path(name)
        source = self._tcp_listener(name) if path is None else self.process.listeners.get(path)
        if source is None or not ({"fd", "port"} & wanted.keys() and wanted.get("server") in ("on", "yes")):
            raise Unplannable(f"the socket of character device {label}")
        bare = option.without("host", "port", "to", "ipv4", "ipv6", "reuseaddr", "nodelay")
        what = f"socket of {label}"
        if path == self.monitor and not fits(path):  # a daemon that starts anew must not find new QEMU there
            raise Unplannable(f"a socket beside {path}, whose name would be too long")
        if path is None or not fits(path):  # clients that connect meanwhile reach either QEMU
            return bare.with_properties({"fd": self._carry(source, what)})
        self.bound.append(Bound(next(self.numbers), source, what, path))
        return bare.with_properties({"fd": str(self.bound[-1].number)})

    def _tcp_listener(self, filename: str) -> int | None:
        """The listening socket of a character device with this description (chardev/char-socket.c)."""
        descriptors = self._tcp(filename)
        return descriptors[0] if len(descriptors) == 1 else None

    def _tcp(self, filename: str) -> list[int]:
        """TCP sockets that listen on the port: a host name may have several addresses."""
        address = re.search(r"(?:tcp|telnet):[^ ]*:(\d+)(?:,|$)", filename)
        return [fd for fd, port in self.process.ports.items() if address and port == int(address.group(1))]

    def _netdev(self, option: Option) -> Option | None:
        wanted = option.properties()
        kind = _kind(option)
        if kind == "stream" and self._helpers_socket(wanted):
            return None  # there new QEMU finds a process of its own
        if kind == "user" and not {"hostfwd", "guestfwd"} & wanted.keys():
            return None
        if kind != "tap":
            raise Unplannable(f"network back end {option.value}")
        interface = self.targets.get(str(wanted.get("id")).removeprefix("host"), "")
        queues = self.process.taps.get(interface, ())
        key = "fds" if "fds" in wanted else "fd"
        if len(str(wanted.get(key, "")).split(":")) != len(queues) or not queues:
            raise Unplannable(f"the tap queues of interface {interface or wanted.get('id')}")
        changes = {key: ":".join(self._carry(queue, f"queue of {interface}") for queue in queues)}
        for vhost in ("vhostfd", "vhostfds"):
            if vhost in wanted:
                changes[vhost] = ":".join(self._open("/dev/vhost-net") for _ in queues)
        if _is_attached(option) and self._vhost(str(wanted.get("id"))):
            changes["vhostfds" if key == "fds" else "vhostfd"] = ":".join(self._open("/dev/vhost-net") for _ in queues)
        return option.with_properties(changes)

    def _helpers_socket(self, netdev: Mapping[str, object]) -> bool:
        address = netdev.get("addr")
        return isinstance(address, dict) and address.get("path") in {helper.socket for helper in self.process.helpers}

    def _vhost(self, netdev: str) -> bool:
        """Whether an attached interface uses vhost-net: only the number of descriptors shows it.

        Either all attached virtio interfaces use it, or none does; otherwise raises Unplannable.
        """
        taps = [o for o in self.line.named("netdev") if _kind(o) == "tap"]
        may = {str(o.properties().get("id")): _queues(o) for o in taps if _is_attached(o) and self._is_virtio(o)}
        left = self.process.vhosts - sum(_queues(o) for o in taps if {"vhostfd", "vhostfds"} & o.properties().keys())
        if netdev not in may or left == 0:
            return False
        if left != sum(may.values()):
            raise Unplannable(f"the vhost descriptors of interface {netdev.removeprefix('host')}")
        return True

    def _is_virtio(self, netdev: Option) -> bool:
        users = (device for device in self.qemu.devices.values() if device.attached)
        name = netdev.properties().get("id")
        return any(user.settings.get("netdev") == name and user.driver.startswith("virtio-") for user in users)

    def _vsock(self, option: Option) -> Option:
        """New QEMU sets the CID when it makes the device (vhost_vsock_device_realize() in hw/virtio/vhost-vsock.c)."""
        properties = option.properties()
        cid = str(properties.get("guest-cid"))
        if not cid.isdecimal() or "vhostfd" not in properties:
            raise Unplannable("the vsock device")
        self.cid = int(cid)
        return option.with_properties({"vhostfd": self._open("/dev/vhost-vsock")})

    def _open(self, path: str) -> str:
        number = next(self.numbers)
        self.opened.append(Opened(number, path))
        return str(number)

    def _vnc(self, option: Option) -> Option:
        """New QEMU starts without an address and gets old QEMU's sockets (``display-update``) before the hand-over.

        A websocket can't be given that way (vnc_display_update() in ui/vnc.c): then new binds all ports itself.
        """
        if not self.vnc_listens:
            return option
        if self.vnc_sockets:
            self.displays += [fd for path, fd in self.process.listeners.items() if path in self.vnc_sockets]
        else:
            others = {fd for chardev in self.qemu.chardevs for fd in self._tcp(chardev.filename)}
            others |= {fd for spice in self.line.named("spice") for fd in self._spice_listeners(spice)}
            self.displays += [fd for fd in self.process.inet_listeners if fd not in others]
        if not self.displays:
            raise Unplannable("the VNC display's socket")
        properties = option.properties()
        if "websocket" in properties:
            if self.vnc_sockets:  # libvirt makes no such display (qemuBuildGraphicsVNCCommandLine)
                raise Unplannable("the websocket of a VNC display on a unix socket")
            self.ports, self.displays = [*self.ports, *self.displays], []
            return option
        return option.with_properties({"" if "" in properties else "vnc": "none"})

    def _spice(self, option: Option) -> Option:
        """New QEMU binds the port itself: spice-server takes no descriptor (qemu_spice_init() in ui/spice-core.c)."""
        properties = option.properties()
        if properties.get("unix") in ("on", True):
            path = final(str(properties.get("addr", "")))
            if path not in self.process.listeners or not fits(path):
                raise Unplannable("the SPICE display's socket")
            self.binds.append(path)
            return option.with_properties({"addr": beside(path)})
        found = self._spice_listeners(option)
        if {self.process.ports[fd] for fd in found} != _spice_ports(option):
            raise Unplannable("the SPICE display's socket")
        self.ports += found
        return option

    def _spice_listeners(self, option: Option) -> list[int]:
        ports = _spice_ports(option)
        return [fd for fd, port in self.process.ports.items() if port in ports]


def _spice_ports(option: Option) -> frozenset[int]:
    """The plain port and that of TLS; none: it listens nowhere, and viewers come through libvirt alone
    (virDomainOpenGraphicsFD)."""
    ports = [str(option.properties().get(key, 0)) for key in ("port", "tls-port")]
    if not all(port.isdecimal() for port in ports):
        raise Unplannable("the SPICE display's port")
    return frozenset(map(int, ports)) - {0}


# The properties of an option with descriptors that get new QEMU's own.
NUMBERED = frozenset({"fd", "fds", "vhostfd", "vhostfds"})


def refuse_unknown(options: Iterable[Option], replaced: Mapping[Option, Option]) -> None:
    """No other option may name a descriptor, nor a property beside those that are replaced: its number means nothing in
    new QEMU.  Raises Unplannable."""
    for option in options:
        left = set(descriptors(option)) - (NUMBERED if option in replaced else frozenset())
        if left:
            raise Unplannable(f"{', '.join(sorted(left))} of -{option.name} {option.value}")
