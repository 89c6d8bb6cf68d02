"""The whole kit on an AWS emulator on this machine, for `make demo`, `make serve` and tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class DemoError(Exception):
    """Something stops the demo. The message is a sentence for its user."""
