"""Packs the packages of a requirements file into the zip of a Lambda layer.

    python build_layer.py build REQUIREMENTS ZIP [--arch x86_64|arm64|host]
    python build_layer.py check ZIP [--arch x86_64|arm64] [--python 3.14]

`build` makes a layer for the Python that runs it, and for one architecture. The default is this
machine's architecture. `host` makes a layer that works on this machine, which need not run Linux.
The layer has no packages that Lambda ships. It is compiled in advance, because /opt is read-only on
Lambda, and every build has the same bytes. In the end, `build` checks the layer.
`check` prints what is in a layer. It ends with status 2 unless the layer fits a function with that
architecture and Python.

Needs        Python 3.11 or newer with pip
Version      2.0.0 (CHANGELOG.md says what changed)
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

OLDEST_PYTHON = (3, 11)
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
OWN_ARCHITECTURE = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"

# How Linux calls the architectures of Lambda, and their numbers in an ELF header (e_machine).
PLATFORMS = {"x86_64": "x86_64", "arm64": "aarch64"}
ELF_MACHINES = {62: "x86_64", 183: "arm64"}

# The Lambda runtime ships boto3, and nothing else here needs the other three.
SHIPPED = {"boto3", "botocore", "s3transfer", "jmespath"}

# The user's settings of pip that say where packages come from. The other ones, such as
# `user = true`, have no business here: every installation has a folder of its own.
PIP_SETTINGS = [
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "proxy",
    "cert",
    "client-cert",
    "keyring-provider",
    "timeout",
    "default-timeout",
    "retries",
    "cache-dir",
]

# What pip logs if a package index is the problem, and what to do. In the end, pip only says that
# there is no such version.
INDEX_PROBLEMS = {
    "CERTIFICATE_VERIFY_FAILED": "The certificate of the package index isn't trusted. "
    "If a proxy inspects the traffic here, set PIP_CERT to the file with its certificate.",
    "401 Client Error": "The package index requires a user name and a password, or rejects yours.",
    "403 Client Error": "The package index denies access. Your credentials may have expired.",
    "407 Proxy": "The proxy requires a user name and a password, or rejects yours.",
    "connection error": "The package index doesn't answer. Is there a network?",
}


class BuildError(Exception):
    """Something can't be built or doesn't fit. The message is a sentence for the user."""


class Made(NamedTuple):
    """What a layer is made for: architectures, Pythons, and the N of the glibc 2.N it needs."""

    architectures: set[str]
    pythons: set[str]
    glibc: int


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parsed(arguments)
    try:
        if options.command == "build":
            print(build(options.requirements, options.zip, options.arch))
        else:
            print(check(options.zip, options.arch, options.python))
    except BuildError as error:
        print(f"build_layer.py: {error}", file=sys.stderr)
        return 2
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options, or end with status 2 if they make no sense."""
    parser = argparse.ArgumentParser(
        description="Packs the packages of a requirements file into a Lambda layer."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build a layer for the Python that runs this")
    build.add_argument("requirements", type=Path, help="the packages, in pip's format")
    build.add_argument("zip", type=Path, help="the layer")
    build.add_argument(
        "--arch",
        choices=[*PLATFORMS, "host"],
        default=OWN_ARCHITECTURE,
        help="the function's architecture (default: %(default)s)",
    )
    check = commands.add_parser("check", help="show what is in a layer, and whether it fits")
    check.add_argument("zip", type=Path, help="the layer")
    check.add_argument("--arch", choices=PLATFORMS, help="the function's architecture")
    check.add_argument("--python", metavar="3.N", help="the function's Python")
    return parser.parse_args(arguments)


def build(requirements: Path, target: Path, arch: str) -> str:
    """Build a layer, check it, and return what is in it. If it fails, an older layer stays."""
    if sys.version_info < OLDEST_PYTHON:
        raise BuildError(f"this is Python {THIS_PYTHON}, and a layer needs Python 3.11 or newer.")
    wanted = without_shipped(requirements)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            stage = Path(work, "python")
            install(wanted, stage, arch, requirements.name)
            remove_extras(stage)
            add_bytecode(stage)
            layer = Path(work, target.name)
            write_zip(stage, layer)
            check_built(layer, arch)
            layer.replace(target)
    except OSError as error:
        raise BuildError(f"can't write {target}: {error.strerror}.") from None
    return check(target)


def without_shipped(requirements: Path) -> str:
    """Return the text of a requirements file without the packages that the runtime ships."""
    try:
        text = requirements.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        copy = f"cp requirements_basic_auth.txt {requirements}"
        raise BuildError(
            f"can't read {requirements}. Make it with: {copy} (or requirements_google_auth.txt)"
        ) from None
    wanted = []
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        if package_named(line) not in SHIPPED:
            wanted.append(line)
    if not any(map(package_named, wanted)):
        raise BuildError(f"{requirements} names no package that belongs in a layer.")
    return "\n".join(wanted) + "\n"


def package_named(line: str) -> str:
    """Return the package that a line of a requirements file names, or "" if it names none."""
    name = re.match(r"\s*([\w.][\w.-]*)", line)
    return name[1].lower() if name else ""


def install(requirements: str, stage: Path, arch: str, name: str) -> None:
    """Unpack the wheels of a requirements file's text into a folder, with all that they need."""
    file = stage.with_name("requirements.txt")
    file.write_text(requirements, encoding="utf-8")
    options = ["--no-compile", "--root-user-action=ignore", "--only-binary=:all:"]
    if arch != "host":
        options += ["--implementation=cp", f"--python-version={THIS_PYTHON}"]
        # manylinux2014 is another name of manylinux_2_17, but pip doesn't know that.
        options += [f"--platform=manylinux_2_17_{PLATFORMS[arch]}"]
        options += [f"--platform=manylinux2014_{PLATFORMS[arch]}"]
    try:
        pip_install(sys.executable, *options, "--target", str(stage), "-r", str(file))
    except BuildError as error:
        what = f"{name} for {arch}, Python {THIS_PYTHON}"
        raise BuildError(f"pip can't install {what}: {error}") from None


def pip_install(python: str, *arguments: str) -> None:
    """Run `pip install` without questions, or raise BuildError with the cause of its failure."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        pip = run_pip(
            python,
            "install",
            "--quiet",
            "--no-input",
            "--log",
            str(log),
            *arguments,
            environment=pip_environment(python),
        )
        if pip.returncode:
            raise BuildError(cause(pip.stderr, log.read_text(encoding="utf-8", errors="replace")))


def run_pip(
    python: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pip, which can't ask anything, and return what it printed."""
    return subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


def pip_environment(python: str) -> dict[str, str]:
    """Return an environment in which pip has those settings of the user's that it may have."""
    settings = pip_settings(python)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull  # pip reads no file then
    for section in ("global", "install", ":env:"):  # the last one wins, as in pip
        for name in PIP_SETTINGS:
            value = settings.get(f"{section}.{name}")
            if value:
                environment[f"PIP_{name.upper().replace('-', '_')}"] = value
    return environment


def pip_settings(python: str) -> dict[str, str]:
    """Return the user's settings of pip, from its files and its environment variables."""
    # With `user = true`, pip would list the settings in the user's file only.
    pip = run_pip(python, "config", "list", environment=os.environ | {"PIP_USER": "0"})
    if pip.returncode:
        raise BuildError(last_error(pip.stderr))
    settings = {}
    for line in pip.stdout.splitlines():
        name, _, value = line.partition("=")
        settings[name] = str(ast.literal_eval(value))
    return settings


def cause(errors: str, log: str) -> str:
    """Return why pip failed: its last error, or why it couldn't read a package index."""
    problem = index_problem(log)
    if not problem:
        return last_error(errors)
    for sign, sentence in INDEX_PROBLEMS.items():
        if sign in problem:
            return f"{sentence} pip says: {problem}"
    return problem


def index_problem(log: str) -> str:
    """Return the last line of pip's log about an index that can't be read, or "" if it has none."""
    problems = []
    for line in log.splitlines():
        # 404 means that this index doesn't have the package. Another one may have it.
        if "Could not fetch URL" in line and "404 Client Error" not in line:
            problems.append(line.partition(" ")[2].removesuffix(" - skipping"))
    return problems[-1] if problems else ""


def last_error(errors: str) -> str:
    """Return the last error that pip printed, or its last line."""
    lines = errors.strip().splitlines() or ["pip ended without a word."]
    marked = [line for line in lines if line.startswith("ERROR: ")]
    return (marked or lines)[-1].removeprefix("ERROR: ")


def remove_extras(stage: Path) -> None:
    """Remove tests and command line scripts, also from RECORD, pip's list of a package's files."""
    for folder in (stage / "bin", *stage.rglob("tests")):
        shutil.rmtree(folder, ignore_errors=True)
    for record in stage.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if (stage / line.split(",")[0]).is_file()]
        record.write_text("".join(kept), encoding="utf-8")


