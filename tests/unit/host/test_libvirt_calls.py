"""No call of libvirt's library takes longer than its deadline."""

from __future__ import annotations

import threading

import pytest

from virtcpr.errors import HostError
from virtcpr.host.libvirt import calls


def test_a_call_that_libvirt_never_answers() -> None:
    never = threading.Event()
    with pytest.raises(HostError, match=r"libvirt's daemon didn't answer within 0\.05 s: it hangs, or a QEMU") as late:
        calls.within(never.wait, seconds=0.05)
    assert "virsh list" in str(late.value.hint)
    never.set()


def test_a_call_that_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        calls.within(lambda: 1 / 0)
    assert calls.within(divmod, 7, 2) == (3, 1)
