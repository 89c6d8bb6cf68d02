"""WebSocket authorizer of $connect: where the token may be, and what it allows."""

import logging
from typing import Any

import pytest
from support.deploy import API, CONNECT_ARN, SECRET, Deploy, Function
from support.events import connect_event
from support.iam import decision
from support.tokens import make_jwt

GOOD = make_jwt(exp=4_000_000_000, scope="read admin")
BAD = make_jwt("another secret, of enough bytes to sign", exp=4_000_000_000)


@pytest.fixture
def authorize(deploy: Deploy) -> Function:
    return deploy("jwt_auth_token_websocket", JWT_SECRET=SECRET)


def test_valid_token_may_connect_and_nothing_else(authorize: Function) -> None:
    answer = authorize(connect_event({"Authorization": f"Bearer {GOOD}"}))
    assert answer["principalId"] == "testuser"
    assert answer["context"] == {"userId": "testuser", "scope": "read admin", "authorized": True}
    assert decision(answer, CONNECT_ARN) == "Allow"
    assert (
        decision(answer, f"{API}/prod/$default")
        == decision(answer, f"{API}/test/$connect")
        == "silent"
    )
    assert authorize(connect_event({"Authorization": make_jwt()}))["context"]["scope"] == ""


@pytest.mark.parametrize(
    ("headers", "query", "admitted"),
    [
        pytest.param({"Authorization": f"Bearer {GOOD}"}, None, True, id="header"),
        pytest.param({"authorization": f"bearer {GOOD}"}, None, True, id="header in lower case"),
        pytest.param({"AUTHORIZATION": GOOD}, None, True, id="header in upper case, bare token"),
        pytest.param(None, {"access_token": GOOD}, True, id="query string, headers null"),
        pytest.param(
            {"Host": "x"},
            {"access_token": GOOD, "other": "1"},
            True,
            id="query string among others",
        ),
        pytest.param(
            {"Authorization": ""}, {"access_token": GOOD}, True, id="query string, header empty"
        ),
        pytest.param(
            {"Authorization": f"Bearer {GOOD}"}, {"access_token": BAD}, True, id="header goes first"
        ),
        pytest.param(
            {"Authorization": f"Bearer {BAD}"},
            {"access_token": GOOD},
            False,
            id="bad header goes first",
        ),
        pytest.param({"X-Authorization": GOOD}, {"token": GOOD}, False, id="other names"),
        pytest.param(None, {"ACCESS_TOKEN": GOOD}, False, id="parameter in upper case"),
        pytest.param(None, None, False, id="nothing at all"),
        pytest.param({"Authorization": None}, {"access_token": None}, False, id="nulls"),
        pytest.param({"Authorization": [GOOD]}, {"access_token": {"a": 1}}, False, id="no text"),
    ],
)
def test_token_is_in_the_header_else_in_the_query_string(
    authorize: Function, headers: Any, query: Any, admitted: bool
) -> None:
    if admitted:
        assert authorize(connect_event(headers, query))["principalId"] == "testuser"
        return
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(connect_event(headers, query))


@pytest.mark.parametrize(
    "arn", [None, "", ..., f"{API}/prod/GET/$connect", f"{API}/prod/$disconnect", f"{API}/prod/"]
)
def test_anything_but_connect_stops_with_the_file_to_use(authorize: Function, arn: Any) -> None:
    event = connect_event({"Authorization": GOOD}) | {"methodArn": arn}
    with pytest.raises(RuntimeError, match=r"take jwt_auth_token\.py$"):
        authorize({name: value for name, value in event.items() if value is not ...})


def test_each_decision_is_one_line_once_the_answer_is_made(
    authorize: Function, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authorize(connect_event({"Authorization": GOOD}))
    for event in (connect_event(), connect_event(query={"access_token": BAD})):
        with pytest.raises(Exception, match="^Unauthorized$"):
            authorize(event)
    with pytest.raises(RuntimeError):
        authorize(connect_event({"Authorization": GOOD}) | {"methodArn": f"{API}/prod/GET/api"})
    assert caplog.messages == [
        "admitted: 'testuser'",
        "refused: DecodeError",
        "refused: InvalidSignatureError",
    ]
