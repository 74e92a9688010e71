"""Nobody but root sees what virtcpr keeps, and passwords are nowhere but there: during and after a swap and a save."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import Done, run, shell, virsh
from tests.lab.support.guests import SMALL, domain_xml, image_commands
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import Happening, virtcpr

VAULT = replace(SMALL, name="vault", number=22, memory_mib=160, ram_mib=16)
PASSWORD, KEY = "hunter2x", "correcthorse"  # of its VNC display; of a secret that somebody gave to QEMU by hand
OURS = "/run/virtcpr /var/lib/virtcpr"
# Files that may hold them, for root alone.
KEEPERS = (
    "/run/virtcpr/journal/", "/run/virtcpr/held/", "/var/lib/virtcpr/xml/", "/var/lib/virtcpr/saved/"
)  # fmt: skip
# What others could do with what is there: names that are seen, sockets that are reached.  Then what root sees of it.
SCAN = f"""
for place in {OURS} /var/lib/libvirt/qemu/domain-*/; do
    setpriv --reuid nobody --regid nogroup --clear-groups find "$place" -mindepth 1 2>/dev/null || :
done >/root/seen
find {OURS} ! -path '*/scratch-*' -printf '%y %m %U %p\\n' >/root/modes 2>/dev/null || :
ls /run/virtcpr/journal /var/lib/virtcpr/saved >/root/there 2>/dev/null || :
""".strip()
LOUD = "-vvv"
outputs: list[Done] = []


def say(*arguments: str, at: Happening | None = None) -> Done:
    """Run it, as loud as it can be, and keep what it says."""
    done = virtcpr(*arguments, at=at)
    outputs.append(done)
    return done


def closed() -> str:
    """The last scan found nothing that others can see or reach; what was there."""
    assert run("cat", "/root/seen").out == ""
    for line in run("cat", "/root/modes").out.splitlines():
        kind, mode, owner, path = line.split(" ", 3)
        assert (mode, owner) == ({"d": "700", "f": "600"}[kind], "0"), path
    return run("cat", "/root/there").out


@pytest.fixture(scope="module", autouse=True)
def vault(lab: Lab) -> None:
    run("python3", "-", stdin=REBUILD)
    for command in image_commands(VAULT):
        run(*command)
    secret = f"<qemu:arg value='-object'/><qemu:arg value='secret,id=own,data={KEY}'/></qemu:commandline>"
    display = f"<graphics type='vnc' port='-1' passwd='{PASSWORD}'/></devices>"
    xml = domain_xml(VAULT).replace("</qemu:commandline>", secret).replace("</devices>", display)
    run("sh", "-c", "umask 022; virsh -q define /dev/stdin", stdin=xml)
    virsh("start", VAULT.name)


def upgraded(done: Done) -> bool:
    report = json.loads(done.out)
    assert [domain["result"] for domain in report["domains"]] == ["upgraded"], done
    return True


def test_a_swap(lab: Lab) -> None:
    move = ("upgrade", VAULT.name, "--yes", "-o", "json")
    for emulator, step in ((REBUILT, "connect"), (EMULATOR, "preflight")):  # before it and after it
        assert upgraded(say(LOUD, *move, "--emulator", emulator, at={step: SCAN}))
        assert VAULT.name in run("sh", "-c", f"cd /run/virtcpr; ls; virsh -q list --name | grep {VAULT.name}").out
        assert ".json" in closed(), "the swap was under way"
    shell(SCAN)
    assert ".json" not in closed()
    assert "set_password {'protocol': 'vnc', 'password': '***'}" in outputs[-1].err


# What a shell is offered, as bash does it; NAME is completed while somebody has virtcpr's lock.
COMPLETE = """
eval "$(_VIRTCPR_COMPLETE=source_bash virtcpr)"
COMP_WORDS=(virtcpr $1 "") COMP_CWORD=2
flock /run/virtcpr/lock true
exec 9</run/virtcpr/lock; flock 9
_virtcpr_completion virtcpr
echo "${COMPREPLY[*]}"
"""


def test_completion_tells_names_and_takes_no_lock(lab: Lab) -> None:
    virsh("dominfo", VAULT.name)
    for command, names in (("upgrade", VAULT.name), ("prepare", VAULT.name), ("restore", "")):
        done = run("bash", "-c", COMPLETE, "bash", command)
        assert (done.out.strip(), done.err) == (names, "")
    words = "_VIRTCPR_COMPLETE=complete_bash COMP_WORDS='virtcpr {} ' COMP_CWORD=2"
    for command in ("upgrade", "restore"):  # by somebody who may not see it, or not even connect
        shown = run(
            "setpriv", "--reuid", "nobody", "--clear-groups", "env", "sh", "-c", f"{words.format(command)} virtcpr"
        )
        assert shown.err == ""
        assert shown.out.strip() in ("", VAULT.name)


def test_a_save_and_mode_reboot(lab: Lab) -> None:
    virsh("destroy", VAULT.name)
    shown = say(LOUD, "prepare", "--mode", "reboot", "--dry-run", VAULT.name)
    assert "passwd='***'" in shown.out or PASSWORD not in shown.out
    assert say(LOUD, "prepare", "--mode", "reboot", "--yes", VAULT.name, "-o", "json").code == 0
    virsh("start", VAULT.name)

    for command in (("list",), ("check", VAULT.name), ("plan", VAULT.name), ("plan", "--mode", "reboot", VAULT.name)):
        for output in ("table", "json"):
            say(LOUD, *command, "-o", output)
    assert upgraded(say(LOUD, "upgrade", "--mode", "reboot", VAULT.name, "--yes", "-o", "json", "--emulator", REBUILT))
    assert say(LOUD, "save", "--yes", VAULT.name, "-o", "json").code == 0
    shell(SCAN)
    assert "-" in closed(), "its state waits"
    assert say(LOUD, "recover", "--all", "--dry-run").code == 0
    assert say(LOUD, "restore", "--all", "-o", "json").code == 0
    shell(SCAN)
    assert closed().strip().endswith(":") or "-" not in closed()
    assert f"passwd='{PASSWORD}'" in virsh("dumpxml", "--security-info", VAULT.name), "it has it still"


def test_the_passwords_are_nowhere_else(lab: Lab) -> None:
    for command in (("history",), ("history", "-o", "json"), ("auto", "--dry-run"), ("hooks", "status")):
        say(LOUD, *command)
    assert len(outputs) > 15
    for done in outputs:
        for secret in (PASSWORD, KEY):
            assert secret not in done.out + done.err
    assert "debug" in "".join(done.err.lower() for done in outputs), "it was loud"
    journal = shell(f"journalctl -b --no-pager -o export | grep -acE '{PASSWORD}|{KEY}' || :")
    found = shell(f"grep -rlE '{PASSWORD}|{KEY}' {OURS} || :").splitlines()
    assert found, "prepare has kept the XML as it was"
    assert [path for path in found if not path.startswith(KEEPERS)] == []
    assert journal.strip() == "0"


def test_a_qemu_that_was_taken_over_puts_a_link_where_ram_is_kept(lab: Lab) -> None:
    """As QEMU's user: root would make /srv its own, and put the guest's RAM there."""
    ram, uuid = "/var/lib/libvirt/qemu/ram", virsh("domuuid", VAULT.name).strip()
    as_qemu = "setpriv --reuid libvirt-qemu --regid libvirt-qemu --clear-groups"
    shell(f"chmod 755 /srv; {as_qemu} ln -s /srv {ram}/virtcpr-{uuid}")
    done = client.virtcpr("save", "--yes", VAULT.name, "-o", "json")
    (domain,) = json.loads(done.out)["domains"]
    assert domain["result"] == "rolled-back", done
    assert "can't be kept as" in domain["findings"][0]["message"]
    assert shell("ls -A /srv; stat -c %a /srv") == "755\n"
    assert virsh("domstate", VAULT.name).strip() == "running"
    shell(f"rm {ram}/virtcpr-{uuid}")
    assert client.virtcpr("save", "--yes", VAULT.name).code == 0
    assert client.virtcpr("restore", "--all").code == 0
    client.remove(VAULT.name)
