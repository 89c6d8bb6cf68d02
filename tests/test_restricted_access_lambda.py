"""The protected endpoint: it says the time, and whom the authorizer let in, behind every kind of API."""

import json
import logging
import time
from typing import Any

import pytest
from support.deploy import Deploy
from support.events import documented

CALLERS: dict[str, tuple[Any, str | None]] = {
    "REST API": (documented("proxy_rest_api"), "testuser"),
    "HTTP API, payload 1.0": (documented("proxy_http_api_1_0"), "testuser"),
    "HTTP API, payload 2.0": (documented("proxy_http_api_2_0"), "testuser"),
    "payload 2.0, Google": (
        {"requestContext": {"authorizer": {"lambda": {"sub": "Zoë\n"}}}},
        "Zoë\n",
    ),
    "WebSocket API": (documented("proxy_websocket_message"), "testuser"),
    "function URL": (documented("function_url"), None),
    "console test": (documented("console_test"), None),
    "nulls": ({"requestContext": {"authorizer": None}}, None),
}


@pytest.mark.parametrize(("event", "caller"), CALLERS.values(), ids=CALLERS)
def test_answers_the_time_and_the_caller(
    deploy: Deploy, caplog: pytest.LogCaptureFixture, event: Any, caller: str | None
) -> None:
    before = int(time.time())
    answer = deploy("restricted_access_lambda", CORS_ALLOW_ORIGIN="")(event)
    body = json.loads(answer["body"])
    assert (answer["statusCode"], body) == (200, {"timestamp": body["timestamp"], "caller": caller})
    assert before <= body["timestamp"] <= time.time()
    assert answer["headers"]["Access-Control-Allow-Origin"] == "*"
    assert caplog.record_tuples == [("root", logging.INFO, f"answered: {caller!r}")]


@pytest.mark.parametrize(
    "origin", [" ", "app.example.com", "https://a.example/path", "https://a, https://b", "* "]
)
def test_bad_origin_stops_the_function(deploy: Deploy, origin: str) -> None:
    with pytest.raises(ValueError, match="^CORS_ALLOW_ORIGIN must "):
        deploy("restricted_access_lambda", CORS_ALLOW_ORIGIN=origin)
