"""`virtcpr auto` on real guests: off, notify, wishes, windows, and after a package manager's trigger by itself."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import LAB, run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from virtcpr.actions.records.system_journal import DOMAIN_ID, SUMMARY_ID

WEB, MAIL, DB = (
    replace(SMALL, name=name, number=60 + n, memory_mib=160, ram_mib=16, prepared=name != "db")
    for n, name in enumerate(("web", "mail", "db"))
)
ALL = (WEB, MAIL, DB)
CONFIG = "/etc/virtcpr/virtcpr.toml"
METRICS = "/var/lib/node-exporter/virtcpr.prom"
RESULTS = f'[results]\nprometheus = "{METRICS}"\nmail = "root"\n'
HEARD = "/root/heard"
QUIET_SECONDS = 3  # instead of what is shipped, with which test_by_itself is
QUIET = (
    "import sys; from virtcpr.host.system import packages; packages.QUIET_SECONDS = float(sys.argv[1]); "
    'sys.argv[1:] = ["auto", "--pending"]; from virtcpr.__main__ import main; sys.exit(main())'
)
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"


@pytest.fixture(scope="module", autouse=True)
def installed(lab: Lab) -> None:
    """Units and trigger where a package puts them, a sendmail and a program that write down what they get."""
    interpreter = shell("head -n1 $(command -v virtcpr)").removeprefix("#!").strip()
    quiet = f"[Service]\nExecStart=\nExecStart={interpreter} -c '{QUIET}' {QUIET_SECONDS}\n"
    shell("install -D -m 644 /dev/stdin /etc/systemd/system/virtcpr-auto.service.d/quiet.conf", stdin=quiet)
    shell(
        f"""
        install -m 644 /usr/src/virtcpr/systemd/virtcpr-auto.* /etc/systemd/system/
        install -D -m 755 /usr/src/virtcpr/packages/trigger /usr/libexec/virtcpr/trigger
        mkdir -p /etc/systemd/system/virtcpr-auto.timer.d /etc/virtcpr/notify.d /var/lib/node-exporter {HEARD}
        printf '[Timer]\\nOnActiveSec=\\nOnActiveSec=1s\\n' >/etc/systemd/system/virtcpr-auto.timer.d/soon.conf
        systemctl daemon-reload
        printf '#!/bin/sh\\ncat >{HEARD}/mail\\n' >/usr/sbin/sendmail
        printf '#!/bin/sh\\nenv >{HEARD}/environment; cat >{HEARD}/json\\n' >/etc/virtcpr/notify.d/hear
        chmod 755 /usr/sbin/sendmail /etc/virtcpr/notify.d/hear
        """
    )


@pytest.fixture(scope="module")
def outdated(lab: Lab) -> Iterator[Guests]:
    """Three guests on QEMU OLD, NEW installed; one of them can't be moved."""
    guests = Guests()
    guests.start(*ALL)
    client.install_qemu("NEW")
    yield guests
    guests.end()


def configure(text: str) -> None:
    run("sh", "-c", f"cat >{CONFIG}; rm -f {HEARD}/*", stdin=text)


def auto(*options: str, code: int = 0) -> Any:
    done = client.virtcpr("auto", "-o", "json", *options)
    assert done.code == code, done
    return json.loads(done.out)


def actions(report: Any) -> dict[str, str]:
    return {domain["name"]: domain["action"] for domain in report["domains"]}


def heard() -> list[str]:
    return shell(f"ls {HEARD}").split()


def records(identity: str) -> list[dict[str, str]]:
    lines = run("journalctl", "-o", "json", "--no-pager", f"MESSAGE_ID={identity}").out.splitlines()
    return [json.loads(line) for line in lines]


def processes() -> list[int]:
    return [client.pid(shape.name) for shape in ALL]


def test_the_services_errors_are_in_the_journal() -> None:
    """`systemctl status` alone says that it failed, and no reason."""
    wrong, service = "/etc/virtcpr/conf.d/20.toml", "virtcpr-auto.service"
    shell(f"mkdir -p /run/virtcpr /etc/virtcpr/conf.d; echo 'Auto = 1' >{wrong}; echo qemu >/run/virtcpr/pending")
    try:
        assert run("systemctl", "start", service, check=False).code != 0
        text = run("journalctl", "-u", service, "-b", "-o", "cat", "--no-pager").out
    finally:
        shell(f"systemctl stop virtcpr-auto.timer; systemctl reset-failed {service}; rm {wrong} /run/virtcpr/pending*")
    assert f"virtcpr: error: {wrong}: there is no key 'Auto'; nothing was done" in text


