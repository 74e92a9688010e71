"""Which build a guest runs: behind a script as emulator, with libraries that were replaced, and moved all the same."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL

WRAPPER = "/usr/local/bin/qemu-wrapped"
# Another build of the library that holds QEMU's user-mode network takes the place of the present one.
REPLACE = """
import os, shutil, sys
path = os.path.realpath(sys.argv[1])
shutil.copy(path, path + ".new")
with open(path + ".new", "r+b") as file:
    start = file.read(1 << 16).index(b"\\x04\\0\\0\\0\\x14\\0\\0\\0\\x03\\0\\0\\0GNU\\0")
    file.seek(start + 16)
    file.write(b"rebuilt")
os.rename(path + ".new", path)
print(path)
"""


def listed() -> Any:
    (domain,) = json.loads(run("virtcpr", "list", "-o", "json").out)["domains"]
    return domain


def test_a_script_as_emulator_runs_the_build_that_it_runs(guests: Guests) -> None:
    guests.start(SMALL, watch=False)
    shell(f"cat > {WRAPPER}; chmod +x {WRAPPER}", stdin=f'#!/bin/sh\nexec {EMULATOR} "$@"\n')

    report = client.upgrade(SMALL.name, "--emulator", WRAPPER)

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "current"), report


def test_a_library_that_was_replaced_makes_a_guest_outdated(guests: Guests) -> None:
    guests.start(SMALL)
    process = client.pid(SMALL.name)
    assert listed()["outdated"] is False
    library = shell("ls /usr/lib/*/libslirp.so.0").strip()
    path = run("python3", "-", library, stdin=REPLACE).out.strip()

    assert listed()["outdated"] is True
    (found,) = (
        finding
        for finding in json.loads(run("virtcpr", "check", SMALL.name, "-o", "json").out)["domains"][0]["findings"]
        if finding["code"] == "libraries"
    )
    assert path in found["message"]

    report = client.upgrade(SMALL.name)

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    assert client.pid(SMALL.name) != process
    assert listed()["outdated"] is False
    guests.assert_well(SMALL)


def test_a_domain_that_is_current_is_moved_if_asked(guests: Guests) -> None:
    guests.start(SMALL)
    process = client.pid(SMALL.name)
    assert client.upgrade(SMALL.name)["domains"][0]["result"] == "current"
    planned = json.loads(run("virtcpr", "plan", "--force", SMALL.name, "-o", "json").out)
    assert planned["domains"][0]["action"] == "move"

    report = client.upgrade("--force", SMALL.name)

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "upgraded"), report
    assert client.pid(SMALL.name) != process
    guests.assert_well(SMALL)
