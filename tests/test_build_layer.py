"""build_layer.py, the Dockerfile and `make layer`: layers are built for real and taken apart.

The tests with a container engine skip where none answers, and fail there if CI is set.
"""

import _imp
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from support.events import connect_event, token_event
from support.functions import CLIENT_ID, SECRET
from support.tokens import base64url, claims, make_jwt

import build_layer

ROOT = Path(__file__).parent.parent
IMAGE = "public.ecr.aws/lambda/python:3.13"
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
SIZES = {"basic_auth": 450_000, "google_auth": 8_500_000}  # bytes, zipped
PYC_MAGIC = {"3.11": 3495, "3.12": 3531, "3.13": 3571, "3.14": 3627}  # of the releases, in Include/internal
ELF_MACHINE = {"x86_64": 62, "arm64": 183}  # EM_X86_64, EM_AARCH64
# Python 3.11 runs on Amazon Linux 2, the later ones on Amazon Linux 2023.
GLIBC = {"3.11": (2, 26), "3.12": (2, 34), "3.13": (2, 34), "3.14": (2, 34)}


class Layer(NamedTuple):
    """A built layer and what it was asked to be for."""

    path: Path
    packages: str
    arch: str
    python: str
    glibc: tuple[int, ...]  # the newest that it may need


# --------------------------------------------------------------------- the layers


def run(*command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed; `env` adds to the environment."""
    # Without what `make test` hands down to a make of its own.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    settings["env"] = inherited | settings.get("env", {})
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1500, **settings)


def build(packages: str, target: Path, arch: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Build a layer with the script, as a user would."""
    requirements = ROOT / f"requirements_{packages}.txt"
    return run(sys.executable, ROOT / "build_layer.py", requirements, target, "--arch", arch, **settings)


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Layer]:
    """Return a function that builds a layer with the script, each one once."""
    built: dict[tuple[str, str], Layer] = {}

    def layer(packages: str, arch: str) -> Layer:
        if (packages, arch) not in built:
            target = tmp_path_factory.mktemp("layers") / f"{packages}-{arch}.zip"
            done = build(packages, target, arch)
            assert done.returncode == 0, done.stderr
            host = build_layer.own_architecture()
            own = (target, packages, host, HERE, (999,))  # a layer for the laptop may need the laptop's glibc
            built[packages, arch] = Layer(*own) if arch == "host" else Layer(target, packages, arch, HERE, GLIBC[HERE])
        return built[packages, arch]

    return layer


@pytest.fixture(scope="session")
def engine() -> str:
    """Return the name of a container engine that answers."""
    name = os.environ.get("CONTAINER_ENGINE", "docker")
    if shutil.which(name) and run(name, "version").returncode == 0:
        return name
    reason = f"no container engine answers (tried: {name} version)"
    if os.environ.get("CI", "false") != "false":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, so that nothing is built in the checkout."""
    copy = tmp_path_factory.mktemp("checkout") / "kit"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*cache", ".git", ".venv*", "layers", "__pycache__"))
    (copy / "requirements.txt").write_text("the user's own\n", encoding="utf-8")
    return copy


@pytest.fixture(scope="session")
def made(engine: str, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Layer]:
    """Return a function that builds both layers with `make layer` and keeps them; each architecture once."""
    built: dict[tuple[str, str], Path] = {}

    def layer(packages: str, arch: str, run_id: str = "first") -> Layer:
        if (arch, run_id) not in built:
            flags = f"{os.environ.get('DOCKER_BUILD_FLAGS', '')} --no-cache"
            done = run("make", "layer", f"ARCH={arch}", cwd=checkout, env={"DOCKER_BUILD_FLAGS": flags})
            assert done.returncode == 0, done.stdout + done.stderr
            built[arch, run_id] = tmp_path_factory.mktemp("made")
            for name in SIZES:
                shutil.copy(checkout / "layers" / f"{name}.zip", built[arch, run_id])
            (built[arch, run_id] / "output.txt").write_text(done.stdout, encoding="utf-8")
        return Layer(built[arch, run_id] / f"{packages}.zip", packages, arch, "3.13", GLIBC["3.13"])

    return layer


LAYERS = [("scripted", name, arch) for arch in ("x86_64", "arm64", "host") for name in SIZES]
LAYERS += [("made", name, arch) for arch in ("x86_64", "arm64") for name in SIZES]


@pytest.fixture(scope="session", params=LAYERS, ids="-".join)
def layer(request: pytest.FixtureRequest) -> Layer:
    """Return each layer in turn: by the script and by `make layer`, for every architecture."""
    how, packages, arch = request.param
    built: Layer = request.getfixturevalue(how)(packages, arch)
    return built


@pytest.fixture(scope="session")
def files(layer: Layer) -> dict[str, bytes]:
    """Return the files of the layer, by name."""
    with zipfile.ZipFile(layer.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# ---------------------------------------------------------------- taken apart


def test_zip_has_sorted_names_below_python_one_date_and_plain_modes(layer: Layer) -> None:
    with zipfile.ZipFile(layer.path) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    names = [entry.filename for entry in entries]
    assert names == sorted(set(names))
    assert {name.split("/")[0] for name in names} == {"python"}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644, stat.S_IFREG | 0o755}
    assert {entry.create_system for entry in entries} == {3}


def test_layer_is_small(layer: Layer) -> None:
    assert layer.path.stat().st_size <= SIZES[layer.packages]


def test_layer_has_every_pinned_version_but_what_the_runtime_ships(layer: Layer, files: dict[str, bytes]) -> None:
    text = (ROOT / f"requirements_{layer.packages}.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))
    pins.pop("boto3", None)
    metadata = [data.decode() for name, data in files.items() if name.endswith(".dist-info/METADATA")]
    found = [re.search(r"^Name: (.+)$(?s:.*?)^Version: (.+)$", text, re.MULTILINE) for text in metadata]
    assert {plain(match[1]): match[2] for match in found if match} == {plain(name): pins[name] for name in pins}


def plain(name: str) -> str:
    """Return the normal form of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    "package", ["boto3", "botocore", "s3transfer", "jmespath", "dateutil", "python_dateutil", "six"]
)
def test_layer_has_nothing_that_the_runtime_ships_for_boto3(files: dict[str, bytes], package: str) -> None:
    assert [name for name in files if re.match(rf"python/(python_)?{package}[-./]", name, re.IGNORECASE)] == []


@pytest.mark.parametrize(
    "unwanted",
    [
        pytest.param(r"/bin/", id="scripts"),
        pytest.param(r"/(tests?|testing)/|/(test_\w+|conftest)\.py$", id="tests"),
        pytest.param(r"cache(?!__/|.*\.pyi?c?$)|/http-v2/|\.whl$", id="pip caches"),
        pytest.param(r"\.exe$|\.dylib$|\.pyd$|/\.", id="other systems' files"),
    ],
)
def test_layer_has_no(files: dict[str, bytes], unwanted: str) -> None:
    assert [name for name in files if re.search(unwanted, name)] == []


def test_every_package_keeps_its_licence_and_metadata(files: dict[str, bytes]) -> None:
    packages = {name.split("/")[1] for name in files if ".dist-info/" in name}
    for package in packages:
        assert {f"python/{package}/METADATA", f"python/{package}/WHEEL"} <= set(files)
        assert any(re.match(rf"python/{re.escape(package)}/.*LICEN[CS]E", name) for name in files), package


def test_record_lists_what_is_there_with_its_hash(files: dict[str, bytes]) -> None:
    listed = {}
    for name in files:
        if name.endswith(".dist-info/RECORD"):
            listed.update({f"python/{row[0]}": row[1] for row in csv.reader(io.StringIO(files[name].decode()))})
    assert set(listed) == {name for name in files if not name.endswith(".pyc")}
    for name, digest in listed.items():
        own = name.endswith(".dist-info/RECORD")
        assert digest == ("" if own else f"sha256={base64url(hashlib.sha256(files[name]).digest())}")


def test_every_source_has_bytecode_that_is_valid_and_never_checked(layer: Layer, files: dict[str, bytes]) -> None:
    tag = f"cpython-{layer.python.replace('.', '')}"
    sources = {
        re.sub(r"([^/]+)\.py$", rf"__pycache__/\1.{tag}.pyc", name): name for name in files if name[-3:] == ".py"
    }
    assert {name for name in files if name.endswith(".pyc")} == set(sources)
    for compiled, source in sources.items():
        magic, flags = struct.unpack("<H2xI", files[compiled][:8])
        assert magic == PYC_MAGIC[layer.python]
        assert flags == 0b01, "PEP 552: hash-based, not checked"
        # importlib.util.source_hash, but with the key of the layer's Python: its magic number.
        key = int.from_bytes(files[compiled][:4], "little")
        assert files[compiled][8:16] == _imp.source_hash(key, files[source])


def test_bytecode_names_the_place_on_lambda_and_not_the_builders(files: dict[str, bytes]) -> None:
    compiled = {name: data for name, data in files.items() if name.endswith(".pyc")}
    for name, data in compiled.items():
        source = re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", name)
        assert f"/opt/{source}".encode() in data
        assert b"/tmp/" not in data or b"/tmp/" in files[source]


def test_native_modules_fit_architecture_python_and_glibc(layer: Layer, files: dict[str, bytes]) -> None:
    native = {name: data for name, data in files.items() if re.search(r"\.so(\.|$)", name)}
    assert native
    for name, data in native.items():
        assert data[:6] == b"\x7fELF\x02\x01", f"{name}: 64 bits, little end first"
        assert struct.unpack_from("<H", data, 18)[0] == ELF_MACHINE[layer.arch], name
        assert re.search(rf"\.(abi3|cpython-{layer.python.replace('.', '')}-[\w-]+)\.so$", name), name
        needed = [version for version in needed_versions(data) if version.startswith("GLIBC_")]
        assert needed, name
        assert all(release(version) <= layer.glibc for version in needed), (name, needed)


def release(version: str) -> tuple[int, ...]:
    """Return "GLIBC_2.17" as numbers; a private one counts as newer than all."""
    return tuple(map(int, re.findall(r"\d+", version))) or (999,)


def needed_versions(elf: bytes) -> Iterator[str]:
    """Yield the symbol versions that an ELF file needs of its libraries (System V ABI, .gnu.version_r)."""
    table, entry_size, count = struct.unpack_from("<Q10xHH", elf, 40)[0], *struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQII", elf, table + i * entry_size) for i in range(count)]
    for _, kind, _, _, offset, _, link, files in sections:
        if kind == 0x6FFFFFFE:  # SHT_GNU_verneed
            for _ in range(files):
                _, versions, _, first, following = struct.unpack_from("<HHIII", elf, offset)
                at = offset + first
                for _ in range(versions):
                    _, _, _, name, step = struct.unpack_from("<IHHII", elf, at)
                    start = sections[link][4] + name
                    yield elf[start : elf.index(b"\0", start)].decode()
                    at += step
                offset += following


# ------------------------------------------------------------------- reproducible


@pytest.mark.parametrize("packages", SIZES)
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_second_build_by_script_gives_the_same_bytes(
    scripted: Callable[..., Layer], tmp_path: Path, packages: str, arch: str
) -> None:
    (tmp_path / "a longer temporary folder").mkdir()
    surroundings = {
        "TMPDIR": str(tmp_path / "a longer temporary folder"),
        "PYTHONHASHSEED": "7",
        "PYTHONOPTIMIZE": "2",
        "TZ": "Asia/Tokyo",
    }
    done = build(packages, tmp_path / "again.zip", arch, env=surroundings, cwd=tmp_path, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.zip").read_bytes() == scripted(packages, arch).path.read_bytes()


@pytest.mark.parametrize("packages", SIZES)
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_second_make_layer_gives_the_same_bytes(made: Callable[..., Layer], packages: str, arch: str) -> None:
    first, second = made(packages, arch), made(packages, arch, "second")
    assert first.path.read_bytes() == second.path.read_bytes()


# ------------------------------------------------------- handlers with the layer

# Runs with nothing on the path but handler, layer and runtime; -v tells on standard error what was compiled.
DRIVER = """
import http.server, importlib, json, os, sys, threading

task, layer, runtime, given = sys.argv[1:]
given = json.loads(given)
os.environ.update(given["environment"])
sys.path[:0] = [task, layer, runtime]

if "certificates" in given:
    import requests
    def send(self, request, **settings):
        response = requests.Response()
        response.status_code, response.url = 200, request.url
        response._content = json.dumps(given["certificates"]).encode()
        return response
    requests.Session.send = send

if "item" in given:
    class DynamoDB(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.dumps({"Item": given["item"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    server = http.server.HTTPServer(("127.0.0.1", 0), DynamoDB)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:%d" % server.server_port

handler = importlib.import_module(given["handler"]).lambda_handler
print(json.dumps(handler(given["event"], None)))
"""

HANDLERS = {
    "jwt_auth_token": "basic_auth",
    "jwt_auth_token_websocket": "basic_auth",
    "jwt_create_token": "basic_auth",
    "jwt_auth_token_google": "google_auth",
    "restricted_access_lambda": "basic_auth",  # needs none; a layer must not disturb it
}


def google_token(key: rsa.RSAPrivateKey) -> str:
    """Return a good ID token (RS256, RFC 7518 section 3.3)."""
    good = claims(iss="https://accounts.google.com", aud=CLIENT_ID, email="ada@example.com", email_verified=True)
    text = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k1"}, good))
    return f"{text}.{base64url(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def certificate(key: rsa.RSAPrivateKey) -> str:
    """Return a self-signed certificate, as Google publishes them."""
    name, now = x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def task(handler: str) -> dict[str, Any]:
    """Return what the driver needs to make a handler give its good answer."""
    environment, event = {"JWT_SECRET": SECRET}, token_event(f"Bearer {make_jwt()}")
    given: dict[str, Any] = {"handler": handler, "environment": environment, "event": event}
    if handler == "jwt_auth_token_websocket":
        given["event"] = connect_event({"Authorization": event["authorizationToken"]})
    if handler == "jwt_create_token":
        environment |= {"USER_CREDENTIALS_TABLE_NAME": "users", "AWS_DEFAULT_REGION": "eu-west-1"}
        environment |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
        given["event"] = {"user_id": "testuser", "password": "password123"}
        given["item"] = {"passwordHash": {"S": bcrypt.hashpw(b"password123", bcrypt.gensalt(4)).decode()}}
    if handler == "jwt_auth_token_google":
        key = rsa.generate_private_key(65537, 2048)
        environment["GOOGLE_CLIENT_ID"] = CLIENT_ID
        given |= {"event": token_event(google_token(key)), "certificates": {"k1": certificate(key)}}
    return given


def is_good(answer: dict[str, Any]) -> bool:
    """Tell whether an answer lets the caller in."""
    if "policyDocument" in answer:
        effects = [statement["Effect"] for statement in answer["policyDocument"]["Statement"]]
        return (answer["principalId"], effects) == ("testuser", ["Allow"])
    return bool(answer["statusCode"] == 200)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what Lambda's runtime brings along: boto3 and what it needs, all of it pure Python."""
    folder = tmp_path_factory.mktemp("runtime")
    for package in ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"):
        for file in importlib.metadata.files(package) or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), folder / file)
    return folder


def unzipped(layer: Layer, target: Path) -> Path:
    """Unpack a layer read-only, as Lambda does, and return its folder python/."""
    with zipfile.ZipFile(layer.path) as archive:
        archive.extractall(target)
    for path in [*target.rglob("*"), target]:
        path.chmod(0o555)
    return target / "python"


def task_root(handler: str, target: Path) -> Path:
    """Return a folder with nothing in it but one handler."""
    target.mkdir()
    shutil.copy(ROOT / f"{handler}.py", target)
    return target


def loaded(trace: str, layer: str) -> tuple[list[str], list[str]]:
    """Return which sources of the layer `python -v` says it compiled, and which it had bytecode for."""
    compiled = re.findall(rf"^# code object from ({layer}/\S+\.py)$", trace, re.MULTILINE)
    ready = re.findall(rf"^# {layer}/\S+\.pyc matches ({layer}/\S+\.py)$", trace, re.MULTILINE)
    return compiled, ready


def drive(handler: str, layer: Path, runtime: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a handler under this Python, alone with its layer."""
    where = (task_root(handler, folder / "task"), layer, runtime if handler == "jwt_create_token" else "/nowhere")
    return run(sys.executable, "-I", "-S", "-v", "-c", DRIVER, *where, json.dumps(task(handler)), cwd=folder)


def assert_good_without_compiling(done: subprocess.CompletedProcess[str], layer: str, packages: str) -> None:
    """Assert the handler's good answer, and that every module of the layer came from its bytecode."""
    assert done.returncode == 0, done.stderr[-2000:]
    assert is_good(json.loads(done.stdout))
    compiled, ready = loaded(done.stderr, layer)
    assert compiled == []
    if "jwt_auth" in done.args[-1] or "jwt_create" in done.args[-1]:
        expected = {"basic_auth": "jwt/api_jwt.py", "google_auth": "google/oauth2/id_token.py"}[packages]
        assert f"{layer}/{expected}" in ready


@pytest.mark.parametrize("handler", HANDLERS)
def test_handler_answers_from_the_layer_and_compiles_nothing(
    scripted: Callable[..., Layer], runtime: Path, tmp_path: Path, handler: str
) -> None:
    folder = unzipped(scripted(HANDLERS[handler], "host"), tmp_path / "opt")
    before = sorted(folder.rglob("*"))
    done = drive(handler, folder, runtime, tmp_path)
    assert_good_without_compiling(done, str(folder), HANDLERS[handler])
    assert sorted(folder.rglob("*")) == before, "bytecode was written beside the layer's"


def test_a_layer_without_bytecode_is_seen_to_be_compiled(
    scripted: Callable[..., Layer], runtime: Path, tmp_path: Path
) -> None:
    folder = unzipped(scripted("basic_auth", "host"), tmp_path / "opt")
    for compiled in [*folder.rglob("__pycache__")]:
        shutil.rmtree(compiled)
    done = drive("jwt_auth_token", folder, runtime, tmp_path)
    compiled_sources, ready = loaded(done.stderr, str(folder))
    assert f"{folder}/jwt/api_jwt.py" in compiled_sources
    assert ready == []


@pytest.mark.parametrize("handler", HANDLERS)
def test_handler_answers_in_the_image_from_a_made_layer_and_compiles_nothing(
    engine: str, made: Callable[..., Layer], runtime: Path, tmp_path: Path, handler: str
) -> None:
    unzipped(made(HANDLERS[handler], build_layer.own_architecture()), tmp_path / "opt")
    task_root(handler, tmp_path / "task")
    mounts = {tmp_path / "opt": "/opt", tmp_path / "task": "/var/task", runtime: "/var/own"}
    options = [f"--volume={source}:{place}:ro" for source, place in mounts.items()]
    command = [engine, "run", "--rm", "--network=none", "--read-only", "--entrypoint=python3", *options, IMAGE]
    own = "/var/own" if handler == "jwt_create_token" else "/nowhere"
    given = ["-I", "-S", "-v", "-c", DRIVER, "/var/task", "/opt/python", own, json.dumps(task(handler))]
    assert_good_without_compiling(run(*command, *given), "/opt/python", HANDLERS[handler])


# ------------------------------------------------------------- containers, make


@pytest.mark.parametrize("packages", SIZES)
def test_documented_steps_give_the_layer(
    engine: str, made: Callable[..., Layer], checkout: Path, tmp_path: Path, packages: str
) -> None:
    project = shutil.copytree(checkout, tmp_path / "kit")
    shutil.copy(project / f"requirements_{packages}.txt", project / "requirements.txt")
    name = f"lambda_layer_test_{uuid.uuid4().hex}"
    flags = os.environ.get("DOCKER_BUILD_FLAGS", "").split()
    ran = ""
    for command in (
        ["build", *flags, "-t", name, "."],
        ["run", "--name", name, name],
        ["cp", f"{name}:/home/python_dependencies.zip", "."],
        ["stop", name],
        ["rm", name],
        ["rmi", name],
    ):
        done = run(engine, *command, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        ran = done.stdout if command[0] == "run" else ran
    own = made(packages, build_layer.own_architecture())
    assert (project / "python_dependencies.zip").read_bytes() == own.path.read_bytes()
    assert re.search(r"bcrypt 5|requests 2", ran)
    assert " MB zipped" in ran


def test_build_without_requirements_says_what_to_copy(engine: str, checkout: Path, tmp_path: Path) -> None:
    project = shutil.copytree(checkout, tmp_path / "kit")
    (project / "requirements.txt").unlink()
    done = run(engine, "build", *os.environ.get("DOCKER_BUILD_FLAGS", "").split(), ".", cwd=project)
    assert done.returncode != 0
    assert "cp requirements_basic_auth.txt requirements.txt" in done.stdout + done.stderr


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_make_layer_says_what_it_made(made: Callable[..., Layer], arch: str) -> None:
    output = (made("basic_auth", arch).path.parent / "output.txt").read_text(encoding="utf-8")
    for packages in SIZES:
        digest = hashlib.sha256(made(packages, arch).path.read_bytes()).hexdigest()
        assert f"layers/{packages}.zip: {arch}, Python 3.13" in output
        assert f"SHA-256 {digest}" in output
    assert output.count(" MB zipped") == 2


def test_make_layer_leaves_nothing_behind_but_the_layers(
    engine: str, made: Callable[..., Layer], checkout: Path
) -> None:
    made("basic_auth", "x86_64")
    images, containers = [engine, "images", "--quiet"], [engine, "ps", "--all", "--quiet"]
    before = run(*images).stdout, run(*containers).stdout
    done = run("make", "layer", "ARCH=x86_64", cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert (run(*images).stdout, run(*containers).stdout) == before
    assert sorted(path.name for path in (checkout / "layers").iterdir()) == ["basic_auth.zip", "google_auth.zip"]
    assert (checkout / "requirements.txt").read_text(encoding="utf-8") == "the user's own\n"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        pytest.param("CONTAINER_ENGINE=none-here", "needs a running container engine", id="no engine"),
        pytest.param("ARCH=sparc", "ARCH is arm64 or x86_64, not sparc", id="no such architecture"),
    ],
)
def test_make_layer_refuses_in_one_sentence(checkout: Path, setting: str, sentence: str) -> None:
    done = run("make", "--silent", "layer", "CONTAINER_ENGINE=true", setting, cwd=checkout)
    assert done.returncode != 0
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(sentences) == 1
    assert sentence in sentences[0]


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        pytest.param("PyJWT==2.15.1\nboto3==1.44.5\n", "PyJWT==2.15.1\n", id="the line of boto3"),
        pytest.param("  Boto3 [crt] >= 1 # sdk\nbcrypt\n", "bcrypt\n", id="extras, blanks, capitals"),
        pytest.param("boto3==1.44.5 \\\n    --hash=sha256:00\nbcrypt\n", "bcrypt\n", id="continued line"),
        pytest.param("botocore==1\ns3transfer==1\njmespath==1\nsix==1\n", "six==1\n", id="frozen list"),
        pytest.param("boto3-stubs==1\n", "boto3-stubs==1\n", id="another package whose name begins alike"),
    ],
)
def test_what_the_runtime_ships_is_not_asked_for(tmp_path: Path, requirements: str, expected: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(requirements, encoding="utf-8")
    assert build_layer.without_shipped(file) == expected


@pytest.mark.parametrize(
    ("requirements", "sentence"),
    [
        pytest.param(None, "cp requirements_basic_auth.txt", id="no such file"),
        pytest.param("", "names no package", id="empty"),
        pytest.param("# nothing yet\nboto3==1.44.5\n", "names no package", id="nothing but boto3"),
        pytest.param("PyJWT==0.0.0.1\n", "No matching distribution found for PyJWT==0.0.0.1", id="no such wheel"),
        pytest.param("PyJWT = = 1\n", "Invalid requirement", id="not a requirement"),
    ],
)
def test_bad_requirements_are_refused_in_a_sentence_and_the_old_layer_stays(
    tmp_path: Path, requirements: str | None, sentence: str
) -> None:
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements, encoding="utf-8")
    (tmp_path / "layer.zip").write_text("old", encoding="utf-8")
    done = run(sys.executable, ROOT / "build_layer.py", "requirements.txt", "layer.zip", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert sentence in done.stderr
    assert (tmp_path / "layer.zip").read_text(encoding="utf-8") == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"requirements.txt", "layer.zip"}


