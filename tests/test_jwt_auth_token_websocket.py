"""WebSocket authorizer of $connect: where the token may be, and that it is judged as in jwt_auth_token.py."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.events import connect_event
from support.functions import API, CONNECT_ARN, PREVIOUS, SECRET, Function
from support.policies import decision
from support.tokens import make_jwt

GOOD = make_jwt(exp=4_000_000_000)
BAD = make_jwt("another secret, of enough bytes to sign", exp=4_000_000_000)


@pytest.fixture
def authorize(deploy: Callable[..., Function]) -> Function:
    return deploy("jwt_auth_token_websocket", JWT_SECRET=SECRET)


def test_valid_token_may_connect_and_nothing_else(authorize: Function) -> None:
    answer = authorize(connect_event({"Authorization": f"Bearer {GOOD}"}))
    assert answer["principalId"] == "testuser"
    assert answer["context"] == {"userId": "testuser", "scope": "", "authorized": True}
    assert decision(answer, CONNECT_ARN) == "Allow"
    assert decision(answer, f"{API}/prod/$default") == decision(answer, f"{API}/test/$connect") == "silent"


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        pytest.param({"Authorization": f"Bearer {GOOD}"}, None, id="header"),
        pytest.param({"authorization": f"bearer {GOOD}"}, None, id="header in lower case"),
        pytest.param({"AUTHORIZATION": GOOD}, None, id="header in upper case, bare token"),
        pytest.param(None, {"access_token": GOOD}, id="query string, headers null"),
        pytest.param({}, {"access_token": GOOD, "other": "1"}, id="query string among others"),
        pytest.param({"Host": "x"}, {"access_token": GOOD}, id="query string, other headers"),
        pytest.param({"Authorization": f"Bearer {GOOD}"}, {"access_token": BAD}, id="header before query string"),
        pytest.param({"Authorization": ""}, {"access_token": GOOD}, id="query string, header empty"),
    ],
)
def test_token_is_found(authorize: Function, headers: Any, query: Any) -> None:
    assert authorize(connect_event(headers, query))["principalId"] == "testuser"


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        pytest.param(None, None, id="nothing at all"),
        pytest.param({}, {}, id="nothing in either"),
        pytest.param({"Authorization": "Bearer"}, None, id="scheme alone"),
        pytest.param({"Authorization": None}, {"access_token": None}, id="nulls"),
        pytest.param({"Authorization": f"Bearer {BAD}"}, {"access_token": GOOD}, id="bad header, good query string"),
        pytest.param({"X-Authorization": GOOD}, {"token": GOOD}, id="other names"),
        pytest.param(None, {"ACCESS_TOKEN": GOOD}, id="parameter in upper case"),
        pytest.param(None, {"access_token": "x" * 1_000_000}, id="1 MB"),
        pytest.param({"Authorization": "\ud800"}, None, id="lone surrogate"),
        pytest.param({"Authorization": [GOOD]}, {"access_token": {"a": 1}}, id="no text"),
    ],
)
def test_anything_else_is_unauthorized(authorize: Function, headers: Any, query: Any) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(connect_event(headers, query))


def test_event_without_headers_and_query_string_is_unauthorized(authorize: Function) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize({"type": "REQUEST", "methodArn": CONNECT_ARN})


def test_tokens_are_judged_as_on_the_rest_api(deploy: Callable[..., Function]) -> None:
    secrets = {"JWT_SECRET": SECRET, "JWT_SECRET_PREVIOUS": PREVIOUS}
    authorize = deploy("jwt_auth_token_websocket", **secrets, JWT_ISSUER="me", JWT_AUDIENCE="api")
    good: dict[str, Any] = {"iss": "me", "aud": "api"}
    for token in (make_jwt(**good), make_jwt(PREVIOUS, **good)):
        assert decision(authorize(connect_event(query={"access_token": token})), CONNECT_ARN) == "Allow"
    for changes in ({"iss": "you"}, {"aud": "web"}, {"exp": ...}, {"exp": 1}, {"user_id": 7}, {"nbf": "1"}):
        for secret in secrets.values():
            with pytest.raises(Exception, match="^Unauthorized$"):
                authorize(connect_event(query={"access_token": make_jwt(secret, **good | changes)}))


def test_each_decision_is_one_line(authorize: Function, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    authorize(connect_event({"Authorization": GOOD}))
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(connect_event())
    assert caplog.messages == ["admitted: 'testuser'", "refused: DecodeError"]


TEXT = st.text(max_size=20) | st.sampled_from(["Bearer ", "a.b.c", "\ud800", BAD, "Bearer " + BAD])
NAMES = st.sampled_from(["Authorization", "authorization", "access_token", "Access_Token"]) | st.text(max_size=8)
MEMBERS = st.none() | st.dictionaries(NAMES, TEXT, max_size=4)


@given(headers=MEMBERS, query=MEMBERS)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_or_query_string_makes_anything_but_unauthorized(
    authorize: Function, headers: Any, query: Any
) -> None:
    with pytest.raises(Exception, match="^Unauthorized$"):
        authorize(connect_event(headers, query))
