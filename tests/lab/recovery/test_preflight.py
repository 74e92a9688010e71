"""What libvirt wouldn't take is seen before its daemon starts: the guest lives, wherever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client, provoke
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import leftovers, qemu_processes

WRAPPER = "/usr/local/bin/qemu-with-more"


def upgrade_and(between: str) -> tuple[int, str]:
    """An upgrade; when the guest runs in new, old is there still and libvirt's record isn't written yet, a script does
    something to the host.  virtcpr's exit code and stdout."""
    other = EMULATOR if f"<emulator>{REBUILT}<" in virsh("dumpxml", SMALL.name) else REBUILT
    arguments = ("upgrade", SMALL.name, "--emulator", other, "--yes", "-o", "json")
    done = provoke.virtcpr(*arguments, at={"end-old": between})
    return done.code, done.out


def key_file() -> str:
    return shell(f"echo /var/lib/libvirt/qemu/domain-*-{SMALL.name}/master-key.aes").strip()


@pytest.fixture
def guest(guests: Guests) -> Iterator[Guests]:
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    yield guests
    shell("rm -rf /run/virtcpr/held/* /run/virtcpr/journal/*; virtcpr hooks remove")


def test_a_machine_that_is_another_is_seen_while_the_guest_runs_in_old(guest: Guests) -> None:
    """An emulator that brings an iothread of its own: libvirt would count it, and old has none."""
    process = client.pid(SMALL.name)
    shell(
        f"cat > {WRAPPER}; chmod 755 {WRAPPER}",
        stdin=f'#!/bin/sh\ncase "$*" in *guest={SMALL.name}*) set -- "$@" -object iothread,id=stray;; esac\n'
        f'exec {EMULATOR} "$@"\n',
    )

    report = client.upgrade(SMALL.name, "--force", "--emulator", WRAPPER)

    assert report["exit_code"] == 5, report
    (finding,) = report["domains"][0]["findings"]
    assert "new QEMU isn't the machine that libvirt expects: iothreads: with stray" in finding["message"]
    assert f"the guest runs on in old QEMU (process {process})" in finding["message"]
    assert client.pid(SMALL.name) == process
    assert qemu_processes() == 1
    assert leftovers() == ""
    guest.assert_well(SMALL)
    assert guest.witness.report(SMALL)["longest_gap_ms"] < 1000


@pytest.mark.parametrize(
    "transient", [pytest.param(False, id="persistent", marks=pytest.mark.thorough), pytest.param(True, id="transient")]
)
def test_a_guest_that_libvirt_would_kill_is_held(guest: Guests, *, transient: bool) -> None:
    """Its key is spoiled: libvirtd 11.3 kills such a guest when it starts, and removes its directory."""
    old, identity = client.pid(SMALL.name), virsh("domid", SMALL.name)
    xml = virsh("dumpxml", SMALL.name)
    virsh(*(["undefine", SMALL.name] if transient else ["autostart", SMALL.name]))
    path = key_file()

    code, out = upgrade_and(f"truncate -s 31 {path}")

    report = json.loads(out)
    assert (code, report["domains"][0]["result"]) == (6, "unknown"), report
    said = report["domains"][0]["findings"][-1]["message"]
    assert f"libvirt would kill it: {path} has 31 bytes, libvirt expects 32" in said
    new = report["domains"][0]["to"]["pid"]
    assert new != old
    for _ in range(2):  # nor does another start of the daemon find it, or end it
        assert run("pgrep", "qemu-system").out.split() == [str(new)]
        assert SMALL.name not in virsh("list", "--name")
        guest.assert_well(SMALL)
        run("systemctl", "restart", "libvirtd.service")

    refused = run("virsh", "create", "/dev/stdin", stdin=xml, check=False) if transient else None
    refused = refused or run("virsh", "start", SMALL.name, check=False)
    assert refused.code != 0
    assert f"{SMALL.name} runs already" in refused.err
    assert run("pgrep", "qemu-system").out.split() == [str(new)]
    kept = run("virtcpr", "hooks", "remove", check=False)
    assert (kept.code, f"{SMALL.name}: the guest runs, but libvirt doesn't see it" in kept.err) == (1, True), kept
    assert run("virtcpr", "recover", SMALL.name, check=False).code == 6
    assert run("pgrep", "qemu-system").out.split() == [str(new)]

    shell(f"truncate -s 32 {path}")
    assert run("virtcpr", "recover", SMALL.name).code == 0

    assert virsh("domstate", SMALL.name).strip() == "running"
    assert virsh("domid", SMALL.name) == identity
    assert client.pid(SMALL.name) == new
    assert run("ls", "-A", "/run/virtcpr/held").out == ""
    assert leftovers() == ""
    guest.assert_well(SMALL)
    if not transient:
        virsh("autostart", "--disable", SMALL.name)
        assert client.upgrade(SMALL.name, "--emulator", EMULATOR)["domains"][0]["result"] in ("upgraded", "current")


