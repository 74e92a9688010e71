"""What is saved of a guest is damaged, cut off, of another host or too old: it is refused, nothing is started, and all
of it stays, so that putting it right brings the guest back.

One saved guest is damaged in one way after the other.  What is said must name that damage alone: what was put right
before is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import Witness, run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import qemu_processes
from tests.lab.support.machine import Lab

SHAPE = replace(SMALL, name="saved", number=18, prepared=False, ram_file=True)
NAME, DISK = SHAPE.name, SHAPE.disk_path(0)
SAVED = "/var/lib/virtcpr/saved"
KEEP, PUT_BACK = "cp --preserve=all {path} /root/kept", "mv /root/kept {path}"
# A record that says something else and is sound, as another virtcpr, or somebody else's, would have written it.
RESIGN = """
import hashlib, json, sys
path, changes = sys.argv[1], json.loads(sys.argv[2])
with open(path) as file:
    body = {**json.load(file), **changes}
del body["sha256"]
checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
with open(path, "w") as file:
    json.dump({"sha256": checksum, **body}, file)
"""


@dataclass(frozen=True)
class Damage:
    """Shell scripts that do it and undo it; ``$dir``, ``$ram`` and ``$disk`` are set.  ``says``: what is refused, where
    ``whole`` says it is all that is wrong of a record that can be understood."""

    name: str
    do: str
    undo: str
    says: str
    whole: bool = True


def kept(name: str, path: str, do: str, says: str, *, whole: bool = True) -> Damage:
    """Undone by a copy that was made before: the same bytes and times."""
    return Damage(name, f"{KEEP.format(path=path)}; {do}", PUT_BACK.format(path=path), says, whole)


def moved(name: str, path: str, says: str, *, whole: bool = True) -> Damage:
    return Damage(name, f"mv {path} {path}.away", f"mv {path}.away {path}", says, whole)


def record(name: str, do: str, says: str) -> Damage:
    return kept(name, "$dir/record.json", do, says, whole=False)


def resigned(name: str, says: str, **changes: object) -> Damage:
    return record(name, f"python3 -c '{RESIGN}' $dir/record.json '{json.dumps(changes)}'", says)


FLIP = "dd if=/dev/zero of={path} bs=1 seek=5000 count=64 conv=notrunc status=none"
OTHER_ID = "0123456789abcdef0123456789abcdef"
OTHER_UUID = "01234567-89ab-4def-8123-456789abcdef"
DAMAGES = (
    kept("state-changed", "$dir/state", FLIP.format(path="$dir/state"), "its state was changed since: the checksum"),
    kept("state-cut", "$dir/state", "truncate -s -1 $dir/state", "its state is cut off: "),
    kept("state-longer", "$dir/state", "echo >> $dir/state", "its state was changed since: the checksum differs"),
    moved("state-gone", "$dir/state", "state can't be read: No such file or directory"),
    record("record-changed", 'sed -i \'s/"runs": true/"runs": false/\' $dir/record.json', "its checksum is wrong"),
    record("record-cut", "truncate -s 300 $dir/record.json", "can't be understood: "),
    record("record-empty", ": > $dir/record.json", "can't be understood: "),
    moved("record-gone", "$dir/record.json", "can't be read: No such file or directory", whole=False),
    record("record-readable", "chmod 644 $dir/record.json", "isn't trusted: another user owns it, or can access it"),
    record("record-a-link", "ln -sf /root/kept $dir/record.json", "can't be read: "),
    resigned("record-of-another-schema", "schema 2, this virtcpr knows 1", schema=2),
    resigned("record-of-another-domain", f"it belongs to domain {OTHER_UUID}", uuid=OTHER_UUID),
    resigned("record-never-finished", f"{NAME} isn't waiting for a restore (saving, gone)", stage="saving"),
    resigned("record-of-a-guest-that-ran", f"{NAME} isn't waiting for a restore (resuming, gone)", stage="resuming"),
    kept("another-host", "/etc/machine-id", f"echo {OTHER_ID} > /etc/machine-id", "it was saved on another host"),
    kept("disk-written", DISK, f"qemu-io -f qcow2 -c 'write 0 512' {DISK}", f"its disk {DISK} was written to since"),
    moved("disk-gone", DISK, f"its disk {DISK} is gone"),
    Damage(
        "ram-written",
        "touch -r $ram /root/then; dd if=$ram of=$ram bs=1 count=1 conv=notrunc status=none",
        "touch -r /root/then $ram",
        "was written to since",
    ),
    Damage(
        "ram-copied", "mv $ram $ram.away; cp --preserve=all $ram.away $ram", "mv $ram.away $ram", "isn't the same file"
    ),
    moved("ram-gone", "$ram", "can't be looked at: No such file or directory"),
    moved("emulator-gone", EMULATOR, f"the emulator {EMULATOR} "),
)


@dataclass
class Waiting:
    """The guest that is saved, where its files are, and who watches it."""

    witness: Witness
    uuid: str
    directory: str
    ram: str

    def shell(self, script: str) -> str:
        return shell(f"dir={self.directory} ram={self.ram}\n{script}")

    def files(self) -> str:
        """All that is kept of it."""
        return self.shell("cd /; find $dir $(dirname $ram) ! -type d -exec stat -c '%n %i %s %f' {} + | sort")

    def refused(self) -> tuple[str, str]:
        """What restoring it says, and the hint; the exit code is that of something that is blocked."""
        done = client.virtcpr("restore", self.uuid, "--yes", "-o", "json")
        assert done.code == 4, done
        (domain,) = json.loads(done.out)["domains"]
        assert (domain["name"], domain["uuid"], domain["result"]) == (NAME, self.uuid, "blocked"), done
        (finding,) = domain["findings"]
        return finding["message"], finding["remedy"]


@pytest.fixture(scope="module")
def waiting(lab: Lab) -> Iterator[Waiting]:
    run("virtcpr", "hooks", "install")
    shell("systemctl restart libvirtd.service")  # it finds them
    witness = Witness()
    client.start(SHAPE)
    witness.watch(SHAPE)
    witness.mark()
    run("virtcpr", "save", NAME, "--yes")
    uuid = virsh("domuuid", NAME).strip()
    ram = shell(f"ls -d /var/lib/libvirt/qemu/ram/virtcpr-{uuid}/*").strip()
    yield Waiting(witness, uuid, f"{SAVED}/{uuid}", ram)
    witness.close()
    client.remove(NAME)


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
def test_it_is_refused_and_stays(waiting: Waiting, damage: Damage) -> None:
    waiting.shell(damage.do)
    try:
        before = waiting.files()

        message, hint = waiting.refused()

        assert damage.says in message
        if damage.whole:
            assert message.startswith(f"{NAME} can't be restored: "), message
            assert message.endswith(f"; its state waits in {waiting.directory}"), message
            assert message.count(";") == 1, message  # nothing else is wrong
        assert "virtcpr" in hint or "remove it" in hint, hint
        assert waiting.files() == before
        assert (qemu_processes(), virsh("domstate", NAME).strip()) == (0, "shut off")
    finally:
        waiting.shell(damage.undo)


def test_libvirt_does_not_start_it_afresh(waiting: Waiting) -> None:
    """Neither while all is right, nor where its record can't be understood."""
    for script in ("", "mv $dir/record.json /root/kept"):
        waiting.shell(script)
        refused = run("virsh", "-q", "start", NAME, check=False)
        assert refused.code == 1
        assert f"to bring it back, run: virtcpr restore '{NAME}'" in refused.err
    waiting.shell("mv /root/kept $dir/record.json")


def test_put_right_it_goes_on(waiting: Waiting) -> None:
    report: Any = json.loads(client.virtcpr("restore", "--all", "--yes", "-o", "json").out)

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "restored"), report
    waiting.witness.beats(SHAPE, 30)
    seen = waiting.witness.report(SHAPE)
    assert seen["ram_errors"] == seen["disk_errors"] == seen["failures"] == 0, seen
    assert seen["duplicates_or_reordered"] == 0, seen
    assert len(seen["boot_marks_seen"]) == 1, seen
    assert seen["tcp_alive"], seen
    assert shell(f"ls {SAVED}; ls -d /var/lib/libvirt/qemu/ram/virtcpr-* 2>/dev/null || :") == ""