def test_off_does_not_even_look(outdated: Guests) -> None:
    configure('auto = "off"\n' + RESULTS)
    report = auto()
    assert (report["domains"], report["notes"]) == ([], ['auto is "off": nothing was looked at'])
    assert "custom-monitor" not in run("cat", "/run/libvirt/qemu/web.xml").out
    assert (heard(), records(SUMMARY_ID)) == ([], [])


def test_notify_tells_and_moves_none(outdated: Guests) -> None:
    before = processes()
    configure(RESULTS)  # it is the default

    report = auto()

    assert actions(report) == {"db": "told", "mail": "told", "web": "told"}
    db, _, web = report["domains"]
    assert (web["reason"], db["reason"]) == (
        "auto says notify; it can be moved",
        "auto says notify; mode transfer can't move it",
    )
    assert "ram-private" in [finding["code"] for finding in db["findings"]]
    assert processes() == before
    assert heard() == ["environment", "json", "mail"]
    assert json.loads(run("cat", f"{HEARD}/json").out) == report
    subject = "3 outdated domains reported, none moved: run `virtcpr upgrade --all`"
    assert f"VIRTCPR_SUBJECT={subject}\n" in run("cat", f"{HEARD}/environment").out
    assert "virtcpr: 3 outdated domains reported" in run("cat", f"{HEARD}/mail").out  # the header is folded
    assert "virtcpr_outdated_domains 3\n" in run("cat", METRICS).out
    told = {record["VIRTCPR_DOMAIN"]: record for record in records(DOMAIN_ID)}
    assert told.keys() == {"web", "mail", "db"}
    assert (told["web"]["VIRTCPR_RESULT"], told["web"]["SYSLOG_IDENTIFIER"]) == ("told", "virtcpr")


def test_a_configuration_that_others_can_write_is_refused(outdated: Guests) -> None:
    configure('auto = "apply"\n')
    run("chmod", "666", CONFIG)
    report = auto(code=1)
    assert report["error"]["message"] == f"{CONFIG} can be written by others than root; nothing was done"
    run("chmod", "644", CONFIG)


def test_wishes(outdated: Guests) -> None:
    before = processes()
    configure('auto = "apply"\n')
    for name, word in (("web", "off"), ("mail", "notify")):
        wish = ("urn:virtcpr:auto:1", "--key", "virtcpr-auto", "--set", f"<auto>{word}</auto>")
        virsh("metadata", name, *wish, "--live", "--config")
    assert actions(auto(code=4)) == {"db": "blocked", "mail": "told", "web": "left"}
    assert processes() == before
    for name in ("web", "mail"):
        virsh("metadata", name, "urn:virtcpr:auto:1", "--remove", "--live", "--config")


def test_a_closed_window_and_a_dry_run(outdated: Guests) -> None:
    before = processes()
    hour = (int(run("date", "+%H").out) + 12) % 24
    configure(f'auto = "apply"\nwindows = ["{hour:02}:00-{hour:02}:30"]\n')
    report = auto(code=4)
    assert actions(report) == {"db": "blocked", "mail": "waiting", "web": "waiting"}
    assert report["domains"][2]["reason"] == f"guests are only moved {hour:02}:00-{hour:02}:30"
    assert report["notes"] == ["virtcpr-auto.timer is started: it moves what waits"]
    assert run("systemctl", "is-active", "virtcpr-auto.timer").out == "active\n"
    shell("systemctl stop virtcpr-auto.timer virtcpr-auto.service; rm -f /run/virtcpr/pending*")
    configure('auto = "apply"\n')
    assert actions(auto("--dry-run")) == {"db": "blocked", "mail": "move", "web": "move"}
    assert (processes(), heard()) == (before, [])


