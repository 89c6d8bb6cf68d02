"""make: what it knows, what it says before it does anything, and the environments that it makes."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.files import ROOT
from support.wheels import wheel

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder with a copy of the Makefile and of what it runs."""
    if not (folder / "Makefile").exists():
        for name in ("Makefile", "build_layer.py"):
            shutil.copy(ROOT / name, folder)
        for file in ROOT.glob("requirements_*.txt"):
            shutil.copy(file, folder)
        for name in ("tools", "demo"):
            shutil.copytree(ROOT / name, folder / name)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("M")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=inherited | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_target_that_a_user_may_want(tmp_path: Path) -> None:
    listed = set(re.findall(r"^make (\w+) ", make(tmp_path).stdout, re.MULTILINE))
    phony = set(" ".join(re.findall(r"^\.PHONY: ([a-z ]+)$", MAKEFILE, re.MULTILINE)).split())
    assert listed == phony - {"python"}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["PARAMETERS=JwtTtlSeconds=60", "JwtIssuer=me"], "JwtIssuer"),
        (["PARAMETER=JwtTtlSeconds=60"], "PARAMETER"),
        (["PROT=8123"], "PROT"),
    ],
    ids=["no quotes", "misspelled", "another target's"],
)
def test_unknown_option_is_named(tmp_path: Path, arguments: list[str], name: str) -> None:
    done = make(tmp_path, "serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"There is no option {name}=" in done.stderr
    assert 'PARAMETERS="A=1 B=2"' in done.stderr


def test_known_options_are_accepted_whatever_is_in_them(tmp_path: Path) -> None:
    options = ["PORT=8123", "PARAMETERS=JwtSecret=a$b&c;d'e\"f JwtIssuer=me"]
    assert make(tmp_path, "help", *options).returncode == 0


@pytest.mark.parametrize("target", ["demo", "test", "layer", "release"])
def test_missing_python_is_told_before_anything_is_announced(tmp_path: Path, target: str) -> None:
    done = make(tmp_path, target, PYTHON3="python3.99")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("This needs Python 3.11 or newer. python3.99 --version says:\n")
    assert "not found" in done.stderr
    assert f"make {target} PYTHON3=/path/to/python3.14" in done.stderr


def test_old_python_is_told_with_its_version(tmp_path: Path) -> None:
    old = script(tmp_path / "old", '[ "$1" = --version ] && echo "Python 3.9.18"; exit 1')
    done = make(tmp_path, "demo", PYTHON3=str(old))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{old} --version says:\nPython 3.9.18\n" in done.stderr


def script(path: Path, commands: str) -> Path:
    """Write a shell script that stands in for a program."""
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("broken", [True, False])
def test_environment_whose_python_is_gone_is_made_again(tmp_path: Path, broken: bool) -> None:
    make(tmp_path, "help")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nowhere/python" if broken else sys.executable)
    (tmp_path / ".venv" / "demo").touch()
    planned = make(tmp_path, "-n", "demo").stdout
    assert ("tools.environment" in planned) == broken


def set_up(folder: Path, *requirements: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Make an environment in a folder, and install what a user finds in another folder."""
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)
    wheel(wheels, "pure", {"pure/__init__.py": b""})
    own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tools.environment", ".venv", *requirements]
    if os.geteuid() == 0:  # without this capability, permissions hold for root, too
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | own | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_environment_is_made_whatever_the_users_settings_of_pip_are(tmp_path: Path) -> None:
    (tmp_path / ".pip").mkdir()
    configuration = "[install]\nuser = true\ntarget = elsewhere\n"
    (tmp_path / ".pip" / "pip.conf").write_text(configuration)
    settings = {"HOME": ".", "PIP_USER": "1", "PIP_PREFIX": "elsewhere"}
    done = set_up(tmp_path, "pure==1.0", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run([tmp_path / ".venv/bin/python", "-c", "import pure"], check=True)
    assert not (tmp_path / "elsewhere").exists()


def test_pips_own_error_is_shown(tmp_path: Path) -> None:
    done = set_up(tmp_path, "pure==2.0")
    assert done.returncode == 2
    expected = ".venv can't be set up: No matching distribution found for pure==2.0\n"
    assert done.stderr == expected


def test_folder_that_is_not_writable_is_told(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = set_up(tmp_path, "pure==1.0")
    assert done.returncode == 2
    assert done.stderr.startswith(".venv can't be set up: ")
    assert "Permission denied" in done.stderr


def test_something_in_the_way_of_the_environment_is_told(tmp_path: Path) -> None:
    (tmp_path / ".venv").write_text("not a folder")
    done = set_up(tmp_path, "pure==1.0")
    assert done.returncode == 2
    assert done.stderr.startswith(".venv can't be set up: ")
    assert done.stderr.count("\n") == 1


def test_missing_venv_module_is_told_with_the_package_that_has_it(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys, tools.environment as environment\n"
        "importlib.util.find_spec = lambda name: None\n"
        "sys.argv = ['', '.venv']\n"
        "sys.exit(environment.main())"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr
