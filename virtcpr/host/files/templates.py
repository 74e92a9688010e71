"""Templates of what ``prepare`` ensures: the administrator's own, or those of virtcpr."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from virtcpr.errors import HostError, UsageError
from virtcpr.host.files.atomic import read_text

OVERRIDES = Path("/etc/virtcpr/xml-templates")
SHIPPED = Path(str(files("virtcpr"))) / "xml-templates"

# The template of each mode if none is named.
DEFAULTS = {"transfer": "transfer", "reboot": "reboot-file"}


@dataclass(frozen=True)
class Template:
    """A fragment of domain XML, the name that selects it, and its path."""

    name: str
    path: str
    text: str


def template(mode: str, name: str | None = None, overrides: Path = OVERRIDES) -> Template:
    """The mode's template with this name, or its default template.

    Raises UsageError if there is none, HostError if it can't be read, or if users other than root may write it: it
    goes into every domain.
    """
    name = DEFAULTS[mode] if name is None else name
    known = names(mode, overrides)
    if name not in known:
        raise UsageError(f"'{name}' is no template of mode {mode}", hint=f"there are: {', '.join(known)}")
    path = overrides / f"{name}.xml"
    if not path.exists():
        path = SHIPPED / f"{name}.xml"
        return Template(name, str(path), read_text(path))
    for entry in (path, path.parent):
        kind = os.stat(entry)
        if kind.st_uid != 0 or kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostError(
                f"{entry} can be written by others than root", hint=f"chown root {entry}; chmod go-w {entry}"
            )
    return Template(name, str(path), read_text(path))


def names(mode: str, overrides: Path = OVERRIDES) -> list[str]:
    """The templates of a mode: their names are the mode's, or begin with it and a dash."""
    stems = {path.stem for folder in (SHIPPED, overrides) for path in folder.glob("*.xml")}
    return sorted(name for name in stems if name.partition("-")[0] == mode)
