"""``python -m tests.contract.terminal ARGS``: virtcpr as its own process, with a fake behind it."""

from __future__ import annotations

import sys
import time

from tests.contract.fake import FakeBackend
from virtcpr.cli import app
from virtcpr.cli.backend import Backend


def main() -> int:
    from virtcpr import __main__

    real = app.run

    def run(args: list[str], backend: Backend | None = None) -> int:
        return real(args, FakeBackend(during=lambda: time.sleep(0.5)))

    app.run = run  # type: ignore[assignment]
    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
