"""Sends a bounded mix of good and bad requests through the deployed kit, and counts the wrong decisions.

    python tests/soak.py [--requests 2400] [--at-once 20]

Deploys template.yaml to the emulator twice, with authorizer caching on and off, and sends half of the requests to
each: first all is well, then the table of users is gone, then it is back. Prints statuses, latency percentiles and
memory. Exit status: 0 without wrong decisions, 1 with some. Needs what demo.py needs.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jwt

sys.path.insert(0, str(Path(__file__).parent.parent))
import demo

SECRET = "a-secret-for-one-soak-0123456789abcdef"
PHASES = {"all is well": 0.4, "table gone": 0.2, "table back": 0.4}  # share of the requests
CACHE_TTLS = {"caching on": 300, "caching off": 0}  # seconds


class Request(NamedTuple):
    """One request of the mix, and the status that it has to be answered with."""

    kind: str
    expected: int
    method: str
    path: str
    body: str | None = None
    authorization: str | None = None


class Outcome(NamedTuple):
    """What became of a request."""

    request: Request
    status: int
    seconds: float


def main() -> int:
    """Run the soak and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2400, help="how many in all (%(default)s)")
    parser.add_argument("--at-once", type=int, default=20, help="how many at a time (%(default)s)")
    options = parser.parse_args()
    demo.forget_aws_settings()
    outcomes: list[Outcome] = []
    with demo.emulator() as endpoint:
        stacks = {name: deployed(endpoint, name, ttl) for name, ttl in CACHE_TTLS.items()}
        for stack in stacks.values():
            send(stack, requests(40, "all is well"), options.at_once)  # starts the functions
        before = memory()
        for name, stack in stacks.items():
            outcomes += soak(stack, table_of(name), options.requests // len(stacks), options.at_once)
        print(f"memory of the emulator and its functions: {before} MB at the start, {memory()} MB at the end")
    return report(outcomes)


def deployed(endpoint: str, name: str, ttl: int) -> demo.Stack:
    """Deploy a stack with its own table and the given TTL in seconds of the authorizer's answers."""
    parameters = {"ReauthorizeEvery": str(ttl), "UserTableName": table_of(name), "JwtSecret": SECRET}
    stack = demo.deploy(endpoint, name.replace(" ", "-"), **parameters, AuthRateLimit="10000", AuthBurstLimit="5000")
    demo.create_user(endpoint, demo.USER, demo.PASSWORD, table_of(name))
    return stack


def table_of(name: str) -> str:
    """Return the name of a stack's table."""
    return f"users-{name.replace(' ', '-')}"


def soak(stack: demo.Stack, table: str, total: int, at_once: int) -> list[Outcome]:
    """Send all phases to one stack; between them, nothing is under way."""
    outcomes = []
    changes: dict[str, Callable[[], None]] = {
        "table gone": lambda: drop(stack, table),
        "table back": lambda: restore(stack, table),
    }
    for phase, share in PHASES.items():
        changes.get(phase, lambda: None)()
        outcomes += send(stack, requests(int(total * share), phase), at_once)
    return outcomes


def drop(stack: demo.Stack, table: str) -> None:
    """Take the table away."""
    demo.aws(stack.endpoint, "dynamodb").delete_table(TableName=table)


def restore(stack: demo.Stack, table: str) -> None:
    """Make the table and its user anew."""
    demo.aws(stack.endpoint, "dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
    )
    demo.create_user(stack.endpoint, demo.USER, demo.PASSWORD, table)


def requests(count: int, phase: str) -> list[Request]:
    """Return a shuffled mix with every kind of request in it, the same in every run."""
    table = "table gone" if phase == "table gone" else "table there"
    weighted = [request for request, weight in mix(table) for _ in range(weight)]
    order = random.Random(count)  # noqa: S311 - an order, no secret
    every = [request for request, _ in mix(table)][:count]
    return order.sample(every + order.choices(weighted, k=count - len(every)), count)


def mix(table: str) -> list[tuple[Request, int]]:
    """Return every kind of request with its weight."""
    gone = table == "table gone"
    good, other = f"Bearer {token()}", f"bearer {token(user_id='another', sub='another')}"
    header, payload, signature = token().split(".")
    calls = [
        ("good token", 200, "/api", good, 20),
        ("good token, another route", 200, "/api/other/thing", good, 10),
        ("token of another user", 200, "/api", other, 10),
        ("no token", 401, "/api", None, 5),
        ("expired token", 401, "/api", f"Bearer {token(exp=1)}", 5),
        ("token of another secret", 401, "/api", f"Bearer {token('x' * 40)}", 5),
        ("token with its payload changed", 401, "/api", f"Bearer {header}.{payload[:-2]}xx.{signature}", 5),
        ("token without a signature", 401, "/api", f"Bearer {header}.{payload}.", 3),
        ("alg none", 401, "/api", "Bearer " + jwt.encode({"user_id": "a", "exp": 9e9}, "", algorithm="none"), 3),
        ("no token at all but text", 401, "/api", "Basic dGVzdHVzZXI6cGFzc3dvcmQxMjM=", 3),
        ("token of 8 KB", 401, "/api", "Bearer " + "x" * 8000, 2),
    ]
    bodies = [
        ("login", 500 if gone else 200, demo.credentials_body(demo.USER, demo.PASSWORD), 2),
        ("wrong password", 500 if gone else 401, demo.credentials_body(demo.USER, "wrong"), 2),
        ("unknown user", 500 if gone else 401, demo.credentials_body("nobody", demo.PASSWORD), 2),
        ("over-long password", 500 if gone else 401, demo.credentials_body(demo.USER, "x" * 5000), 1),
        ("login that is not JSON", 400, "user_id=testuser", 3),
        ("login with a number", 400, '{"user_id": 7, "password": 7}', 3),
        ("login nested 20,000 deep", 400, "[" * 20_000, 2),
        ("login with half a character", 400, '{"user_id": "\\ud800", "password": "x"}', 2),
    ]
    sent = [(Request(kind, status, "GET", path, None, value), n) for kind, status, path, value, n in calls]
    return sent + [(Request(kind, status, "POST", "/auth", body), n) for kind, status, body, n in bodies]


def token(secret: str = SECRET, **changes: object) -> str:
    """Return a JWT as login issues it, with changed claims."""
    claims = {"user_id": demo.USER, "sub": demo.USER, "exp": 4_000_000_000} | changes
    return jwt.encode(claims, secret, algorithm="HS256")


def send(stack: demo.Stack, mixed: list[Request], at_once: int) -> list[Outcome]:
    """Send requests, so many at a time."""

    def answer(request: Request) -> Outcome:
        start = time.monotonic()
        status = demo.call(request.method, stack.api + request.path, request.body, request.authorization).status
        return Outcome(request, status, time.monotonic() - start)

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(answer, mixed))


