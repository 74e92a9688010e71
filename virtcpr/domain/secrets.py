"""Secrets that a domain's XML can hold, kept out of what people are shown."""

from __future__ import annotations

import re

# Passwords of VNC and SPICE displays (virDomainGraphicsAuthDef); libvirt's other secrets are in objects of their own.
PASSWORD = re.compile(r"""(\bpasswd\s*=\s*)(?:'[^']*'|"[^"]*")""")


def masked(text: str) -> str:
    """The text with every password replaced by stars; for showing only."""
    return PASSWORD.sub(r"\1'***'", text)