def test_zip_that_cannot_be_written_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "module.py").touch()
    (tmp_path / "layer.zip").mkdir()
    with pytest.raises(build_layer.LayerError, match=r"cannot write .*layer.zip \(Is a directory\)"):
        build_layer.write_zip(tmp_path / "python", tmp_path / "layer.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer.zip", "python"]


def test_zip_is_written_into_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    build_layer.write_zip(tmp_path / "python", tmp_path / "layers" / "layer.zip")
    assert zipfile.is_zipfile(tmp_path / "layers" / "layer.zip")


def test_layer_without_bytecode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(build_layer.LayerError, match="could not be compiled"):
        build_layer.add_bytecode(tmp_path)


def test_old_python_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(build_layer, "OLDEST_PYTHON", (99, 0))
    assert build_layer.main(["requirements.txt", str(tmp_path / "layer.zip")]) == 2
    assert f"this is Python {HERE}" in capsys.readouterr().err


def test_command_line_without_zip_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        build_layer.main(["requirements.txt"])
    assert "name a requirements file and the zip to write" in capsys.readouterr().err


def test_extras_go_and_record_stays_true(tmp_path: Path) -> None:
    stage = tmp_path / "work" / "python"
    for name in ("../../bin/tool", "bin/tool", "a/__init__.py", "a/tests/test_a.py", "a-1.dist-info/RECORD"):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).touch()
    record = stage / "a-1.dist-info" / "RECORD"
    record.write_text("../../bin/tool,,\na/__init__.py,,\na/tests/test_a.py,,\na-1.dist-info/RECORD,,\n")
    build_layer.remove_extras(stage)
    assert sorted(path.name for path in stage.rglob("*") if path.is_file()) == ["RECORD", "__init__.py"]
    assert record.read_text() == "a/__init__.py,,\na-1.dist-info/RECORD,,\n"


