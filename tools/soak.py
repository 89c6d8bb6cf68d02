"""Sends good and bad requests to the deployed kit, and counts the wrong decisions: `make soak`.

    python -m tools.soak [--requests 2400]

It deploys template.yaml to the emulator, with and without authorizer caching, and
template_http.yaml. Each stack gets a third of the requests: some while
everything works, some while there is no table, and some after the table is back. It prints the
statuses and how long the responses took.
Exit status: 0 without a wrong decision, 1 with one, 2 for an option that makes no sense.
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

STACKS = {  # the template, and for how many seconds API Gateway caches a policy
    "REST-caching-on": ("template.yaml", "300"),
    "REST-caching-off": ("template.yaml", "0"),
    "HTTP-API": ("template_http.yaml", "300"),
}
LIMITS = ["AuthRateLimit", "AuthBurstLimit", "CallRateLimit", "CallBurstLimit"]
PARAMETERS = {"JwtSecret": SECRET, **dict.fromkeys(LIMITS, "5000")}
USER = ("testuser", "password123")
SCHEMA = {
    "KeySchema": [{"AttributeName": "user_id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "user_id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}


class Request(NamedTuple):
    """A request, and the status that its response must have."""

    kind: str
    expected: int
    path: str
    authorization: str | None = None
    body: str | None = None


class Outcome(NamedTuple):
    """What came of a request."""

    request: Request
    status: int
    seconds: float


def main() -> int:
    """Run the soak and return its exit status."""
    parser = argparse.ArgumentParser(description="Sends good and bad requests to the kit.")
    parser.add_argument("--requests", type=int, default=2400, help="how many (%(default)s)")
    options = parser.parse_args()
    if options.requests < 1:
        parser.error("REQUESTS must be 1 or more.")
    outcomes = []
    with emulator() as endpoint:
        for name, (template, seconds) in STACKS.items():
            own = {"UserTableName": name, "ReauthorizeEvery": seconds}
            stack = deploy(endpoint, template, name, **own, **PARAMETERS)
            outcomes += soaked(stack, options.requests / len(STACKS))
    return report(outcomes)


def soaked(stack: Stack, total: float) -> list[Outcome]:
    """Send requests while everything works, while there is no table, and when it is back."""
    dynamodb = aws(stack.endpoint, "dynamodb")
    create_user(stack.endpoint, *USER, table=stack.name)
    outcomes = send(stack, mixed(stack, total * 0.4))
    dynamodb.delete_table(TableName=stack.name)
    outcomes += send(stack, mixed(stack, total * 0.2, table_gone=True))
    dynamodb.create_table(TableName=stack.name, **SCHEMA)
    create_user(stack.endpoint, *USER, table=stack.name)
    return outcomes + send(stack, mixed(stack, total * 0.4))


def mixed(stack: Stack, count: float, table_gone: bool = False) -> list[Request]:
    """Return requests of every kind, most of them calls, in an order that is always the same."""
    rejected = 401
    if not stack.websocket:
        rejected = 500  # so the emulator does for an HTTP API. AWS returns 401.
    each_call = calls(stack.name, rejected)
    if table_gone:
        each_login = logins(500, 500)
    else:
        each_login = logins(200, 401)
    every = [*each_call, *each_login, *each_call, *each_call]
    batch = list(islice(cycle(every), max(1, round(count))))
    random.Random(0).shuffle(batch)  # noqa: S311 - an order, no secret
    return batch


def calls(stack: str, rejected: int) -> list[Request]:
    """Return every kind of call, with the status for one that has an invalid token."""
    claims = {"iss": stack, "aud": stack}  # what the templates set by default
    good = make_jwt(**claims)
    header, payload, signature = good.split(".")
    another_user = make_jwt(user_id="another", **claims)
    another_secret = make_jwt("another-secret-of-32-bytes-or-more", **claims)
    changed = f"{header}.{payload[:-2]}xx.{signature}"
    no_algorithm = jws({"alg": "none"}, b'{"user_id": "a", "exp": 9e9}', lambda signed: b"")
    tokens = {
        "expired token": make_jwt(exp=1, **claims),
        "token of another secret": another_secret,
        "token with its payload changed": changed,
        "token without a signature": f"{header}.{payload}.",
        "alg none": no_algorithm,
        "token of 8 KB": "x" * 8000,
    }
    requests = [
        Request("good token", 200, "/api", f"Bearer {good}"),
        Request("good token, another route", 200, "/api/other/thing", f"Bearer {good}"),
        Request("good token, scheme in lower case", 200, "/api", f"bearer {another_user}"),
        Request("no JWT", rejected, "/api", "Basic dGVzdHVzZXI6cGFzc3dvcmQxMjM="),
        Request("no token", 401, "/api"),
    ]
    for kind, token in tokens.items():
        requests.append(Request(kind, rejected, "/api", f"Bearer {token}"))
    return requests


def logins(good: int, wrong: int) -> list[Request]:
    """Return every kind of login, with the statuses for a right and for a wrong password."""
    long = "x" * 5000
    bodies = [
        ("login", good, '{"user_id": "testuser", "password": "password123"}'),
        ("wrong password", wrong, '{"user_id": "testuser", "password": "wrong"}'),
        ("unknown user", wrong, '{"user_id": "nobody", "password": "password123"}'),
        ("long password", wrong, f'{{"user_id": "testuser", "password": "{long}"}}'),
        ("login that is not JSON", 400, "user_id=testuser"),
        ("login with numbers", 400, '{"user_id": 7, "password": 7}'),
        ("login nested 20,000 deep", 400, "[" * 20_000),
        ("login with half a character", 400, '{"user_id": "\\ud800", "password": "x"}'),
    ]
    return [Request(kind, status, "/auth", body=body) for kind, status, body in bodies]


def send(stack: Stack, batch: list[Request]) -> list[Outcome]:
    """Send requests, 20 at a time."""
    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(lambda request: outcome(stack, request), batch))


def outcome(stack: Stack, request: Request) -> Outcome:
    """Send a request, and return what came of it."""
    start = time.monotonic()
    if request.body is None:
        method = "GET"
    else:
        method = "POST"
    response = requests.request(
        method,
        stack.api + request.path,
        headers={"Authorization": request.authorization},  # None isn't sent
        data=request.body,
        timeout=60,
    )
    return Outcome(request, response.status_code, time.monotonic() - start)


def report(outcomes: list[Outcome]) -> int:
    """Print what happened, and return 1 if a decision was wrong."""
    wrong = 0
    kinds = Counter((each.request.kind, each.request.expected, each.status) for each in outcomes)
    for (kind, expected, status), count in sorted(kinds.items()):
        remark = ""
        if status != expected:
            remark = f"  WRONG, expected {expected}"
            wrong += count
        print(f"{count:6} {status}  {kind}{remark}")
    for path in ("/auth", "/api"):
        print_times(path, outcomes)
    print(json.dumps({"requests": len(outcomes), "wrong_decisions": wrong}))
    return min(wrong, 1)


def print_times(path: str, outcomes: list[Outcome]) -> None:
    """Print percentiles of how long the responses of a path took."""
    took = sorted(each.seconds for each in outcomes if each.request.path.startswith(path))
    percentiles = []
    for percent in (50, 95, 99, 100):
        if took:
            milliseconds = took[(len(took) - 1) * percent // 100] * 1000
            percentiles.append(f"p{percent} {milliseconds:.0f} ms")
    print(f"{path}: {', '.join(percentiles)}")


if __name__ == "__main__":
    sys.exit(main())
