"""Breaks the scripts in a copy of the kit, one place at a time: make mutants.

It prints the changes that no test noticed.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.files import ROOT, SCRIPTS

CONFIGURATION = """[cosmic-ray]
module-path = "{script}.py"
timeout = 120.0
excluded-modules = []
test-command = "{python} -m pytest -q -x -p no:cacheprovider {tests}"
[cosmic-ray.distributor]
name = "local"
"""
# What tests a script, in addition to the module that bears its name.
SHARED = (
    "tests/test_jwt_auth_token.py tests/test_events.py tests/test_attacks.py "
    "tests/test_revoking_tokens.py"
)


def main(scripts: list[str]) -> None:
    """Try every mutant of these scripts, or of all."""
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        shutil.copytree(
            ROOT, kit, ignore=shutil.ignore_patterns(".*", "layers", "packaged", "__pycache__")
        )
        for script in scripts or SCRIPTS:
            tests = f"tests/test_{script}.py"
            if script.startswith("jwt_"):
                tests += f" {SHARED}"
            python = ROOT / ".venv/bin/python"
            settings = CONFIGURATION.format(script=script, tests=tests, python=python)
            Path(folder, "settings.toml").write_text(settings)
            for command in ("init ../settings.toml", "exec ../settings.toml"):
                run(kit, "cosmic-ray", *command.split(), f"../{script}.sqlite")
            run(kit, "cr-report", "--show-diff", "--surviving-only", f"../{script}.sqlite")


def run(folder: Path, tool: str, *arguments: str) -> None:
    """Run one of cosmic-ray's commands."""
    subprocess.run([Path(sys.executable).with_name(tool), *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
