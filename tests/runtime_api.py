"""Lambda's Runtime API on loopback, and a function that runs under Amazon's runtime client as it does on Lambda.

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
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import ROOT, WATCH

RUNTIME = ["awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py"]
SDK = ["boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"]  # comes with Lambda's Python
# -I -S: what is not named here is not there, the folder of this environment's packages included.
PYTHON = [sys.executable, "-I", "-S", "-c"]
START = (
    "import runpy, sys; sys.path[:0] = sys.argv.pop().split(':'); runpy.run_module('awslambdaric', None, '__main__')"
)
PREFIX = "/2018-06-01/runtime"


class Lambda:
    """A function: invoked with an event, it answers what Lambda would get."""

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


class Handler(BaseHTTPRequestHandler):
    """The Runtime API for the Lambda that a subclass names."""

    function: Lambda

    def do_GET(self) -> None:
        assert self.path == f"{PREFIX}/invocation/next"
        event = self.function.events.get()
        if event is not None:
            deadline = int(time.time() * 1000) + 30_000  # milliseconds
            self.reply(200, event, Lambda_Runtime_Aws_Request_Id="r-1", Lambda_Runtime_Deadline_Ms=str(deadline))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(202, b"{}")
        self.function.answers.put((self.path.removeprefix(f"{PREFIX}/").removeprefix("invocation/r-1/"), body))

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content_Type": "application/json", "Content_Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def started(folder: Path, script: str, packages: Iterable[Path], **environment: str) -> Iterator[Lambda]:
    """Run a copy of a handler alone in a folder, with these folders of packages, under the runtime client."""
    shutil.copy(ROOT / f"{script}.py", folder)
    path = ":".join(map(str, [folder, *packages]))

    class OwnHandler(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OwnHandler) as server, (folder / "log").open("wb") as log:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        environment |= {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}", "PATH": os.environ["PATH"]}
        command = [*PYTHON, START, f"{script}.lambda_handler", path]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        function = OwnHandler.function = Lambda(process, folder / "log")
        try:
            yield function
        finally:
            WATCH.hears(f"{script} on Lambda", function.output())
            process.kill()
            process.wait()
            function.events.put(None)
            server.shutdown()
            thread.join()


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
    command = [sys.executable, "build_layer.py", f"requirements_{requirements}.txt", str(target), "--arch", "host"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(target) as layer:
        layer.extractall(folder / requirements)
    return folder / requirements / "python"
