"""Where QEMU runs, before and after: the kernel's own words are read and set here, in a process that may be changed."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virtcpr.actions.transfer import place_threads
from virtcpr.host.processes import placement, policies, resctrl, threads
from virtcpr.host.processes.proc import Process
from virtcpr.host.system import cgroup
from virtcpr.plan.placement import MAIN, Placement, differences

BEFORE = Placement(
    process={"umask": "0002", "limit 'Max open files'": "1024/1024"},
    threads={
        MAIN: {"cgroup": "/emulator", "CPU affinity": "0", "scheduling": "other 0"},
        "vCPU 0": {"cgroup": "/vcpu0", "CPU affinity": "1", "scheduling": "fifo 3"},
    },
    helpers={"thread 7": {"cgroup": "/emulator", "CPU affinity": "0,1"}},
)


def test_what_is_as_it_was_is_not_mentioned() -> None:
    """Threads of QEMU's own come and go; what can't be read on one side isn't compared."""
    more = {"thread 8": {"cgroup": "/emulator", "CPU affinity": "0"}, "thread 9": {"CPU affinity": "0,1"}, "gone": {}}
    assert list(differences(BEFORE, replace(BEFORE, helpers=more, process={"umask": "0002"}))) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(BEFORE, process={"umask": "0022"}), "the umask of new QEMU is 0022, it was 0002"),
        (
            replace(BEFORE, threads={**BEFORE.threads, "vCPU 0": {"scheduling": "other 0"}}),
            "the scheduling of vCPU 0 is other 0, it was fifo 3",
        ),
        (replace(BEFORE, threads={MAIN: BEFORE.threads[MAIN]}), "vCPU 0 has no thread any more"),
        (
            replace(BEFORE, helpers={"thread 8": {"cgroup": "/", "CPU affinity": "0"}}),
            "the cgroup of thread 8 is /, old QEMU's threads had /emulator or /vcpu0",
        ),
        (
            replace(BEFORE, helpers={"thread 8": {"CPU affinity": "2"}}),
            "the CPU affinity of thread 8 is 2, old QEMU's threads had 0 or 0,1 or 1",
        ),
    ],
)
def test_what_is_not_where_it_was_is_told(after: Placement, said: str) -> None:
    assert list(differences(BEFORE, after)) == [said]


SETS = """
import os, sys
from virtcpr.host.processes import policies
policies.set_memory_policy(sys.argv[1])
policies.set_io_priority(0, 2 << 13 | 6)
os.sched_setaffinity(0, {0})
os.setpriority(os.PRIO_PROCESS, 0, 5)
os.execv("/bin/sleep", ["sleep", "600"])
"""


@pytest.fixture
def set_so(request: pytest.FixtureRequest) -> Iterator[Process]:
    child = subprocess.Popen([sys.executable, "-c", SETS, request.param])
    try:
        while "nanosleep" not in Path(f"/proc/{child.pid}/wchan").read_text():  # it is all there, not just named so
            assert child.poll() is None
        yield Process.of(child.pid)
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "set_so", ["bind:0", "prefer:0", "interleave=static:0", "local", "default"], indirect=True, ids=str
)
def test_a_memory_policy_is_read_and_set_as_the_kernel_spells_it(
    set_so: Process, request: pytest.FixtureRequest
) -> None:
    if (found := policies.memory_policy(Path("/proc/self"))) is None:
        pytest.skip("a kernel without NUMA")
    assert found == "default"
    wanted = request.node.callspec.params["set_so"]
    assert policies.memory_policy(set_so.path) == wanted
    assert placement.of_process(set_so)["NUMA policy"] == wanted


def test_a_memory_policy_that_nobody_knows_is_not_set() -> None:
    for text in ("newest:0", "bind=odd:0"):
        with pytest.raises(KeyError):
            policies.set_memory_policy(text)


@pytest.mark.parametrize("set_so", ["default"], indirect=True)
def test_a_thread_gets_what_its_counterpart_has(set_so: Process) -> None:
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        assert other.native_id is not None
        own, process = other.native_id, Process.of(os.getpid())
        assert threads.mirror((set_so.pid, set_so.pid), (process.pid, own)) == ()
        wanted = placement.of_thread(set_so, set_so.pid)
        assert wanted["I/O priority"] == str(2 << 13 | 6)
        assert (wanted["CPU affinity"], wanted["nice value"], wanted["scheduling"]) == ("0", "5", "other 0")
        assert placement.of_thread(process, own) == wanted
        assert placement.of_thread(set_so, own) == {}, "another's thread"
    finally:
        over.set()
        other.join()


