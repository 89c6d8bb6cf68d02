"""Makes a virtual environment if there is none that works, and installs packages into it.

python3 -m tools.environment FOLDER [ARGUMENT OF PIP INSTALL ...]
"""

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

from build_layer import BuildError, last_error, pip_install


def main() -> int:
    """Run the command line and return its exit status."""
    folder, *arguments = sys.argv[1:]
    python = Path(folder, "bin", "python")
    try:
        if not has_pip(python):
            make(folder)
        pip_install(str(python), *arguments)
    except (BuildError, OSError) as error:
        print(f"{folder} can't be set up: {error}", file=sys.stderr)
        return 2
    return 0


def has_pip(python: Path) -> bool:
    """Return whether a Python is there, works and has pip."""
    try:
        return subprocess.run([python, "-c", "import pip"], capture_output=True).returncode == 0
    except OSError:
        return False


def make(folder: str) -> None:
    """Make an environment, in place of one that doesn't work."""
    if importlib.util.find_spec("ensurepip") is None:
        raise BuildError("Python's venv module is missing. On Debian: apt install python3-venv")
    try:
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(last_error(error.output.decode(errors="replace"))) from None


if __name__ == "__main__":
    sys.exit(main())
