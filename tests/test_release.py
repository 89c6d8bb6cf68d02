"""make release: what dist/ has, and that it has the same bytes wherever it is built."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse
from support.files import HANDLERS, ROOT
from support.wheels import wheel

import build_layer

HERE = build_layer.THIS_PYTHON
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def released(folder: Path, wheels: Path, umask: int) -> Path:
    """Build a release in a folder, with layers of a small package, and return its dist/."""
    folder.mkdir(parents=True)
    for pattern in ("*.py", "*.yaml", "*.txt", "try.html", "LICENSE", "Makefile"):
        for file in ROOT.glob(pattern):
            shutil.copy(file, folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    for name in ("basic_auth", "google_auth"):
        (folder / f"requirements_{name}.txt").write_text("pure==1.0\n")
    command = ["make", "release", f"PYTHON3={sys.executable}", f"PYTHONS={HERE}"]
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("M")}
    settings = inherited | offline
    subprocess.run(command, cwd=folder, env=settings, umask=umask, check=True, capture_output=True)
    return folder / "dist"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "pure", {"pure/__init__.py": b"VALUE = 1\n"})
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    return released(tmp_path_factory.mktemp("release") / "kit", wheels, 0o022)


def test_release_has_the_same_bytes_in_another_folder_and_under_another_umask(
    dist: Path, wheels: Path, tmp_path: Path
) -> None:
    other = released(tmp_path / "a folder with a longer name" / "kit", wheels, 0o077)
    assert contents(other) == contents(dist)


def test_release_has_scripts_templates_and_every_layer(dist: Path) -> None:
    names = set(contents(dist))
    for name in HANDLERS:
        assert f"{name}.py" in names
    assert {"create_password.py", "template.yaml", "template_http.yaml", "try.html"} <= names
    for packages in ("basic_auth", "google_auth"):
        for architecture in ("x86_64", "arm64"):
            assert f"{packages}-python{HERE}-{architecture}.zip" in names


def test_checksums_are_those_of_all_other_files(dist: Path) -> None:
    files = contents(dist)
    lines = files.pop("SHA256SUMS").decode().splitlines()
    expected = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files)]
    assert lines == expected


def test_python_that_is_not_here_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.release", HERE, "3.99"]
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "make release: there is no Python 3.99 with pip here.\n"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: str(path.stem))
def test_workflow_has_actions_pinned_by_commit_and_no_permission_that_it_does_not_need(
    workflow: Path,
) -> None:
    text = workflow.read_text(encoding="utf-8")
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action)
    content = yaml_parse(text)
    assert content["permissions"] in ({}, {"contents": "read"})
    writing = {"contents": "write", "id-token": "write", "attestations": "write"}
    for name, job in content["jobs"].items():
        permissions = job.get("permissions", {})
        if name == "release":
            assert permissions == writing
        else:
            assert permissions in ({}, {"contents": "read"})


def test_release_workflow_builds_with_every_python_that_ci_tests() -> None:
    release = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    ci = yaml_parse((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    tested = ci["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert re.findall(r'PYTHONS: "(.+)"', release) == [" ".join(tested)]
    assert re.findall(r"^ +(3\.\d+)$", release, re.MULTILINE) == tested
