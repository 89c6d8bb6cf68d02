"""Breaks the scripts in a copy of the kit, one place at a time, and prints what no test noticed: `make mutants`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AUTHORIZER = "tests/test_events.py tests/test_attacks.py"
TESTS = {  # what is run against a broken script, the quick ones first
    "restricted_access_lambda": "tests/test_restricted_access_lambda.py",
    "create_password": "tests/test_create_password.py",
    "jwt_auth_token": f"tests/test_jwt_auth_token.py {AUTHORIZER} tests/test_logging_out.py",
    "jwt_auth_token_websocket": "tests/test_jwt_auth_token_websocket.py tests/test_jwt_auth_token.py "
    f"{AUTHORIZER} tests/test_logging_out.py",
    "jwt_auth_token_google": f"tests/test_jwt_auth_token_google.py {AUTHORIZER}",
    "jwt_create_token": "tests/test_jwt_create_token.py tests/test_jwt_auth_token.py",
}
CONFIGURATION = """[cosmic-ray]
module-path = "{script}.py"
timeout = 120.0
excluded-modules = []
test-command = "{python} -m pytest -q -x -p no:cacheprovider -k {script} {tests}"
[cosmic-ray.distributor]
name = "local"
"""


def main(scripts: list[str]) -> None:
    """Try every mutant of these scripts, or of all."""
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        shutil.copytree(ROOT, kit, ignore=shutil.ignore_patterns(".*", "layers", "packaged", "__pycache__"))
        for script in scripts or TESTS:
            settings = CONFIGURATION.format(script=script, tests=TESTS[script], python=ROOT / ".venv/bin/python")
            Path(folder, "settings.toml").write_text(settings)
            for command in ("init ../settings.toml", "exec ../settings.toml"):
                run(kit, "cosmic-ray", *command.split(), f"../{script}.sqlite")
            run(kit, "cr-report", "--show-diff", "--surviving-only", f"../{script}.sqlite")


def run(folder: Path, tool: str, *arguments: str) -> None:
    """Run one of cosmic-ray's commands."""
    subprocess.run([Path(sys.executable).with_name(tool), *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
