"""The command line: the only part that knows typer, rich, stdout and exit codes."""

import importlib
import sys

# Older releases of typer load all of rich when they are imported: half of the time of `virtcpr --help`.  They
# are made for a missing rich too, and nothing of rich is wanted in them: table and live import it late.
if "typer" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("typer")
    finally:
        del sys.modules["rich"]
