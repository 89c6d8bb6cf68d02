"""What the handlers cost, as ratios to what anybody would have to pay for the same: `make bench`.

    python tests/bench.py [--check]

Times are CPU time of the process that does the work: what the network takes comes on top. What is compared runs in
turns, round by round, in the same run; a ratio is the median of the rounds' ratios. Every piece of code runs under an
interpreter that can import one folder of packages and no other: that of the layer that it has on Lambda, since PyJWT
is slower where cryptography can be imported. --check exits with status 1 if a ratio is above its bound. Needs the
packages of requirements_bench.txt and pip, uses no network but pip's and loopback, and takes about two minutes.
"""

import argparse
import datetime
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple

import bcrypt
from bench_code import CALLS, COLD, LOGINS, NAIVE, NEEDS
from support.events import connect_event, proxy_event, token_event
from support.functions import CLIENT_ID, SECRET
from support.google import certificate, serving
from support.table import fake_dynamodb
from support.tokens import google_token, make_jwt

ROOT = Path(__file__).parent.parent
LAYERS = ("basic", "google")
CALL_ROUNDS, LOGIN_ROUNDS, HANDLER_ROUNDS, LAYER_ROUNDS = 40, 9, 25, 9
PYTHON = [sys.executable, "-S", "-s", "-B", "-W", "ignore"]  # no site-packages, and no bytecode is left behind
ENVIRONMENT = {"JWT_SECRET": SECRET, "USER_CREDENTIALS_TABLE_NAME": "users", "GOOGLE_CLIENT_ID": CLIENT_ID}
PASSWORD = b"password123"
USERS = {name: bcrypt.hashpw(PASSWORD, bcrypt.gensalt(cost)).decode() for name, cost in (("user", 12), ("cheap", 4))}
TOKEN = make_jwt()


def login_event(user_id: str) -> dict[str, Any]:
    """Return the event of a login."""
    return proxy_event(json.dumps({"user_id": user_id, "password": PASSWORD.decode()}))


# A cold start's login is of a user whose hash costs little, so that it does not hide the rest.
EVENTS = {
    "jwt_auth_token": token_event(f"Bearer {TOKEN}"),
    "jwt_auth_token_websocket": connect_event(headers={"Authorization": f"Bearer {TOKEN}"}),
    "jwt_auth_token_google": token_event(f"Bearer {google_token()}"),
    "jwt_create_token": login_event("cheap"),
    "restricted_access_lambda": proxy_event(None, requestContext={"authorizer": {"principalId": "testuser"}}),
}
FACTS = {
    "secret": SECRET,
    "token": TOKEN,
    "google_token": google_token(),
    "client_id": CLIENT_ID,
    "certificates": json.dumps({kid: certificate(kid) for kid in ("key-0", "key-1")}),
    "stored": USERS["user"],
    "events": EVENTS | {"login": login_event("user"), "unknown": login_event("nobody")},
}


class Row(NamedTuple):
    """A line of the table: what is compared with what, and the bound of the ratio."""

    what: str
    against: str
    bound: float = math.inf


ROWS = [
    Row("HS256 call", "bare PyJWT", 2.0),
    Row("HMAC + base64 + JSON", "bare PyJWT"),
    *(Row(rival, "bare PyJWT") for rival in ("PyJWT beside cryptography", "joserfc", "Authlib", "python-jose")),
    Row("Google call", "RSA-2048 verification"),
    Row("Google call", "verify_oauth2_token, keys in memory", 1.9),
    Row("verify_oauth2_token as it comes", "Google call"),
    Row("login", "bcrypt.checkpw"),
    Row("login, unknown user", "login"),
    *(Row(f"cold {name}", f"naive {name}", 1.1) for name in NAIVE),
    *(Row(f"cold import, {name} layer, no bytecode", f"cold import, {name} layer") for name in LAYERS),
    *(Row(f"cold import, naive {name} layer", f"cold import, {name} layer") for name in LAYERS),
    *(Row(f"size, naive {name} layer", f"size, {name} layer") for name in LAYERS),
]
SIZES = {"size, basic layer": 0.45e6, "size, google layer": 8.5e6}  # bytes at most


