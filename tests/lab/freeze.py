"""Run in the lab: freeze virtcpr as soon as its journal says a state, then kill one of the three.

usage: python3 freeze.py STATE virtcpr|old|new [alone]

Prints the journal as it was.  virtcpr goes on where it isn't the victim.  `alone`: its guardian is killed before it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

JOURNALS = Path("/run/virtcpr/journal")
LOCK = Path("/run/virtcpr/lock")
SECONDS = 60
TOO_LATE = 3  # exit code: the state had passed when virtcpr stood still


def main(state: str, victim: str, *alone: str) -> None:
    virtcpr, entry = catch(state)
    if alone:
        subprocess.run(["systemctl", "kill", "--signal=KILL", "virtcpr-guardian-*"], check=True)
    victims = {"virtcpr": virtcpr, "old": entry["old_pid"], "new": entry["new_pid"]}
    os.kill(victims[victim], signal.SIGKILL)
    if victim != "virtcpr":
        os.kill(virtcpr, signal.SIGCONT)
    print(json.dumps(entry))


def catch(state: str) -> tuple[int, dict[str, int]]:
    """virtcpr's process, stopped, and the journal of then."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for path in JOURNALS.glob("*.json"):
            try:
                entry = json.loads(path.read_text())
                virtcpr = int(LOCK.read_text())
            except (OSError, ValueError):
                continue
            if entry["state"] == state and entry["new_pid"]:
                os.kill(virtcpr, signal.SIGSTOP)
                if path.exists() and (entry := json.loads(path.read_text()))["state"] == state:
                    return virtcpr, entry
                os.kill(virtcpr, signal.SIGCONT)
                raise SystemExit(TOO_LATE)
    raise SystemExit(f"the journal never said {state}")


main(*sys.argv[1:])
