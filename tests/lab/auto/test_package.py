"""The Debian package: built with nothing for lintian to say, installed, renewed, removed and purged under a guest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client, packaging
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab

GUEST = replace(SMALL, name="stays", number=60, memory_mib=160, ram_mib=16)
HOOKS = "/etc/libvirt/hooks"
FILES = {
    "/etc/apparmor.d/abstractions/libvirt-qemu.d/virtcpr": 0o644,
    "/etc/virtcpr/conf.d": 0o755,
    "/etc/virtcpr/notify.d": 0o755,
    "/etc/virtcpr/virtcpr.toml": 0o644,
    "/etc/virtcpr/xml-templates": 0o755,
    "/usr/bin/virtcpr": 0o755,
    "/usr/lib/systemd/system/virtcpr-auto.service": 0o644,
    "/usr/lib/systemd/system/virtcpr-auto.timer": 0o644,
    "/usr/lib/systemd/system/virtcpr-daily.service": 0o644,
    "/usr/lib/systemd/system/virtcpr-daily.timer": 0o644,
    "/usr/lib/systemd/system/virtcpr-metrics.service": 0o644,
    "/usr/lib/systemd/system/virtcpr-metrics.timer": 0o644,
    "/usr/lib/systemd/system/virtcpr-restore.service": 0o644,
    "/usr/lib/systemd/system/virtcpr-save.service": 0o644,
    "/usr/lib/tmpfiles.d/virtcpr.conf": 0o644,
    "/usr/libexec/virtcpr/trigger": 0o755,
    "/usr/share/bash-completion/completions/virtcpr": 0o644,
    "/usr/share/doc/virtcpr/README.md": 0o644,
    "/usr/share/doc/virtcpr/docs/recovery.md": 0o644,
    "/usr/share/doc/virtcpr/examples/virtcpr.te": 0o644,
    "/usr/share/doc/virtcpr/examples/xml-templates/transfer.xml": 0o644,
    "/usr/share/fish/vendor_completions.d/virtcpr.fish": 0o644,
    "/usr/share/man/man5/virtcpr.toml.5.gz": 0o644,
    "/usr/share/man/man8/virtcpr.8.gz": 0o644,
    "/usr/share/zsh/vendor-completions/_virtcpr": 0o644,
    # made by its scripts
    f"{HOOKS}/daemon.d/virtcpr": 0o755,
    f"{HOOKS}/qemu.d/virtcpr": 0o755,
    "/run/virtcpr": 0o700,
}
# What the lab itself has of that name; and pages that lintian had formatted.
OF_THE_LAB = ("/usr/lib/virtcpr-lab", "/etc/virtcpr-lab", "/var/tmp/", "/var/cache/man/")


def ours() -> list[str]:
    """Every path on the system that is named after virtcpr, but the lab's own."""
    found = shell("find / -xdev -name '*virtcpr*' -prune -print; find /run -name '*virtcpr*' -prune -print")
    return sorted({path for path in found.splitlines() if not path.startswith(OF_THE_LAB)})


@pytest.fixture(scope="module", autouse=True)
def guests(lab: Lab) -> Iterator[Guests]:
    """The package built and installed, and a guest that runs through everything that is done with it."""
    packaging.build()  # lintian looks at what is left of it
    packaging.install()
    made = Guests()
    made.start(GUEST)
    yield made
    made.end()


def test_lintian_has_nothing_to_say() -> None:
    said = run("sh", "-c", f"lintian --allow-root --fail-on error,warning {packaging.BUILD}/*.changes", check=False)
    assert (said.code, said.out) == (0, ""), said


def test_everything_is_in_its_place() -> None:
    listed = run("stat", "-c", "%a %n", *FILES).out.splitlines()
    assert {name: int(mode, 8) for mode, name in (line.split() for line in listed)} == FILES
    assert "/usr/bin/virtcpr -q recover" in run("cat", f"{HOOKS}/daemon.d/virtcpr").out
    assert client.virtcpr("list").code == 0
    assert run("man", "-w", "8", "virtcpr").out == "/usr/share/man/man8/virtcpr.8.gz\n"


# What bash does at a press of the tab key, once it has found the file.
TAB = """
. /usr/share/bash-completion/completions/virtcpr
COMP_WORDS=(virtcpr upgrade st) COMP_CWORD=2
function=$(complete -p virtcpr) function=${function#*-F } function=${function%% *}
$function virtcpr st upgrade
echo "${COMPREPLY[@]}"
"""


def test_bash_completes_names_of_domains() -> None:
    assert run("bash", "-c", TAB).out == f"{GUEST.name}\n"


def test_nothing_is_switched_on() -> None:
    """But that an upgrade is noticed, and told of."""
    asked = run("systemctl", "is-enabled", *(f"virtcpr-{one}" for one in UNITS), check=False)
    assert asked.out.split() == list(UNITS.values())
    assert run("systemctl", "is-active", *(f"virtcpr-{one}" for one in UNITS), check=False).out.split() == [
        "inactive"
    ] * len(UNITS)
    assert shell("systemd-analyze verify /usr/lib/systemd/system/virtcpr-* 2>&1") == ""