def main() -> int:
    """Measure, print the table, and with --check return 1 if a ratio or a size is above its bound."""
    parser = argparse.ArgumentParser(description="What the handlers cost, as ratios.")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a bound is exceeded")
    options = parser.parse_args()
    measured = measure()
    broken = list(exceeded(measured))
    print(*heading(), *table(measured), *broken, sep="\n")
    return 1 if options.check and broken else 0


def measure() -> dict[str, list[float]]:
    """Return for every label of the table what each round found: CPU seconds, or bytes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths, measured = packages(folder)
        google = stack.enter_context(serving("key-0", "key-1"))
        users = stack.enter_context(fake_dynamodb())
        users.items = {name: {"passwordHash": {"S": stored}} for name, stored in USERS.items()}
        settings = ENVIRONMENT | users.environment | {"CERTIFICATES_URL": google.url}
        environments = {name: settings | {"PYTHONPATH": os.pathsep.join(path)} for name, path in paths.items()}
        with workers(environments, FACTS | {"certificates_url": google.url}) as call:
            measured |= interleaved({label: call(label) for label in CALLS}, CALL_ROUNDS)
            measured |= interleaved({label: call(label) for label in LOGINS}, LOGIN_ROUNDS)
        measured |= interleaved(cold_handlers(folder / "task", environments), HANDLER_ROUNDS)
        return measured | interleaved(cold_layers(folder / "task", environments), LAYER_ROUNDS)


def packages(folder: Path) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """Build the layers and their naive counterparts; return search paths by name, and the sizes of the zips."""
    task = folder / "task"  # copies: no bytecode beside them, as on Lambda
    task.mkdir()
    for handler in NAIVE:
        shutil.copy(ROOT / f"{handler}.py", task)
    paths = {"rivals": [str(task), sysconfig.get_path("purelib")]}
    sizes: dict[str, list[float]] = {}
    for name in LAYERS:
        requirements, layer, installed = ROOT / f"requirements_{name}_auth.txt", folder / f"{name}.zip", folder / name
        python(ROOT / "build_layer.py", "build", requirements, layer, "--arch", "host")
        python("-m", "pip", "install", "-qq", "--disable-pip-version-check", "-t", installed, "-r", requirements)
        naive = Path(shutil.make_archive(f"{installed}-naive", "zip", installed))
        paths[name] = [str(task), str(unzipped(layer) / "python")]
        paths[f"{name}, no bytecode"] = [str(task), str(unzipped(layer, bytecode=False) / "python")]
        paths[f"naive {name}"] = [str(task), str(unzipped(naive))]
        sizes |= {f"size, {name} layer": [layer.stat().st_size], f"size, naive {name} layer": [naive.stat().st_size]}
    paths["login"] = [*paths["basic"], str(folder / "basic")]  # boto3, which Lambda ships
    return paths, sizes


def python(*arguments: str | Path) -> None:
    """Run the interpreter that runs this, quietly."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def unzipped(archive: Path, bytecode: bool = True) -> Path:
    """Unpack a zip into a folder of its own, with the times that it keeps, which decide what bytecode is stale."""
    folder = Path(tempfile.mkdtemp(dir=archive.parent))
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if bytecode or not entry.filename.endswith(".pyc"):
                path = opened.extract(entry, folder)
                os.utime(path, (time.mktime((*entry.date_time, 0, 0, -1)),) * 2)
    return folder


@contextmanager
def workers(environments: dict[str, dict[str, str]], facts: dict[str, Any]) -> Iterator[Callable[[str], Any]]:
    """Start an interpreter for every set of packages; give what makes a label a function that times its call."""
    with ExitStack() as stack:
        processes = {}
        command = [*PYTHON, str(Path(__file__).with_name("bench_code.py"))]
        for name in {timed.packages for timed in (CALLS | LOGINS).values()}:
            process = subprocess.Popen(command, env=environments[name], stdin=PIPE, stdout=PIPE, text=True)
            processes[name] = stack.enter_context(process)
            print(json.dumps(facts), file=process.stdin)

        def call(label: str) -> Callable[[], float]:
            return lambda: ask(processes[(CALLS | LOGINS)[label].packages], label)

        yield call


def ask(process: subprocess.Popen[str], line: str) -> float:
    """Send a line to a worker and return the number that it answers."""
    assert process.stdin
    assert process.stdout
    print(line, file=process.stdin, flush=True)
    return float(process.stdout.readline())


