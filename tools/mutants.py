"""Breaks the scripts in a copy of the kit, one place at a time, and prints what no test noticed: `make mutants`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.files import HANDLERS, ROOT

# -k picks what concerns the script, by the names of modules and parameters.
CONFIGURATION = """[cosmic-ray]
module-path = "{script}.py"
timeout = 120.0
excluded-modules = []
test-command = "{python} -m pytest -q -x -p no:cacheprovider -k {script} tests/test_{script}.py {shared}"
[cosmic-ray.distributor]
name = "local"
"""
SHARED = "tests/test_jwt_auth_token.py tests/test_events.py tests/test_attacks.py tests/test_logging_out.py"


def main(scripts: list[str]) -> None:
    """Try every mutant of these scripts, or of all."""
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        shutil.copytree(
            ROOT, kit, ignore=shutil.ignore_patterns(".*", "layers", "packaged", "__pycache__")
        )
        for script in scripts or ["create_password", *HANDLERS]:
            settings = CONFIGURATION.format(
                script=script, shared=SHARED, python=ROOT / ".venv/bin/python"
            )
            Path(folder, "settings.toml").write_text(settings)
            for command in ("init ../settings.toml", "exec ../settings.toml"):
                run(kit, "cosmic-ray", *command.split(), f"../{script}.sqlite")
            run(kit, "cr-report", "--show-diff", "--surviving-only", f"../{script}.sqlite")


def run(folder: Path, tool: str, *arguments: str) -> None:
    """Run one of cosmic-ray's commands."""
    subprocess.run([Path(sys.executable).with_name(tool), *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
