"""Lambda's Runtime API on loopback, and functions that run under Amazon's runtime client.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import contextlib
import importlib.util
import json
import os
import queue
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from support.deploy import WATCH
from support.files import LAYERS, ROOT
from support.http_server import QuietHandler, listening

RUNTIME = ["awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py"]
SDK = [
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
    "dateutil",
    "six",
    "urllib3",
]  # comes with Lambda's Python
# -I -S: what is not named here is not there, the folder of this environment's packages included.
START = """
import runpy, sys
sys.path[:0] = sys.argv.pop().split(":")
runpy.run_module("awslambdaric", None, "__main__")
"""
PREFIX = "/2018-06-01/runtime"


class Lambda:
    """A function: invoked with an event, it returns what Lambda would get."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()

    def invoke(self, event: Any) -> tuple[str, dict[str, Any]]:
        """Return "response" or "error", and what came with it."""
        self.events.put(json.dumps(event).encode())
        return self.answers.get(timeout=60)

    def output(self) -> str:
        """Return what went to standard output and standard error: Lambda puts both into the log."""
        return self.log.read_text()


@contextlib.contextmanager
def started(
    folder: Path, script: str, packages: Iterable[Path], **environment: str
) -> Iterator[Lambda]:
    """Run a copy of a handler, alone in a folder with these packages, under the runtime client."""

    class RuntimeApi(QuietHandler):
        def do_GET(self) -> None:
            assert self.path == f"{PREFIX}/invocation/next"
            event = running.events.get()
            if event is not None:
                deadline = str(int(time.time() * 1000) + 30_000)  # milliseconds
                headers = {
                    "Lambda_Runtime_Aws_Request_Id": "r-1",
                    "Lambda_Runtime_Deadline_Ms": deadline,
                }
                self.reply(200, event, Content_Type="application/json", **headers)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(202, b"{}")
            running.answers.put(
                (self.path.removeprefix(f"{PREFIX}/").removeprefix("invocation/r-1/"), body)
            )

    shutil.copy(ROOT / f"{script}.py", folder)
    path = ":".join(map(str, [folder, *packages]))
    with listening(RuntimeApi) as address, (folder / "log").open("wb") as log:
        environment |= {"AWS_LAMBDA_RUNTIME_API": address, "PATH": os.environ["PATH"]}
        command = [sys.executable, "-I", "-S", "-c", START, f"{script}.lambda_handler", path]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        running = Lambda(process, folder / "log")
        try:
            yield running
        finally:
            WATCH.hears(f"{script} on Lambda", running.output())
            process.kill()
            process.wait()
            running.events.put(None)


def packages(folder: Path) -> dict[str, list[Path]]:
    """Return where each handler finds packages on Lambda: its layer, and the SDK if it uses it."""
    layer_names = sorted({name for name in LAYERS.values() if name})
    layers = {name: [unpacked_layer(folder, name)] for name in layer_names}
    sdk = linked(folder / "sdk", SDK)
    found = {}
    for script, layer in LAYERS.items():
        found[script] = list(layers[layer]) if layer else []
        if "import boto3" in (ROOT / f"{script}.py").read_text():
            found[script].append(sdk)
    return found


def linked(folder: Path, names: Iterable[str]) -> Path:
    """Return a folder with links to installed packages, these and no others."""
    folder.mkdir()
    for name in names:
        spec = importlib.util.find_spec(name)
        assert spec
        assert spec.origin
        origin = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        (folder / origin.name).symlink_to(origin)
    return folder


def unpacked_layer(folder: Path, requirements: str) -> Path:
    """Return the python/ folder of the layer that build_layer.py makes of a requirements file."""
    target = folder / f"{requirements}.zip"
    command = f"build_layer.py build requirements_{requirements}.txt {target} --arch host"
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(target) as layer:
        layer.extractall(folder / requirements)
    return folder / requirements / "python"
