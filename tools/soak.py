"""Sends a bounded mix of good and bad requests through the deployed kit, and counts the wrong decisions: `make soak`.

    python tools/soak.py [--requests 2400]

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
from typing import NamedTuple

import requests
from support.deploy import SECRET
from support.tokens import jws, make_jwt

from demo.emulator import Stack, aws, create_user, deploy, emulator

STACKS = {  # template, and for how many seconds an authorizer's answer is remembered
    "REST-caching-on": ("template.yaml", "300"),
    "REST-caching-off": ("template.yaml", "0"),
    "HTTP-API": ("template_http.yaml", "300"),
}
LIMITS = ["AuthRateLimit", "AuthBurstLimit", "CallRateLimit", "CallBurstLimit"]
PARAMETERS = {"JwtSecret": SECRET} | dict.fromkeys(LIMITS, "5000")
USER = ("testuser", "password123")
SCHEMA = {
    "KeySchema": [{"AttributeName": "user_id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "user_id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}


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
        stacks = [
            deploy(
                endpoint, template, name, UserTableName=name, ReauthorizeEvery=seconds, **PARAMETERS
            )
            for name, (template, seconds) in STACKS.items()
        ]
        share = options.requests / len(stacks)
        return report([outcome for stack in stacks for outcome in soaked(stack, share)])


def soaked(stack: Stack, total: float) -> list[Outcome]:
    """Send requests while all is well, while the table is gone, and once it is back; between, nothing is under way."""
    dynamodb = aws(stack.endpoint, "dynamodb")
    create_user(stack.endpoint, *USER, table=stack.name)
    outcomes = send(stack, mixed(stack, total * 0.4))
    dynamodb.delete_table(TableName=stack.name)
    outcomes += send(stack, mixed(stack, total * 0.2, table_gone=True))
    dynamodb.create_table(TableName=stack.name, **SCHEMA)
    create_user(stack.endpoint, *USER, table=stack.name)
    return outcomes + send(stack, mixed(stack, total * 0.4))


def mixed(stack: Stack, count: float, table_gone: bool = False) -> list[Request]:
    """Return requests of every kind in an order that is the same in every run, most of them calls."""
    # Where an HTTP API would refuse a token with 401, the emulator answers 500.
    each_call = calls(401 if stack.websocket else 500)
    every = each_call + logins(500 if table_gone else 0) + each_call * 2
    batch = list(islice(cycle(every), max(1, round(count))))
    random.Random(0).shuffle(batch)  # noqa: S311 - an order, no secret
    return batch


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
        Request(
            "token of another secret",
            refused,
            "/api",
            f"Bearer {make_jwt('another-secret-of-32-bytes-or-more')}",
        ),
        Request(
            "token with its payload changed",
            refused,
            "/api",
            f"{header}.{payload[:-2]}xx.{signature}",
        ),
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
        (
            "over-long password",
            failed or 401,
            f'{{"user_id": "testuser", "password": "{"x" * 5000}"}}',
        ),
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
        answer = requests.request(
            method, stack.api + request.path, headers=headers, data=request.body, timeout=60
        )
        return request, answer.status_code, time.monotonic() - start

    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(outcome, batch))


def report(outcomes: list[Outcome]) -> int:
    """Print what happened, and return 1 if a decision was wrong."""
    kinds = Counter((request.kind, request.expected, status) for request, status, _ in outcomes)
    for (kind, expected, status), count in sorted(kinds.items()):
        print(
            f"{count:6} {status}  {kind}"
            + ("" if status == expected else f"  WRONG: should be {expected}")
        )
    for path in ("/auth", "/api"):
        took = sorted(
            seconds for request, _, seconds in outcomes if request.path.startswith(path)
        ) or [0.0]
        at = [f"p{n} {took[(len(took) - 1) * n // 100] * 1000:.0f} ms" for n in (50, 95, 99, 100)]
        print(f"{path}: {', '.join(at)}")
    wrong = sum(count for (_, expected, status), count in kinds.items() if status != expected)
    print(json.dumps({"requests": len(outcomes), "wrong_decisions": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
