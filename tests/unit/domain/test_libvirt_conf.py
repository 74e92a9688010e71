"""qemu.conf is read as libvirt reads it."""

from __future__ import annotations

import pytest

from virtcpr.domain.libvirt_conf import setting


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ('lock_manager = "lockd"', "lockd"),
        ("lock_manager = 'lockd'", "lockd"),
        ("lock_manager='lockd' # of this host\n", "lockd"),
        ("user = 'x'; lock_manager = 'sanlock'", "sanlock"),
        ('\t lock_manager\t=\t"""lockd"""\r\n', "lockd"),
        ('lock_manager = """two\nlines"""', "two\nlines"),
        ('lock_manager = ""', ""),
        ("lock_manager = lockd", "lockd"),
        ("lock_manager = 1", "1"),
        ('lock_manager = [ "lockd" ]', '[ "lockd" ]'),
        ("#lock_manager = 'lockd'\n  # lock_manager = \"lockd\"", None),
        ("my_lock_manager = 'lockd'\nlock_manager_x = 'lockd'", None),
        ("user = 'lock_manager = \"no\"'\nlock_manager = 'yes'", "yes"),
        ('user = """\nlock_manager = "no"\n"""', None),
        ("cgroup_device_acl = [\n'/dev/null', # lock_manager = 'no'\n'/dev/full'\n]\nlock_manager = 'yes'", "yes"),
        ("hugetlbfs_mount = ['/a]', \"b]\"]; lock_manager = 'yes'", "yes"),
        ("password = 'it is #1'\nlock_manager = 'it is \"#2\"'", 'it is "#2"'),
        ('vnc_password = "it\'s"\nlock_manager = "lockd"', "lockd"),
        ("lock_manager = 'first'\nlock_manager = 'second'", "first"),
    ],
)
def test_a_setting(text: str, value: str | None) -> None:
    assert setting(text, "lock_manager") == value
