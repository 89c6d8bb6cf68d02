"""What the handlers cost, as ratios to what anybody would have to pay for the same: make bench.

    python -m tools.bench [--check]

Times are CPU time of the process that does the work. What the network takes comes on top. What is
compared runs in turns, round by round, in the same run. A ratio is the median of the rounds'
ratios. Every piece of code runs in an interpreter of its own that can import only what the handler
finds on Lambda, because PyJWT is slower if cryptography can be imported.

--check exits with status 1 if a ratio is above its bound. The packages are those of
requirements_bench.txt, the network is pip's and loopback only, and it takes about three minutes.
"""

import argparse
import datetime
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt
from support.deploy import ARN, CLIENT_ID, SECRET
from support.events import KINDS, connect_event, proxy_event, token_event
from support.fake_dynamodb import fake_dynamodb
from support.fake_google import certificate, serving
from support.files import ROOT
from support.runtime_api import packages
from support.tokens import google_token, make_jwt

from tools.bench_code import CALLS, COLD, FACTS, LOGGING, NAIVE, Timed

ROUNDS = 11
ENDPOINT = "restricted_access_lambda"
PYTHON = [
    sys.executable,
    "-S",
    "-s",
    "-B",
    "-W",
    "ignore",
]  # no site-packages, and no bytecode is left behind
LOGGER = "logger = logging.getLogger()\nlogger.setLevel(logging.INFO)\n"
LINE = "| {:33} | {:35} | {:>5} | {:>7} | {:>8} | {:>10} |"
PASSWORD = "password123"
HASHES = {cost: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost)).decode() for cost in (4, 12)}
TOKEN, GOOGLE_TOKEN = make_jwt(), google_token()


def login_event(user_id: str, password: str = PASSWORD) -> dict[str, Any]:
    """Return the event of a login."""
    return proxy_event(json.dumps({"user_id": user_id, "password": password}))


# A cold start's login is of a user whose hash costs little, so that it does not hide the rest.
ITEMS = {
    "testuser": {"passwordHash": {"S": HASHES[12]}, "scope": {"S": "read admin"}},
    "cheap": {"passwordHash": {"S": HASHES[4]}},
}
EVENTS = {kind: make(f"Bearer {TOKEN}", ARN) for kind, make in KINDS.items()} | {
    "user with scope": login_event("testuser"),
    "wrong password": login_event("testuser", "wrong"),
    "unknown user": login_event("nobody"),
    "jwt_auth_token": token_event(f"Bearer {TOKEN}"),
    "jwt_auth_token_websocket": connect_event(headers={"Authorization": f"Bearer {TOKEN}"}),
    "jwt_auth_token_google": token_event(f"Bearer {GOOGLE_TOKEN}"),
    "jwt_create_token": login_event("cheap"),
    "restricted_access_lambda": proxy_event(
        None, requestContext={"authorizer": {"principalId": "testuser"}}
    ),
}


Runs = dict[str, Callable[[], float]]  # what takes a measurement, by the label of what is measured


class Row(NamedTuple):
    """A line of the table: what is compared with what, and the bound of the ratio."""

    what: str
    against: str
    bound: float = math.inf


ROWS = [
    *(Row(f"HS256 call, {kind}", "bare PyJWT", 2.1) for kind in KINDS),
    Row("HS256 call that looks the user up", "HS256 call, and a bare get_item", 1.15),
    Row("Google call", "verify_oauth2_token, keys in memory", 1.9),
    Row("verify_oauth2_token as it comes", "Google call"),
    Row("login, user with scope", "bcrypt.checkpw"),
    # In a circle, so that none of the three can be told from another by its time.
    Row("login, user with scope", "login, wrong password", 1.1),
    Row("login, wrong password", "login, unknown user", 1.1),
    Row("login, unknown user", "login, user with scope", 1.1),
    *(Row(f"cold {name}", f"naive {name}", 1.15) for name in NAIVE if name != ENDPOINT),
    # It takes 3 ms, so that compiling the longer file shows.
    Row(f"cold {ENDPOINT}", f"naive {ENDPOINT}", 1.3),
]


def main() -> int:
    """Measure, print the table, and with --check return 1 if a ratio is above its bound."""
    parser = argparse.ArgumentParser(description="What the handlers cost, as ratios.")
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if a bound is exceeded"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    print(heading(), figures(measured), columns(), sep="\n\n")
    print(*(line(row, measured) for row in ROWS), sep="\n")
    broken = [row.what for row in ROWS if ratio(row, measured) > row.bound]
    for what in broken:
        print(f"{what}: the ratio is above its bound.")
    return 1 if options.check and broken else 0


