"""Templates of what ``prepare`` ensures: the administrator's own, or those that came with virtcpr."""

from __future__ import annotations

import os
import stat
from importlib.resources import files
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files import read_text

OVERRIDES = Path("/etc/virtcpr/xml-templates")


def template(name: str, overrides: Path = OVERRIDES) -> tuple[str, str]:
    """(path, text) of the template of this name, without ``.xml``.

    Raises HostError where it can't be read, or where others than root may write it: it says what goes into every
    domain.
    """
    path = overrides / f"{name}.xml"
    if not path.exists():
        path = Path(str(files("virtcpr") / "xml-templates" / f"{name}.xml"))
        return str(path), read_text(path)
    for one in (path, path.parent):
        kind = os.stat(one)
        if kind.st_uid != 0 or kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostError(f"{one} can be written by others than root", hint=f"chown root {one}; chmod go-w {one}")
    return str(path), read_text(path)
