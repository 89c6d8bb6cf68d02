"""build_layer.py: what is in a layer, which settings of pip it ignores, and what it says.

Most tests build layers of small wheels. CI=true also builds the real layers, in Amazon's image too.
"""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.files import ROOT
from support.wheels import ELF_ARM64, ELF_X86_64, library, wheel

import build_layer

HERE = build_layer.THIS_PYTHON
OWN = build_layer.OWN_ARCHITECTURE
OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[OWN]
BUILD = [sys.executable, str(ROOT / "build_layer.py"), "build"]
CPYTHON = f"cp{HERE.replace('.', '')}-cp{HERE.replace('.', '')}"

Check = Callable[..., tuple[int, str, str]]  # exit status, output and errors


def run(
    *command: str | Path, fails: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command with `env` added to its environment, and see whether it fails."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    settings["env"] = inherited | settings.get("env", {})
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1500, **settings)
    assert bool(done.returncode) == fails, done.stdout + done.stderr[-2000:]
    return done


def unzipped(layer: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(layer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a package in Python, and with one that has a library for each system."""
    folder = tmp_path_factory.mktemp("wheels")
    source = b"def main() -> None:\n    print('hello')\n"
    wheel(folder, "pure", {"pure/__init__.py": source, "pure/tests/test_pure.py": source})
    for tag, name, content in [
        ("manylinux2014_x86_64", "native/c.so", library(ELF_X86_64, b"\0GLIBC_2.17\0")),
        ("manylinux_2_17_aarch64", "native/c.so", library(ELF_ARM64, b"\0GLIBC_2.17\0")),
        ("win_amd64", "native/c.pyd", b"MZ"),
    ]:
        wheel(folder, "native", {name: content, "native/__init__.py": b""}, f"{CPYTHON}-{tag}")
    mislabeled = {"mislabeled/__init__.py": b"", "mislabeled/c.so": library(ELF_X86_64)}
    wheel(folder, "mislabeled", mislabeled, f"{CPYTHON}-manylinux2014_aarch64")
    return folder


@pytest.fixture(scope="module")
def offline(wheels: Path) -> dict[str, str]:
    """Return the settings of a user who takes packages from a folder only."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, offline: dict[str, str]) -> Path:
    """Return a layer of two small packages."""
    folder = tmp_path_factory.mktemp("small")
    return built(folder, "pure==1.0\nnative==1.0\n", "--arch", OTHER, env=offline)


def built(folder: Path, requirements: str, *options: str, **settings: Any) -> Path:
    """Build a layer in a folder, and return its path."""
    (folder / "requirements.txt").write_text(requirements)
    run(*BUILD, "requirements.txt", "layer.zip", *options, cwd=folder, **settings)
    return folder / "layer.zip"


def test_layer_has_sorted_names_below_python_one_date_and_plain_modes(small: Path) -> None:
    entries = zipfile.ZipFile(small).infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert {name.split("/")[0] for name in names} == {"python"}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    modes = {entry.filename[-3:]: oct(entry.external_attr >> 16) for entry in entries}
    assert modes[".so"] == "0o100755"
    assert modes[".py"] == "0o100644"


def test_layer_has_metadata_and_licenses_but_no_scripts_or_tests(small: Path) -> None:
    names = "\n".join(unzipped(small))
    assert "python/pure-1.0.dist-info/METADATA" in names
    assert "python/pure-1.0.dist-info/licenses/LICENSE" in names
    assert "bin/" not in names
    assert "tests/" not in names


def test_record_of_a_package_lists_the_files_that_the_layer_has(small: Path) -> None:
    files = unzipped(small)
    lines = files["python/pure-1.0.dist-info/RECORD"].decode().splitlines()
    listed = {f"python/{line.split(',')[0]}" for line in lines}
    assert "python/pure/__init__.py" in listed
    assert listed <= set(files)


def test_layer_has_bytecode_that_is_never_checked_and_names_its_place_on_lambda(
    small: Path,
) -> None:
    name = f"python/pure/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    bytecode = unzipped(small)[name]
    _, flags = struct.unpack("<II", bytecode[:8])
    assert flags == 0b01, "PEP 552: based on a hash that isn't checked"
    assert b"/opt/python/pure/__init__.py" in bytecode


def test_layer_has_the_same_bytes_whatever_the_environment_is(
    small: Path, tmp_path: Path, offline: dict[str, str]
) -> None:
    folder = tmp_path / "a folder with a longer name"
    folder.mkdir()
    environment = {"PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "2", "TZ": "Asia/Tokyo", **offline}
    wanted = "native==1.0\npure==1.0\n"
    other = built(folder, wanted, "--arch", OTHER, env=environment, umask=0o077)
    assert other.read_bytes() == small.read_bytes()


@pytest.mark.parametrize(
    "setting",
    [
        {"PIP_USER": "1"},
        {"PIP_TARGET": "elsewhere"},
        {"PIP_PREFIX": "elsewhere"},
        {"PIP_ROOT": "elsewhere"},
        {"PIP_REQUIRE_VIRTUALENV": "1"},
        {"PIP_PLATFORM": "win_amd64"},
        {"PIP_DRY_RUN": "1"},
        {"HOME": "."},
    ],
    ids=lambda setting: str(next(iter(setting))),
)
def test_layer_does_not_depend_on_the_users_settings_of_pip(
    small: Path, tmp_path: Path, offline: dict[str, str], setting: dict[str, str]
) -> None:
    configuration = "[install]\nuser = true\nprefix = elsewhere\nplatform = win_amd64\n"
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip" / "pip.conf").write_text(configuration)
    wanted = "pure==1.0\nnative==1.0\n"
    other = built(tmp_path, wanted, "--arch", OTHER, env=offline | setting)
    assert other.read_bytes() == small.read_bytes()
    assert not (tmp_path / "elsewhere").exists()


def test_users_index_is_kept_and_the_environment_wins_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://global.example\ncert = /global.pem\nuser = true\n"
        "[install]\nindex-url = https://install.example\ncert = /install.pem\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_CERT", "/environment.pem")
    environment = build_layer.pip_environment(sys.executable)
    assert environment["PIP_INDEX_URL"] == "https://install.example"
    assert environment["PIP_CERT"] == "/environment.pem"
    assert "PIP_USER" not in environment
    assert environment["PIP_CONFIG_FILE"] == os.devnull


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        pytest.param("  Boto3 [crt] >= 1 # sdk\nbcrypt\n", "bcrypt\n", id="capitals and extras"),
        pytest.param(
            "boto3==1.44.8 \\\n    --hash=sha256:00\nbcrypt\n", "bcrypt\n", id="continued line"
        ),
        pytest.param("botocore==1\ns3transfer==1\njmespath==1\nsix==1\n", "six==1\n", id="frozen"),
        pytest.param("boto3-stubs==1\n", "boto3-stubs==1\n", id="another package"),
    ],
)
def test_what_the_runtime_ships_is_not_asked_for(
    tmp_path: Path, requirements: str, expected: str
) -> None:
    (tmp_path / "requirements.txt").write_text(requirements, encoding="utf-8")
    assert build_layer.without_shipped(tmp_path / "requirements.txt") == expected


