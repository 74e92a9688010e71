"""The command line: the only part that knows typer, rich, stdout and exit codes."""

import importlib
import sys

# Older releases of typer import all of rich: half of the time of `virtcpr --help`.  They also work without rich, and
# virtcpr's tables and live display import it later.
if "typer" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("typer")
    finally:
        del sys.modules["rich"]
