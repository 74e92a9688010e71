"""Mail to the administrator, by the host's own sendmail(8)."""

from __future__ import annotations

import socket
from email.message import EmailMessage
from email.policy import SMTP

from virtcpr.host.processes.run import run

SENDMAIL = "/usr/sbin/sendmail"


def host_name() -> str:
    """The name of this host."""
    return socket.gethostname()


def send(address: str, subject: str, text: str) -> None:
    """Hand a mail to sendmail, which may deliver it later.  Raises HostError if sendmail refuses it."""
    run([SENDMAIL, "-i", address], text=message(address, subject, text))


def message(address: str, subject: str, text: str) -> bytes:
    """The mail as it is sent; vacation programs don't answer it (RFC 3834)."""
    mail = EmailMessage(policy=SMTP.clone(linesep="\n", utf8=False))
    mail["To"] = address
    mail["Subject"] = subject
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text.encode(errors="replace").decode() + "\n")
    return mail.as_bytes()