def measure(folder: Path) -> dict[str, list[float]]:
    """Return for every label of the table the CPU seconds of each round."""
    with serving("key-0", "key-1") as google, fake_dynamodb() as users:
        users.items = ITEMS
        settings = users.environment | {"JWT_SECRET": SECRET, "GOOGLE_CLIENT_ID": CLIENT_ID}
        task = with_handlers(folder / "task", certificates_url=google.url)
        paths = {
            name: os.pathsep.join(map(str, [task, *path]))
            for name, path in packages(folder).items()
        }
        environments = {name: settings | {"PYTHONPATH": path} for name, path in paths.items()}
        environments["jwt_create_token"]["USER_CREDENTIALS_TABLE_NAME"] = "users"
        runs: Runs = {
            label: partial(warm, environments[code.handler], code) for label, code in CALLS.items()
        }
        for name in NAIVE:
            runs[f"cold {name}"] = partial(cold, environments[name], name, name)
            runs[f"naive {name}"] = partial(cold, environments[name], f"naive_{name}", name)
        return interleaved(runs)


def with_handlers(task: Path, **facts: Any) -> Path:
    """Make a folder with the handlers (without bytecode, as on Lambda), naive ones and facts."""
    task.mkdir()
    facts |= {
        "secret": SECRET,
        "token": TOKEN,
        "google_token": GOOGLE_TOKEN,
        "client_id": CLIENT_ID,
        "events": EVENTS,
    }
    facts |= {
        "stored": HASHES[12],
        "certificates": json.dumps({kid: certificate(kid) for kid in ("key-0", "key-1")}),
    }
    (task / "facts.py").write_text(
        LOGGING + "".join(f"{name} = {value!r}\n" for name, value in facts.items())
    )
    for name in NAIVE:
        source = (ROOT / f"{name}.py").read_text()
        (task / f"{name}.py").write_text(source)
        imports = "\n".join(re.findall("^(?:import|from) .+", source, re.MULTILINE))
        (task / f"naive_{name}.py").write_text(f"{imports}\n{LOGGER}{NAIVE[name]}")
    return task


def interleaved(runs: Runs) -> dict[str, list[float]]:
    """Return what each run took in every round, all of them in turn."""
    taken: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(ROUNDS):
        for label, run in runs.items():
            taken[label].append(run())
    return taken


def warm(environment: dict[str, str], code: Timed) -> float:
    """Return the CPU seconds of one call, as timeit finds them."""
    command = [*PYTHON, "-m", "timeit", "--process", "--repeat=1", "--unit=sec", "-vv"]
    return seconds(environment, [*command, f"--setup={FACTS}\n{code.setup}", code.call])


def cold(environment: dict[str, str], module: str, event: str) -> float:
    """Return the CPU seconds that a new interpreter takes to import a module and call it once."""
    return seconds(environment, [*PYTHON, "-c", COLD, module, event])


def seconds(environment: dict[str, str], command: list[str]) -> float:
    """Run a command, and return the number of seconds that it prints."""
    printed = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return float(re.findall(r"([\d.e-]+) sec", printed)[-1])


def heading() -> str:
    """Return when, where and with what was measured."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search("^model name\\s*: (.+)", text, re.MULTILINE)
    names = ["PyJWT", "bcrypt", "boto3", "google-auth", "requests", "cryptography"]
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    processor = model[1] if model else platform.machine()
    python = f"Python {platform.python_version()}"
    return f"{datetime.date.today()}, {processor}, {os.cpu_count()} CPUs, {python}, {packages}"


def figures(measured: dict[str, list[float]]) -> str:
    """Return the three figures that a user asks for first."""
    rows = {
        "A warm call of an authorizer": Row("HS256 call, REST TOKEN", "bare PyJWT"),
        "A cold start of an authorizer": Row("cold jwt_auth_token", "naive jwt_auth_token"),
        "A login": Row("login, user with scope", "bcrypt.checkpw"),
    }
    return "\n".join(
        f"{name}: {ratio(row, measured):.2f} times {row.against}, "
        f"{statistics.median(measured[row.what]) * 1e3:.3g} ms of CPU time here"
        for name, row in rows.items()
    )


def columns() -> str:
    """Return the first lines of the table, in Markdown."""
    names = LINE.format("what", "against", "ratio", "at most", "median", "its median")
    return f"{names}\n|---|---|--:|--:|--:|--:|"


def line(row: Row, measured: dict[str, list[float]]) -> str:
    """Return a line of the table."""
    medians = [f"{statistics.median(measured[label]) * 1e3:.3g} ms" for label in row[:2]]
    bound = f"{row.bound:g}" if row.bound < math.inf else ""
    return LINE.format(row.what, row.against, f"{ratio(row, measured):.2f}", bound, *medians)


def ratio(row: Row, measured: dict[str, list[float]]) -> float:
    """Return the median of the ratios of the rounds."""
    return statistics.median(
        a / b for a, b in zip(measured[row.what], measured[row.against], strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