def add_bytecode(stage: Path) -> None:
    """Compile the sources in a folder as if they already were at their place on Lambda."""
    # The bytes depend on what the interpreter did before. So it is a new one, without settings.
    command = [sys.executable, "-I", "-m", "compileall", "-qq"]
    options = ["--invalidation-mode=unchecked-hash", "-s", str(stage), "-p", "/opt/python"]
    # Its exit status says nothing: some packages come with files that are meant for old Pythons.
    subprocess.run([*command, *options, str(stage)])
    if not any(stage.rglob("*.pyc")):
        raise BuildError("the packages can't be compiled.")


def write_zip(stage: Path, target: Path) -> None:
    """Write a zip that depends only on the names and contents of the files in a folder."""
    files = [path for path in stage.rglob("*") if path.is_file()]
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(files, key=Path.as_posix):
            # Such an entry is dated 1980.
            entry = zipfile.ZipInfo(path.relative_to(stage.parent).as_posix())
            entry.create_system = 3  # Unix, so that the modes count, on whatever it is built
            mode = 0o100755 if path.suffix == ".so" else 0o100644
            entry.external_attr = mode << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def check_built(layer: Path, arch: str) -> None:
    """Raise BuildError unless a new layer fits what it was built for."""
    if arch == "host":
        return
    reasons = mismatches(unzipped(layer), arch, THIS_PYTHON)
    if reasons:
        raise BuildError(f"the packages don't fit what was asked for: {reasons}.")


