"""Tools that a test needs and that not every machine has."""

import os
from pathlib import Path

import pytest


def need(tool: Path, command: str) -> None:
    """Skip the test if the tool isn't there. In CI, let it fail."""
    if tool.exists():
        return
    sentence = f"{tool.name} isn't installed: run `{command}`"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
