"""A host left alone: what virtcpr.toml says, when all of it is done, and what needrestart says of the guests."""

from __future__ import annotations

from tests.lab.support import packaging
from tests.lab.support.client import run, shell

WITHIN_SECONDS = 180  # from the end of the package manager's run to the last guest's move
CONFIGURATION = "/etc/virtcpr/conf.d/test.toml"
# Without its hook into apt.  It looks at a cgroup of systemd's in the old hierarchy first, which the lab sees where the
# machine that runs it has one, and which says nothing there.
INSTALL_NEEDRESTART = f"""
{packaging.APT} install --no-download --no-install-recommends needrestart
rm /etc/apt/apt.conf.d/99needrestart
sed -i 's/ || ($type eq q(name=systemd))//' /usr/share/perl5/NeedRestart/Utils.pm
"""


def configure(text: str) -> None:
    shell(f"cat >{CONFIGURATION}", stdin=text)


def settled(seconds: float = 60) -> None:
    """Wait until nothing that was noted is left to be done."""
    script = (
        "until ! ls /run/virtcpr/pending* && ! systemctl is-active virtcpr-auto.timer && "
        "[ $(systemctl show -P ActiveState virtcpr-auto.service) != activating ]; do sleep 0.2; done >/dev/null 2>&1"
    )
    run("timeout", str(seconds), "sh", "-c", script, timeout=seconds + 10)


def needrestart() -> str:
    """What it says of guests."""
    said = run("needrestart", "-r", "l").out.splitlines()
    return "\n".join(line for line in said if "hypervisor" in line or "with pid" in line)