def test_a_journal_that_cannot_be_read_keeps_libvirt_away(guest: Guests) -> None:
    """virtcpr dies with both processes behind one monitor, and nobody knows whose the guest is."""
    run("virtcpr", "hooks", "install")
    identity = virsh("domid", SMALL.name)
    uuid = virsh("domuuid", SMALL.name).strip()
    journal = f"/run/virtcpr/journal/{uuid}.json"
    spoil = "systemctl kill --signal=KILL 'virtcpr-guardian-*'; kill -KILL $(cat /run/virtcpr/lock)"
    code, _ = upgrade_and(f"cp {journal} /run/journal; echo half > {journal}; {spoil}")
    assert code in (-9, 137)

    # Its sockets, too: systemd would start it again at the first client.
    run("systemctl", "start", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service")

    assert "shut off" in virsh("domstate", SMALL.name)
    assert shell("cd /run/virtcpr/held; ls */*").split() == [f"{uuid}/{SMALL.name}.pid", f"{uuid}/{SMALL.name}.xml"]
    assert qemu_processes() == 2
    guest.witness.beats(SMALL, 30)
    assert "runs already" in run("virsh", "start", SMALL.name, check=False).err

    shell(f"cat /run/journal > {journal}")
    done = json.loads(run("virtcpr", "recover", SMALL.name, "-o", "json").out)

    assert done["domains"][0]["settled"] == "forward", done
    assert virsh("domid", SMALL.name) == identity
    assert qemu_processes() == 1
    assert leftovers() == ""
    guest.assert_well(SMALL)


def test_a_guest_that_is_held_is_refused_under_another_name_too(guest: Guests) -> None:
    """`virsh domrename`, which libvirt allows, as it takes the domain for shut off."""
    other = f"{SMALL.name}-renamed"
    identity, uuid, path = virsh("domid", SMALL.name), virsh("domuuid", SMALL.name).strip(), key_file()
    code, out = upgrade_and(f"truncate -s 31 {path}")
    assert code == 6, out
    (pid,) = run("pgrep", "qemu-system").out.split()

    virsh("domrename", SMALL.name, other)

    refused = run("virsh", "start", other, check=False)
    assert refused.code != 0
    assert f"virtcpr: {other} runs already" in refused.err
    assert f"run: virtcpr recover {uuid}" in refused.err
    assert run("pgrep", "qemu-system").out.split() == [pid]

    shell(f"truncate -s 32 {path}")
    assert run("virtcpr", "recover", uuid).code == 0
    # libvirt finds the guest's record first, and then no room for the XML with the other name.
    assert "Persistent:     no" in virsh("dominfo", SMALL.name)
    assert other not in virsh("list", "--all", "--name")
    assert run("pgrep", "qemu-system").out.split() == [pid]
    assert virsh("domid", SMALL.name) == identity
    guest.assert_well(SMALL)

    virsh("destroy", SMALL.name)
    run("systemctl", "restart", "libvirtd.service")
    assert virsh("list", "--all", "--name").split() == [other]
    virsh("undefine", other)