# ------------------------------------------------------------------ --check, --list


def test_check_takes_a_layer_for_what_it_was_built_for(layer: Layer, capsys: pytest.CaptureFixture[str]) -> None:
    if layer.glibc > (2, 34):
        pytest.skip("a layer for the laptop may not be fit for Lambda")
    assert build_layer.main(["--check", str(layer.path), "--arch", layer.arch, "--python", layer.python]) == 0
    assert f"{layer.path}: {layer.arch}, Python {layer.python}" in capsys.readouterr().out


@pytest.mark.parametrize("other", ["architecture", "Python"])
def test_check_refuses_a_layer_for_another(layer: Layer, capsys: pytest.CaptureFixture[str], other: str) -> None:
    arch, python = layer.arch, layer.python
    if other == "architecture":
        arch = "arm64" if arch == "x86_64" else "x86_64"
    else:
        python = "3.12" if python != "3.12" else "3.13"
    assert build_layer.main(["--check", str(layer.path), "--arch", arch, "--python", python]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"is for {layer.arch}, Python {layer.python}" in error
    assert f"make layer ARCH={arch} PYTHON={python}" in error


def elf(machine: int, text: bytes = b"") -> bytes:
    """Return the head of an ELF file, and some text behind it."""
    return b"\x7fELF\x02\x01".ljust(18, b"\0") + machine.to_bytes(2, "little") + b"\0" * 40 + text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param({"python/a.abi3.so": elf(183, b"\0GLIBC_2.38\0")}, "glibc 2.38", id="too new a glibc"),
        pytest.param({"python/a.so": elf(243)}, "another system", id="another processor"),
        pytest.param({"python/a.libs/libb.so.1.2": elf(62)}, "for x86_64", id="a library with its version"),
        pytest.param({"python/a.dylib": b"\xcf\xfa\xed\xfe"}, "another system", id="macOS"),
        pytest.param({"python/a.so": elf(183), "python/b.so": elf(62)}, "arm64 and x86_64", id="mixed"),
        pytest.param({"python/__pycache__/a.cpython-312.pyc": b""}, "Python 3.12", id="another Python's bytecode"),
        pytest.param(
            {"python/a.cpython-311-aarch64-linux-gnu.so": elf(183)}, "Python 3.11", id="another Python's module"
        ),
    ],
)
def test_check_judges_by_what_lies_in_the_zip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, bytes], sentence: str
) -> None:
    with zipfile.ZipFile(tmp_path / "layer.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert build_layer.main(["--check", str(tmp_path / "layer.zip"), "--arch", "arm64", "--python", "3.13"]) == 2
    assert sentence in capsys.readouterr().err


def test_check_holds_python_3_11_to_the_glibc_of_amazon_linux_2(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "layer.zip", "w") as archive:
        archive.writestr("python/a.abi3.so", elf(183, b"\0GLIBC_2.28\0"))
    command = ["--check", str(tmp_path / "layer.zip"), "--arch", "arm64", "--python"]
    assert [build_layer.main([*command, python]) for python in ("3.11", "3.12")] == [2, 0]


def test_check_takes_a_layer_of_sources_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "layer.zip", "w") as archive:
        archive.writestr("python/module.py", "")
    assert build_layer.main(["--check", str(tmp_path / "layer.zip"), "--arch", "arm64", "--python", "3.13"]) == 0


@pytest.mark.parametrize(
    "content",
    [pytest.param(None, id="missing"), pytest.param(b"", id="empty"), pytest.param(b"PK\3\4junk", id="junk")],
)
def test_what_is_no_layer_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "layer.zip").write_bytes(content)
    assert build_layer.main(["--list", str(tmp_path / "layer.zip")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "make layer" in error


def test_damaged_layer_is_refused(scripted: Callable[..., Layer], tmp_path: Path) -> None:
    data = bytearray(scripted("basic_auth", "x86_64").path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "layer.zip").write_bytes(data)
    assert build_layer.main(["--list", str(tmp_path / "layer.zip")]) == 2
