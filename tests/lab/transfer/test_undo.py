"""`undo`: a batch goes back to the build that it came from, which isn't installed any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab
from tests.lab.support.reboots import define

WEB = replace(SMALL, name="web", number=31, memory_mib=192, ram_mib=16)
DB = replace(SMALL, name="db", number=32, memory_mib=192, ram_mib=16)
BUILDS = "/var/lib/virtcpr-builds"
VIDEO = "<video><model type='virtio'/></video><graphics type='vnc' autoport='yes'/>"
NIC = "<interface type='network'><source network='default'/><model type='e1000e'/></interface>"


@pytest.fixture(scope="module")
def both(lab: Lab) -> Iterator[Guests]:
    """Two guests in OLD, one with modules; NEW is installed, and OLD is gone from the disk."""
    made = Guests()
    made.start(WEB)
    define(DB, lambda xml: xml.replace("</devices>", f"{VIDEO}</devices>"))
    made.adopt(DB)
    virsh("start", "db")
    made.watch(DB)
    client.install_qemu("NEW")
    yield made
    made.end()


def undo(*arguments: str) -> Any:
    return json.loads(client.virtcpr("undo", "--yes", "-o", "json", *arguments).out)


def results(report: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one["name"]: (one["result"], tuple(f["code"] for f in one["findings"])) for one in report["domains"]}


def program(name: str) -> str:
    return run("readlink", f"/proc/{client.pid(name)}/exe").out.strip()


def history() -> list[tuple[object, ...]]:
    entries = json.loads(client.virtcpr("history", "-o", "json").out)["entries"]
    return [(entry["name"], entry["batch"], entry["undoes"]) for entry in entries]


def attach_and_detach(name: str) -> None:
    """QEMU opens the interface's ROM, a file of its firmware."""
    shell(f"virsh -q attach-device {name} /dev/stdin --live", stdin=NIC)
    mac = shell(f"virsh -q domiflist {name} | awk '$4 == \"e1000e\" {{ print $5 }}'").strip()
    virsh("detach-interface", name, "network", "--mac", mac, "--live")


def test_a_batch_goes_back(both: Guests) -> None:
    known = client.versions()
    assert client.upgrade("--all")["exit_code"] == 0
    (kept,) = json.loads(client.virtcpr("builds", "-o", "json").out)["builds"]
    assert (known["OLD"] in kept["version"], kept["runs"]) == (True, False)
    before = {name: client.pid(name) for name in ("web", "db")}

    report = undo()

    clean = ("upgraded", ())
    assert (report["exit_code"], report["command"], results(report)) == (0, "undo", {"web": clean, "db": clean}), report
    assert all(client.pid(name) != before[name] for name in before)
    for guest in (WEB, DB):
        assert program(guest.name) == kept["program"] == f"{BUILDS}/{kept['build']}/qemu-system-x86_64"
        assert client.qemu_version(guest.name) == client.upstream(known["OLD"])
        both.assert_well(guest)
    attach_and_detach("web")
    assert history() == [("db", 1, None), ("web", 1, None), ("db", 2, 1), ("web", 2, 1)]
    assert leftovers() == ""


def test_its_own_firmware_and_modules_are_used(both: Guests) -> None:
    """The firmware that it would load, and modules that it has loaded: those that it had in memory before."""
    root = f"{program('web').removesuffix('/qemu-system-x86_64')}/qemu-bundle"
    assert run("sh", "-c", f"ls {root}/usr/share/seabios/*.bin {root}/usr/share/qemu/*.rom").code == 0
    listed = run("setpriv", "--reuid=65534", "--clear-groups", "--", program("web"), "-L", "help").out.split()
    assert listed
    assert all(directory.startswith(f"{root}/") for directory in listed), listed
    mapped = shell(f"grep -o '/[^ ]*/qemu/[^ ]*[.]so' /proc/{client.pid('db')}/maps | sort -u").split()
    assert mapped
    assert all(module.startswith(f"{root}/usr/lib/") for module in mapped), mapped


def test_what_went_back_is_not_moved_by_itself(both: Guests) -> None:
    shell("mkdir -p /etc/virtcpr; echo 'auto = \"apply\"' > /etc/virtcpr/virtcpr.toml")
    report = json.loads(client.virtcpr("auto", "--dry-run", "-o", "json").out)
    assert {one["name"]: one["action"] for one in report["domains"]} == {"web": "left", "db": "left"}
    assert "'virtcpr undo' has taken it back" in report["domains"][0]["reason"]
    again = undo()
    assert (again["exit_code"], again["domains"], again["notes"]) == (0, [], ["nothing to undo"])


def test_what_was_moved_on_or_is_gone_stays(both: Guests) -> None:
    """A build that a guest runs in isn't removed, however few are to be kept."""
    assert client.upgrade("--all")["exit_code"] == 0  # batch 3
    shell("printf '[keep]\nbuilds = 1\n' > /etc/virtcpr/virtcpr.toml")
    virsh("destroy", "db")
    known = client.versions()
    client.install_qemu("NEXT")
    assert client.upgrade("web")["exit_code"] == 0  # batch 4, out of NEW, which alone is kept then
    (kept,) = json.loads(client.virtcpr("builds", "-o", "json").out)["builds"]
    assert known["NEW"] in kept["version"]

    report = undo("3")

    assert report["exit_code"] == 0
    assert sorted(report["notes"]) == [
        "db doesn't run any more: nothing to undo",
        "web was moved again by batch 4: it is left where it is",
    ]
    both.assert_well(WEB)


def test_a_guest_that_cannot_go_back_runs_on(both: Guests) -> None:
    process = client.pid("web")

    report = undo()

    assert (report["exit_code"], results(report)) == (4, {"web": ("blocked", ("rehearsal",))}), report
    assert "vmstate_load_state error -2" in report["domains"][0]["findings"][0]["message"]
    assert client.pid("web") == process
    both.assert_well(WEB)


def test_a_build_that_is_not_kept(both: Guests) -> None:
    shell(f"rm -r {BUILDS}/*")
    report = undo("4")
    assert (report["exit_code"], results(report)) == (4, {"web": ("blocked", ("not-kept",))}), report
    done = client.virtcpr("undo", "9", "--yes")
    assert (done.code, "the history has no batch 9" in done.err) == (2, True)
    both.assert_well(WEB)
