"""Packs the packages of a requirements file into the zip of a Lambda layer.

    python build_layer.py build REQUIREMENTS ZIP [--arch x86_64|arm64|host]
    python build_layer.py check ZIP [--arch x86_64|arm64] [--python 3.13]

`build` makes a layer for this Python and one architecture (default: this machine's; `host`: this machine itself), of
wheels alone, without what Lambda ships, compiled ahead (on Lambda, /opt is read-only), the same bytes every time.
`check` says what is in a layer, and ends with status 2 unless it fits functions of that architecture and Python.

Needs        Python 3.11 or newer with pip
Version      2.0.0 (CHANGELOG.md says what changed)
"""

from __future__ import annotations

import argparse
import hashlib
import io
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

OLDEST_PYTHON = (3, 11)
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
PLATFORMS = {
    "x86_64": "x86_64",
    "arm64": "aarch64",
}  # Lambda's name of an architecture, and Linux's
OWN_ARCHITECTURE = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
ELF_MACHINES = {62: "x86_64", 183: "arm64"}  # e_machine in the ELF header
SHIPPED = {
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
}  # by the Lambda runtime; nothing but boto3 needs the rest


class LayerError(Exception):
    """The layer cannot be built or does not fit; the message is a sentence for the user."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parsed(argv)
    try:
        if options.command == "build":
            build(options.requirements, options.zip, options.arch)
            print(check(options.zip))
        else:
            print(check(options.zip, options.arch, options.python))
    except LayerError as error:
        print(f"build_layer.py: {error}", file=sys.stderr)
        return 2
    return 0


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line's parts, or end with status 2 where they make no sense."""
    parser = argparse.ArgumentParser(
        description="Packs the packages of a requirements file into a Lambda layer."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a layer for this Python")
    build.add_argument("requirements", type=Path, help="what to pack, in pip's format")
    build.add_argument(
        "--arch", choices=[*PLATFORMS, "host"], default=OWN_ARCHITECTURE, help="(%(default)s)"
    )
    check = commands.add_parser("check", help="say what is in a layer, and whether it fits")
    check.add_argument("--arch", choices=PLATFORMS, help="the function's architecture")
    check.add_argument("--python", metavar="3.N", help="the function's Python")
    for command in (build, check):
        command.add_argument("zip", type=Path, help="the layer")
    return parser.parse_args(argv)


def build(requirements: Path, target: Path, arch: str) -> None:
    """Build the layer and put it in place whole, or leave what was there and raise LayerError."""
    if sys.version_info < OLDEST_PYTHON:
        raise LayerError(
            f"this is Python {THIS_PYTHON}; Lambda layers are built with 3.11 or newer"
        )
    wanted = without_shipped(requirements)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            stage = Path(work, "python")
            install(wanted, stage, arch, requirements.name)
            remove_extras(stage)
            add_bytecode(stage)
            write_zip(stage, Path(work, "zip")).replace(target)
    except OSError as error:
        raise LayerError(f"cannot write {target} ({error.strerror})") from None


def without_shipped(requirements: Path) -> str:
    """Return the text of a requirements file without the packages that the runtime ships."""
    try:
        text = requirements.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        copy = f"cp requirements_basic_auth.txt {requirements} (or requirements_google_auth.txt)"
        raise LayerError(f"cannot read {requirements}; make one with: {copy}") from None
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()  # a backslash continues a line
    wanted = [
        line for line in lines if re.split(r"[^\w.-]", line.strip())[0].lower() not in SHIPPED
    ]
    if not any(re.match(r"\s*[\w-]", line) for line in wanted):
        raise LayerError(f"{requirements} names no package that belongs in a layer")
    return "\n".join(wanted) + "\n"


def install(requirements: str, stage: Path, arch: str, name: str) -> None:
    """Unpack the wheels of a requirements file's text, and of all that they need, into a folder."""
    file = stage.with_name("requirements.txt")
    file.write_text(requirements, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    command += [
        "--root-user-action=ignore",
        "--only-binary=:all:",
        "--target",
        str(stage),
        "-r",
        str(file),
    ]
    if arch != "host":
        command += ["--implementation=cp", f"--python-version={THIS_PYTHON}"]
        # pip does not know that manylinux2014 is another name of manylinux_2_17.
        command += [
            f"--platform={tag}_{PLATFORMS[arch]}" for tag in ("manylinux_2_17", "manylinux2014")
        ]
    pip = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    if pip.returncode:
        errors = (
            re.findall(r"^ERROR: (.+)", pip.stderr, re.MULTILINE) or pip.stderr.split("\n")[-2:-1]
        )
        if "WARNING: Retrying" in pip.stderr:  # pip goes on to say that there is no such version
            errors = ["the package index does not answer"]
        raise LayerError(
            f"pip cannot install {name} for {arch}, Python {THIS_PYTHON}: {' '.join(errors[-1:])}"
        )


def remove_extras(stage: Path) -> None:
    """Remove tests and command line scripts, and both from RECORD, the list of a package's files (PEP 376)."""
    for folder in (stage / "bin", *stage.rglob("tests")):
        shutil.rmtree(folder, ignore_errors=True)
    for record in stage.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines()
        kept = [
            line
            for line in lines
            if not line.startswith("../") and (stage / line.rsplit(",", 2)[0]).exists()
        ]
        record.write_text("\n".join(kept) + "\n", encoding="utf-8", newline="\n")


def add_bytecode(stage: Path) -> None:
    """Compile what compiles of the sources in a folder, as if they were already at their place on Lambda."""
    # Marshalled code depends on what else the interpreter holds: so in a process of its own, without PYTHON* settings.
    command = [
        sys.executable,
        "-I",
        "-m",
        "compileall",
        "-qq",
        "--invalidation-mode=unchecked-hash",
    ]
    subprocess.run([*command, "-s", str(stage), "-p", "/opt/python", str(stage)])
    if not any(stage.rglob("*.pyc")):
        raise LayerError("the packages could not be compiled")


def write_zip(stage: Path, target: Path) -> Path:
    """Write a folder as a zip that depends on nothing but the names and contents of its files, and return its path."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(filter(Path.is_file, stage.rglob("*")), key=Path.as_posix):
            entry = zipfile.ZipInfo(path.relative_to(stage.parent).as_posix())  # dated 1980
            entry.create_system = 3  # Unix, whatever the builder is: the modes count
            entry.external_attr = (0o100755 if path.suffix == ".so" else 0o100644) << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return target


def check(layer: Path, arch: str | None = None, python: str | None = None) -> str:
    """Return a few lines on a layer, or raise LayerError where it does not fit a function of that kind."""
    cure = (
        "make layer" + (f" ARCH={arch}" if arch else "") + (f" PYTHON={python}" if python else "")
    )
    try:
        data = layer.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise LayerError(f"cannot read the layer {layer}; make one with: {cure}") from None
    architectures, pythons, glibc = made_for(files)
    found = f"{' and '.join(sorted(architectures)) or 'any architecture'}, "
    found += f"Python {' and '.join(sorted(pythons)) or 'of any version'}, glibc 2.{glibc}"
    # Amazon Linux 2, under python3.11, has glibc 2.26; Amazon Linux 2023, under the later ones, 2.34.
    newest = 26 if python == "3.11" else 34
    if (arch and architectures - {arch}) or (python and (pythons - {python} or glibc > newest)):
        raise LayerError(
            f"{layer} is for {found}; the function needs another, with glibc 2.{newest} at most: {cure}"
        )
    packages = re.findall(
        r"^python/([^/]+)-([^/-]+)\.dist-info/METADATA$", "\n".join(files), re.MULTILINE
    )
    lines = [f"{layer}: {found}", *(f"  {name} {version}" for name, version in sorted(packages))]
    lines += [f"  {sum(map(len, files.values())) / 1e6:.2f} MB in {len(files)} files"]
    lines += [f"  {len(data) / 1e6:.2f} MB zipped, SHA-256 {hashlib.sha256(data).hexdigest()}"]
    return "\n".join(lines)


def made_for(files: dict[str, bytes]) -> tuple[set[str], set[str], int]:
    """Return for which architectures and Pythons (PEP 3147, PEP 3149) files are made, and which glibc 2.N they need."""
    native = [
        data for name, data in files.items() if re.search(r"\.(so|dylib|pyd)(\.[\d.]+)?$", name)
    ]
    machines = [
        int.from_bytes(data[18:20], "little") if data[:4] == b"\x7fELF" else 0 for data in native
    ]
    architectures = {ELF_MACHINES.get(machine, "another system") for machine in machines}
    pythons = {
        f"{major}.{minor}" for major, minor in re.findall(r"\.cpython-(\d)(\d+)", "\n".join(files))
    }
    glibc = max(
        (int(minor) for data in native for minor in re.findall(rb"GLIBC_2\.(\d+)", data)), default=0
    )
    return architectures, pythons, glibc


if __name__ == "__main__":
    sys.exit(main())
