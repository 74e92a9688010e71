"""The changes that ``prepare`` can make in a document, and their descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virtcpr.domain.edit.document import unescape


@dataclass(frozen=True)
class SetAttribute:
    """``was`` is the old text, with its references; None if the attribute is new."""

    path: str
    attribute: str
    was: str | None
    now: str

    def described(self) -> str:
        if self.was is None:
            return f"{self.path}: {self.attribute}='{self.now}' added"
        return f"{self.path}: {self.attribute} '{unescape(self.was)}' → '{self.now}'"

    def taken_back(self) -> str:
        if self.was is None:
            return f"{self.path}: {self.attribute}='{self.now}' removed"
        return f"{self.path}: {self.attribute} '{self.now}' → '{unescape(self.was)}'"


@dataclass(frozen=True)
class AddedElement:
    """An element without its children.  ``ending`` is how its parent's start tag ended, if the parent was empty."""

    path: str
    attributes: Mapping[str, str]
    ending: str | None = None

    def described(self) -> str:
        return f"added {self._written()}"

    def taken_back(self) -> str:
        return f"removed {self._written()}"

    def _written(self) -> str:
        return " ".join([self.path, *(f"{name}='{value}'" for name, value in self.attributes.items())])


@dataclass(frozen=True)
class AddedOption:
    """Two arguments for QEMU, an option and its value.  ``ending`` is how ``<qemu:commandline>`` ended."""

    name: str
    value: str
    ending: str | None = None

    def described(self) -> str:
        return f"added qemu:commandline {self.name} {self.value}"

    def taken_back(self) -> str:
        return f"removed qemu:commandline {self.name} {self.value}"


@dataclass(frozen=True)
class ChangedArgument:
    """One argument for QEMU.  ``was`` is the old text, with its references.

    ``before`` is how many arguments with the same new text come before it.
    """

    was: str
    now: str
    before: int

    def described(self) -> str:
        return f"qemu:commandline: '{unescape(self.was)}' → '{self.now}'"

    def taken_back(self) -> str:
        return f"qemu:commandline: '{self.now}' → '{unescape(self.was)}'"


@dataclass(frozen=True)
class Declared:
    """A prefix for the namespace of ``<qemu:commandline>``, on the root element."""

    prefix: str

    def described(self) -> str:
        return f"added xmlns:{self.prefix}"

    def taken_back(self) -> str:
        return f"removed xmlns:{self.prefix}"


Change = SetAttribute | AddedElement | AddedOption | ChangedArgument | Declared
