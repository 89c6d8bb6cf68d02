"""Revoking tokens: what a table of users changes for the authorizers, and DynamoDB's failures."""

import contextlib
import itertools
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import bcrypt
import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from support.deploy import REQUIRED, SECRET, Deploy, outcome
from support.events import proxy_event, token_event
from support.fake_dynamodb import AWS, HANG, HANG_UP, FakeTable, Reply, error, fake_dynamodb
from support.files import ROOT
from support.tokens import AUTHORIZERS, SYMMETRIC, Target

import create_password

TIMEOUT = 10  # seconds, of the function
Log = pytest.LogCaptureFixture
Aim = Callable[..., Target]


@pytest.fixture
def table() -> Iterator[FakeTable]:
    with fake_dynamodb() as table:
        yield table


@pytest.fixture
def target(request: pytest.FixtureRequest, aim: Aim, table: FakeTable) -> Target:
    """Deploy an authorizer with a table in which the user of its valid token is."""
    target = aim(request.param, USER_CREDENTIALS_TABLE_NAME="users", **table.environment)
    table.items[target.claims["sub"]] = {}
    return target


each_jwt_authorizer = pytest.mark.parametrize("target", SYMMETRIC, indirect=True)
each_authorizer = pytest.mark.parametrize("target", AUTHORIZERS, indirect=True)


def accepts(target: Target, **claims: Any) -> bool:
    return outcome(target.function, target.event(target.token(payload=claims))) is not None


# A token is accepted only with the current tokenVersion of a user in the table.


@each_jwt_authorizer
def test_token_with_the_current_version_is_accepted(target: Target, table: FakeTable) -> None:
    table.items["testuser"] = {"tokenVersion": {"S": "b2"}}
    assert accepts(target, token_version="b2")
    table.items["testuser"] = {}
    assert accepts(target, token_version=...), "neither has one"


@each_jwt_authorizer
def test_token_of_a_deleted_user_is_rejected(target: Target, table: FakeTable, caplog: Log) -> None:
    del table.items["testuser"]
    assert not accepts(target)
    assert caplog.messages == ["refused: user not in the table: 'testuser'"]


@each_jwt_authorizer
@pytest.mark.parametrize(
    ("attribute", "claim"),
    [
        pytest.param({"S": "b2"}, "a1", id="older version"),
        pytest.param({"S": "b2"}, ..., id="attribute only"),
        pytest.param(None, "a1", id="claim only"),
        pytest.param({"S": "b2"}, "", id="empty claim"),
        pytest.param({"S": "b2"}, None, id="null"),
        pytest.param(None, "", id="empty claim only"),
        pytest.param(None, None, id="null only"),
        pytest.param({"S": "b2"}, "B2", id="other case"),
        pytest.param({"N": "1"}, "1", id="numeric attribute"),
        pytest.param({"N": "1"}, 1, id="numeric attribute and claim"),
        pytest.param({"NULL": True}, ..., id="null attribute"),
    ],
)
def test_token_with_another_version_is_rejected(
    target: Target, table: FakeTable, caplog: Log, attribute: Any, claim: Any
) -> None:
    table.items["testuser"] = {"tokenVersion": attribute} if attribute else {}
    assert not accepts(target, token_version=claim)
    assert caplog.messages == ["refused: token revoked: 'testuser'"]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_without_a_table_versions_are_not_compared(aim: Aim, name: str) -> None:
    assert accepts(aim(name), token_version="a1")


@pytest.mark.parametrize("name", AUTHORIZERS)
def test_without_a_table_boto3_is_not_imported(name: str) -> None:
    code = f"import sys, {name}; sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=REQUIRED, check=True)


@each_jwt_authorizer
def test_lookup_is_one_consistent_read_of_one_attribute(target: Target, table: FakeTable) -> None:
    assert accepts(target)
    request = {
        "TableName": "users",
        "Key": {"user_id": {"S": "testuser"}},
        "ProjectionExpression": "#tokenVersion",
        "ExpressionAttributeNames": {"#tokenVersion": "tokenVersion"},
        "ConsistentRead": True,
    }
    assert table.requests == [("GetItem", request)]


