"""Packs the packages of a requirements file into the zip of a Lambda layer.

    python build_layer.py REQUIREMENTS ZIP [--arch x86_64|arm64|host]
    python build_layer.py --list ZIP
    python build_layer.py --check ZIP --arch x86_64|arm64 --python 3.13

The first form builds. The layer fits functions of one architecture (--arch; default: this machine's) and of
one Python: the minor version of the interpreter that runs this script. `host` builds for this machine itself,
for the local demo. The second form says what is in a layer; the third exits with an error unless the layer
fits a function of that architecture and Python.

What makes a layer load, and start quickly:

- Wheels only, of the oldest Linux that Lambda has (manylinux_2_17, also called manylinux2014; PEP 600), picked
  by pip's --platform, so that either architecture can be built on any machine.
- Nothing that the runtime ships already: a layer's boto3 would replace Lambda's own.
- Bytecode beside every source. /opt is read-only on Lambda: without bytecode every cold start compiles
  everything. It is of the kind that is never compared with the source (PEP 552, unchecked-hash), as the times
  of files do not survive in a zip.
- The same inputs give the same bytes: sorted names, one date, fixed modes.

Needs Python 3.11 or newer and pip. Exit status: 0 done, 2 not done, with the reason on standard error.
"""

from __future__ import annotations

import argparse
import hashlib
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
PLATFORMS = {"x86_64": "x86_64", "arm64": "aarch64"}  # Lambda's name of an architecture, and Linux's
ELF_MACHINES = {62: "x86_64", 183: "arm64"}  # e_machine in the ELF header
SHIPPED = {"boto3", "botocore", "s3transfer", "jmespath"}  # by the Lambda runtime; nothing but boto3 needs the rest
LAYER_ROOT = "/opt/python"  # where Lambda unpacks the folder python/ of a layer
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


class LayerError(Exception):
    """The layer cannot be built or does not fit; the message is a sentence for the user."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        0, or 2 after a sentence on standard error.
    """
    options = parse(argv)
    try:
        if options.check:
            check(options.check, options.arch, options.python)
        elif not options.list:
            build(options.requirements, options.zip, options.arch)
        print(describe(options.check or options.list or options.zip))
    except LayerError as error:
        print(f"build_layer.py: {error}", file=sys.stderr)
        return 2
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line as attributes: requirements, zip, arch, list, check, python.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: with status 2, after usage and reason on standard error, if they make no sense.
    """
    parser = argparse.ArgumentParser(description="Packs the packages of a requirements file into a Lambda layer.")
    parser.add_argument("requirements", nargs="?", type=Path, metavar="REQUIREMENTS", help="what to pack")
    parser.add_argument("zip", nargs="?", type=Path, metavar="ZIP", help="the layer to write")
    parser.add_argument("--arch", choices=[*PLATFORMS, "host"], default=own_architecture(), help="(%(default)s)")
    parser.add_argument("--list", type=Path, metavar="ZIP", help="only say what is in this layer")
    parser.add_argument("--check", type=Path, metavar="ZIP", help="only say whether this layer fits --arch, --python")
    parser.add_argument("--python", default=THIS_PYTHON, metavar="3.N", help="for --check (%(default)s)")
    options = parser.parse_args(argv)
    if not (options.list or options.check or options.zip):
        parser.error("name a requirements file and the zip to write")
    return options


def own_architecture() -> str:
    """Return Lambda's name for the architecture of this machine."""
    return "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"