@pytest.fixture
def resctrl_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with resource control, as plain directories: the real one needs a processor that has it."""
    for group in (".", "qemu-1-web-vcpus_0", "qemu-1-web-vcpus_0/mon_groups/vcpu0", "mon_groups/all"):
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "tasks").write_text("")
    monkeypatch.setattr(resctrl, "ROOT", tmp_path)
    return tmp_path


def test_threads_are_put_into_the_groups_of_their_counterparts(resctrl_root: Path) -> None:
    """The control group first: whoever moves to another one leaves its monitoring group."""
    own = "qemu-1-web-vcpus_0"
    (resctrl_root / own / "tasks").write_text("11\n12\n")
    (resctrl_root / own / "mon_groups/vcpu0/tasks").write_text("11\n")

    found = resctrl.groups([10, 11, 12])

    assert found == {11: (own, f"{own}/mon_groups/vcpu0"), 12: (own,)}
    assert place_threads.mirror_groups([(10, 20), (11, 21), (12, 22)]) == []
    assert (resctrl_root / own / "mon_groups/vcpu0/tasks").read_text() == "21\n"
    assert (resctrl_root / own / "tasks").read_text() == "22\n", "the last that was written"
    assert (resctrl_root / "tasks").read_text() == "", "the default group takes whoever isn't in another"


def test_groups_are_part_of_the_picture(resctrl_root: Path) -> None:
    process = Process.of(os.getpid())
    (resctrl_root / "mon_groups/all/tasks").write_text(f"{process.pid}\n")
    before = place_threads.picture(process, {MAIN: process.pid})
    (resctrl_root / "mon_groups/all/tasks").write_text("")
    after = place_threads.picture(process, {MAIN: process.pid})
    assert list(differences(before, after)) == [
        f"the resctrl groups of {MAIN} is the default one, it was mon_groups/all"
    ]


def test_a_host_without_resource_control_has_no_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resctrl, "ROOT", tmp_path / "none")
    assert not resctrl.mounted()
    assert resctrl.groups([os.getpid()]) == {}


def test_the_cookie_of_core_scheduling_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own part needs a processor with several threads a core."""
    cookies = {os.getpid(): 7, threading.get_native_id() + 1: 0}
    monkeypatch.setattr(policies, "core_cookie", lambda thread: cookies.get(thread, 0))
    shared = []
    monkeypatch.setattr(policies, "share_core_cookie", lambda source, target: shared.append((source, target)))
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        assert other.native_id is not None
        own = (os.getpid(), other.native_id)
        assert threads.mirror((os.getpid(), os.getpid()), own) == ()
        assert shared == [(os.getpid(), other.native_id)]
        threads.follow((os.getpid(), os.getpid()), own)
        assert len(shared) == 2
    finally:
        over.set()
        other.join()


def test_a_kernel_without_core_scheduling_has_no_cookies() -> None:
    if policies.core_cookie(os.getpid()) == 0:
        assert placement.of_thread(Process.of(os.getpid()), os.getpid())["core-scheduling cookie"] == "0"


def test_the_mounts_are_read_once_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes milliseconds to list them; vCPU threads are hundreds, and guests are paused."""
    read, text = [], Path.read_text

    def counted(path: Path, *arguments: str, **options: str) -> str:
        if path == Path("/proc/self/mounts"):
            read.append(path)
        return text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    cgroup._mounts.cache_clear()
    for _ in range(3):
        placement.of_thread(Process.of(os.getpid()), os.getpid())
    assert len(read) == (1 if os.geteuid() == 0 else 0)


def test_a_group_that_takes_no_thread_is_told_of(resctrl_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (resctrl_root / "mon_groups/all/tasks").write_text("11\n")

    def full(path: Path, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    told = place_threads.mirror_groups([(11, 21)])
    assert told == [f"resource control (resctrl): {resctrl_root}/mon_groups/all/tasks: No space left on device"]


def test_a_placement_that_is_interrupted_is_over_before_new_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads' numbers may be others' soon after."""
    begun, may_end, done = threading.Event(), threading.Event(), []

    def slow(*_: object) -> place_threads.Placed:
        begun.set()
        may_end.wait(10)
        done.append("placed")
        return place_threads.Placed(BEFORE, [])

    async def known(process: Process, _: object) -> dict[str, int]:
        return {MAIN: process.pid}

    async def interrupted() -> None:
        process: Any = Process.of(os.getpid())
        task = asyncio.create_task(place_threads.place((process, process), (process, process)))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["placed"]

    monkeypatch.setattr(place_threads, "_place", slow)
    monkeypatch.setattr(place_threads, "_known", known)
    asyncio.run(interrupted())
