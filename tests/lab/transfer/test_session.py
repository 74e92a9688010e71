"""`qemu:///session`: a user's own guest is moved by that user, without root, and put right when virtcpr is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import Done, run, shell
from tests.lab.support.guests import WITNESS
from tests.lab.support.machine import Lab
from tests.paths import INSIDE

USER, NUMBER, NAME = "alice", 1500, "own"
HOME, RUNTIME = f"/home/{USER}", f"/run/user/{NUMBER}"
URI = ("-c", "qemu:///session")
RECORD = f"{RUNTIME}/libvirt/qemu/run/{NAME}"
AS_USER = (
    "setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups",
    "env", "-i", f"HOME={HOME}", f"XDG_RUNTIME_DIR={RUNTIME}", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
)  # fmt: skip
DOMAIN = f"""
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{NAME}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{WITNESS}/vmlinux</kernel><initrd>{WITNESS}/initrd</initrd><cmdline>console=ttyS0</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{HOME}/own.qcow2'/><target dev='vda' bus='virtio'/>
    </disk>
    <serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='-1' passwd='sesame'/><memballoon model='none'/>
  </devices>
  <qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></qemu:commandline>
</domain>
"""
SWAP = f"virtcpr {' '.join(URI)} upgrade {NAME} --yes --emulator"
# virtcpr is killed where it stands still, before a step; somebody asks for the daemon all the while.
KILLED = f"""
python3 /tmp/halt.py 'before attach' {SWAP.removeprefix("virtcpr ")} {EMULATOR} >/tmp/result 2>/tmp/said &
V=$!
timeout 60 sh -c "until grep -q '^State:.T' /proc/$V/status; do :; done" ||
    {{ cat /tmp/said /tmp/result >&2; exit 1; }}
kill -9 $V
settled='[ -z "$(ls {RUNTIME}/virtcpr/journal)" ]'
timeout 60 sh -c "until $settled; do virsh -q {" ".join(URI)} list >/dev/null 2>&1 || :; done" ||
    {{ cat /tmp/said /tmp/result >&2; exit 1; }}