@pytest.mark.parametrize(
    ("requirements", "target", "sentence"),
    [
        pytest.param(None, "layer.zip", "cp requirements_basic_auth.txt", id="no such file"),
        pytest.param("", "layer.zip", "names no package", id="empty"),
        pytest.param("# none\nboto3==1.44.8\n", "layer.zip", "names no package", id="only boto3"),
        pytest.param("pure==2.0\n", "layer.zip", "No matching distribution", id="no such version"),
        pytest.param("pure = = 1\n", "layer.zip", "Invalid requirement", id="no requirement"),
        pytest.param("pure==1.0\n", ".", "can't write .", id="a folder is in the way"),
        pytest.param("pure==1.0\n", "layer.zip/a.zip", "File exists", id="a file is in the way"),
        pytest.param(
            "mislabeled==1.0\n",
            "layer.zip",
            "don't fit what was asked for: it's built for x86_64 and not for arm64",
            id="not what was asked for",
        ),
    ],
)
def test_failed_build_is_one_sentence_and_the_old_layer_stays(
    tmp_path: Path, offline: dict[str, str], requirements: str | None, target: str, sentence: str
) -> None:
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements)
    (tmp_path / "layer.zip").write_text("old")
    command = [*BUILD, "requirements.txt", target, "--arch", "arm64"]
    done = run(*command, cwd=tmp_path, env=offline, fails=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert sentence in done.stderr
    assert (tmp_path / "layer.zip").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"requirements.txt", "layer.zip"}


