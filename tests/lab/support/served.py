"""A guest that processes of the host serve: a TPM, shared directories; and whether they serve it as before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.lab.support import client
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL
from tests.lab.support.provoke import Guest, new_process, upgrade

CONSOLE = replace(SMALL, serial="file").serial_path
HELPERS = "swtpm|virtiofsd|passt(.avx2)?"
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
SHARES = """
<filesystem type='mount'><driver type='virtiofs' queue='1024'/>
<source dir='/srv/share'/><target dir='share'/></filesystem>
<filesystem type='mount'><driver type='virtiofs'/><binary xattr='on'><cache mode='always'/></binary>
<source dir='/srv/other'/><target dir='other'/></filesystem>
"""
# Of each process: of a sandboxed one's parent and child.
STATE = f"""
for pid in $(for pid in $(pgrep -x '{HELPERS}'); do echo $pid $(tr '\\0' ' ' < /proc/$pid/cmdline); done |
        sort -k 2 -k 1,1n | cut -d ' ' -f 1); do
    tr '\\0' ' ' < /proc/$pid/cmdline; echo
    grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /proc/$pid/status
    grep ^0: /proc/$pid/cgroup; cat /proc/$pid/oom_score_adj
    for ns in mnt net pid ipc; do
        [ $(readlink /proc/$pid/ns/$ns) = $(readlink /proc/1/ns/$ns) ] && echo "the host's $ns"
    done
    readlink /proc/$pid/exe
    readlink /proc/$pid/fd/* | grep -E '^(/run|/var|/memfd)' | sort -u
done
stat -c '%U:%G %a %n' $(find /run/libvirt/qemu /var/lib/libvirt/qemu /var/lib/libvirt/swtpm \
    '(' -path '*swtpm*' -o -path '*passt*' ')' '(' -type f -o -type s ')' ! -name 'TMP*' -o -name '*-fs.*' | sort)
for file in /run/libvirt/qemu/*-fs.pid /run/libvirt/qemu/swtpm/*.pid; do
    [ -e $file ] && grep -q "POSIX .* WRITE $(cat $file) " /proc/locks && echo "$file is locked by its process"
done
true
"""


def made(*, tpm: str = "", shares: str = "", devices: str = "", **different: Any) -> Guest:
    """A guest that uses its TPM (XML), if it has one, and the first of its shared directories.

    ``devices``: XML of more of them.  ``different``: what else of the guest isn't SMALL's.
    """
    run("mkdir", "-p", "/srv/share", "/srv/other")
    options = [f"witness.tpm={1 if '1.2' in tpm else 2}"] if tpm else []
    options += ["witness.share=share"] if shares else []
    # The BIOS's table of the TPM is where a kernel that isn't packed goes.
    told = {"kernel_options": " ".join(options), "packed": bool(tpm), "serial": "file"}
    return Guest(devices + tpm + shares, **told | different)


def processes() -> str:
    """Those that serve guests, each on a line."""
    return run("pgrep", "-x", HELPERS, check=False).out


def picture() -> list[str]:
    """What shows of the processes, but their numbers, and those of their descriptors."""
    return shell(STATE).splitlines()


def until(condition: str, seconds: float) -> None:
    """Wait until a shell says so."""
    seconds *= client.slowness()
    run("timeout", f"{seconds:g}", "sh", "-c", f"until {condition}; do sleep 0.1; done", timeout=seconds + 60)


class Served:
    """What the witness uses tells its rounds on the console: ``tpm``, ``share``."""

    def __init__(self, guest: Guest, *uses: str) -> None:
        self.guest, self.uses = guest, uses

    def watched(self) -> int:
        """It runs, and has used what it is served; its process."""
        process = self.guest.is_watched()
        for use in self.uses:
            until(f"grep -q '{use} round' {CONSOLE}", 60)
        return process

    def rounds(self) -> dict[str, int]:
        last = "grep -o '{} round [0-9]*' {} | tail -n 1 | tr -dc 0-9 | grep ."
        return {use: int(shell(last.format(use, CONSOLE))) for use in self.uses}

    def assert_moves_there_and_back(self) -> None:
        """Each time by processes that are new, and look like the first ones."""
        self.watched()
        before, first = picture(), processes().split()
        for _ in range(2):
            report = upgrade()
            (domain,) = report["domains"]
            assert (domain["result"], domain["findings"]) == ("upgraded", []), report
            self.assert_served(new_process(report))
            assert picture() == before
        assert not set(processes().split()) & set(first)

    def assert_served(self, process: int) -> None:
        """By this process, and as many others as a guest has that was just started; all is in use."""
        seen = self.rounds()
        try:
            self.guest.assert_well(process)
        except AssertionError as error:
            complaints = shell(f"grep -aE 'ERROR|FAILED' {CONSOLE} || :")
            raise AssertionError(f"{complaints}{error}") from error
        for use, number in seen.items():
            # A line may be mixed with another one, so any that is later will do.
            last = f"grep -o '{use} round [0-9]*' {CONSOLE} | tail -n 1 | tr -dc 0-9"
            until(f'[ "$({last})" -ge {number + 8} ]', 20)
