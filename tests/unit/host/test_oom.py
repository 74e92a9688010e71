"""Whom the kernel kills first if memory runs out."""

from __future__ import annotations

import subprocess

from virtcpr.host.processes import oom
from virtcpr.host.processes.proc import Process


def test_a_process_is_offered_first() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        process = Process.of(child.pid)
        before = oom.score(process)
        oom.give(process, oom.EXPENDABLE)
        assert (before < oom.EXPENDABLE, oom.score(process)) == (True, oom.EXPENDABLE)
        child.kill()
    oom.give(process, before)  # it is gone, which is no failure
    assert oom.score(process) == 0
