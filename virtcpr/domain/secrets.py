"""Mask the secrets of a domain's XML before it is shown."""

from __future__ import annotations

import re

# Passwords of VNC and SPICE displays (virDomainGraphicsAuthDef), cookies of disks on HTTP (virStorageNetCookieDef);
# libvirt keeps other secrets in objects of their own, unless an administrator added one by hand (-object secret).
PASSWORD = re.compile(r"""(\bpasswd\s*=\s*)(?:'[^']*'|"[^"]*")""")
COOKIE = re.compile(r"(<cookie\b[^>]*>)[^<]*(</cookie>)")
ARGUMENT = re.compile(r"<qemu:(?:arg|env)\b[^>]*>")
GIVEN = re.compile(r"""(\b(?:data|password)(?:=|(?:&quot;|")\s*:\s*(?:&quot;|")))(?:(?!&quot;)[^,'"])*""")


def masked(text: str) -> str:
    """The text with every secret replaced by stars; for display only."""
    text = ARGUMENT.sub(lambda argument: masked_words(argument[0]), text)
    return COOKIE.sub(r"\1***\2", PASSWORD.sub(r"\1'***'", text))


def masked_words(text: str) -> str:
    """A message of QEMU, without the secrets in a quoted option."""
    return GIVEN.sub(r"\1***", text)
