"""Layers are built for real and taken apart; what needs a container engine skips where none answers, or fails in CI."""

import _imp
import csv
import functools
import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.files import ROOT
from support.tokens import base64url

import build_layer

HERE = build_layer.THIS_PYTHON
OWN = build_layer.OWN_ARCHITECTURE
IMAGE = "public.ecr.aws/lambda/python:3.13"
SIZES = {"basic_auth": 450_000, "google_auth": 8_500_000}  # bytes, zipped
PYC_MAGIC = {
    "3.11": 3495,
    "3.12": 3531,
    "3.13": 3571,
    "3.14": 3627,
}  # of the releases, in Include/internal
ARCHITECTURES = ["x86_64", "arm64"]
FLAGS = os.environ.get("DOCKER_BUILD_FLAGS", "").split()
BUILD = [sys.executable, str(ROOT / "build_layer.py"), "build"]
# What handlers import from a layer; both load native code.
USE = {
    "basic_auth": "import bcrypt, jwt.api_jwt; bcrypt.hashpw(b'x', bcrypt.gensalt(4))",
    "google_auth": "import cryptography.x509, google.auth.transport.requests, google.oauth2.id_token, requests",
}
PARTS = [
    "Makefile",
    "Dockerfile",
    ".dockerignore",
    "build_layer.py",
    *(f"requirements_{name}.txt" for name in SIZES),
]


class Layer(NamedTuple):
    path: Path
    arch: str
    python: str


Made = Callable[[str, str, str], Path]  # machine or container, packages, architecture
Check = Callable[..., tuple[int, str, str]]  # exit status, output and errors


