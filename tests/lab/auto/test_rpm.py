"""The rpm package, as far as Debian's rpm goes: built, installed, renewed, removed, and told of a new QEMU."""

from __future__ import annotations

import pytest

from tests.lab.support import client
from tests.lab.support.client import run, shell
from tests.lab.support.machine import Lab
from tests.lab.support.rpm import SPEC, build, build_qemu, rpm

HOOKS = "/etc/libvirt/hooks"
NOTE = "/run/virtcpr/pending"


@pytest.fixture(scope="module")
def package(lab: Lab) -> str:
    """Built, and nothing of pip's left; what rpm installs is all there is of virtcpr."""
    path = build()
    shell(
        f"virtcpr hooks remove; cp {SPEC} /var/tmp; rm -rf /usr/src/virtcpr; "
        "pip uninstall -qy --root-user-action=ignore --break-system-packages virtcpr; systemctl daemon-reload"
    )
    return path


def noted(script: str) -> bool:
    """Whether an upgrade of QEMU is noted after that."""
    shell(f"systemctl stop virtcpr-auto.timer virtcpr-auto.service; rm -f {NOTE}; {script}")
    return run("test", "-e", NOTE, check=False).code == 0


def test_rpmlint_finds_no_error(package: str) -> None:
    said = run("rpmlint", f"/var/tmp/{SPEC.rpartition('/')[2]}", check=False)
    assert " 0 errors," in said.out, said


def test_it_is_installed(package: str) -> None:
    rpm("-i", package)
    assert client.virtcpr("list").code == 0
    hooks = shell(f"find {HOOKS} -name virtcpr").split()
    assert sorted(hooks) == [f"{HOOKS}/daemon.d/virtcpr", f"{HOOKS}/qemu.d/virtcpr"]
    assert shell("systemctl is-enabled virtcpr-restore.service || :").strip() in ("enabled", "disabled")
    assert run("rpm", "-V", "--nodeps", "virtcpr", check=False).out == ""


@pytest.mark.parametrize(
    "path", ["/usr/bin/qemu-system-none", "/usr/bin/qemu-kvm", "/usr/libexec/qemu-kvm", "/usr/lib64/qemu-kvm/block.so"]
)
def test_it_hears_of_a_new_qemu(package: str, path: str) -> None:
    """Installed, and upgraded; a transaction's trigger finds directories only (see the spec)."""
    rpm("-U", "--force", package)
    first, second = build_qemu(1, path), build_qemu(2, path)
    assert noted(f"rpm --nodeps -i {first}")
    assert noted(f"rpm --nodeps -U {second}")
    rpm("-e", "qemu-of-the-tests")


def test_it_does_not_hear_of_anything_else(package: str) -> None:
    rpm("-U", "--force", package)
    assert not noted(f"rpm --nodeps -i {build_qemu(1, '/usr/bin/qemu-img')}")
    rpm("-e", "qemu-of-the-tests")


def test_it_is_removed(package: str) -> None:
    rpm("-U", "--force", package)
    shell("echo 'auto = \"off\"' > /etc/virtcpr/virtcpr.toml")
    assert rpm("-e", "virtcpr").strip().endswith("/etc/virtcpr/virtcpr.toml.rpmsave")
    assert shell(f"find {HOOKS} -name virtcpr") == ""
    assert run("sh", "-c", "command -v virtcpr", check=False).code != 0
    assert "off" in shell("cat /etc/virtcpr/virtcpr.toml.rpmsave")