def build(requirements: Path, target: Path, arch: str) -> None:
    """Build the layer and put it in place whole, or leave what was there.

    Args:
        requirements: a pip requirements file (without -r: other files are not looked for).
        target: the zip to write; its folder is made if need be.
        arch: a key of PLATFORMS, or "host" for the machine that runs this.

    Raises:
        LayerError: if anything on the way fails.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise LayerError(f"this is Python {THIS_PYTHON}; Lambda layers are built with 3.11 or newer")
    with tempfile.TemporaryDirectory() as work:
        stage = Path(work, "python")
        wanted = Path(work, "requirements.txt")
        wanted.write_text(without_shipped(requirements), encoding="utf-8")
        install(wanted, stage, arch, requirements.name)
        remove_extras(stage)
        add_bytecode(stage)
        write_zip(stage, target)


def without_shipped(requirements: Path) -> str:
    """Return the text of a requirements file without the packages that the runtime ships.

    Args:
        requirements: the file, in pip's format; a backslash continues a line.

    Raises:
        LayerError: if there is no such file, or nothing remains.
    """
    try:
        text = requirements.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        copy = f"cp requirements_basic_auth.txt {requirements} (or requirements_google_auth.txt)"
        raise LayerError(f"cannot read {requirements} ({reason(error)}); make one with: {copy}") from None
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    wanted = [line for line in lines if re.split(r"[^\w.-]", line.strip())[0].lower() not in SHIPPED]
    if not any(re.match(r"\s*[\w-]", line) for line in wanted):
        raise LayerError(f"{requirements} names no package that belongs in a layer")
    return "\n".join(wanted) + "\n"


def reason(error: Exception) -> str:
    """Return what an error says, without number and file name where it is the operating system's."""
    return getattr(error, "strerror", None) or str(error)


