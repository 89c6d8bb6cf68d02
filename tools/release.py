"""Builds what a release consists of, with the same bytes on every machine: `make release`.

python3 -m tools.release [PYTHON ...]

dist/ gets the layers for both architectures and for these Pythons, or for every Python from 3.11 on
that is on this machine, the scripts, the templates, and SHA256SUMS.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from build_layer import PLATFORMS
from tools.layers import LAYERS, build_command, own_python, own_pythons

DIST = Path("dist")
SCRIPTS = ["*.py", "template*.yaml", "try.html", "LICENSE"]


def main() -> int:
    """Build dist/ and return the exit status."""
    pythons = sys.argv[1:] or own_pythons()
    missing = [version for version in pythons if not own_python(version)]
    if missing:
        print(f"make release: there is no Python {missing[0]} with pip here.", file=sys.stderr)
        return 2
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    copy_scripts()
    for python in pythons:
        if not build_layers(python):
            return 2
    write_checksums()
    print(f"dist/ has {len(list(DIST.iterdir()))} files, for Python {', '.join(pythons)}.")
    return 0


def copy_scripts() -> None:
    """Copy what users paste, deploy or run."""
    for pattern in SCRIPTS:
        for file in Path().glob(pattern):
            (DIST / file.name).write_bytes(file.read_bytes())


def build_layers(python: str) -> bool:
    """Build the layers for one Python, and return whether all of them are there."""
    for name in LAYERS:
        for architecture in PLATFORMS:
            target = DIST / f"{name}-python{python}-{architecture}.zip"
            command = build_command([own_python(python)], name, architecture, target)
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                return False
            print(target, flush=True)
    return True


def write_checksums() -> None:
    """Write SHA256SUMS, which `sha256sum --check` reads."""
    lines = []
    for file in sorted(DIST.iterdir()):
        lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
