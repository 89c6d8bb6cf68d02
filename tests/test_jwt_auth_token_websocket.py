"""JWT authorizer for WebSocket APIs: each sentence of its docstring.

Its settings and its log are tested in test_jwt_auth_token.py too, attacks in test_attacks.py, and
revocation in test_revoking_tokens.py.
"""

import logging
import time
from typing import Any

import pytest
from support.deploy import API, CONNECT_ARN, PREVIOUS, SECRET, Deploy, Function, outcome
from support.events import connect_event
from support.iam import decision
from support.tokens import make_jwt

GOOD = make_jwt(exp=4_000_000_000.5, scope="read admin")  # RFC 7519 §2 allows fractions
BAD = make_jwt("another-secret-of-32-bytes-or-more!", exp=4_000_000_000)
QUERY = {"access_token": GOOD}


@pytest.fixture
def authorize(deploy: Deploy) -> Function:
    return deploy("jwt_auth_token_websocket", JWT_SECRET=SECRET)


def accepts(authorize: Function, headers: Any, query: Any = None) -> bool:
    return outcome(authorize, connect_event(headers, query)) is not None


def protocols(*offered: str) -> dict[str, str]:
    return {"Sec-WebSocket-Protocol": ", ".join(offered)}


def test_valid_token_may_connect_and_nothing_else(authorize: Function) -> None:
    response = authorize(connect_event({"Authorization": f"Bearer {GOOD}"}))
    assert response["principalId"] == "testuser"
    assert decision(response, CONNECT_ARN) == "Allow"
    assert decision(response, f"{API}/prod/$default") == "silent"
    assert decision(response, f"{API}/test/$connect") == "silent"


def test_context_has_user_scope_authorized_and_expiry(authorize: Function) -> None:
    response = authorize(connect_event({"Authorization": GOOD}))
    assert response["context"] == {
        "userId": "testuser",
        "scope": "read admin",
        "authorized": True,
        "exp": 4_000_000_000,
    }
    assert authorize(connect_event({"Authorization": make_jwt()}))["context"]["scope"] == ""


def test_expired_token_is_rejected(authorize: Function) -> None:
    assert not accepts(authorize, {"Authorization": make_jwt(exp=int(time.time()) - 60)})


def test_previous_secret_is_accepted_too(deploy: Deploy) -> None:
    settings = {"JWT_SECRET": SECRET, "JWT_SECRET_PREVIOUS": PREVIOUS}
    authorize = deploy("jwt_auth_token_websocket", **settings)
    assert accepts(authorize, {"Authorization": make_jwt(PREVIOUS)})
    assert not accepts(authorize, {"Authorization": BAD})


def test_issuer_and_audience_are_required_if_set(deploy: Deploy) -> None:
    settings = {"JWT_SECRET": SECRET, "JWT_ISSUER": "login", "JWT_AUDIENCE": "api"}
    authorize = deploy("jwt_auth_token_websocket", **settings)
    assert accepts(authorize, {"Authorization": make_jwt(iss="login", aud="api")})
    assert not accepts(authorize, {"Authorization": make_jwt(iss="login")})
    assert not accepts(authorize, {"Authorization": make_jwt(aud="api")})


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        pytest.param({"Authorization": f"Bearer {GOOD}"}, None, id="header"),
        pytest.param({"authorization": f"bearer {GOOD}"}, None, id="header in lower case"),
        pytest.param({"AUTHORIZATION": GOOD}, None, id="header without a scheme"),
        pytest.param(protocols("access_token", GOOD), None, id="subprotocol"),
        pytest.param(protocols("chat", "access_token", GOOD), None, id="last of the subprotocols"),
        pytest.param(protocols("access_token", GOOD, "chat"), None, id="first subprotocol"),
        pytest.param({"sec-websocket-protocol": f"access_token,{GOOD}"}, None, id="no space"),
        pytest.param(None, QUERY, id="query string"),
        pytest.param({"Host": "x"}, QUERY | {"other": "1"}, id="query string among others"),
        pytest.param({"Authorization": ""}, QUERY, id="query string, header empty"),
        pytest.param(protocols("chat"), QUERY, id="query string, another subprotocol"),
    ],
)
def test_token_may_be_in_header_subprotocol_or_query_string(
    authorize: Function, headers: Any, query: Any
) -> None:
    assert accepts(authorize, headers, query)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param({"X-Authorization": GOOD}, {"token": GOOD}, id="other names"),
        pytest.param(None, {"ACCESS_TOKEN": GOOD}, id="query string in upper case"),
        pytest.param(protocols(GOOD), None, id="subprotocol without its name"),
        pytest.param(protocols(GOOD, "access_token"), None, id="subprotocols the wrong way round"),
        pytest.param(protocols("access_token", "chat", GOOD), None, id="subprotocol between them"),
        pytest.param({"Authorization": None}, {"access_token": None}, id="nulls"),
        pytest.param({"Authorization": [GOOD]}, {"access_token": {"a": 1}}, id="no strings"),
    ],
)
def test_token_elsewhere_is_rejected(authorize: Function, headers: Any, query: Any) -> None:
    assert not accepts(authorize, headers, query)


@pytest.mark.parametrize("bad", [BAD, "junk", f"Basic {GOOD}"])
def test_bad_token_is_not_replaced_by_a_later_one(authorize: Function, bad: str) -> None:
    good_protocols = protocols("access_token", GOOD)
    assert not accepts(authorize, {"Authorization": bad} | good_protocols, QUERY)
    assert not accepts(authorize, {"Authorization": bad}, QUERY)
    assert not accepts(authorize, protocols("access_token", bad), QUERY)


def test_missing_token_in_the_subprotocol_is_not_replaced(authorize: Function) -> None:
    assert not accepts(authorize, protocols("access_token"), QUERY)


def test_good_token_is_not_spoiled_by_a_later_one(authorize: Function) -> None:
    bad_query = {"access_token": BAD}
    bad_protocols = protocols("access_token", BAD)
    assert accepts(authorize, {"Authorization": GOOD} | bad_protocols, bad_query)
    assert accepts(authorize, protocols("access_token", GOOD), bad_query)


@pytest.mark.parametrize(
    "arn", ["", f"{API}/prod/GET/$connect", f"{API}/prod/$disconnect", f"{API}/prod/", API]
)
def test_other_routes_and_apis_stop_with_the_file_to_use(authorize: Function, arn: str) -> None:
    event = connect_event({"Authorization": GOOD}) | {"methodArn": arn}
    with pytest.raises(
        RuntimeError, match=r"only works for the \$connect .* jwt_auth_token\.py\.$"
    ):
        authorize(event)


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        ({"Authorization": GOOD}, "admitted: 'testuser'"),
        (None, "refused: no token"),
        (protocols("access_token"), "refused: no token"),
        ({"Authorization": "Basic YTpi"}, "refused: not a JWT"),
        ({"Authorization": BAD}, "refused: InvalidSignatureError"),
        ({"Authorization": make_jwt(exp=...)}, "refused: no exp claim"),
        ({"Authorization": make_jwt(user_id="")}, "refused: invalid user_id claim"),
        ({"Authorization": make_jwt(scope=7)}, "refused: invalid scope claim"),
    ],
)
def test_each_decision_is_one_log_line(
    authorize: Function, caplog: pytest.LogCaptureFixture, headers: Any, line: str
) -> None:
    outcome(authorize, connect_event(headers))
    assert caplog.record_tuples == [("jwt_auth_token_websocket", logging.INFO, line)]