def interleaved(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each run took in every round, all of them in turn."""
    taken: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(rounds):
        for label, run in runs.items():
            taken[label].append(run())
    return taken


def cold_handlers(task: Path, environments: dict[str, dict[str, str]]) -> dict[str, Callable[[], float]]:
    """Put the naive scripts beside the handlers; return what starts each under a fresh interpreter."""
    runs: dict[str, Callable[[], float]] = {}
    for name, body in NAIVE.items():
        (task / f"naive_{name}.py").write_text(f"{imports(name)}\n{body}")
        environment = environments[NEEDS.get(name, "basic")]
        runs[f"cold {name}"] = partial(cold, name, environment, EVENTS[name])
        runs[f"naive {name}"] = partial(cold, f"naive_{name}", environment, EVENTS[name])
    return runs


def cold_layers(task: Path, environments: dict[str, dict[str, str]]) -> dict[str, Callable[[], float]]:
    """Put scripts that only import in place; return what starts each with the layer and with its counterparts."""
    runs: dict[str, Callable[[], float]] = {}
    for name, needed in (("basic", "import bcrypt\nimport jwt"), ("google", imports("jwt_auth_token_google"))):
        (task / f"imports_{name}.py").write_text(f"{needed}\ndef lambda_handler(event, context): return {{}}\n")
        for label in (f"{name} layer", f"{name} layer, no bytecode", f"naive {name} layer"):
            environment = environments[label.replace(" layer", "")]
            runs[f"cold import, {label}"] = partial(cold, f"imports_{name}", environment, {})
    return runs


def imports(handler: str) -> str:
    """Return the import statements of a handler."""
    return "\n".join(re.findall("^(?:import|from) .+", (ROOT / f"{handler}.py").read_text(), re.MULTILINE))


def cold(module: str, environment: dict[str, str], event: dict[str, Any]) -> float:
    """Return the CPU seconds that a fresh interpreter takes to import a module and get an answer from it."""
    command = [*PYTHON, "-c", COLD, module, json.dumps(event)]
    return float(subprocess.run(command, env=environment, check=True, stdout=PIPE).stdout)


def heading() -> list[str]:
    """Return when, where and with what the table was made, as lines."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search("^model name\\s*: (.+)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    names = ["PyJWT", "bcrypt", "boto3", "google-auth", "requests", "cryptography", "joserfc", "Authlib", "python-jose"]
    return [
        f"`make bench`, {datetime.date.today()}, {model[1] if model else platform.machine()}, {os.cpu_count()} CPUs,",
        f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}",
        "",
    ]


def table(measured: dict[str, list[float]]) -> list[str]:
    """Return the table in Markdown."""
    cells = [["what", "against", "ratio", "at most", "median", "its median"]]
    for row in ROWS:
        bound = f"{row.bound:.1f}" if row.bound < math.inf else ""
        medians = (amount(label, measured[label]) for label in row[:2])
        cells.append([row.what, row.against, f"{ratio(row, measured):.2f}", bound, *medians])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * (width - 1) + "-:"[i > 1] for i, width in enumerate(widths)])
    formats = [f"{{:{side}{width}}}" for side, width in zip("<<>>>>", widths, strict=True)]
    return [f"| {' | '.join(formats)} |".format(*line) for line in cells]


def amount(label: str, values: list[float]) -> str:
    """Return the median of a label with its unit."""
    middle = statistics.median(values)
    if label.startswith("size"):
        return f"{middle / 1e6:.2f} MB"
    return f"{middle * 1e6:.1f} µs" if middle < 1e-3 else f"{middle * 1e3:.1f} ms"


def ratio(row: Row, measured: dict[str, list[float]]) -> float:
    """Return the median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(measured[row.what], measured[row.against], strict=True))


def exceeded(measured: dict[str, list[float]]) -> Iterator[str]:
    """Give a sentence for every bound that is exceeded."""
    for row in ROWS:
        if ratio(row, measured) > row.bound:
            yield f"{row.what} takes {ratio(row, measured):.2f} times {row.against}; it may take {row.bound} times."
    for label, bound in SIZES.items():
        if measured[label][0] > bound:
            yield f"{label} is {measured[label][0] / 1e6:.2f} MB; it may be {bound / 1e6:.2f} MB."


if __name__ == "__main__":
    sys.exit(main())
