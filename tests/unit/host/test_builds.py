"""What a process really runs: the program behind a script, and libraries that were replaced on disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lxml
import pytest

from virtcpr.host.processes.libraries import replaced
from virtcpr.host.processes.proc import Process, leaves

MODULES = sorted(Path(lxml.__file__).parent.glob("*.so"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may read a deleted library")


@contextmanager
def loading(library: Path) -> Iterator[Process]:
    """A process that has this library in its memory, and a deleted file of data."""
    script = (
        "import ctypes, mmap, sys, tempfile; ctypes.PyDLL(sys.argv[1]); f = tempfile.TemporaryFile(); "
        "f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(library)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        yield Process.of(child.pid)
        child.stdin.close()


def put(source: Path, library: Path) -> None:
    """As a package manager does: the new file takes the old one's name."""
    fresh = library.with_suffix(".new")
    shutil.copy(source, fresh)
    fresh.rename(library)


@as_root
def test_a_library_of_another_build_on_disk_is_replaced(tmp_path: Path) -> None:
    library = tmp_path / "lib with spaces.so"
    put(MODULES[0], library)
    with loading(library) as process:
        assert replaced(process) == ()
        put(MODULES[0], library)
        assert replaced(process) == ()  # installed again
        put(MODULES[1], library)
        assert replaced(process) == (str(library),)


def test_a_library_that_is_gone_is_replaced(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    put(MODULES[0], library)
    with loading(library) as process:
        library.unlink()
        assert replaced(process) == (str(library),)


@pytest.mark.parametrize(("script", "program"), [("exec sleep 60", "sleep"), ("sleep 60; true", "sleep")])
def test_the_program_that_a_script_runs(script: str, program: str) -> None:
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as shell:
        try:
            while True:  # until it has run it
                found = leaves(shell.pid)
                names = [os.path.basename(os.readlink(f"/proc/{pid}/exe")) for pid in found]
                if names == [program]:
                    break
        finally:
            os.killpg(shell.pid, 9)
