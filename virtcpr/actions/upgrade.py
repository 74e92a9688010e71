"""``upgrade``: move running domains to the installed QEMU, in the mode of the request."""

from __future__ import annotations

from contextlib import AbstractContextManager

from virtcpr.actions.reboot import batch as reboot
from virtcpr.actions.reboot import move as reboot_move
from virtcpr.actions.transfer import batch as transfer
from virtcpr.actions.transfer import move as transfer_move
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import Mode, Outlook, Request


def open_upgrade(request: Request) -> AbstractContextManager[transfer.Batch | reboot.Batch]:
    """Take the host's lock, look at the domains, plan and rehearse; nothing is touched before ``run``.

    Raises UsageError if the request is invalid, HostError if the host isn't ready, Unsettled if an earlier action was
    interrupted.
    """
    return reboot.open_batch(request) if request.mode is Mode.REBOOT else transfer.open_batch(request)


def outlooks(connection: Connection, request: Request) -> list[Outlook]:
    """What ``open_upgrade(request)`` would do with each domain.  Raises UsageError and HostError; touches nothing."""
    planned = reboot_move.planned if request.mode is Mode.REBOOT else transfer_move.planned
    return [move.outlook() for move in planned(connection, request)]
