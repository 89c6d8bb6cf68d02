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
from pathlib import Path
from typing import NamedTuple

import jwt
import requests

sys.path.insert(0, str(Path(__file__).parent.parent))
from demo.emulator import DemoError, Stack, aws, create_user, deploy, emulator

SECRET = "a-secret-for-one-soak-0123456789abcdef"
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
    headers: dict[str, str]
    body: str | None


Outcome = tuple[Request, int, float]  # with the status and the seconds that it took


def main() -> int:
    """Run the soak and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2400, help="how many in all (%(default)s)")
    options = parser.parse_args()
    if options.requests < 1:
        parser.error("REQUESTS must be 1 or more: there is nothing to send")
    try:
        with emulator() as endpoint:
            stacks = [deployed(endpoint, *stack) for stack in STACKS.items()]
            share = options.requests / len(stacks)
            return report([outcome for stack in stacks for outcome in soaked(stack, share)])
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1


def deployed(endpoint: str, name: str, template: tuple[str, str]) -> Stack:
    """Deploy a stack whose table has its name and a user."""
    parameters = {"ReauthorizeEvery": template[1], "UserTableName": name, "JwtSecret": SECRET} | UNTHROTTLED
    stack = deploy(endpoint, template[0], name, **parameters)
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
        outcomes += send(stack, mixed(stack, max(1, round(total * share)), phase == "table gone"))
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


def mixed(stack: Stack, count: int, table_gone: bool) -> list[Request]:
    """Return a shuffled mix with every kind of request in it, the same in every run."""
    # Where an HTTP API would refuse a token with 401, the emulator answers 500.
    kinds = [*calls(401 if stack.websocket else 500), *logins(500 if table_gone else 0)]
    order = random.Random(count)  # noqa: S311 - an order, no secret
    every = [request for request, _ in kinds][:count]
    more = order.choices([request for request, _ in kinds], [weight for _, weight in kinds], k=count - len(every))
    return order.sample(every + more, count)


def calls(refused: int) -> list[tuple[Request, int]]:
    """Return every kind of call with its weight."""
    header, payload, signature = token().split(".")
    values = [
        ("good token", 200, f"Bearer {token()}", 20),
        ("token of another user", 200, f"bearer {token(user_id='another', sub='another')}", 10),
        ("expired token", refused, f"Bearer {token(exp=1)}", 5),
        ("token of another secret", refused, f"Bearer {token('another-secret-of-32-bytes-or-more')}", 5),
        ("token with its payload changed", refused, f"Bearer {header}.{payload[:-2]}xx.{signature}", 5),
        ("token without a signature", refused, f"Bearer {header}.{payload}.", 3),
        ("alg none", refused, "Bearer " + jwt.encode({"user_id": "a", "exp": 9e9}, "", algorithm="none"), 3),
        ("no token at all but text", refused, "Basic dGVzdHVzZXI6cGFzc3dvcmQxMjM=", 3),
        ("token of 8 KB", refused, "Bearer " + "x" * 8000, 2),
    ]
    sent = [(Request(kind, status, "/api", {"Authorization": value}, None), n) for kind, status, value, n in values]
    other = Request("good token, another route", 200, "/api/other/thing", sent[0][0].headers, None)
    return [*sent, (other, 10), (Request("no token", 401, "/api", {}, None), 5)]


def logins(failed: int) -> list[tuple[Request, int]]:
    """Return every kind of login with its weight; failed is what a login gets that needs the table, unless 0."""
    bodies = [
        ("login", failed or 200, '{"user_id": "testuser", "password": "password123"}', 2),
        ("wrong password", failed or 401, '{"user_id": "testuser", "password": "wrong"}', 2),
        ("unknown user", failed or 401, '{"user_id": "nobody", "password": "password123"}', 2),
        ("over-long password", failed or 401, f'{{"user_id": "testuser", "password": "{"x" * 5000}"}}', 1),
        ("login that is not JSON", 400, "user_id=testuser", 3),
        ("login with a number", 400, '{"user_id": 7, "password": 7}', 3),
        ("login nested 20,000 deep", 400, "[" * 20_000, 2),
        ("login with half a character", 400, '{"user_id": "\\ud800", "password": "x"}', 2),
    ]
    return [(Request(kind, status, "/auth", {}, body), n) for kind, status, body, n in bodies]


def token(secret: str = SECRET, **changes: object) -> str:
    """Return a JWT as login issues it, with changed claims."""
    claims = {"user_id": "testuser", "sub": "testuser", "exp": 4_000_000_000} | changes
    return jwt.encode(claims, secret, algorithm="HS256")


def send(stack: Stack, batch: list[Request]) -> list[Outcome]:
    """Send requests, 20 at a time."""

    def outcome(request: Request) -> Outcome:
        start, method = time.monotonic(), "GET" if request.body is None else "POST"
        url = stack.api + request.path
        answer = requests.request(method, url, headers=request.headers, data=request.body, timeout=60)
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
        print(
            f"{path}: " + ", ".join(f"p{n} {took[(len(took) - 1) * n // 100] * 1000:.0f} ms" for n in (50, 95, 99, 100))
        )
    wrong = sum(count for (_, expected, status), count in kinds.items() if status != expected)
    print(json.dumps({"requests": len(outcomes), "wrong_decisions": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
