"""Secrets that a domain's XML can hold, kept out of what people are shown."""

from __future__ import annotations

import re

# Passwords of VNC and SPICE displays (virDomainGraphicsAuthDef), cookies of disks on HTTP (virStorageNetCookieDef);
# libvirt's other secrets are in objects of their own, unless an administrator gave QEMU one by hand (-object secret).
PASSWORD = re.compile(r"""(\bpasswd\s*=\s*)(?:'[^']*'|"[^"]*")""")
COOKIE = re.compile(r"(<cookie\b[^>]*>)[^<]*(</cookie>)")
ARGUMENT = re.compile(r"<qemu:(?:arg|env)\b[^>]*>")
GIVEN = re.compile(r"""(\b(?:data|password)(?:=|(?:&quot;|")\s*:\s*(?:&quot;|")))(?:(?!&quot;)[^,'"])*""")


def masked(text: str) -> str:
    """The text with every secret replaced by stars; for showing only."""
    text = ARGUMENT.sub(lambda argument: masked_words(argument[0]), text)
    return COOKIE.sub(r"\1***\2", PASSWORD.sub(r"\1'***'", text))


def masked_words(text: str) -> str:
    """What QEMU says, without the secrets of an option that it quotes."""
    return GIVEN.sub(r"\1***", text)
