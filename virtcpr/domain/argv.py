"""QEMU's command line as data: read from ``/proc/PID/cmdline``, and rewritten for the process that takes over."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from virtcpr.errors import ParseError

# Options without a value (qemu-options.hx, HAS_ARG absent); every other option takes the next argument.
FLAGS = frozenset(
    [
        "h",
        "help",
        "version",
        "S",
        "s",
        "nographic",
        "enable-kvm",
        "snapshot",
        "no-shutdown",
        "no-reboot",
        "daemonize",
        "full-screen",
        "alt-grab",
        "ctrl-grab",
        "no-quit",
        "usb",
        "win2k-hack",
        "no-fd-bootchk",
        "no-acpi",
        "no-hpet",
        "old-param",
        "no-user-config",
        "nodefaults",
        "nodefconfig",
        "mem-prealloc",
        "singlestep",
        "only-migratable",
        "preconfig",
        "xen-attach",
        "xen-domid-restrict",
        "show-cursor",
        "portrait",
        "enable-sync-profile",
        "perfmap",
        "jitdump",
    ]
)

# Not for a successor: waiting for an old channel, or loading a snapshot into the running guest's RAM.
DROPPED = ("S", "incoming", "loadvm")

Properties = Mapping[str, object]


@dataclass(frozen=True)
class Option:
    """One option.  ``value`` is its unchanged text, JSON or ``key=value,…``."""

    name: str
    value: str | None = None

    def properties(self) -> Properties:
        """The value as a mapping.  A leading word without ``=`` is under the key ``""``."""
        if self.value is None:
            return {}
        if self.value.startswith("{"):
            return _json_object(self.value)
        return dict(_pairs(self.value))

    def with_properties(self, changes: Mapping[str, object]) -> Option:
        """The same option with these properties set, in the syntax that it already has."""
        return self._of({**self.properties(), **changes})

    def with_kind(self, kind: str, changes: Mapping[str, object]) -> Option:
        """The same, of an object or device, which becomes one of this kind."""
        word = next((key for key in ("qom-type", "driver") if key in self.properties()), "")
        return self.with_properties({word: kind, **changes})

    def _of(self, properties: Properties) -> Option:
        if self.value is not None and self.value.startswith("{"):
            return replace(self, value=json.dumps(properties, separators=(",", ":")))
        written = ((key, _escape(_word(value))) for key, value in properties.items())
        return replace(self, value=",".join(word if key == "" else f"{key}={word}" for key, word in written))

    def without(self, *names: str) -> Option:
        """The same option without these properties."""
        if self.value is None or not set(names) & self.properties().keys():
            return self
        return self._of({key: value for key, value in self.properties().items() if key not in names})


def _json_object(text: str) -> Properties:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ParseError(f"QEMU's command line has broken JSON: {text[:80]}") from error
    assert isinstance(value, dict)  # it starts with a brace
    return value


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Split ``key=value,key=value``; a doubled comma means one comma (util/qemu-option.c)."""
    words = text.replace(",,", "\0").split(",")
    for position, word in enumerate(words):
        name, equals, value = word.replace("\0", ",").partition("=")
        if equals:
            yield name, value
        elif position == 0 and name:
            yield "", name
        elif name:
            yield name, "on"


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _escape(value: str) -> str:
    return value.replace(",", ",,")


@dataclass(frozen=True)
class CommandLine:
    emulator: str
    options: tuple[Option, ...]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> CommandLine:
        """Read an argument list.  Raises ParseError if it isn't one that libvirt writes."""
        if not argv:
            raise ParseError("the QEMU process has an empty command line")
        options: list[Option] = []
        words = iter(argv[1:])
        for word in words:
            if not word.startswith("-"):
                raise ParseError(f"QEMU's command line has an argument that belongs to no option: {word}")
            name = word.removeprefix("-").removeprefix("-")
            if name in FLAGS:
                options.append(Option(name))
                continue
            value = next(words, None)
            if value is None:
                raise ParseError(f"QEMU's command line ends after {word}, which needs a value")
            options.append(Option(name, value))
        return cls(argv[0], tuple(options))

    def argv(self) -> tuple[str, ...]:
        words = [self.emulator]
        for option in self.options:
            words.append(f"-{option.name}")
            if option.value is not None:
                words.append(option.value)
        return tuple(words)

    def named(self, *names: str) -> Iterator[Option]:
        return (option for option in self.options if option.name in names)

    def chardev_paths(self, labels: Collection[str]) -> dict[str, str]:
        """Label → path of the unix socket, of the character devices among ``labels`` that have one."""
        chardevs = [option.properties() for option in self.named("chardev")]
        return {str(c["id"]): str(c["path"]) for c in chardevs if c.get("path") and str(c.get("id")) in labels}

    def ids(self, *names: str, key: str = "id") -> frozenset[str]:
        """The ids of all options of these names that have an id."""
        values = (option.properties().get(key) for option in self.named(*names))
        return frozenset(value for value in values if isinstance(value, str))


def successor(
    old: CommandLine, emulator: str, replaced: Mapping[Option, Option], cpr_socket: str | None, *more: Option
) -> CommandLine:
    """The command line of the QEMU that takes over from ``old``.

    ``replaced`` maps options whose file descriptors or addresses change to their replacements.  New QEMU waits (``-S``,
    ``-incoming defer``), if ``cpr_socket`` is given on the CPR channel there; options that an earlier swap added are
    dropped.
    """
    kept = [replaced.get(option, option) for option in old.options if option.name not in DROPPED]
    waiting = [Option("S"), Option("incoming", "defer")]
    if cpr_socket is not None:
        channel = {"channel-type": "cpr", "addr": {"transport": "socket", "type": "unix", "path": cpr_socket}}
        waiting.append(Option("incoming", json.dumps(channel, separators=(",", ":"))))
    return CommandLine(emulator, (*kept, *more, *waiting))
