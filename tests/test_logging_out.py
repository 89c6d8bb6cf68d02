"""Logging somebody out, in both HS256 authorizers: what a table of users that they can ask changes."""

import itertools
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.deploy import SECRET, Deploy, outcome
from support.fake_dynamodb import DRIP, HANG, HANG_UP, FakeTable, Reply, error, fake_dynamodb
from support.files import ROOT
from support.tokens import SYMMETRIC, Target, aimed_at

LOGOUT = 1_700_000_000  # Unix seconds
TIMEOUT = 10  # seconds that the manual gives the function


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        table.items["testuser"] = {
            "passwordHash": {"S": "x"},
            "tokensValidFrom": {"N": str(LOGOUT)},
        }
        yield table


@pytest.fixture(params=SYMMETRIC)
def target(request: pytest.FixtureRequest, deploy: Deploy, table: FakeTable) -> Iterator[Target]:
    settings = {"USER_CREDENTIALS_TABLE_NAME": "users", **table.environment}
    with aimed_at(request.param, deploy, **settings) as target:
        yield target


def admits(target: Target, token: str) -> bool:
    return outcome(target.function, target.event(token)) is not None


@pytest.mark.parametrize(
    ("issued", "valid_from", "admitted"),
    [
        pytest.param(LOGOUT, ..., True, id="never logged out"),
        pytest.param(LOGOUT, 0, True, id="valid from the beginning"),
        pytest.param(LOGOUT - 1, LOGOUT, False, id="a second before"),
        pytest.param(LOGOUT - 0.5, LOGOUT, False, id="half a second before"),
        pytest.param(LOGOUT, LOGOUT, True, id="the same second"),
        pytest.param(LOGOUT + 1, LOGOUT, True, id="a second after"),
        pytest.param(LOGOUT + 1, LOGOUT + 2, False, id="between two logouts"),
        pytest.param(LOGOUT, 10**38 - 1, False, id="DynamoDB's longest number"),
        pytest.param(..., LOGOUT, False, id="no iat"),
        pytest.param(..., ..., False, id="no iat, never logged out"),
    ],
)
def test_token_from_before_the_logout_is_refused(
    target: Target, table: FakeTable, issued: Any, valid_from: Any, admitted: bool
) -> None:
    table.items["testuser"] = (
        {} if valid_from is ... else {"tokensValidFrom": {"N": str(valid_from)}}
    )
    assert admits(target, target.token(payload={"iat": issued})) == admitted


def test_logout_takes_effect_at_the_next_call_and_a_later_login_is_good(
    target: Target, table: FakeTable
) -> None:
    now = int(time.time())
    old, new = (target.token(payload={"iat": now + seconds}) for seconds in (0, 2))
    assert admits(target, old)
    table.items["testuser"]["tokensValidFrom"] = {"N": str(now + 1)}
    assert [admits(target, token) for token in (old, new)] == [False, True]
    del table.items["testuser"]
    assert [admits(target, token) for token in (old, new)] == [False, False]


def test_call_costs_one_read_of_one_attribute(target: Target, table: FakeTable) -> None:
    assert admits(target, target.token())
    request = {"TableName": "users", "Key": {"user_id": {"S": "testuser"}}, "ConsistentRead": True}
    request |= {"ProjectionExpression": "tokensValidFrom", "ReturnConsumedCapacity": "TOTAL"}
    assert table.requests == [("GetItem", request)]


def test_bad_token_causes_no_read(target: Target, table: FakeTable) -> None:
    for changes in ({"exp": 1}, {"user_id": ...}, {"user_id": "a" * 257}, {"scope": None}):
        assert not admits(target, target.token(payload=changes))
    assert not admits(target, target.token(sign=lambda _: bytes(32)))
    assert table.requests == []


# A table that fails.

WRONG_VALUES: list[Any] = [
    *({"N": number} for number in ("-1", "1.5", "NaN", "1e9", "", "1" * 39)),
    *(
        {kind: value}
        for kind, value in (("S", "1700000000"), ("S", "NaN"), ("BOOL", True), ("NULL", True))
    ),
    *(
        {kind: value}
        for kind, value in (("L", []), ("L", [{"N": "1"}]), ("M", {}), ("NS", ["1"]), ("B", "MQ=="))
    ),
]
CAPACITY = {"ConsumedCapacity": {"CapacityUnits": 1}}
FAILURES: dict[str, Reply] = {
    "hanging": HANG,
    "dripping": DRIP,
    "hanging up": HANG_UP,
    "throttling": error("ProvisionedThroughputExceededException"),
    "refusing": error("AccessDeniedException"),
    "without the table": error("ResourceNotFoundException"),
    "out of order": (500, b"{}"),
    "a web page": (200, b"<html>"),
    "nothing": (200, b""),
    "an empty object": (200, b"{}"),
    "a list": (200, b"[]"),
    "null": (200, b"null"),
    "a number": (200, b"1"),
    "an item that is a list": (200, json.dumps({"Item": [1], **CAPACITY}).encode()),
    "a value that is text": (
        200,
        json.dumps({"Item": {"tokensValidFrom": "1"}, **CAPACITY}).encode(),
    ),
} | {
    f"tokensValidFrom {value}": (
        200,
        json.dumps({"Item": {"tokensValidFrom": value}, **CAPACITY}).encode(),
    )
    for value in WRONG_VALUES
}


# Dripping takes 7 s, and test_tree.py holds that the function which ends it is the same in both.
@pytest.mark.parametrize(
    ("target", "failure"),
    [("jwt_auth_token", failure) for failure in FAILURES]
    + [("jwt_auth_token_websocket", failure) for failure in FAILURES if failure != "dripping"],
    indirect=["target"],
)
def test_table_that_fails_admits_nobody_within_the_timeout_and_recovers(
    target: Target, table: FakeTable, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    table.replies = itertools.repeat(FAILURES[failure])
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="^DynamoDB failed$") as caught:
        target.call(target.token())
    assert time.monotonic() - started < TIMEOUT - 2
    assert len(table.requests) <= 2
    assert caught.value.__suppress_context__
    (line,) = [record for record in caplog.records if record.name == "root"]
    assert line.levelno == logging.ERROR
    assert line.message.removeprefix("failed: DynamoDB: ").isalnum()
    table.replies = iter(())
    assert admits(target, target.token())


@pytest.mark.parametrize("script", SYMMETRIC)
def test_table_out_of_reach_admits_nobody(deploy: Deploy, table: FakeTable, script: str) -> None:
    settings = table.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with (
        aimed_at(script, deploy, USER_CREDENTIALS_TABLE_NAME="users", **settings) as target,
        pytest.raises(RuntimeError, match="^DynamoDB failed$"),
    ):
        target.call(target.token())


@pytest.mark.parametrize("script", SYMMETRIC)
def test_without_a_table_boto3_is_not_imported(script: str) -> None:
    code = f"import sys, {script}; sys.exit('boto3' in sys.modules or 'concurrent.futures.thread' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"JWT_SECRET": SECRET}
        ).returncode
        == 0
    )
