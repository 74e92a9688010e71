"""The only way to run other programs: argument lists, empty stdin, a minimal environment, a time-out."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from virtcpr.errors import HostError

log = logging.getLogger(__name__)

SECONDS = 30.0


def run(
    argv: Sequence[str], *, timeout: float = SECONDS, text: bytes | None = None, more: Mapping[str, str] | None = None
) -> str:
    """Run a program and return what it printed.  ``timeout`` in seconds.

    ``text`` is its stdin, empty by default; ``more`` is added to its environment.

    Raises HostError with the program's stderr if it can't be started, fails, or takes too long (then it is killed).
    """
    log.debug("running %s", shlex.join(argv))
    try:
        done = subprocess.run(
            argv,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            timeout=timeout,
            env={**_environment(), **(more or {})},
            check=False,
            start_new_session=True,  # Ctrl-C must only reach virtcpr
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{shlex.join(argv)} took more than {timeout:g} s") from error
    except OSError as error:
        raise HostError(f"{argv[0]} can't be run: {error.strerror}") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise HostError(f"{shlex.join(argv)}: {words}")
    return done.stdout.decode(errors="replace")


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    return {"PATH": path, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
