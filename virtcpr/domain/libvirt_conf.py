"""Settings of libvirt's configuration files, such as qemu.conf, as libvirt reads them (src/util/virconf.c)."""

from __future__ import annotations

import re

# A comment, or a setting up to its value.  Strings have no escapes; only the triple quotes span lines.
STATEMENT = re.compile(
    r"""\#[^\n]*
    | (?P<name>[A-Za-z][A-Za-z0-9_]*) [ \t]* = [ \t]*
      (?P<value> \"{3}(?P<long>.*?)\"{3} | \"(?P<double>[^"\n]*)\" | '(?P<single>[^'\n]*)'
               | \[ (?: "[^"\n]*" | '[^'\n]*' | [^]"'] )* \] | [^\s;\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)


QUOTED = re.compile(r""" "([^"\n]*)" | '([^'\n]*)' """, re.VERBOSE)


def strings(value: str) -> list[str]:
    """The strings of a list, as ``setting`` returns it."""
    return [double or single for double, single in QUOTED.findall(value)]


def setting(text: str, name: str) -> str | None:
    """The text of a setting; None if it isn't set.  If it is set several times, the first counts (virConfGetValue).

    A value that is no string is returned as written: it is set, and the caller doesn't know it.
    """
    for statement in STATEMENT.finditer(text):
        if statement["name"] == name:
            strings = (statement[quotes] for quotes in ("long", "double", "single"))
            return next((string for string in strings if string is not None), statement["value"])
    return None