UNITS = {
    "save.service": "disabled",
    "restore.service": "disabled",
    "auto.service": "static",
    "auto.timer": "static",
    "daily.timer": "disabled",
    "metrics.timer": "disabled",
}


@pytest.mark.parametrize("name", ["daily", "metrics"])
def test_what_runs_every_day(name: str) -> None:
    """The timer waits for its time; its service does its work, and ends."""
    shell(f"systemctl enable -q --now virtcpr-{name}.timer")
    assert shell(f"systemctl show -P NextElapseUSecRealtime virtcpr-{name}.timer").strip()
    shell(f"systemctl start virtcpr-{name}.service", timeout=120)
    ended = shell(f"systemctl show -P Result -P ExecMainStatus -P ActiveState virtcpr-{name}.service").split()
    assert sorted(ended) == ["0", "inactive", "success"]
    shell(f"systemctl disable -q --now virtcpr-{name}.timer")


def test_installed_again_it_keeps_what_was_configured(guests: Guests) -> None:
    process = client.pid(GUEST.name)
    shell(
        "sed -i 's/^#auto = .*/auto = \"apply\"/' /etc/virtcpr/virtcpr.toml; "
        "echo '# older' >>/etc/libvirt/hooks/qemu.d/virtcpr"
    )
    packaging.dpkg("-i", packaging.DEB)
    assert run("grep", "^auto", "/etc/virtcpr/virtcpr.toml").out == 'auto = "apply"\n'
    assert "# older" not in run("cat", f"{HOOKS}/qemu.d/virtcpr").out
    assert client.pid(GUEST.name) == process


def test_installed_again_it_takes_up_what_waits_for_dpkg() -> None:
    """What waits is stopped before its files change, and no failure."""
    shell(
        "/usr/libexec/virtcpr/trigger an upgrade; systemctl start --no-block virtcpr-auto.service; "
        "timeout 30 sh -c 'until [ -e /run/virtcpr/pending.taken ]; do sleep 0.1; done'"
    )
    began = run("systemctl", "show", "-P", "ExecMainPID", "virtcpr-auto.service").out
    assert run("ps", "-o", "args=", "-p", began.strip()).out.strip().endswith("virtcpr auto --pending")

    packaging.dpkg("-i", packaging.DEB)

    state = run("systemctl", "show", "-P", "ActiveState", "virtcpr-auto.service", "virtcpr-auto.timer").out.split()
    assert state == ["inactive", "active"]
    assert run("cat", "/run/virtcpr/pending").out == "virtcpr\n"
    shell("systemctl stop virtcpr-auto.timer; rm /run/virtcpr/pending")


def test_a_purge_leaves_nothing_and_guests_run_on(guests: Guests) -> None:
    process = client.pid(GUEST.name)
    shell("virtcpr check --all >/dev/null; virtcpr prepare --yes --mode reboot stays >/dev/null")
    assert run("ls", "/var/lib/virtcpr/xml").out

    packaging.dpkg("--remove", "virtcpr")
    # As policy has it: what was configured, and state, is there yet; dpkg's and its helpers' notes, too.
    left = [path for path in ours() if not path.startswith(("/var/lib/dpkg/", "/var/lib/systemd/deb-systemd-helper"))]
    assert left == [
        "/etc/apparmor.d/abstractions/libvirt-qemu.d/virtcpr",
        "/etc/virtcpr",
        "/run/virtcpr",
        *(f"/var/lib/systemd/timers/stamp-virtcpr-{name}.timer" for name in ("daily", "metrics")),
        "/var/lib/virtcpr",
    ]
    assert run("ls", HOOKS).out == ""
    packaging.dpkg("--purge", "virtcpr")

    assert ours() == []
    assert client.pid(GUEST.name) == process
    shell("systemctl restart libvirtd; virsh -q list")
    guests.assert_well(GUEST)


def test_a_purge_keeps_a_saved_guest_and_says_so(guests: Guests) -> None:
    packaging.dpkg("-i", packaging.DEB)
    shell("systemctl enable -q virtcpr-save.service virtcpr-restore.service; virtcpr -q save --yes stays")
    state = f"/var/lib/virtcpr/saved/{virsh('domuuid', GUEST.name).strip()}"

    said = packaging.dpkg("--purge", "virtcpr")

    assert "some guests can only be recovered or restored by virtcpr; kept" in said
    assert f"{state}/record.json" in said
    assert f"{HOOKS}/qemu.d/virtcpr stays" in said
    assert ours() == [f"{HOOKS}/qemu.d/virtcpr", "/var/lib/virtcpr"]
    assert run("ls", "/var/lib/virtcpr").out == "saved\n"
    refused = run("virsh", "start", GUEST.name, check=False)
    assert refused.code != 0
    assert "virtcpr: stays is saved: to bring it back, run: virtcpr restore" in refused.err

    packaging.dpkg("-i", packaging.DEB)
    assert client.virtcpr("restore", "--all").code == 0
    guests.assert_well(GUEST)
    packaging.dpkg("--purge", "virtcpr")
    assert ours() == []