def test_by_itself_once_dpkg_is_done(outdated: Guests) -> None:
    """The trigger under dpkg's lock; then the canary, the rest, and one that can't move; told where it should be."""
    before = processes()
    configure('auto = "apply"\n' + RESULTS)
    outdated.witness.mark()
    dpkg = subprocess.Popen(
        [str(LAB), "exec", "python3", "-c", HOLD, "/var/lib/dpkg/lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert dpkg.stdout is not None
    dpkg.stdout.readline()

    shell("/usr/libexec/virtcpr/trigger qemu; /usr/libexec/virtcpr/trigger libvirt")

    shell("until [ -e /run/virtcpr/pending.taken ]; do sleep 0.1; done", timeout=30)
    done = client.virtcpr("auto")  # nor by hand
    assert "package managers are at work: /var/lib/dpkg/lock is held; nothing was done" in done.out
    assert processes() == before
    released = time.monotonic()
    dpkg.communicate()
    assert run("systemctl", "start", "virtcpr-auto.service", check=False).code != 0  # it is under way: this waits
    assert time.monotonic() - released >= QUIET_SECONDS

    for shape in (WEB, MAIL):
        outdated.assert_well(shape, beats=50)
        assert client.qemu_version(shape.name) == client.upstream(client.versions()["NEW"])
    assert client.pid("db") == before[2]
    said = json.loads(run("cat", f"{HEARD}/json").out)
    assert (actions(said), said["exit_code"]) == ({"db": "blocked", "mail": "upgraded", "web": "upgraded"}, 3)
    assert run("systemctl", "show", "-PExecMainStatus", "virtcpr-auto.service").out == "3\n"
    assert run("systemctl", "is-active", "virtcpr-auto.timer", check=False).out == "inactive\n"
    assert shell("find /run/virtcpr -name 'pending*'") == ""
    last = {record["VIRTCPR_DOMAIN"]: record for record in records(DOMAIN_ID)}
    assert (last["web"]["VIRTCPR_RESULT"], last["db"]["VIRTCPR_RESULT"]) == ("upgraded", "blocked")
    assert last["web"]["_SYSTEMD_UNIT"] == "virtcpr-auto.service"
    assert 'virtcpr_domains{result="upgraded"} 2\n' in run("cat", METRICS).out


def test_the_history_has_the_moves(outdated: Guests) -> None:
    entries = json.loads(client.virtcpr("history", "-o", "json", check=True).out)["entries"]
    assert [(entry["name"], entry["result"], entry["mode"]) for entry in entries] == [
        ("mail", "upgraded", "transfer"),  # the canary: the first by name
        ("web", "upgraded", "transfer"),
    ]
    assert all(entry["pause_ms"] > 0 and entry["phases"] for entry in entries)
    table = client.virtcpr("history", "web", "-n", "1", check=True).out
    assert [line.split()[3:5] for line in table.splitlines()[1:]] == [["web", "upgraded"]]


def test_mode_reboot_where_it_is_allowed(outdated: Guests) -> None:
    configure('auto = "apply"\nfallback = "reboot"\nmax-pause-ms = 60000\n')
    report = auto()
    assert actions(report) == {"db": "upgraded", "mail": "current", "web": "current"}
    assert report["domains"][0]["mode"] == "reboot"
    outdated.assert_well(DB, beats=50)


def test_mode_live_where_it_is_allowed(outdated: Guests) -> None:
    """One that was never prepared is from then on."""
    client.install_qemu("OLD")
    configure('auto = "apply"\nprepare = "live"\n')
    report = auto()
    assert actions(report) == {"db": "upgraded", "mail": "upgraded", "web": "upgraded"}, report
    assert {domain["name"]: domain["mode"] for domain in report["domains"]} == {
        "db": "live",
        "mail": "transfer",
        "web": "transfer",
    }
    outdated.assert_well(DB, beats=50)
    assert "memfd" in virsh("dumpxml", "--inactive", DB.name)


def test_without_an_emulator_nothing_is_done(outdated: Guests) -> None:
    before = processes()
    shell("mv /usr/bin/qemu-system-x86_64 /usr/bin/qemu-system-x86_64.away")
    try:
        report = auto()
    finally:
        shell("mv /usr/bin/qemu-system-x86_64.away /usr/bin/qemu-system-x86_64")
    assert set(actions(report).values()) == {"told"}
    assert report["domains"][0]["reason"] == (
        "the installed emulator /usr/bin/qemu-system-x86_64 doesn't exist: nothing is done"
    )
    assert processes() == before
