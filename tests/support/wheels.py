"""Small wheels that stand in for the packages of a layer, so that building one takes no network."""

import zipfile
from pathlib import Path

ELF_X86_64, ELF_ARM64 = 62, 183


def wheel(folder: Path, name: str, files: dict[str, bytes], tag: str = "py3-none-any") -> Path:
    """Write a wheel of version 1.0, and return its path."""
    info = f"{name}-1.0.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/licenses/LICENSE": b"Do what you like.\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n".encode(),
    }
    record = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in content.items():
            archive.writestr(file, data)
        archive.writestr(f"{info}/RECORD", record)
    return path


def library(machine: int, text: bytes = b"") -> bytes:
    """Return the head of an ELF file for a kind of machine, and some text behind it."""
    head = b"\x7fELF\x02\x01".ljust(18, b"\0")
    return head + machine.to_bytes(2, "little") + b"\0" * 40 + text