def memory() -> int:
    """Return the resident memory in MB of the emulator and all that it started, or 0 where there is no /proc."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid() or started_by_emulator(int(fields[3])):
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total // 1_000_000


def started_by_emulator(session: int) -> bool:
    """Tell whether a session is that of the emulator: its leader is a child of this process."""
    try:
        leader = Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(leader[1]) == os.getpid()


def report(outcomes: list[Outcome]) -> int:
    """Print what happened, and return 1 if a decision was wrong or nothing was sent."""
    kinds = Counter((outcome.request.kind, outcome.request.expected, outcome.status) for outcome in outcomes)
    for (kind, expected, status), count in sorted(kinds.items()):
        print(f"{count:6} {status}  {kind}" + ("" if status == expected else f"  WRONG: should be {expected}"))
    for name, path in (("POST /auth", "/auth"), ("GET /api", "/api")):
        seconds = sorted(outcome.seconds for outcome in outcomes if outcome.request.path.startswith(path))
        print(f"{name}: " + ", ".join(f"p{p} {percentile(seconds, p) * 1000:.0f} ms" for p in (50, 95, 99, 100)))
    wrong = sum(count for (_, expected, status), count in kinds.items() if status != expected)
    print(json.dumps({"requests": len(outcomes), "wrong_decisions": wrong}))
    return 0 if outcomes and not wrong else 1


def percentile(values: list[float], percent: int) -> float:
    """Return the smallest value that is at least as large as so many percent of them."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


if __name__ == "__main__":
    sys.exit(main())