@each_jwt_authorizer
def test_invalid_token_causes_no_lookup(target: Target, table: FakeTable) -> None:
    assert not accepts(target, exp=1)
    assert not accepts(target, user_id=...)
    assert outcome(target.function, target.event("junk")) is None
    assert table.requests == []


# With the real login and create_password.py.


@pytest.fixture
def log_in(deploy: Deploy, table: FakeTable, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Log in as anna, who is in the table, and return the token: log_in(password)."""
    gensalt = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda rounds: gensalt(4))
    stored = create_password.hash_password("old-password")
    table.items["anna"] = {"passwordHash": {"S": stored}, "tokenVersion": {"S": "a1"}}
    settings = table.environment | {"USER_CREDENTIALS_TABLE_NAME": "users"}
    login = deploy("jwt_create_token", JWT_SECRET=SECRET, **settings)

    def log_in(password: str) -> str:
        body = json.dumps({"user_id": "anna", "password": password})
        response = login(proxy_event(body))
        assert response["statusCode"] == 200
        return str(json.loads(response["body"])["token"])

    return log_in


@pytest.fixture
def authorize(deploy: Deploy, table: FakeTable, log_in: Any) -> Callable[[str], bool]:
    """Tell whether jwt_auth_token.py accepts a token: authorize(token)."""
    settings = table.environment | {"USER_CREDENTIALS_TABLE_NAME": "users"}
    function = deploy("jwt_auth_token", JWT_SECRET=SECRET, **settings)
    return lambda token: outcome(function, token_event(token)) is not None


def change(*options: str) -> None:
    assert create_password.main(["--user-id", "anna", "--table", "users", *options]) == 0


@pytest.mark.parametrize("option", ["--generate", "--revoke-tokens", "--no-password"])
def test_token_issued_before_the_change_is_rejected(
    authorize: Callable[[str], bool], log_in: Any, option: str
) -> None:
    token = log_in("old-password")
    assert authorize(token)
    change(option)
    assert not authorize(token)


def test_token_issued_after_the_change_is_accepted(
    authorize: Callable[[str], bool], log_in: Any
) -> None:
    change("--revoke-tokens")
    assert authorize(log_in("old-password"))


def test_changing_the_scope_revokes_nothing(authorize: Callable[[str], bool], log_in: Any) -> None:
    token = log_in("old-password")
    change("--keep-password", "--scope", "read")
    assert authorize(token)


def test_login_in_flight_during_the_change_gets_a_revoked_token(
    authorize: Callable[[str], bool], log_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Login has read the old hash and version, when the operator sets a new password."""
    checkpw = bcrypt.checkpw

    def change_and_check(password: bytes, stored: bytes) -> bool:
        change("--generate")
        return checkpw(password, stored)

    monkeypatch.setattr(bcrypt, "checkpw", change_and_check)
    assert not authorize(log_in("old-password"))


# The log.


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("name", AUTHORIZERS)
def test_botocore_logs_nothing(
    aim: Aim, table: FakeTable, caplog: Log, name: str, level: str
) -> None:
    """At INFO, it logs where credentials were found. At DEBUG, it logs what it reads."""
    caplog.set_level(level)
    settings = table.environment | {"AWS_LAMBDA_LOG_LEVEL": level}
    target = aim(name, USER_CREDENTIALS_TABLE_NAME="users", **settings)
    table.items[target.claims["sub"]] = {}
    assert accepts(target)
    assert [record.name for record in caplog.records if "boto" in record.name] == []


# DynamoDB fails: nobody gets access.

FAILURES: dict[str, tuple[Reply, str]] = {
    "connection closed": (HANG_UP, "ConnectionClosedError"),
    "throttled": (
        error("ProvisionedThroughputExceededException"),
        "ProvisionedThroughputExceededException",
    ),
    "no permission": (error("AccessDeniedException"), "AccessDeniedException"),
    "no such table": (error("ResourceNotFoundException"), "ResourceNotFoundException"),
    "internal error": ((500, b"{}"), "500"),
}


@each_authorizer
@pytest.mark.parametrize(("reply", "reason"), FAILURES.values(), ids=FAILURES)
def test_failing_table_is_an_error_until_it_recovers(
    target: Target, table: FakeTable, caplog: Log, reply: Reply, reason: str
) -> None:
    table.replies = itertools.repeat(reply)
    with pytest.raises(RuntimeError, match=r"^The DynamoDB lookup failed\.$") as caught:
        target.call(target.token())
    assert caught.value.__suppress_context__
    name = target.function.module.__name__
    line = f"DynamoDB lookup failed: {reason}"
    assert caplog.record_tuples == [(name, logging.ERROR, line)]
    assert len(table.requests) <= 2
    table.replies = iter(())
    assert accepts(target)


@each_authorizer
def test_one_failure_is_followed_by_a_second_attempt(target: Target, table: FakeTable) -> None:
    table.replies = iter([HANG_UP])
    assert accepts(target)


@each_authorizer
def test_response_that_is_not_dynamodbs_admits_nobody(target: Target, table: FakeTable) -> None:
    for body in (b"<html>", b"[]", b"null", b"1", b'{"Item": [1]}'):
        table.replies = iter([(200, body)])
        with contextlib.suppress(Exception):
            pytest.fail(f"admitted with {target.call(target.token())}")


# The client's settings are the same in all of them, as test_tree.py makes sure.
@pytest.mark.parametrize("target", ["jwt_auth_token"], indirect=True)
def test_hanging_table_is_an_error_before_the_timeout(target: Target, table: FakeTable) -> None:
    table.replies = itertools.repeat(HANG)
    started = time.monotonic()
    with pytest.raises(RuntimeError):
        target.call(target.token())
    assert time.monotonic() - started < TIMEOUT - 2


# Stand-ins for DynamoDB that people use in their own tests.


@pytest.fixture
def stubbed(request: pytest.FixtureRequest, aim: Aim) -> Target:
    return aim(request.param, USER_CREDENTIALS_TABLE_NAME="users", **AWS)


each_stubbed = pytest.mark.parametrize("stubbed", AUTHORIZERS, indirect=True)


@each_stubbed
def test_botocore_stubber_works(stubbed: Target) -> None:
    with Stubber(stubbed.function.module.dynamodb) as stubber:
        stubber.add_response("get_item", {"Item": {}})
        stubber.add_response("get_item", {})
        stubber.add_client_error("get_item", "AccessDeniedException")
        assert_accepts_then_rejects_then_fails(stubbed)


@each_stubbed
def test_mock_works(stubbed: Target) -> None:
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetItem")
    get_item = Mock(side_effect=[{"Item": {}}, {}, denied])
    vars(stubbed.function.module)["dynamodb"] = Mock(get_item=get_item)
    assert_accepts_then_rejects_then_fails(stubbed)


def assert_accepts_then_rejects_then_fails(target: Target) -> None:
    assert accepts(target)
    assert not accepts(target)
    with pytest.raises(RuntimeError):
        accepts(target)


@pytest.mark.parametrize("name", AUTHORIZERS)
def test_moto_works(aim: Aim, name: str) -> None:
    moto = pytest.importorskip("moto", reason="moto is not installed")
    with moto.mock_aws():
        target = aim(name, USER_CREDENTIALS_TABLE_NAME="users", **AWS)
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(
            TableName="users",
            KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        assert not accepts(target)
        dynamodb.put_item(TableName="users", Item={"user_id": {"S": target.claims["sub"]}})
        assert accepts(target)