@contextlib.contextmanager
def index(status: int) -> Iterator[str]:
    """Run a package index that answers every request with one status, and give its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", "Basic realm=packages")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "requires a user name and a password, or rejects yours."),
        (403, "denies access. Your credentials may have expired."),
        (404, "No matching distribution found for pure==1.0"),
    ],
)
def test_what_an_index_answers_is_told_and_nobody_is_asked(
    tmp_path: Path, status: int, sentence: str
) -> None:
    (tmp_path / "requirements.txt").write_text("pure==1.0\n")
    command = [*BUILD, "requirements.txt", "layer.zip"]
    _, terminal = pty.openpty()  # where pip would ask for a user name
    with index(status) as url:
        settings = {"PIP_INDEX_URL": url, "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
        done = run(*command, cwd=tmp_path, env=settings, stdin=terminal, fails=True)
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        pytest.param(
            "connection error: [Errno 111] Connection refused",
            "The package index doesn't answer. Is there a network?",
            id="no network",
        ),
        pytest.param(
            "There was a problem confirming the ssl certificate: [SSL: CERTIFICATE_VERIFY_FAILED]",
            "The certificate of the package index isn't trusted.",
            id="certificate",
        ),
        pytest.param(
            "connection error: Tunnel connection failed: 407 Proxy Authentication Required",
            "The proxy requires a user name",
            id="proxy",
        ),
        pytest.param("too many 500 error responses", "Could not fetch URL", id="anything else"),
    ],
)
def test_index_that_cannot_be_read_is_the_cause_and_not_a_missing_version(
    said: str, sentence: str
) -> None:
    log = f"2026-11-26T14:11:41,065 Could not fetch URL https://index.example/pure/: {said}\n"
    cause = build_layer.cause("ERROR: No matching distribution found for pure==1.0\n", log)
    assert cause.startswith(sentence)
    assert said in cause


def test_layer_without_bytecode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(build_layer.BuildError, match="can't be compiled"):
        build_layer.add_bytecode(tmp_path)


def test_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_layer, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(build_layer.BuildError, match=f"this is Python {HERE}"):
        build_layer.build(Path("requirements.txt"), Path("layer.zip"), "host")


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    def check(layer: Path, *needs: str) -> tuple[int, str, str]:
        status = build_layer.main(["check", str(layer), *needs])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return check


def test_check_prints_what_is_in_a_layer(small: Path, check: Check) -> None:
    status, output, errors = check(small, "--arch", OTHER, "--python", HERE)
    assert (status, errors) == (0, "")
    assert output.startswith(f"{small}: {OTHER}, Python {HERE}, glibc 2.17\n  native 1.0\n  pure")
    assert f"SHA-256 {hashlib.sha256(small.read_bytes()).hexdigest()}\n" in output


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        (
            ["--arch", OWN],
            f"it's built for {OTHER} and not for {OWN}. Build it again with: make layer ARCH={OWN}",
        ),
        (
            ["--python", "3.99"],
            f"it's built for Python {HERE} and not for 3.99. "
            "Build it again with: make layer PYTHON=3.99",
        ),
    ],
    ids=["architecture", "Python"],
)
def test_check_names_what_differs_and_the_command_that_fixes_it(
    small: Path, check: Check, needs: list[str], sentence: str
) -> None:
    errors = f"build_layer.py: {small} doesn't fit: {sentence}\n"
    assert check(small, *needs) == (2, "", errors)


def zipped(content: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(f"python/{name}", data)
    return file.getvalue()


ARM64 = library(ELF_ARM64)
DAMAGED = zipped({"a.py": b"one"}).replace(b"\xcb", b"\xff")


@pytest.mark.parametrize(
    ("content", "python", "sentence"),
    [
        pytest.param(
            {"a.abi3.so": library(ELF_ARM64, b"\0GLIBC_2.38\0")},
            "3.14",
            "it needs glibc 2.38, and the function has 2.34",
            id="glibc is too new",
        ),
        pytest.param(
            {"a.abi3.so": library(ELF_ARM64, b"\0GLIBC_2.28\0")},
            "3.11",
            "it needs glibc 2.28, and the function has 2.26",
            id="glibc is too new for 3.11",
        ),
        pytest.param(
            {"a.abi3.so": library(ELF_ARM64, b"\0GLIBC_2.34\0")}, "3.12", "", id="glibc of 3.12"
        ),
        pytest.param({"a.so": library(243)}, "3.14", "another system", id="another processor"),
        pytest.param({"a.dylib": b"\xcf\xfa\xed\xfe"}, "3.14", "another system", id="macOS"),
        pytest.param(
            {"a.libs/libb.so.1.2": library(ELF_X86_64)}, "3.14", "for x86_64", id="library version"
        ),
        pytest.param(
            {"a.so": ARM64, "b.so": library(ELF_X86_64)}, "3.14", "arm64 and x86_64", id="mixed"
        ),
        pytest.param(
            {"__pycache__/a.cpython-312.pyc": b""}, "3.14", "Python 3.12", id="other bytecode"
        ),
        pytest.param(
            {"a.cpython-311-aarch64-linux-gnu.so": ARM64}, "3.14", "Python 3.11", id="other module"
        ),
        pytest.param({"module.py": b""}, "3.14", "", id="only sources"),
        pytest.param(None, "3.14", "there is no ", id="missing"),
        pytest.param(b"", "3.14", "is no zip that can be read", id="empty"),
        pytest.param(b"PK\3\4junk", "3.14", "is no zip that can be read", id="junk"),
        pytest.param(DAMAGED, "3.14", "is no zip that can be read", id="damaged"),
    ],
)
def test_check_judges_by_what_is_in_the_zip(
    tmp_path: Path,
    check: Check,
    content: dict[str, bytes] | bytes | None,
    python: str,
    sentence: str,
) -> None:
    layer = tmp_path / "layer.zip"
    if isinstance(content, dict):
        content = zipped(content)
    if content is not None:
        layer.write_bytes(content)
    status, _, errors = check(layer, "--arch", "arm64", "--python", python)
    assert sentence in errors
    if sentence:
        assert (status, errors.count("\n")) == (2, 1)
        assert "make layer ARCH=arm64 PYTHON=3.1" in errors
    else:
        assert (status, errors) == (0, "")


# The real layers. Each one is built with `make layer`, by this Python and in Amazon's image.

IN_CI = os.environ.get("CI", "false") != "false"
real = pytest.mark.skipif(
    not IN_CI, reason="building real layers takes a minute: CI=true make test"
)
IMAGE_PYTHON = "3.14"
IMAGE = f"public.ecr.aws/lambda/python:{IMAGE_PYTHON}"
FLAGS = os.environ.get("DOCKER_BUILD_FLAGS", "").split()
SIZES = {"basic_auth": 450_000, "google_auth": 8_500_000}  # bytes, zipped
# What handlers import from a layer. Both load native code.
USE = {
    "basic_auth": "import bcrypt, jwt.api_jwt; bcrypt.hashpw(b'x', bcrypt.gensalt(4))",
    "google_auth": "import cryptography.x509, google.oauth2.id_token, requests",
}


class Layer(NamedTuple):
    path: Path
    arch: str
    python: str


def checkout(folder: Path) -> Path:
    """Copy what a layer is built from, so that nothing is built in the checkout."""
    names = ["Makefile", "Dockerfile", ".dockerignore", "build_layer.py"]
    names += [f"requirements_{name}.txt" for name in SIZES]
    for name in names:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    return folder


@pytest.fixture(scope="session")
def engine() -> str:
    """Return the name of a container engine that answers."""
    name = os.environ.get("CONTAINER_ENGINE", "docker")
    if not shutil.which(name) or subprocess.run([name, "version"], capture_output=True).returncode:
        pytest.fail(f"no container engine answers: {name} version")
    return name


Layers = Callable[[str, str, str], Path]  # machine or container, packages, architecture


@pytest.fixture(scope="session")
def layers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layers:
    """Return a function that builds both layers once, and returns the path of one."""

    @functools.cache
    def folder(how: str, arch: str) -> Path:
        kit = checkout(tmp_path_factory.mktemp(f"{how}-{arch}-"))
        command = ["make", "layer", f"ARCH={arch}", f"PYTHON3={sys.executable}"]
        if how == "machine":
            command += [f"PYTHON={HERE}"]
        else:
            command += [f"CONTAINER_ENGINE={request.getfixturevalue('engine')}"]
        run(*command, cwd=kit)
        return kit / "layers"

    return lambda how, packages, arch: folder(how, arch) / f"{packages}.zip"


EVERY_LAYER = [
    (how, packages, arch)
    for how in ("machine", "container")
    for arch in ("x86_64", "arm64")
    for packages in SIZES
]


@pytest.fixture(scope="session", params=EVERY_LAYER, ids="-".join)
def layer(request: pytest.FixtureRequest, layers: Layers) -> Layer:
    how, _, arch = request.param
    python = {"machine": HERE, "container": IMAGE_PYTHON}[how]
    return Layer(layers(*request.param), arch, python)


@real
def test_real_layer_is_small_and_fits_what_it_was_built_for(layer: Layer, check: Check) -> None:
    assert layer.path.stat().st_size <= SIZES[layer.path.stem]
    status, output, _ = check(layer.path, "--arch", layer.arch, "--python", layer.python)
    assert status == 0
    assert f"{layer.arch}, Python {layer.python}, glibc 2." in output


@real
def test_real_layer_has_its_pins_and_their_licenses_and_no_sdk(layer: Layer) -> None:
    text = (ROOT / f"requirements_{layer.path.stem}.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^(?!boto3)([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    expected = {(name.lower().replace("-", "_"), version) for name, version in pins}
    names = "\n".join(unzipped(layer.path))
    for file in ("METADATA", ".*LICEN[CS]E.*"):
        found = re.findall(rf"^python/([^/]+)-([^/-]+)\.dist-info/{file}$", names, re.MULTILINE)
        assert set(found) == expected


@real
def test_every_source_of_a_real_layer_has_bytecode(layer: Layer) -> None:
    names = unzipped(layer.path)
    bytecode = rf"__pycache__/\1.cpython-{layer.python.replace('.', '')}.pyc"
    sources = [name for name in names if name.endswith(".py")]
    expected = {re.sub(r"([^/]+)\.py$", bytecode, name) for name in sources}
    assert {name for name in names if name.endswith(".pyc")} == expected


@real
@pytest.mark.parametrize("packages", SIZES)
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_second_build_of_a_real_layer_has_the_same_bytes(
    layers: Layers, tmp_path: Path, packages: str, arch: str
) -> None:
    target = tmp_path / "a longer folder" / "layer.zip"
    requirements = ROOT / f"requirements_{packages}.txt"
    run(*BUILD, requirements, target, "--arch", arch, cwd=tmp_path, umask=0o077)
    assert target.read_bytes() == layers("machine", packages, arch).read_bytes()


@real
@pytest.mark.parametrize("packages", SIZES)
def test_layer_loads_in_amazons_image_and_compiles_nothing(
    engine: str, layers: Layers, tmp_path: Path, packages: str
) -> None:
    with zipfile.ZipFile(layers("container", packages, OWN)) as archive:
        archive.extractall(tmp_path / "opt")
    options = ["--rm", "--network=none", "--read-only", "--entrypoint=python3"]
    options += [f"--volume={tmp_path}/opt:/opt:ro"]
    code = f"import sys; sys.path.insert(0, '/opt/python'); {USE[packages]}"
    done = run(engine, "run", *options, IMAGE, "-ISBv", "-c", code)
    # What `python -v` says of a module with bytecode, and of one that it compiles.
    assert ".pyc matches /opt/python/" in done.stderr
    assert "# code object from /opt/python/" not in done.stderr


@real
@pytest.mark.parametrize("packages", SIZES)
def test_documented_docker_commands_give_the_same_layer(
    engine: str, layers: Layers, tmp_path: Path, packages: str
) -> None:
    project = checkout(tmp_path)
    name = f"lambda_layer_test_{os.getpid()}"
    shutil.copy(project / f"requirements_{packages}.txt", project / "requirements.txt")
    run(engine, "build", *FLAGS, "-t", name, ".", cwd=project)
    printed = run(engine, "run", "--name", name, name).stdout
    run(engine, "cp", f"{name}:/home/python_dependencies.zip", ".", cwd=project)
    for command in ("stop", "rm", "rmi"):
        run(engine, command, name)
    layer = project / "python_dependencies.zip"
    assert layer.read_bytes() == layers("container", packages, OWN).read_bytes()
    assert " MB zipped, SHA-256 " in printed


@real
def test_docker_build_without_requirements_says_what_to_copy(engine: str, tmp_path: Path) -> None:
    done = run(engine, "build", *FLAGS, ".", cwd=checkout(tmp_path), fails=True)
    assert "cp requirements_basic_auth.txt requirements.txt" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["PYTHON=3.9"], "PYTHON must be 3.11 or newer, such as 3.14, and not 3.9."),
        (["PYTHON=3.99"], "there is no Python 3.99 with pip here, and no Docker that runs."),
        (["CONTAINER_ENGINE=none-here"], "none-here version fails. Start the container engine."),
    ],
    ids=["old", "missing", "no engine"],
)
def test_make_layer_says_what_it_lacks(tmp_path: Path, options: list[str], sentence: str) -> None:
    without_docker = {"DOCKER_HOST": "unix:///none"}
    command = ["make", "layer", f"PYTHON3={sys.executable}", *options]
    done = run(*command, cwd=checkout(tmp_path), env=without_docker, fails=True)
    assert done.stderr.startswith(f"make layer: {sentence}")
