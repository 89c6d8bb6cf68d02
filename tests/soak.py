"""Sends a bounded mix of good and bad requests through the deployed kit, and counts the wrong decisions: `make soak`.

    python tests/soak.py [--requests 2400]

Deploys template.yaml to the emulator, with authorizer caching on and off, and template_http.yaml, and sends a third of
the requests to each: first all is well, then the table of users is gone, then it is back. Prints statuses and latency
percentiles. Exit status: 0 without wrong decisions, 1 with some, 2 for an option that cannot be used.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import requests
from support.functions import SECRET
from support.tokens import jws, make_jwt

sys.path.insert(0, str(Path(__file__).parent.parent))
from demo.emulator import Stack, aws, create_user, deploy, emulator

PHASES = {"all is well": 0.4, "table gone": 0.2, "table back": 0.4}  # share of the requests
STACKS = {  # template, and for how many seconds an authorizer's answer is remembered
    "REST-caching-on": ("template.yaml", "300"),
    "REST-caching-off": ("template.yaml", "0"),
    "HTTP-API": ("template_http.yaml", "300"),
}
UNTHROTTLED = {"AuthRateLimit": "10000", "AuthBurstLimit": "5000", "CallRateLimit": "10000", "CallBurstLimit": "5000"}
KEY = {"AttributeName": "user_id"}


class Request(NamedTuple):
    """One request of the mix, and the status that it has to be answered with."""

    kind: str
    expected: int
    path: str
    authorization: str | None = None
    body: str | None = None


Outcome = tuple[Request, int, float]  # with the status and the seconds that it took


def main() -> int:
    """Run the soak and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2400, help="how many in all (%(default)s)")
    options = parser.parse_args()
    if options.requests < 1:
        parser.error("REQUESTS must be 1 or more: there is nothing to send")
    with emulator() as endpoint:
        stacks = [deployed(endpoint, name, *settings) for name, settings in STACKS.items()]
        share = options.requests / len(stacks)
        return report([outcome for stack in stacks for outcome in soaked(stack, share)])


def deployed(endpoint: str, name: str, template: str, seconds: str) -> Stack:
    """Deploy a stack whose table has its name and a user."""
    parameters = {"ReauthorizeEvery": seconds, "UserTableName": name, "JwtSecret": SECRET} | UNTHROTTLED
    stack = deploy(endpoint, template, name, **parameters)
    create_user(endpoint, "testuser", "password123", table=name)
    return stack


def soaked(stack: Stack, total: float) -> list[Outcome]:
    """Send all phases to a stack; between them, nothing is under way."""
    outcomes = []
    for phase, share in PHASES.items():
        if phase == "table gone":
            aws(stack.endpoint, "dynamodb").delete_table(TableName=stack.name)
        if phase == "table back":
            restore_table(stack)
        # Where an HTTP API would refuse a token with 401, the emulator answers 500.
        each_call = calls(401 if stack.websocket else 500)
        mix = each_call + logins(500 if phase == "table gone" else 0) + each_call * 2
        batch = list(islice(cycle(mix), max(1, round(total * share))))
        random.Random(0).shuffle(batch)  # noqa: S311 - an order, no secret
        outcomes += send(stack, batch)
    return outcomes


def restore_table(stack: Stack) -> None:
    """Make the table and its user anew."""
    aws(stack.endpoint, "dynamodb").create_table(
        TableName=stack.name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[KEY | {"AttributeType": "S"}],
        KeySchema=[KEY | {"KeyType": "HASH"}],
    )
    create_user(stack.endpoint, "testuser", "password123", table=stack.name)


def calls(refused: int) -> list[Request]:
    """Return every kind of call; refused is what a call with a bad token gets."""
    good = f"Bearer {make_jwt()}"
    header, payload, signature = good.split(".")
    unsigned = jws({"alg": "none"}, b'{"user_id": "a", "exp": 9e9}', lambda signed: b"")
    return [
        Request("good token", 200, "/api", good),
        Request("good token, another route", 200, "/api/other/thing", good),
        Request("token of another user", 200, "/api", f"bearer {make_jwt(user_id='another')}"),
        Request("expired token", refused, "/api", f"Bearer {make_jwt(exp=1)}"),
        Request("token of another secret", refused, "/api", f"Bearer {make_jwt('another-secret-of-32-bytes-or-more')}"),
        Request("token with its payload changed", refused, "/api", f"{header}.{payload[:-2]}xx.{signature}"),
        Request("token without a signature", refused, "/api", f"{header}.{payload}."),
        Request("alg none", refused, "/api", f"Bearer {unsigned}"),
        Request("no token at all but text", refused, "/api", "Basic dGVzdHVzZXI6cGFzc3dvcmQxMjM="),
        Request("token of 8 KB", refused, "/api", "Bearer " + "x" * 8000),
        Request("no token", 401, "/api"),
    ]


def logins(failed: int) -> list[Request]:
    """Return every kind of login; failed is what a login gets that needs the table, unless 0."""
    bodies = [
        ("login", failed or 200, '{"user_id": "testuser", "password": "password123"}'),
        ("wrong password", failed or 401, '{"user_id": "testuser", "password": "wrong"}'),
        ("unknown user", failed or 401, '{"user_id": "nobody", "password": "password123"}'),
        ("over-long password", failed or 401, f'{{"user_id": "testuser", "password": "{"x" * 5000}"}}'),
        ("login that is not JSON", 400, "user_id=testuser"),
        ("login with a number", 400, '{"user_id": 7, "password": 7}'),
        ("login nested 20,000 deep", 400, "[" * 20_000),
        ("login with half a character", 400, '{"user_id": "\\ud800", "password": "x"}'),
    ]
    return [Request(kind, status, "/auth", body=body) for kind, status, body in bodies]


def send(stack: Stack, batch: list[Request]) -> list[Outcome]:
    """Send requests, 20 at a time."""

    def outcome(request: Request) -> Outcome:
        start, method = time.monotonic(), "GET" if request.body is None else "POST"
        headers = {"Authorization": request.authorization}  # which is not sent where it is None
        answer = requests.request(method, stack.api + request.path, headers=headers, data=request.body, timeout=60)
        return request, answer.status_code, time.monotonic() - start

    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(outcome, batch))


def report(outcomes: list[Outcome]) -> int:
    """Print what happened, and return 1 if a decision was wrong."""
    kinds = Counter((request.kind, request.expected, status) for request, status, _ in outcomes)
    for (kind, expected, status), count in sorted(kinds.items()):
        print(f"{count:6} {status}  {kind}" + ("" if status == expected else f"  WRONG: should be {expected}"))
    for path in ("/auth", "/api"):
        took = sorted(seconds for request, _, seconds in outcomes if request.path.startswith(path)) or [0.0]
        at = {n: took[(len(took) - 1) * n // 100] * 1000 for n in (50, 95, 99, 100)}
        print(f"{path}: " + ", ".join(f"p{n} {milliseconds:.0f} ms" for n, milliseconds in at.items()))
    wrong = sum(count for (_, expected, status), count in kinds.items() if status != expected)
    print(json.dumps({"requests": len(outcomes), "wrong_decisions": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