def check(layer: Path, arch: str | None = None, python: str | None = None) -> str:
    """Return a few lines about a layer, or raise BuildError if it doesn't fit a function."""
    command = "make layer"
    if arch:
        command += f" ARCH={arch}"
    if python:
        command += f" PYTHON={python}"
    try:
        files = unzipped(layer)
    except BuildError as error:
        raise BuildError(f"{error} Build it with: {command}") from None
    reasons = mismatches(files, arch, python)
    if reasons:
        raise BuildError(f"{layer} doesn't fit: {reasons}. Build it again with: {command}")
    return description(layer, files)


def mismatches(files: dict[str, bytes], arch: str | None, python: str | None) -> str:
    """Return why the files of a layer don't fit a function, or "" if they do."""
    made = made_for(files)
    reasons = [*wrong_architecture(made, arch), *wrong_python(made, python)]
    return ", and ".join(reasons)


def wrong_architecture(made: Made, arch: str | None) -> list[str]:
    """Return what to say about a layer for another architecture than the function's."""
    if arch is None or made.architectures <= {arch}:
        return []
    return [f"it's built for {listed(made.architectures)} and not for {arch}"]


def wrong_python(made: Made, python: str | None) -> list[str]:
    """Return what to say about a layer for another Python, or a newer Linux, than Lambda's."""
    if python is None:
        return []
    reasons = []
    if not made.pythons <= {python}:
        reasons.append(f"it's built for Python {listed(made.pythons)} and not for {python}")
    # Python 3.11 runs on Amazon Linux 2, and newer ones run on Amazon Linux 2023.
    lambdas = 26 if python == "3.11" else 34
    if made.glibc > lambdas:
        reasons.append(f"it needs glibc 2.{made.glibc}, and the function has 2.{lambdas}")
    return reasons


def description(layer: Path, files: dict[str, bytes]) -> str:
    """Return a few lines about what is in a layer."""
    made = made_for(files)
    architectures = listed(made.architectures) or "any architecture"
    pythons = listed(made.pythons) or "of any version"
    data = layer.read_bytes()
    size = sum(len(content) for content in files.values())
    return "\n".join(
        [
            f"{layer}: {architectures}, Python {pythons}, glibc 2.{made.glibc}",
            *(f"  {name} {version}" for name, version in packages_in(files)),
            f"  {size / 1e6:.2f} MB in {len(files)} files",
            f"  {len(data) / 1e6:.2f} MB zipped, SHA-256 {hashlib.sha256(data).hexdigest()}",
        ]
    )


def unzipped(layer: Path) -> dict[str, bytes]:
    """Return the files of a layer by name, or raise BuildError if it isn't a zip."""
    try:
        with zipfile.ZipFile(layer) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        raise BuildError(f"there is no {layer}.") from None
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise BuildError(f"{layer} is no zip that can be read.") from None


def made_for(files: dict[str, bytes]) -> Made:
    """Return what files are made for (PEP 3147 and PEP 3149 say how they are named)."""
    made = Made(set(), set(), 0)
    for name, data in files.items():
        for minor in re.findall(r"\.cpython-3(\d+)", name):
            made.pythons.add(f"3.{minor}")
        if re.search(r"\.(so|dylib|pyd)(\.[\d.]+)?$", name):
            made.architectures.add(architecture(data))
            versions = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", data)]
            made = made._replace(glibc=max([made.glibc, *versions]))
    return made


def architecture(library: bytes) -> str:
    """Return Lambda's name of the architecture that a library's ELF header names."""
    if library[:4] != b"\x7fELF":
        return "another system"
    return ELF_MACHINES.get(int.from_bytes(library[18:20], "little"), "another system")


def packages_in(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return name and version of every package that has its metadata in a layer."""
    names = "\n".join(sorted(files))
    return re.findall(r"^python/([^/]+)-([^/-]+)\.dist-info/METADATA$", names, re.MULTILINE)


def listed(names: set[str]) -> str:
    """Return names for a sentence."""
    return " and ".join(sorted(names))


if __name__ == "__main__":
    sys.exit(main())