"""


def user(*argv: str, check: bool = True) -> Done:
    return run(*AS_USER, *argv, check=check)


def virsh(*arguments: str) -> str:
    return user("virsh", "-q", *URI, *arguments).out


def report(*arguments: str, check: bool = True) -> Any:
    return json.loads(user("virtcpr", *URI, *arguments, "-o", "json", check=check).out)


@pytest.fixture(scope="module", autouse=True)
def own_guest(lab: Lab) -> Iterator[None]:
    run("python3", "-", stdin=REBUILD)
    shell(f"useradd -m -u {NUMBER} {USER}; mkdir -p {RUNTIME}; chown {USER}: {RUNTIME}; chmod 700 {RUNTIME}")
    user("qemu-img", "create", "-q", "-f", "qcow2", f"{HOME}/own.qcow2", "64M")
    virsh("list")
    shell("cat >/tmp/own.xml", stdin=DOMAIN)  # a pipe of root's can't be opened by its name
    virsh("define", "/tmp/own.xml")
    virsh("start", NAME)
    # libvirt's record changes once more when the guest is up, and a swap that was planned before is given up.
    up = f"until virsh -q {' '.join(URI)} dumpxml {NAME} | grep -q \"state='connected'\"; do sleep 0.2; done"
    user("timeout", "90", "sh", "-c", up)
    yield
    virsh("destroy", NAME)


# Into a cgroup of its own first: as from another login.
ELSEWHERE = "mkdir -p /sys/fs/cgroup/other; echo $$ >/sys/fs/cgroup/other/cgroup.procs; exec "


def process() -> str:
    return run("cat", f"{RECORD}.pid").out.strip()


def test_it_is_listed_checked_and_moved() -> None:
    before, old = virsh("dumpxml", NAME), process()
    (listed,) = report("list")["domains"]
    assert (listed["name"], listed["ready"]) == (NAME, "transfer")
    (checked,) = report("check", NAME)["domains"]
    assert (checked["modes"]["transfer"], checked["modes"]["reboot"]) == ("ready", "blocked")
    assert {f["code"] for f in checked["findings"] if "exec" not in f["modes"]} == {"session"}

    moved = report("upgrade", NAME, "--yes", "--emulator", REBUILT)

    (domain,) = moved["domains"]
    assert (moved["exit_code"], domain["result"], domain["findings"]) == (0, "upgraded", [])
    assert domain["pause_ms"] < 2000
    assert process() != old
    pty = "s#/dev/pts/[0-9]*##; s#<emulator>.*##"
    assert run("sed", pty, stdin=virsh("dumpxml", NAME)).out == run("sed", pty, stdin=before).out
    assert run("stat", "-c", "%U", f"/proc/{process()}").out.strip() == USER
    (entry,) = report("history")["entries"]
    assert entry["name"] == NAME
    assert run("ls", "-A", "/run/virtcpr", "/var/lib/virtcpr", check=False).out == "", "nothing is the system's"
    virsh("suspend", NAME)
    virsh("resume", NAME)
    assert virsh("domstate", NAME).strip() == "running"


def test_where_virtcpr_is_killed_the_guest_runs_on() -> None:
    """No hook of libvirt's settles it first: the guardian keeps the daemon out meanwhile."""
    old = process()
    shell("cat > /tmp/halt.py", stdin=(INSIDE / "halt.py").read_text())
    run(*AS_USER, "sh", "-c", KILLED, timeout=150)
    assert virsh("domstate", NAME).strip() == "running"
    assert process() == old
    assert run("pgrep", "-cu", USER, "qemu-system", check=False).out.strip() == "1"
    from_another = shell(f"{ELSEWHERE}{' '.join(AS_USER)} {SWAP} {EMULATOR} -o json")
    (domain,) = json.loads(from_another)["domains"]
    assert domain["result"] == "upgraded"
    (told,) = domain["findings"]
    assert told["message"].startswith("the cgroup of new QEMU is /other, it was ")


def test_what_is_not_a_users_to_do() -> None:
    other = user("virtcpr", "-c", "qemu:///system", "upgrade", "--all", "--yes", check=False)
    assert (other.code, "only root can move guests" in other.err) == (1, True)
    assert "guests of your own: virtcpr -c qemu:///session" in other.err
    refused = user("virtcpr", *URI, "upgrade", "--mode", "reboot", NAME, "--yes", check=False)
    assert (refused.code, "only root can move guests" in refused.err) == (1, True)
    root = client.virtcpr(*URI, "list")
    assert (root.code, "qemu:///session is a user's own" in root.err) == (2, True)


def member(*argv: str) -> Done:
    """As a user whom libvirt lets at the system's domains (group libvirt), and who isn't root."""
    return run("setpriv", "--reuid=carol", "--regid=carol", "--init-groups", "env", "-i", "HOME=/home/carol",
               "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", *argv, check=False)  # fmt: skip


@pytest.mark.parametrize("command", [("list",), ("check", "--all"), ("plan", "--all")])
def test_a_member_of_group_libvirt_is_told_to_use_sudo(command: tuple[str, ...]) -> None:
    if run("id", "carol", check=False).code:
        shell("useradd -m -G libvirt carol")
    seen = member("virsh", "-q", "-c", "qemu:///system", "list", "--all")
    assert seen.code == 0, seen
    done = member("virtcpr", "-c", "qemu:///system", *command)
    assert (done.code, done.out) == (1, ""), done
    assert "virtcpr: error: only root can look into the system's domains\n  run it with sudo" in done.err


def test_a_user_without_domains_is_told_whose_there_are_none() -> None:
    done = member("env", "XDG_RUNTIME_DIR=/home/carol", "virtcpr", "list")
    assert (done.code, done.out) == (0, "no domains in qemu:///session\n"), done
