"""The protected endpoint: it returns the time and the caller, behind every kind of authorizer."""

import json
import logging
import time
from typing import Any

import pytest
from support.deploy import Deploy, Function
from support.events import documented


def behind(authorizer: Any) -> dict[str, Any]:
    return {"requestContext": {"authorizer": authorizer}}


def connect(headers: Any) -> dict[str, Any]:
    return {"headers": headers, "requestContext": {"routeKey": "$connect"}}


@pytest.fixture
def endpoint(deploy: Deploy) -> Function:
    return deploy("restricted_access_lambda")


def caller_of(response: dict[str, Any]) -> Any:
    return json.loads(response["body"])["caller"]


def test_response_has_the_time_and_the_caller(endpoint: Function) -> None:
    before = int(time.time())
    response = endpoint(behind({"principalId": "testuser"}))
    content = json.loads(response["body"])
    assert response["statusCode"] == 200
    assert content == {"timestamp": content["timestamp"], "caller": "testuser"}
    assert before <= content["timestamp"] <= time.time()


def test_no_cache_stores_the_response_and_every_origin_may_read_it(endpoint: Function) -> None:
    assert endpoint({})["headers"] == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": "*",
    }


def test_pages_of_the_configured_origin_may_read_the_response(deploy: Deploy) -> None:
    endpoint = deploy("restricted_access_lambda", CORS_ALLOW_ORIGIN="https://app.example.com")
    origin = endpoint({})["headers"]["Access-Control-Allow-Origin"]
    assert origin == "https://app.example.com"


@pytest.mark.parametrize(
    ("event", "caller"),
    [
        pytest.param(documented("proxy_rest_api"), "testuser", id="REST API"),
        pytest.param(documented("proxy_http_api_1_0"), "testuser", id="HTTP API, payload 1.0"),
        pytest.param(documented("proxy_http_api_2_0"), "testuser", id="HTTP API, payload 2.0"),
        pytest.param(documented("proxy_websocket_message"), "testuser", id="WebSocket API"),
        pytest.param(behind({"lambda": {"sub": "Zoë\n"}}), "Zoë\n", id="Google, payload 2.0"),
        pytest.param(
            behind({"jwt": {"claims": {"sub": "anna"}, "scopes": None}}),
            "anna",
            id="JWT authorizer, HTTP API",
        ),
        pytest.param(
            behind({"claims": {"sub": "anna"}, "scopes": None}),
            "anna",
            id="JWT or Cognito authorizer, REST API",
        ),
        pytest.param(documented("console_test"), None, id="test in the console"),
        pytest.param(behind(None), None, id="no authorizer"),
        pytest.param(behind({"claims": None}), None, id="no claims"),
        pytest.param(behind({"lambda": None}), None, id="no context"),
        pytest.param(behind({"iam": {"userId": "AIDA"}}), None, id="IAM"),
    ],
)
def test_caller_is_found_behind_every_authorizer(
    endpoint: Function, event: Any, caller: str | None
) -> None:
    assert caller_of(endpoint(event)) == caller


@pytest.mark.parametrize(
    ("headers", "echoed"),
    [
        ({"Sec-WebSocket-Protocol": "access_token, eyJh.eyJh.c2ln"}, "access_token"),
        ({"sec-websocket-protocol": "chat,access_token"}, "access_token"),
        ({"Sec-WebSocket-Protocol": "chat"}, None),
        ({"Host": "api.example.com"}, None),
        (None, None),
    ],
)
def test_offered_subprotocol_is_confirmed_on_connect(
    endpoint: Function, headers: Any, echoed: str | None
) -> None:
    assert endpoint(connect(headers))["headers"].get("Sec-WebSocket-Protocol") == echoed


def test_subprotocol_is_confirmed_only_on_connect(endpoint: Function) -> None:
    event = {"headers": {"Sec-WebSocket-Protocol": "access_token, x"}}
    assert "Sec-WebSocket-Protocol" not in endpoint(event)["headers"]


def test_each_request_is_one_line_in_the_log(
    endpoint: Function, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint(behind({"principalId": "Zoë\n[INFO]"}))
    line = r"request served for 'Zoë\n[INFO]'"
    assert caplog.record_tuples == [("restricted_access_lambda", logging.INFO, line)]


def test_log_level_of_the_function_is_respected(
    deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("restricted_access_lambda").setLevel(logging.NOTSET)
    deploy("restricted_access_lambda", AWS_LAMBDA_LOG_LEVEL="WARN")({})
    assert caplog.record_tuples == []


@pytest.mark.parametrize(
    "origin", [" ", "app.example.com", "https://a.example/path", "https://a, https://b", "* "]
)
def test_bad_origin_stops_the_function(deploy: Deploy, origin: str) -> None:
    with pytest.raises(ValueError, match="^CORS_ALLOW_ORIGIN "):
        deploy("restricted_access_lambda", CORS_ALLOW_ORIGIN=origin)