def install(requirements: Path, stage: Path, arch: str, name: str) -> None:
    """Unpack the wheels of a requirements file, and of all that they need, into a folder.

    Args:
        requirements: the file for pip.
        stage: the folder, which pip makes.
        arch: a key of PLATFORMS, or "host".
        name: what to call the requirements file in a message.

    Raises:
        LayerError: if pip fails, in the words of its last error.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--root-user-action=ignore", "--only-binary=:all:", "--target", str(stage), "-r", str(requirements)]
    if arch != "host":
        command += ["--implementation=cp", f"--python-version={THIS_PYTHON}"]
        # pip does not know that manylinux2014 is another name of manylinux_2_17.
        command += [f"--platform={tag}_{PLATFORMS[arch]}" for tag in ("manylinux_2_17", "manylinux2014")]
    pip = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if pip.returncode:
        errors = re.findall(r"^ERROR: (.+)", pip.stderr, re.MULTILINE) or pip.stderr.split("\n")[-2:-1]
        raise LayerError(f"pip cannot install {name} for {arch}, Python {THIS_PYTHON}: {' '.join(errors[-1:])}")


def remove_extras(stage: Path) -> None:
    """Remove tests, command line scripts (their first line names the builder's interpreter), and both from RECORD.

    RECORD (PEP 376) lists the files of a package; importlib.metadata reads it, so it has to be true.

    Args:
        stage: the folder that holds the packages.
    """
    for folder in (stage / "bin", *stage.rglob("tests")):
        shutil.rmtree(folder, ignore_errors=True)
    for record in stage.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not line.startswith("../") and (stage / line.rsplit(",", 2)[0]).exists()]
        record.write_text("\n".join(kept) + "\n", encoding="utf-8", newline="\n")


def add_bytecode(stage: Path) -> None:
    """Compile every source below a folder, as if it were already at its place on Lambda.

    A source that does not compile is left alone, as pip does: nobody can import it either.

    Args:
        stage: the folder that becomes LAYER_ROOT.

    Raises:
        LayerError: if no bytecode comes out.
    """
    # Marshalled code depends on what else the interpreter holds: so in a process of its own, without PYTHON* settings.
    command = [sys.executable, "-I", "-m", "compileall", "-qq", "--invalidation-mode=unchecked-hash"]
    subprocess.run([*command, "-s", str(stage), "-p", LAYER_ROOT, str(stage)])
    if not any(stage.rglob("*.pyc")):
        raise LayerError("the packages could not be compiled")


def write_zip(stage: Path, target: Path) -> None:
    """Write a folder as a zip that depends on nothing but the names and contents of its files.

    Args:
        stage: the folder; its own name is the root in the zip.
        target: the zip, replaced in one step.

    Raises:
        LayerError: if it cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w") as archive:
            for path in sorted(stage.rglob("*"), key=Path.as_posix):
                if path.is_file():
                    archive.writestr(entry(path, stage.parent), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
        part.replace(target)
    except OSError as error:
        raise LayerError(f"cannot write {target} ({reason(error)})") from None
    finally:
        part.unlink(missing_ok=True)


def entry(path: Path, root: Path) -> zipfile.ZipInfo:
    """Return the head of a file in the zip: its name below root, one date for all, mode 0755 or 0644."""
    info = zipfile.ZipInfo(path.relative_to(root).as_posix(), ZIP_DATE)
    info.create_system = 3  # Unix, whatever the builder is: the modes count
    info.external_attr = (0o100755 if path.suffix == ".so" else 0o100644) << 16
    return info


def check(layer: Path, arch: str, python: str) -> None:
    """Make sure that a layer fits a function, by what lies in it: no label that could be wrong.

    Args:
        layer: the zip.
        arch: the function's architecture, a key of PLATFORMS.
        python: the function's Python, as "3.13".

    Raises:
        LayerError: if it does not fit or cannot be read.
    """
    architectures, pythons, glibc = made_for(layer)
    # glibc 2.26 is that of Amazon Linux 2, under python3.11; 2.34 that of Amazon Linux 2023, under the later ones.
    limit = (2, 26) if python == "3.11" else (2, 34)
    if not architectures <= {arch} or not pythons <= {python} or glibc > limit:
        raise LayerError(
            f"{layer} is for {' and '.join(sorted(architectures)) or 'any architecture'}, "
            f"Python {' and '.join(sorted(pythons)) or 'of any version'}, glibc {glibc[0]}.{glibc[1]}; the function is "
            f"{arch}, Python {python}, glibc {limit[0]}.{limit[1]}: make layer ARCH={arch} PYTHON={python}"
        )


def made_for(layer: Path) -> tuple[set[str], set[str], tuple[int, int]]:
    """Return the architectures and Python versions that a layer's files are made for, and the glibc they need.

    Args:
        layer: the zip.

    Returns:
        Architectures by the ELF headers of the native modules (empty: there are none), Python versions by the names of
        bytecode and native modules (PEP 3147, PEP 3149), and the newest glibc version that a native module names.

    Raises:
        LayerError: if the zip cannot be read.
    """
    files = read_zip(layer)
    native = [data for name, data in files.items() if re.search(r"\.(so|dylib|pyd)(\.[\d.]+)?$", name)]
    machines = [int.from_bytes(data[18:20], "little") if data[:4] == b"\x7fELF" else 0 for data in native]
    architectures = {ELF_MACHINES.get(machine, "another system") for machine in machines}
    pythons = {f"{major}.{minor}" for major, minor in re.findall(r"\.cpython-(\d)(\d+)", "\n".join(files))}
    needed = [found for data in native for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", data)]
    return architectures, pythons, max(((int(major), int(minor)) for major, minor in needed), default=(0, 0))


def read_zip(layer: Path) -> dict[str, bytes]:
    """Return the files of a zip, by name.

    Args:
        layer: the zip.

    Raises:
        LayerError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(layer) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise LayerError(f"cannot read the layer {layer} ({reason(error)}); make one with: make layer") from None


def describe(layer: Path) -> str:
    """Return a few lines on a layer: for what it is, what is in it, sizes and SHA-256.

    Args:
        layer: the zip.

    Raises:
        LayerError: if it cannot be read.
    """
    files = read_zip(layer)
    architectures, pythons, _ = made_for(layer)
    packages = sorted(re.findall(r"^python/([^/]+)-([^/-]+)\.dist-info/METADATA$", "\n".join(files), re.MULTILINE))
    sizes = f"{layer.stat().st_size / 1e6:.2f} MB zipped, {sum(map(len, files.values())) / 1e6:.2f} MB unzipped"
    lines = [
        f"{layer}: {' and '.join(sorted(architectures)) or 'any architecture'}, Python {' and '.join(sorted(pythons))}",
        *(f"  {name} {version}" for name, version in packages),
        f"  {sizes}, {len(files)} files",
        f"  SHA-256 {hashlib.sha256(layer.read_bytes()).hexdigest()}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
