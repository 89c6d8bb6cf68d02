"""Builds the layers for Lambda, with this machine's Python or in Amazon's image: `make layer`.

python3 -m tools.layers ARCHITECTURE PYTHON [CONTAINER ENGINE]
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from build_layer import OLDEST_PYTHON, THIS_PYTHON

LAYERS = ["basic_auth", "google_auth"]
IMAGE = "public.ecr.aws/lambda/python"


def main() -> int:
    """Build both layers for one architecture and one Python, and return the exit status."""
    architecture, python, *engine = sys.argv[1:]
    try:
        builder = layer_builder(python, *engine)
    except ValueError as error:
        print(f"make layer: {error}", file=sys.stderr)
        return 2
    for name in LAYERS:
        command = build_command(builder, name, architecture, Path("layers", f"{name}.zip"))
        if subprocess.run(command).returncode:
            return 2
    return 0


def layer_builder(python: str, engine: str = "") -> list[str]:
    """Return the command of a Python that can build layers for its own version."""
    if not re.fullmatch(r"3\.\d+", python) or int(python[2:]) < OLDEST_PYTHON[1]:
        raise ValueError(f"PYTHON must be 3.11 or newer, such as 3.14, and not {python}.")
    if engine:
        if not engine_runs(engine):
            raise ValueError(f"{engine} version fails. Start the container engine.")
        return in_container(engine, python)
    own = own_python(python)
    if own:
        return [own]
    if engine_runs("docker"):
        return in_container("docker", python)
    raise ValueError(
        f"there is no Python {python} with pip here, and no Docker that runs. "
        f"Install one of them, or choose a Python that is here: {', '.join(own_pythons())}. "
        "make deploy needs the same PYTHON=. Another engine is CONTAINER_ENGINE=podman."
    )


def own_python(version: str) -> str:
    """Return the Python of this version that is on this machine and has pip, or ""."""
    candidates = [f"python{version}"]
    if version == THIS_PYTHON:
        candidates.insert(0, sys.executable)
    for candidate in candidates:
        if succeeds(candidate, "-c", "import pip"):
            return candidate
    return ""


def own_pythons() -> list[str]:
    """Return the versions of Python on this machine that can build layers."""
    versions = [f"3.{minor}" for minor in range(OLDEST_PYTHON[1], 20)]
    return [version for version in versions if own_python(version)]


def engine_runs(engine: str) -> bool:
    """Return whether a container engine is there and answers."""
    return succeeds(engine, "version")


def succeeds(*command: str) -> bool:
    """Return whether a command is there and ends with status 0."""
    if not shutil.which(command[0]):
        return False
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def in_container(engine: str, python: str) -> list[str]:
    """Return the command that runs Python in Amazon's image, in this folder, with this network."""
    return [
        engine,
        "run",
        "--rm",
        "--network=host",
        "--security-opt=label=disable",  # so that it may use this folder under SELinux
        f"--volume={Path.cwd()}:/kit",
        "--workdir=/kit",
        "--entrypoint=python3",
        f"{IMAGE}:{python}",
    ]


def build_command(builder: list[str], name: str, architecture: str, target: Path) -> list[str]:
    """Return the command that builds a layer."""
    requirements = f"requirements_{name}.txt"
    return [*builder, "build_layer.py", "build", requirements, str(target), "--arch", architecture]


if __name__ == "__main__":
    sys.exit(main())
