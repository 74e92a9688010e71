"""Random walks: whatever virsh does to a running guest, in whatever order, a swap in between changes nothing of it.

In `make test` the walk is a short one, the same every time; in `make chaos` it goes on for minutes, another every time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.compare import differences, picture
from tests.lab.support.guests import DATABASE, IMAGES, domain_xml, image_commands
from tests.lab.support.leftovers import KEPT, leftovers

WALKS, STEPS = 8, 40
WALKER = replace(DATABASE, name="walker", vcpus=1)
NAME = WALKER.name
PORTS = 12  # for what is attached
CHAIN = 3  # overlays at most
# Without a boot ROM: docs/findings.md, interface-rom.
NIC = (
    "<interface type='network'><mac address='{mac}'/><source network='default'/><model type='virtio'/>"
    "<rom enabled='no'/></interface>"
)
TWO_VCPUS = "<vcpu current='1'>2</vcpu>"
MORE = (
    "<controller type='pci' index='0' model='pcie-root'/>"
    + "<controller type='pci' model='pcie-root-port'/>" * PORTS
    + "<disk type='file' device='cdrom'><target dev='sdx' bus='sata'/><readonly/></disk>"
)


class Walk(RuleBasedStateMachine):
    """One walk; the guest is the same for all.  What was done is undone at its end."""

    guests: ClassVar[Guests]
    installed: ClassVar[str]  # QEMU's version
    made: ClassVar[int] = 0  # images, over all walks
    vcpus: ClassVar[int] = 1  # one that came stays

    def __init__(self) -> None:
        super().__init__()
        self.disks: list[str] = []
        self.nics: list[str] = []
        self.overlays: list[str] = []
        self.iothreads: list[int] = []
        self.medium = ""
        self.throttled = False
        self.suspended = False
        self.connected = True
        self.steps = 0
        self.guests.witness.mark()

    def image(self, suffix: str, size: str = "8M") -> str:
        Walk.made += 1
        path = f"{IMAGES}/walk-{Walk.made}.{suffix}"
        run("truncate", "-s", size, path)
        return path

    @precondition(lambda self: len(self.disks) < 3 and not self.suspended)
    @rule(cache=st.sampled_from(["none", "writeback"]))
    def attach_a_disk(self, cache: str) -> None:
        target = next(f"vd{letter}" for letter in "xyz" if f"vd{letter}" not in self.disks)
        virsh("attach-disk", NAME, self.image("raw"), target, "--targetbus", "virtio", "--cache", cache)
        self.disks.append(target)

    @precondition(lambda self: self.disks and not self.suspended)
    @rule(data=st.data())
    def detach_a_disk(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(self.disks))
        virsh("detach-disk", NAME, target)
        self.disks.remove(target)
        self.gone(f"dev='{target}'")

    @precondition(lambda self: len(self.nics) < 2 and not self.suspended)
    @rule()
    def attach_a_nic(self) -> None:
        mac = next(f"52:54:00:77:00:0{n}" for n in range(2) if f"52:54:00:77:00:0{n}" not in self.nics)
        virsh("attach-device", NAME, "/dev/stdin", stdin=NIC.format(mac=mac))
        self.nics.append(mac)

    @precondition(lambda self: self.nics and not self.suspended)
    @rule(data=st.data())
    def detach_a_nic(self, data: st.DataObject) -> None:
        mac = data.draw(st.sampled_from(self.nics))
        virsh("detach-interface", NAME, "network", "--mac", mac)
        self.nics.remove(mac)
        self.gone(mac)

    @precondition(lambda self: len(self.overlays) < CHAIN)
    @rule()
    def take_a_snapshot(self) -> None:
        Walk.made += 1
        path = f"{IMAGES}/walk-{Walk.made}.qcow2"
        others = [f"--diskspec {target},snapshot=no" for target in ["sda", *self.disks]]
        words = f"--diskspec vda,file={path} {' '.join(others)}".split()
        virsh("snapshot-create-as", NAME, "--disk-only", "--no-metadata", *words)
        self.overlays.append(path)

    @precondition(lambda self: self.overlays and not self.suspended)
    @rule()
    def commit_all_snapshots(self) -> None:
        base = WALKER.disk_path(0)
        virsh("blockcommit", NAME, "vda", "--base", base, "--active", "--pivot", "--wait")
        for path in self.overlays:  # whoever opens it now is refused
            run("sh", "-c", 'echo overwritten >"$0"', path)
        self.overlays.clear()

    @rule(limit=st.sampled_from([0, 4000]))
    def throttle(self, limit: int) -> None:
        virsh("blkdeviotune", NAME, "vda", "--total-iops-sec", str(limit), "--live")
        self.throttled = limit > 0

    @rule(inserted=st.booleans())
    def change_the_medium(self, inserted: bool) -> None:
        if inserted:
            action = "--update" if self.medium else "--insert"
            self.medium = self.image("iso", "1M")
            virsh("change-media", NAME, "sdx", self.medium, action)
        elif self.medium:
            virsh("change-media", NAME, "sdx", "--eject")
            self.medium = ""

    @precondition(lambda self: len(self.iothreads) < 2)
    @rule()
    def add_an_iothread(self) -> None:
        number = max([7, *self.iothreads]) + 1
        virsh("iothreadadd", NAME, str(number), "--live")
        self.iothreads.append(number)

    @precondition(lambda self: self.iothreads)
    @rule()
    def delete_an_iothread(self) -> None:
        virsh("iothreaddel", NAME, str(self.iothreads.pop()), "--live")

    @precondition(lambda self: self.vcpus == 1 and not self.suspended)
    @rule()
    def add_a_vcpu(self) -> None:
        virsh("setvcpus", NAME, "2", "--live")
        Walk.vcpus = 2

    @rule()
    def pull_the_second_cable(self) -> None:
        self.connected = not self.connected
        virsh("domif-setlink", NAME, "52:54:00:57:0c:01", "up" if self.connected else "down")

    @rule()
    def suspend_or_resume(self) -> None:
        virsh("resume" if self.suspended else "suspend", NAME)
        self.suspended = not self.suspended

    @invariant()
    def a_swap_carries_it(self) -> None:
        """After every third step."""
        self.steps += 1
        if self.steps % 3:
            return
        before = picture(NAME)
        emulator = KEPT if client.qemu_version(NAME) == self.installed else EMULATOR
        report = client.upgrade(NAME, "--emulator", emulator)
        assert report["domains"][0]["result"] == "upgraded", report
        assert report["domains"][0]["findings"] == [], report
        changed = differences(before, picture(NAME))
        if self.suspended:  # whether it has a channel open QEMU says when it runs again
            changed = [one for one in changed if "<target type='virtio' name='org.qemu" not in one]
        assert changed == []
        assert leftovers() == ""

    @invariant()
    def libvirt_has_what_was_done(self) -> None:
        blocks = dict(line.split() for line in virsh("domblklist", NAME).strip().splitlines())
        assert blocks.keys() == {"vda", "sda", "sdx", *self.disks}
        assert blocks["vda"] == (self.overlays or [WALKER.disk_path(0)])[-1]
        assert blocks["sdx"] == (self.medium or "-")
        assert virsh("domstate", NAME).strip() == ("paused" if self.suspended else "running")
        assert len(client.monitor(NAME, "query-cpus-fast")) == self.vcpus
        assert len(client.monitor(NAME, "query-iothreads")) == 1 + len(self.iothreads)
        assert virsh("dumpxml", NAME).count("<total_iops_sec>") == self.throttled

    @invariant()
    def the_guest_is_well(self) -> None:
        if not self.suspended:
            self.guests.assert_well(WALKER, beats=50)

    def teardown(self) -> None:
        """Back to where every walk begins, through virsh."""
        if self.suspended:
            self.suspend_or_resume()
        if not self.connected:
            self.pull_the_second_cable()
        if self.overlays:
            self.commit_all_snapshots()
        self.change_the_medium(inserted=False)
        self.throttle(0)
        for target in self.disks:
            virsh("detach-disk", NAME, target)
            self.gone(f"dev='{target}'")
        for mac in self.nics:
            virsh("detach-interface", NAME, "network", "--mac", mac)
            self.gone(mac)
        for number in self.iothreads:
            virsh("iothreaddel", NAME, str(number), "--live")

    def gone(self, word: str) -> None:
        """The guest lets go of a device in its own time."""
        run("timeout", "30", "sh", "-c", f'while virsh dumpxml {NAME} | grep -q "$0"; do sleep 0.1; done', word)


def walker_xml() -> str:
    xml = domain_xml(WALKER).replace("<vcpu>1</vcpu>", TWO_VCPUS)
    return xml.replace("</devices>", f"{MORE}</devices>")


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_whatever_virsh_did_a_swap_carries(guests: Guests) -> None:
    for command in image_commands(WALKER):
        run(*command)
    shell(f"virsh -q define /dev/stdin; virsh -q start {NAME}", stdin=walker_xml())
    guests.adopt(WALKER)
    guests.watch(WALKER)
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")
    Walk.guests, Walk.installed = guests, client.upstream(client.versions()["NEW"])
    walk = settings(
        max_examples=WALKS,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Walk, settings=walk)

    virsh("reset", NAME)  # as a guest that reboots: the same machine comes up
    guests.watch(WALKER)
    guests.assert_well(WALKER)