def run(
    *command: str | Path, fails: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command, `env` added to its environment, without what `make test` hands down to a make of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    settings["env"] = inherited | settings.get("env", {})
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=1500, **settings
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr[-2000:]
    return done


def checkout(folder: Path) -> Path:
    """Copy what a layer is built from, so that nothing is built in the checkout."""
    for name in PARTS:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def engine() -> str:
    """Return the name of a container engine that answers."""
    name = os.environ.get("CONTAINER_ENGINE", "docker")
    if not shutil.which(name) or subprocess.run([name, "version"], capture_output=True).returncode:
        unavailable = pytest.skip if os.environ.get("CI", "false") == "false" else pytest.fail
        unavailable(f"no container engine answers (tried: {name} version)")
    return name


@pytest.fixture(scope="session")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a function that builds layers with `make layer`, by this Python or in a container, each pair once."""

    @functools.cache
    def layers(how: str, arch: str) -> Path:
        kit = checkout(tmp_path_factory.mktemp(f"{how}-{arch}-"))
        own = [f"PYTHON={HERE}", "CONTAINER_ENGINE=none-here"]
        given = (
            own
            if how == "machine"
            else ["OWN_PYTHON=", f"CONTAINER_ENGINE={request.getfixturevalue('engine')}"]
        )
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        run("make", "layer", f"ARCH={arch}", *given, cwd=kit, env={"PATH": path})
        assert {path.name for path in kit.iterdir()} == {*PARTS, "layers"}
        return kit / "layers"

    return lambda how, packages, arch: layers(how, arch) / f"{packages}.zip"


LAYERS = [
    (how, name, arch)
    for how in ("machine", "container")
    for arch in ARCHITECTURES
    for name in SIZES
]


@pytest.fixture(scope="session", params=LAYERS, ids="-".join)
def layer(request: pytest.FixtureRequest, made: Made) -> Layer:
    how, _, arch = request.param
    return Layer(made(*request.param), arch, HERE if how == "machine" else "3.13")


@pytest.fixture(scope="session")
def files(layer: Layer) -> dict[str, bytes]:
    with zipfile.ZipFile(layer.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    return lambda layer, *demands: (
        build_layer.main(["check", str(layer), *demands]),
        *capsys.readouterr(),
    )


def test_zip_is_small_with_sorted_names_below_python_one_date_and_plain_modes(layer: Layer) -> None:
    entries = zipfile.ZipFile(layer.path).infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(set(names))
    assert {name.split("/")[0] for name in names} == {"python"}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644, 0o100755}
    assert {entry.create_system for entry in entries} == {3}
    assert layer.path.stat().st_size <= SIZES[layer.path.stem]


def test_layer_has_its_pins_with_metadata_and_licence_and_no_sdk(
    layer: Layer, files: dict[str, bytes]
) -> None:
    text, names = (
        (ROOT / f"requirements_{layer.path.stem}.txt").read_text(encoding="utf-8"),
        "\n".join(files),
    )
    pins = re.findall(r"^(?!boto3)([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    expected = sorted((name.lower().replace("-", "_"), version) for name, version in pins)
    for file in ("METADATA", ".*LICEN[CS]E.*"):
        found = re.findall(rf"^python/([^/]+)-([^/-]+)\.dist-info/{file}$", names, re.MULTILINE)
        assert sorted(set(found)) == expected


@pytest.mark.parametrize(
    "unwanted",
    [
        pytest.param(r"/bin/|/(tests?|testing)/|/(test_\w+|conftest)\.py$", id="scripts and tests"),
        pytest.param(r"cache(?!__/|.*\.pyi?c?$)|/http-v2/|\.whl$", id="pip caches"),
        pytest.param(r"\.exe$|\.dylib$|\.pyd$|/\.", id="other systems' files"),
    ],
)
def test_layer_has_no(files: dict[str, bytes], unwanted: str) -> None:
    assert [name for name in files if re.search(unwanted, name)] == []


def test_record_lists_what_is_there_with_its_hash(files: dict[str, bytes]) -> None:
    records = [name for name in files if name.endswith(".dist-info/RECORD")]
    rows = [row for name in records for row in csv.reader(io.StringIO(files[name].decode()))]
    listed = {f"python/{name}": digest for name, digest, _ in rows}
    assert set(listed) == {name for name in files if not name.endswith(".pyc")}
    for name in set(listed) - set(records):
        assert listed[name] == f"sha256={base64url(hashlib.sha256(files[name]).digest())}"


def test_every_source_has_bytecode_that_is_valid_never_checked_and_at_its_place_on_lambda(
    layer: Layer, files: dict[str, bytes]
) -> None:
    bytecode = rf"__pycache__/\1.cpython-{layer.python.replace('.', '')}.pyc"
    sources = {
        re.sub(r"([^/]+)\.py$", bytecode, name): name for name in files if name[-3:] == ".py"
    }
    assert {name for name in files if name[-4:] == ".pyc"} == set(sources)
    for compiled, source in sources.items():
        magic, flags, digest = struct.unpack("<II8s", files[compiled][:16])
        assert (magic & 0xFFFF, flags) == (PYC_MAGIC[layer.python], 0b01), (
            "PEP 552: hash-based, not checked"
        )
        # importlib.util.source_hash, but with the key of the layer's Python: its magic number.
        assert digest == _imp.source_hash(magic, files[source])
        assert f"/opt/{source}".encode() in files[compiled]
        assert b"/tmp/" not in files[compiled] or b"/tmp/" in files[source]


@pytest.mark.parametrize("packages", SIZES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_second_build_by_script_gives_the_same_bytes(
    made: Made, tmp_path: Path, packages: str, arch: str
) -> None:
    target, requirements = (
        tmp_path / "a longer folder" / "layer.zip",
        ROOT / f"requirements_{packages}.txt",
    )
    (target.parent / "bin" / "normalizer").mkdir(
        parents=True
    )  # where a RECORD would have a script, two folders up
    environment = {"PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "2", "TZ": "Asia/Tokyo"}
    run(*BUILD, requirements, target, "--arch", arch, env=environment, cwd=tmp_path, umask=0o077)
    assert target.read_bytes() == made("machine", packages, arch).read_bytes()


@pytest.mark.parametrize("packages", SIZES)
def test_layer_loads_in_amazons_image_and_compiles_nothing(
    engine: str, made: Made, tmp_path: Path, packages: str
) -> None:
    with zipfile.ZipFile(made("container", packages, OWN)) as archive:
        archive.extractall(tmp_path / "opt")
    options = [
        "--rm",
        "--network=none",
        "--read-only",
        "--entrypoint=python3",
        f"--volume={tmp_path}/opt:/opt:ro",
    ]
    code = f"import sys; sys.path.insert(0, '/opt/python'); {USE[packages]}"
    done = run(engine, "run", *options, IMAGE, "-ISBv", "-c", code)
    # What `python -v` says of a module with bytecode, and of one that it compiles.
    assert ".pyc matches /opt/python/" in done.stderr
    assert "# code object from /opt/python/" not in done.stderr


@pytest.mark.parametrize("packages", SIZES)
def test_documented_steps_give_the_layer_and_say_what_is_in_it(
    engine: str, made: Made, tmp_path: Path, packages: str
) -> None:
    project, name = checkout(tmp_path), f"lambda_layer_test_{os.getpid()}"
    shutil.copy(project / f"requirements_{packages}.txt", project / "requirements.txt")
    run(engine, "build", *FLAGS, "-t", name, ".", cwd=project)
    printed = run(engine, "run", "--name", name, name).stdout
    run(engine, "cp", f"{name}:/home/python_dependencies.zip", ".", cwd=project)
    for command in ("stop", "rm", "rmi"):
        run(engine, command, name)
    assert (project / "python_dependencies.zip").read_bytes() == made(
        "container", packages, OWN
    ).read_bytes()
    assert re.search(r"  (bcrypt|requests) \d.* MB zipped", printed, re.DOTALL)


def test_build_without_requirements_says_what_to_copy(engine: str, tmp_path: Path) -> None:
    done = run(engine, "build", *FLAGS, ".", cwd=checkout(tmp_path), fails=True)
    assert "cp requirements_basic_auth.txt requirements.txt" in done.stdout + done.stderr


def test_make_layer_without_either_says_what_it_needs(tmp_path: Path) -> None:
    done = run(
        "make",
        "layer",
        "PYTHON=3.99",
        "CONTAINER_ENGINE=none-here",
        cwd=checkout(tmp_path),
        fails=True,
    )
    sentence, _ = done.stderr.splitlines()
    assert re.fullmatch(r"make layer needs Python 3\.99 with pip .*CONTAINER_ENGINE=.*\.", sentence)


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        pytest.param(
            "  Boto3 [crt] >= 1 # sdk\nbcrypt\n",
            "bcrypt\n",
            id="boto3 with extras, blanks, capitals",
        ),
        pytest.param(
            "boto3==1.44.5 \\\n    --hash=sha256:00\nbcrypt\n", "bcrypt\n", id="continued line"
        ),
        pytest.param(
            "botocore==1\ns3transfer==1\njmespath==1\nsix==1\n", "six==1\n", id="frozen list"
        ),
        pytest.param(
            "boto3-stubs==1\n", "boto3-stubs==1\n", id="another package whose name begins alike"
        ),
    ],
)
def test_what_the_runtime_ships_is_not_asked_for(
    tmp_path: Path, requirements: str, expected: str
) -> None:
    (tmp_path / "requirements.txt").write_text(requirements, encoding="utf-8")
    assert build_layer.without_shipped(tmp_path / "requirements.txt") == expected


NOWHERE = "http://127.0.0.1:9/"


@pytest.mark.parametrize(
    ("requirements", "target", "sentence"),
    [
        pytest.param(None, "layer.zip", "cp requirements_basic_auth.txt", id="no such file"),
        pytest.param("", "layer.zip", "names no package", id="empty"),
        pytest.param(
            "# nothing yet\nboto3==1.44.5\n",
            "layer.zip",
            "names no package",
            id="nothing but boto3",
        ),
        pytest.param(
            "PyJWT==0.0.0.1\n", "layer.zip", "No matching distribution found", id="no such wheel"
        ),
        pytest.param("PyJWT = = 1\n", "layer.zip", "Invalid requirement", id="not a requirement"),
        pytest.param(
            f"-i {NOWHERE}\nPyJWT==0.0.0.1\n", "layer.zip", "index does not answer", id="no network"
        ),
        pytest.param("PyJWT==2.15.1\n", ".", "cannot write .", id="a folder in the way"),
        pytest.param(
            "PyJWT==2.15.1\n", "layer.zip/layer.zip", "(File exists)", id="a file in the way"
        ),
    ],
)
def test_what_cannot_be_built_is_one_sentence_and_the_old_layer_stays(
    tmp_path: Path, requirements: str | None, target: str, sentence: str
) -> None:
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements)
    (tmp_path / "layer.zip").write_text("old")
    index = {"PIP_NO_INDEX": "", "PIP_RETRIES": "1"} if NOWHERE in str(requirements) else {}
    done = run(*BUILD, "requirements.txt", target, cwd=tmp_path, env=index, fails=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert sentence in done.stderr
    assert (tmp_path / "layer.zip").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"requirements.txt", "layer.zip"}


def test_layer_without_bytecode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(build_layer.LayerError, match="could not be compiled"):
        build_layer.add_bytecode(tmp_path)


def test_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_layer, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(build_layer.LayerError, match=f"this is Python {HERE}"):
        build_layer.build(Path("requirements.txt"), Path("layer.zip"), "host")


def test_check_tells_for_what_a_layer_was_built(layer: Layer, check: Check) -> None:
    status, output, errors = check(layer.path, "--arch", layer.arch, "--python", layer.python)
    assert (status, errors) == (0, "")
    assert output.startswith(f"{layer.path}: {layer.arch}, Python {layer.python}, glibc 2.")
    assert f"SHA-256 {hashlib.sha256(layer.path.read_bytes()).hexdigest()}\n" in output
    for name, wanted in {
        "arch": "arm64" if layer.arch == "x86_64" else "x86_64",
        "python": "3.99",
    }.items():
        status, output, errors = check(layer.path, f"--{name}", wanted)
        assert (status, output, errors.count("\n")) == (2, "", 1)
        assert f"is for {layer.arch}, Python {layer.python}" in errors
        assert errors.endswith(f": make layer {name.upper()}={wanted}\n")


def zipped(content: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(f"python/{name}", data)
    return file.getvalue()


def elf(machine: int, text: bytes = b"") -> bytes:
    """Return the head of an ELF file, and some text behind it."""
    return b"\x7fELF\x02\x01".ljust(18, b"\0") + machine.to_bytes(2, "little") + b"\0" * 40 + text


@pytest.mark.parametrize(
    ("content", "python", "sentence"),
    [
        pytest.param(
            {"a.abi3.so": elf(183, b"\0GLIBC_2.38\0")}, "3.13", "glibc 2.38", id="too new a glibc"
        ),
        pytest.param(
            {"a.abi3.so": elf(183, b"\0GLIBC_2.28\0")}, "3.11", "glibc 2.28", id="too new for 3.11"
        ),
        pytest.param(
            {"a.abi3.so": elf(183, b"\0GLIBC_2.34\0")}, "3.12", "", id="the glibc of 3.12"
        ),
        pytest.param({"a.so": elf(243)}, "3.13", "another system", id="another processor"),
        pytest.param(
            {"a.libs/libb.so.1.2": elf(62)}, "3.13", "for x86_64", id="a library with its version"
        ),
        pytest.param({"a.dylib": b"\xcf\xfa\xed\xfe"}, "3.13", "another system", id="macOS"),
        pytest.param({"a.so": elf(183), "b.so": elf(62)}, "3.13", "arm64 and x86_64", id="mixed"),
        pytest.param(
            {"__pycache__/a.cpython-312.pyc": b""},
            "3.13",
            "Python 3.12",
            id="another Python's bytecode",
        ),
        pytest.param(
            {"a.cpython-311-aarch64-linux-gnu.so": elf(183)}, "3.13", "Python 3.11", id="its module"
        ),
        pytest.param({"module.py": b""}, "3.13", "", id="sources alone"),
        pytest.param(None, "3.13", "cannot read the layer", id="missing"),
        pytest.param(b"", "3.13", "cannot read the layer", id="empty"),
        pytest.param(b"PK\3\4junk", "3.13", "cannot read the layer", id="junk"),
        pytest.param(
            zipped({"a.py": b"one"}).replace(b"\xcb", b"\xff"),
            "3.13",
            "cannot read the layer",
            id="damaged",
        ),
    ],
)
def test_check_judges_by_what_lies_in_the_zip(
    tmp_path: Path,
    check: Check,
    content: dict[str, bytes] | bytes | None,
    python: str,
    sentence: str,
) -> None:
    if content is not None:
        (tmp_path / "layer.zip").write_bytes(
            content if isinstance(content, bytes) else zipped(content)
        )
    status, _, errors = check(tmp_path / "layer.zip", "--arch", "arm64", "--python", python)
    assert (status, errors.count("\n")) == ((2, 1) if sentence else (0, 0))
    assert sentence in errors
