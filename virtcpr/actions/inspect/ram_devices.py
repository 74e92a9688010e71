"""Whether this host lets a guest's QEMU open what is to hold its RAM: a device (/dev/dax0.0), a memfd of huge pages."""

from __future__ import annotations

from virtcpr.domain.facts import RamDevice
from virtcpr.domain.libvirt_conf import setting, strings
from virtcpr.host.files import dax
from virtcpr.host.system import apparmor, users

USERS = ("libvirt-qemu", "qemu")  # of Debian, of Fedora
# libvirt src/qemu/qemu_cgroup.c, defaultDeviceACL; /dev/kvm as in the comment of qemu.conf.
DEFAULT = tuple(f"/dev/{name}" for name in ("null", "full", "zero", "random", "urandom", "ptmx", "kvm", "userfaultfd"))


def look(path: str, conf: str) -> RamDevice:
    """``conf`` is the text of qemu.conf."""
    user = setting(conf, "user") or next(filter(users.exists, USERS), "root")
    listed = setting(conf, "cgroup_device_acl")
    return RamDevice(
        path=path,
        there=dax.is_device(path),
        user=user,
        opens=users.may_open(user, path),
        acl=DEFAULT if listed is None else tuple(strings(listed)),
        confined=_confined(conf),
        allowed=apparmor.lets_guests_open(path),
    )


def confines_memfds(conf: str) -> bool:
    """Whether AppArmor lets no QEMU that libvirt starts make memfds of huge pages."""
    return _confined(conf) and not apparmor.lets_guests_open(apparmor.MEMFD)


def _confined(conf: str) -> bool:
    return apparmor.confines_guests() and setting(conf, "security_driver") != "none"
